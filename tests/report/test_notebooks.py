"""Notebooks of other people: read as they are meant, or rejected by name."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from kvt.report import notebooks

NOTEBOOK: dict[str, Any] = {
    "cells": [
        {"cell_type": "markdown", "id": "a", "metadata": {}, "source": "# Tête"},
        {
            "cell_type": "code",
            "id": "b",
            "metadata": {},
            "source": "1 + 1",
            "outputs": [],
            "execution_count": None,
        },
    ],
    "metadata": {},
    "nbformat": 4,
    "nbformat_minor": 5,
}
OLD = {
    1: {"nbformat": 1, "cells": [{"cell_type": "code", "code": "1 + 1"}]},
    2: {"nbformat": 2, "nbformat_minor": 0, "metadata": {}, "worksheets": []},
    3: {"nbformat": 3, "nbformat_minor": 0, "metadata": {}, "worksheets": []},
}
for version, name in ((2, "input"), (3, "input")):
    old_cell = {"cell_type": "code", "language": "python", name: "1 + 1"}
    OLD[version]["worksheets"] = [{"cells": [old_cell | {"outputs": []}]}]


def changed(place: str, value: object) -> str:
    """Return a notebook's text with another value at a place like "cells 1 source"."""
    notebook: Any = copy.deepcopy(NOTEBOOK)
    *parents, last = (int(it) if it.isdigit() else it for it in place.split())
    inner = notebook
    for parent in parents:
        inner = inner[parent]
    inner[last] = value
    return json.dumps(notebook, ensure_ascii=False)


def read(content: bytes, tmp_path: Path) -> notebooks.NotebookNode:
    path = tmp_path / "theirs.ipynb"
    path.write_bytes(content)
    return notebooks.read(path)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("cells", None, "not iterable"),
        ("cells", ["text"], "'str' object"),
        ("metadata", None, "'NoneType' object"),
        ("metadata", {"kernelspec": {"language": "R"}}, "'R'; kvt runs Python only"),
        ("metadata", {"kernelspec": "python3"}, "no attribute 'get'"),
        ("nbformat", None, "version None"),
        ("nbformat", 5, "Unsupported nbformat version 5"),
        ("cells 1 source", None, "a cell has no source"),
        ("cells 1 metadata tags", None, "tags are None; they must be a list"),
        ("cells 1 metadata tags", "abc", "tags are 'abc'; they must be a list"),
        ("cells 1 metadata tags", ["raises-exception"], "cell '1 [+] 1' is tagged"),
        ("cells 1 metadata tags", ["skip-execution"], "delete the cell"),
    ],
    ids=str,
)
def test_a_notebook_of_another_shape_is_rejected_with_its_name(
    place: str, value: object, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=rf"theirs\.ipynb is not .*{message}"):
        read(changed(place, value).encode(), tmp_path)


@pytest.mark.parametrize("content", [b"", b"[]", b"3", b'"text"', b"{", b"null"])
def test_json_that_is_no_notebook_is_rejected_with_its_name(
    content: bytes, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"theirs\.ipynb is not a notebook"):
        read(content, tmp_path)


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_another_encoding_is_named_as_such(encoding: str, tmp_path: Path) -> None:
    content = json.dumps(NOTEBOOK, ensure_ascii=False).encode(encoding)
    with pytest.raises(ValueError, match=r"theirs\.ipynb is not UTF-8; save it"):
        read(content, tmp_path)


@pytest.mark.parametrize("version", OLD)
def test_an_old_format_is_read_and_can_be_written(version: int, tmp_path: Path) -> None:
    found = read(json.dumps(OLD[version]).encode(), tmp_path)
    assert [cell.source for cell in notebooks.code_cells(found)] == ["1 + 1"]
    notebooks.write(found, tmp_path / "new.ipynb")
    again = notebooks.read(tmp_path / "new.ipynb")
    assert (again.nbformat, again.cells[0].source) == (4, "1 + 1")


def test_line_ends_of_windows_become_those_of_python(tmp_path: Path) -> None:
    found = read(
        changed("cells 1 source", "a = 1  # (1)\r\nb = 2\r\n").encode(), tmp_path
    )
    assert found.cells[1].source == "a = 1  # (1)\nb = 2\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("one\ntwo", "one"),
        ("  x  ", "x"),
        ("a\x1b[31mb\x07", "a\\x1b[31mb\\x07"),
        ("y" * 1000, "y" * 300 + "…"),
        ("", ""),
    ],
    ids=["lines", "blanks", "control characters", "long", "empty"],
)
def test_messages_are_cut_to_one_line_that_a_terminal_can_show(
    text: str, shown: str
) -> None:
    assert notebooks.one_line(text) == shown
