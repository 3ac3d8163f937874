"""The cache: finished runs of notebooks, each under a key of all that it depends on.

An entry is one file: it starts with its digest and is moved into place by a rename. A
damaged entry is deleted. No library knows this key, which lists what decides an output.
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

from kvt.compare.results import NOTEBOOKS
from kvt.data import mnist
from kvt.report import machine, notebooks
from kvt.report.notebooks import NotebookNode, tags
from kvt.report.parameters import Value

KVT = Path(__file__).parents[1]
LOCK = KVT.parent / "requirements.lock"
LARGEST = 256 * 1024**2  # bytes of all entries; the least recently used go first
# The modules of kvt.report that decide what a run leaves; the others read it.
RUNNING = ("execute.py", "notebooks.py", "workers.py")
# Variables that change what a kernel computes or shows. KVT_MNIST is not one of them:
# the key holds the data's hash, wherever the data is.
VARIABLES = (
    *("CUDA_", "KERAS_", "MKL_", "MPL", "OMP_", "OPENBLAS_", "PYTHON", "TF_", "XLA_"),
)


@dataclass(frozen=True)
class Cached:
    """What a run left: its notebook, its files by relative path, its wall seconds."""

    notebook: NotebookNode
    files: dict[str, bytes] = field(default_factory=dict)
    seconds: float = 0.0


def key(
    name: str,
    notebook: NotebookNode,
    values: Mapping[str, Value],
    reads: Mapping[str, bytes],
) -> str:
    """Return the key of a run: equal if everything that decides its outputs is equal.

    Markdown, cell ids and outputs are not part of it.
    """
    parts = {
        "name": name,
        "code": code(notebook),
        "values": dict(values),
        "reads": {path: _sha256(content) for path, content in reads.items()},
        "source": source(),
        # Lines of code are counted in the committed notebook, wherever its copy runs.
        "committed": committed(name),
        "data": data(str(values["dataset"])) if "dataset" in values else "",
        "lock": _sha256(LOCK.read_bytes()) if LOCK.exists() else "",
        "installed": sorted(
            path.name for place in sys.path for path in Path(place).glob("*.dist-info")
        ),
        "python": [sys.version, sys.platform],
        "machine": [machine.processor(), machine.threads()],
        "environment": {k: v for k, v in os.environ.items() if k.startswith(VARIABLES)},
    }
    return _sha256(json.dumps(parts, sort_keys=True).encode())


def code(notebook: NotebookNode) -> list[list[Any]]:
    """Return source and tags of each code cell; tags decide which lines are counted."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [[cell.source, sorted(tags(cell))] for cell in cells]


def source() -> str:
    """Return the SHA-256 of kvt's modules, except those that only make the page."""
    digest = hashlib.sha256()
    for path in sorted(KVT.rglob("*.py")):
        if path.parent != KVT / "report" or path.name in RUNNING:
            digest.update(f"{path.relative_to(KVT)}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def committed(name: str) -> list[list[Any]]:
    """Return the code of the committed notebook with this name, if there is one."""
    path = NOTEBOOKS / f"{name}.ipynb"
    return code(notebooks.loads(path.read_text("utf-8"))) if path.exists() else []


def data(dataset: str) -> str:
    """Return a SHA-256 that identifies a data set's content, without loading it."""
    if dataset == "mnist":  # loaded arrays are always checked against these hashes
        return _sha256(repr(mnist.ARRAYS).encode())
    found = importlib.util.find_spec("sklearn")
    assert found is not None
    file = Path(str(found.origin)).parent / "datasets" / "data" / "digits.csv.gz"
    return _sha256(file.read_bytes())


def load(directory: Path, name: str, key: str) -> Cached | None:
    """Return the entry of this run; None if it is missing or damaged."""
    path = directory / f"{name}-{key}"
    try:
        packed = path.read_bytes()
    except OSError:
        return None
    entry = _unpacked(packed, key)
    with contextlib.suppress(OSError):  # a cache that may be read but not written
        if entry:
            os.utime(path)  # most recently used
        else:
            path.unlink()
    return entry


def store(directory: Path, name: str, key: str, entry: Cached) -> None:
    """Store an entry, whole or not at all, and keep the cache within its limit.

    Raises OSError if the directory cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    partial = directory / f".{name}-{key}.{os.getpid()}"
    try:
        partial.write_bytes(_packed(entry, key))
        partial.replace(directory / f"{name}-{key}")
    finally:
        partial.unlink(missing_ok=True)
    paths = _by_age(directory, "*")
    size = sum(path.stat().st_size for path in paths)
    for path in paths:
        if size > LARGEST:
            size -= path.stat().st_size
            path.unlink(missing_ok=True)


def seconds(directory: Path, name: str) -> float | None:
    """Return how long the notebook's last cached run took, whatever its key."""
    paths = _by_age(directory, f"{name}-*")
    if not paths:
        return None
    entry = _unpacked(paths[-1].read_bytes(), paths[-1].name.removeprefix(f"{name}-"))
    return entry.seconds if entry else None


def graft(cached: NotebookNode, notebook: NotebookNode) -> NotebookNode:
    """Return a notebook as if it had been run: its own prose, the cached outputs.

    Both have the same code cells, except for the one that papermill injects.
    """
    grafted = copy.deepcopy(notebook)
    ran = [cell for cell in cached.cells if cell.cell_type == "code"]
    own = [cell for cell in grafted.cells if cell.cell_type == "code"]
    if len(ran) > len(own):
        at = next(
            i for i, cell in enumerate(ran) if "injected-parameters" in tags(cell)
        )
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
    for name in cached.metadata.keys() & {"kernelspec", "language_info"}:
        grafted.metadata[name] = copy.deepcopy(cached.metadata[name])
    return notebooks.normalize(grafted)


def _packed(entry: Cached, key: str) -> bytes:
    """Return an entry as bytes: a digest of its key and content, then the content."""
    document = {
        "notebook": notebooks.dumps(entry.notebook),
        "files": {k: base64.b85encode(v).decode() for k, v in entry.files.items()},
        "seconds": entry.seconds,
    }
    body = zlib.compress(json.dumps(document).encode(), level=1)
    return hashlib.sha256(key.encode() + body).digest() + body


def _unpacked(packed: bytes, key: str) -> Cached | None:
    """Return the entry in these bytes; None if the digest does not match."""
    digest, body = packed[:32], packed[32:]
    if hashlib.sha256(key.encode() + body).digest() != digest:
        return None
    document = json.loads(zlib.decompress(body))
    return Cached(
        notebooks.loads(document["notebook"]),
        {path: base64.b85decode(text) for path, text in document["files"].items()},
        document["seconds"],
    )


def _by_age(directory: Path, pattern: str) -> list[Path]:
    """Return files of the cache, the least recently used first."""
    return sorted(directory.glob(pattern), key=lambda path: path.stat().st_mtime)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
