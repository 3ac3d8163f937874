"""The data sets, the validation split, the order of examples, and parameters' rules."""

from kvt.data.arrays import ALIGNMENT, Array, empty
from kvt.data.asserts import require_asserts
from kvt.data.datasets import DATASETS, Data, line, load, resolve
from kvt.data.order import example_order, split
from kvt.data.releases import keras_before

__all__ = [
    "ALIGNMENT",
    "DATASETS",
    "Array",
    "Data",
    "empty",
    "example_order",
    "keras_before",
    "line",
    "load",
    "require_asserts",
    "resolve",
    "split",
]
