"""What chapter 09 shows: each cause's effect, the ranking, a card per cause."""

import ast
import inspect
import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kvt.compare.effects import ROUNDING, STAGES, Cause, seeds_differ, stage
from kvt.compare.pairs import EqualPair
from kvt.show.canvas import GREEN, LARGE, LOOK, MAGENTA, legend
from kvt.show.picture import INK, Picture, picture
from kvt.show.sources import Markdown, beside, code
from kvt.show.tables import Table

NOTEBOOK = "09_why_results_differ.ipynb"
BELOW = f"< 1e{math.log10(ROUNDING):.0f}"
QUANTITIES = {"weights": "end", "loss": "loss", "accuracy": "accuracy"}
Part = Callable[..., Any]
Sizes = Sequence[float]  # of one quantity, one for each seed


def equal_pairs(found: Mapping[str, EqualPair]) -> Table:
    """Return the pairs that were proven equal, and what they learned."""
    rows = []
    for name, equal in found.items():
        tests = [one.test for one in equal.trained.values()]
        metric = "accuracy" if "accuracy" in tests[0] else "loss"
        reached = sorted(test[metric] for test in tests)
        spread = f"{metric} {reached[0]:.2f} to {reached[-1]:.2f}"
        rows.append([name, spread, str(len(tests)), "0"])
    return Table(["pair", "on the test set", "seeds", "bits that differ"], rows, 2)


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
        link = f"[{cause.name}]({NOTEBOOK}#{cause.name.replace(' ', '-')})"
        size = f"loss {_size(cause, 'loss')[0]}"
        if points := _size(cause, "accuracy")[0]:
            size += f", accuracy {points} points"
        mark = f" **{text}**" if (text := _within_seeds(cause)) else ""
        place = groups.setdefault(stage(cause.effects), [])
        place.append(f"- {link} {cause.symptom} *{size}*{mark}")
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
    medians = {name: np.median(_values(cause, name)) for name in spread}
    is_within = all(medians[name] <= size for name, size in spread.items())
    return f"seeds differ by {spread['accuracy']:.1f} points" if is_within else ""


def no_effect(names: Sequence[str]) -> Table:
    """Return the switches that were verified to change nothing."""
    return Table(["suspected", "bits that differ"], [[name, "0"] for name in names])


def ranking(causes: Iterable[Cause]) -> Picture:
    """Draw the causes, ranked by what they change."""
    effects = {}
    for cause in causes:
        sizes = {key: _values(cause, name) for key, name in QUANTITIES.items()}
        effects[cause.name] = {k: v for k, v in sizes.items() if None not in v}
    return rank(effects)


def rank(effects: Mapping[str, Mapping[str, Sizes]]) -> Picture:
    """Rank causes by what they change in the loss, then in the weights.

    effects: name -> "loss", "weights", "accuracy" -> one difference per seed, at least
    0, infinite for NaN; accuracy in points, and absent for a model without. A mark is
    the median, its line the range.
    """
    by_rank = ("loss", "weights")
    names = sorted(effects, key=lambda n: [-np.median(effects[n][k]) for k in by_rank])
    ranked = {key: [effects[name].get(key, ()) for name in names] for key in _MARKS}
    with style.context(LOOK):
        size = (LARGE / 72, (22 * len(names) + 100) / 72)
        figure = Figure(figsize=size, layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(7, 4))
        panels = ((left, ("weights", "loss"), -9), (right, ("accuracy",), -2))
        for ax, quantities, low in panels:
            ends = _decades(ax, [v for key in quantities for v in ranked[key]], low)
            for key in quantities:
                _spread(ax, key, ranked[key], ends)
            ax.grid(color=INK, alpha=0.15, linewidth=0.8)
            ax.set_axisbelow(True)
            ax.tick_params(axis="x", length=0)
        left.set_title("weights, loss")
        right.set_title("accuracy, points")
        _values_beside(left, "loss", ranked["loss"], "loss")
        _values_beside(right, "median", ranked["accuracy"], "accuracy")
        left.set_yticks(range(len(names)), names)
        left.set_ylim(len(names) - 0.4, -0.6)
        legend(figure, left)
        return picture(figure, *_in_words(effects))


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


