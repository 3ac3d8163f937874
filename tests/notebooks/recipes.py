"""Run chapters of the recipes' notebooks, so that the tests try what readers read."""

import contextlib
import io
import linecache
from collections.abc import Callable
from typing import Any

import keras

from tests.notebooks import sections

SHARED = "The network that all recipes train"  # every recipe's chapter needs this one
Namespace = dict[str, Any]


def chapters(notebook: str) -> dict[str, list[dict[str, Any]]]:
    """Return the code cells under each `## ` heading; "" for those before the first."""
    found: dict[str, list[dict[str, Any]]] = {"": []}
    name = ""
    for cell in sections.cells(notebook):
        if cell["cell_type"] == "code":
            found[name].append(cell)
        elif cell["source"].startswith("## "):
            name = cell["source"].split("\n")[0].removeprefix("## ")
            found[name] = []
    return found


def run(
    notebook: str,
    *names: str,
    change: Callable[[str], str] = lambda source: source,
    before: str = "",
    without: tuple[str, ...] = (),
    **values: object,
) -> Namespace:
    """Run what a notebook's recipes share, then the named chapters.

    Return the namespace that these cells fill. `change` rewrites the source of each
    cell, and `values` replace parameters. The run ends in front of the cell whose id
    is `before`, and leaves out cells whose ids begin with one of `without`. As in
    Jupyter, `inspect` finds the functions' sources.
    """
    keras.backend.clear_session(free_memory=False)  # a collection each time is slow
    keras.config.set_floatx("float32")  # another test may have changed both
    keras.config.set_dtype_policy("float32")
    namespace: Namespace = {"__name__": notebook, "display": lambda *shown: None}
    known = chapters(notebook)
    wanted = [cell for name in ("", SHARED, *names) for cell in known[name]]
    for number, cell in enumerate(wanted):
        if cell["id"] == before:
            break
        if cell["id"].startswith(without):
            continue
        source, file = change(cell["source"]), f"<{notebook} {number}>"
        lines = source.splitlines(keepends=True)
        linecache.cache[file] = (len(source), None, lines, file)
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(source, file, "exec"), namespace)
        if "parameters" in cell["metadata"].get("tags", ()):
            namespace |= values
    return namespace
