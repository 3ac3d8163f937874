"""The checks of `fit`'s arguments, kept apart so that the loop stays readable.

Each rejects what no loop could train on, and says how to fix it.
"""

import inspect
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from kvt.data import Array, parameters
from kvt.data.quietly import quiet

ENDLESS = -1  # the value of tf.data.INFINITE_CARDINALITY


def arguments(given: Mapping[str, Any]) -> None:
    """Reject values that Keras does not accept, and an `initial_epoch` too large."""
    epochs, initial_epoch = given["epochs"], given["initial_epoch"]
    parameters.check({"epochs": epochs})
    if initial_epoch not in range(epochs + 1):
        raise ValueError(
            f"initial_epoch is {initial_epoch!r}; it must be between 0 and epochs, "
            f"{epochs}; use 0 to start a training"
        )
    freq = given["validation_freq"]
    for each in freq if isinstance(freq, list | tuple | set | range) else [freq]:
        parameters.check({"validation_freq": each})
    names = "batch_size validation_batch_size steps_per_epoch validation_steps "
    choices(**{n: given[n] for n in (names + "shuffle verbose seed").split()})


def choices(**given: Any) -> None:
    """Reject invalid values; None is the default of most."""
    needed = "shuffle", "verbose", "return_dict"
    parameters.check({n: v for n, v in given.items() if v is not None or n in needed})


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


def dense(part: object, name: str, kind: str) -> None:
    """Reject what is not an array, such as a list of numbers or a sparse matrix."""
    if hasattr(part, "__array__") and not isinstance(part, np.generic):
        return
    if "Ragged" in kind or "parse" in kind or hasattr(part, "tocoo"):
        raise TypeError(
            f"{name} is a {kind}; rows must be a dense array; convert it "
            "(to_tensor, tf.sparse.to_dense, toarray), or give batches without y"
        )
    raise TypeError(
        f"{name} is a {kind}; it must be an array, or a tuple or dict of arrays; "
        "pass np.array(…), or for batches no y"
    )


def numbers(array: Array, name: str) -> None:
    """Reject an array without rows, and one that does not hold numbers."""
    if array.ndim == 0:
        raise ValueError(
            f"{name} is a single value; it must have one row per example; "
            "pass an array of shape (n, …)"
        )
    if array.dtype.kind not in "biufc" and "float" not in array.dtype.name:
        raise TypeError(
            f"{name} has dtype {array.dtype}; it must hold numbers; "
            "use .astype('float32'), or number what it holds"
        )


def no_rows_needed(validation_split: float, sample_weight: Any) -> None:
    """Reject arguments that need rows if x gives batches."""
    if validation_split or sample_weight is not None:
        name = "validation_split" if validation_split else "sample_weight"
        raise ValueError(
            f"{name} needs x and y as arrays, but without y, x must give batches; "
            "pass validation_data, or the weights as the third part of each batch"
        )


def gives_batches(x: object) -> bool:
    """Return whether x is a Dataset, a generator, …, and no array or nested arrays."""
    nested = isinstance(x, list | tuple | dict | str | bytes)
    is_array = hasattr(x, "shape") or hasattr(x, "__array__")
    return isinstance(x, Iterable) and not nested and not is_array


def no_batches(x: object, of: str) -> None:
    """Reject an x that gives batches if y is given, too."""
    if gives_batches(x):
        raise ValueError(
            f"x{of} is a {type(x).__name__}, which gives batches, but y is given, too; "
            "each batch must hold its own y; leave y out, or pass x as an array"
        )


def outputs(batches: list[Any]) -> None:
    """Reject predictions that do not become one array."""
    for each in batches:
        if each is None or (hasattr(each, "shape") and not hasattr(each, "__array__")):
            raise TypeError(
                f"predict_step returned {type(each).__name__}; it must return an "
                "array, or a tuple or dict of arrays; return the predictions, dense"
            )
    if len({np.shape(each)[1:] for each in batches}) > 1:
        shapes = " and ".join(sorted({str(np.shape(each)) for each in batches}))
        raise ValueError(
            f"predict_step returned arrays of shapes {shapes}; they must agree but for "
            "the number of examples; pad them to one shape"
        )


