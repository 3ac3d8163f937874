"""Find the first place where two versions of a training part, and what causes it."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from kvt.compare.diagnose.catalogue import (
    ALIKE,
    CATALOGUE,
    SMALL,
    Evidence,
    residual,
)
from kvt.compare.diagnose.keras_side import KerasParts, KerasSide
from kvt.compare.diagnose.order import split
from kvt.compare.diagnose.record import Place, Record, Setup, Weights, digest, metrics
from kvt.compare.diagnose.words import Diagnosis
from kvt.compare.parity import ulps
from kvt.data import Array
from kvt.data.quietly import quiet
from kvt.training import loop
from kvt.training.means import Step

with quiet():
    import tensorflow as tf

Fit = Callable[..., Any]


@dataclass(frozen=True)
class Port:
    """Your version: its steps, and the variables that hold the model's weights."""

    train_step: Step
    test_step: Step
    variables: Sequence[Any]


@dataclass
class _Search:
    """The search for causes: what is found so far, and how many trainings are left."""

    side: KerasSide
    setup: Setup
    budget: int
    parts: KerasParts = field(default_factory=KerasParts)
    found: list[str] = field(default_factory=list)
    detail: str = ""  # of the first difference

    def run(self, theirs: Record) -> tuple[Place | None, list[str], str | None]:
        """Return where Keras and the port part, the causes' candidates, the proof."""
        mine = self.side.train(self.parts, theirs)
        first = place = mine.parts(theirs)
        rows = len(split(self.setup)[0])
        if place is not None and rows % self.setup.batch_size == 0:
            # Keras declares the size of its batches if all of them are full.
            parts = replace(self.parts, declared=self.setup.batch_size)
            other = self.side.train(parts, theirs)
            if (there := other.parts(theirs)) is None or there > place:
                self.parts, mine, first, place = parts, other, there, there
        if place is not None:
            self.detail = _detail(mine, theirs, place, self.side.compiled)
        while place is not None:
            seen = Evidence(self.setup, self.side, mine, theirs, place)
            equal, better, close = self._try(seen)
            if equal:
                self.found.append(equal[0])
                return first, equal, "exact"
            if better is None:
                if close:
                    self.found.append(close[0])
                return first, close, "consistent" if close else None
            name, self.parts, mine, place = better
            self.found.append(name)
        return first, [], "exact" if self.found else None

    def _try(self, seen: Evidence) -> Any:
        """Switch on one suspect after another; return what each led to."""
        equal: list[str] = []
        close: list[str] = []
        better: Any = None
        for name in _suspects(seen):
            like = any({name, *equal} <= group for group in ALIKE)
            if name in self.found or (equal and not like):
                continue
            for parts in CATALOGUE[name].switch(self.parts, seen):
                if self.side.trainings >= self.budget:
                    return equal, better, close
                try:
                    mine = self.side.train(parts, seen.theirs)
                except (TypeError, ValueError, tf.errors.OpError):
                    break  # a switch that does not fit this model
                place = mine.parts(seen.theirs)
                if place is None:
                    equal.append(name)
                    break
                if place > (better[3] if better else seen.place):
                    better = name, parts, mine, place
                elif _close(mine, place, seen):
                    close.append(name)
        return equal, better, close


def _detail(mine: Record, theirs: Record, place: Place, model: Any) -> str:
    """Describe a difference: of which numbers it is, and how large."""
    if place.name == "metrics":
        return ", ".join(metrics(mine, theirs))
    if place.name in ("inputs", "order") or place.step >= len(mine.losses):
        return "other batches"
    if place.name == "loss":
        one, two = (float(record.losses[place.step]) for record in (mine, theirs))
        return f"{one:.4g} in Keras, {two:.4g} in the port"
    pairs = mine.start, theirs.start
    if place.step >= 0:
        pairs = mine.kept.get(place.step, []), theirs.kept.get(place.step, [])
    found = []
    for weight, a, b in zip(model.weights, *pairs, strict=False):
        if a.shape != b.shape or a.dtype != b.dtype:
            return f"{weight.path} is {a.dtype} {a.shape}, not {b.dtype} {b.shape}"
        if a.dtype in (np.float32, np.float64) and not np.array_equal(a, b):
            size = float(np.abs(a - b).max())
            found.append((size, weight.path, int(ulps(a, b).max())))
    if not found:
        return "a weight changed between two steps"
    size, path, steps = max(found)
    return f"{path} by up to {size:.3g} ({steps:,} ulp)"


