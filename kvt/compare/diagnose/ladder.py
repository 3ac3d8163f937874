"""Find where two versions of a training first differ, and what causes it."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from kvt.compare.diagnose.catalogue import ALIKE, CATALOGUE
from kvt.compare.diagnose.keras_side import KerasParts, KerasSide
from kvt.compare.diagnose.port_side import Fit, Port, record_port, storages
from kvt.compare.diagnose.record import SMALL, Place, Record, Setup, distance, metrics
from kvt.compare.diagnose.switches import Evidence
from kvt.compare.diagnose.words import Diagnosis, section
from kvt.compare.parity import same_bits
from kvt.compare.parts import Weights
from kvt.data import Array, parameters
from kvt.data.quietly import quiet
from kvt.training import checks

with quiet():
    import keras
    import tensorflow as tf

# Errors of a switch that does not fit a model, such as one for outputs of other shapes;
# NotImplementedError: of a model that cannot be built again in float64.
UNFIT = TypeError, ValueError, NotImplementedError, tf.errors.OpError
LASTING = 1e-3  # of the way from the start: rounding grows less in a short training


@dataclass
class _Search:
    """The search for causes: what is found so far, and how many trainings are left."""

    side: KerasSide
    record: Callable[[Weights], Record]  # train the port from these weights
    budget: int
    verbose: int
    parts: KerasParts = field(default_factory=KerasParts)
    found: list[str] = field(default_factory=list)
    ladder: tuple[tuple[str, str], ...] = ()  # the first comparison
    notes: list[str] = field(default_factory=list)

    def diagnosis(self, notes: tuple[str, ...]) -> Diagnosis:
        """Search for the cause; describe it after these notes."""
        place, candidates, proof = self.run()
        if self.verbose:
            print("\r" + " " * 72, end="\r", file=sys.stderr, flush=True)
        told = [*notes, *self.parts.told, *self.notes]
        if place and proof != "exact" and self.side.trainings >= self.budget - 1:
            told.append(f"the budget of {self.budget} experiments ended the search")
        fixes = [CATALOGUE[name].fix for name in (*self.found, *candidates)]
        fixes = [it if it.endswith(".") else section(it) for it in fixes]
        return Diagnosis(
            first=place.rung.name if place else None,
            step=place.step if place else -1,
            ladder=self.ladder,
            causes=tuple(self.found),
            candidates=tuple(candidates),
            proof=proof,
            fixes=tuple(dict.fromkeys(fixes)),
            notes=tuple(dict.fromkeys(told)),
            experiments=self.side.trainings,
        )

    def run(self) -> tuple[Place | None, list[str], str | None]:
        """Return where Keras and the port first differ, the candidates, the proof."""
        theirs = self.record(self.side.weights)
        mine = self._train("as compiled", self.parts, detailed=bool(theirs.details))
        first = place = mine.parts(theirs)
        setup = self.side.setup
        full = len(setup.split()[0]) % setup.batch_size == 0
        if place is not None and full and self.budget > 1:
            # A port's steps may not know the size of full batches, as Keras's do.
            parts = self.parts.changed(declared=False)
            other = self._train("batches of any size", parts)
            if (there := other.parts(theirs)) is None or there > place:
                self.parts, mine, first, place = parts, other, there, there
        _check_finite(mine, theirs)
        names = [self.side.compiled.weights[at].path for at in self.side.listed]
        self.ladder = tuple(_rungs(mine, theirs, names))
        if first is None and len(mine.after) == 1:
            told = "one step was compared; several causes show only after more"
            self.notes.append(told)
        if first and (size := mine.residual(theirs, first.step)) < SMALL:
            self.notes.append(
                f"step {first.step + 1} differs by rounding: {size:.0e} of its update"
            )
        while place is not None:
            seen = Evidence(self.side, mine, theirs, place)
            equal, better, close = self._try(seen)
            if equal:
                self.found.append(equal[0])
                return first, equal, "exact"
            if better is None:
                proof = self._inexact(seen, close)
                return first, self.found[-1:] if close and proof else [], proof
            name, self.parts, mine, place = better
            self.found.append(name)
        return first, [], "exact" if self.found else None

    def _inexact(self, seen: Evidence, close: dict[str, KerasParts]) -> str | None:
        """Keep the causes that leave only rounding; tell the others in a note."""
        tried = close or ({"": self.parts} if self.found and seen.rounding else {})
        for name, parts in tried.items():
            if self.side.trainings >= self.budget:
                break
            mine = self._train("to the end", parts)
            if mine.drift(seen.theirs) < LASTING:
                self.parts = parts
                self.found += [name] if name else []
                return "consistent"
        if self.found:
            causes, rung = " and ".join(self.found), seen.place.rung.name
            self.notes.append(
                f"with {causes} in Keras, the first difference is {rung}, step "
                f"{seen.place.step + 1}; what causes it is unknown"
            )
            self.found, self.parts = [], KerasParts()
        return None

    def _train(self, name: str, *given: Any, **options: Any) -> Record:
        if self.verbose:
            count = f"experiment {self.side.trainings + 1} of at most {self.budget}"
            print(f"\r{count}: {name:28}", end="", file=sys.stderr, flush=True)
        return self.side.train(*given, **options)

    def _try(self, seen: Evidence) -> Any:
        """Switch on one cause after another; return what each led to."""
        equal: list[str] = []
        close: dict[str, KerasParts] = {}
        better: Any = None
        base = self.parts
        for name in _suspects(seen):
            like = any({name, *equal} <= group for group in ALIKE)
            if name in self.found or (equal and not like):
                continue
            for change in CATALOGUE[name].switch(seen):
                spare = bool(close or self.found)  # for a training to the end
                if self.side.trainings + spare >= self.budget:
                    return equal, better, close
                parts = base.changed(**change)
                try:
                    mine = self._train(name, parts, seen.theirs)
                except UNFIT as error:
                    reason = f"{type(error).__name__}: {error}".splitlines()[0]
                    self.notes.append(f"{name} could not be tried: {reason}")
                    break
                place = mine.parts(seen.theirs)
                if place is None and seen.rounding and not self._holds(parts):
                    continue
                if place is None:
                    equal.append(name)
                    if len(equal) == 1:
                        self.parts = parts
                    break
                if place > (better[3] if better else seen.place):
                    better = name, parts, mine, place
                elif _close(mine, place, seen):
                    close.setdefault(name, parts)
        return equal, better, close

    def _holds(self, parts: KerasParts) -> bool:
        """Whether the bits are equal from another start: a few can be so by chance."""
        if parts.start or self.side.trainings >= self.budget:
            return bool(parts.start)
        other = [
            (1.1 * w + 0.01).astype(w.dtype) if w.dtype.kind == "f" else w
            for w in self.side.weights
        ]
        theirs, parts = self.record(other), parts.changed(start=lambda own: other)
        return self._train("another start", parts, theirs).parts(theirs) is None


def _suspects(seen: Evidence) -> list[str]:
    """Return the causes that can show at this difference, the likeliest first."""
    rung = seen.place.rung.name
    rungs = {name: it.rungs for name, it in CATALOGUE.items() if rung in it.rungs}

    def unlikely(name: str) -> tuple[bool, bool]:
        first = rungs[name].startswith(rung)
        return ("rounding" in rungs[name]) != seen.rounding, not first

    return sorted(rungs, key=unlikely)


def _close(mine: Record, place: Place, seen: Evidence) -> bool:
    """Whether a switch reduced a larger difference to rounding."""
    step = place.step
    known = min(len(mine.losses), len(seen.theirs.losses))
    if step != seen.place.step or seen.rounding or known <= step:
        return False
    alike = np.isclose(mine.losses[step], seen.theirs.losses[step], rtol=1e-4)
    return bool(alike) and mine.residual(seen.theirs, step) < SMALL


def _rungs(mine: Record, theirs: Record, names: list[str]) -> Any:
    """Yield each rung of the ladder, and what differs there."""
    yield "start", distance(names, mine.start, theirs.start)
    pairs = list(zip(mine.batches, theirs.batches, strict=False))
    shapes = [" and ".join(str(a.shape) for a in batch) for batch in pairs[0]]
    told = f"{shapes[0]} in Keras, {shapes[1]} in the port"
    yield "first batch", "same shapes" if shapes[0] == shapes[1] else told
    one, two = mine.losses[0], theirs.losses[0]
    for kind in mine.details.keys() & theirs.details.keys():
        labels = names if kind == "gradients" else [kind]
        yield kind, distance(labels, mine.details[kind], theirs.details[kind])
    told = f"{one:.7g} in Keras, {two:.7g} in the port"
    yield "first loss", "same bits" if same_bits(one, two) else told
    yield "first update", distance(names, mine.kept[0], theirs.kept[0])
    differ = [i for i, (a, b) in enumerate(pairs) if not all(map(np.array_equal, a, b))]
    told = f"{len(mine.batches)} in Keras, {len(theirs.batches)} in the port"
    at = f"; number {differ[0] + 1} is the first that differs" if differ else ""
    yield "batches", f"{told}{at}"
    yield "last weights", distance(names, mine.last, theirs.last)
    if mine.history and theirs.history:
        other = ", ".join(metrics(mine, theirs))
        yield "metrics", f"different: {other}" if other else "equal, at most rounding"


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
    """Find where a port and a compiled Keras model first differ; prove the cause.

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
    _check(model, fit)
    parameters.check({"budget": budget})
    numbers: dict[str, Any] = {"batch_size": batch_size, "epochs": epochs}
    numbers |= {"validation_split": validation_split, "seed": seed}
    numbers = parameters.check(numbers)
    if class_weight is not None:
        checks.class_weight(class_weight, None)
    arrays: dict[str, Any] = {"x": np.asarray(x), "y": np.asarray(y)}
    for name, array in arrays.items():
        checks.numbers(array, name)
    checks.rows(arrays)
    setup = Setup(**arrays, **numbers, class_weight=class_weight)
    side = KerasSide(model, setup)
    found: list[Diagnosis] = []
    for storage in storages(port, side.weights, [w.path for w in model.weights]):
        side.listed = [at for at, _, _ in storage.places]
        record = partial(record_port, port, setup=setup, fit=fit, storage=storage)
        found.append(_Search(side, record, budget, verbose).diagnosis(storage.notes))
        if found[-1].first is None or found[-1].proof == "exact":
            return found[-1]
    return found[0]


def _check(model: Any, fit: Any) -> None:
    """Reject what cannot be trained as Keras's `fit` trains it."""
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
    for name in ("train_step", "test_step", "compute_loss"):
        own = getattr(getattr(model, name), "__func__", None)
        if own is not getattr(keras.Model, name):
            raise ValueError(
                f"model has its own {name}; diagnose can change only Keras's; move "
                "what it does into a layer, the loss or the optimizer"
            )
    for name in ("inputs", "outputs"):
        if (count := len(getattr(model, name, None) or "1")) > 1:
            raise ValueError(
                f"model has {count} {name}; diagnose compares models with one; join "
                "them into one array, and split it in the model's first or last layer"
            )
    if fit is not None and not callable(fit):
        raise TypeError(
            f"fit has type {type(fit).__name__}; it must be a function, your own loop; "
            "leave it out to use kvt.fit"
        )


def _check_finite(mine: Record, theirs: Record) -> None:
    if not np.isfinite([mine.losses[0], theirs.losses[0]]).any():
        raise ValueError(
            f"the loss of the first batch is {mine.losses[0]} in Keras and "
            f"{theirs.losses[0]} in the port; one of them must be finite; check x and "
            "y for wrong scales, and the initial weights"
        )
