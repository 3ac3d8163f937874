"""The rules for the notebooks' parameters.

`kvt run` and `kvt report` apply them before they start a kernel, each notebook applies
them in its second code cell, and `kvt.fit` applies them to its arguments.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Rule:
    """What is valid for a parameter: a type, and a condition on the value.

    `text` completes "it must be …"; `fix` suggests a value.
    """

    type: type
    holds: Callable[[Any], bool]
    text: str
    fix: str


RULES = {
    "dataset": Rule(
        str,
        lambda value: value in ("digits", "mnist"),
        "'digits' or 'mnist'",
        "use 'digits' if there is no network",
    ),
    "train_size": Rule(
        int,
        lambda value: value >= 0,
        "an integer of at least 0",
        "use 0 for the whole training set",
    ),
    "epochs": Rule(
        int,
        lambda value: value >= 1,
        "an integer of at least 1",
        "the 2017 notebook used 10",
    ),
    "batch_size": Rule(
        int,
        lambda value: value >= 1,
        "an integer of at least 1",
        "use 1 to update the weights after every example",
    ),
    "learning_rate": Rule(
        float,
        lambda value: 0 < value < math.inf,
        "a finite number above 0",
        "the 2017 notebook used 0.01",
    ),
    "validation_split": Rule(
        float,
        lambda value: 0 <= value < 1,
        "in [0, 1)",
        "use 0.2 to hold back the last fifth, 0 to hold back nothing",
    ),
    "seed": Rule(
        int,
        lambda value: 0 <= value < 2**32,
        "an integer from 0 to 4294967295",
        "any integer in that range works",
    ),
    "dtype": Rule(
        str,
        lambda value: value in ("float32", "float64"),
        "'float32' or 'float64'",
        "use 'float32', Keras's default",
    ),
    "steps_per_execution": Rule(
        int,
        lambda value: value >= 1,
        "an integer of at least 1",
        "use 1, Keras's default",
    ),
    "seeds": Rule(
        int,
        lambda value: value >= 1,
        "an integer of at least 1",
        "use 1 to train with the first seed only",
    ),
    "results_path": Rule(
        str, lambda value: True, "a path in quotes", "use '' to write no file"
    ),
    "results_dir": Rule(
        str, lambda value: True, "a path in quotes", "use '' for the committed results"
    ),
}


def checked(namespace: Mapping[str, Any]) -> dict[str, Any]:
    """Return a notebook's checked parameters: the names in `namespace` with a rule.

    Raises as `check` does.
    """
    return check({name: namespace[name] for name in RULES if name in namespace})


def check(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values in their canonical types; reject the first invalid one.

    An int becomes a float if the rule asks for a float; NumPy scalars become Python's.
    A name without a rule passes unchanged. Raises TypeError for a wrong type and
    ValueError for a value out of range; both messages give value, rule and fix.
    """
    return {name: _check_one(name, value) for name, value in values.items()}


def _check_one(name: str, value: Any) -> Any:
    """Apply the rule of `name`, if there is one."""
    rule = RULES.get(name)
    if rule is None:
        return value
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        value = value.item()
    if rule.type is float and type(value) is int:
        value = float(value)
    problem = f"{name} is {value!r}; it must be {rule.text}; {rule.fix}"
    if type(value) is not rule.type:
        raise TypeError(problem)
    if not rule.holds(value):
        raise ValueError(problem)
    return value
