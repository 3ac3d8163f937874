"""Steps, and the means of the metrics that they return."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

Step = Callable[..., Mapping[str, Any]]
# Once per execution: the number of its last step, and the means of the epoch so far.
RunningMeans = Iterator[tuple[int, dict[str, float]]]


class Mean:
    """Means over examples, by metric; totals have the dtype of the metrics themselves.

    Keras's `Mean` holds its total in the dtype of the training, float32 by default. A
    total in float64 would be more accurate, but would no longer equal Keras's.
    """

    def __init__(self) -> None:
        self.totals: dict[str, Any] = {}
        self.examples = 0

    @np.errstate(over="ignore", invalid="ignore")  # `fit` reports it
    def update(self, logs: Mapping[str, Any], examples: int) -> None:
        """Add a batch; a scalar is its mean, an array has one value per example."""
        for name, value in logs.items():
            value = np.asarray(value)
            number = value.dtype.type
            total = value.sum() if value.ndim else value[()] * number(examples)
            self.totals[name] = self.totals.get(name, number(0)) + total
        self.examples += examples

    def result(self) -> dict[str, float]:
        """Return the means over all examples so far as Python floats."""
        return {
            name: float(total / total.dtype.type(self.examples))
            for name, total in self.totals.items()
        }
