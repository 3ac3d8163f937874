"""The type of arrays, and arrays that TensorFlow reads in place."""

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]
ALIGNMENT = 64  # bytes: TensorFlow's operations read only memory that begins here


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """Return an array of arbitrary values that TensorFlow can read without copying it.

    TensorFlow needs memory at a multiple of 64 bytes; NumPy's begins at one of 16.
    """
    dtype = np.dtype(dtype)
    length = math.prod(shape) * dtype.itemsize
    memory = np.empty(length + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + length].view(dtype).reshape(shape)
