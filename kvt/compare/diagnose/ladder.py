"""Find the first place where two versions of a training part, and what causes it."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kvt.compare.diagnose.catalogue import ALIKE, CATALOGUE
from kvt.compare.diagnose.keras_side import KerasParts, KerasSide
from kvt.compare.diagnose.record import (
    SMALL,
    Place,
    Record,
    Setup,
    digest,
    distance,
    metrics,
    same,
)
from kvt.compare.diagnose.switches import Evidence
from kvt.compare.diagnose.words import Diagnosis, link
from kvt.compare.parts import Weights
from kvt.data import Array
from kvt.data.quietly import quiet
from kvt.training import loop
from kvt.training.means import Step

with quiet():
    import tensorflow as tf

Fit = Callable[..., Any]
UNFIT = TypeError, ValueError, AttributeError, RuntimeError, tf.errors.OpError


@dataclass(frozen=True)
class Port:
    """Your version: its steps, and the variables that hold the model's weights.

    The train step may also return "outputs", those of the model, and "gradients", a
    list in the order of the trainable weights: then they are compared, too.
    """

    train_step: Step
    test_step: Step
    variables: Sequence[Any]


@dataclass
class _Search:
    """The search for causes: what is found so far, and how many trainings are left."""

    side: KerasSide
    budget: int
    verbose: int
    parts: KerasParts = field(default_factory=KerasParts)
    found: list[str] = field(default_factory=list)
    ladder: tuple[tuple[str, str], ...] = ()  # the first comparison

    def run(self, theirs: Record) -> tuple[Place | None, list[str], str | None]:
        """Return where Keras and the port part, the causes' candidates, the proof."""
        mine = self._train("as compiled", self.parts, detailed=bool(theirs.details))
        first = place = mine.parts(theirs)
        setup = self.side.setup
        if place is not None and len(setup.split()[0]) % setup.batch_size == 0:
            # A port's steps may not know the size of full batches, as Keras's do.
            parts = self.parts.changed(declared=False)
            other = self._train("batches of any size", parts)
            if (there := other.parts(theirs)) is None or there > place:
                self.parts, mine, first, place = parts, other, there, there
        _check_finite(mine, theirs)
        names = [self.side.compiled.weights[at].path for at in self.side.listed]
        self.ladder = tuple(_rungs(mine, theirs, names))
        while place is not None:
            seen = Evidence(self.side, mine, theirs, place)
            equal, better, close = self._try(seen)
            if equal:
                self.found.append(equal[0])
                return first, equal, "exact"
            if better is None:
                self.found += close[:1]
                return first, close, "consistent" if close else None
            name, self.parts, mine, place = better
            self.found.append(name)
        return first, [], "exact" if self.found else None

    def _train(self, name: str, *given: Any, **options: Any) -> Record:
        if self.verbose:
            count = f"experiment {self.side.trainings + 1} of at most {self.budget}"
            print(f"\r{count}: {name:28}", end="", file=sys.stderr, flush=True)
        return self.side.train(*given, **options)

    def _try(self, seen: Evidence) -> Any:
        """Switch on one cause after another; return what each led to."""
        equal: list[str] = []
        close: list[str] = []
        better: Any = None
        base = self.parts
        for name in _suspects(seen):
            like = any({name, *equal} <= group for group in ALIKE)
            if name in self.found or (equal and not like):
                continue
            for change in CATALOGUE[name].switch(seen):
                if self.side.trainings >= self.budget:
                    return equal, better, close
                parts = base.changed(**change)
                try:
                    mine = self._train(name, parts, seen.theirs)
                except UNFIT:
                    break  # a switch that does not fit this model
                place = mine.parts(seen.theirs)
                if place is None:
                    equal.append(name)
                    if len(equal) == 1:
                        self.parts = parts
                    break
                if place > (better[3] if better else seen.place):
                    better = name, parts, mine, place
                elif _close(mine, place, seen):
                    close.append(name)
        return equal, better, close


def _suspects(seen: Evidence) -> list[str]:
    """Return the causes that can show where the two sides part, the likeliest first."""
    rungs = {k: it.rungs for k, it in CATALOGUE.items() if seen.place.name in it.rungs}

    def unlikely(name: str) -> tuple[bool, bool]:
        first = rungs[name].startswith(seen.place.name)
        return ("rounding" in rungs[name]) != seen.rounding, not first

    return sorted(rungs, key=unlikely)


def _close(mine: Record, place: Place, seen: Evidence) -> bool:
    """Whether a switch left only rounding where there was more than that."""
    same_step = place.step == seen.place.step and not seen.rounding
    return same_step and mine.residual(seen.theirs, place.step) < SMALL


