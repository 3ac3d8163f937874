"""How far apart two runs are: in bits, in units in the last place, in size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Weights = Sequence[Array]

_INTEGER: dict[np.dtype[Any], np.dtype[Any]] = {
    np.dtype("float32"): np.dtype("int32"),
    np.dtype("float64"): np.dtype("int64"),
}


@dataclass(frozen=True)
class Parity:
    """How far a run is from its reference, epoch by epoch.

    Attributes:
        weights_max_abs: largest absolute difference of any weight.
        weights_max_ulp: largest distance of any weight in units in the last place.
        history_equal: whether every figure of every epoch is the same number.
    """

    weights_max_abs: list[float]
    weights_max_ulp: list[int]
    history_equal: bool

    @property
    def bit_for_bit(self) -> bool:
        """Whether the runs cannot be told apart."""
        return self.history_equal and not any(self.weights_max_ulp)


@np.errstate(over="ignore")  # scalars would warn where arrays wrap, as they ought to
def ulps(a: Array, b: Array) -> Array:
    """Return how many floating-point numbers lie between `a` and `b`, as uint64.

    Both are float32 or both float64, of one shape. Neighboring numbers are 1 apart,
    and so are the two zeros; NaNs with the same bits are 0 apart. Raises ValueError
    for different shapes or dtypes.
    """
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype != b.dtype or a.shape != b.shape:
        raise ValueError(
            f"cannot compare {a.dtype} {a.shape} with {b.dtype} {b.shape}; "
            "dtype and shape must be equal; compare the same weight of both runs"
        )
    return _distance(_rank(a), _rank(b))


def _rank(values: Array) -> Array:
    """Number the floats in their own order: the n-th float above -0.0 becomes n."""
    if values.dtype not in _INTEGER:
        raise ValueError(
            f"cannot count units in the last place of {values.dtype}; "
            "the dtype must be float32 or float64; convert both sides first"
        )
    bits = values.view(_INTEGER[values.dtype]).astype(np.int64)
    lowest = np.int64(-(2 ** (8 * values.dtype.itemsize - 1)))
    # Negative floats count downwards from the sign bit alone, which is -0.0.
    rank: Array = np.where(bits < 0, lowest - bits - 1, bits)
    return rank


def _distance(a: Array, b: Array) -> Array:
    """Subtract in uint64, where the difference of any two int64 fits."""
    high, low = np.maximum(a, b), np.minimum(a, b)
    distance: Array = high.astype(np.uint64) - low.astype(np.uint64)
    return distance


def same_bits(a: Weights, b: Weights) -> bool:
    """Whether two lists of arrays agree in every shape, dtype and bit."""
    return len(a) == len(b) and all(
        one.dtype == other.dtype
        and one.shape == other.shape
        and one.tobytes() == other.tobytes()
        for one, other in zip(a, b, strict=True)
    )


def identical(a: Any, b: Any) -> bool:
    """Whether two results agree in structure, type, dtype, shape and every bit.

    A result is None, a number, a text or an array, or a list or tuple of results.
    """
    if type(a) is not type(b):
        return False
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(identical, a, b))
    return a is None or same_bits([np.asarray(a)], [np.asarray(b)])


def compare(
    reference: Sequence[Weights],
    weights: Sequence[Weights],
    reference_history: Mapping[str, Sequence[float]],
    history: Mapping[str, Sequence[float]],
) -> Parity:
    """Compare two runs by their weights after each epoch and by their histories.

    `reference[epoch]` and `weights[epoch]` are lists of arrays in the same order,
    the histories what `History.history` holds. Raises ValueError when the runs have
    different numbers of epochs or of weights, or weights of different shapes.
    """
    pairs = [
        list(zip(ours, theirs, strict=True))
        for ours, theirs in zip(reference, weights, strict=True)
    ]
    return Parity(
        weights_max_abs=[
            max(float(np.abs(a - b).max()) for a, b in epoch) for epoch in pairs
        ],
        weights_max_ulp=[
            max(int(ulps(a, b).max()) for a, b in epoch) for epoch in pairs
        ],
        history_equal=same_history(reference_history, history),
    )


def same_history(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two histories have the same keys and the same numbers, NaN included."""
    return a.keys() == b.keys() and all(
        np.array_equal(a[name], b[name], equal_nan=True) for name in a
    )
