"""The report's first screen: one network written twice, the proof, what breaks it.

Its cells are tagged `start`: the pair in the notebook of a model, the rest in the
comparison. Their sections leave them out.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kvt.report.markdown import highlight_python
from kvt.report.marks import Idea, link_lines
from kvt.report.merge import RenderError, Section, link_marks, prepare
from kvt.report.notebooks import NotebookNode, tags
from kvt.show.opening import mimetype

ID = "start"
# A panel of a figure, in its own units: they are CSS pixels on a wide screen.
WIDTH, HEIGHT = 230, 96
LEFT, RIGHT, TOP, BOTTOM = 6, 172, 8, 78  # of the place for lines
PLACES = {"left": LEFT, "right": RIGHT, "top": TOP, "bottom": BOTTOM}
PLACES |= {"width": WIDTH, "height": HEIGHT}
APART = 15  # the least distance between two labels

Values = Sequence[float | None]


@dataclass(frozen=True)
class Panel:
    """One quantity by epoch: a line for each side, and its last value."""

    title: str
    epochs: int
    lines: dict[str, str]  # side -> SVG's points
    labels: dict[str, tuple[float, str]]  # side -> height, last value
    words: str  # the panel, as text


@dataclass(frozen=True)
class Broken:
    """A cause: the line that it changes, and three panels of a figure."""

    name: str
    finding: str
    changes: list[tuple[str, str]]  # highlighted lines, before and after
    panels: list[Panel]


@dataclass(frozen=True)
class Start:
    """What the first screen shows, for its template."""

    of_pair: Section
    title: str
    lead: str
    ideas: list[Idea]
    before: list[NotebookNode]  # code that both sides need
    panes: dict[str, NotebookNode]  # by dialect
    proof: Mapping[str, Any]
    of_rest: Section
    prose: list[str]  # before the causes, and after them
    causes: list[Broken]
    places: Mapping[str, int]  # in each panel


def gather(sections: Sequence[Section]) -> Start | None:
    """Return the first screen, or None if no notebook has cells for it.

    Raises RenderError for marks that do not fit.
    """
    found = [(it, _own(it)) for it in sections]
    pairs = [it for it in found if _data(it[1], "proof") is not None]
    rests = [it for it in found if _data(it[1], "broken") is not None]
    if not pairs or not rests:
        return None
    (of_pair, cells), (of_rest, rest) = pairs[0], rests[0]
    try:
        for cell in cells:
            if cell.cell_type == "code":
                prepare(cell, of_pair.chapter)
        link_marks(cells, ID)
    except ValueError as problem:
        raise RenderError(f"{of_pair.chapter.path.name}: {problem}") from None
    title, _, lead = cells[0].source.partition("\n")
    return Start(
        of_pair,
        title.lstrip("# "),
        lead.strip(),
        next(cell.metadata["ideas"] for cell in cells if "legend" in tags(cell)),
        [cell for cell in cells if "setup" in tags(cell)],
        {it.metadata.dialect: it for it in cells if "dialect" in it.metadata},
        _data(cells, "proof"),
        of_rest,
        [cell.source for cell in rest if cell.cell_type == "markdown"],
        _causes(_data(rest, "broken")),
        PLACES,
    )


def lines(cell: NotebookNode) -> str:
    """Return a pane's code, each line in an element, so that it can be exchanged."""
    ideas, taken = cell.metadata.get("ideas", {}), set[str]()
    shown = []
    for index, line in enumerate(_highlighted(cell.source)):
        idea = {0: ideas[index]} if index in ideas else {}
        linked = link_lines(line, idea, cell.metadata.dialect, taken)
        kind = "line" if line else "line blank"
        shown.append(linked if idea else f'<span class="{kind}">{line}\n</span>')
    return "".join(shown)


def _highlighted(source: str) -> list[str]:
    return highlight_python(source.strip()).rstrip("\n").split("\n")


def _own(section: Section) -> list[NotebookNode]:
    cells = section.chapter.notebook.cells
    return [copy.deepcopy(cell) for cell in cells if "start" in tags(cell)]


def _data(cells: Sequence[NotebookNode], kind: str) -> Any:
    """Return what a cell's output holds for the first screen, or None."""
    outputs = [it.get("data", {}) for cell in cells for it in cell.get("outputs", [])]
    return next((it[mimetype(kind)] for it in outputs if mimetype(kind) in it), None)


def _causes(measured: Sequence[Mapping[str, Any]]) -> list[Broken]:
    """Return the causes, and before them the first pair, equal: nothing is broken."""
    nothing = {"name": "", "finding": "", "line": "", "instead": ""}
    equal = [
        cause
        | nothing
        | {"identical": [cause["weights"]] * len(cause["identical"])}
        | {f"changed_{it}": cause[f"keras_{it}"] for it in ("loss", "accuracy")}
        for cause in map(dict, measured[:1])
    ]
    return [_broken(cause) for cause in (*equal, *measured)]


def _broken(cause: Mapping[str, Any]) -> Broken:
    old, new = (_highlighted(cause[name]) for name in ("line", "instead"))
    count, identical = cause["weights"], cause["identical"]
    both = {"keras": [count] * len(identical), "changed": identical}
    panels = [_panel(f"Identical weights, of {count:,}", both, count)]
    for name, highest in (("loss", 0.0), ("accuracy", 1.0)):
        sides = {it: [None, *cause[f"{it}_{name}"]] for it in ("keras", "changed")}
        panels.append(_panel(name.capitalize(), sides, highest))
    changes = list(zip(old, new, strict=True))
    return Broken(cause["name"], cause["finding"], changes, panels)


def _panel(title: str, sides: Mapping[str, Values], highest: float) -> Panel:
    """Draw both sides, from before the first epoch; None has no point."""
    known = [value for side in sides.values() for value in side if value is not None]
    highest = max([highest, *known]) or 1.0
    points, ends = {}, {}
    for side, values in sides.items():
        heights = [
            it if it is None else BOTTOM - (BOTTOM - TOP) * it / highest
            for it in values
        ]
        step = (RIGHT - LEFT) / (len(values) - 1)
        points[side] = " ".join(
            f"{LEFT + step * epoch:.1f},{y:.1f}"
            for epoch, y in enumerate(heights)
            if y is not None
        )
        last = heights[-1]
        ends[side] = (TOP if last is None else last, _text(values[-1]))
    words = f"{title}: Keras {ends['keras'][1]}, changed {ends['changed'][1]}"
    words += ", after the last epoch"
    return Panel(title, len(sides["keras"]) - 1, points, _labels(ends), words)


def _labels(ends: dict[str, tuple[float, str]]) -> dict[str, tuple[float, str]]:
    """Move two labels apart, or make one of two that say the same."""
    (keras, text), (changed, other) = ends["keras"], ends["changed"]
    if text == other:
        return {"both": (min(changed, BOTTOM), text)}
    if abs(keras - changed) < APART:
        middle = min((keras + changed) / 2, BOTTOM - APART / 2)
        up, down = middle - APART / 2, middle + APART / 2
        keras, changed = (up, down) if keras < changed else (down, up)
    return {"keras": (keras, text), "changed": (changed, other)}


def _text(value: float | None) -> str:
    """Return a count, or a metric with three digits."""
    if value is None:
        return "NaN"
    if isinstance(value, int):
        return f"{value:,}"
    digits = 3 if value < 9.9995 else max(0, 2 - math.floor(math.log10(value)))
    return f"{value:.{digits}f}"
