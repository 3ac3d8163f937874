"""Run chapters of section 05, so that the tests try what the reader reads."""

import contextlib
import io
import linecache
from collections.abc import Callable, Iterator
from typing import Any

import keras

from tests.notebooks import sections

NOTEBOOK = "05_training_recipes"
SHARED = "The network that all recipes train"  # the last chapter before the recipes
Namespace = dict[str, Any]


def chapters() -> dict[str, list[dict[str, Any]]]:
    """Return the code cells under each `## ` heading; "" for those before the first."""
    found: dict[str, list[dict[str, Any]]] = {"": []}
    name = ""
    for cell in sections.cells(NOTEBOOK):
        if cell["cell_type"] == "code":
            found[name].append(cell)
        elif cell["source"].startswith("## "):
            name = cell["source"].split("\n")[0].removeprefix("## ")
            found[name] = []
    return found


def run(
    *names: str,
    change: Callable[[str], str] = lambda source: source,
    before: str = "",
    without: tuple[str, ...] = (),
    **values: object,
) -> Namespace:
    """Run what all recipes share, then the named chapters; return what they leave.

    Each cell's source passes through `change`, `values` override parameters, the cell
    with the id `before` is the first that is not run, and cells whose ids begin with
    what `without` names are left out. Like Jupyter, this tells linecache the sources,
    which functions may be asked for.
    """
    keras.backend.clear_session(free_memory=False)  # no collection each time
    keras.config.set_floatx("float32")  # whatever another test has left
    keras.config.set_dtype_policy("float32")
    namespace: Namespace = {"__name__": NOTEBOOK, "display": lambda *shown: None}
    for number, cell in enumerate(_cells(names)):
        if cell["id"] == before:
            break
        if cell["id"].startswith(without):
            continue
        source, file = change(cell["source"]), f"<{NOTEBOOK} {number}>"
        lines = source.splitlines(keepends=True)
        linecache.cache[file] = (len(source), None, lines, file)
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(source, file, "exec"), namespace)
        if "parameters" in cell["metadata"].get("tags", ()):
            namespace |= values
    return namespace


def _cells(names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    known = chapters()
    for name in ("", SHARED, *names):
        yield from known[name]
