"""The rules for the notebooks' parameters.

`kvt run` and `kvt report` apply them before a kernel starts, each notebook in its
second code cell, and `kvt.fit` to its arguments.
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


def _at_least(least: int, fix: str) -> Rule:
    return Rule(int, lambda n: n >= least, f"an integer of at least {least}", fix)


def _either(one: str, other: str, fix: str) -> Rule:
    return Rule(str, lambda name: name in (one, other), f"{one!r} or {other!r}", fix)


def _one_of(text: str, *values: Any) -> Rule:
    def holds(value: Any) -> bool:
        return isinstance(value, str | int) and value in values

    return Rule(object, holds, text, "leave it out if unsure")


def _path(fix: str) -> Rule:
    return Rule(str, lambda path: True, "a path in quotes", fix)


RULES = {
    "dataset": _either("digits", "mnist", "use 'digits' if there is no network"),
    "train_size": _at_least(0, "use 0 for the whole training set"),
    "epochs": _at_least(1, "the 2017 notebook used 10"),
    "batch_size": _at_least(1, "use 1 to update the weights after every example"),
    "learning_rate": Rule(
        float,
        lambda rate: 0 < rate < math.inf,
        "a finite number above 0",
        "the 2017 notebook used 0.01",
    ),
    "validation_split": Rule(
        float,
        lambda share: 0 <= share < 1,
        "in [0, 1)",
        "use 0.2 to hold back the last fifth, 0 to hold back nothing",
    ),
    "seed": Rule(
        int,
        lambda seed: 0 <= seed < 2**32,
        "an integer from 0 to 4294967295",
        "any integer in that range works",
    ),
    "budget": _at_least(1, "use 60, the default"),
    "seeds": _at_least(1, "use 1 to train with the first seed only"),
    "dtype": _either("float32", "float64", "use 'float32', Keras's default"),
    "steps_per_epoch": _at_least(1, "use None to go through all of x"),
    "steps": _at_least(1, "use None to go through all of x"),
    "validation_steps": _at_least(1, "use None to validate on all examples"),
    "validation_batch_size": _at_least(1, "use None for that of the training"),
    "validation_freq": _at_least(1, "use 1 to validate after every epoch"),
    "steps_per_execution": _at_least(1, "use 1, Keras's default"),
    "shuffle": _one_of("True, False or 'batch'", True, False, "batch"),
    "verbose": _one_of("'auto', 0, 1 or 2", "auto", 0, 1, 2),
    "return_dict": _one_of("True", True),
    "results_path": _path("use '' to write no file"),
    "results_dir": _path("use '' for the committed results"),
}


def checked(namespace: Mapping[str, Any]) -> dict[str, Any]:
    """Return a notebook's parameters, those in `namespace` with a rule, by `check`."""
    return check({name: namespace[name] for name in RULES if name in namespace})


def check(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values in their canonical types; reject the first invalid one.

    An int becomes a float where a float is due; NumPy scalars become Python's. A name
    without a rule passes unchanged. Raises TypeError and ValueError.
    """
    return {name: _check_one(name, value) for name, value in values.items()}


def _check_one(name: str, value: Any) -> Any:
    """Apply the rule for `name`, if there is one."""
    rule = RULES.get(name)
    if rule is None:
        return value
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        value = value.item()
    if rule.type is float and type(value) is int:
        value = float(value)
    problem = f"{name} is {value!r}; it must be {rule.text}; {rule.fix}"
    if rule.type is not object and type(value) is not rule.type:
        raise TypeError(problem)
    if not rule.holds(value):
        raise ValueError(problem)
    return value
