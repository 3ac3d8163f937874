"""The checks of `fit`'s arguments, kept apart so that the loop stays readable.

Each rejects what no loop could train on, and says how to fix it.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from kvt.data import Array, parameters
from kvt.data.quietly import quiet

ENDLESS = -1  # the value of tf.data.INFINITE_CARDINALITY


def epochs(epochs: int, initial_epoch: int, steps_per_epoch: int | None) -> None:
    """Reject an `initial_epoch` outside 0..epochs, and epochs without steps."""
    parameters.check({"epochs": epochs})
    if not 0 <= initial_epoch <= epochs:
        raise ValueError(
            f"initial_epoch is {initial_epoch!r}; it must be between 0 and epochs, "
            f"{epochs}; use 0 to start a training"
        )
    if steps_per_epoch is not None and steps_per_epoch < 1:
        raise ValueError(
            f"steps_per_epoch is {steps_per_epoch!r}; it must be at least 1; "
            "use None to go through all of x"
        )


def rows(named: Mapping[str, Array]) -> None:
    """Reject arrays of different or no length, and NaN or infinity in them."""
    if len({len(array) for array in named.values()}) > 1:
        counts = " and ".join(f"{name} has {len(a)}" for name, a in named.items())
        raise ValueError(
            f"{counts} examples; the numbers must be equal; "
            "take all arrays from the same examples"
        )
    for name, array in named.items():
        if len(array) == 0:
            raise ValueError(
                f"{name} has 0 examples; at least 1 is needed; pass more data"
            )
        # Some rows at a time, to save memory.
        for start in range(0, len(array), 1_000):
            finite = np.isfinite(array[start : start + 1_000])
            if not finite.all():
                raise ValueError(
                    f"{name} contains NaN or infinity, first in example "
                    f"{start + int(np.argwhere(~finite)[0][0])}; every value must be "
                    "finite; correct or drop such examples"
                )


def no_rows_needed(validation_split: float, sample_weight: Array | None) -> None:
    """Reject arguments that need rows if x gives batches."""
    if validation_split or sample_weight is not None:
        name = "validation_split" if validation_split else "sample_weight"
        raise ValueError(
            f"{name} needs x and y as arrays, but without y, x must give batches; "
            "pass validation_data, or the weights as the third part of each batch"
        )


def parts(validation_data: tuple[Any, ...]) -> None:
    """Reject a tuple that is not (x, y) or (x, y, sample_weight)."""
    if len(validation_data) not in (2, 3):
        raise ValueError(
            f"validation_data is a tuple of {len(validation_data)}; it must be (x, y) "
            "or (x, y, sample_weight); pass batches as a list or tf.data.Dataset"
        )


def source(source: object, name: str, epochs: int, steps_per_epoch: int | None) -> None:
    """Reject a source of batches that cannot give so many epochs."""
    kind = type(source).__name__
    if not isinstance(source, Iterable):
        raise TypeError(
            f"{name} is a {kind}; it must give batches; pass a tf.data.Dataset, a "
            "list or a generator (not the function that makes a generator)"
        )
    if steps_per_epoch is not None:
        return
    # Not `iter(source) is source`: that would use up an order of a shuffled Dataset.
    if epochs > 1 and isinstance(source, Iterator):
        raise ValueError(
            f"{name} is a {kind}, which can be iterated over only once; {epochs} "
            "epochs need it again; pass a list or tf.data.Dataset, or, for x, "
            "steps_per_epoch, the number of batches to take per epoch"
        )
    if _is_endless(source):
        raise ValueError(
            f"{name} is a {kind} that never ends; an epoch must end; "
            "use .take(n), or, for x, steps_per_epoch"
        )


def _is_endless(source: Any) -> bool:
    """Return whether a `tf.data.Dataset` says that it never ends."""
    try:
        return bool(source.cardinality() == ENDLESS)
    except (AttributeError, RuntimeError, TypeError):  # not a Dataset, or in a graph
        return False


def batch(batch: object, name: str) -> None:
    """Reject a batch that is not a tuple or list; an array would be split into rows."""
    if not isinstance(batch, tuple | list):
        raise TypeError(
            f"{name} gave a {type(batch).__name__} as a batch; it must be a tuple, "
            "(x, y) or (x, y, sample_weight); pass whole arrays as x and y"
        )


def whole_epoch(count: int, name: str, epochs: int, steps: int | None) -> None:
    """Reject an epoch with too few batches, where Keras warns and continues."""
    if count < (steps or 1):
        raise ValueError(
            f"{name} ended after {count} batches of an epoch that needs "
            f"{steps or 'at least 1'}; pass {(steps or 1) * epochs} or more batches in "
            "all, or reduce epochs or steps_per_epoch"
        )


def execution(
    steps_per_execution: int | str, jit_compile: bool, train: object, test: object
) -> None:
    """Reject steps that cannot become part of a graph, if several run per call."""
    if steps_per_execution != "epoch":
        parameters.check({"steps_per_execution": steps_per_execution})
    if steps_per_execution == 1 and not jit_compile:
        return
    with quiet():
        import tensorflow as tf
    for name, step in {"train_step": train, "test_step": test}.items():
        if step is not None and not isinstance(step, tf.types.experimental.Callable):
            raise TypeError(
                f"{name} is a {type(step).__name__}; it must be a tf.function for "
                "steps_per_execution above 1 or jit_compile; decorate it with "
                "@tf.function, or use 1 and False (a Session or NumPy step needs both)"
            )


def finite(loss: float, name: str, place: str) -> None:
    """Stop a training that has diverged."""
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"{name} became {loss} in {place}; it must stay finite; "
            "try a smaller learning_rate"
        )
