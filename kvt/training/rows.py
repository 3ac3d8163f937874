"""Examples as rows of arrays, read as Keras reads them: one array or several per part.

Each part, `x`, `y` or `sample_weight`, is an array, or a tuple, list or dict of arrays
for a model with several inputs or outputs. A list becomes a tuple, as in Keras.
"""

import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kvt.data import Array
from kvt.training import checks

Rows = tuple[Any, ...]  # the batch of all examples: (x, y) or (x, y, sample_weight)


def map_leaves(function: Callable[[Any, str], Any], part: Any, name: str = "") -> Any:
    """Apply a function to each array of a part, and to the array's name."""
    if isinstance(part, dict):
        return {k: map_leaves(function, v, f"{name}[{k!r}]") for k, v in part.items()}
    if isinstance(part, tuple | list):
        named = ((each, f"{name}[{i}]") for i, each in enumerate(part))
        return tuple(map_leaves(function, *one) for one in named)
    return function(part, name)


def length(rows: Rows) -> int:
    """Return the number of examples."""
    lengths: list[int] = []
    map_leaves(lambda array, _: lengths.append(len(array)), rows)
    return lengths[0]


def take(part: Any, index: Array | slice) -> Any:
    """Return some of the rows of each array of a part, or of all parts."""
    if isinstance(part, tuple):
        return tuple([take(each, index) for each in part])
    if isinstance(part, dict):
        return {name: take(each, index) for name, each in part.items()}
    return part[index]


def read(step: Any, given: Rows, of: str = "") -> Rows:
    """Return x, y and sample_weight as arrays of numbers, cast as Keras casts them.

    A part may be None or left out. Floats become Keras's `floatx`, or stay what they
    are if Keras is not imported, or if the step has an `input_signature`, which then
    decides. Other numbers stay: a step that cannot use them is traced for others. A
    single weight goes with every output. `of` ends the names in messages.
    """
    checks.no_batches(given[0], of)
    floats = None if getattr(step, "input_signature", None) else floatx()
    named: dict[str, Array] = {}

    def as_array(part: Any, name: str) -> Array:
        named[name + of] = array = to_array(part, name + of, floats)
        return array

    parts = {
        name: map_leaves(as_array, part, name)
        for name, part in zip(("x", "y", "sample_weight"), given, strict=False)
        if part is not None
    }
    checks.rows(named)
    if "sample_weight" in parts:
        parts["sample_weight"] = for_each_output(parts["sample_weight"], parts["y"], of)
    return tuple(parts.values())


def to_array(part: Any, name: str, floats: str | None) -> Array:
    """Return an array of numbers in this machine's byte order; cast floats."""
    kind = type(part).__name__
    if type(part).__module__.partition(".")[0] == "pandas":
        mixed = kind == "DataFrame" and any(
            "float" in str(d).lower() for d in part.dtypes
        )
        part = (part.astype(floats or "float64") if mixed else part).to_numpy()
        part = part[:, None] if kind == "Series" else part  # as in Keras
    checks.dense(part, name, kind)
    array = np.asarray(part)
    checks.numbers(array, name)
    dtype = array.dtype.newbyteorder("=")
    if floats and (dtype.kind == "f" or "float" in dtype.name):
        dtype = np.dtype(floats)
    with np.errstate(over="ignore"):  # `checks.rows` reports it
        return array.astype(dtype, copy=False)


def floatx() -> str | None:
    """Return the dtype that Keras casts floats to; None if Keras is not imported."""
    config = getattr(sys.modules.get("keras"), "config", None)
    return str(config.floatx()) if config else None


def for_each_output(weight: Any, y: Any, of: str) -> Any:
    """Nest sample weights like y; a single one goes with every output."""
    if map_leaves(lambda *_: 0, weight) == map_leaves(lambda *_: 0, y):
        return weight
    checks.single_weight(weight, f"sample_weight{of}")
    return map_leaves(lambda *_: weight, y)


def weighted(batch: Rows, class_weight: Mapping[int, float]) -> Rows:
    """Add sample weights by class to a batch `(x, y)`, as Keras's `class_weight` does.

    y holds a class (b,) or (b, 1), or is one-hot (b, k). A class that is not in
    `class_weight` weighs 1. Raises ValueError for any other batch.
    """
    checks.classes(batch)
    y = np.asarray(batch[1])
    if y.ndim > 1:
        y = y.argmax(axis=-1) if y.shape[-1] > 1 else y[:, 0]
    found = [class_weight.get(int(each), 1.0) for each in np.round(y)]
    return *batch, np.array(found, floatx() or "float32")


def joined(outputs: list[Any]) -> Any:
    """Join the outputs of batches, along the examples, into an array for each output.

    They are nested like each batch's outputs. Raises ValueError if their shapes differ.
    """
    first = outputs[0]
    if isinstance(first, dict):
        return {name: joined([each[name] for each in outputs]) for name in first}
    if isinstance(first, tuple | list):
        return type(first)(map(joined, map(list, zip(*outputs, strict=True))))
    checks.outputs(outputs)
    arrays = [np.asarray(each) for each in outputs]
    return np.concatenate(arrays) if arrays[0].ndim else np.stack(arrays)
