"""The loop of `fit` as a graph: many steps in one call of a `tf.function`.

A call of a graph takes as long as many steps do. Here k steps, or all steps of an
epoch, are one graph. It cuts the batches on the device and returns the metrics of all
steps together. They are added up as in the loop, in the same order and dtype, so
weights and history equal those of single steps bit for bit.

Two rules keep the bits. The sizes of batches are arguments of the graph, not constants,
because TensorFlow would regroup products with a constant; they are constants if the
step was traced with one, and under XLA, which may round differently anyway. And a step
that draws random numbers is in the graph once, because each copy would draw the same
numbers.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Any

import numpy as np
import tensorflow as tf

from kvt import data
from kvt.data import Array
from kvt.training import checks
from kvt.training.batches import Batch, BatchedRows, Batches
from kvt.training.means import Mean, RunningMeans, Step, examples_in, per_example
from kvt.training.steps import OpenStep, Traced

Sizes = tuple[int, ...]
RowsOf = Callable[[Any, int], list[tf.Tensor]]  # of the batches i, …, i + n - 1
UNROLLED = 8  # steps per round of tf.while_loop, which costs as much as operations


@dataclass(frozen=True, eq=False)
class Execution:
    """The batches of the steps that run in one call."""

    examples: Batch  # tensors
    order: Array  # of the examples
    sizes: Sizes  # of the batches

    @cached_property
    def inputs(self) -> tuple[Any, ...]:
        """The graph's arguments; the last one has the bounds of the batches."""
        bounds = [[0], *([end] for end in itertools.accumulate(self.sizes))]
        return self.examples, tf.constant(self.order, tf.int32), tf.constant(bounds)

    @cached_property
    def flat(self) -> Sequence[tf.Tensor]:
        """The same, one after the other."""
        flat: Sequence[tf.Tensor] = tf.nest.flatten(self.inputs)
        return flat

    @property
    def alike(self) -> bool:
        """Whether all batches but the last have one size, and the last is no larger."""
        return len({*self.sizes[:-1]}) <= 1 and self.sizes[-1] <= self.sizes[0]


def runner(
    step: Step, batches: Batches, steps_per_execution: int | str, jit_compile: bool
) -> Callable[[], RunningMeans]:
    """Return a function that runs the step on all batches, many steps per call."""
    if not isinstance(step, OpenStep):
        step = OpenStep(step, "step", steps_per_execution, jit_compile)
    steps = None if steps_per_execution == "epoch" else int(steps_per_execution)
    graph_of: Callable[[Execution], Graph] = partial(_graph, step, jit_compile)
    rows = None
    if isinstance(batches, BatchedRows):
        rows = list(_executions_of_rows(batches, steps or batches.steps))
        graph_of = cache(graph_of)

    def run() -> RunningMeans:
        mean = Mean()
        for number, execution in enumerate(rows or _executions(batches, steps)):
            totals = graph_of(execution).totals(execution)
            mean.add(totals, sum(execution.sizes))
            # Keras counts whole executions, even beyond the last step of the epoch.
            yield (number + 1) * (steps or len(execution.sizes)) - 1, mean.result()

    return run


def _executions_of_rows(batches: BatchedRows, steps: int) -> Iterator[Execution]:
    """Yield an epoch's executions of so many steps, which gather their examples.

    The arrays are copied only if TensorFlow cannot read them in place (`data.empty`).
    """
    examples = tf.nest.map_structure(_in_place, batches.rows)
    count = steps * batches.batch_size
    for start in range(0, len(batches.order), count):
        order = batches.order[start : start + count]
        full, rest = divmod(len(order), batches.batch_size)
        sizes = (batches.batch_size,) * full + ((rest,) if rest else ())
        yield Execution(examples, order, sizes)


def _executions(batches: Batches, steps: int | None) -> Iterator[Execution]:
    """Yield so many batches at a time, or all, one after another in one tensor."""
    source = iter(batches)
    while some := list(itertools.islice(source, steps)):
        for parts in zip(*map(tf.nest.flatten, some), strict=True):
            checks.alike(parts)
        examples = tf.nest.map_structure(lambda *parts: tf.concat(parts, 0), *some)
        sizes = tuple(examples_in(batch[0]) for batch in some)
        yield Execution(examples, np.arange(sum(sizes)), sizes)


@dataclass(frozen=True)
class Graph:
    """The graph of some steps, and their metrics by name: whether per example."""

    function: Any
    captured: Sequence[Any]
    per_example: dict[str, bool]

    @np.errstate(over="ignore", invalid="ignore")  # `fit` reports it
    def totals(self, execution: Execution) -> dict[str, Array]:
        """Run the steps; return each metric's total over each batch.

        Arguments would be bound and checked in each call, which takes longer than a
        short epoch; `call_flat` does not check.
        """
        run = self.function.inference_fn.call_flat
        (values,) = run(*execution.flat, *self.captured)
        rows = values.numpy()  # (steps, metrics)
        sizes = np.array(execution.sizes, rows.dtype)
        columns, totals = iter(rows.T), {}
        for name, each in self.per_example.items():
            totals[name] = next(columns)
            if not each:
                totals[name] = totals[name] * sizes
            elif ((lengths := next(columns)) != sizes).any():
                for length, size in zip(lengths, execution.sizes, strict=True):
                    per_example(name, (int(length),), size)  # or one for all
                totals[name] = np.where(
                    lengths == sizes, totals[name], totals[name] * sizes
                )
        return totals


