"""The results JSON of a notebook: its schema, writing, reading and comparing."""

import json
import math
import os
import platform
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from kvt.compare.parity import Outcome
from kvt.data.releases import release

DIALECTS = {"keras": "Keras", "tf2": "TensorFlow 2", "tf1": "TensorFlow 1"}
NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
COMMITTED = NOTEBOOKS / "results"
MEASURED = {"seconds", "epoch_seconds", "versions"}
METRICS = ("loss", "accuracy")

# A type, a list of one type, or an object: {name: schema}. "*" stands for any names; a
# name with "?" may be missing.
DIALECT = {
    "history": {"*": [float]},
    "test": {"*": float},
    "parameters": int,
    "seconds": float,
    "epoch_seconds": [float],
    "lines": int,
    "program_lines?": int,
    "weights_sha256": str,
}
PARITY = {"weights_max_abs": [float], "weights_max_ulp": [int], "history_equal": bool}
SCHEMA = {
    "notebook": str,
    "parameters": {"*": object},
    "data": {"name": str, "sha256": str, "train": int, "validation": int, "test": int},
    "dialects": {"*": DIALECT},
    "parity": {"*": PARITY},
    "speed": {"*": {"*": {"examples": int, "epoch_seconds": [float]}}},
    "versions": {"*": str},
}
# What 09 measures of a few causes; numbers that are not finite are null.
TRAIL = {
    "pair": str,
    "weights": int,
    "identical": [int],
    "distance": [object],
    **{f"{side}_{name}": [object] for side in ("keras", "changed") for name in METRICS},
    **dict.fromkeys(("line", "instead", "finding"), str),
}
CAUSES = {
    **{name: SCHEMA[name] for name in ("notebook", "parameters", "data", "versions")},
    "causes": {"*": TRAIL},
}


def dialects(outcomes: Mapping[str, Outcome], notebook: str) -> dict[str, Any]:
    """Return what the results hold of each dialect's training, by dialect.

    Lines of code are counted in the committed notebook of that name. Raises
    FileNotFoundError if kvt is installed without its notebooks.
    """
    lines, found = count_lines(notebook), {}
    for name, one in outcomes.items():
        weights = one.recorder.weights[-1]
        found[name] = {
            "history": dict(one.history.history),
            "test": dict(one.test),
            "parameters": sum(weight.size for weight in weights),
            "seconds": float(sum(one.recorder.epoch_seconds)),
            "epoch_seconds": one.recorder.epoch_seconds,
            "lines": lines[name],
            "weights_sha256": sha256(
                b"".join(w.tobytes() for w in weights)
            ).hexdigest(),
        }
        if name == "tf2":
            found[name]["program_lines"] = lines["program"]
    return found


def count_lines(notebook: str) -> dict[str, int]:
    """Count lines of code in a committed notebook: of each dialect, of the program.

    A cell belongs to its tag: keras, tf2, tf1 or program. Blank lines, comments and
    cells tagged start, which repeat the others in short, do not count. Raises
    FileNotFoundError if kvt is installed without its notebooks.
    """
    content = json.loads((NOTEBOOKS / f"{notebook}.ipynb").read_text())
    counts = dict.fromkeys((*DIALECTS, "program"), 0)
    for cell in content["cells"]:
        tags = set(cell["metadata"].get("tags", ()))
        for name in counts.keys() & tags if "start" not in tags else ():
            lines = "".join(cell["source"]).splitlines()
            counts[name] += sum(bool(re.match(r"\s*[^\s#]", line)) for line in lines)
    return counts


def write(path: str, **document: Any) -> None:
    """Write a notebook's results to `path`, whole or not at all; "" writes nothing.

    `document` has the names of SCHEMA but `versions`: `dialects` from `dialects`,
    `parity` by dialect, `speed` from `modes.Stopwatch`; or the names of CAUSES.
    `results_path` is left out of the parameters. Raises ValueError if the schema does
    not match.
    """
    document["parameters"] = {
        name: value
        for name, value in document["parameters"].items()
        if name != "results_path"
    }
    for name, one in document.get("parity", {}).items():
        document["parity"][name] = asdict(one)
    versions = {name: release(name) for name in ("tensorflow", "keras", "numpy")}
    document["versions"] = {"python": platform.python_version()} | versions
    _check_results(document)
    if path:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{os.getpid()}")
        partial.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
        partial.replace(target)


