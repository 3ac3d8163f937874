"""Figures for the notebooks and the report: one function a figure, SVG out.

Every function returns a `Picture`, made to be inlined in a page: colors keep a contrast
of 3:1 on white and on #15181d, and text and axes take the page's own.
"""

import itertools
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.textpath import TextPath
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullLocator
from numpy.typing import ArrayLike, NDArray

from kvt.show.graphs import Graph, Node, Shape, structure
from kvt.show.picture import FONT, INK, Picture, picture

Floats = NDArray[np.float64]
C = TypeVar("C", bound=Collection[Any])

_WIDTH = 440  # CSS px: 12 px text is still 9 px on a 360 px phone
_AMBER = "#d47f00"
_BLUE = "#2f66e0"

# Equal curves must be seen to be equal: a wide band, dashes on it, dots in their gaps.
_STYLES: dict[str, dict[str, Any]] = {
    "Keras": {"color": _AMBER, "linewidth": 8, "markersize": 16},
    "TensorFlow 2": {
        "color": _BLUE,
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
_OTHERS = (_AMBER, _BLUE, "#2f8f5b", "#c0509f", "#7d7f86")

_RC: dict[Any, Any] = {  # over Matplotlib's defaults, not over a reader's settings
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
_LOOK: list[Any] = ["default", _RC]


def history(histories: Mapping[str, Mapping[str, Sequence[float]]]) -> Picture:
    """Draw what each run reported by epoch, validation beside training.

    histories: label -> key -> one number an epoch, as in Keras's `History.history`;
    each key gets a panel, shared with its `val_` twin. Numbers that are not finite
    leave a gap. Raises ValueError where a run or a key is empty.
    """
    runs = {
        label: {key: _epochs(f"{label}'s {key}", v) for key, v in run.items()}
        for label, run in _nonempty("histories", histories).items()
    }
    keys = [k for run in runs.values() for k in _nonempty("a history", run)]
    quantities = list(dict.fromkeys(key.removeprefix("val_") for key in keys))
    with style.context(_LOOK):
        figure, axes = _panels(len(quantities))
        for ax, quantity in zip(axes, quantities, strict=True):
            ax.set_title(quantity)
            pair = (quantity, f"val_{quantity}")
            for order, (label, run) in enumerate(runs.items()):
                for key in (k for k in pair if k in run):
                    _curve(ax, label, order, run[key])
            ends = [[run[k][-1] for k in pair if k in run] for run in runs.values()]
            ends = [end for end in ends if len(end) == 2]
            if ends:
                _name_ends(ax, *ends[0])
        _epoch_axis(axes[-1], [v for run in runs.values() for v in run.values()])
        _legend(figure, axes[0])
        return picture(figure, _history_alt(runs, quantities))


def rates(schedules: Mapping[str, Mapping[str, Sequence[float]]]) -> Picture:
    """Draw the learning rate that each run uses at each step, a panel a schedule.

    schedules: label -> schedule -> one rate a step, from step 0 on. Of a long run only
    some steps are drawn, fewer than the figure has pixels. Raises ValueError where a
    run or a schedule is empty.
    """
    runs = {
        label: {name: _epochs(f"{label}'s {name}", v) for name, v in run.items()}
        for label, run in _nonempty("schedules", schedules).items()
    }
    names = [n for run in runs.values() for n in _nonempty("a run", run)]
    names = list(dict.fromkeys(names))
    with style.context(_LOOK):
        figure, axes = _panels(len(names))
        for ax, name in zip(axes, names, strict=True):
            ax.set_title(name)
            for order, (label, run) in enumerate(runs.items()):
                if name in run:
                    steps = _some(run[name].size)
                    _curve(ax, label, order, run[name][steps], steps)
        last = max(v.size for run in runs.values() for v in run.values()) - 1
        _whole_numbers(axes[-1], "step", 0, last)
        _legend(figure, axes[0])
        return picture(figure, _rates_alt(runs, names))


def agreement(ulps: Mapping[str, Sequence[int]]) -> Picture:
    """Draw how far each run's weights are from Keras's, by epoch.

    ulps: label -> the greatest distance of any weight after each epoch, in units in
    the last place, 0 or more. The scale is logarithmic above 1, and 0 has its own line.
    Raises ValueError where a label has no epoch or a negative distance.
    """
    runs = {k: _epochs(f"{k}'s ulps", v) for k, v in _nonempty("ulps", ulps).items()}
    for label, distances in runs.items():
        if not np.all(distances >= 0):
            raise ValueError(
                f"{label}'s ulps are distances, 0 or more: take them abs()"
            )
    top = max(1, *(_exponent(distances) for distances in runs.values()))
    ticks = range(0, top + 1, 1 + top // 5)
    names = [f"{10**t:,}" if t < 5 else f"1e{t}" for t in ticks]
    with style.context(_LOOK):
        figure, (ax,) = _panels(1)
        ax.set_title("units in the last place from Keras")
        ax.set_yscale("symlog", linthresh=1, linscale=max(0.9, top / 5))
        ax.yaxis.set_major_locator(FixedLocator([0, *(10.0**t for t in ticks)]))
        ax.yaxis.set_minor_locator(NullLocator())
        ax.set_yticklabels(["0: bit for bit", *names])
        ax.set_ylim(-0.35, 10.0**top * 1.5)
        for order, (label, distances) in enumerate(runs.items()):
            _curve(ax, label, order, distances)
        _epoch_axis(ax, list(runs.values()))
        _legend(figure, ax)
        return picture(figure, _agreement_alt(runs))


def line(x: ArrayLike, y: ArrayLike, lines: Mapping[str, tuple[Any, Any]]) -> Picture:
    """Draw examples and the lines fitted to them.

    x, y: (n,) or (n, 1). lines: label -> (w, b) of y = w x + b, numbers or arrays of
    one element. Raises ValueError where x and y differ in length.
    """
    xs, ys = (np.asarray(v, np.float64).reshape(-1) for v in (x, y))
    if xs.size != ys.size or not xs.size:
        raise ValueError(
            f"x has {xs.size} examples and y {ys.size}: pass one y for each x"
        )
    ends = np.array([xs.min(), xs.max()])
    equations: list[str] = []
    with style.context(_LOOK):
        figure, (ax,) = _panels(1, height=230)
        for order, (label, pair) in enumerate(_nonempty("lines", lines).items()):
            w, b = (float(np.asarray(v).item()) for v in pair)
            equation = f"y = {w:.2f} x {'-' if b < 0 else '+'} {abs(b):.2f}"
            equations.append(f"{label} {equation}")
            name = f"{label}: {equation}"
            ax.plot(ends, w * ends + b, label=name, **_style(label, order))
        rings: dict[str, Any] = {"ms": 13, "mfc": "none", "mec": INK, "alpha": 0.5}
        ax.plot(xs, ys, "o", mew=0.9, zorder=1, label="examples", **rings)
        ax.set_xlabel("x")
        ax.set_title("y", fontweight="normal")
        ax.legend(loc="best", fontsize=FONT)
        ax.grid(visible=False)  # it would run through the legend
        alt = f"{xs.size} examples and the fitted lines: {'; '.join(equations)}."
        return picture(figure, alt)


def digits(images: ArrayLike, labels: ArrayLike, *, columns: int = 10) -> Picture:
    """Show images under their labels.

    images: (n, 784), (n, 28, 28) or (n, 28, 28, 1), in [0, 1]; labels: classes (n,) or
    one-hot (n, 10). Raises ValueError where shapes do not fit.
    """
    _positive("columns", columns)
    pixels = _images(images)
    names = [str(c) for c in _classes("labels", labels, len(pixels))]
    alt = f"{len(pixels)} handwritten digits, labeled {', '.join(names)}."
    return _ink_tiles(pixels, [(name,) for name in names], columns, alt)


def mistakes(
    images: ArrayLike, labels: ArrayLike, probabilities: ArrayLike, *, count: int = 10
) -> Picture:
    """Show the wrongly classified examples that the model was surest of, worst first.

    images and labels: as for `digits`; probabilities: (n, classes). "4, not 9" is an
    example labeled 4 and taken for a 9. Raises ValueError where shapes do not fit.
    """
    _positive("count", count)
    pixels = _images(images)
    true = _classes("labels", labels, len(pixels))
    p = _shaped("probabilities", probabilities, (len(pixels), None))
    guess = p.argmax(axis=1)
    wrong = np.flatnonzero(guess != true)
    worst = wrong[np.argsort(-p[wrong, guess[wrong]], kind="stable")][:count]
    if not wrong.size:
        return _sentence(
            f"No mistakes: all {len(pixels)} examples are classified right."
        )
    pairs = [f"{true[i]}, not {guess[i]}" for i in worst]
    titles = [
        (pair, _percent(p[i, guess[i]])) for pair, i in zip(pairs, worst, strict=True)
    ]
    # Sorted: a near-tie in confidence would otherwise change the text.
    counted = [f"{pair} ({n}×)" for pair, n in sorted(Counter(pairs).items())]
    alt = f"The {worst.size} surest mistakes: {'; '.join(counted)}."
    return _ink_tiles(pixels[worst], titles, 5, alt)


def confusion_matrix(
    labels: ArrayLike, predictions: ArrayLike, classes: int = 10
) -> NDArray[np.int64]:
    """Count examples by class and predicted class.

    labels and predictions: classes (n,), or one-hot or probabilities (n, classes).
    Returns int64 (classes, classes): row = label, column = prediction. Raises
    ValueError where lengths differ or a class lies outside [0, classes).
    """
    true = _classes("labels", labels)
    guess = _classes("predictions", predictions, len(true))
    for name, values in (("labels", true), ("predictions", guess)):
        if values.size and not 0 <= values.min() <= values.max() < classes:
            raise ValueError(
                f"{name} lie in [{values.min()}, {values.max()}]; with {classes} "
                f"classes they must lie in [0, {classes - 1}]: pass more classes"
            )
    cells = np.bincount(true * classes + guess, minlength=classes**2)
    return cells.reshape(classes, classes).astype(np.int64)


def confusion(matrix: ArrayLike) -> Picture:
    """Draw a confusion matrix so that the errors are seen, not the successes.

    matrix: counts (k, k), row = label, column = prediction, as `confusion_matrix`
    makes it. Raises ValueError where it is not square.
    """
    counts = _shaped("matrix", matrix, (None, None)).astype(np.int64)
    k = len(counts)
    counts = _shaped("matrix", counts, (k, k)).astype(np.int64)
    errors = np.where(np.eye(k, dtype=bool), 0, counts)
    # the root lifts rare errors; text on 0.6 of the color stays legible
    shade = 0.6 * np.sqrt(errors / max(1, errors.max()))
    with style.context(_LOOK):
        figure, (ax,) = _panels(1, height=_WIDTH * 0.94)
        ax.imshow(_diverging(shade), interpolation="none", aspect="auto", clip_on=False)
        ax.set_title("predicted", fontweight="normal", loc="center")
        ax.set_ylabel("label")
        ax.tick_params(length=0, labeltop=True, labelbottom=False)
        ax.set(xticks=range(k), yticks=range(k))
        ax.spines[:].set_visible(False)
        ax.grid(visible=False)
        for row, column in np.argwhere(counts):
            muted = 0.6 if row == column else 1
            place: dict[str, Any] = {"ha": "center", "va": "center_baseline"}
            text = str(counts[row, column])
            ax.text(column, row, text, fontsize=11, alpha=muted, **place)
        return picture(figure, _confusion_alt(counts, errors))


def class_weights(weights: ArrayLike) -> Picture:
    """Show what each class looks for: weights (784, 10) as ten images, one scale."""
    w = _shaped("weights", weights, (784, None))
    titles = [(str(c),) for c in range(w.shape[1])]
    alt = f"The weights of the {w.shape[1]} classes as images, one for each class."
    return _signed_tiles(w.T.reshape(-1, 28, 28), titles, 5, alt)


def hidden_weights(weights: ArrayLike, *, count: int = 32) -> Picture:
    """Show the first `count` hidden units of weights (784, units), on one scale."""
    _positive("count", count)
    w = _shaped("weights", weights, (784, None))[:, :count]
    alt = f"The weights of {w.shape[1]} hidden units as images, one for each unit."
    return _signed_tiles(w.T.reshape(-1, 28, 28), [], 8, alt)


def filters(kernels: ArrayLike) -> Picture:
    """Show convolution kernels (height, width, 1, n) as n small images, one scale."""
    k = _shaped("kernels", kernels, (None, None, 1, None))[:, :, 0, :]
    alt = f"The {k.shape[2]} filters of {k.shape[0]} by {k.shape[1]} as images."
    return _signed_tiles(k.transpose(2, 0, 1), [], 8, alt)


def causes(effects: Mapping[str, Mapping[str, Sequence[float]]]) -> Picture:
    """Rank causes by what they change in the loss, then in the weights.

    effects: name -> "loss", "weights", "accuracy" -> one difference a seed, 0 or more,
    infinite for NaN; accuracy in points, and none for a model without. A mark is the
    median, its line the range. Raises ValueError for another difference, or none.
    """
    found = {k: _sizes(k, v) for k, v in _nonempty("effects", effects).items()}
    names = sorted(found, key=lambda name: _largest_first(found[name]))
    ranked = {
        key: [found[name].get(key, np.empty(0)) for name in names] for key in _MARKS
    }
    with style.context(_LOOK):
        size = (_WIDTH / 72, (17 * len(names) + 90) / 72)
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
        _legend(figure, left)
        return picture(figure, _causes_alt(found))


def graph(graphs: Mapping[str, Graph]) -> Picture:
    """Draw graphs side by side, an operation a row, so that equal ones look equal.

    graphs: label -> what `kvt.graphs.forward` returns; at most 3. Variables and
    constants stand beside the operation that reads them, with their shapes; operations
    of one scope, such as one of Keras's layers, stand in one frame. Raises ValueError
    where there is no graph, or no room.
    """
    if len(_nonempty("graphs", graphs)) > 3:
        raise ValueError(
            f"graphs has {len(graphs)} entries; it must be at most 3: draw two figures"
        )
    columns = {k: _rows(_nonempty(f"{k}'s graph", g)) for k, g in graphs.items()}
    tops = _tops(list(columns.values()))
    share = (_WIDTH + 8) / len(columns)
    with style.context(_LOOK):
        figure = Figure(figsize=(_WIDTH / 72, tops[-1] / 72))
        ax = figure.add_axes((0, 0, 1, 1), xlim=(0, _WIDTH), ylim=(tops[-1], 0))
        ax.axis("off")
        for i, (label, rows) in enumerate(columns.items()):
            box = (i * share + 1, (i + 1) * share - 9)
            _graph_column(ax, label, rows, tops, box)
        return picture(figure, _graph_alt(graphs))


def speed(
    models: Mapping[str, Mapping[str, tuple[int, Mapping[str, float]]]],
) -> Picture:
    """Draw each model's lines of code against the time that its modes take.

    models: title -> label -> (lines of code, mode -> microseconds an example). A model
    gets a panel, of one logarithmic scale each. Raises ValueError where a model or a
    label is empty, or a time is not above 0.
    """
    for title, runs in _nonempty("models", models).items():
        for label, (_, times) in _nonempty(title, runs).items():
            values = np.array(list(_nonempty(f"{title}'s {label}", times).values()))
            if not np.all((values > 0) & np.isfinite(values)):
                raise ValueError(
                    f"{title}'s {label} takes {min(times.values())} µs an example; it "
                    "must be above 0 and finite: measure again"
                )
    with style.context(_LOOK):
        figure, axes = _panels(len(models), height=125)
        for ax, (title, runs) in zip(axes, models.items(), strict=True):
            ax.set_title(f"{title}, µs an example")
            ax.tick_params(axis="x", length=0)
            _log_axis(ax, [t for _, times in runs.values() for t in times.values()])
            for label, (lines, times) in runs.items():
                _column(ax, label, lines, times)
        axes[-1].set_xlabel("lines of code")
        axes[-1].margins(x=0.12)
        axes[-1].xaxis.set_major_locator(
            MaxNLocator(6, integer=True, steps=[1, 2, 5, 10])
        )
        _legend(figure, axes[0])
        return picture(figure, _speed_alt(models))


# --- curves ---------------------------------------------------------------------------


def _panels(count: int, *, height: float = 150) -> tuple[Figure, list[Axes]]:
    """A figure of panels, one above the other: two abreast do not fit a phone."""
    size = (_WIDTH / 72, (count * height + 70) / 72)
    figure = Figure(figsize=size, layout="constrained")
    axes = list(figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0])
    for ax in axes:
        ax.grid(axis="y", color=INK, alpha=0.15, linewidth=0.8)
        ax.set_axisbelow(True)
        ax.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    return figure, axes


def _style(label: str, order: int) -> dict[str, Any]:
    color = _OTHERS[order % len(_OTHERS)]
    return _STYLES.get(label, {"color": color, "linewidth": 2.2, "markersize": 7})


def _curve(
    ax: Axes, label: str, order: int, values: Floats, x: ArrayLike | None = None
) -> None:
    style = _style(label, order)
    if values.size == 1:  # one epoch has no line
        style = {"marker": "o", **style, "linestyle": ""}
    x = np.arange(1, values.size + 1) if x is None else x  # epochs
    finite = np.where(np.isfinite(values), values, np.nan)
    ax.plot(x, finite, label=label, clip_on=False, zorder=2 + order / 10, **style)


def _epoch_axis(ax: Axes, curves: Sequence[Floats]) -> None:
    _whole_numbers(ax, "epoch", 1, max(curve.size for curve in curves))


def _whole_numbers(ax: Axes, name: str, first: int, last: int) -> None:
    margin = max(0.5, last / 30)
    ax.set_xlabel(name)
    ax.set_xlim(first - margin, last + margin)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.set_xticks([t for t in ax.get_xticks() if first <= t <= last] or [first])


def _some(count: int) -> NDArray[np.int64]:
    """Places of at most `_WIDTH` values among `count`, first and last included."""
    places = np.linspace(0, count - 1, min(count, _WIDTH)).round()
    return places.astype(np.int64)


def _name_ends(ax: Axes, training: float, validation: float) -> None:
    """Write which curve is which where they end, the names never on each other."""
    low, high = ax.get_ylim()
    line_height = (high - low) * 0.13
    if not np.isfinite([training, validation]).all():
        training = validation = (low + high) / 2
    middle = (training + validation) / 2
    half = max(line_height, abs(training - validation)) / 2
    sign = -1 if validation > training else 1
    heights = {"training": middle + sign * half, "validation": middle - sign * half}
    for name, y in heights.items():
        beside = ax.get_yaxis_transform()
        ax.text(1.01, y, name, va="center_baseline", transform=beside)


def _legend(figure: Figure, ax: Axes) -> None:
    handles, labels = ax.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    options = {"ncols": min(3, len(unique)), "handlelength": 2.6, "columnspacing": 1.4}
    figure.legend(unique.values(), unique.keys(), loc="outside upper left", **options)


# --- speed ----------------------------------------------------------------------------


def _log_axis(ax: Axes, values: Sequence[float]) -> None:
    """A logarithmic scale with room for a name at either end, and plain numbers."""
    span = max(values) / min(values)
    room = max(1.6, span**0.08)  # 1.6: a 1, 2 or 5 lies within
    ax.set_yscale("log")
    ax.set_ylim(min(values) / room, max(values) * room)
    subs = (1, 2, 5) if span < 10 else (1,)
    ax.yaxis.set_major_locator(LogLocator(subs=subs, numticks=5))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")


def _column(ax: Axes, label: str, lines: int, times: Mapping[str, float]) -> None:
    """A dialect's modes, one above the other, each named; no name on another."""
    color = _style(label, 0)["color"]
    left = label == "TensorFlow 1"  # as long as TensorFlow 2, about
    modes = sorted(times, key=lambda mode: times[mode])
    heights = [times[mode] for mode in modes]
    ends = [lines, lines], [heights[0], heights[-1]]
    ax.plot(*ends, color=color, linewidth=1, clip_on=False)
    # Points as lines of no length with round ends: a tenth of a marker's bytes.
    places = np.repeat([lines, lines, np.nan], len(modes)).reshape(3, -1)
    dots = np.array([heights, heights, heights])
    style: dict[str, Any] = {"color": color, "linewidth": 7, "clip_on": False}
    ax.plot(places.T.ravel(), dots.T.ravel(), label=label, **style)
    low, high = np.log(ax.get_ylim())
    shares = [(np.log(height) - low) / (high - low) for height in heights]
    for mode, share in zip(modes, _apart(shares, 0.145), strict=True):
        ax.annotate(
            mode,
            (lines, share),
            (-7 if left else 7, 0),
            xycoords=ax.get_xaxis_transform(),
            textcoords="offset points",
            ha="right" if left else "left",
            va="center_baseline",
        )


def _apart(heights: Sequence[float], gap: float) -> list[float]:
    """Move ascending heights apart, up, and down again where they would pass 1."""
    found = list(heights)
    for i in range(1, len(found)):
        found[i] = max(found[i], found[i - 1] + gap)
    ceiling = 0.93  # a name at 1 would touch the title
    for i in reversed(range(len(found))):
        found[i] = min(found[i], ceiling)
        ceiling = found[i] - gap
    return found


# --- causes ---------------------------------------------------------------------------

_MARKS: dict[str, dict[str, Any]] = {
    "weights": {"markersize": 9, "color": INK, "markerfacecolor": "none"},
    "loss": {"markersize": 6, "color": _AMBER},
    "accuracy": {"markersize": 6, "color": _BLUE},
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


# --- images ---------------------------------------------------------------------------


def _grid(
    images: Floats, titles: Sequence[tuple[str, ...]], columns: int, foot: int = 0
) -> tuple[Figure, Axes, Floats, list[tuple[int, int]]]:
    """Lay images (n, h, w) out in one canvas, in image pixels; titles stand above."""
    n, h, w = images.shape
    gap = max(1, w // 9)
    scale = _WIDTH / (columns * (w + gap))  # CSS px for an image pixel
    lines = max((len(t) for t in titles), default=0)
    head = int(np.ceil((lines * 15 + 8) / scale)) if lines else 0
    rows = -(-n // columns)
    canvas = np.zeros((rows * (h + gap + head), columns * (w + gap)))
    corners = []
    for i, image in enumerate(images):
        top, left = i // columns * (h + gap + head) + head, i % columns * (w + gap)
        canvas[top : top + h, left : left + w] = image
        corners.append((top, left))
    height = canvas.shape[0] * scale
    figure = Figure(figsize=(_WIDTH / 72, (height + foot) / 72))
    ax = figure.add_axes((0, foot / (height + foot), 1, height / (height + foot)))
    ax.set(xlim=(0, canvas.shape[1]), ylim=(canvas.shape[0], 0))
    ax.axis("off")
    for (top, left), title in zip(corners, titles, strict=False):
        for up, text in enumerate(reversed(title)):
            y = top - (up * 15 + 4) / scale
            ax.text(left + w / 2, y, text, ha="center", va="baseline")
    return figure, ax, canvas, corners


def _ink_tiles(
    images: Floats, titles: Sequence[tuple[str, ...]], columns: int, alt: str
) -> Picture:
    """Images in [0, 1] as ink of the page's own color on the page's own ground."""
    with style.context(_LOOK):
        figure, ax, canvas, _ = _grid(images, titles, columns)
        _paint(ax, np.repeat(canvas[:, :, None], 3, axis=2).clip(0, 1), gid="ink")
        return picture(figure, alt)


def _signed_tiles(
    images: Floats, titles: Sequence[tuple[str, ...]], columns: int, alt: str
) -> Picture:
    """Signed images on one scale: amber above 0, blue below, nothing at 0."""
    # the largest weights are few, and would leave all others pale
    limit = float(np.quantile(np.abs(images), 0.995)) or 1.0
    with style.context(_LOOK):
        figure, ax, canvas, corners = _grid(images, titles, columns, foot=40)
        _paint(ax, _diverging(canvas / limit))
        h, w = images.shape[1:]
        frames = [[(x, y), (x + w, y), (x + w, y + h), (x, y + h)] for y, x in corners]
        faint: dict[str, Any] = {"facecolors": "none", "edgecolors": INK, "alpha": 0.3}
        ax.add_collection(
            PolyCollection(frames, linewidths=0.8, clip_on=False, **faint)
        )
        height = figure.get_figheight() * 72
        bar = figure.add_axes((0.3, 24 / height, 0.4, 10 / height))
        _paint(bar, _diverging(np.linspace(-1, 1, 101)[None, :]))
        bar.axis("off")
        ends = (f"≤ \N{MINUS SIGN}{limit:.2g}", "0", f"≥ {limit:.2g}")
        for x, text in zip((0, 0.5, 1), ends, strict=True):
            bar.text(x, -0.4, text, transform=bar.transAxes, ha="center", va="top")
        return picture(figure, f"{alt} Amber is positive, blue negative.")


def _paint(ax: Axes, colors: Floats, gid: str | None = None) -> None:
    height, width = colors.shape[:2]
    box = (0, width, height, 0)
    ax.imshow(
        colors, extent=box, aspect="auto", interpolation="none", clip_on=False, gid=gid
    )


def _diverging(values: Floats) -> Floats:
    """RGBA (h, w, 4): amber for 1, blue for -1, in 10 steps, to spare bytes."""
    alpha = np.round(10 * np.abs(values).clip(0, 1)) / 10
    rgb = np.where(values[..., None] > 0, to_rgb(_AMBER), to_rgb(_BLUE))
    return np.dstack([rgb, alpha])


# --- graphs ---------------------------------------------------------------------------

_BOX, _GAP, _LEAF = 24, 16, 15  # CSS px: a box's height, between boxes, a line beside


@dataclass(frozen=True)
class _Row:
    """An operation or input; the rows that it reads; what hangs beside it."""

    node: Node
    reads: list[int]
    leaves: list[str]
    starts: bool  # a frame begins here

    @property
    def height(self) -> float:
        return _BOX + _LEAF * max(0, len(self.leaves) - 1)


def _rows(nodes: Graph) -> list[_Row]:
    """A row for each node but for variables and constants, which hang beside."""
    beside = {n.name: n for n in nodes if n.kind in ("variable", "constant")}
    chain = [n for n in nodes if n.name not in beside] or list(nodes)
    place = {node.name: i for i, node in enumerate(chain)}
    rows = []
    for node, before in zip(chain, ["", *(n.scope for n in chain)], strict=False):
        reads = sorted({place[i] for i in node.inputs if i in place})
        leaves = [_times(beside[i].shape) for i in node.inputs if i in beside]
        own = [] if node.inputs else [_times(node.shape)]
        rows.append(_Row(node, reads, leaves or own, node.scope not in ("", before)))
    return rows


def _tops(columns: Sequence[Sequence[_Row]]) -> list[float]:
    """Where each row begins, the same in every column; and where the last one ends."""
    tops = [28.0]
    for i in range(max(map(len, columns))):
        rows = [column[i] for column in columns if i < len(column)]
        tops[i] += 18 * any(row.starts for row in rows)  # the frame's name
        tops.append(tops[i] + max(row.height for row in rows) + _GAP)
    return tops


def _graph_column(
    ax: Axes, label: str, rows: Sequence[_Row], tops: Sequence[float], box: Any
) -> None:
    left, right = box
    ax.text(left, 14, label, va="center_baseline", fontweight="bold")
    skips = [(j, i) for i, row in enumerate(rows) for j in row.reads if j < i - 1]
    x = left + 6 + 5 * min(len(skips), 4)
    beside = max(_length(leaf) for row in rows for leaf in ["", *row.leaves])
    room = right - 4 - x - (beside and 18)
    width = min(
        max(_length(row.node.kind) for row in rows) + 10, max(room - beside, room * 0.5)
    )
    middle, end = x + width / 2, x + width
    color = _STYLES.get(label, {"color": INK})["color"]
    for i, (row, y) in enumerate(zip(rows, tops, strict=False)):
        name, is_input = _cut(row.node.kind, width - 6), row.node.kind == "input"
        _box(ax, (x, y, end, y + row.height), INK if is_input else color, 2)
        ax.text(middle, y + row.height / 2, name, ha="center", va="center_baseline")
        for k, leaf in enumerate(row.leaves):
            at = y + _BOX / 2 + _LEAF * k
            ax.text(end + 18, at, _cut(leaf, room - width), va="center_baseline")
            if row.node.inputs:
                _arrow(ax, [(end + 16, at), (end + 1, at)])
        if i - 1 in row.reads:
            bottom = tops[i - 1] + rows[i - 1].height
            _arrow(ax, [(middle, bottom + 1), (middle, y - 1)])
        if row.starts:
            _frame(ax, rows[i:], tops[i:], box)
    for lane, (j, i) in enumerate(skips):
        ys = [tops[k] + rows[k].height / 2 + (3 if k == j else -3) for k in (j, i)]
        out = x - 6 - 5 * (lane % 4)
        _arrow(ax, [(x - 1, ys[0]), (out, ys[0]), (out, ys[1]), (x - 1, ys[1])])


def _frame(ax: Axes, rows: Sequence[_Row], tops: Sequence[float], box: Any) -> None:
    """Frame the rows that share the first one's scope, under the scope's name."""
    left, right = box
    scope = rows[0].node.scope
    inside = list(itertools.takewhile(lambda row: row.node.scope == scope, rows))
    bottom = tops[len(inside) - 1] + inside[-1].height
    _box(ax, (left, tops[0] - 20, right, bottom + 6), INK, 1, alpha=0.4)
    place: dict[str, Any] = {"ha": "right", "va": "center_baseline"}
    name = _cut(_layer(scope), right - left - 12)
    ax.text(right - 6, tops[0] - 10, name, **place)


def _box(ax: Axes, box: Any, color: str, width: float, alpha: float = 1) -> None:
    left, top, right, bottom = box
    shape: Any = {"boxstyle": "round,pad=0,rounding_size=4", "fill": False}
    look: Any = {"edgecolor": color, "linewidth": width, "alpha": alpha, **shape}
    ax.add_patch(FancyBboxPatch((left, top), right - left, bottom - top, **look))


def _arrow(ax: Axes, points: Sequence[tuple[float, float]]) -> None:
    ax.plot(*zip(*points, strict=True), color=INK, linewidth=1.2)
    style: Any = {"arrowstyle": "-|>,head_length=4,head_width=2.4", "color": INK}
    ends: Any = {"shrinkA": 0, "shrinkB": 0, "linewidth": 1.2}
    start, end = points[-2:]
    ax.add_patch(FancyArrowPatch(start, end, **style, **ends))


def _layer(scope: str) -> str:
    """The last name of a scope, without the counters that keep names apart."""
    return re.sub(r"(_\d+)+$", "", scope.rpartition("/")[2])


def _times(shape: Shape) -> str:
    """Name a shape: "784×32", "b×784" for a batch, "number" for a scalar."""
    if shape is None:
        return "any shape"
    lengths = ["?" if n is None else str(n) for n in shape]
    if lengths[:1] == ["?"]:
        lengths[0] = "b"
    return "×".join(lengths) or "number"


def _length(text: str) -> float:
    """A text's length in CSS px, in a font that is wider than what readers will see."""
    if not text:
        return 0
    font = FontProperties(family="DejaVu Sans")
    return float(TextPath((0, 0), text, FONT, prop=font).get_extents().x1)


def _cut(text: str, room: float) -> str:
    while len(text) > 2 and _length(text) > room:
        text = text.rstrip("…")[:-1] + "…"
    return text


# --- alternative texts ----------------------------------------------------------------


def _history_alt(
    runs: Mapping[str, Mapping[str, Floats]], quantities: Sequence[str]
) -> str:
    first, *rest = runs.values()
    same = all(
        run.keys() == first.keys()
        and all(np.array_equal(run[k], first[k], equal_nan=True) for k in run)
        for run in rest
    )
    epochs = max(v.size for run in runs.values() for v in run.values())
    names, what = _and(list(runs)), _and(quantities)
    verdict = "coincide exactly" if same else "differ"
    tail = f"; the curves {verdict}" if rest else ""
    span = f"over {epochs} epochs" if epochs > 1 else "after 1 epoch"
    return f"{what.capitalize()} {span} for {names}{tail}."


def _rates_alt(runs: Mapping[str, Mapping[str, Floats]], names: Sequence[str]) -> str:
    """Say how each schedule goes, rounded: it must not differ between processors."""
    parts = []
    for name in names:
        curves = [run[name] for run in runs.values() if name in run]
        first, *rest = curves
        same = all(np.array_equal(first, curve, equal_nan=True) for curve in rest)
        verdict = ("; the same" if same else "; not the same") if rest else ""
        ends = f"{first[0]:.2g} to {first[-1]:.2g}, at most {first.max():.2g}"
        parts.append(f"{name[:1].upper()}{name[1:]}: {ends}{verdict}")
    return f"Learning rates by step for {_and(list(runs))}. {'. '.join(parts)}."


def _agreement_alt(runs: Mapping[str, Floats]) -> str:
    parts = []
    for label, distances in runs.items():
        if not distances.any():
            parts.append(f"{label}: 0 after every epoch, bit for bit")
        else:
            parts.append(f"{label}: at most {10 ** _exponent(distances):,}")
    return f"Units in the last place from Keras's weights. {'; '.join(parts)}."


def _speed_alt(
    models: Mapping[str, Mapping[str, tuple[int, Mapping[str, float]]]],
) -> str:
    parts = []
    for title, runs in models.items():
        told = []
        for label, (lines, times) in runs.items():
            ends = [_short(f(times.values())) for f in (min, max)]
            told.append(f"{label} {lines}, {' to '.join(dict.fromkeys(ends))}")
        parts.append(f"{title}: {'; '.join(told)}.")
    return f"Lines of code, and microseconds an example. {' '.join(parts)}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _confusion_alt(counts: NDArray[np.int64], errors: NDArray[np.int64]) -> str:
    right = np.trace(counts) / max(1, counts.sum())
    alt = f"Confusion matrix: {_percent(right)} of the examples on the diagonal"
    if not errors.any():
        return f"{alt}, no errors."
    label, guess = np.unravel_index(errors.argmax(), errors.shape)
    return f"{alt}; the most frequent error is {label} taken for {guess}."


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


def _graph_alt(graphs: Mapping[str, Graph]) -> str:
    told = {label: _graph_told(_rows(nodes)) for label, nodes in graphs.items()}
    names, shapes = list(graphs), [structure(nodes) for nodes in graphs.values()]
    if len(names) > 1 and all(shape == shapes[0] for shape in shapes):
        parts = [f"The graphs of {_and(names)} are the same: {told[names[0]]}."]
    else:
        parts = [f"{label}: {chain}." for label, chain in told.items()]
    for label, nodes in graphs.items():
        scopes = dict.fromkeys(row.node.scope for row in _rows(nodes))
        if names := [_layer(scope) for scope in scopes if scope]:
            parts.append(f"{label} frames {_and(names)}.")
    return " ".join(parts)


def _graph_told(rows: Sequence[_Row]) -> str:
    """Tell a chain in words; where a row does not read the one before, say what."""
    words = []
    for i, row in enumerate(rows):
        own = row.reads not in ([], [i - 1])
        of = [f"{rows[j].node.kind} ({j + 1})" for j in row.reads] if own else []
        link = {"input": ""}.get(row.node.kind, "with ")
        parts = [row.node.kind, f"of {_and(of)}" if of else ""]
        parts += [f"{link}{_and(row.leaves)}" if row.leaves else ""]
        words.append(" ".join(part for part in parts if part))
    return ", then ".join(words)


def _and(names: Sequence[str]) -> str:
    *head, last = names
    return f"{', '.join(head)} and {last}" if head else last


def _exponent(distances: Floats) -> int:
    """The least power of ten that is not below any distance."""
    return len(str(max(0, int(distances.max()) - 1))) if distances.max() > 1 else 0


def _percent(p: float) -> str:
    return "> 99 %" if 0.995 <= p < 1 else f"{100 * p:.0f} %"


# --- checks ---------------------------------------------------------------------------


def _nonempty(name: str, values: C) -> C:
    if not values:
        raise ValueError(f"{name} is empty: pass at least one entry")
    return values


def _positive(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name} is {value}; it must be at least 1: pass 10, say")


def _epochs(name: str, values: ArrayLike) -> Floats:
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or not array.size:
        raise ValueError(
            f"{name} has shape {array.shape}; it must be (epochs,): "
            "pass one number for each epoch, and train for at least one"
        )
    return array


def _shaped(name: str, values: ArrayLike, shape: tuple[int | None, ...]) -> Floats:
    """Values as float64, once their shape fits; None in `shape` fits any length."""
    array = np.asarray(values, np.float64)
    fits = array.ndim == len(shape) and all(
        want in (None, have) for want, have in zip(shape, array.shape, strict=True)
    )
    if not fits:
        rule = ", ".join("any" if want is None else str(want) for want in shape)
        raise ValueError(
            f"{name} has shape {array.shape}; it must be ({rule}): reshape it"
        )
    if not np.isfinite(array).all():
        raise ValueError(
            f"{name} holds NaN or infinity; it must be finite: lower the learning rate"
        )
    return array


def _images(images: ArrayLike) -> Floats:
    array = np.asarray(images, np.float64)
    if array.shape[1:] not in ((784,), (28, 28), (28, 28, 1)) or not len(array):
        raise ValueError(
            f"images has shape {array.shape}; it must be (n, 784), (n, 28, 28) or "
            "(n, 28, 28, 1) with n > 0: pass a batch, x[:n]"
        )
    return array.reshape(-1, 28, 28)


def _classes(name: str, values: ArrayLike, n: int | None = None) -> NDArray[np.int64]:
    """Classes (n,) from classes (n,) or from one-hot or probabilities (n, classes)."""
    array = np.asarray(values)
    rows = array.ndim == 2 and array.shape[1] > 1  # (n, 1) would all be class 0
    classes = array.argmax(axis=1) if rows else array
    if classes.ndim != 1 or n not in (None, len(classes)):
        length = "n" if n is None else n
        raise ValueError(
            f"{name} has shape {array.shape}; it must be ({length},) or "
            f"({length}, classes): pass one class or one row for each example"
        )
    return classes.astype(np.int64)


def _sentence(text: str) -> Picture:
    with style.context(_LOOK):
        figure = Figure(figsize=(_WIDTH / 72, 40 / 72))
        figure.text(0.01, 0.5, text, va="center_baseline")
        return picture(figure, text)
