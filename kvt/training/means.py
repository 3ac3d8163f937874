"""Steps, and the means of the metrics that they return: in Keras's order and dtype."""

import platform
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np

from kvt.data import Array

Step = Callable[..., Mapping[str, Any]]
# Once per execution: the number of its last step, and the means of the epoch so far.
RunningMeans = Iterator[tuple[int, dict[str, float]]]

# TensorFlow adds this many bytes at once, and halves sums of more than LEAF such lanes.
LANES = 32 if platform.machine() in ("x86_64", "AMD64") else 16
LEAF = 1024


class Mean:
    """Means over examples, by metric, with the bits of Keras's `Mean`.

    Totals are held in float64 if the loss is float64, otherwise in float32. A total in
    float64 would be more accurate, but would no longer equal Keras's.
    """

    def __init__(self) -> None:
        self.totals: dict[str, Any] = {}
        self.examples = 0

    @np.errstate(over="ignore", invalid="ignore")  # `fit` reports it
    def update(self, logs: Mapping[str, Any], examples: int) -> None:
        """Add a batch. Raises TypeError and ValueError as `batch_totals` does."""
        for name, total in batch_totals(logs, examples).items():
            self.totals[name] = self.totals.get(name, total.dtype.type(0)) + total
        self.examples += examples

    @np.errstate(over="ignore", invalid="ignore")
    def add(self, totals: Mapping[str, Array], examples: int) -> None:
        """Add the totals of some batches, with `examples` in all, one by one."""
        for name, values in totals.items():
            zero = values.dtype.type(0)
            values = np.append(self.totals.get(name, zero), values)
            # Not `sum`, which adds pairs, and so rounds differently.
            self.totals[name] = np.add.accumulate(values)[-1]
        self.examples += examples

    def result(self) -> dict[str, float]:
        """Return the means over all examples so far as Python floats."""
        return {
            name: float(total / total.dtype.type(self.examples))
            for name, total in self.totals.items()
        }


def batch_totals(logs: Mapping[str, Any], examples: int) -> dict[str, Any]:
    """Return each metric's total over a batch of `examples`, in the dtype of totals.

    A metric is a number, the mean of the batch, or holds a value per example, (b,) or
    (b, …); further axes are averaged first. Raises as `per_example` and `total_dtype`.
    """
    arrays = {name: as_array(value) for name, value in logs.items()}
    dtype = total_dtype(tuple((name, a.dtype) for name, a in arrays.items()))
    totals = {}
    for name, array in arrays.items():
        values = array.astype(dtype)
        if per_example(name, array.shape, examples):
            if values.size > examples:
                rows = values.reshape(examples, -1)
                values = summed(rows) / dtype.type(rows.shape[1])
            totals[name] = summed(values.reshape(examples))[()]
        else:
            totals[name] = values.reshape(())[()] * dtype.type(examples)
    return totals


def as_array(value: Any) -> Array:
    """Return a metric as an array; `asarray` alone fails on a tensor in bfloat16."""
    return np.asarray(value.numpy() if hasattr(value, "numpy") else value)


def per_example(name: str, shape: tuple[int | None, ...], examples: int | None) -> bool:
    """Return whether a metric has a value per example; else it is the batch's mean.

    Raises ValueError for a shape that is neither. A size that is None is not yet known.
    """
    if shape in ((), (1,)):
        return False
    if (shape[0] == examples or shape[0] is None) and 0 not in shape[1:]:
        return True
    of = "any number of" if examples is None else examples
    raise ValueError(
        f"metric {name!r} has shape {shape} in a batch of {of} examples; it must be "
        "one number, the mean of the batch, or have one value per example; reduce it "
        "in the step"
    )


@cache
def total_dtype(dtypes: tuple[tuple[str, Any], ...]) -> np.dtype[Any]:
    """Return the dtype of totals: float64 if the loss has it, otherwise float32.

    `dtypes` are those of the metrics, by name. Raises TypeError if a metric is not a
    real number.
    """
    for name, dtype in dtypes:
        if not np.can_cast(dtype, "float64", "same_kind") or dtype.kind in "mM":
            raise TypeError(
                f"metric {name!r} has dtype {dtype}; it must be a real number; "
                "return a float, an integer or a bool"
            )
    loss = [dtype for name, dtype in dtypes if name == "loss"]
    decisive = loss or [dtype for _, dtype in dtypes]
    return np.dtype("float64" if np.dtype("float64") in decisive else "float32")


def summed(values: Array) -> Array:
    """Return the sums of the last axis, (…, n) -> (…), with the bits of TensorFlow.

    Eigen, its library, adds vectors of several numbers at once: first to four sums in
    turn, then the vectors that remain, then the numbers that remain.
    """
    *others, n = values.shape
    lanes = LANES // values.dtype.itemsize
    if n > LEAF * lanes:
        half = lanes * -(-n // (2 * lanes))
        return np.asarray(summed(values[..., :half]) + summed(values[..., half:]))
    total, numbers = np.zeros((2, *others, lanes), values.dtype)
    rounds, vectors = n // (4 * lanes), n // lanes
    if rounds:
        four = values[..., : rounds * 4 * lanes].reshape(*others, rounds, 4, lanes)
        for sums in np.moveaxis(np.add.accumulate(four, -3)[..., -1, :, :], -2, 0):
            total = total + sums
    for start in range(rounds * 4 * lanes, vectors * lanes, lanes):
        total = total + values[..., start : start + lanes]
    while half := total.shape[-1] // 2:
        total = total[..., :half] + total[..., half:]
    for i in range(vectors * lanes, n):
        numbers = numbers + values[..., i, None]
    return np.asarray(numbers[..., 0] + total[..., 0])


def examples_in(x: Any) -> int:
    """Return how many examples a batch's x has: the length of its first array.

    A dict, tuple or list of arrays is several inputs, a list of numbers is one.
    """
    if hasattr(x, "shape"):
        return int(x.shape[0])
    inputs = [x[name] for name in sorted(x)] if isinstance(x, Mapping) else x
    inputs = [each for each in inputs if each is not None]
    nested = inputs and isinstance(inputs[0], Mapping | tuple | list)
    if nested or (inputs and hasattr(inputs[0], "shape")):
        return examples_in(inputs[0])
    return len(inputs)