def read(path: str | Path) -> dict[str, Any]:
    """Read results and check them; ValueError names the file and the fault."""
    try:
        document: dict[str, Any] = json.loads(Path(path).read_text())
        _check_results(document)
        return document
    except (RecursionError, ValueError) as error:
        raise ValueError(
            f"{path} does not hold a notebook's results: {error}; "
            "run the notebook again with this results_path"
        ) from error


def read_all(folder: str) -> list[dict[str, Any]]:
    """Read a folder's models, sorted by name; "" stands for the committed results.

    Raises FileNotFoundError if the folder holds none, ValueError as `read` does.
    """
    models = [one for one in _documents(folder) if "dialects" in one]
    if not models:
        raise FileNotFoundError(
            f"no results in {folder or COMMITTED}; it must hold JSON files; run the "
            "notebooks 01 to 04 with `-p results_path` into it first"
        )
    return models


def read_causes(folder: str) -> dict[str, Any]:
    """Read what a folder holds of causes, by name: CAUSES; empty if it holds none.

    The folder is that of `read_all`. Raises ValueError as `read` does.
    """
    found = (one["causes"] for one in _documents(folder) if "causes" in one)
    return {name: one for causes in found for name, one in causes.items()}


def _documents(folder: str) -> list[dict[str, Any]]:
    place = Path(folder) if folder else COMMITTED
    return [read(path) for path in sorted(place.glob("*.json"))]


def compare(a: Any, b: Any) -> list[str]:
    """List the places where two results differ, except for times and versions."""
    return [line.removeprefix(".") for line in _differences(a, b, "")]


def _differences(a: Any, b: Any, place: str) -> Iterator[str]:
    """Walk through both documents together."""
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for index, (one, other) in enumerate(zip(a, b, strict=True)):
            yield from _differences(one, other, f"{place}[{index}]")
    elif isinstance(a, dict) and isinstance(b, dict):
        for name in a | b:
            if name in MEASURED:
                continue
            if name in a and name in b:
                yield from _differences(a[name], b[name], f"{place}.{name}")
            else:
                which = "first" if name in a else "second"
                yield f"{place}.{name}: only in the {which}"
    elif repr(a) != repr(b):  # 1, 1.0 and True are equal, and 0.0 and -0.0
        yield f"{place}: {a!r} against {b!r}"


def _check_results(document: Any) -> None:
    """Check a document against the schema, and what its readers rely on."""
    of_causes = isinstance(document, dict) and "causes" in document
    _check(document, CAUSES if of_causes else SCHEMA, "results")
    if not re.fullmatch(r"\d\d_\w+", document["notebook"]):
        raise ValueError(
            f"results.notebook is {document['notebook']!r}; it must be like 01_name"
        )
    if of_causes:
        return
    if "graph" not in document["speed"].get("keras", {}):
        raise ValueError("results.speed.keras has no graph, which all modes refer to")
    for name, modes in document["speed"].items():
        if name not in document["dialects"]:
            raise ValueError(f"results.dialects lacks {name} of results.speed")
        for mode, one in modes.items():
            seconds = one["epoch_seconds"]
            if one["examples"] < 1 or len(seconds) < 2 or min(seconds) <= 0:
                raise ValueError(
                    f"results.speed.{name}.{mode} is {one!r}; it must have at least "
                    "one example, and at least two epochs of more than 0 seconds"
                )


def _check(value: Any, schema: Any, place: str) -> None:
    """Check a value against its schema; ValueError names the first place that fails."""
    kind = schema if isinstance(schema, type) else type(schema)
    if kind is not object and type(value) is not kind:
        raise ValueError(f"{place} is {value!r}; it must be of type {kind.__name__}")
    if kind is float and not math.isfinite(value):
        raise ValueError(f"{place} is {value!r}; it must be finite")
    if kind is list:
        for index, item in enumerate(value):
            _check(item, schema[0], f"{place}[{index}]")
    if kind is dict:
        known = {name.removesuffix("?"): one for name, one in schema.items()}
        required = schema.keys() & known  # those without "?"
        if "*" not in known and not required <= value.keys() <= known.keys():
            raise ValueError(
                f"{place} has {', '.join(value) or 'nothing'}; "
                f"it must have exactly {', '.join(schema)}"
            )
        for name, one in value.items():
            _check(one, known.get("*", known.get(name)), f"{place}.{name}")
