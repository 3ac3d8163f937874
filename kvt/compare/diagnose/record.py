"""What one side of a pair did, step by step, and where two sides first differ."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np

from kvt.compare.parity import same_bits, ulps
from kvt.compare.parts import Rows, Weights, tail
from kvt.data import Array

KEPT = 256 * 1024**2  # bytes of weights that are kept, besides those of the first step
SMALL = 1e-4  # of a step's update: smaller differences are rounding
# Where two sides can differ, in the order in which a training meets it.
Rung = IntEnum("Rung", "start inputs order forward loss gradients update metrics")


class Setup(NamedTuple):
    """What both sides train on: examples (n, …), targets (n, …), and the numbers."""

    x: Array
    y: Array
    batch_size: int
    epochs: int
    validation_split: float
    seed: int
    class_weight: Mapping[int, float] | None

    def split(self) -> tuple[Rows, Rows]:
        """Return the rows that Keras trains on, and those that it validates on."""
        return tail(len(self.x), self.validation_split, self.seed)


class Place(NamedTuple):
    """A step, counted from 0, and the rung of the ladder on which two sides differ."""

    step: int
    rung: Rung


@dataclass
class Record:
    """One side's training. Weights are kept as digests, and in full while they fit."""

    start: Weights
    examples: Array  # as the steps should receive them
    batches: list[tuple[Array, Array]] = field(default_factory=list)
    before: list[bytes] = field(default_factory=list)  # digests before each step
    after: list[bytes] = field(default_factory=list)  # and after it
    losses: list[Array] = field(default_factory=list)  # in float32
    kept: dict[int, Weights] = field(default_factory=dict)  # by step, after it
    last: Weights = field(default_factory=list)  # after the last step
    history: list[dict[str, float]] = field(default_factory=list)  # by epoch
    details: dict[str, Weights] = field(default_factory=dict)  # the first step's
    complete: bool = True  # whether the training reached its end
    overflow: int | None = None  # the step that left the first inf or NaN
    traced: bool = True  # whether the steps are known to run as graphs
    _bytes: int = 0

    def begin(self, x: Array, y: Array, weights: Weights) -> None:
        """Note what a step receives."""
        self.batches.append((x, y))
        self.before.append(digest(weights))

    def end(self, logs: Mapping[str, Any], weights: Weights) -> None:
        """Note what a step returned and left."""
        if not self.after:
            for kind in {"outputs", "gradients"} & logs.keys():
                given = logs[kind]
                values = given if isinstance(given, list | tuple) else [given]
                self.details[kind] = [np.asarray(value) for value in values]
        self.losses.append(np.asarray(logs["loss"], "f4"))
        self.after.append(digest(weights))
        self.last = weights
        if self.overflow is None and not all(np.isfinite(w).all() for w in weights):
            self.overflow = len(self.after) - 1
        self._bytes += sum(array.nbytes for array in weights)
        if len(self.after) == 1 or self._bytes < KEPT:
            self.kept[len(self.after) - 1] = weights

    def weights_before(self, step: int) -> Weights:
        """Return the weights before a step."""
        return self.kept.get(step - 1, self.start)

    def residual(self, other: "Record", step: int) -> float:
        """Return the largest difference after a step, relative to the step's update."""
        if step not in self.kept or step not in other.kept:
            return np.inf
        found = 0.0
        sides = self.kept[step], other.kept[step], self.weights_before(step)
        for a, b, old in zip(*sides, strict=True):
            if a.shape != b.shape or not np.isfinite([np.sum(a), np.sum(b)]).all():
                return np.inf
            if a.size and a.dtype.kind == "f":
                size = max(np.abs(a - old).max(), np.abs(a).max() * 1e-6)
                found = max(found, float(np.abs(a - b).max() / (size or 1.0)))
        return found

    def drift(self, other: "Record") -> float:
        """Return the last distance, relative to the way from the start."""
        if [a.shape for a in self.last] != [b.shape for b in other.last]:
            return np.inf
        last, theirs, start = map(flat, (self.last, other.last, self.start))
        norm = np.linalg.norm
        return float(norm(last - theirs) / (norm(last - start) or 1.0))

    def agrees(self, other: "Record") -> bool:
        """Whether the last step received and left the same bits as the other side's."""
        step = len(self.after) - 1
        return step < len(other.after) and self._parts_at(step, other) is None

    def _parts_at(self, step: int, other: "Record") -> Rung | None:
        """Return the rung on which a step differs, or None."""
        if self.before[step] != other.before[step]:
            return Rung.update  # weights changed outside of a step
        if self.after[step] == other.after[step]:
            return None
        one, two = self.batches[step], other.batches[step]
        if not np.array_equal(one[0], two[0]):  # in whatever dtype
            kinds = [[(a.shape[1:], a.dtype) for a in batch] for batch in (one, two)]
            known = {*map(bytes, self.examples)} if kinds[0] == kinds[1] else {}
            is_known = all(bytes(row) in known for row in two[0])
            return Rung.order if is_known else Rung.inputs
        if not np.array_equal(one[1], two[1]):
            return Rung.inputs
        if step == 0 and self._differs_in("outputs", other):
            return Rung.forward
        if not same_bits(self.losses[step], other.losses[step]):
            return Rung.loss
        if step == 0 and self._differs_in("gradients", other):
            return Rung.gradients
        return None if self._overflows(step, other) else Rung.update

    def _overflows(self, step: int, other: "Record") -> bool:
        """Whether both sides overflow here: then rounding decides on inf or NaN."""
        return self.overflow == other.overflow == step

    def _differs_in(self, kind: str, other: "Record") -> bool:
        one, two = (record.details.get(kind, []) for record in (self, other))
        return bool(one and two) and digest(one) != digest(two)

    def parts(self, other: "Record") -> Place | None:
        """Return the first place where this side and the other's differ; None if none.

        Metrics count last: they are compared if all weights are equal.
        """
        if digest(self.start) != digest(other.start):
            return Place(-1, Rung.start)
        steps = min(len(self.after), len(other.after))
        for step in range(steps):
            if rung := self._parts_at(step, other):
                return Place(step, rung)
            if self._overflows(step, other):
                return None
        if not (self.complete and other.complete):
            return None
        if len(self.after) != len(other.after):
            return Place(steps, Rung.order)
        if metrics(self, other):
            return Place(steps, Rung.metrics)
        return None


