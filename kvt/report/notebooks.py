"""Notebook files: read, write, and drop what belongs to one run only.

Modules of the report get nbformat from here, because it takes care to import.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any


class _NoGrammar(MetaPathFinder):
    """Makes `rfc3987_syntax` look as if it were not installed.

    jsonschema, under nbformat, imports it to check IRIs, which no notebook has. The
    package builds a grammar meanwhile: 1.2 s of each start.
    """

    def find_spec(self, fullname: str, path: Sequence[str] | None, *_: Any) -> None:
        if fullname == "rfc3987_syntax":
            raise ModuleNotFoundError(f"{fullname} is not needed", name=fullname)


sys.meta_path.insert(0, _NoGrammar())
try:
    import nbformat
    from nbformat import NotebookNode
    from nbformat.reader import NotJSONError
finally:
    del sys.meta_path[0]

__all__ = ["NotebookNode"]


class ExecutionError(RuntimeError):
    """A notebook stopped before its end; says which, where, why, and what was saved."""


def read(path: Path) -> NotebookNode:
    """Read a notebook. Raises FileNotFoundError, or ValueError for another file."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no notebook {path}")
    try:
        return nbformat.read(path, as_version=4)  # type: ignore
    except (NotJSONError, nbformat.ValidationError, AttributeError) as problem:
        first = str(problem).splitlines()[0]
        raise ValueError(f"{path} is not a notebook: {first}") from None


def new() -> NotebookNode:
    """Return a notebook without cells."""
    return nbformat.v4.new_notebook()  # type: ignore[no-any-return, no-untyped-call]


def loads(text: str) -> NotebookNode:
    """Return the notebook in a text that this package has read or written before."""
    return nbformat.v4.reads(text)  # type: ignore[no-any-return, no-untyped-call]


def dumps(notebook: NotebookNode) -> str:
    """Return the text of a notebook's file."""
    return str(nbformat.v4.writes(notebook))  # type: ignore[no-untyped-call]


def write(notebook: NotebookNode, path: Path) -> None:
    """Write a notebook's file."""
    path.write_text(f"{dumps(notebook)}\n", encoding="utf-8")


def tags(cell: NotebookNode) -> set[str]:
    """Return a cell's tags."""
    return set(cell.metadata.get("tags", []))


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """Return the cells that nbclient runs: it skips blank ones."""
    cells = notebook.cells
    return [cell for cell in cells if cell.cell_type == "code" and cell.source.strip()]


def noise(cell: NotebookNode) -> str:
    """Return a code cell's error or its output on stderr; "" if it has neither."""
    for output in cell.outputs:
        if output.output_type == "error":
            return f"{output.ename}: {output.evalue}"
        if output.get("name") == "stderr":
            return f"stderr: {output.text.strip()}"
    return ""


def normalize(notebook: NotebookNode) -> NotebookNode:
    """Drop what differs between equal runs: times, paths, patch version, random id."""
    for key in ("papermill", "widgets"):
        notebook.metadata.pop(key, None)
    notebook.metadata.get("language_info", {}).pop("version", None)
    for cell in notebook.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if not cell.metadata.get("tags", True):
            del cell.metadata["tags"]  # papermill adds an empty list
        if "injected-parameters" in tags(cell):
            cell["id"] = "injected-parameters"
    return notebook
