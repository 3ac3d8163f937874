"""The loop of `fit` as a graph: many steps in one call of a `tf.function`.

A call of a graph takes as long as many steps do. Here k steps, or all steps of an
epoch, are one graph. It cuts the batches on the device and returns the metrics of all
steps together. They are added up as in the loop, in the same order and dtype, so
weights and history equal those of single steps bit for bit.

Two rules keep the bits. The sizes of batches are arguments of the graph, not constants,
because TensorFlow would regroup products with a constant. And a step that draws random
numbers is in the graph once, because each copy would draw the same numbers. Under XLA,
which may round differently anyway, sizes are constants.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import tensorflow as tf

from kvt import data
from kvt.data import Array
from kvt.training.batches import Batch, BatchedRows, Batches
from kvt.training.means import Mean, RunningMeans, Step, examples_in, per_example
from kvt.training.steps import OpenStep, Traced

Sizes = tuple[int, ...]
Cut = Callable[[tf.Tensor], tf.Tensor]  # from an array to its rows in a batch
Cuts = Callable[[Any, int], list[Cut]]  # for the batches i, …, i + n - 1
SomeSteps = Callable[[Any, int], tf.Tensor]  # the metrics of these steps
UNROLLED = 8  # steps per round of tf.while_loop, which costs as much as operations


@dataclass(frozen=True)
class Execution:
    """The examples of the steps that run in one call."""

    examples: Batch
    sizes: Sizes  # of the batches
    order: Array | None = None  # of the examples, if the graph gathers them

    @cached_property
    def inputs(self) -> tuple[Any, ...]:
        """The graph's arguments; the last one has the first row of each batch."""
        bounds = tf.constant(
            [[0], *([end] for end in itertools.accumulate(self.sizes))]
        )
        order = () if self.order is None else (tf.constant(self.order, tf.int32),)
        return self.examples, order, bounds

    @cached_property
    def flat(self) -> Sequence[tf.Tensor]:
        """The same, one after the other."""
        flat: Sequence[tf.Tensor] = tf.nest.flatten(self.inputs)
        return flat


def runner(
    step: Step, batches: Batches, steps_per_execution: int | str, jit_compile: bool
) -> Callable[[], RunningMeans]:
    """Return a function that runs the step on all batches, many steps per call."""
    if not isinstance(step, OpenStep):
        step = OpenStep(step, "step", steps_per_execution, jit_compile)
    steps = None if steps_per_execution == "epoch" else int(steps_per_execution)
    whole = None
    if isinstance(batches, BatchedRows) and batches.steps <= (steps or batches.steps):
        whole = [_whole_epoch(batches)]

    def run() -> RunningMeans:
        mean = Mean()
        for number, execution in enumerate(whole or _executions(batches, steps)):
            graph = _graph(step, execution, jit_compile)
            mean.add(graph.totals(execution), sum(execution.sizes))
            # Keras counts whole executions, even beyond the last step of the epoch.
            yield (number + 1) * (steps or len(execution.sizes)) - 1, mean.result()

    return run


def _whole_epoch(batches: BatchedRows) -> Execution:
    """Return an epoch, to be gathered in the graph.

    The arrays are copied only if TensorFlow cannot read them in place (`data.empty`).
    """
    sizes = _sizes(len(batches.order), batches.batch_size)
    examples = tf.nest.map_structure(_in_place, batches.rows)
    return Execution(examples, sizes, batches.order)


def _executions(batches: Batches, steps: int | None) -> Iterator[Execution]:
    """Yield so many batches at a time, with copies of their examples, in order."""
    if isinstance(batches, BatchedRows):
        count = (steps or batches.steps) * batches.batch_size
        for start in range(0, len(batches.order), count):
            take = partial(_take, order=batches.order[start : start + count])
            rows = tf.nest.map_structure(take, batches.rows)
            n = min(count, len(batches.order) - start)
            yield Execution(rows, _sizes(n, batches.batch_size))
        return
    source = iter(batches)
    while some := list(itertools.islice(source, steps)):
        examples = tf.nest.map_structure(lambda *parts: tf.concat(parts, 0), *some)
        yield Execution(examples, tuple(examples_in(batch[0]) for batch in some))


