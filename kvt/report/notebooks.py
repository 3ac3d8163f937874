"""Notebook files: read, write, and drop what belongs to one run only."""

import warnings
from pathlib import Path

import nbformat
from nbformat import NotebookNode as NotebookNode

from kvt.report import files

UNSUPPORTED = {
    "raises-exception": "catch the exception in the cell",
    "skip-execution": "delete the cell",
}


class ExecutionError(RuntimeError):
    """A notebook stopped before its end; says which, where, why, and what was saved."""


def stopped(name: str, problem: str, failed: Path) -> str:
    """Return the message about a notebook that did not reach its end."""
    return f"{name} stopped {problem}\nthe notebook up to there: {failed}"


def read(path: Path) -> NotebookNode:
    """Read a notebook. Raises FileNotFoundError, or ValueError for another file."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no notebook {path}")
    try:
        with warnings.catch_warnings():  # about cell ids, which nbformat corrects
            warnings.simplefilter("ignore")
            notebook: NotebookNode = nbformat.read(path, as_version=4)  # type: ignore
        language = notebook.metadata.get("kernelspec", {}).get("language", "python")
        if language != "python":
            raise ValueError(f"its language is {language!r}; kvt runs Python only")
        for cell in notebook.cells:
            _check(cell)
    except OSError:
        raise
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8; save it as UTF-8") from None
    except Exception as problem:  # nbformat raises anything for JSON of another shape
        why = one_line(str(problem))
        raise ValueError(f"{path} is not a notebook that kvt can run: {why}") from None
    return notebook


def _check(cell: NotebookNode) -> None:
    """Raise ValueError for a cell without a source, or with tags that kvt cannot keep.

    Line ends become those of Python, so that marks at line ends are found.
    """
    if not isinstance(cell.get("source"), str):
        raise ValueError("a cell has no source; delete the cell, or write into it")
    cell["source"] = cell.source.replace("\r\n", "\n")
    given = cell.metadata.get("tags", [])
    if not isinstance(given, list) or not all(isinstance(tag, str) for tag in given):
        raise ValueError(f"a cell's tags are {given!r}; they must be a list of text")
    for tag, instead in UNSUPPORTED.items():
        if tag in given:
            first = cell.source.strip().partition("\n")[0]
            raise ValueError(
                f"cell {first!r} is tagged {tag!r}, but kvt runs every cell and stops "
                f"at the first error; {instead}"
            )


def modules(path: Path) -> dict[str, bytes]:
    """Return the modules beside a notebook, which it may import, by file name."""
    return {it.name: it.read_bytes() for it in sorted(path.parent.glob("*.py"))}


def loads(text: str) -> NotebookNode:
    """Return the notebook in a text that this package has written before."""
    return nbformat.v4.reads(text)  # type: ignore[no-any-return, no-untyped-call]


def dumps(notebook: NotebookNode) -> str:
    """Return the text of a notebook's file."""
    return f"{nbformat.v4.writes(notebook)}\n"  # type: ignore[no-untyped-call]


def write(notebook: NotebookNode, path: Path) -> None:
    """Write a notebook's file."""
    files.write(path, dumps(notebook).encode())


def tags(cell: NotebookNode) -> set[str]:
    """Return a cell's tags."""
    return set(cell.metadata.get("tags", []))


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """Return the cells that nbclient runs: it skips blank ones."""
    cells = notebook.cells
    return [cell for cell in cells if cell.cell_type == "code" and cell.source.strip()]


def one_line(text: str) -> str:
    """Return the first line of a message, cut, with control characters escaped."""
    line = text.strip().partition("\n")[0]
    return printable(line if len(line) <= 300 else f"{line[:300]}…")


def printable(text: str) -> str:
    """Return a text with its control characters escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def noise(cell: NotebookNode) -> str:
    """Return a code cell's error or its output on stderr; "" if it has neither."""
    for output in cell.outputs:
        if output.output_type == "error":
            return one_line(f"{output.ename}: {output.evalue}")
        if output.get("name") == "stderr":
            return one_line(f"stderr: {output.text.strip()}")
    return ""


def normalize(notebook: NotebookNode) -> NotebookNode:
    """Drop what differs between equal runs: times, paths, patch version, random id."""
    notebook.metadata.get("language_info", {}).pop("version", None)
    for part in (notebook, *notebook.cells):
        for key in ("papermill", "widgets", "execution"):
            part.metadata.pop(key, None)
        if not part.metadata.get("tags", True):
            del part.metadata["tags"]  # papermill adds an empty list
        if "injected-parameters" in tags(part):
            part["id"] = "injected-parameters"
    return notebook
