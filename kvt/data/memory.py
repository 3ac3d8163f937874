"""Memory that TensorFlow reads in place."""

import math

import numpy as np
import numpy.typing as npt

from kvt.data.mnist import Array

ALIGNMENT = 64  # bytes: TensorFlow's operations read no memory that begins elsewhere


def empty(shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
    """Return an array of any values, in memory that TensorFlow can read in place.

    NumPy's own begins at a multiple of 16 bytes, TensorFlow needs one of 64.
    """
    dtype = np.dtype(dtype)
    length = math.prod(shape) * dtype.itemsize
    memory = np.empty(length + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + length].view(dtype).reshape(shape)