def _rungs(mine: Record, theirs: Record, names: list[str]) -> Any:
    """Yield what each rung of the ladder compares, and what differs there."""
    yield "start", distance(names, mine.start, theirs.start)
    pairs = list(zip(mine.batches, theirs.batches, strict=False))
    shapes = [" and ".join(str(a.shape) for a in batch) for batch in pairs[0]]
    told = f"{shapes[0]} in Keras, {shapes[1]} in the port"
    yield "first batch", "same shapes" if shapes[0] == shapes[1] else told
    one, two = (np.asarray(record.losses[0], "f4") for record in (mine, theirs))
    for kind in mine.details.keys() & theirs.details.keys():
        labels = names if kind == "gradients" else [kind]
        yield kind, distance(labels, mine.details[kind], theirs.details[kind])
    told = f"{one:.7g} in Keras, {two:.7g} in the port"
    yield "first loss", "same bits" if same(one, two) else told
    yield "first update", distance(names, mine.kept[0], theirs.kept[0])
    differ = [i for i, (a, b) in enumerate(pairs) if not all(map(np.array_equal, a, b))]
    told = f"{len(mine.batches)} in Keras, {len(theirs.batches)} in the port"
    at = f"; number {differ[0] + 1} is the first that differs" if differ else ""
    yield "batches", f"{told}{at}"
    yield "last weights", distance(names, mine.last, theirs.last)
    if mine.history and theirs.history:
        other = ", ".join(metrics(mine, theirs))
        yield "metrics", f"{other} differ" if other else "equal, at most rounding"


def diagnose(
    model: Any,
    port: Callable[[list[Array]], Port],
    x: Any,
    y: Any,
    *,
    batch_size: int = 32,
    epochs: int = 1,
    validation_split: float = 0.0,
    seed: int = 0,
    class_weight: Mapping[int, float] | None = None,
    fit: Fit | None = None,
    budget: int = 60,
    verbose: int = 1,
) -> Diagnosis:
    """Find where a port and a compiled Keras model part, and prove the cause.

    `port(weights)` returns your version as a `Port`, started from these arrays, in the
    order of `model.get_weights()`; it is called once for each training of your version.
    `x` (n, …) and `y` (n, …) are arrays. `fit(train_step, test_step, x, y, batch_size,
    epochs, validation_split, seed)` is your own loop, which returns its history as a
    dict of lists by epoch; without it, `kvt.fit` drives the steps. `class_weight` is
    what Keras gets; your steps weigh their examples themselves. At most `budget`
    trainings of Keras are run; `verbose` 1 shows them. The model is left as it was.

    Raises TypeError or ValueError for a model that is not compiled or built, for a port
    that returns no `Port`, for steps that change no variable, and for a loss that is
    not finite from the start.
    """
    _check(model)
    numbers = batch_size, epochs, validation_split, seed, class_weight
    setup = Setup(np.asarray(x), np.asarray(y), *numbers)
    side = KerasSide(model, setup)
    best: Diagnosis | None = None
    for mapping in _mappings(port, side.weights, [w.path for w in model.weights]):
        side.listed = [at for at, _, _ in mapping.places]
        theirs = _record(port, side.weights, setup, fit, mapping)
        search = _Search(side, budget, verbose)
        place, candidates, proof = search.run(theirs)
        if verbose:
            print("\r" + " " * 72, end="\r", file=sys.stderr, flush=True)
        named = [*search.found, *candidates]
        fixes = [link(CATALOGUE[name].fix) for name in named]
        notes = [*mapping.notes, *search.parts.told]
        if place is None and len(theirs.after) == 1:
            notes.append("one step was compared; several causes show only after more")
        if place is not None and proof != "exact" and side.trainings >= budget:
            notes.append(f"the budget of {budget} experiments ended the search")
        one = Diagnosis(
            first=place.name if place else None,
            step=place.step if place else -1,
            ladder=search.ladder,
            causes=tuple(search.found),
            candidates=tuple(candidates),
            proof=proof,
            fixes=tuple(dict.fromkeys(fixes)),
            notes=tuple(notes),
            experiments=side.trainings,
        )
        if place is None or proof == "exact":
            return one
        best = best or one
    assert best is not None
    return best


def _check(model: Any) -> None:
    if not getattr(model, "compiled", False) or model.optimizer is None:
        raise ValueError(
            "model is not compiled with an optimizer; diagnose trains it as fit does; "
            "call model.compile(optimizer=…, loss=…) first"
        )
    if not model.built:
        raise ValueError(
            "model has no weights yet; both sides must start from the same ones; call "
            "model.build(shape), or the model on one batch, first"
        )


