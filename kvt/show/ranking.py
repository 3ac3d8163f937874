"""All causes of a difference, ranked by what they change."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kvt.show.canvas import (
    AMBER,
    BLUE,
    LOOK,
    WIDTH,
    Floats,
    legend,
    nonempty,
)
from kvt.show.picture import INK, Picture, picture


def causes(effects: Mapping[str, Mapping[str, Sequence[float]]]) -> Picture:
    """Rank causes by what they change in the loss, then in the weights.

    effects: name -> "loss", "weights", "accuracy" -> one difference a seed, 0 or more,
    infinite for NaN; accuracy in points, and none for a model without. A mark is the
    median, its line the range. Raises ValueError for another difference, or none.
    """
    found = {k: _sizes(k, v) for k, v in nonempty("effects", effects).items()}
    names = sorted(found, key=lambda name: _largest_first(found[name]))
    ranked = {
        key: [found[name].get(key, np.empty(0)) for name in names] for key in _MARKS
    }
    with style.context(LOOK):
        size = (WIDTH / 72, (17 * len(names) + 90) / 72)
        figure = Figure(figsize=size, layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(4, 3))
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
        left.set_yticks(range(len(names)), names)
        left.set_ylim(len(names) - 0.4, -0.6)
        legend(figure, left)
        return picture(figure, _causes_alt(found))


_MARKS: dict[str, dict[str, Any]] = {
    "weights": {"markersize": 9, "color": INK, "markerfacecolor": "none"},
    "loss": {"markersize": 6, "color": AMBER},
    "accuracy": {"markersize": 6, "color": BLUE},
}


def _sizes(name: str, effect: Mapping[str, Sequence[float]]) -> dict[str, Floats]:
    sizes = {key: np.asarray(values, np.float64) for key, values in effect.items()}
    for key in ("loss", "weights", *sizes):
        if key not in sizes or not sizes[key].size or not np.all(sizes[key] >= 0):
            raise ValueError(
                f"{name}'s {key} is {effect.get(key)}; it must be one difference a "
                "seed, 0 or more: take them abs(), and NaN for infinite"
            )
    return sizes


def _largest_first(effect: Mapping[str, Floats]) -> tuple[float, float]:
    return -float(np.median(effect["loss"])), -float(np.median(effect["weights"]))


def _decades(ax: Axes, values: Sequence[Floats], low: int) -> tuple[float, float]:
    """A scale of powers of ten from `low`; return the places of 0 and infinity."""
    flat = np.concatenate([*values, [1.0]])
    high = np.ceil(np.log10(flat[np.isfinite(flat)].max()))
    zero, infinity = low - 2.0, high + 2.0
    step = 1 + (high - low) // 4
    has_nan = np.isinf(flat).any()
    last = high - 2 if has_nan else high  # its name would run into NaN
    ticks = {zero: "0"}
    for t in np.arange(np.ceil(low / step) * step, last + 0.5, step):
        ticks[t] = f"1e{t:.0f}" if abs(t) > 2 else f"{10.0**t:g}"
    if has_nan:
        ticks[infinity] = "NaN"
    ax.set_xticks(list(ticks), list(ticks.values()))
    ax.set_xlim(zero - 0.8, max(high, *ticks) + 0.8)
    return zero, infinity


def _spread(ax: Axes, name: str, values: Sequence[Floats], ends: Any) -> None:
    """A row for each entry: its median, on a line from its least to its largest."""
    rows = [row for row, sizes in enumerate(values) if sizes.size]
    three = [[f(values[row]) for f in (np.min, np.median, np.max)] for row in rows]
    with np.errstate(divide="ignore"):
        places = np.clip(np.log10(np.reshape(three, (-1, 3))), *ends)
    look = {"linestyle": "", "marker": "o", "label": name, **_MARKS[name]}
    ax.plot(places[:, 1], rows, zorder=3, **look)
    ax.hlines(
        rows, places[:, 0], places[:, 2], color=look["color"], linewidth=1.4, zorder=2
    )


def _causes_alt(effects: Mapping[str, Mapping[str, Floats]]) -> str:
    """Group by powers of ten, not in rank: near-ties would change the text."""
    groups: dict[str, list[str]] = {
        "The loss by 0.1 or more": [],
        "The loss by less": [],
        "The accuracy alone": [],
        "Both by less than 0.00001, by rounding": [],
    }
    for name, effect in effects.items():
        loss = np.median(effect["loss"])
        accuracy = np.median(effect.get("accuracy", 0))
        at = [loss >= 0.1, loss >= 1e-5, accuracy >= 1e-5, True].index(True)
        list(groups.values())[at].append(name)
    parts = [f"{what}: {'; '.join(names)}." for what, names in groups.items() if names]
    return f"What {len(effects)} causes change. {' '.join(parts)}"
