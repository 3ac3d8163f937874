"""The distance between two trainings."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvt
from kvt.compare import parity

WIDTH = {"float32": 32, "float64": 64}
dtypes = st.sampled_from(["float32", "float64"])


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Draw two numbers of one dtype, infinities included, in arrays of one element."""
    dtype = draw(dtypes)
    numbers = st.floats(width=WIDTH[dtype], allow_nan=False)
    return np.array([draw(numbers)], dtype), np.array([draw(numbers)], dtype)


def ulps(a: Any, b: Any, dtype: str = "float32") -> int:
    return int(parity.ulps(np.array([a], dtype), np.array([b], dtype))[0])


# Units in the last place


@given(pairs())
def test_distance_is_zero_for_equal_bits_and_only_for_them(
    pair: tuple[np.ndarray, np.ndarray],
) -> None:
    a, b = pair
    assert parity.ulps(a, a.copy()) == 0
    assert (parity.ulps(a, b) == 0) == (a.tobytes() == b.tobytes())


@given(pairs())
def test_distance_is_symmetric(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pair
    assert parity.ulps(a, b) == parity.ulps(b, a)


@given(pairs())
def test_the_next_number_is_one_apart(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, towards = pair
    b = np.nextafter(a, towards)
    if a == b:  # there is none between: equal, or zeros of either sign
        assert a == towards
    elif np.signbit(a) != np.signbit(b):  # stepped over the other zero
        assert parity.ulps(a, b) == 2
    else:
        assert parity.ulps(a, b) == 1


@given(dtypes, st.integers(-100, 100), st.integers(0, 2**20))
def test_distance_counts_spacings_within_a_binade(
    dtype: str, exponent: int, steps: int
) -> None:
    number = np.dtype(dtype).type
    a = number(2.0) ** number(exponent)
    b = a + number(steps) * np.spacing(a)
    assert parity.ulps(np.array([a, -a]), np.array([b, -b])).tolist() == [steps] * 2


@given(st.lists(st.floats(allow_nan=False, width=32), min_size=3, max_size=3))
def test_distances_add_up_along_the_line(numbers: list[float]) -> None:
    low, middle, high = np.sort(np.array(numbers, np.float32)).reshape(3, 1)
    if low != 0 and middle != 0 and high != 0:  # sorting leaves zeros as they come
        assert parity.ulps(low, high) == (
            parity.ulps(low, middle) + parity.ulps(middle, high)
        )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_zeros_are_one_apart(dtype: str) -> None:
    assert ulps(0.0, -0.0, dtype) == 1
    smallest = np.finfo(dtype).smallest_subnormal
    assert ulps(-smallest, smallest, dtype) == 3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_infinity_follows_the_largest_number(dtype: str) -> None:
    assert ulps(np.finfo(dtype).max, np.inf, dtype) == 1
    assert ulps(-np.inf, np.finfo(dtype).min, dtype) == 1


def test_the_longest_distance_fits() -> None:
    assert ulps(-np.inf, np.inf, "float32") == 2 * 0x7F800000 + 1
    assert ulps(-np.inf, np.inf, "float64") == 2 * 0x7FF0000000000000 + 1


def test_nans_of_the_same_bits_are_zero_apart() -> None:
    assert ulps(np.nan, np.nan) == 0
    assert ulps(np.nan, -np.nan) > 0
    assert ulps(np.nan, 1.0) > 0


def test_distances_keep_the_shape() -> None:
    a = np.ones((2, 3), np.float32)
    b = a.copy()
    b[1, 2] = np.nextafter(b[1, 2], np.float32(2))
    distances = parity.ulps(a, b)
    assert distances.dtype == np.uint64
    assert distances.tolist() == [[0, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize("number", [np.float32, np.float64])
def test_single_numbers_are_compared_without_a_warning(number: type) -> None:
    assert parity.ulps(number(1), number(1)) == 0
    assert parity.ulps(number(0.0), number(-0.0)) == 1
    assert parity.ulps(number(-1), number(1)) == 2 * parity.ulps(
        number(0), number(1)
    ) + np.uint64(1)


def test_weights_that_are_views_are_compared() -> None:
    a = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert not parity.ulps(a.T, np.ascontiguousarray(a.T)).any()


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (
            np.zeros(2, np.float32),
            np.zeros(2, np.float64),
            r"cannot compare float32 \(2,\) with float64 \(2,\); .* must be equal; com",
        ),
        (
            np.zeros((2, 1), np.float32),
            np.zeros(2, np.float32),
            r"cannot compare float32 \(2, 1\) with float32 \(2,\); .* must be equal; c",
        ),
        (
            np.zeros(2, np.int32),
            np.zeros(2, np.int32),
            "last place of int32; the dtype must be float32 or float64; convert both",
        ),
        (
            np.zeros(2, np.float16),
            np.zeros(2, np.float16),
            "last place of float16; the dtype must be float32 or float64; convert both",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(
    a: np.ndarray, b: np.ndarray, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        parity.ulps(a, b)


# Bits


def test_same_bits_are_the_same() -> None:
    a = [np.float32([[1, 2]]), np.float32([np.nan, -0.0])]
    assert parity.same_bits(a, [w.copy() for w in a])
    assert parity.same_bits([], [])


@pytest.mark.parametrize(
    "other",
    [
        np.nextafter(np.float32([0, 1]), np.float32(2)),
        np.float32([-0.0, 1]),
        np.float32([[0, 1]]),
        np.float64([0, 1]),
        np.float32([0, 1, 2]),
        np.float32([0, 1]).view(np.int32),
    ],
)
def test_any_other_bit_shape_or_dtype_is_noticed(other: np.ndarray) -> None:
    assert not parity.same_bits([np.float32([0, 1])], [other])


def test_another_number_of_weights_is_not_the_same() -> None:
    a = np.float32([1])
    assert not parity.same_bits([a], [a, a])
    assert not parity.same_bits([a, a], [a])


# Runs


def runs() -> tuple[list[list[np.ndarray]], list[list[np.ndarray]]]:
    """Return the weights of two equal runs: two epochs, two weights each."""
    first = [[np.float32([1, 2]), np.float32([[3]])] for _ in range(2)]
    return first, [[w.copy() for w in epoch] for epoch in first]


def test_equal_runs_are_bit_for_bit() -> None:
    reference, weights = runs()
    history = {"loss": [1.0, 0.5], "accuracy": [0.5, 0.75]}
    assert parity.compare(reference, weights, history, dict(history)) == parity.Parity(
        weights_max_abs=[0.0, 0.0], weights_max_ulp=[0, 0], history_equal=True
    )
    assert parity.compare(reference, weights, history, dict(history)).bit_for_bit


def test_the_worst_weight_of_each_epoch_counts() -> None:
    reference, weights = runs()
    weights[1][0][1] -= np.float32(2**-22)  # 2 ulp below 2
    weights[1][1][0, 0] += np.float32(2**-22)  # 1 ulp above 3
    apart = parity.compare(reference, weights, {}, {})
    assert apart.weights_max_abs == [0.0, 2**-22]
    assert apart.weights_max_ulp == [0, 2]
    assert apart.history_equal
    assert not apart.bit_for_bit


def test_results_are_plain_numbers() -> None:
    reference, weights = runs()
    apart = parity.compare(reference, weights, {}, {})
    assert {type(value) for value in apart.weights_max_abs} == {float}
    assert {type(value) for value in apart.weights_max_ulp} == {int}


@pytest.mark.parametrize(
    "history",
    [
        {"loss": [1.0, np.nextafter(0.5, 1)]},
        {"loss": [1.0]},
        {"loss": [1.0, 0.5], "accuracy": [0.0, 0.0]},
        {"val_loss": [1.0, 0.5]},
        {},
    ],
)
def test_any_other_history_is_noticed(history: dict[str, list[float]]) -> None:
    reference, weights = runs()
    apart = parity.compare(reference, weights, {"loss": [1.0, 0.5]}, history)
    assert not apart.history_equal
    assert not apart.bit_for_bit


def test_histories_with_the_same_nan_are_equal() -> None:
    history = {"val_loss": [1.0, float("nan")]}
    other = {"val_loss": [1.0, float("nan")]}
    assert parity.compare(*runs(), history, other).history_equal


def test_runs_of_another_length_or_shape_are_refused() -> None:
    reference, weights = runs()
    with pytest.raises(ValueError, match="shorter"):
        parity.compare(reference, weights[:1], {}, {})
    with pytest.raises(ValueError, match="shorter"):
        parity.compare(reference, [epoch[:1] for epoch in weights], {}, {})
    weights[0][0] = np.float32([[1], [2]])
    with pytest.raises(ValueError, match="cannot compare"):
        parity.compare(reference, weights, {}, {})


NOTHING: list[tuple[Any, Any]] = [([], []), ([[]], [[]]), (runs()[0], [[], []])]


@pytest.mark.parametrize(("reference", "weights"), NOTHING)
def test_a_comparison_of_nothing_is_rejected(reference: Any, weights: Any) -> None:
    with pytest.raises(ValueError, match=r"weights by epoch; there must be .*; pass"):
        parity.compare(reference, weights, {"loss": []}, {"loss": []})


def test_a_verification_of_nothing_is_rejected() -> None:
    for outcomes in {}, {"keras": outcome()}, {"tf2": outcome(), "tf1": outcome()}:
        with pytest.raises(
            ValueError, match=r"outcomes has \[.*; it must have 'keras'"
        ):
            parity.verify_bit_for_bit(outcomes)
    with pytest.raises(ValueError, match=r"0 epochs; .*; train for more"):
        parity.verify_program(outcome(), [np.float32([1, 2])], {"loss": []})


# Results


@pytest.mark.parametrize(
    "other",
    [
        np.float32(1.0000001),  # value
        np.float64(1),  # dtype
        np.array([1], "float32"),  # shape
        np.array(1, "float32"),  # an array, not a number
        [np.float32(1)],  # structure
        1.0,
        1,
        "1",
        None,
    ],
    ids=repr,
)
def test_different_results_are_not_identical(other: object) -> None:
    assert not parity.same_bits(np.float32(1), other)
    assert not parity.same_bits([np.float32(1)], [other])
    assert parity.same_bits(other, other)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (0.0, -0.0),
        ([1, 2], (1, 2)),
        ([1, 2], [1, 2, 3]),
        (np.zeros((2, 3)), np.zeros((3, 2))),
        ("a", "b"),
        (["Const"], ["Fill"]),
        (True, 1),
    ],
)
def test_identical_results_agree_in_sign_order_and_type(a: object, b: object) -> None:
    assert not parity.same_bits(a, b)


def test_nan_is_identical_to_itself() -> None:
    assert parity.same_bits(np.float32("nan"), np.float32("nan"))


# What a model's notebook asserts


def outcome(**changes: Any) -> parity.Outcome:
    """Return a training of two epochs; `changes` replaces parts of it."""
    recorder = kvt.Recorder(lambda: [])
    recorder.weights = [[np.float32([1, 2])], [np.float32([3, 4])]]
    parts = {
        "recorder": recorder,
        "history": kvt.History([0, 1], {"loss": [2.0, 1.0]}),
        "test": {"loss": 0.5},
        "predictions": np.float32([[0.25], [0.75]]),
    }
    return parity.Outcome(**{**parts, **changes})


def recorded(*epochs: list[float]) -> kvt.Recorder:
    recorder = kvt.Recorder(lambda: [])
    recorder.weights = [[np.float32(values)] for values in epochs]
    return recorder


NEXT = float(np.nextafter(np.float32(4), np.float32(5)))
DIFFERENT = [
    ({"recorder": recorded([1, 2], [3, NEXT])}, r"weights \(by up to 1 ulp\); every"),
    ({"recorder": recorded([1, NEXT], [3, 4])}, r"weights \(by up to .* ulp\); every"),
    ({"recorder": recorded([1, 2], [-3, 4])}, r"weights \(by up to .* ulp\); every"),
    ({"history": kvt.History([0, 1], {"loss": [2.5, 1.0]})}, "in history; every"),
    ({"history": kvt.History([0, 1], {"cost": [2.0, 1.0]})}, "in history; every"),
    ({"test": {"loss": 0.25}}, "in test metrics; every"),
    ({"predictions": np.float32([[0.25], [0.5]])}, "in predictions; every"),
    ({"predictions": np.float64([[0.25], [0.75]])}, "in predictions; every"),
    (
        {"test": {}, "predictions": np.zeros(2)},
        "in test metrics, predictions; every bit must be equal; 09_why",
    ),
]


def test_equal_outcomes_have_distance_0_in_every_epoch() -> None:
    outcomes = {"keras": outcome(), "tf2": outcome(), "tf1": outcome()}
    equal = parity.Parity([0.0, 0.0], [0, 0], history_equal=True)
    assert parity.verify_bit_for_bit(outcomes) == {"tf2": equal, "tf1": equal}


@pytest.mark.parametrize(("changes", "message"), DIFFERENT)
def test_an_outcome_with_one_difference_is_rejected(
    changes: dict[str, Any], message: str
) -> None:
    outcomes = {"keras": outcome(), "tf2": outcome(), "tf1": outcome(**changes)}
    with pytest.raises(parity.ParityError, match=f"^tf1 differs from Keras.*{message}"):
        parity.verify_bit_for_bit(outcomes)


@pytest.mark.long
def test_equality_is_verified_without_assert_statements_too() -> None:
    code = (
        "from tests.compare.test_parity import outcome, parity\n"
        "one, other = outcome(), outcome(test={})\n"
        "parity.verify_bit_for_bit({'keras': one, 'tf2': other})"
    )
    run = subprocess.run(
        [sys.executable, "-O", "-c", code],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert "ParityError: tf2 differs from Keras in test metrics" in run.stderr


def test_a_program_is_compared_after_as_many_epochs_as_it_trained() -> None:
    one, two = [np.float32([1, 2])], [np.float32([3, 4])]
    parity.verify_program(outcome(), one, {"loss": [2.0]})
    parity.verify_program(outcome(), two, {"loss": [2.0, 1.0]})
    with pytest.raises(parity.ParityError, match=r"the program differs .* weights;"):
        parity.verify_program(outcome(), two, {"loss": [2.0]})
    with pytest.raises(parity.ParityError, match="in history;"):
        parity.verify_program(outcome(), two, {"loss": [2.0, 1.5]})
    with pytest.raises(parity.ParityError, match="in history;"):
        parity.verify_program(outcome(), one, {"loss": [2.0], "accuracy": [1.0]})
