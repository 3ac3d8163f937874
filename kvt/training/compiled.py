"""The loop of `fit` as a graph: many steps in one call of a `tf.function`.

A call of a graph takes as long as many steps do. Here k steps, or all steps of an
epoch, are one graph. It cuts the batches on the device and returns the metrics of all
steps together. They are added up as in the loop, in the same order and dtype, so
weights and history equal those of single steps bit for bit.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from kvt import data
from kvt.data import Array
from kvt.training.batches import BatchedRows, Batches
from kvt.training.means import Mean, RunningMeans, Step

MetricTensors = dict[str, tf.Tensor]
# Two parts: the stacked metrics of the full batches, those of the smaller last batch.
MetricArrays = list[dict[str, Array]]
Execution = Callable[[Array], MetricArrays]  # of the examples at the rows given
BatchAt = Callable[[Any, int], tuple[tf.Tensor, ...]]  # from its first row and size
UNROLLED = 8  # steps per round of tf.while_loop, which costs as much as operations


class StackedMean(Mean):
    """A `Mean` that takes the metrics of many batches at once."""

    @np.errstate(over="ignore", invalid="ignore")
    def update_all(self, logs: Mapping[str, Array], examples: int) -> None:
        """Add batches of `examples` each; `logs` holds what `update` takes, stacked.

        The totals have the same bits as after one `update` per batch.
        """
        for name, values in logs.items():
            number = values.dtype.type
            if values.ndim > 1:
                totals = values.reshape(len(values), -1).sum(axis=1)
            else:
                totals = values * number(examples)
            totals[0] = self.totals.get(name, number(0)) + totals[0]
            # One after the other: `sum` adds pairs, and so rounds differently.
            self.totals[name] = np.add.accumulate(totals)[-1]
        self.examples += examples * len(values)


def runner(
    step: Step, batches: Batches, steps_per_execution: int | str, jit_compile: bool
) -> Callable[[], RunningMeans]:
    """Return a function that runs the step on all batches, many steps per call.

    A whole epoch gathers its batches in the graph; it copies the arrays only if
    TensorFlow cannot read them in place (see `data.empty`). Executions of fewer steps
    are gathered by NumPy, one at a time.

    Raises ValueError for a `BatchStream`.
    """
    if not isinstance(batches, BatchedRows):
        raise ValueError(
            "steps_per_execution and jit_compile need x and y as arrays, but here "
            "batches come one by one; pass arrays x and y, and validation_data as a "
            "tuple of arrays, or use steps_per_execution=1 and jit_compile=False"
        )
    size, order = batches.batch_size, batches.order
    steps = (
        batches.steps if steps_per_execution == "epoch" else int(steps_per_execution)
    )
    starts = range(0, len(order), steps * size)
    parts = [order[start : start + steps * size] for start in starts]
    build = _whole_epoch if len(parts) == 1 else _some_steps
    execute = build(step, batches, jit_compile)

    def run() -> RunningMeans:
        mean = StackedMean()
        for number, part in enumerate(parts):
            full, last = execute(part)
            if full:
                mean.update_all(full, size)
            if last:
                mean.update(last, len(part) % size)
            # Keras counts whole executions, even beyond the last step of the epoch.
            yield (number + 1) * steps - 1, mean.result()

    return run


def _whole_epoch(step: Step, batches: BatchedRows, jit_compile: bool) -> Execution:
    """Return a function that runs an epoch; its graph holds the examples in order.

    Arguments would be bound and checked in each call, which takes longer than a short
    epoch even if there are none; `call_flat` does not check.
    """
    examples = tuple(map(_in_place, batches.rows))
    order = tf.constant(batches.order, tf.int32)

    def batch_at(start: Any, size: int) -> tuple[tf.Tensor, ...]:
        rows = tf.slice(order, [start], [size])
        return tuple(tf.gather(array, rows) for array in examples)

    @functools.cache  # traced in the first epoch
    def traced() -> Any:
        n, size = len(batches.order), batches.batch_size
        function = tf.function(
            lambda: _steps_in_graph(step, batch_at, n, size, jit_compile),
            autograph=False,
            jit_compile=jit_compile,
        ).get_concrete_function()
        names = tuple(map(sorted, function.structured_outputs))  # as tf.nest sorts them
        return function, function.captured_inputs, names

    def execute(_: Array) -> MetricArrays:
        function, captured, parts = traced()
        values = (each.numpy() for each in function.inference_fn.call_flat(*captured))
        return [{name: next(values) for name in names} for names in parts]

    return execute


def _some_steps(step: Step, batches: BatchedRows, jit_compile: bool) -> Execution:
    """Return a function that copies some examples to the device and runs steps."""

    def run(*examples: tf.Tensor) -> tuple[MetricTensors, MetricTensors]:
        def batch_at(start: Any, size: int) -> tuple[tf.Tensor, ...]:
            return tuple(_rows(array, start, size) for array in examples)

        n, size = examples[0].shape[0], batches.batch_size
        return _steps_in_graph(step, batch_at, n, size, jit_compile)

    graph = tf.function(run, autograph=False, jit_compile=jit_compile)

    def execute(order: Array) -> MetricArrays:
        parts = graph(*(_take(array, order) for array in batches.rows))
        return [{name: v.numpy() for name, v in part.items()} for part in parts]

    return execute


def _steps_in_graph(
    step: Step, batch_at: BatchAt, n: int, size: int, jit_compile: bool
) -> tuple[MetricTensors, MetricTensors]:
    """Run the step on n examples, batch after batch; return both parts of the metrics.

    A part is empty if there is no such batch.
    """
    full, rest = divmod(n, size)
    stacked: MetricTensors = {}
    if full:
        unrolled = 1 if jit_compile else UNROLLED
        stacked = _loop(lambda i: step(*batch_at(i * size, size)), full, unrolled)
    return stacked, dict(step(*batch_at(full * size, rest))) if rest else {}


def _loop(
    step: Callable[[Any], Mapping[str, tf.Tensor]], count: int, unrolled: int
) -> MetricTensors:
    """Call `step(i)` for i < count, `unrolled` times per round; stack the metrics."""

    def some_calls(start: Any, calls: int) -> MetricTensors:
        logs = [step(start + i) for i in range(calls)]
        return {name: tf.stack([each[name] for each in logs]) for name in logs[0]}

    # Outside the loop, at least one call: it shows what metrics the step returns.
    before = 1 + (count - 1) % unrolled
    first = some_calls(0, before)
    rounds = (count - before) // unrolled
    if not rounds:
        return first

    def one_round(i: tf.Tensor, stored: Any) -> Any:
        logs = some_calls(before + i * unrolled, unrolled)
        return i + 1, {name: stored[name].write(i, logs[name]) for name in logs}

    stored = {}
    for name, values in first.items():
        shape = unrolled, *values.shape[1:]
        stored[name] = tf.TensorArray(values.dtype, rounds, element_shape=shape)
    _, stored = tf.while_loop(
        lambda i, _: i < rounds, one_round, (0, stored), parallel_iterations=1
    )
    return {name: tf.concat([first[name], stored[name].concat()], 0) for name in first}


def _rows(array: tf.Tensor, start: Any, size: int) -> tf.Tensor:
    """Return rows of a known shape; a slice of the first axis copies nothing."""
    others = array.shape[1:]
    return tf.slice(array, [start, *(0 for _ in others)], [size, *others])


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
