"""The batches of an epoch: cut from arrays, or taken from a Dataset, list or generator.

A batch is a tuple with as many parts as its step has arguments: `(x, y)`, or with
sample weights `(x, y, sample_weight)`.
"""

import itertools
import math
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
    length has ended, or if the stream `restarts`, as for validation. A `PyDataset` is
    told of epochs as in Keras; `order` is shuffle and seed: if shuffled, each epoch has
    the order of Keras after `keras.utils.set_random_seed(seed)`. `class_weight` adds
    sample weights; `only_x` drops the other parts of a batch. `name` is for messages.

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
    order: tuple[bool | str, int] = (False, 0)

    def __post_init__(self) -> None:
        self.length, per_epoch = known_length(self.source), self.steps_per_epoch
        checks.source(self.source, self.name, self.epochs, per_epoch, self.restarts)
        if not self.only_x:
            checks.first_batch(self.source, self.name)
        if per_epoch and self.length:
            enough = per_epoch if self.restarts else per_epoch * self.epochs
            if self.length < enough and self.length % per_epoch:
                count = self.length % per_epoch
                checks.whole_epoch(count, self.name, self.epochs, per_epoch)
        self.random = random.Random(self.order[1])
        self.ended = 0  # epochs that a `PyDataset` was told of
        self.current: Iterator[Any] | None = None
        self.taken = 0  # batches, from `current`

    @property
    def steps(self) -> int | None:
        """The number of batches per epoch; None if it is unknown until the end."""
        return self.steps_per_epoch or self.length

    @property
    def parts(self) -> int | None:
        """The number of parts of a batch; None if it is unknown."""
        if self.class_weight is not None:
            return 3
        if isinstance(self.source, BatchedRows):
            return self.source.parts
        spec = getattr(self.source, "element_spec", None)  # of a tf.data.Dataset
        return len(spec) if isinstance(spec, tuple) else None

    def __iter__(self) -> Iterator[Batch]:
        if (self.restarts or self.current is None) and not self.only_x:
            self.tell("on_epoch_end")  # Keras does so before the first epoch, too
        self.tell("on_epoch_begin")
        if self.restarts or self.current is None or self.steps_per_epoch is None:
            self.begin()
        assert self.current is not None
        count = 0
        for batch in itertools.islice(self.current, self.steps_per_epoch):
            yield self.checked(batch)
            count += 1
        checks.whole_epoch(count, self.name, self.epochs, self.steps_per_epoch)
        self.taken += count
        if self.taken == self.length:
            # Keras begins again even if the next epoch does so, too: then a shuffled
            # Dataset trains in its first, third and fifth order.
            self.begin()
        self.tell("on_epoch_end")

    def begin(self) -> None:
        """Start again from the first batch."""
        known = checks.is_py_dataset(self.source)
        self.current = self.in_order() if known else iter(self.source)
        self.taken = 0

    def in_order(self) -> Iterator[Any]:
        """Yield the batches of a `PyDataset`, in Keras's order."""
        order: Any = itertools.count() if self.length is None else range(self.length)
        if self.order[0] and self.length is not None:
            order = list(order)
            by_seed = data.keras_before("3.16")
            (self.random if by_seed else random.Random(self.ended)).shuffle(order)
        yield from map(self.source.__getitem__, order)

    def checked(self, batch: Any) -> Batch:
        """Return a batch as a tuple of parts."""
        if self.only_x:
            return (batch[0] if isinstance(batch, tuple | list) else batch,)
        checks.batch(batch, self.name)
        if len(batch) == 3 and batch[2] is None:  # Keras: no weights
            batch = batch[:2]
        return weighted(batch, self.class_weight) if self.class_weight else tuple(batch)

    def tell(self, hook: str) -> None:
        """Tell a `PyDataset` that an epoch begins or ends."""
        getattr(self.source, hook, lambda: None)()
        self.ended += hook == "on_epoch_end"


