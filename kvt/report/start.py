"""The report's first screen: one network written twice, the proof, what breaks it.

Its cells are tagged `start`: the pair in the notebook of a model, the rest in the
comparison. Their sections leave them out.
"""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kvt.compare.results import METRICS
from kvt.report.markdown import highlight_python
from kvt.report.marks import Idea, link_lines
from kvt.report.merge import RenderError, Section, link_marks, prepare
from kvt.report.notebooks import NotebookNode, tags
from kvt.show.opening import mimetype

ID = "start"
# A panel of a figure, in its own units: they are CSS pixels on a wide screen.
WIDTH, HEIGHT = 230, 96
LEFT, RIGHT, TOP, BOTTOM = 6, 176, 8, 78  # of the place for marks
PLACES = {
    "viewbox": f"0 0 {WIDTH} {HEIGHT}",
    **{"left": LEFT, "right": RIGHT, "top": TOP, "bottom": BOTTOM, "below": HEIGHT - 3},
}
APART = 15  # the least distance between two labels


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
    places: Mapping[str, Any]  # in each panel
    causes: list["Broken"]


@dataclass(frozen=True)
class Broken:
    """A cause: the line that it changes, and three panels of a figure."""

    name: str
    finding: str
    changes: list[tuple[str, str]]  # highlighted lines, before and after
    panels: list["Panel"]


@dataclass(frozen=True)
class Panel:
    """One quantity by epoch: bars for a count, else a line for each side."""

    title: str
    epochs: int
    bars: list[tuple[float, float]]  # x and y of each bar's top
    lines: dict[str, str]  # side -> SVG's points
    labels: dict[str, tuple[float, str]]  # side -> height, last value
    words: str  # the panel, as text


def gather(sections: Sequence[Section]) -> Start | None:
    """Return the first screen, or None if no notebook has cells for it.

    Raises RenderError for marks that do not fit.
    """
    found = {section.id: list(_own(section)) for section in sections}
    having = [
        next((it for it in sections if _data(found[it.id], kind) is not None), None)
        for kind in ("proof", "broken")
    ]
    of_pair, of_rest = having
    if of_pair is None or of_rest is None:
        return None
    cells = found[of_pair.id]
    try:
        for cell in cells:
            if cell.cell_type == "code":
                prepare(cell, of_pair.chapter)
        link_marks(cells, ID)
    except ValueError as problem:
        raise RenderError(f"{of_pair.chapter.path.name}: {problem}") from None
    title, _, lead = cells[0].source.partition("\n")
    legend = next(cell for cell in cells if "legend" in tags(cell))
    rest = found[of_rest.id]
    return Start(
        of_pair,
        title.lstrip("# "),
        lead.strip(),
        legend.metadata["ideas"],
        [cell for cell in cells if "setup" in tags(cell)],
        {it.metadata.dialect: it for it in cells if "dialect" in it.metadata},
        _data(cells, "proof"),
        of_rest,
        [cell.source for cell in rest if cell.cell_type == "markdown"],
        PLACES,
        _causes(_data(rest, "broken")),
    )


def lines(cell: NotebookNode) -> str:
    """Return a pane's code, each line in an element, so that it can be exchanged."""
    ideas, taken = cell.metadata.get("ideas", {}), set[str]()
    shown = []
    for index, line in enumerate(_highlighted(cell.source)):
        idea = {0: ideas[index]} if index in ideas else {}
        linked = link_lines(line, idea, cell.metadata.dialect, taken)
        shown.append(linked if idea else f'<span class="line">{line}\n</span>')
    return "".join(shown)


def _highlighted(source: str) -> list[str]:
    return highlight_python(source.strip()).rstrip("\n").split("\n")


def _own(section: Section) -> Iterator[NotebookNode]:
    for cell in section.chapter.notebook.cells:
        if "start" in tags(cell):
            yield copy.deepcopy(cell)