def single_weight(weight: Any, name: str) -> None:
    """Reject weights that cannot go with each of several outputs."""
    if not isinstance(weight, np.ndarray) or weight.shape[1:] not in ((), (1,)):
        raise ValueError(
            f"{name} is {getattr(weight, 'shape', 'nested')}, and y is nested "
            "differently; it must be one weight per example, or be nested like y; "
            "pass an array of shape (n,)"
        )


def class_weight(class_weight: Any, sample_weight: Any) -> None:
    """Reject class weights that are no dict, or that come with example weights."""
    if not isinstance(class_weight, Mapping) or not class_weight:
        raise TypeError(
            f"class_weight is {class_weight!r}; it must be a dict from class to "
            "weight; use {0: 1.0, 1: 2.0} to count class 1 twice"
        )
    if sample_weight is not None:
        raise ValueError(
            "class_weight and sample_weight are both given; only one can be; "
            "multiply them into sample_weight"
        )


def classes(batch: Any) -> None:
    """Reject a batch whose examples have no single class."""
    y: Any = batch[1] if len(batch) == 2 else ()
    if isinstance(y, tuple | list | dict) or np.ndim(y) not in (1, 2):
        raise ValueError(
            f"class_weight needs batches (x, y) with y of shape (b,), (b, 1) or (b, k),"
            f" but here are {len(batch)} parts, and y is a {type(y).__name__} of shape "
            f"{np.shape(y) if hasattr(y, 'shape') else 'unknown'}; pass sample_weight"
        )


def parts(validation_data: tuple[Any, ...]) -> None:
    """Reject a tuple that is not (x, y) or (x, y, sample_weight)."""
    if len(validation_data) not in (2, 3):
        raise ValueError(
            f"validation_data is a tuple of {len(validation_data)}; it must be (x, y) "
            "or (x, y, sample_weight); pass batches as a list or tf.data.Dataset"
        )


def source(
    source: object, name: str, epochs: int, steps: int | None, restarts: bool
) -> None:
    """Reject a source of batches that cannot give so many epochs."""
    kind = type(source).__name__
    if not isinstance(source, Iterable):
        raise TypeError(
            f"{name} is a {kind}; it must give batches; pass a tf.data.Dataset, a "
            "list or a generator (not the function that makes a generator)"
        )
    # Not `iter(source) is source`: that would use up an order of a shuffled Dataset.
    if epochs > 1 and isinstance(source, Iterator) and (steps is None or restarts):
        raise ValueError(
            f"{name} is a {kind}, which can be iterated over only once; {epochs} "
            "epochs need it again; pass a list or tf.data.Dataset, or, for x, "
            "steps_per_epoch, the number of batches to take per epoch"
        )
    if steps is None and _is_endless(source):
        raise ValueError(
            f"{name} is a {kind} that never ends; an epoch must end; "
            "use .take(n), or, for x, steps_per_epoch"
        )


def is_py_dataset(source: object) -> bool:
    """Return whether a source of batches is a `keras.utils.PyDataset`."""
    return any(kind.__name__ == "PyDataset" for kind in type(source).mro())


def _is_endless(source: Any) -> bool:
    """Return whether a `tf.data.Dataset` or `PyDataset` says that it never ends."""
    if is_py_dataset(source):
        return source.num_batches is None
    try:
        return bool(source.cardinality() == ENDLESS)
    except (AttributeError, RuntimeError, TypeError):  # not a Dataset, or in a graph
        return False


def first_batch(source: Any, name: str) -> None:
    """Reject a first element that is not a batch, if looking at it consumes nothing."""
    if isinstance(source, list | dict) or hasattr(source, "__array__"):
        for first in source:
            batch(first, name)
            return
    elif hasattr(source, "element_spec") and not isinstance(source, Iterator):
        batch(source.element_spec, name)


