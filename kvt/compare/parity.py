"""How far two trainings are from each other: in bits, in ulp, in size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kvt.data import Array
from kvt.training.callbacks import Recorder

Weights = Sequence[Array]


class ParityError(AssertionError):
    """Two trainings that must have the same bits, and do not."""


@dataclass(frozen=True)
class Outcome:
    """What a dialect's training produced."""

    recorder: Recorder  # the weights and the seconds of every epoch
    history: Any  # what `fit` returned: Keras's History, or that of `kvt.fit`
    test: Mapping[str, float]  # the metrics of the test set
    predictions: Array  # for the test set, (n, …)


@dataclass(frozen=True)
class Parity:
    """How far a run is from its reference, epoch by epoch."""

    weights_max_abs: list[float]  # the largest difference of any weight
    weights_max_ulp: list[int]  # likewise, in units in the last place
    history_equal: bool  # whether every metric of every epoch is the same number

    @property
    def bit_for_bit(self) -> bool:
        """Whether every weight and every metric has the same bits."""
        return self.history_equal and not any(self.weights_max_ulp)


@np.errstate(over="ignore")  # scalars would warn where arrays wrap, as they ought to
def ulps(a: Array, b: Array) -> Array:
    """Return how many floating-point numbers lie between `a` and `b`, as uint64.

    Both are float32 or both float64, of one shape; else ValueError. Neighboring numbers
    have distance 1, and so have the two zeros; NaNs with the same bits have 0.
    """
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype != b.dtype or a.shape != b.shape:
        raise ValueError(
            f"cannot compare {a.dtype} {a.shape} with {b.dtype} {b.shape}; "
            "dtype and shape must be equal; compare the same weight of both runs"
        )
    if a.dtype not in (np.float32, np.float64):
        raise ValueError(
            f"cannot count units in the last place of {a.dtype}; "
            "the dtype must be float32 or float64; convert both sides first"
        )
    one, other = _rank(a), _rank(b)
    high, low = np.maximum(one, other), np.minimum(one, other)
    # In uint64, the difference of any two int64 fits.
    distance: Array = high.astype(np.uint64) - low.astype(np.uint64)
    return distance


def _rank(values: Array) -> Array:
    """Number the floats in their own order: the n-th float above -0.0 becomes n."""
    signed = np.dtype(f"i{values.itemsize}")
    bits, lowest = values.view(signed).astype(np.int64), np.iinfo(signed).min
    # Negative floats count downwards from the sign bit alone, which is -0.0.
    rank: Array = np.where(bits < 0, lowest - bits - 1, bits)
    return rank


def same_bits(a: Any, b: Any) -> bool:
    """Return whether two results agree in structure, type, dtype, shape and every bit.

    A result is None, a number, a text or an array, or a list or tuple of results.
    """
    if type(a) is not type(b):
        return False
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same_bits, a, b))
    one, other = np.asarray(a), np.asarray(b)
    return a is None or (
        one.dtype == other.dtype
        and one.shape == other.shape
        and one.tobytes() == other.tobytes()
    )


def verify_bit_for_bit(outcomes: Mapping[str, Outcome]) -> dict[str, Parity]:
    """Compare every dialect with Keras; return the comparisons, all of them equal.

    `outcomes` holds "keras" and others by name. Raises ParityError, which names the
    dialect and what differs, unless all weights after every epoch, the histories, the
    test metrics and the predictions have the same bits.
    """
    if not {"keras"} < {*outcomes}:
        raise ValueError(
            f"outcomes has {sorted(outcomes)}; it must have 'keras' and at least one "
            "other dialect; train another dialect to compare"
        )
    keras, found = outcomes["keras"], {}
    for name, one in outcomes.items():
        if name == "keras":
            continue
        weights = keras.recorder.weights, one.recorder.weights
        found[name] = compare(*weights, keras.history.history, one.history.history)
        ulp = max(found[name].weights_max_ulp)
        equal = {
            f"weights (by up to {ulp:,} ulp)": ulp == 0,
            "history": found[name].history_equal,
            "test metrics": same_history(keras.test, one.test),
            "predictions": same_bits(keras.predictions, one.predictions),
        }
        _reject_differences(name, equal)
    return found


def verify_program(
    keras: Outcome, weights: Weights, history: Mapping[str, Sequence[float]]
) -> None:
    """Compare a whole program's weights and history with Keras's after as many epochs.

    Raises ParityError unless every bit is equal.
    """
    if not (epochs := len(history["loss"])):
        raise ValueError(
            "the program's history has 0 epochs; at least one is needed to compare; "
            "train for more epochs"
        )
    expected = {name: all_[:epochs] for name, all_ in keras.history.history.items()}
    equal = {
        "weights": same_bits(keras.recorder.weights[epochs - 1], weights),
        "history": same_history(expected, history),
    }
    _reject_differences("the program", equal)


def _reject_differences(name: str, equal: Mapping[str, bool]) -> None:
    if differing := [part for part, same in equal.items() if not same]:
        raise ParityError(
            f"{name} differs from Keras in {', '.join(differing)}; every bit must be "
            "equal; 09_why_results_differ.ipynb#From-symptom-to-cause lists the causes"
        )


def compare(
    reference: Sequence[Weights],
    weights: Sequence[Weights],
    reference_history: Mapping[str, Sequence[float]],
    history: Mapping[str, Sequence[float]],
) -> Parity:
    """Compare two runs by their weights after each epoch and by their histories.

    Both weights are lists of arrays by epoch, in the same order. Raises ValueError for
    no epochs or weights, for different numbers of them, and for different shapes.
    """
    for name, run in {"reference": reference, "weights": weights}.items():
        if not run or not all(map(len, run)):
            raise ValueError(
                f"{name} has {[len(epoch) for epoch in run]} weights by epoch; there "
                "must be at least one epoch, each with at least one weight; pass what "
                "a Recorder recorded"
            )
    distances = [
        [_distances(a, b) for a, b in zip(ours, theirs, strict=True)]
        for ours, theirs in zip(reference, weights, strict=True)
    ]
    return Parity(
        weights_max_abs=[max(size for size, _ in epoch) for epoch in distances],
        weights_max_ulp=[max(steps for _, steps in epoch) for epoch in distances],
        history_equal=same_history(reference_history, history),
    )


def _distances(a: Array, b: Array) -> tuple[float, int]:
    """Return the largest absolute difference of two arrays, and the largest in ulp."""
    if same_bits(a, b):  # quick, and the usual case
        return 0.0, 0
    return float(np.abs(a - b).max()), int(ulps(a, b).max())


def same_history(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two histories have the same keys and the same numbers, NaN included."""
    return a.keys() == b.keys() and all(
        np.array_equal(a[name], b[name], equal_nan=True) for name in a
    )
