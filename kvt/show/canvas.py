"""What all figures share: their width, colors, axes and checks.

Colors keep a contrast of 3:1 on white and on #15181d. Text and axes take the page's
own color.
"""

from collections.abc import Collection, Sequence
from typing import Any, TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from kvt.show.picture import FONT, INK

Floats = NDArray[np.float64]
C = TypeVar("C", bound=Collection[Any])
WIDTH = 440  # CSS px: 12 px text is still 9 px on a 360 px phone
AMBER = "#d47f00"
BLUE = "#2f66e0"
# Equal curves must be seen to be equal: a wide band, dashes on it, dots in their gaps.
STYLES: dict[str, dict[str, Any]] = {
    "Keras": {"color": AMBER, "linewidth": 8, "markersize": 16},
    "TensorFlow 2": {
        "color": BLUE,
        "linewidth": 3,
        "linestyle": (0, (9, 8)),
        "markersize": 9,
    },
    "TensorFlow 1": {
        "color": INK,
        "linewidth": 3.6,
        "linestyle": (4, (0.01, 16.99)),
        "dash_capstyle": "round",
        "markersize": 4,
    },
}
OTHERS = (AMBER, BLUE, "#2f8f5b", "#c0509f", "#7d7f86")
RC: dict[Any, Any] = {  # over Matplotlib's defaults, not over a reader's settings
    "svg.fonttype": "none",  # selectable text, a tenth of the size
    "svg.hashsalt": "kvt",
    "font.family": ["DejaVu Sans"],  # measured with: wider than what readers will see
    "font.size": FONT,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": FONT,
    "axes.titleweight": "bold",
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "lines.scale_dashes": False,
    "lines.solid_capstyle": "round",
    "path.simplify": False,
    "text.parse_math": False,
}
LOOK: list[Any] = ["default", RC]


def panels(count: int, *, height: float = 150) -> tuple[Figure, list[Axes]]:
    """Return a figure of panels, stacked: two side by side do not fit a phone."""
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


def legend(figure: Figure, ax: Axes) -> None:
    """Draw one legend for the whole figure, above its panels."""
    handles, labels = ax.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    options = {"ncols": min(3, len(unique)), "handlelength": 2.6, "columnspacing": 1.4}
    figure.legend(unique.values(), unique.keys(), loc="outside upper left", **options)


def curve(
    ax: Axes,
    label: str,
    order: int,
    values: Floats,
    x: ArrayLike | None = None,
    **options: Any,
) -> None:
    """Draw one value per epoch, or per place in `x`; a single value is a dot."""
    style = style_of(label, order) | options
    if values.size == 1:  # one epoch has no line
        style = {"marker": "o", **style, "linestyle": ""}
    x = np.arange(1, values.size + 1) if x is None else x  # epochs
    finite = np.where(np.isfinite(values), values, np.nan)
    ax.plot(x, finite, label=label, clip_on=False, zorder=2 + order / 10, **style)


def epoch_axis(ax: Axes, curves: Sequence[Floats]) -> None:
    """Number the epochs from 1 to the longest curve's last."""
    whole_numbers(ax, "epoch", 1, max(curve.size for curve in curves))


def whole_numbers(ax: Axes, name: str, first: int, last: int) -> None:
    """Label the horizontal axis with whole numbers only."""
    margin = max(0.5, last / 30)
    ax.set_xlabel(name)
    ax.set_xlim(first - margin, last + margin)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.set_xticks([t for t in ax.get_xticks() if first <= t <= last] or [first])


def join_names(names: Sequence[str]) -> str:
    """Return `a, b and c`."""
    *head, last = names
    return f"{', '.join(head)} and {last}" if head else last


def percent(p: float) -> str:
    """Return a share as a percentage; only 1 itself reads 100 %."""
    return "> 99 %" if 0.995 <= p < 1 else f"{100 * p:.0f} %"


def nonempty(name: str, values: C) -> C:
    """Return `values`, or raise ValueError where there are none."""
    if not values:
        raise ValueError(f"{name} is empty; it must have an entry; pass at least one")
    return values


def positive(name: str, value: int) -> None:
    """Raise ValueError unless `value` is at least 1."""
    if value < 1:
        raise ValueError(f"{name} is {value}; it must be at least 1; pass 10")


def epochs(name: str, values: ArrayLike) -> Floats:
    """Return one float64 per epoch, or raise ValueError for another shape."""
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or not array.size:
        raise ValueError(
            f"{name} has shape {array.shape}; it must be (epochs,); "
            "pass one number per epoch, and train for at least one"
        )
    return array


def shaped(name: str, values: ArrayLike, shape: tuple[int | None, ...]) -> Floats:
    """Return values as float64 if their shape fits; None in `shape` fits any length."""
    array = np.asarray(values, np.float64)
    fits = array.ndim == len(shape) and all(
        want in (None, have) for want, have in zip(shape, array.shape, strict=True)
    )
    if not fits:
        rule = ", ".join("any" if want is None else str(want) for want in shape)
        raise ValueError(
            f"{name} has shape {array.shape}; it must be ({rule}); reshape it"
        )
    if not np.isfinite(array).all():
        raise ValueError(
            f"{name} holds NaN or infinity; it must be finite; lower the learning rate"
        )
    return array
