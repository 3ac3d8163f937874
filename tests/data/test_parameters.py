"""What holds for the rules of the notebooks' shared parameters."""

import math
from typing import Any

import numpy as np
import pytest

from kvt.data import parameters

GOOD = {
    "dataset": ["digits", "mnist"],
    "train_size": [0, 1, 60_000],
    "epochs": [1, 10],
    "batch_size": [1, 128, 10**9],
    "learning_rate": [5e-324, 0.01, 1.0, 1e308],
    "validation_split": [0.0, 0.2, math.nextafter(1, 0)],
    "seed": [0, 1, 2**32 - 1],
    "dtype": ["float32", "float64"],
    "steps_per_execution": [1, 1000],
    "results_path": ["", "results/x.json"],
}
OUT_OF_RANGE = {
    "dataset": ["", "auto", "MNIST", "cifar10"],
    "train_size": [-1],
    "epochs": [0, -1],
    "batch_size": [0, -128],
    "learning_rate": [0.0, -0.01, math.inf, math.nan],
    "validation_split": [1.0, 1.5, -0.1, -5e-324, math.inf, math.nan],
    "seed": [-1, 2**32],
    "dtype": ["float16", "float", ""],
    "steps_per_execution": [0, -1],
    "results_path": [],
}
OF_WRONG_TYPE = {
    "dataset": [None, 1, b"digits", ["digits"]],
    "train_size": [1.0, True, "100", None],
    "epochs": [1.0, 1.5, True, False, "10", None, [10]],
    "batch_size": [32.0, True, "32", None, np.array([1, 2]), np.float32(32)],
    "learning_rate": [True, "0.01", None, 1j, [0.01]],
    "validation_split": [True, False, "0.2", None],
    "seed": [0.0, True, "1", None],
    "dtype": [np.float32, np.dtype("float32"), None, 32],
    "steps_per_execution": [1.0, True, "1", None],
    "results_path": [None, 1, b"x.json"],
}
MESSAGES = {
    "dataset": "it must be 'digits' or 'mnist'; 'digits' needs no download",
    "train_size": "it must be an integer of at least 0; 0 takes the whole training set",
    "epochs": "it must be an integer of at least 1; 2017 used 10",
    "batch_size": (
        "it must be an integer of at least 1; 1 updates after every example"
    ),
    "learning_rate": "it must be a finite number above 0; 2017 used 0.01",
    "validation_split": (
        "it must be a number from 0 up to, but not including, 1; "
        "0.2 holds back the last fifth, 0 nothing"
    ),
    "seed": (
        "it must be an integer from 0 to 4294967295; any number in that range will do"
    ),
    "dtype": "it must be 'float32' or 'float64'; Keras's default is 'float32'",
    "steps_per_execution": "it must be an integer of at least 1; 1 is Keras's default",
    "results_path": "it must be a path in quotes; '' writes no file",
}


def each(values: dict[str, list[Any]]) -> list[Any]:
    return [
        pytest.param(name, value, id=f"{name}-{value!r}")
        for name, some in values.items()
        for value in some
    ]


def test_every_rule_is_tried_below() -> None:
    for values in (GOOD, OUT_OF_RANGE, OF_WRONG_TYPE, MESSAGES):
        assert values.keys() == parameters.RULES.keys()


@pytest.mark.parametrize(("name", "value"), each(GOOD))
def test_good_value_passes_as_it_is(name: str, value: object) -> None:
    checked = parameters.check({name: value})
    assert checked == {name: value}
    assert type(checked[name]) is type(value)


@pytest.mark.parametrize(("name", "value"), each(OUT_OF_RANGE))
def test_value_out_of_range_is_refused(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{name} is ") as caught:
        parameters.check({name: value})
    assert str(caught.value) == f"{name} is {value!r}; {MESSAGES[name]}"


@pytest.mark.parametrize(("name", "value"), each(OF_WRONG_TYPE))
def test_value_of_a_wrong_type_is_refused(name: str, value: object) -> None:
    with pytest.raises(TypeError) as caught:
        parameters.check({name: value})
    shown = value.item() if isinstance(value, np.generic) else value
    assert str(caught.value) == f"{name} is {shown!r}; {MESSAGES[name]}"


@pytest.mark.parametrize(
    ("name", "value", "canonical"),
    [
        ("learning_rate", 1, 1.0),
        ("validation_split", 0, 0.0),
        ("epochs", np.int64(5), 5),
        ("batch_size", np.uint8(5), 5),
        ("batch_size", np.array(5), 5),
        ("learning_rate", np.float64(0.1), 0.1),
        ("learning_rate", np.float32(0.5), 0.5),
        ("learning_rate", np.int32(1), 1.0),
        ("dataset", np.str_("digits"), "digits"),
    ],
)
def test_value_becomes_canonical(name: str, value: object, canonical: object) -> None:
    checked = parameters.check({name: value})[name]
    assert checked == canonical
    assert type(checked) is type(canonical)


@pytest.mark.parametrize("name", ["epochs", "learning_rate", "validation_split"])
def test_numpys_booleans_are_no_numbers(name: str) -> None:
    with pytest.raises(TypeError, match=f"{name} is True"):
        parameters.check({name: np.bool_(True)})


def test_unknown_name_passes_as_it_is() -> None:
    value = object()
    assert parameters.check({"results_dir": value}) == {"results_dir": value}


def test_values_are_checked_in_their_order_and_the_given_ones_left_alone() -> None:
    given = {"epochs": np.int64(3), "learning_rate": 1}
    assert list(parameters.check(given)) == ["epochs", "learning_rate"]
    assert type(given["learning_rate"]) is int
    with pytest.raises(ValueError, match="batch_size is 0"):
        parameters.check({"seed": 1, "batch_size": 0, "epochs": -1})