def _graph(step: OpenStep, jit_compile: bool, execution: Execution) -> Graph:
    """Return the graph for an execution, traced when it is first needed.

    The step keeps it, so that random operations continue in the next training.
    """
    traced = step.only or step.traced(execution.examples)
    sizes: Sizes | int | None = len(execution.sizes)
    if jit_compile:
        sizes = execution.sizes
    elif traced.draws or not execution.alike:
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
    known = isinstance(sizes, tuple)
    per_example, dtype = traced.metrics()
    width = len(per_example) + sum(per_example.values())

    def steps(examples: Batch, order: tf.Tensor, bounds: tf.Tensor) -> tf.Tensor:
        def some_steps(rows_of: RowsOf, i: Any, n: int) -> tf.Tensor:
            batches = [_batch(rows, examples, traced) for rows in rows_of(i, n)]
            return _columns([traced(*batch) for batch in batches], per_example, dtype)

        parts = [
            _loop(partial(some_steps, rows_of), count, unrolled, width, dtype)
            for rows_of, count, unrolled in _parts(order, bounds, sizes, traced.size)
        ]
        return tf.concat(parts, 0)

    def specification(each: tf.Tensor) -> tf.TensorSpec:
        return tf.TensorSpec(
            [each.shape[0] if known else None, *each.shape[1:]], each.dtype
        )

    graph = tf.function(steps, autograph=False, jit_compile=known)
    specs = tf.nest.map_structure(specification, execution.inputs)
    function = graph.get_concrete_function(*specs)
    return Graph(function, function.captured_inputs, per_example)


def _parts(
    order: tf.Tensor, bounds: tf.Tensor, sizes: Sizes | int | None, size: int | None
) -> Iterator[tuple[RowsOf, Any, int]]:
    """Yield the parts of an execution: rows, number of steps, and steps per round."""
    if isinstance(sizes, tuple):
        begin = 0
        for known, group in itertools.groupby(sizes):
            count = len(list(group))
            rows = tf.reshape(order[begin : begin + count * known], [count, known])
            yield partial(_full_rows, rows), count, 1
            begin += count * known
    elif sizes is None:
        yield partial(_bounded_rows, order, bounds), tf.shape(bounds)[0] - 1, 1
    elif size is not None:
        rows = tf.reshape(order, [sizes, size])
        yield partial(_full_rows, rows), sizes, UNROLLED
    else:  # the last batch may be smaller
        if sizes > 1:
            rows = tf.reshape(order[: bounds[sizes - 1, 0]], [sizes - 1, -1])
            yield partial(_full_rows, rows), sizes - 1, UNROLLED
        yield partial(_bounded_rows, order, bounds[sizes - 1 :]), 1, 1


def _full_rows(order: tf.Tensor, i: Any, n: int) -> list[tf.Tensor]:
    size = -1 if order.shape[1] is None else order.shape[1]
    rows: list[tf.Tensor] = tf.unstack(tf.slice(order, [i, 0], [n, size]), n)
    return rows


def _bounded_rows(
    order: tf.Tensor, bounds: tf.Tensor, i: Any, n: int
) -> list[tf.Tensor]:
    edges = tf.unstack(tf.slice(bounds, [i, 0], [n + 1, 1]), n + 1)
    return [tf.strided_slice(order, a, b, [1]) for a, b in itertools.pairwise(edges)]


def _batch(rows: tf.Tensor, examples: Batch, traced: Traced) -> Batch:
    """Gather a batch. A Dataset may state its size, which the step then knows too."""

    def gathered(array: tf.Tensor, spec: tf.TensorSpec) -> tf.Tensor:
        part = tf.gather(array, rows)
        unknown = not part.shape.is_fully_defined() and not traced.of_any_size
        known = spec.shape.is_fully_defined()
        return tf.ensure_shape(part, spec.shape) if known and unknown else part

    batch: Batch = tf.nest.map_structure(gathered, examples, traced.specs)
    return batch


def _columns(
    logs: Sequence[Mapping[str, Any]], per_example: Mapping[str, bool], dtype: Any
) -> tf.Tensor:
    """Return the metrics of n steps, (n, metrics), with values per example summed.

    The column after such a sum has the number of values.
    """
    columns = []
    for name, each in per_example.items():
        values = tf.cast(tf.stack([log[name] for log in logs]), dtype)  # (n, …)
        if each:
            if values.shape.rank > 2:
                values = tf.reduce_mean(values, list(range(2, values.shape.rank)))
            number = tf.cast(tf.shape(values)[1], dtype)
            columns += [tf.reduce_sum(values, 1), tf.fill([len(logs)], number)]
        else:
            columns.append(tf.reshape(values, [len(logs)]))
    return tf.stack(columns, 1)


def _loop(
    some_steps: Callable[[Any, int], tf.Tensor],
    count: Any,
    unrolled: int,
    width: int,
    dtype: Any,
) -> tf.Tensor:
    """Run `count` steps, `unrolled` of them per round; return their metrics."""
    if isinstance(count, int) and count <= unrolled:
        return some_steps(0, count)
    before = count % unrolled if unrolled > 1 else 0
    first = [some_steps(0, before)] if before else []

    def one_round(i: tf.Tensor, stored: tf.TensorArray) -> tuple[Any, Any]:
        return i + 1, stored.write(i, some_steps(before + i * unrolled, unrolled))

    rounds = count // unrolled
    stored = tf.TensorArray(dtype, rounds, element_shape=(unrolled, width))
    _, stored = tf.while_loop(
        lambda i, _: i < rounds, one_round, (0, stored), parallel_iterations=1
    )
    return tf.concat([*first, stored.concat()], 0)


def _in_place(array: Array) -> tf.Tensor:
    """Return an array as a tensor, without a copy if its memory allows it.

    DLPack would share other memory too, and TensorFlow's operations then crash.
    """
    aligned = array.ctypes.data % data.ALIGNMENT == 0
    if aligned and array.flags.c_contiguous and array.flags.writeable:
        return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
    return tf.constant(array)
