"""The loop of `kvt.training` with many steps in one `tf.function`.

A call into a graph costs as much as many a step. Here k steps, or an epoch's, are one
graph: the batches are cut on the device, the figures of all steps come back together,
and the sums over them are those of the loop, in the same order and dtype. So weights
and history have the bits that they have step by step.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from kvt import data
from kvt.training.batches import Batches, Cut
from kvt.training.means import Mean, Pass, Step

Array = NDArray[Any]
Tensors = tuple[tf.Tensor, ...]
Figures = dict[str, tf.Tensor]
Fetched = tuple[dict[str, Array], dict[str, Array]]
Batch = Callable[[Any, int], Tensors]  # the batch at a row, of so many examples
Run = Callable[[Array], Fetched]
UNROLLED = 8  # steps a round: a round of tf.while_loop costs as much as some operations


class Means(Mean):
    """A `Mean` that takes many batches at once."""

    @np.errstate(over="ignore", invalid="ignore")
    def update_all(self, logs: Mapping[str, Array], examples: int) -> None:
        """Add batches of `examples` each; `logs` has what `update` takes, by batch.

        The sums have the bits of one `update` after the other.
        """
        for name, values in logs.items():
            number = values.dtype.type
            if values.ndim > 1:
                totals = values.reshape(len(values), -1).sum(axis=1)
            else:
                totals = values * number(examples)
            totals[0] = self._totals.get(name, number(0)) + totals[0]
            # One after the other: sum would add in pairs, and round otherwise.
            self._totals[name] = np.add.accumulate(totals)[-1]
        self._count += examples * len(values)


def check(name: str, step: Step) -> None:
    """Refuse a step that cannot stand in a graph. TypeError names the mend."""
    if not isinstance(step, tf.types.experimental.Callable):
        raise TypeError(
            f"{name} is a {type(step).__name__}; several steps a call, or XLA, need a "
            "tf.function; decorate it with @tf.function, or leave "
            "steps_per_execution at 1 and jit_compile at False, as a Session or "
            "NumPy must"
        )


def passes(
    step: Step,
    batches: Batches,
    steps_per_execution: int | str,
    jit_compile: bool,
) -> Callable[[], Pass]:
    """Return a function that goes once through `batches`, some steps at a time.

    `steps_per_execution` is a count of steps, or "epoch"; `jit_compile` compiles them
    together by XLA. An epoch gathers its batches in the graph, from a copy where
    TensorFlow cannot read the arrays in place (`data.empty`); those of fewer steps are
    gathered in NumPy, each time they are needed.

    Raises ValueError where the batches come one by one.
    """
    if not isinstance(batches, Cut):
        raise ValueError(
            "steps_per_execution and jit_compile need rows to cut batches from, and "
            "here batches come one by one; pass arrays x and y, and a tuple as "
            "validation_data, or leave both at 1 and False"
        )
    size = batches.batch_size
    steps = len(batches) if steps_per_execution == "epoch" else int(steps_per_execution)
    cuts = range(0, len(batches.order), steps * size)
    orders = [batches.order[start : start + steps * size] for start in cuts]

    build = _gathered if len(orders) == 1 else _fed
    run = build(step, batches, jit_compile)

    def one_pass() -> Pass:
        mean = Means()
        for execution, order in enumerate(orders):
            full, last = run(order)
            if full:
                mean.update_all(full, size)
            if last:
                mean.update(last, len(order) % size)
            # Keras counts whole executions, beyond the last step if those do not fit.
            yield (execution + 1) * steps - 1, mean.result()

    return one_pass


def _gathered(step: Step, batches: Cut, jit_compile: bool) -> Run:
    """Return what runs a whole epoch: its graph holds the examples and their order.

    As arguments they would be bound and checked at each call, and even to find that
    there are none takes longer than a short epoch: so `call_flat`, which does not.
    """
    examples = tuple(map(_in_place, batches.arrays))
    order = tf.constant(batches.order, tf.int32)

    def batch(start: Any, size: int) -> Tensors:
        rows = tf.slice(order, [start], [size])
        return tuple(tf.gather(array, rows) for array in examples)

    @functools.cache  # traced by the first epoch
    def traced() -> Any:
        function = tf.function(
            lambda: _execute(
                step, batch, len(batches.order), batches.batch_size, jit_compile
            ),
            autograph=False,
            jit_compile=jit_compile,
        ).get_concrete_function()
        names = tuple(map(sorted, function.structured_outputs))  # as tf.nest sorts
        return function, function.captured_inputs, names

    def run(_: Array) -> Fetched:
        function, captured, (full, last) = traced()
        figures = function.inference_fn.call_flat(*captured)
        values = (each.numpy() for each in figures)
        return (
            {name: next(values) for name in full},
            {name: next(values) for name in last},
        )

    return run


def _fed(step: Step, batches: Cut, jit_compile: bool) -> Run:
    """Return what puts some examples on the device, in their order, and runs them."""

    def execute(*examples: tf.Tensor) -> tuple[Figures, Figures]:
        def batch(start: Any, size: int) -> Tensors:
            return tuple(_rows(array, start, size) for array in examples)

        n = examples[0].shape[0]
        return _execute(step, batch, n, batches.batch_size, jit_compile)

    graph = tf.function(execute, autograph=False, jit_compile=jit_compile)

    def run(order: Array) -> Fetched:
        parts = graph(*(_take(array, order) for array in batches.arrays))
        full, last = ({name: v.numpy() for name, v in one.items()} for one in parts)
        return full, last

    return run


def _execute(
    step: Step, batch: Batch, n: int, size: int, jit_compile: bool
) -> tuple[Figures, Figures]:
    """Run a step on batch after batch of n examples, in a graph.

    Returns what it returned for full batches, stacked, and what for the smaller last
    one; either is empty where there is none.
    """
    full, rest = divmod(n, size)
    figures: Figures = {}
    if full:
        unrolled = 1 if jit_compile else UNROLLED
        figures = _loop(lambda i: step(*batch(i * size, size)), full, unrolled)
    last = step(*batch(full * size, rest)) if rest else {}
    return figures, dict(last)


def _loop(
    step: Callable[[Any], Mapping[str, tf.Tensor]], count: int, unrolled: int
) -> Figures:
    """Call `step(i)` for i from 0 to count - 1, in rounds; stack what it returns."""

    def some_steps(start: Any, steps: int) -> Figures:
        logs = [step(start + i) for i in range(steps)]
        return {name: tf.stack([one[name] for one in logs]) for name in logs[0]}

    before = 1 + (count - 1) % unrolled  # at least one, to know what a step returns
    figures = some_steps(0, before)
    rounds = (count - before) // unrolled
    if not rounds:
        return figures

    def one_round(i: tf.Tensor, kept: Any) -> Any:
        logs = some_steps(before + i * unrolled, unrolled)
        return i + 1, {name: kept[name].write(i, logs[name]) for name in logs}

    kept = {
        name: tf.TensorArray(
            values.dtype, rounds, element_shape=(unrolled, *values.shape[1:])
        )
        for name, values in figures.items()
    }
    _, kept = tf.while_loop(
        lambda i, _: i < rounds, one_round, (0, kept), parallel_iterations=1
    )
    return {
        name: tf.concat([values, kept[name].concat()], axis=0)
        for name, values in figures.items()
    }


def _rows(array: tf.Tensor, start: Any, size: int) -> tf.Tensor:
    """Cut rows off, of known shape; along the first axis that copies nothing."""
    begin = [start] + [0] * (array.ndim - 1)
    return tf.slice(array, begin, [size, *array.shape[1:]])


def _in_place(array: Array) -> tf.Tensor:
    """Return an array as a tensor, without a copy if it lies as `data.empty`'s do.

    DLPack would take what begins elsewhere too, and operations then end the process.
    """
    aligned = array.ctypes.data % data.ALIGNMENT == 0
    if aligned and array.flags.c_contiguous and array.flags.writeable:
        return _shared(array)
    return tf.constant(array)


def _take(array: Array, order: Array) -> tf.Tensor:
    """Copy rows to where TensorFlow can use them without a copy of its own."""
    rows = data.empty((len(order), *array.shape[1:]), array.dtype)
    np.take(array, order, axis=0, out=rows, mode="clip")  # "raise" would copy twice
    return _shared(rows)


def _shared(array: Array) -> tf.Tensor:
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
