"""The batches of an epoch: cut from arrays, or taken from a Dataset, list or generator.

A batch is a tuple with as many parts as its step has arguments: `(x, y)`, or with
sample weights `(x, y, sample_weight)`.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kvt import data
from kvt.data import Array
from kvt.training import checks

Batch = tuple[Any, ...]
Rows = tuple[Array, ...]  # arrays of the same length: row i of each is example i


def as_rows(named: Mapping[str, Any]) -> Rows:
    """Return the parts that are not None, as arrays. Raises ValueError."""
    rows = {name: np.asarray(part) for name, part in named.items() if part is not None}
    checks.rows(rows)
    return tuple(rows.values())


def hold_back(rows: Rows, validation_split: float) -> tuple[Rows, Rows | None]:
    """Cut the tail off: return the rows to train on, and the tail to validate on.

    With a `validation_split` of 0 there is no tail. Raises ValueError as `data.split`.
    """
    if validation_split == 0:
        return rows, None
    n = data.split(len(rows[0]), validation_split)
    return tuple(array[:n] for array in rows), tuple(array[n:] for array in rows)


@dataclass(frozen=True)
class BatchedRows:
    """Rows cut into batches, in a given order; the last batch may be smaller."""

    rows: Rows
    order: Array
    batch_size: int

    @property
    def steps(self) -> int:
        """The number of batches per epoch."""
        return math.ceil(len(self.order) / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, len(self.order), self.batch_size):
            batch = self.order[start : start + self.batch_size]
            yield tuple(array[batch] for array in self.rows)


@dataclass
class BatchStream:
    """Batches taken one by one from a `tf.data.Dataset`, a list or a generator.

    An epoch goes through all of `source`. With `steps_per_epoch` it takes that many
    batches; the next epoch continues there, or starts again if `source` has ended.
    Iterators and batches are requested only when needed: each new iterator of a
    shuffled Dataset has a new order. `name` is used in error messages.

    Raises TypeError if `source` gives no batches. Raises ValueError if `source` cannot
    give `epochs` epochs, and if it ends within an epoch, where Keras only warns.
    """

    source: Iterable[Batch]
    name: str
    epochs: int
    steps_per_epoch: int | None = None

    def __post_init__(self) -> None:
        checks.source(self.source, self.name, self.epochs, self.steps_per_epoch)
        self.unfinished: Iterator[Batch] = iter(())

    @property
    def steps(self) -> int | None:
        """The number of batches per epoch; None if it is unknown until the end."""
        try:
            return self.steps_per_epoch or len(self.source)  # type: ignore[arg-type]
        except TypeError:
            return None

    def __iter__(self) -> Iterator[Batch]:
        count = 0
        for batch in self.next_epoch():
            checks.batch(batch, self.name)
            yield tuple(batch)
            count += 1
        checks.whole_epoch(count, self.name, self.epochs, self.steps_per_epoch)

    def next_epoch(self) -> Iterator[Batch]:
        """Start again; with `steps_per_epoch`, continue where the last epoch ended."""
        if self.steps_per_epoch is None:
            return iter(self.source)
        batches = itertools.islice(self.unfinished, self.steps_per_epoch)
        first = next(batches, None)
        if first is None:  # the first epoch, or the source ended with the last one
            self.unfinished = iter(self.source)
            return itertools.islice(self.unfinished, self.steps_per_epoch)
        return itertools.chain([first], batches)


Batches = BatchedRows | BatchStream


def in_order(rows: Rows, batch_size: int) -> BatchedRows:
    """Return batches of rows in their own order, to validate, evaluate or predict."""
    return BatchedRows(rows, np.arange(len(rows[0])), batch_size)


def validation_batches(
    given: tuple[Any, ...] | Iterable[Batch], batch_size: int, epochs: int
) -> Batches:
    """Return the batches of `validation_data`: a tuple of arrays, or batches."""
    if not isinstance(given, tuple):
        return BatchStream(given, "validation_data", epochs)
    checks.parts(given)
    names = [f"{part} of validation_data" for part in ("x", "y", "sample_weight")]
    return in_order(as_rows(dict(zip(names, given, strict=False))), batch_size)
