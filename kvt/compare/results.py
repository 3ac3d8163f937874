"""The JSON that a notebook leaves behind: schema, reading, writing, comparing."""

import hashlib
import json
import math
import os
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvt.compare.parity import Parity

DIALECTS = {"keras": "Keras", "tf2": "TensorFlow 2", "tf1": "TensorFlow 1"}
VERSIONED = ("tensorflow", "keras", "numpy")
NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
COMMITTED = NOTEBOOKS / "results"
MEASURED = {"seconds", "epoch_seconds", "versions"}

# A type, a list of one type, or an object: {name: schema}, "*" standing for any name.
SCHEMA = {
    "notebook": str,
    "parameters": {"*": object},
    "data": {"name": str, "sha256": str, "train": int, "validation": int, "test": int},
    "dialects": {
        "*": {
            "history": {"*": [float]},
            "test": {"*": float},
            "parameters": int,
            "seconds": float,
            "epoch_seconds": [float],
            "lines": int,
            "weights_sha256": str,
        }
    },
    "parity": {
        "*": {
            "weights_max_abs": [float],
            "weights_max_ulp": [int],
            "history_equal": bool,
        }
    },
    "speed": {"*": {"*": {"examples": int, "epoch_seconds": [float]}}},
    "versions": {"*": str},
}


def dialect(
    *,
    history: Mapping[str, Sequence[float]],
    test: Mapping[str, float],
    weights: Sequence[NDArray[Any]],
    epoch_seconds: Sequence[float],
    lines: int,
) -> dict[str, Any]:
    """Return what the results hold of one dialect's run.

    `history` is by epoch, `test` are the figures of the test set, `weights` the
    learned ones in the model's order, `epoch_seconds` wall seconds, `lines` of code.
    """
    digest = hashlib.sha256()
    for weight in weights:
        digest.update(np.ascontiguousarray(weight).data)
    return {
        "history": {name: list(values) for name, values in history.items()},
        "test": dict(test),
        "parameters": sum(weight.size for weight in weights),
        "seconds": float(sum(epoch_seconds)),
        "epoch_seconds": list(epoch_seconds),
        "lines": lines,
        "weights_sha256": digest.hexdigest(),
    }


def count_lines(notebook: str) -> dict[str, int]:
    """Count each dialect's lines of code in a committed notebook, by its name.

    The cells are those tagged keras, tf2 or tf1; blank lines and comments do not
    count. Raises FileNotFoundError when kvt lies apart from its notebooks.
    """
    content = json.loads((NOTEBOOKS / f"{notebook}.ipynb").read_text())
    counts = dict.fromkeys(DIALECTS, 0)
    for cell in content["cells"]:
        for name in counts.keys() & set(cell["metadata"].get("tags", ())):
            lines = "".join(cell["source"]).splitlines()
            counts[name] += sum(bool(re.match(r"\s*[^\s#]", line)) for line in lines)
    return counts


def write(
    path: str,
    *,
    notebook: str,
    parameters: Mapping[str, Any],
    data: Mapping[str, Any],
    dialects: Mapping[str, Mapping[str, Any]],
    parity: Mapping[str, Parity],
    speed: Mapping[str, Mapping[str, Mapping[str, Any]]],
) -> None:
    """Write a notebook's results to `path`, whole or not at all; "" writes nothing.

    `speed` is by dialect and mode what `kvt.time_epochs` returned. `results_path` is
    left out of the parameters: where the results lie is not one.
    Raises ValueError if they do not fit the schema.
    """
    document = {
        "notebook": notebook,
        "parameters": {k: v for k, v in parameters.items() if k != "results_path"},
        "data": dict(data),
        "dialects": dict(dialects),
        "parity": {name: asdict(one) for name, one in parity.items()},
        "speed": {name: dict(modes) for name, modes in speed.items()},
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in VERSIONED},
        },
    }
    _check_results(document)
    if path:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{os.getpid()}")
        partial.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
        partial.replace(target)


