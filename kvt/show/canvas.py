"""What all figures share: their width, colors and axes.

Colors keep a contrast of 3:1 on white and on #15181d. Those of the dialects belong to
them alone. Text and axes take the page's own color.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from kvt.show.picture import INK, KERAS, TF1, TF2

Floats = NDArray[np.float64]
Curves = Mapping[str, Mapping[str, Floats]]  # label of a run -> key -> values
WIDTH = 680  # CSS px: the report's column of text
SMALL = 320  # its margin
GREEN, MAGENTA = "#2f8f5b", "#c0509f"
# Equal curves must be seen to be equal: a wide band, dashes on it, dots in their gaps.
STYLES: dict[str, dict[str, Any]] = {
    "Keras": {"color": KERAS, "linewidth": 8, "markersize": 16},
    "TensorFlow 2": {
        "color": TF2,
        "linewidth": 3,
        "linestyle": (0, (9, 8)),
        "markersize": 9,
    },
    "TensorFlow 1": {
        "color": TF1,
        "linewidth": 3.6,
        "linestyle": (4, (0.01, 16.99)),
        "dash_capstyle": "round",
        "markersize": 4,
    },
}
OTHERS = (GREEN, MAGENTA, "#0f8a99", "#c65b3c", "#8468d8")
LOOK = ["default", str(Path(__file__).with_name("figures.mplstyle"))]


def panels(count: int, *, height: float = 0) -> tuple[Figure, list[Axes]]:
    """Return a figure of panels, stacked: two side by side do not fit a phone."""
    height = height or max(150, 260 / count)
    size = (WIDTH / 72, (count * height + 70) / 72)
    figure = Figure(figsize=size, layout="constrained")
    axes = list(figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0])
    for ax in axes:
        ax.grid(axis="y", color=INK, alpha=0.15, linewidth=0.8)
        ax.set_axisbelow(True)
        ax.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    return figure, axes


def style_of(label: str, order: int) -> dict[str, Any]:
    """Return the line style of a dialect, or of the `order`-th other label."""
    color = OTHERS[order % len(OTHERS)]
    return STYLES.get(label, {"color": color, "linewidth": 2.2, "markersize": 7})


def curves(
    runs: Curves,
    titles: Mapping[str, Sequence[str]],
    axis: str,
    first: int = 1,
    *,
    stairs: bool = False,
) -> tuple[Figure, list[Axes]]:
    """Draw runs in panels above one axis of whole numbers, from `first` on.

    titles: a panel's title -> the keys of its curves. A single value is a dot. `stairs`
    are values that hold until the next number.
    """
    figure, axes = panels(len(titles))
    for ax, (title, keys) in zip(axes, titles.items(), strict=True):
        ax.set_title(title)
        for order, (label, run) in enumerate(runs.items()):
            for key in (k for k in keys if k in run):
                _curve(ax, label, order, run[key], first, stairs=stairs)
    last = first + longest(runs) - 1
    margin = max(0.5, last / 30)
    ax.set_xlabel(axis)
    ax.set_xlim(first - margin, last + margin)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.set_xticks([t for t in ax.get_xticks() if first <= t <= last] or [first])
    handles, labels = axes[0].get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    options = {"ncols": min(3, len(unique)), "handlelength": 2.6, "columnspacing": 1.4}
    figure.legend(unique.values(), unique.keys(), loc="outside upper left", **options)
    return figure, axes


def _curve(
    ax: Axes, label: str, order: int, values: Floats, first: int, *, stairs: bool
) -> None:
    """Draw as many values of a curve as the figure has pixels.

    Of stairs, only changes are drawn, unless they are so many that stairs would look
    like a slope.
    """
    style = {"zorder": 2 + order / 10, **style_of(label, order)}
    if values.size == 1:  # one epoch has no line
        style = {"marker": "o", **style, "linestyle": ""}
    drawn = np.linspace(0, values.size - 1, min(values.size, WIDTH)).round().astype(int)
    changes = np.flatnonzero(values[1:] != values[:-1]) + 1
    if stairs and 2 * changes.size < WIDTH:
        drawn = np.union1d(changes, [0, values.size - 1])
        style["drawstyle"] = "steps-post"
    y = np.where(np.isfinite(values), values, np.nan)[drawn]
    ax.plot(first + drawn, y, label=label, clip_on=False, **style)


def longest(runs: Curves) -> int:
    """Return the length of the longest curve."""
    return max(curve.size for run in runs.values() for curve in run.values())


def join_names(names: Sequence[str]) -> str:
    """Return `a, b and c`."""
    *head, last = names
    return f"{', '.join(head)} and {last}" if head else last
