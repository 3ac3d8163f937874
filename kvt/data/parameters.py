"""The rules that the notebooks' shared parameters obey, in one place.

`kvt run` and `kvt report` apply them before a kernel starts, each notebook in its
second code cell, and `kvt.fit` to its arguments.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Rule:
    """What a parameter may be: its type, and a condition on its value."""

    type: type
    holds: Callable[[Any], bool]
    text: str
    mend: str


RULES = {
    "dataset": Rule(
        str,
        lambda value: value in ("digits", "mnist"),
        "'digits' or 'mnist'",
        "'digits' needs no download",
    ),
    "train_size": Rule(
        int,
        lambda value: value >= 0,
        "an integer of at least 0",
        "0 takes the whole training set",
    ),
    "epochs": Rule(
        int, lambda value: value >= 1, "an integer of at least 1", "2017 used 10"
    ),
    "batch_size": Rule(
        int,
        lambda value: value >= 1,
        "an integer of at least 1",
        "1 updates after every example",
    ),
    "learning_rate": Rule(
        float,
        lambda value: 0 < value < math.inf,
        "a finite number above 0",
        "2017 used 0.01",
    ),
    "validation_split": Rule(
        float,
        lambda value: 0 <= value < 1,
        "a number from 0 up to, but not including, 1",
        "0.2 holds back the last fifth, 0 nothing",
    ),
    "seed": Rule(
        int,
        lambda value: 0 <= value < 2**32,
        "an integer from 0 to 4294967295",
        "any number in that range will do",
    ),
    "dtype": Rule(
        str,
        lambda value: value in ("float32", "float64"),
        "'float32' or 'float64'",
        "Keras's default is 'float32'",
    ),
    "steps_per_execution": Rule(
        int,
        lambda value: value >= 1,
        "an integer of at least 1",
        "1 is Keras's default",
    ),
    "results_path": Rule(
        str, lambda value: True, "a path in quotes", "'' writes no file"
    ),
}


def check(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values in their canonical types, or refuse the first bad one.

    An int stands for a float where a float is due; NumPy scalars become Python's. A
    name without a rule passes as it is. Raises TypeError for a wrong type and
    ValueError for a value out of range; both name the value, the rule and the mend.
    """
    return {name: _check_one(name, value) for name, value in values.items()}


def checked(namespace: Mapping[str, Any]) -> dict[str, Any]:
    """Return a notebook's parameters, checked: the names in `namespace` that have a rule.

    Raises as `check` does.
    """
    return check({name: namespace[name] for name in RULES if name in namespace})


def _check_one(name: str, value: Any) -> Any:
    """Apply the rule of `name`, if there is one."""
    rule = RULES.get(name)
    if rule is None:
        return value
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        value = value.item()
    if rule.type is float and type(value) is int:
        value = float(value)
    problem = f"{name} is {value!r}; it must be {rule.text}; {rule.mend}"
    if type(value) is not rule.type:
        raise TypeError(problem)
    if not rule.holds(value):
        raise ValueError(problem)
    return value