def _check_finite(mine: Record, theirs: Record) -> None:
    if not np.isfinite([mine.losses[0], theirs.losses[0]]).any():
        raise ValueError(
            f"the loss of the first batch is {mine.losses[0]} in Keras and "
            f"{theirs.losses[0]} in the port; one of them must be finite; check x and "
            "y for wrong scales, and the initial weights"
        )


@dataclass(frozen=True)
class _Mapping:
    """Which weight is in which of the port's variables, and whether transposed."""

    places: tuple[tuple[int, int, bool], ...]  # weight, variable, transposed
    notes: tuple[str, ...] = ()

    def read(self, variables: Sequence[Any]) -> Weights:
        values = ((value(variables[at]), turned) for _, at, turned in self.places)
        return [array.T if turned else array for array, turned in values]


def value(variable: Any) -> Array:
    """Copy a variable's value: of TensorFlow, Keras, NumPy."""
    return np.array(variable.numpy() if hasattr(variable, "numpy") else variable)


def _mappings(port: Any, weights: Weights, names: list[str]) -> list[_Mapping]:
    """Find the weights among the port's variables: as listed, then by their values."""
    probe = np.random.default_rng(0)
    marked = [probe.standard_normal(w.shape).astype(w.dtype) for w in weights]
    values = [value(v) for v in _made(port, marked).variables]
    listed = [(at, at, False) for at in range(min(len(weights), len(values)))]
    fits = len(values) >= len(weights) and all(
        values[at].shape == weights[at].shape for at, _, _ in listed
    )
    by_value = [
        (number, at, turned)
        for number, mark in enumerate(marked)
        for at, array in enumerate(values)
        for turned in (False, True)[: array.ndim]
        if np.array_equal(array.T if turned else array, mark)
    ]
    found = [_Mapping(tuple(listed))] if fits else []
    every = len(by_value) == len(weights) and by_value != listed
    if by_value and (every or not fits):
        found.append(_Mapping(tuple(by_value), tuple(_storage(by_value, names))))
    if not found:
        given = ", ".join(str(v.shape) for v in values) or "(none)"
        raise ValueError(
            f"the port's variables have shapes {given}; they must hold the model's "
            f"weights, {', '.join(str(w.shape) for w in weights)}; list them in "
            "Port(…, variables) in the order of model.get_weights()"
        )
    return found


def _storage(places: list[tuple[int, int, bool]], names: list[str]) -> Any:
    """Yield what is unlike Keras in how the port stores the weights."""
    if turned := [names[i] for i, _, turned in places if turned]:
        yield f"the port stores {', '.join(turned)} transposed"
    if [at for _, at, _ in places] != sorted(at for _, at, _ in places):
        yield "the port lists its variables in another order"
    held = {i for i, _, _ in places}
    if rest := [name for i, name in enumerate(names) if i not in held]:
        yield f"the port has no variable for {', '.join(rest)}: they are not compared"


def _made(port: Any, weights: Weights) -> Port:
    made = port([w.copy() for w in weights])
    if not isinstance(made, Port):
        raise TypeError(
            f"port returned a {type(made).__name__}; it must return a kvt.Port; end it "
            "with return kvt.Port(train_step, test_step, variables)"
        )
    return made


def _record(
    port: Any, weights: Weights, setup: Setup, fit: Fit | None, mapping: _Mapping
) -> Record:
    """Train the port; note what each of its steps received and left."""
    made = _made(port, weights)
    record = Record(mapping.read(made.variables))

    def train_step(*batch: Any) -> Any:
        arrays = [np.asarray(part) for part in batch]
        record.begin(arrays[0], arrays[1], mapping.read(made.variables))
        logs = made.train_step(*batch)
        record.end(logs, mapping.read(made.variables))
        return {k: v for k, v in logs.items() if k not in ("outputs", "gradients")}

    options: dict[str, Any] = dict(zip(Setup._fields[2:6], setup[2:6], strict=True))
    given: Any = train_step, made.test_step, setup.x, setup.y
    try:
        if fit is None:
            options["verbose"] = 0
            history: Any = loop.fit(*given, **options).history
        else:
            history = fit(*given, *setup[2:6])
    except FloatingPointError:
        history, record.complete = {}, False
    epochs = range(len(next(iter(history.values()), [])))
    record.history = [{k: float(v[e]) for k, v in history.items()} for e in epochs]
    if not record.after:
        raise ValueError(
            "the loop called no train step; it must call the one that it was given; "
            "use the arguments of fit, not the port's own steps"
        )
    still = {*record.after} == {digest(record.start)}
    if still and np.isfinite(record.losses[0]):  # NaN would stay as it is, too
        raise ValueError(
            "the train step changed none of the variables; training must update them; "
            "list the variables that the step updates in Port(…, variables)"
        )
    return record