def read(path: str | Path) -> dict[str, Any]:
    """Read results and check them; ValueError names the file and what is wrong."""
    try:
        document = json.loads(Path(path).read_text())
        _check_results(document)
    except (RecursionError, ValueError) as error:
        raise ValueError(
            f"{path} does not hold a notebook's results: {error}; "
            "run the notebook again with this results_path"
        ) from error
    checked: dict[str, Any] = document
    return checked


def read_all(folder: str) -> list[dict[str, Any]]:
    """Read a folder's results in the order of their names; "" is the committed run.

    Raises FileNotFoundError when the folder holds none, ValueError as `read` does.
    """
    paths = sorted((Path(folder) if folder else COMMITTED).glob("*.json"))
    if not paths:
        raise FileNotFoundError(
            f"no results in {folder or COMMITTED}; a folder of JSON files is needed; "
            "run the sections with `-p results_path` into it first"
        )
    return [read(path) for path in paths]


def compare(a: Any, b: Any) -> list[str]:
    """Name the places where two results differ, times and versions left out."""
    return list(_differences(a, b, ""))


def _differences(a: Any, b: Any, place: str) -> Iterator[str]:
    """Walk both documents together."""
    if isinstance(a, dict) and isinstance(b, dict):
        for name in [*a, *(name for name in b if name not in a)]:
            if name in MEASURED:
                continue
            where = f"{place}.{name}" if place else name
            if name in a and name in b:
                yield from _differences(a[name], b[name], where)
            else:
                yield f"{where}: only in the {'first' if name in a else 'second'}"
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for index, (one, other) in enumerate(zip(a, b, strict=True)):
            yield from _differences(one, other, f"{place}[{index}]")
    elif repr(a) != repr(b):  # 1, 1.0 and True are equal, and 0.0 and -0.0
        yield f"{place}: {a!r} against {b!r}"


def _check_results(document: Any) -> None:
    """Hold a document against the schema, and to what its readers count on."""
    _check(document, SCHEMA, "results")
    if not re.fullmatch(r"\d\d_\w+", document["notebook"]):
        raise ValueError(
            f"results.notebook is {document['notebook']!r}; it must be like 01_name"
        )
    if "keras" not in document["dialects"]:
        raise ValueError("results.dialects has no keras, the reference of the others")
    if "graph" not in document["speed"].get("keras", {}):
        raise ValueError("results.speed.keras has no graph, the reference of the modes")
    if unknown := document["speed"].keys() - document["dialects"]:
        raise ValueError(
            f"results.dialects lacks {', '.join(unknown)} of results.speed"
        )
    for name, modes in document["speed"].items():
        for mode, one in modes.items():
            _check_speed(one, f"results.speed.{name}.{mode}")


def _check_speed(one: Mapping[str, Any], place: str) -> None:
    """Refuse a mode without examples, or without an epoch after the first."""
    seconds = one["epoch_seconds"]
    if one["examples"] < 1 or len(seconds) < 2 or min(seconds) <= 0:
        raise ValueError(
            f"{place} is {one!r}; it must have an example or more, and two epochs or "
            "more of above 0 seconds"
        )


def _check(value: Any, schema: Any, place: str) -> None:
    """Hold a value against its schema; ValueError names the first place that fails."""
    if isinstance(schema, list):
        if not isinstance(value, list):
            raise ValueError(f"{place} is {value!r}; it must be a list")
        for index, item in enumerate(value):
            _check(item, schema[0], f"{place}[{index}]")
    elif isinstance(schema, dict):
        if not isinstance(value, dict):
            raise ValueError(f"{place} is {value!r}; it must be an object")
        names = value if "*" in schema else schema
        if set(names) != set(value):
            raise ValueError(
                f"{place} has {', '.join(value) or 'nothing'}; "
                f"it must have exactly {', '.join(schema)}"
            )
        for name in names:
            _check(value[name], schema.get("*", schema.get(name)), f"{place}.{name}")
    elif schema is not object and type(value) is not schema:
        raise ValueError(f"{place} is {value!r}; it must be of type {schema.__name__}")
    elif schema is float and not math.isfinite(value):
        raise ValueError(f"{place} is {value!r}; it must be finite")
