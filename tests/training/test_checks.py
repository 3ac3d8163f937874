"""Invalid arguments are rejected before anything starts, with value, rule and fix."""

from typing import Any

import numpy as np
import pytest

import kvt
from tests.training.test_loop import Log, Steps, examples, fit


def broken(name: str, row: int, value: float) -> dict[str, np.ndarray]:
    """Return ten examples of which one has a value that is not finite."""
    x, y = examples(10)
    arrays = {"x": x, "y": y}
    arrays[name][row] = value
    return arrays


def validation(name: str, row: int, value: float) -> dict[str, Any]:
    arrays = broken(name, row, value)
    return {"validation_data": (arrays["x"], arrays["y"])}


BAD = {
    "batch_size 0": (
        {"batch_size": 0},
        ValueError,
        "batch_size is 0; it must be an integer of at least 1; use 1 to update the",
    ),
    "batch_size 2.5": (
        {"batch_size": 2.5},
        TypeError,
        "batch_size is 2.5; it must be an integer of at least 1; use 1 to update",
    ),
    "epochs -1": (
        {"epochs": -1},
        ValueError,
        "epochs is -1; it must be an integer of at least 1; the 2017 notebook used",
    ),
    "seed -1": (
        {"seed": -1},
        ValueError,
        "seed is -1; it must be an integer from 0 to 4294967295; any integer in",
    ),
    "validation_split 1.0": (
        {"validation_split": 1.0},
        ValueError,
        r"validation_split is 1.0; it must be in \[0, 1\); use 0.2 to hold back",
    ),
    "validation_split -0.1": (
        {"validation_split": -0.1},
        ValueError,
        r"validation_split is -0.1; it must be in \[0, 1\); use 0.2 to hold back",
    ),
    "nothing to train on": (
        {"validation_split": 0.95},
        ValueError,
        r"validation_split 0.95 leaves 0 of 10 .* at least one; use 0 for no",
    ),
    "nothing to validate on": (
        {"validation_split": 1e-20},
        ValueError,
        r"validation_split 1e-20 leaves 10 of 10 .* and 0 for validation.*; use 0",
    ),
    "lengths": (
        {"y": np.zeros((9, 1), np.float32)},
        ValueError,
        r"x has 10 and y has 9 examples; the numbers must be equal; take all",
    ),
    "no examples": (
        {"x": np.zeros((0, 1)), "y": np.zeros((0, 1))},
        ValueError,
        "x has 0 examples; at least 1 is needed; pass more data",
    ),
    "NaN in x": (
        broken("x", 4, np.nan),
        ValueError,
        "x contains NaN or infinity, first in example 4; every .* finite; correct or",
    ),
    "infinity in x": (
        broken("x", 0, -np.inf),
        ValueError,
        "x contains NaN or infinity, first in example 0; every .* finite; correct or",
    ),
    "NaN in y": (
        broken("y", 9, np.nan),
        ValueError,
        "y contains NaN or infinity, first in example 9; every .* finite; correct or",
    ),
    "infinity in y": (
        broken("y", 2, np.inf),
        ValueError,
        "y contains NaN or infinity, first in example 2; every .* finite; correct or",
    ),
    "NaN in the tail": (
        {**broken("x", 9, np.nan), "validation_split": 0.2},
        ValueError,
        "x contains NaN or infinity, first in example 9; every .* finite; correct or",
    ),
    "NaN in validation x": (
        validation("x", 1, np.nan),
        ValueError,
        "x of validation_data contains NaN or infinity, first in example 1; .* correct",
    ),
    "infinity in validation y": (
        validation("y", 3, np.inf),
        ValueError,
        "y of validation_data contains NaN or infinity, first in example 3; .* correct",
    ),
    "validation lengths": (
        {"validation_data": (np.zeros((3, 1)), np.zeros((2, 1)))},
        ValueError,
        "x of validation_data has 3 and y of validation_data has 2 examples; the",
    ),
    "lengths of the weights": (
        {"sample_weight": np.ones(9)},
        ValueError,
        "x has 10 and y has 10 and sample_weight has 9 examples; the numbers must",
    ),
    "NaN among the weights": (
        {"sample_weight": np.float32([1] * 7 + [np.nan] * 3)},
        ValueError,
        "sample_weight contains NaN or infinity, first in example 7; .* correct or",
    ),
    "initial_epoch -1": (
        {"initial_epoch": -1},
        ValueError,
        "initial_epoch is -1; it must be between 0 and epochs, 1; use 0 to",
    ),
    "initial_epoch 2": (
        {"initial_epoch": 2},
        ValueError,
        "initial_epoch is 2; it must be between 0 and epochs, 1; use 0 to",
    ),
    "no validation examples": (
        {"validation_data": (np.zeros((0, 1)), np.zeros((0, 1)))},
        ValueError,
        "x of validation_data has 0 examples; at least 1 is needed; pass more data",
    ),
}


@pytest.mark.parametrize(("options", "error", "message"), BAD.values(), ids=BAD)
def test_invalid_input_is_rejected_before_anything_starts(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    steps, log = Steps(), Log()
    x, y = examples(10)
    with pytest.raises(error, match=message):
        fit(steps, **{"x": x, "y": y, "callbacks": [log], **options})
    assert steps.trained == steps.tested == log.calls == []
    assert steps.weight == 0


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0; it must be an integer of at least 1"),
        ({"y": np.zeros((9, 1))}, "x has 10 and y has 9 examples; the numbers"),
        (broken("x", 5, np.nan), "x contains NaN or infinity, first in example 5"),
    ],
)
def test_evaluation_rejects_invalid_input(bad: dict[str, Any], message: str) -> None:
    steps = Steps()
    x, y = examples(10)
    with pytest.raises(ValueError, match=message):
        kvt.evaluate(steps.test, **{"x": x, "y": y, **bad})
    assert steps.tested == []


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0; it must be an integer of at least 1"),
        ({"x": np.zeros((0, 1))}, "x has 0 examples; at least 1 is needed"),
        ({"x": np.float32([[0], [np.inf]])}, "x contains NaN or .* first in example 1"),
    ],
)
def test_prediction_rejects_invalid_input(bad: dict[str, Any], message: str) -> None:
    calls: list[np.ndarray] = []
    with pytest.raises(ValueError, match=message):
        kvt.predict(calls.append, **{"x": examples(3)[0], **bad})
    assert calls == []
