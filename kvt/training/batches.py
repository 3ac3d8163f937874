"""What a loop goes through: arrays cut into batches, or batches that come as such.

A batch is a tuple, as long as its step has arguments: `(x, y)`, or with sample weights
`(x, y, sample_weight)`.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvt import data

Array = NDArray[Any]
Batch = tuple[Any, ...]
Rows = tuple[Array, ...]
ENDLESS = -1  # what tf.data.INFINITE_CARDINALITY is


@dataclass(frozen=True)
class Cut:
    """Arrays cut into batches along an order of rows; the last one may be smaller."""

    arrays: Rows
    order: Array
    batch_size: int

    def __len__(self) -> int:
        return math.ceil(len(self.order) / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, len(self.order), self.batch_size):
            rows = self.order[start : start + self.batch_size]
            yield tuple(array[rows] for array in self.arrays)


class Stream:
    """Batches that a `tf.data.Dataset`, a list or a generator gives.

    An epoch goes through all of `source`. With `steps` it takes that many batches, and
    the next one goes on from there, or from the start where `source` has ended. Batches
    and iterators are asked for when they are needed, and none besides: each iterator of
    a shuffled Dataset has another order. `name` is for the messages.

    Raises TypeError for a `source` that gives no batches. Raises ValueError for one
    that can be gone through once and is needed more often or never ends, and, where
    Keras warns and goes on, when it ends within an epoch.
    """

    def __init__(
        self, source: Iterable[Batch], *, steps: int | None, epochs: int, name: str
    ) -> None:
        _check_source(source, steps, epochs, name)
        self._source, self._steps, self._name = source, steps, name
        self._needed = steps * epochs if steps else epochs
        self._going: Iterator[Batch] = iter(())

    def __len__(self) -> int:
        """Count an epoch's batches; TypeError where nobody knows before its end."""
        return self._steps or len(self._source)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Batch]:
        count = 0
        for batch in self._epoch():
            yield _as_batch(batch, self._name)
            count += 1
        if count < (self._steps or 1):
            raise ValueError(
                f"{self._name} ended after {count} batches of an epoch that needs "
                f"{self._steps or 'at least 1'}; give {self._needed} or more in all, "
                "or ask for fewer epochs or steps_per_epoch"
            )

    def _epoch(self) -> Iterator[Batch]:
        """Begin an epoch: anew, or where the one before ended."""
        if self._steps is None:
            return iter(self._source)
        batches = itertools.islice(self._going, self._steps)
        first = next(batches, None)
        if first is None:  # the first epoch, or the source ended with the last one
            self._going = iter(self._source)
            return itertools.islice(self._going, self._steps)
        return itertools.chain([first], batches)


Batches = Cut | Stream


def in_order(
    x: Any, y: Array | None, sample_weight: Array | None, batch_size: int
) -> Batches:
    """Return the batches to evaluate: rows in their order, or what `x` alone gives."""
    if y is None:
        return Stream(x, steps=None, epochs=1, name="x")
    rows = _rows({"x": x, "y": y, "sample_weight": sample_weight})
    return Cut(rows, np.arange(len(rows[0])), batch_size)


def to_train_on(
    x: Any,
    y: Array | None,
    sample_weight: Array | None,
    *,
    batch_size: int,
    validation_split: float,
    seed: int | None,
) -> tuple[Cut, Cut | None]:
    """Return the batches to train on, in random order if there is a seed, and the tail.

    The tail, to validate on, is cut off first. Raises ValueError as `check` and
    `data.split` do.
    """
    rows = _rows({"x": x, "y": y, "sample_weight": sample_weight})
    tail = None
    if validation_split != 0:
        n = data.split(len(rows[0]), validation_split)
        held_back = tuple(array[n:] for array in rows)
        tail = Cut(held_back, np.arange(len(held_back[0])), batch_size)
        rows = tuple(array[:n] for array in rows)
    n = len(rows[0])
    order = np.arange(n) if seed is None else data.example_order(n, seed)
    return Cut(rows, order, batch_size), tail


def to_validate_on(
    given: Rows | Iterable[Batch], *, batch_size: int, epochs: int
) -> Batches:
    """Return the batches of `validation_data`: arrays in a tuple, or batches."""
    if not isinstance(given, tuple):
        return Stream(given, steps=None, epochs=epochs, name="validation_data")
    names = ("x", "y", "sample_weight")
    if len(given) not in (2, 3):
        raise ValueError(
            f"validation_data is a tuple of {len(given)}; it must be (x, y) or "
            "(x, y, sample_weight); batches come in a list or tf.data.Dataset"
        )
    named = {f"{n} of validation_data": a for n, a in zip(names, given, strict=False)}
    rows = _rows(named)
    return Cut(rows, np.arange(len(rows[0])), batch_size)


def check(arrays: Mapping[str, Array]) -> None:
    """Refuse examples that no loop could work on; the names are for the message."""
    if len({len(values) for values in arrays.values()}) > 1:
        counts = " and ".join(f"{name} has {len(v)}" for name, v in arrays.items())
        raise ValueError(
            f"{counts} examples; they must be as many; cut both from the same rows"
        )
    for name, values in arrays.items():
        if len(values) == 0:
            raise ValueError(
                f"{name} has 0 examples; at least 1 is needed; pass more data"
            )
        if (row := _not_finite(values)) is not None:
            raise ValueError(
                f"{name} holds NaN or infinity, first in example {row}; "
                "every value must be finite; clean or drop such examples"
            )


def _not_finite(values: Array) -> int | None:
    """Find the first row with NaN or infinity, some rows at a time to spare memory."""
    for start in range(0, len(values), 1_000):
        finite = np.isfinite(values[start : start + 1_000])
        if not finite.all():
            return start + int(np.argwhere(~finite)[0][0])
    return None


def _rows(named: Mapping[str, Any]) -> Rows:
    """Return what is there as arrays, once they are checked; tensors become arrays."""
    given = {name: np.asarray(rows) for name, rows in named.items() if rows is not None}
    check(given)
    return tuple(given.values())


def _as_batch(given: Any, name: str) -> Batch:
    """Return a batch as a tuple; an array would fall apart into its rows."""
    if not isinstance(given, tuple | list):
        raise TypeError(
            f"{name} gave a {type(given).__name__} for a batch; a batch must be a "
            "tuple, (x, y) or (x, y, sample_weight); whole arrays need y beside x"
        )
    return tuple(given)


def _check_source(source: Any, steps: int | None, epochs: int, name: str) -> None:
    """Refuse, before any step, what cannot give that many epochs."""
    kind = type(source).__name__
    if not isinstance(source, Iterable):
        raise TypeError(
            f"{name} is a {kind}; it must give batches: a tf.data.Dataset, a list, "
            "or a generator, not the function that makes one"
        )
    # Not iter(source) is source: that would use up an order of a shuffled Dataset.
    if steps is None and epochs > 1 and isinstance(source, Iterator):
        raise ValueError(
            f"{name} is a {kind}, which can be gone through once, and there are "
            f"{epochs} epochs; pass a list or tf.data.Dataset, or, beside x, "
            "steps_per_epoch, so that each epoch takes that many batches of it"
        )
    if steps is None and _endless(source):
        raise ValueError(
            f"{name} is a {kind} without an end, and an epoch must have one; "
            "end it by .take(n), or pass steps_per_epoch beside x"
        )


def _endless(source: Any) -> bool:
    """Whether a `tf.data.Dataset` says that it has no end."""
    try:
        return bool(source.cardinality() == ENDLESS)
    except (AttributeError, RuntimeError, TypeError):  # no Dataset, or in a graph
        return False
