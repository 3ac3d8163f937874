"""Notebook files of nbformat's version 4, and what in them belongs to one run only."""

from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.reader import NotJSONError


class ExecutionError(RuntimeError):
    """A notebook that stopped before its end: which, where, why, and what is left."""


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


def loads(text: str) -> NotebookNode:
    """Return the notebook of a text, unchecked: `read` has seen it, or wrote it."""
    made = nbformat.v4.reads(text)  # type: ignore[no-untyped-call]
    assert isinstance(made, NotebookNode)
    return made


def dumps(notebook: NotebookNode) -> str:
    """Return the text of a notebook's file."""
    return str(nbformat.v4.writes(notebook))  # type: ignore[no-untyped-call]


def write(notebook: NotebookNode, path: Path) -> None:
    """Write a notebook's file."""
    path.write_text(f"{dumps(notebook)}\n", encoding="utf-8")


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """Cells that run: nbclient passes over blank ones."""
    cells = notebook.cells
    return [cell for cell in cells if cell.cell_type == "code" and cell.source.strip()]


def normalize(notebook: NotebookNode) -> NotebookNode:
    """Drop from an executed notebook what differs between equal runs.

    That is times, the paths of this machine, the Python's patch version, and the random
    id of the cell that papermill injects.
    """
    notebook.metadata.pop("papermill", None)
    notebook.metadata.pop("widgets", None)
    notebook.metadata.get("language_info", {}).pop("version", None)
    for cell in notebook.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if not cell.metadata.get("tags", True):
            del cell.metadata["tags"]  # the empty list is papermill's
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell["id"] = "injected-parameters"
    return notebook
