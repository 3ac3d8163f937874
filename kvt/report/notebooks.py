"""Notebook files: reading and writing them as nbformat's version 4."""

from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.reader import NotJSONError


def read(path: Path) -> NotebookNode:
    """Read a notebook. Raises FileNotFoundError, or ValueError where it is none."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no notebook {path}")
    try:
        found = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    except (NotJSONError, nbformat.ValidationError, AttributeError) as problem:
        first = str(problem).splitlines()[0]
        raise ValueError(f"{path} is not a notebook: {first}") from None
    assert isinstance(found, NotebookNode)
    return found


def new() -> NotebookNode:
    """Return a notebook without cells."""
    empty = nbformat.v4.new_notebook()  # type: ignore[no-untyped-call]
    assert isinstance(empty, NotebookNode)
    return empty


def dumps(notebook: NotebookNode) -> str:
    """Return the text of a notebook's file."""
    return str(nbformat.writes(notebook))  # type: ignore[no-untyped-call]


def write(notebook: NotebookNode, path: Path) -> None:
    """Write a notebook's file."""
    path.write_text(f"{dumps(notebook)}\n", encoding="utf-8")