Batches = BatchedRows | BatchStream


def stops_early(batches: Batches) -> bool:
    """Return whether an epoch may leave batches out."""
    if isinstance(batches, BatchedRows):
        return len(batches.order) < length(batches.rows)
    return batches.steps_per_epoch not in (None, batches.length)


def known_length(source: Any) -> int | None:
    """Return the number of batches, None if it is unknown."""
    if checks.is_py_dataset(source):
        return None if source.num_batches is None else int(source.num_batches)
    try:
        return len(source)
    except TypeError:  # a generator, or a Dataset that does not know
        return None


def read_training(
    step: Any,
    parts: Rows,
    validation_split: float,
    class_weight: Mapping[int, float] | None,
    size: tuple[int | None, int | None, int],
    order: tuple[bool | str, int],
) -> tuple[Batches, Rows | None]:
    """Return the batches to train on, and the rows held back for validation, if any.

    `parts` are x, y and sample_weight; without y, x gives batches. `size` is the batch
    size, the steps per epoch and the number of epochs, `order` is shuffle and seed.
    """
    x, y, sample_weight = parts
    batch_size, steps, epochs = size
    if class_weight is not None:
        checks.class_weight(class_weight, sample_weight)
    if y is None:
        checks.no_rows_needed(validation_split, sample_weight)
        stream = BatchStream(
            x, "x", epochs, steps, class_weight=class_weight, order=order
        )
        return stream, None
    rows, tail = hold_back(read(step, parts), validation_split)
    if class_weight is not None:
        rows = weighted(rows, class_weight)
    batch_size = size_of(rows, batch_size, steps)
    (shuffle, seed), visited = order, np.arange(length(rows))
    if shuffle:
        within = batch_size if shuffle == "batch" else None
        visited = data.example_order(len(visited), seed, within)
    batches = BatchedRows(rows, visited, batch_size)
    if steps in (None, batches.steps):
        return batches, tail
    return BatchStream(batches, "x", epochs, steps), tail


def read_in_order(
    step: Any,
    parts: Rows,
    batch_size: int | None,
    steps: int | None,
    only_x: bool = False,
) -> Batches:
    """Return the batches to evaluate or predict: of rows, or as x gives them."""
    x, y, sample_weight = parts
    if checks.gives_batches(x) if only_x else y is None:
        checks.no_rows_needed(0.0, sample_weight)
        return BatchStream(x, "x", 1, steps, restarts=True, only_x=only_x)
    return in_order(read(step, parts), batch_size, steps)


def read_validation(
    step: Any,
    given: Any,
    size: tuple[int | None, int | None],
    epochs: int,
    training: Batches,
) -> Batches:
    """Return the batches of `validation_data`: a tuple of arrays, or batches.

    A list `[x, y]` is taken for a tuple, as in Keras, unless it is one of batches: if
    it holds tuples only, and there is one input to train on.
    """
    if isinstance(given, list) and len(given) in (2, 3):
        tuples = all(isinstance(part, tuple | list) for part in given)
        if not tuples or has_several_inputs(training, given):
            given = tuple(given)
    if not isinstance(given, tuple):
        return BatchStream(given, "validation_data", epochs, size[1], restarts=True)
    checks.parts(given)
    rows = read(step, given, " of validation_data")
    return in_order(rows, *size, "validation_data")


def has_several_inputs(batches: Batches, given: list[Any]) -> bool:
    """Return whether the x of a batch is nested, or, beside a generator, of `given`."""
    source: Any = batches if isinstance(batches, BatchedRows) else batches.source
    parts = getattr(source, "rows", None) or getattr(source, "element_spec", None)
    if parts is None and not hasattr(source, "__getitem__"):
        shapes = [[getattr(e, "shape", ())[1:] for e in part] for part in given]
        return shapes[0] != shapes[1]  # those of batches are equal
    return isinstance((parts or source[0])[0], tuple | list | dict)


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
