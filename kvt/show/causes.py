"""What chapter 09 shows: each cause's effect, the ranking, a card per cause."""

import ast
import inspect
import math
import textwrap
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from kvt.compare.diagnose.words import section
from kvt.compare.effects import ROUNDING, STAGES, Cause, seeds_differ, stage
from kvt.show.sources import Markdown, beside, code
from kvt.show.tables import Table

BELOW = f"< 1e{math.log10(ROUNDING):.0f}"
Part = Callable[..., Any]


def source(*functions: Part) -> Markdown:
    """Show functions as a notebook writes them: without types."""
    return code(*map(untyped, functions))


def effect(cause: Cause) -> Markdown:
    """Show the part of Keras that a cause replaces, and the measured effect."""
    tested = len(cause.equal.training.examples.x_test)
    titles = {
        "weights, one step": "step",
        "weights, end": "end",
        "loss": "loss",
        "accuracy, points": "accuracy",
        f"predictions changed, of {tested:,}": "predictions",
    }
    columns = [(cause.equal.name, f"median of {len(cause.effects)}", "range")]
    for title, name in titles.items():
        if None not in _values(cause, name):
            columns.append((title, *_size(cause, name)))
    header, *rows = zip(*columns, strict=True)
    keras = untyped(getattr(cause.equal.pair.recipe, cause.part))
    shown = beside({"equal to Keras": keras}).text
    return Markdown(f"{shown}\n\n{Table(header, rows)._repr_markdown_()}")


def cards(causes: Iterable[Cause]) -> Markdown:
    """Return a point per cause, by where it shows first: symptom, size, seeds' spread.

    A cause that moves loss and accuracy no further than another seed does is marked.
    """
    groups: dict[str, list[str]] = {}
    for cause in sorted(causes, key=lambda cause: STAGES.index(stage(cause.effects))):
        size = f"loss {_size(cause, 'loss')[0]}"
        if points := _size(cause, "accuracy")[0]:
            size += f", accuracy {points} points"
        mark = f" **{text}**" if (text := _within_seeds(cause)) else ""
        place = groups.setdefault(stage(cause.effects), [])
        place.append(f"- {_link(cause)} {cause.symptom} *{size}*{mark}")
    return Markdown(
        "\n\n".join(
            f"**Seen {place}**\n\n" + "\n".join(points)
            for place, points in groups.items()
        )
    )


def _within_seeds(cause: Cause) -> str:
    """Say how far seeds differ, if a cause that is not rounding changes no more."""
    spread = seeds_differ(cause.equal)
    if stage(cause.effects) == STAGES[-1] or "accuracy" not in spread:
        return ""
    is_within = all(_median(cause, name) <= size for name, size in spread.items())
    return f"seeds differ by {spread['accuracy']:.1f} points" if is_within else ""


def ranking(causes: Iterable[Cause]) -> Table:
    """Rank the causes by what they change in the loss, then in the weights.

    The order is that of the numbers as shown, so that it is the same on every
    processor.
    """

    def rank(cause: Cause) -> list[float]:
        medians = (_median(cause, name) for name in ("loss", "end"))
        return [-float(f"{m:.2g}") if m >= ROUNDING else 0.0 for m in medians]

    rows = []
    for cause in sorted(causes, key=rank):
        loss, spread = _size(cause, "loss")
        others = (_size(cause, name)[0] for name in ("end", "accuracy"))
        rows.append([_link(cause), loss, spread, *others])
    header = ["cause", "loss", "range", "weights", "accuracy, points"]
    return Table(header, rows)


def untyped(function: Part) -> str:
    """Return a function's source without its types.

    Raises OSError if Python has no file or cell to read the source from.
    """
    text = textwrap.dedent(inspect.getsource(function))
    (definition,) = ast.parse(text).body
    assert isinstance(definition, ast.FunctionDef)
    body = text.splitlines()[definition.body[0].lineno - 1 :]
    names = ", ".join(inspect.signature(function).parameters)
    return "\n".join([f"def {definition.name}({names}):", *body])


# --- sizes as text --------------------------------------------------------------------


def _link(cause: Cause) -> str:
    return f"[{cause.name}]({section(cause.name)})"


def _values(cause: Cause, name: str) -> list[Any]:
    return [getattr(one, name) for one in cause.effects]


def _median(cause: Cause, name: str) -> float:
    return float(np.median(_values(cause, name)))


def _size(cause: Cause, name: str) -> tuple[str, str]:
    """Return median and range, as texts that are the same on every processor."""
    values = sorted(v for v in _values(cause, name) if v is not None)
    if not values:
        return "", ""
    zero = "0" if _surely_zero(cause, name) else BELOW
    three = (values[0], values[len(values) // 2], values[-1])
    least, median, most = (_text(value, name, zero) for value in three)
    return median, least if least == most else f"{least} to {most}"


def _surely_zero(cause: Cause, name: str) -> bool:
    """Whether a zero is zero on every processor: rounding may not be."""
    may_round = cause.of_the_machine or any(_values(cause, name))
    is_exact = name in ("step", "end") and not may_round
    return is_exact or stage(cause.effects) != STAGES[-1]


def _text(value: float, name: str, zero: str) -> str:
    """Return two digits: the third may depend on the processor."""
    if math.isinf(value):
        return "NaN"
    if name == "accuracy":
        return f"{value:.1f}"  # one digit, or the column would jump
    if name != "predictions" and value < ROUNDING:
        return BELOW if value else zero
    return f"{float(f'{value:.2g}'):,g}"
