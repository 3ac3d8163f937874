"""The report's first screen: one network written twice, the proof, what breaks it.

Its cells are tagged `start`: the pair in the notebook of a model, the rest in the
comparison. Their sections leave them out.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kvt.report.markdown import highlight_lines
from kvt.report.merge import Section
from kvt.show.opening import mimetype

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
    last: dict[str, str]  # side -> last value


def gather(sections: Sequence[Section]) -> dict[str, Any] | None:
    """Return what the template shows first, or None if no notebook has cells for it.

    They are the section of the pair with the proof's data, the section of the rest, the
    causes with their changed lines and panels, and the places in each panel.
    """
    pair, proof = _found(sections, "proof")
    rest, measured = _found(sections, "broken")
    if not pair or not rest:
        return None
    causes: list[dict[str, Any]] = []
    if measured:  # before the first cause nothing is broken
        causes.append({"name": "", "panels": _panels(measured[0], "keras")})
    for cause in measured:
        old, new = (highlight_lines(cause[it].strip()) for it in ("line", "instead"))
        changes = list(zip(old, new, strict=True))
        panels = _panels(cause, "changed")
        causes.append({**cause, "changes": changes, "panels": panels})
    own = {"pair": pair, "proof": proof, "rest": rest, "causes": causes}
    return own | {"places": PLACES}


def _found(sections: Sequence[Section], kind: str) -> tuple[Section | None, Any]:
    """Return the first section with such data for the first screen, and the data."""
    for section in sections:
        for cell in section.start:
            for output in cell.get("outputs", []):
                if mimetype(kind) in output.get("data", {}):
                    return section, output.data[mimetype(kind)]
    return None, None


def _panels(cause: Mapping[str, Any], other: str) -> list[Panel]:
    """Draw Keras and the other side: "changed", or "keras" where the two are equal."""
    count, identical = cause["weights"], cause["identical"]
    equal = [count] * len(identical)
    both = {"keras": equal, "changed": identical if other == "changed" else equal}
    panels = [_panel(f"Identical weights, of {count:,}", both, count)]
    for name, highest in (("loss", 0.0), ("accuracy", 1.0)):
        keras, changed = (cause[f"{side}_{name}"] for side in ("keras", other))
        sides = {"keras": [None, *keras], "changed": [None, *changed]}
        panels.append(_panel(name.capitalize(), sides, highest))
    return panels


def _panel(title: str, sides: Mapping[str, Values], highest: float) -> Panel:
    """Draw both sides, from before the first epoch; None has no point."""
    known = [value for side in sides.values() for value in side if value is not None]
    highest = max([highest, *known]) or 1.0

    def height(value: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * value / highest

    points, ends = {}, {}
    for side, values in sides.items():
        step = (RIGHT - LEFT) / (len(values) - 1)
        points[side] = " ".join(
            f"{LEFT + step * epoch:.1f},{height(value):.1f}"
            for epoch, value in enumerate(values)
            if value is not None
        )
        end = values[-1]
        ends[side] = (TOP if end is None else height(end), _text(end))
    last = {side: text for side, (_, text) in ends.items()}
    return Panel(title, len(sides["keras"]) - 1, points, _labels(ends), last)


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
