"""The line and the digits, the validation split, and the order of examples."""

from kvt.data.datasets import DATASETS, Data, line, load, resolve
from kvt.data.memory import ALIGNMENT, empty
from kvt.data.order import example_order, split

__all__ = [
    "ALIGNMENT",
    "DATASETS",
    "Data",
    "empty",
    "example_order",
    "line",
    "load",
    "resolve",
    "split",
]