def metrics(one: Record, other: Record) -> list[str]:
    """Name the metrics that differ in any epoch by more than rounding."""
    names = {name for logs in one.history for name in logs}
    return sorted(
        name
        for name in names
        if any(
            name in b and not np.isclose(a[name], b[name], 2e-5, 1e-7, True)
            for a, b in zip(one.history, other.history, strict=False)
        )
    )


def flat(weights: Iterable[Array]) -> Array:
    """Return the floating-point weights as one array (n,)."""
    return np.concatenate([w.ravel() for w in weights if w.dtype.kind == "f"])


def digest(weights: Weights) -> bytes:
    """Return a digest of dtypes, shapes and bits."""
    found = hashlib.blake2b(digest_size=16)
    for array in weights:
        found.update(f"{array.dtype}{array.shape}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.digest()


def distance(names: list[str], one: Weights, two: Weights) -> str:
    """Describe by how much two lists of arrays differ."""
    found = []
    for name, a, b in zip(names, one, two, strict=False):
        if a.shape != b.shape or a.dtype != b.dtype:
            return f"{name} is {a.dtype} {a.shape}, not {b.dtype} {b.shape}"
        if a.dtype in (np.float32, np.float64) and not np.array_equal(a, b):
            size, most = float(np.abs(a - b).max()), float(np.abs(a).max())
            found.append((size, name, size / most if most else np.inf, ulps(a, b)))
    if not found:
        return "same bits"
    size, name, relative, steps = max(found, key=lambda each: each[0])
    others = f"; {len(found)} of {len(one)} arrays differ" if len(one) > 1 else ""
    return (
        f"{name} differs by up to {size:.3g} ({relative:.1g} of its largest value, "
        f"{int(steps.max()):,} ulp){others}"
    )
