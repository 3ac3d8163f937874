"""The batches of an epoch: cut from arrays, or taken from a Dataset, list or generator.

A batch is a tuple with as many parts as its step has arguments: `(x, y)`, or with
sample weights `(x, y, sample_weight)`.
"""

import itertools
import math
import operator
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kvt import data
from kvt.data import Array
from kvt.training import checks
from kvt.training.rows import Rows, length, read, take, weighted

Batch = tuple[Any, ...]


def hold_back(rows: Rows, validation_split: float) -> tuple[Rows, Rows | None]:
    """Cut the tail off: return the rows to train on, and the tail to validate on.

    With a `validation_split` of 0 there is no tail. Raises ValueError as `data.split`.
    """
    if validation_split == 0:
        return rows, None
    n = data.split(length(rows), validation_split)
    return take(rows, slice(n)), take(rows, slice(n, None))


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

    @property
    def parts(self) -> int:
        """The number of parts of a batch."""
        return len(self.rows)

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, len(self.order), self.batch_size):
            yield take(self.rows, self.order[start : start + self.batch_size])


@dataclass
class BatchStream:
    """Batches taken one by one from a `tf.data.Dataset`, a list or a generator.

    An epoch goes through all of `source`. With `steps_per_epoch` it takes that many
    batches; the next epoch continues there, or starts again if a `source` of known
    length has ended, or if the stream `restarts`, as for validation. Iterators and
    batches are requested only when needed: each new iterator of a shuffled Dataset has
    a new order. A `PyDataset` is told of epochs as in Keras. `class_weight` adds sample
    weights; `only_x` drops the other parts of a batch. `name` is used in messages.

    Raises TypeError if `source` gives no batches. Raises ValueError if `source` cannot
    give `epochs` epochs, and if it ends within an epoch, where Keras only warns.
    """

    source: Any
    name: str
    epochs: int
    steps_per_epoch: int | None = None
    restarts: bool = False
    class_weight: Mapping[int, float] | None = None
    only_x: bool = False

    def __post_init__(self) -> None:
        per_epoch = self.steps_per_epoch
        checks.source(self.source, self.name, self.epochs, per_epoch, self.restarts)
        if not self.only_x:
            checks.first_batch(self.source, self.name)
        if per_epoch and (total := known_length(self.source)):
            enough = per_epoch if self.restarts else per_epoch * self.epochs
            if total < enough and (total < per_epoch or total % per_epoch):
                count = total % per_epoch
                checks.whole_epoch(count, self.name, self.epochs, per_epoch)
        self.unfinished: Iterator[Batch] | None = None
        self.begun = False

    @property
    def steps(self) -> int | None:
        """The number of batches per epoch; None if it is unknown until the end."""
        return self.steps_per_epoch or known_length(self.source)

    @property
    def parts(self) -> int | None:
        """The number of parts of a batch; None if it is unknown."""
        if self.class_weight is not None:
            return 3
        return self.source.parts if isinstance(self.source, BatchedRows) else None

    def __iter__(self) -> Iterator[Batch]:
        if self.restarts or not self.begun:
            self.begun = True
            self.tell("on_epoch_end")  # Keras does so before the first epoch, too
        self.tell("on_epoch_begin")
        count = 0
        for batch in self.next_epoch():
            yield self.checked(batch)
            count += 1
        checks.whole_epoch(count, self.name, self.epochs, self.steps_per_epoch)
        self.tell("on_epoch_end")

    def next_epoch(self) -> Iterator[Any]:
        """Start again; with `steps_per_epoch`, continue where the last epoch ended."""
        if self.steps_per_epoch is None:
            return iter(self.source)
        if self.unfinished is not None and not self.restarts:
            batches = itertools.islice(self.unfinished, self.steps_per_epoch)
            for first in batches:
                return itertools.chain([first], batches)
            if known_length(self.source) is None:  # Keras then trains on nothing
                return batches
        self.unfinished = iter(self.source)
        return itertools.islice(self.unfinished, self.steps_per_epoch)

    def checked(self, batch: Any) -> Batch:
        """Return a batch as a tuple of parts."""
        if self.only_x:
            return (batch[0] if isinstance(batch, tuple | list) else batch,)
        checks.batch(batch, self.name)
        return weighted(batch, self.class_weight) if self.class_weight else tuple(batch)

    def tell(self, hook: str) -> None:
        """Tell a `PyDataset` that an epoch begins or ends."""
        getattr(self.source, hook, lambda: None)()