def _data(cells: Sequence[NotebookNode], kind: str) -> Any:
    """Return what a cell's output holds for the first screen, or None."""
    outputs = [it.get("data", {}) for cell in cells for it in cell.get("outputs", [])]
    return next((it[mimetype(kind)] for it in outputs if mimetype(kind) in it), None)


def _causes(measured: Sequence[Mapping[str, Any]]) -> list["Broken"]:
    """Return the causes, and before them the first pair, equal: nothing is broken."""
    if not measured:
        return []
    first = dict(measured[0])
    first |= {"name": "", "finding": "", "line": "", "instead": ""}
    first["identical"] = [first["weights"]] * len(first["identical"])
    first |= {f"changed_{name}": first[f"keras_{name}"] for name in METRICS}
    return [_broken(cause) for cause in (first, *measured)]


def _broken(cause: Mapping[str, Any]) -> Broken:
    old, new = (_highlighted(cause[name]) for name in ("line", "instead"))
    metrics = {
        name: {side: cause[f"{side}_{name}"] for side in ("keras", "changed")}
        for name in METRICS
    }
    panels = [
        _count(cause["identical"], cause["weights"]),
        _curves("Loss", metrics["loss"]),
        _curves("Accuracy", metrics["accuracy"], highest=1.0),
    ]
    return Broken(
        cause["name"], cause["finding"], list(zip(old, new, strict=True)), panels
    )


def _count(identical: Sequence[int], weights: int) -> Panel:
    """Draw how many weights are identical, before the first epoch and after each."""
    bars = [
        (_x(epoch, len(identical)), _y(count / weights))
        for epoch, count in enumerate(identical)
    ]
    last = f"{identical[-1]:,}"
    words = f"{last} of {weights:,} weights identical after the last epoch"
    title = f"Identical weights, of {weights:,}"
    return Panel(
        title, len(identical) - 1, bars, {}, {"changed": (bars[-1][1], last)}, words
    )


def _curves(
    name: str, sides: Mapping[str, Sequence[float | None]], highest: float = 0.0
) -> Panel:
    """Draw a metric of both sides; an epoch without a finite value has no point."""
    known = [value for side in sides.values() for value in side if value is not None]
    highest = max([highest, *known]) or 1.0
    points, ends = {}, {}
    for side, values in sides.items():
        places = [
            f"{_x(epoch, len(values) + 1)},{_y(value / highest)}"
            for epoch, value in enumerate(values, start=1)
            if value is not None
        ]
        points[side] = " ".join(places)
        last = values[-1]
        ends[side] = (TOP if last is None else _y(last / highest), _text(last))
    words = f"{name}: Keras {ends['keras'][1]}, changed {ends['changed'][1]}"
    words += ", after the last epoch"
    return Panel(name, len(values), [], points, _labels(ends), words)


def _labels(ends: dict[str, tuple[float, str]]) -> dict[str, tuple[float, str]]:
    """Move two labels apart, or make one of two that say the same."""
    (keras, text), (changed, other) = ends["keras"], ends["changed"]
    if text == other:
        return {"both": (min(changed, BOTTOM), text)}
    if (gap := APART - abs(keras - changed)) > 0:
        up, down = (-gap / 2, gap / 2) if keras < changed else (gap / 2, -gap / 2)
        keras, changed = keras + up, changed + down
        below = max(keras, changed) - BOTTOM
        if below > 0:
            keras, changed = keras - below, changed - below
    return {"keras": (keras, text), "changed": (changed, other)}


def _x(epoch: int, count: int) -> float:
    return round(LEFT + (RIGHT - LEFT) * epoch / max(count - 1, 1), 1)


def _y(share: float) -> float:
    return round(BOTTOM - (BOTTOM - TOP) * share, 1)


def _text(value: float | None) -> str:
    """Return a metric with three digits."""
    if value is None:
        return "NaN"
    digits = 3 if value < 9.9995 else max(0, 2 - math.floor(math.log10(value)))
    return f"{value:.{digits}f}"
