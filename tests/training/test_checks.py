"""Invalid arguments are rejected before anything starts, with value, rule and fix."""

from typing import Any

import keras
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


def bad_steps() -> dict[str, tuple[Any, str]]:
    import tensorflow as tf

    w = tf.Variable([[1.0], [1.0]])
    return {
        "None": (tf.function(lambda x, y: None), "returned NoneType; it must return"),
        "no loss": (tf.function(lambda x, y: {"mse": 1.0}), "mse; one must be the"),
        "one part": (lambda x: {"loss": 1.0}, "a function of the 2 parts of a batch"),
        "no function": (5, "test_step is 5; it must be a function"),
        "shapes": (tf.function(lambda x, y: {"loss": x @ w}), "Dimensions must be"),
    }


@pytest.mark.parametrize(
    "kind", ["None", "no loss", "one part", "no function", "shapes"]
)
@pytest.mark.parametrize("validation", [{"validation_split": 0.5}, "arrays", "Dataset"])
def test_a_bad_test_step_is_found_before_the_first_update(
    kind: str, validation: Any
) -> None:
    import tensorflow as tf

    steps, (x, y) = Steps(), examples(10)
    bad, message = bad_steps()[kind]
    if validation == "arrays":
        validation = {"validation_data": [x, y]}
    elif validation == "Dataset":
        rows = tf.data.Dataset.from_tensor_slices((x, y)).batch(2)
        validation = {"validation_data": rows}
    with pytest.raises((TypeError, ValueError), match=message):
        kvt.fit(steps.train, bad, x, y, verbose=0, **validation)
    assert steps.trained == []


def test_checking_the_steps_runs_none_and_draws_no_random_number() -> None:
    import tensorflow as tf

    count = tf.Variable(0)

    @tf.function
    def step(x: Any, y: Any) -> dict[str, Any]:
        count.assign_add(1)
        return {"loss": tf.random.uniform([])}

    def drawn(check: bool) -> list[float]:
        tf.random.set_seed(3)
        np.random.seed(3)
        if check:
            with pytest.raises(TypeError, match="test_step"):
                kvt.fit(step, lambda: None, *examples(4), validation_split=0.5)
        return [float(tf.random.uniform([])), float(np.random.uniform())]

    assert drawn(check=True) == drawn(check=False)
    assert count.numpy() == 0


def test_an_error_of_an_eager_step_names_the_dtypes() -> None:
    def step(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
        raise ValueError("no integers")

    x, y = examples(4)
    with pytest.raises(ValueError, match="no integers") as caught:
        kvt.fit(step, step, x.astype(int), y > 0, verbose=0)
    assert "train_step was called with int64 (" in caught.value.__notes__[0]


def test_frames_of_pandas_are_read_as_in_keras() -> None:
    pandas = pytest.importorskip("pandas")
    seen: list[tuple[Any, ...]] = []

    def step(*batch: Any) -> dict[str, Any]:
        seen.append(batch)
        return {"loss": np.float32(1)}

    x = pandas.DataFrame({"a": [0.5, 1.5], "b": [1, 2], "c": [True, False]})
    kvt.evaluate(step, x, pandas.Series([1.0, 2.0]))
    ((x_batch, y_batch),) = seen
    assert x_batch.tolist() == [[0.5, 1, 1], [1.5, 2, 0]]
    assert {x_batch.dtype.name, y_batch.dtype.name} == {keras.config.floatx()}
    assert y_batch.shape == (2, 1)
    with pytest.raises(TypeError, match="x has dtype object; it must hold numbers"):
        kvt.evaluate(step, x[["b", "c"]], pandas.Series([1.0, 2.0]))