def _sizes(n: int, size: int) -> Sizes:
    """Return the sizes of the batches of n examples."""
    full, rest = divmod(n, size)
    return (size,) * full + ((rest,) if rest else ())


@dataclass(frozen=True)
class Graph:
    """The graph of some steps, and their metrics by name: whether per example."""

    function: Any
    per_example: dict[str, bool]

    @np.errstate(over="ignore", invalid="ignore")  # `fit` reports it
    def totals(self, execution: Execution) -> dict[str, Array]:
        """Run the steps; return each metric's total over each batch.

        Arguments would be bound and checked in each call, which takes longer than a
        short epoch; `call_flat` does not check.
        """
        captured = self.function.captured_inputs
        (values,) = self.function.inference_fn.call_flat(*execution.flat, *captured)
        rows = values.numpy().reshape(len(execution.sizes), -1)
        sizes = np.array(execution.sizes, rows.dtype)
        columns, totals = iter(rows.T), {}
        for name, each in self.per_example.items():
            total = next(columns)
            lengths: Any = next(columns) if each else 1
            for wrong in np.flatnonzero((lengths != sizes) & (lengths != 1)):
                per_example(name, (int(lengths[wrong]),), execution.sizes[wrong])
            totals[name] = np.where(lengths == sizes, total, total * sizes)
        return totals


def _graph(step: OpenStep, execution: Execution, jit_compile: bool) -> Graph:
    """Return the graph for an execution, traced when it is first needed.

    The step keeps it, so that random operations continue in the next training.
    """
    traced = step.only or step.traced(execution.examples)
    sizes: Any = execution.sizes if jit_compile else len(execution.sizes)
    if traced.draws and not jit_compile:
        sizes = None
    shapes = tuple(
        (each.dtype, *each.shape[0 if jit_compile else 1 :]) for each in execution.flat
    )
    graphs = vars(traced.call).setdefault("kvt_graphs", {})
    key = shapes, sizes
    if key not in graphs:
        graphs[key] = _trace(traced, execution, sizes)
    found: Graph = graphs[key]
    return found


def _trace(traced: Traced, execution: Execution, sizes: Sizes | int | None) -> Graph:
    """Trace the steps of an execution: of known sizes, of a known number, or of any."""
    known = sizes if isinstance(sizes, tuple) else None
    per_example, dtype = traced.metrics(known[0] if known else None)
    width = len(per_example) + sum(per_example.values())

    def steps(examples: Batch, order: Any, bounds: tf.Tensor) -> tf.Tensor:
        def some(cut: Cuts, i: Any, n: int) -> tf.Tensor:
            batches = [
                _batch(part, examples, order, traced.specs) for part in cut(i, n)
            ]
            logs = [_numbers(traced(*each), per_example, dtype) for each in batches]
            return tf.stack(list(itertools.chain(*logs)))

        if known is None:
            unrolled = 1 if sizes is None else UNROLLED
            count = tf.shape(bounds)[0] - 1 if sizes is None else sizes
            cut = partial(_open_cuts, bounds)
            return _loop(partial(some, cut), count, unrolled, width, dtype)
        begin, parts = 0, []
        for size, group in itertools.groupby(known):
            count = len(list(group))
            cut = partial(_known_cuts, begin, size)
            parts.append(_loop(partial(some, cut), count, 1, width, dtype))
            begin += count * size
        return tf.concat(parts, 0)

    def spec(each: tf.Tensor) -> tf.TensorSpec:
        return tf.TensorSpec(
            [each.shape[0] if known else None, *each.shape[1:]], each.dtype
        )

    graph = tf.function(steps, autograph=False, jit_compile=known is not None)
    specs = tf.nest.map_structure(spec, execution.inputs)
    return Graph(graph.get_concrete_function(*specs), per_example)