def _values(cause: Cause, name: str) -> list[Any]:
    return [getattr(one, name) for one in cause.effects]


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


# --- the ranking's marks and scales ---------------------------------------------------

_MARKS: dict[str, dict[str, Any]] = {
    "weights": {"markersize": 9, "color": INK, "markerfacecolor": "none"},
    "loss": {"markersize": 6, "color": GREEN},
    "accuracy": {"markersize": 6, "color": MAGENTA},
}


def _decades(ax: Axes, values: Sequence[Sizes], low: int) -> tuple[float, float]:
    """Draw a scale of powers of ten from `low`; return the places of 0 and NaN."""
    flat = np.concatenate([*values, [1.0]])
    high = np.ceil(np.log10(flat[np.isfinite(flat)].max()))
    zero, infinity = low - 2.0, high + 2.0
    step = 1 + (high - low) // 4
    has_nan = np.isinf(flat).any()
    last = high - 2 if has_nan else high  # its label would run into NaN
    ticks = {zero: "0"}
    for t in np.arange(np.ceil(low / step) * step, last + 0.5, step):
        ticks[t] = f"1e{t:.0f}" if abs(t) > 2 else f"{10.0**t:g}"
    if has_nan:
        ticks[infinity] = "NaN"
    ax.set_xticks(list(ticks), list(ticks.values()))
    ax.set_xlim(zero - 0.8, max(high, *ticks) + 0.8)
    return zero, infinity


def _spread(ax: Axes, name: str, values: Sequence[Sizes], ends: Any) -> None:
    """Draw one row per cause: the median, on a line from the least to the largest."""
    rows = [row for row, sizes in enumerate(values) if sizes]
    three = [[f(values[row]) for f in (np.min, np.median, np.max)] for row in rows]
    with np.errstate(divide="ignore"):
        places = np.clip(np.log10(np.reshape(three, (-1, 3))), *ends)
    least, median, most = places.T
    look = {"linestyle": "", "marker": "o", "label": name, **_MARKS[name]}
    ax.plot(median, rows, zorder=3, **look)
    ax.hlines(rows, least, most, color=look["color"], linewidth=1.4, zorder=2)


def _values_beside(ax: Axes, title: str, values: Sequence[Sizes], name: str) -> None:
    """Write each row's median to the right of the panel."""
    ax.text(1.02, 1, title, transform=ax.transAxes, va="bottom")
    for row, sizes in enumerate(values):
        if sizes:
            text = _text(float(np.median(sizes)), name, "0")
            place: dict[str, Any] = {
                "transform": ax.get_yaxis_transform(),
                "va": "center_baseline",
            }
            ax.text(1.02, row, text, **place)


def _in_words(effects: Mapping[str, Mapping[str, Sizes]]) -> tuple[str, str]:
    """Return the finding, and the causes in groups.

    Groups are powers of ten, not ranks: near-ties would change the text.
    """
    groups: dict[str, list[str]] = {
        "change the loss by 0.1 or more": [],
        "change the loss by less": [],
        "change the accuracy alone": [],
        "change both by less than 0.00001, by rounding": [],
    }
    for name, sizes in effects.items():
        loss = np.median(sizes["loss"])
        accuracy = np.median(sizes.get("accuracy", 0))
        at = [loss >= 0.1, loss >= 1e-5, accuracy >= 1e-5, True].index(True)
        list(groups.values())[at].append(name)
    listed = [f"{', '.join(of)} {what}." for what, of in groups.items() if of]
    most, *_, least = map(len, groups.values())
    of_all = f"in {most} of {len(effects)} causes, and only by rounding in {least}"
    return f"The loss changes by 0.1 or more {of_all}.", " ".join(listed)