def batch(batch: object, name: str) -> None:
    """Reject a batch that is not a tuple or list; an array would be split into rows."""
    if not isinstance(batch, tuple | list) or not 0 < len(batch) < 4:
        parts = f" of {len(batch)} parts" if isinstance(batch, tuple | list) else ""
        raise TypeError(
            f"{name} gave a {type(batch).__name__}{parts} as a batch; it must be a "
            "tuple, (x, y) or (x, y, sample_weight); pass whole arrays as x and y"
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
    steps_per_execution: int | str, jit_compile: bool, step: object, name: str
) -> None:
    """Reject a step that cannot become part of a graph, if several run per call."""
    if steps_per_execution != "epoch":
        parameters.check({"steps_per_execution": steps_per_execution})
    if steps_per_execution == 1 and not jit_compile:
        return
    with quiet():
        import tensorflow as tf
    if not isinstance(step, tf.types.experimental.Callable):
        raise TypeError(
            f"{name} is a {type(step).__name__}; it must be a tf.function for "
            "steps_per_execution above 1 or jit_compile; decorate it with "
            "@tf.function, or use 1 and False (a Session or NumPy step needs both)"
        )


def whole_executions(steps: Any, steps_per_execution: int | str, name: str) -> None:
    """Reject a number of steps that Keras would round up to whole executions."""
    if steps_per_execution == "epoch" or not (rest := steps % int(steps_per_execution)):
        return
    argument = (
        "steps_per_epoch" if name == "train_step" else "validation_steps or steps"
    )
    more = steps - rest + int(steps_per_execution)
    raise ValueError(
        f"{argument} is {steps}; it must be a multiple of steps_per_execution, "
        f"{steps_per_execution}, if there are more batches, because Keras would run "
        f"{more} steps; use {more}, or steps_per_execution=1"
    )


def alike(parts: tuple[Any, ...]) -> None:
    """Reject parts of batches that cannot become one array, for many steps per call."""
    found = {
        f"shape (b, {', '.join(map(str, part.shape[1:]))})"
        if hasattr(part, "__array__")
        else type(part).__name__
        for part in parts
    }
    if len(found) > 1 or not hasattr(parts[0], "__array__"):
        raise ValueError(
            f"batches have parts of {' and '.join(sorted(found))}; for many steps per "
            "call they must be dense arrays of one shape; convert or pad them, or use "
            "steps_per_execution=1"
        )


def step(step: Any, name: str, parts: int | None) -> None:
    """Reject a step that cannot be called with so many parts of a batch, if known."""
    problem = ""
    try:
        if parts is not None:
            inspect.signature(step).bind(*range(parts))
    except ValueError:  # no signature, as of some built-in functions
        pass
    except TypeError as error:
        problem = f" ({error})"
    if problem or not callable(step):
        raise TypeError(
            f"{name} is {step!r}; it must be a function of the "
            f"{parts or ''} parts of a batch{problem}; its arguments are x, y, and a "
            "third one if there are weights"
        )


def explain(error: Exception, name: str, batch: Any) -> None:
    """Add to a step's error the dtypes and shapes that the step was called with."""
    arrays = ", ".join(
        f"{getattr(part.dtype, 'name', part.dtype)} {tuple(part.shape)}"
        if hasattr(part, "dtype")
        else type(part).__name__
        for part in batch
    )
    if not hasattr(error, "__notes__"):
        error.add_note(
            f"{name} was called with {arrays}; it gets integers and booleans as they "
            "are; if it needs floats, pass .astype('float32')"
        )


def metrics(logs: object, name: str = "the step") -> None:
    """Reject a step's result without a loss."""
    if not isinstance(logs, Mapping):
        raise TypeError(
            f"{name} returned {type(logs).__name__}; it must return a dict with the "
            'loss; end it with return {"loss": loss}'
        )
    if "loss" not in logs:
        raise ValueError(
            f"{name} returned the metrics {', '.join(map(str, logs)) or 'none'}; one "
            'must be the loss; return {"loss": loss, …}'
        )


def finite(loss: float, name: str, place: str) -> None:
    """Stop a training that has diverged."""
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"{name} became {loss} in {place}; it must stay finite; "
            "try a smaller learning_rate"
        )
