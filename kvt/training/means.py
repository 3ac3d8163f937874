"""A step, and the epoch's means of what it returns."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

Step = Callable[..., Mapping[str, Any]]
# One pass over the batches: the number of the last step run, and the means so far.
Pass = Iterator[tuple[int, dict[str, float]]]


class Mean:
    """Means weighted by examples, held in the steps' own dtype.

    Keras's `Mean` holds its sums in the dtype of the run, float32 by default, so a
    sum in float64 would be nearer to the truth and further from Keras.
    """

    def __init__(self) -> None:
        self._totals: dict[str, Any] = {}
        self._count = 0

    @np.errstate(over="ignore", invalid="ignore")  # `fit` tells it, and where
    def update(self, logs: Mapping[str, Any], examples: int) -> None:
        """Add a batch of `examples`: a scalar is its mean, an array has one each."""
        for name, value in logs.items():
            value = np.asarray(value)
            number = value.dtype.type
            total = value.sum() if value.ndim else value[()] * number(examples)
            self._totals[name] = self._totals.get(name, number(0)) + total
        self._count += examples

    def result(self) -> dict[str, float]:
        """Return the means so far as Python floats."""
        return {
            name: float(total / total.dtype.type(self._count))
            for name, total in self._totals.items()
        }