class OrderedBatches:
    """The batches of a `keras.utils.PyDataset`, in Keras's order.

    With `shuffle`, each epoch has another order of batches: that of Keras after
    `keras.utils.set_random_seed(seed)`.
    """

    def __init__(self, source: Any, shuffle: bool | str, seed: int) -> None:
        self.source = source
        self.on_epoch_begin = source.on_epoch_begin
        self.on_epoch_end = source.on_epoch_end
        self.shuffle = random.Random(seed).shuffle if shuffle else lambda order: None

    def __len__(self) -> int:
        """The number of batches. Raises TypeError if they never end."""
        return operator.index(self.source.num_batches)

    def cardinality(self) -> int:
        """The number of batches, in the terms of a `tf.data.Dataset`."""
        n = self.source.num_batches
        return checks.ENDLESS if n is None else int(n)

    def __iter__(self) -> Iterator[Batch]:
        if self.cardinality() == checks.ENDLESS:
            return map(self.source.__getitem__, itertools.count())
        order = list(range(len(self)))
        self.shuffle(order)
        return map(self.source.__getitem__, order)


Batches = BatchedRows | BatchStream


def known_length(source: Any) -> int | None:
    """Return the number of batches, None if it is unknown."""
    try:
        return len(source)
    except TypeError:  # a generator, or a Dataset that does not know
        return None


def in_keras_order(source: Any, shuffle: bool | str, seed: int) -> Any:
    """Return a source of batches, a `PyDataset` with its batches in Keras's order."""
    if any(kind.__name__ == "PyDataset" for kind in type(source).mro()):
        return OrderedBatches(source, shuffle, seed)
    return source


def shuffled(
    rows: Rows,
    shuffle: bool | str,
    seed: int,
    batch_size: int | None,
    steps_per_epoch: int | None,
    epochs: int,
) -> Batches:
    """Return the batches to train on; with `steps_per_epoch`, not all in each epoch."""
    n, size = length(rows), size_of(rows, batch_size, steps_per_epoch)
    order = np.arange(n)
    if shuffle:
        order = data.example_order(n, seed, size if shuffle == "batch" else None)
    batches = BatchedRows(rows, order, size)
    if steps_per_epoch in (None, batches.steps):
        return batches
    return BatchStream(batches, "x", epochs, steps_per_epoch)


def in_order(
    rows: Rows, batch_size: int | None, steps: int | None = None, name: str = "x"
) -> BatchedRows:
    """Return batches of rows in their own order, to validate, evaluate or predict.

    With `steps`, return that many. Raises ValueError if there are fewer.
    """
    n, size = length(rows), size_of(rows, batch_size, steps)
    if steps and math.ceil(n / size) < steps:
        checks.whole_epoch(math.ceil(n / size), name, 1, steps)
    return BatchedRows(rows, np.arange(n)[: steps and steps * size], size)


def size_of(rows: Rows, batch_size: int | None, steps: int | None) -> int:
    """Return the batch size; Keras's default depends on the number of steps."""
    return batch_size or (math.ceil(length(rows) / steps) if steps else 32)


def validation_batches(
    step: Any,
    given: Any,
    batch_size: int | None,
    steps: int | None,
    epochs: int,
    nested: bool,
) -> Batches:
    """Return the batches of `validation_data`: a tuple of arrays, or batches.

    A list `[x, y]` is taken for a tuple, as in Keras, unless it may be one of batches:
    if it holds tuples only, and the x to train on is not `nested`.
    """
    pair = isinstance(given, list) and len(given) in (2, 3)
    if pair and (nested or not all(isinstance(part, tuple | list) for part in given)):
        given = tuple(given)
    if not isinstance(given, tuple):
        source = in_keras_order(given, False, 0)
        return BatchStream(source, "validation_data", epochs, steps, restarts=True)
    checks.parts(given)
    parts = dict(zip(("x", "y", "sample_weight"), given, strict=False))
    rows = read(step, **parts, of=" of validation_data")
    return in_order(rows, batch_size, steps, "validation_data")