def _open_cuts(bounds: tf.Tensor, i: Any, n: int) -> list[Cut]:
    """Return what cuts the batches i, …, i + n - 1; their sizes are not known."""
    edges = tf.unstack(tf.slice(bounds, [i, 0], [n + 1, 1]), n + 1)
    return [
        partial(tf.strided_slice, begin=begin, end=end, strides=[1])
        for begin, end in itertools.pairwise(edges)
    ]


def _known_cuts(begin: int, size: int, i: Any, n: int) -> list[Cut]:
    """Return what cuts the batches i, …, i + n - 1, all of one size."""
    return [partial(_rows, begin=begin + (i + j) * size, size=size) for j in range(n)]


def _batch(cut: Cut, examples: Batch, order: Any, specs: Batch) -> Batch:
    """Return a batch of the examples, gathered if they have an order."""
    part = partial(tf.gather, indices=cut(order[0])) if order else cut

    def of_its_size(array: tf.Tensor, spec: tf.TensorSpec) -> tf.Tensor:
        known = spec.shape.is_fully_defined()  # a Dataset says so
        return tf.ensure_shape(part(array), spec.shape) if known else part(array)

    batch: Batch = tf.nest.map_structure(of_its_size, examples, specs)
    return batch


def _numbers(
    logs: Mapping[str, Any], per_example: Mapping[str, bool], dtype: Any
) -> Iterator[tf.Tensor]:
    """Yield each metric's mean, or its total and its number of values, as scalars."""
    for name, each in per_example.items():
        value = tf.cast(logs[name], dtype)
        if not each:
            yield tf.reshape(value, ())
            continue
        if value.shape.rank > 1:
            value = tf.reduce_mean(value, list(range(1, value.shape.rank)))
        yield tf.reduce_sum(value)
        yield tf.cast(tf.size(value), dtype)


def _loop(
    some: SomeSteps, count: Any, unrolled: int, width: int, dtype: Any
) -> tf.Tensor:
    """Return the metrics of `count` steps, `unrolled` of them per round."""
    before = 0 if unrolled == 1 else count % unrolled
    first = [some(0, before)] if before else []
    rounds = count // unrolled
    if isinstance(rounds, int) and rounds == 0:
        return first[0]

    def one_round(i: tf.Tensor, stored: tf.TensorArray) -> tuple[Any, Any]:
        return i + 1, stored.write(i, some(before + i * unrolled, unrolled))

    stored = tf.TensorArray(dtype, rounds, element_shape=(unrolled * width,))
    _, stored = tf.while_loop(
        lambda i, _: i < rounds, one_round, (0, stored), parallel_iterations=1
    )
    return tf.concat([*first, stored.concat()], 0)


def _rows(array: tf.Tensor, begin: Any, size: int) -> tf.Tensor:
    """Return rows of a known number; a slice of the first axis copies nothing."""
    others = array.shape[1:]
    return tf.slice(array, [begin, *(0 for _ in others)], [size, *others])


def _in_place(array: Array) -> tf.Tensor:
    """Return an array as a tensor, without a copy if its memory allows it.

    DLPack would share other memory too, and TensorFlow's operations then crash.
    """
    aligned = array.ctypes.data % data.ALIGNMENT == 0
    if aligned and array.flags.c_contiguous and array.flags.writeable:
        return _shared(array)
    return tf.constant(array)


def _take(array: Array, order: Array) -> tf.Tensor:
    """Copy rows to memory that TensorFlow reads without a second copy."""
    rows = data.empty((len(order), *array.shape[1:]), array.dtype)
    np.take(array, order, axis=0, out=rows, mode="clip")  # "raise" would copy twice
    return _shared(rows)


def _shared(array: Array) -> tf.Tensor:
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
