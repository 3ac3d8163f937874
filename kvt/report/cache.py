"""The cache: finished runs of notebooks, each under a key of all that it depends on.

An entry is one file: it starts with its digest and is moved into place by a rename. A
damaged entry is deleted, and nothing else: a file `CACHEDIR.TAG` marks the directory as
ours. No library knows this key, which lists what decides an output.
"""

import base64
import contextlib
import copy
import hashlib
import json
import math
import os
import re
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from kvt.compare.results import NOTEBOOKS
from kvt.data import mnist
from kvt.report import files, keras_settings, notebooks, provenance
from kvt.report.notebooks import NotebookNode, code_cells, tags
from kvt.report.parameters import Value

KVT = Path(__file__).parents[1]
LOCK = KVT.parent / "requirements.lock"
DIGITS = "sklearn/datasets/data/digits.csv.gz"
LARGEST = 256 * 1024**2  # bytes of all entries; the least recently used go first
MARK = "CACHEDIR.TAG"  # its first line is what backup programs look for
MARKED = (
    "Signature: 8a477f597d28d172789f06886806bc55\n"
    "# Finished runs of kvt's notebooks; kvt deletes the oldest.\n"
)
ENTRY = re.compile(r"(?P<name>.+)-(?P<key>[0-9a-f]{64})")
WRITTEN = ("results", "logs")  # directories that a notebook may write to
# The relative path of a file there, without steps upward.
LEFT = re.compile(rf"({'|'.join(WRITTEN)})(/(?!\.\.(/|$))[^/\0]+)+")
# The modules of kvt.report that decide what a run leaves; the others read it.
RUNNING = ("execute.py", "notebooks.py", "streams.py", "worker.py")
# Variables that change what a kernel computes or shows. KVT_MNIST is not one of them:
# the key holds the data's hash, wherever the data is.
VARIABLES = re.compile("CUDA_|KERAS_|MKL_|MPL|OMP_|OPENBLAS_|PYTHON|TF_|XLA_")


@dataclass(frozen=True)
class Cached:
    """What a run left: its notebook, its files by relative path, its wall seconds."""

    notebook: NotebookNode
    files: dict[str, bytes] = field(default_factory=dict)
    seconds: float = 0.0


def key(
    name: str, notebook: NotebookNode, values: dict[str, Value], reads: dict[str, bytes]
) -> str:
    """Return the key of a run: equal if everything that decides its outputs is equal.

    Markdown, cell ids and outputs are not part of it.
    """
    committed = NOTEBOOKS / f"{name}.ipynb"
    parts = {
        "name": name,
        "code": code(notebook),
        "values": values,
        "reads": {path: sha256(content) for path, content in reads.items()},
        "source": source(),
        # Lines of code are counted in the committed notebook, wherever its copy runs.
        "committed": committed.exists() and code(notebooks.read(committed)),
        "data": data(str(values.get("dataset", ""))),
        "lock": sha256(LOCK.read_bytes()) if LOCK.exists() else "",
        "installed": installed(),
        "python": [sys.version, sys.platform],
        "machine": machine(),
        "keras": keras_settings.changed(),
        "environment": {k: v for k, v in os.environ.items() if VARIABLES.match(k)},
    }
    return sha256(json.dumps(parts, sort_keys=True).encode())


def installed() -> list[str]:
    """Return the packages that Python can import, with their versions."""
    return sorted(
        path.name for place in sys.path for path in Path(place).glob("*.dist-info")
    )


def machine() -> list[Any]:
    """Return what determines rounding: the processor, and the number of threads."""
    return [provenance.processor(), provenance.threads()]


def code(notebook: NotebookNode) -> list[list[Any]]:
    """Return source and tags of each code cell; tags decide which lines are counted."""
    return [[cell.source, sorted(tags(cell))] for cell in code_cells(notebook)]


def source() -> dict[str, str]:
    """Return the SHA-256 of kvt's files, except those that only make the page."""
    return {
        str(path.relative_to(KVT)): sha256(path.read_bytes())
        for path in (*KVT.rglob("*.py"), *KVT.rglob("*.mplstyle"))
        if path.parent != KVT / "report" or path.name in RUNNING
    }


def data(dataset: str) -> str:
    """Return a SHA-256 that identifies a data set's content, without loading it.

    Returns "" for "": a notebook without a data set.
    """
    if dataset == "mnist":  # loaded arrays are always checked against these hashes
        return sha256(repr(mnist.HASHES).encode())
    if not dataset:
        return ""
    file = distribution("scikit-learn").locate_file(DIGITS)
    return sha256(Path(str(file)).read_bytes())


