"""Executed notebooks made of plain cells, and the page made of them."""

import copy
from pathlib import Path
from typing import Any

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from kvt.report import notebooks
from kvt.report.parameters import Parameter, Value
from kvt.report.plan import Chapter
from kvt.report.provenance import UNKNOWN, Provenance
from kvt.report.render import pages

REASON = "the digits, as asked for"
PROVENANCE = Provenance(
    REASON, UNKNOWN, UNKNOWN, {"digits": "5eed"}, {"keras": "3"}, "Z80", 1
)
SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(2)>"
ANSI = "\x1b[38;5;208morange\x1b[0m"
SVG = """<?xml version="1.0"?>
<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"
 onload="alert(1)" ONLOAD="alert(1)" viewBox="0 0 9 9"><script>alert(2)</script>
<meta http-equiv="refresh" content="0;url=https://example.org/"/>
<META HTTP-EQUIV="refresh"/><SCRIPT>alert(2)</SCRIPT><g OnClick="alert(2)"/>
<rect fill="url(#p) URL(https://example.org/)"/><use HREF="https://example.org/"/>
<defs><path id="p" d="M0 0L9 9"/></defs><use xlink:href="#p" stroke="#00f"
 style="fill: red" clip-path="url(#p)" mask="url(https://example.org/#m)"/>
<a xlink:href="javascript:alert(3)"><text>here</text></a></svg>"""


def markdown(source: str, *tags: str) -> NotebookNode:
    return new_markdown_cell(source, metadata={"tags": list(tags)} if tags else {})


def code(source: str, *tags: str, **outputs: Any) -> NotebookNode:
    """Return an executed code cell, with its stdout and its data by MIME type."""
    data = {name.replace("__", "/"): text for name, text in outputs.items()}
    stdout = data.pop("stdout", None)
    made = [new_output("stream", name="stdout", text=stdout)] if stdout else []
    if data:
        made.append(new_output("display_data", data=data))
    return new_code_cell(
        source, metadata={"tags": list(tags)}, outputs=made, execution_count=1
    )


def written(path: Path, *cells: NotebookNode) -> None:
    """Write a notebook that has not been executed."""
    made = [copy.deepcopy(cell) for cell in cells]
    for number, cell in enumerate(made):
        cell["id"] = f"cell-{number}"
    notebooks.write(new_notebook(cells=made), path)


def executed(
    *cells: NotebookNode,
    name: str = "02_digits",
    title: str = "The digits",
    parameters: dict[str, Parameter] | None = None,
    values: dict[str, Value] | None = None,
) -> Chapter:
    made = [copy.deepcopy(cell) for cell in (markdown(f"# {title}"), *cells)]
    for number, cell in enumerate(made):
        cell["id"] = f"cell-{number}"
    notebook = new_notebook(cells=made)
    return Chapter(Path(f"{name}.ipynb"), notebook, parameters or {}, values or {})


def page(*chapters: Chapter) -> str:
    """Return the report as a single page."""
    return pages(chapters, PROVENANCE, single_file=True)["index.html"]


def book(*chapters: Chapter) -> dict[str, str]:
    """Return the report's pages by file name."""
    return pages(chapters, PROVENANCE)


def body(*cells: NotebookNode) -> str:
    return page(executed(*cells)).split("<main")[1]


def injected(path: Path) -> dict[str, Value]:
    """Return the values that papermill injected into an executed notebook."""
    (cell,) = (
        cell
        for cell in notebooks.read(path).cells
        if "injected-parameters" in notebooks.tags(cell)
    )
    values: dict[str, Value] = {}
    exec(cell.source, {}, values)
    return values
