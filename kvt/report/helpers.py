"""Helpers: what a page's notebooks take from kvt, with its source.

No page uses a function that it does not show. The functions are found in kvt's files;
nothing is imported.
"""

import ast
import contextlib
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

from kvt.report.notebooks import NotebookNode

KVT = Path(__file__).parents[1]


def used(cells: Sequence[NotebookNode]) -> dict[str, str]:
    """Return the functions and classes of kvt that cells name: full name -> source.

    Sorted by name, and without those that an output shows.
    """
    code = [cell for cell in cells if cell.cell_type == "code"]
    data = [output.get("data", {}) for cell in code for output in cell.outputs]
    shown = "".join(str(each.get("text/markdown", "")) for each in data)
    found = dict(filter(None, map(_definition, _names(code))))
    return {name: found[name] for name in sorted(found) if found[name] not in shown}


def _names(code: Sequence[NotebookNode]) -> Iterator[str]:
    """Yield the dotted names in cells, completed by what the cells imported."""
    nodes: list[ast.AST] = []
    for cell in code:
        with contextlib.suppress(SyntaxError, ValueError):  # not Python
            nodes += ast.walk(ast.parse(cell.source))
    imported = {"kvt": "kvt"}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kvt"):
            for each in node.names:
                imported[each.asname or each.name] = f"{node.module}.{each.name}"
    for node in nodes:
        if isinstance(node, ast.Name | ast.Attribute):
            root, *rest = ast.unparse(node).split(".")
            if root in imported:
                yield ".".join([imported[root], *rest])


@functools.cache
def _definition(name: str) -> tuple[str, str] | None:
    """Return the full name and the source behind a name; None for other values."""
    module, _, own = name.rpartition(".")
    source = _source(module)
    if not source:
        return _definition(module) if module else None  # a method: show its class
    for node in ast.walk(ast.parse(source)):  # outer ones first
        if isinstance(node, ast.ImportFrom):
            for each in node.names:
                if (each.asname or each.name) == own:
                    return _definition(f"{node.module}.{each.name}")
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == own:
            first = min([node.lineno, *(it.lineno for it in node.decorator_list)])
            return name, "\n".join(source.splitlines()[first - 1 : node.end_lineno])
    return None


@functools.cache
def _source(module: str) -> str:
    """Return a module's source; "" if kvt has no module of that name."""
    root, *parts = module.split(".")
    place = KVT.joinpath(*parts)
    files = (place / "__init__.py", place.with_suffix(".py"))
    found = [file for file in files if root == "kvt" and file.is_file()]
    return found[0].read_text("utf-8") if found else ""