def check_directory(directory: Path) -> None:
    """Raise ValueError if the directory holds files that are not the cache's."""
    if not directory.exists() or (directory / MARK).exists():
        return
    if not directory.is_dir():
        raise ValueError(f"{directory} is a file; name a directory with --cache")
    for path in directory.iterdir():
        if not ENTRY.fullmatch(path.name) and not path.name.startswith(files.PREFIX):
            raise ValueError(
                f"{directory} holds {path.name}, which is not the cache's; the cache "
                "deletes old files, so it needs a directory of its own; name a new or "
                "empty one with --cache"
            )


def load(directory: Path, name: str, key: str) -> Cached | None:
    """Return the entry of this run; None if it is missing, damaged or unreadable."""
    path = directory / f"{name}-{key}"
    entry = _unpacked(path, key)
    with contextlib.suppress(OSError):  # a cache that may be read but not written
        if entry:
            os.utime(path)  # most recently used
        else:
            path.unlink()
    return entry


def store(directory: Path, name: str, key: str, entry: Cached) -> None:
    """Store an entry, whole or not at all, in the cache's limit; may raise OSError.

    Other commands that use the cache wait meanwhile.
    """
    with files.room(directory, directory, waits=True) as room:
        if not (directory / MARK).exists():
            files.replace(directory / MARK, MARKED.encode(), room)
        files.replace(directory / f"{name}-{key}", _packed(entry, key), room)
        left = LARGEST
        for path in reversed(_by_age(directory)):
            left -= path.lstat().st_size
            if left < 0:
                path.unlink(missing_ok=True)


def seconds(directory: Path, name: str) -> float:
    """Return how long the notebook's last cached run took; infinity if unknown."""
    with contextlib.suppress(OSError):  # another command has just deleted an entry
        for path in _by_age(directory, name)[-1:]:
            if entry := _unpacked(path, path.name.removeprefix(f"{name}-")):
                return entry.seconds
    return math.inf


def graft(cached: NotebookNode, notebook: NotebookNode) -> NotebookNode:
    """Return a notebook as if it had been run: its own prose, the cached outputs.

    Both have the same code cells, except for the one that papermill injects.
    """
    grafted = copy.deepcopy(notebook)
    own, ran = code_cells(grafted), code_cells(cached)
    for at, cell in enumerate(ran):
        if "injected-parameters" in tags(cell) and len(ran) > len(own):
            below = grafted.cells.index(own[at - 1]) + 1 if at else 0
            grafted.cells.insert(below, cell)
            own.insert(at, cell)
    for cell, old in zip(own, ran, strict=True):
        for name in ("source", "outputs", "execution_count"):
            cell[name] = old[name]
    for name in cached.metadata.keys() & {"kernelspec", "language_info"}:
        grafted.metadata[name] = cached.metadata[name]
    return notebooks.normalize(grafted)


def read_files(directory: Path, parts: Sequence[str]) -> dict[str, bytes]:
    """Return the files in these parts of a directory, by relative path."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for part in parts
        for path in sorted((directory / part).rglob("*"))
        if path.is_file()
    }


def write_files(contents: Mapping[str, bytes], directory: Path) -> None:
    """Write files by relative path."""
    for name, content in contents.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        files.write(directory / name, content)


def _packed(entry: Cached, key: str) -> bytes:
    """Return an entry as bytes: a digest of key and content, then the content."""
    left = {k: base64.b85encode(v).decode() for k, v in entry.files.items()}
    parts = [notebooks.dumps(entry.notebook), left, entry.seconds]
    body = zlib.compress(json.dumps(parts).encode(), level=1)
    return hashlib.sha256(key.encode() + body).digest() + body


def _unpacked(path: Path, key: str) -> Cached | None:
    """Return the entry; None if it is unreadable, has changed, or has another key."""
    try:
        packed = path.read_bytes() if path.is_file() else b""  # a FIFO would block
    except OSError:
        return None
    digest, body = packed[:32], packed[32:]
    if hashlib.sha256(key.encode() + body).digest() != digest:
        return None
    # Whoever may write to the directory can make a digest: trust no content either.
    try:
        notebook, left, seconds = json.loads(zlib.decompress(body))
        left = {str(k): base64.b85decode(v) for k, v in left.items()}
        entry = Cached(notebooks.loads(notebook), left, float(seconds))
    except (ValueError, TypeError, AttributeError, KeyError, zlib.error):
        return None
    return entry if all(map(LEFT.fullmatch, left)) else None


def _by_age(directory: Path, name: str | None = None) -> list[Path]:
    """Return the entries of a notebook, or all, the least recently used first."""
    found = {path: ENTRY.fullmatch(path.name) for path in directory.glob("*")}
    own = [p for p, match in found.items() if match and name in (None, match["name"])]
    own = [path for path in own if path.is_file() and not path.is_symlink()]
    return sorted(own, key=lambda path: path.stat().st_mtime)


def sha256(content: bytes) -> str:
    """Return the digest of a content."""
    return hashlib.sha256(content).hexdigest()
