"""What one side of a pair did: its weights, batches and losses, step by step."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kvt.data import Array

Weights = list[Array]
Rows = NDArray[np.int64]
KEPT = 256 * 1024**2  # bytes of weights that are kept, besides those of the first step
# Where two sides can part, in the order in which a training meets it.
RUNGS = (
    *("start", "inputs", "order", "forward", "loss", "gradients", "update"),
    "metrics",
)


class Setup(NamedTuple):
    """What both sides train on: examples (n, …), targets (n, …), and the numbers."""

    x: Array
    y: Array
    batch_size: int
    epochs: int
    validation_split: float
    seed: int
    class_weight: Mapping[int, float] | None


class Place(NamedTuple):
    """A step, counted from 0, and the rung of the ladder on which two sides part."""

    step: int
    rung: int  # an index into RUNGS

    @property
    def name(self) -> str:
        """The rung's name."""
        return RUNGS[self.rung]


@dataclass
class Epoch:
    """The metrics of each step of an epoch, and its number of examples."""

    steps: list[dict[str, Array]] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def add(self, logs: dict[str, Array], size: int) -> None:
        """Add a step."""
        self.steps.append(logs)
        self.sizes.append(size)


@dataclass
class Record:
    """One side's training. Weights are kept as digests, and in full while they fit."""

    start: Weights
    batches: list[tuple[Array, Array]] = field(default_factory=list)
    before: list[bytes] = field(default_factory=list)  # digests before each step
    after: list[bytes] = field(default_factory=list)  # and after it
    losses: list[Any] = field(default_factory=list)
    kept: dict[int, Weights] = field(default_factory=dict)  # by step, after it
    history: list[dict[str, float]] = field(default_factory=list)  # by epoch
    complete: bool = True  # whether the training reached its end
    _bytes: int = 0

    def begin(self, x: Array, y: Array, weights: Weights) -> None:
        """Note what a step receives."""
        self.batches.append((x, y))
        self.before.append(digest(weights))

    def end(self, loss: Any, weights: Weights) -> None:
        """Note what a step left."""
        self.losses.append(np.asarray(loss))
        self.after.append(digest(weights))
        self._bytes += sum(array.nbytes for array in weights)
        if len(self.after) == 1 or self._bytes < KEPT:
            self.kept[len(self.after) - 1] = weights

    def agrees(self, other: "Record") -> bool:
        """Whether the last step received and left the same bits as the other side's."""
        step = len(self.after) - 1
        return step < len(other.after) and self._parts_at(step, other) is None

    def _parts_at(self, step: int, other: "Record") -> str | None:
        """Return the rung on which a step differs, or None."""
        if self.before[step] != other.before[step]:
            return "update"  # weights changed outside of a step
        if self.after[step] == other.after[step]:
            return None
        (x, y), (their_x, their_y) = self.batches[step], other.batches[step]
        if not same_values(x, their_x) or not same_values(y, their_y):
            return (
                "order" if same_kind(x, their_x) and same_kind(y, their_y) else "inputs"
            )
        one, two = (np.asarray(r.losses[step], "float32") for r in (self, other))
        return "update" if one.tobytes() == two.tobytes() else "loss"

    def parts(self, other: "Record") -> Place | None:
        """Return the first place where this side and the other's differ; None if none.

        Metrics count last: they are compared if all weights are equal.
        """
        if digest(self.start) != digest(other.start):
            return Place(-1, RUNGS.index("start"))
        steps = min(len(self.after), len(other.after))
        for step in range(steps):
            if rung := self._parts_at(step, other):
                return Place(step, RUNGS.index(rung))
        if not (self.complete and other.complete):
            return None
        if len(self.after) != len(other.after):
            return Place(steps, RUNGS.index("order"))
        if metrics(self, other):
            return Place(steps, RUNGS.index("metrics"))
        return None


def metrics(one: Record, other: Record) -> list[str]:
    """Name the metrics that differ in any epoch by more than rounding."""
    names = {name for logs in one.history for name in logs}
    return sorted(
        name
        for name in names
        if any(
            name in b and not np.isclose(a[name], b[name], rtol=2e-5, atol=1e-7)
            for a, b in zip(one.history, other.history, strict=False)
        )
    )


def digest(weights: Weights) -> bytes:
    """Return a digest of dtypes, shapes and bits."""
    found = hashlib.blake2b(digest_size=16)
    for array in weights:
        found.update(f"{array.dtype}{array.shape}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.digest()


def same_values(a: Array, b: Array) -> bool:
    """Whether two batches hold the same numbers, in whatever dtype."""
    return a.shape == b.shape and bool(np.array_equal(a, b))


def same_kind(a: Array, b: Array) -> bool:
    """Whether two batches could hold the same examples, in another order."""
    return a.shape[1:] == b.shape[1:] and a.dtype == b.dtype
