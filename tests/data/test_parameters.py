"""The rules for the notebooks' parameters."""

import json
import math
from pathlib import Path
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
    "seeds": [1, 3, 100],
    "results_path": ["", "results/x.json"],
    "results_dir": ["", "results"],
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
    "seeds": [0, -3],
    "results_path": [],
    "results_dir": [],
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
    "seeds": [1.0, True, "3", None, [1, 2]],
    "results_path": [None, 1, b"x.json"],
    "results_dir": [None, 1, b"results"],
}
MESSAGES = {
    "dataset": "it must be 'digits' or 'mnist'; use 'digits' if there is no network",
    "train_size": (
        "it must be an integer of at least 0; use 0 for the whole training set"
    ),
    "epochs": "it must be an integer of at least 1; the 2017 notebook used 10",
    "batch_size": (
        "it must be an integer of at least 1; "
        "use 1 to update the weights after every example"
    ),
    "learning_rate": (
        "it must be a finite number above 0; the 2017 notebook used 0.01"
    ),
    "validation_split": (
        "it must be in [0, 1); "
        "use 0.2 to hold back the last fifth, 0 to hold back nothing"
    ),
    "seed": (
        "it must be an integer from 0 to 4294967295; any integer in that range works"
    ),
    "dtype": "it must be 'float32' or 'float64'; use 'float32', Keras's default",
    "steps_per_execution": (
        "it must be an integer of at least 1; use 1, Keras's default"
    ),
    "seeds": (
        "it must be an integer of at least 1; use 1 to train with the first seed only"
    ),
    "results_path": "it must be a path in quotes; use '' to write no file",
    "results_dir": "it must be a path in quotes; use '' for the committed results",
}

COUNTS = {  # whole numbers of at least 1, and what to use instead
    "steps_per_epoch": "use None to go through all of x",
    "steps": "use None to go through all of x",
    "validation_steps": "use None to validate on all examples",
    "validation_batch_size": "use None for that of the training",
    "validation_freq": "use 1 to validate after every epoch",
    "budget": "use 60, the default",
}
CHOICES = {
    "shuffle": ([True, False, "batch"], "True, False or 'batch'"),
    "verbose": (["auto", 0, 1, 2], "'auto', 0, 1 or 2"),
    "return_dict": ([True], "True"),
}
for choice, (allowed, text) in CHOICES.items():
    GOOD[choice], OF_WRONG_TYPE[choice] = allowed, []
    OUT_OF_RANGE[choice] = [None, "no", 3, 1.5, [1]]
    MESSAGES[choice] = f"it must be {text}; leave it out if unsure"
for count, instead in COUNTS.items():
    GOOD[count] = [1, 7]
    OUT_OF_RANGE[count] = [0, -1]
    OF_WRONG_TYPE[count] = [1.0, True, "1"]
    MESSAGES[count] = f"it must be an integer of at least 1; {instead}"


def each(values: dict[str, list[Any]]) -> list[Any]:
    return [
        pytest.param(name, value, id=f"{name}-{value!r}")
        for name, some in values.items()
        for value in some
    ]


def test_every_rule_has_examples_below() -> None:
    for values in (GOOD, OUT_OF_RANGE, OF_WRONG_TYPE, MESSAGES):
        assert values.keys() == parameters.RULES.keys()


@pytest.mark.parametrize(("name", "value"), each(GOOD))
def test_a_valid_value_passes_unchanged(name: str, value: object) -> None:
    checked = parameters.check({name: value})
    assert checked == {name: value}
    assert type(checked[name]) is type(value)


@pytest.mark.parametrize(("name", "value"), each(OUT_OF_RANGE))
def test_a_value_out_of_range_is_rejected(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{name} is ") as caught:
        parameters.check({name: value})
    assert str(caught.value) == f"{name} is {value!r}; {MESSAGES[name]}"


@pytest.mark.parametrize(("name", "value"), each(OF_WRONG_TYPE))
def test_a_value_of_the_wrong_type_is_rejected(name: str, value: object) -> None:
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
def test_a_value_is_returned_in_its_canonical_type(
    name: str, value: object, canonical: object
) -> None:
    checked = parameters.check({name: value})[name]
    assert checked == canonical
    assert type(checked) is type(canonical)


@pytest.mark.parametrize("name", ["epochs", "learning_rate", "validation_split"])
def test_numpy_booleans_are_not_numbers(name: str) -> None:
    with pytest.raises(TypeError, match=f"{name} is True"):
        parameters.check({name: np.bool_(True)})


def test_a_name_without_a_rule_passes_unchanged() -> None:
    value = object()
    assert parameters.check({"unknown": value}) == {"unknown": value}


def test_check_keeps_the_order_of_the_values_and_does_not_change_them() -> None:
    given = {"epochs": np.int64(3), "learning_rate": 1}
    assert list(parameters.check(given)) == ["epochs", "learning_rate"]
    assert type(given["learning_rate"]) is int
    with pytest.raises(ValueError, match="batch_size is 0"):
        parameters.check({"seed": 1, "batch_size": 0, "epochs": -1})


# The settings cell of a notebook


def test_checked_returns_only_names_with_a_rule_in_their_canonical_types() -> None:
    namespace = {"__name__": "__main__", "In": [], "epochs": 3, "learning_rate": 1}
    settings = parameters.checked(namespace)
    assert settings == {"epochs": 3, "learning_rate": 1.0}
    assert type(settings["learning_rate"]) is float
    assert type(namespace["learning_rate"]) is int


@pytest.mark.parametrize(
    ("bad", "error"), [({"epochs": 0}, ValueError), ({"seed": "1"}, TypeError)]
)
def test_checked_raises_as_check_does(
    bad: dict[str, Any], error: type[Exception]
) -> None:
    messages = []
    for check in (parameters.check, parameters.checked):
        with pytest.raises(error) as caught:
            check({"batch_size": 1, **bad})
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_parameter_of_a_notebook_has_a_rule_and_a_valid_default(
    notebook: Path,
) -> None:
    (source,) = (
        "".join(cell["source"])
        for cell in json.loads(notebook.read_text())["cells"]
        if "parameters" in cell["metadata"].get("tags", ())
    )
    defaults: dict[str, Any] = {}
    exec(source, defaults)
    del defaults["__builtins__"]
    defaults.pop("__annotations__", None)
    assert defaults.keys() <= parameters.RULES.keys()
    assert parameters.checked(defaults) == defaults