def _close(mine: Record, place: Place, seen: Evidence) -> bool:
    """Whether a switch left only rounding where there was more than that."""
    same_step = place.step == seen.place.step and not seen.rounding
    return same_step and residual(mine, seen.theirs, place.step) < SMALL


def _suspects(seen: Evidence) -> list[str]:
    """Return the causes that can show where the two sides part, the likeliest first."""
    fitting = [k for k, it in CATALOGUE.items() if seen.place.name in it.rungs.split()]
    return sorted(fitting, key=lambda name: CATALOGUE[name].rounding != seen.rounding)


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
) -> Diagnosis:
    """Find where a port and a compiled Keras model part, and prove the cause.

    `port(weights)` returns your version as a `Port`, started from these arrays, in the
    order of `model.get_weights()`; it is called once for each training of your version.
    `x` (n, …) and `y` (n, …) are arrays. `fit(train_step, test_step, x, y, batch_size,
    epochs, validation_split, seed)` is your own loop, which returns its history as a
    dict of lists by epoch; without it, `kvt.fit` drives the steps. At most `budget`
    trainings of Keras are run. The model is left as it was.

    Raises TypeError or ValueError for a model that is not compiled or built, for a port
    that returns no `Port`, and for steps that change no variable.
    """
    _check(model)
    setup = Setup(
        np.asarray(x),
        np.asarray(y),
        batch_size,
        epochs,
        validation_split,
        seed,
        class_weight,
    )
    side = KerasSide(model, setup)
    best: Diagnosis | None = None
    for mapping in _mappings(port, side.weights):
        theirs = _record(port, side.weights, setup, fit, mapping)
        search = _Search(side, setup, budget)
        place, candidates, proof = search.run(theirs)
        found = candidates or search.found
        named = {CATALOGUE[name].heading: None for name in found} | {"": None}
        del named[""]
        one = Diagnosis(
            place.name if place else None,
            place.step if place else -1,
            search.detail,
            tuple(search.found),
            tuple(candidates),
            proof,
            tuple(named),
            mapping.told,
            side.trainings,
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


@dataclass(frozen=True)
class _Mapping:
    """Which of the port's variables holds which weight, and whether transposed."""

    places: tuple[tuple[int, bool], ...]
    told: str = ""

    def read(self, variables: Sequence[Any]) -> Weights:
        values = [value(variables[at]) for at, _ in self.places]
        turned = (turn for _, turn in self.places)
        return [v.T if t else v for v, t in zip(values, turned, strict=True)]


def value(variable: Any) -> Array:
    """Copy a variable's value: of TensorFlow, Keras, NumPy."""
    return np.array(variable.numpy() if hasattr(variable, "numpy") else variable)


def _mappings(port: Any, weights: Weights) -> list[_Mapping]:
    """Find the weights among the port's variables: as listed, then by their values."""
    probe = np.random.default_rng(0)
    marked = [probe.standard_normal(w.shape).astype(w.dtype) for w in weights]
    made = _made(port, marked)
    values = [value(v) for v in made.variables]
    found = []
    if [v.shape for v in values[: len(weights)]] == [w.shape for w in weights]:
        found.append(_Mapping(tuple((i, False) for i in range(len(weights)))))
    places = []
    for mark in marked:
        for turn, at in itertools.product((False, True), range(len(values))):
            seen = values[at].T if turn else values[at]
            if seen.shape == mark.shape and np.array_equal(
                seen.astype(mark.dtype), mark
            ):
                places.append((at, turn))
                break
    if len(places) == len(weights) and tuple(places) not in [m.places for m in found]:
        turned = [str(i) for i, (_, turn) in enumerate(places) if turn]
        told = f"weights {', '.join(turned)} are stored transposed" if turned else ""
        if [at for at, _ in places] != list(range(len(weights))):
            told = " and ".join(filter(None, (told, "variables are in another order")))
        found.append(_Mapping(tuple(places), told))
    if not found:
        shapes = ", ".join(str(v.shape) for v in values)
        raise ValueError(
            f"the port's variables have shapes {shapes or '(none)'}; they must hold "
            f"the model's weights, {', '.join(str(w.shape) for w in weights)}; list "
            "them in Port(…, variables) in the order of model.get_weights()"
        )
    return found


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
        record.end(logs["loss"], mapping.read(made.variables))
        return logs

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
    if {*record.after} == {digest(record.start)}:
        raise ValueError(
            "the train step changed none of the variables; training must update them; "
            "list the variables that the step updates in Port(…, variables)"
        )
    return record
