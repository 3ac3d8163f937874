"""Finished runs of notebooks, kept under a key of all that decides what they compute.

An entry is one file, whole or not there: it begins with its digest, and comes into
place by a rename. What does not fit its digest is dropped, and counts as never kept.
"""

import base64
import contextlib
import copy
import hashlib
import importlib.util
import json
import os
import sys
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from kvt.compare.results import NOTEBOOKS
from kvt.data import mnist
from kvt.report import notebooks, provenance
from kvt.report.parameters import Value

KVT = Path(__file__).parents[1]
LOCK = KVT.parent / "requirements.lock"
LARGEST = 256 * 1024**2  # bytes of all entries; what was used longest ago goes first
# The modules of kvt.report that a run goes through; the others come after it.
RUNNING = ("execute.py", "notebooks.py", "parallel.py")
# Variables that change what a kernel computes or shows. KVT_MNIST is not among them:
# the key holds the data's hash, and not where they lie.
VARIABLES = (
    "CUDA_",
    "KERAS_",
    "MKL_",
    "MPL",
    "OMP_",
    "OPENBLAS_",
    "PYTHON",
    "TF_",
    "XLA_",
)


@dataclass(frozen=True)
class Entry:
    """What one run left: its notebook, its files by relative path, its wall seconds."""

    notebook: NotebookNode
    files: dict[str, bytes] = field(default_factory=dict)
    seconds: float = 0.0


def key(
    name: str,
    notebook: NotebookNode,
    values: Mapping[str, Value],
    reads: Mapping[str, bytes],
) -> str:
    """Return the key of a run: equal where everything that decides its outputs is.

    That is the notebook's code cells with their tags, the parameters' values, the files
    that it reads, kvt's source, the data, the lock and what is installed, Python, the
    processor, and the environment variables that TensorFlow and Keras look at.
    Markdown is no part of it, nor are cells' ids and outputs.
    """
    parts = {
        "name": name,
        "code": code(notebook),
        "values": dict(values),
        "reads": {path: _sha256(content) for path, content in reads.items()},
        "source": source(),
        # Line counts are read from the committed notebook, wherever its copy runs.
        "committed": committed(name),
        "data": data(str(values["dataset"])) if "dataset" in values else "",
        "lock": _sha256(LOCK.read_bytes()) if LOCK.exists() else "",
        "installed": installed(),
        "python": [sys.version, sys.platform],
        "processor": [provenance.processor(), provenance.threads()],
        "environment": {
            name: value
            for name, value in os.environ.items()
            if name.startswith(VARIABLES)
        },
    }
    return _sha256(json.dumps(parts, sort_keys=True).encode())


def code(notebook: NotebookNode) -> list[list[Any]]:
    """Source and tags of each code cell: tags tell whose lines of code it counts."""
    return [
        [cell.source, sorted(cell.metadata.get("tags", []))]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def source() -> str:
    """SHA-256 of the package's modules, those left out that only render."""
    digest = hashlib.sha256()
    for path in sorted(KVT.rglob("*.py")):
        if path.parent != KVT / "report" or path.name in RUNNING:
            digest.update(f"{path.relative_to(KVT)}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def committed(name: str) -> list[list[Any]]:
    """The code of the committed notebook with this name, where there is one."""
    path = NOTEBOOKS / f"{name}.ipynb"
    return code(notebooks.loads(path.read_text("utf-8"))) if path.exists() else []


def data(dataset: str) -> str:
    """SHA-256 that tells a data set's content, without loading it.

    MNIST's arrays are checked against their hashes wherever they are loaded; the digits
    come out of a file of scikit-learn's.
    """
    if dataset == "mnist":
        return _sha256(repr(mnist.ARRAYS).encode())
    found = importlib.util.find_spec("sklearn")
    assert found is not None
    file = Path(str(found.origin)).parent / "datasets" / "data" / "digits.csv.gz"
    return _sha256(file.read_bytes())


def installed() -> list[str]:
    """Names and versions of the installed packages, as their metadata's folders say."""
    return sorted(
        path.name for place in sys.path for path in Path(place).glob("*.dist-info")
    )


def load(directory: Path, name: str, key: str) -> Entry | None:
    """Return what was kept of this run; None where nothing was, or it is damaged."""
    path = _path(directory, name, key)
    try:
        kept = path.read_bytes()
    except OSError:
        return None
    entry = _unpacked(kept, key)
    with contextlib.suppress(OSError):  # a cache that may be read, not written
        if entry:
            os.utime(path)  # used now: the last to go
        else:
            path.unlink()
    return entry


def store(directory: Path, name: str, key: str, entry: Entry) -> None:
    """Keep a run under its key, whole or not at all, and the cache within its bounds.

    Raises OSError where the directory cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = _path(directory, name, key)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(_packed(entry, key))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    _trim(directory)


def seconds(directory: Path, name: str) -> float | None:
    """How long the notebook's last kept run took, whatever its key; None if unknown."""
    paths = _by_age(directory, f"{name}-*")
    if not paths:
        return None
    entry = _unpacked(paths[-1].read_bytes(), paths[-1].name.removeprefix(f"{name}-"))
    return entry.seconds if entry else None


def graft(kept: NotebookNode, notebook: NotebookNode) -> NotebookNode:
    """Return the notebook as if it had been run: its own prose, the kept run's outputs.

    The two have the same code cells, but for the one that papermill injects.
    """
    grafted = copy.deepcopy(notebook)
    ran = [cell for cell in kept.cells if cell.cell_type == "code"]
    own = [cell for cell in grafted.cells if cell.cell_type == "code"]
    if len(ran) > len(own):
        tags = [cell.metadata.get("tags", []) for cell in ran]
        at = next(i for i, each in enumerate(tags) if "injected-parameters" in each)
        above = own[at - 1] if at else None
        places = (i + 1 for i, cell in enumerate(grafted.cells) if cell is above)
        own.insert(at, copy.deepcopy(ran[at]))
        grafted.cells.insert(next(places, 0), own[at])
    for cell, old in zip(own, ran, strict=True):
        cell.update(
            source=old.source,
            outputs=copy.deepcopy(old.outputs),
            execution_count=old.execution_count,
        )
    for name in kept.metadata.keys() & {"kernelspec", "language_info"}:
        grafted.metadata[name] = copy.deepcopy(kept.metadata[name])
    return notebooks.normalize(grafted)


def _path(directory: Path, name: str, key: str) -> Path:
    return directory / f"{name}-{key}"


def _packed(entry: Entry, key: str) -> bytes:
    """The entry as bytes: a digest of it and of its key, then what it holds."""
    document = {
        "notebook": notebooks.dumps(entry.notebook),
        "files": {
            path: base64.b85encode(content).decode()
            for path, content in entry.files.items()
        },
        "seconds": entry.seconds,
    }
    body = zlib.compress(json.dumps(document).encode(), level=1)
    return hashlib.sha256(key.encode() + body).digest() + body


def _unpacked(kept: bytes, key: str) -> Entry | None:
    """The entry in these bytes; None unless they are the ones that were packed."""
    digest, body = kept[:32], kept[32:]
    if hashlib.sha256(key.encode() + body).digest() != digest:
        return None
    document = json.loads(zlib.decompress(body))
    return Entry(
        notebooks.loads(document["notebook"]),
        {path: base64.b85decode(text) for path, text in document["files"].items()},
        document["seconds"],
    )


def _by_age(directory: Path, pattern: str) -> list[Path]:
    """Files of the cache, the one that was used longest ago first."""
    return sorted(directory.glob(pattern), key=lambda path: path.stat().st_mtime)


def _trim(directory: Path) -> None:
    """Drop what was used longest ago, until the rest fits."""
    paths = _by_age(directory, "*")
    size = sum(path.stat().st_size for path in paths)
    for path in paths:
        if size <= LARGEST:
            break
        size -= path.stat().st_size
        path.unlink(missing_ok=True)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
