"""Curves by epoch or step, and the line through its examples."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator
from numpy.typing import ArrayLike, NDArray

from kvt.show.canvas import (
    LOOK,
    WIDTH,
    Floats,
    curve,
    epoch_axis,
    epochs,
    join_names,
    legend,
    nonempty,
    panels,
    style_of,
    whole_numbers,
)
from kvt.show.picture import FONT, INK, Picture, picture


def history(histories: Mapping[str, Mapping[str, Sequence[float]]]) -> Picture:
    """Draw what each run reported by epoch, validation beside training.

    histories: label -> key -> one number per epoch, as in Keras's `History.history`;
    each key gets a panel, shared with its `val_` twin. Values that are not finite leave
    a gap. Raises ValueError where a run or a key is empty.
    """
    runs = {
        label: {key: epochs(f"{label}'s {key}", v) for key, v in run.items()}
        for label, run in nonempty("histories", histories).items()
    }
    keys = [k for run in runs.values() for k in nonempty("a history", run)]
    quantities = list(dict.fromkeys(key.removeprefix("val_") for key in keys))
    with style.context(LOOK):
        figure, axes = panels(len(quantities))
        for ax, quantity in zip(axes, quantities, strict=True):
            ax.set_title(quantity)
            pair = (quantity, f"val_{quantity}")
            for order, (label, run) in enumerate(runs.items()):
                for key in (k for k in pair if k in run):
                    curve(ax, label, order, run[key])
            ends = [[run[k][-1] for k in pair if k in run] for run in runs.values()]
            ends = [end for end in ends if len(end) == 2]
            if ends:
                _name_ends(ax, *ends[0])
        epoch_axis(axes[-1], [v for run in runs.values() for v in run.values()])
        legend(figure, axes[0])
        return picture(figure, _history_alt(runs, quantities))


def rates(schedules: Mapping[str, Mapping[str, Sequence[float]]]) -> Picture:
    """Draw the learning rate that each run uses at each step, one panel per schedule.

    schedules: label -> schedule -> one rate per step, from step 0 on. A rate holds for
    its whole step, so a short run's curves are stairs. Of a long run, only as many
    steps are drawn as the figure has pixels. Raises ValueError where a run or a
    schedule is empty.
    """
    runs = {
        label: {name: epochs(f"{label}'s {name}", v) for name, v in run.items()}
        for label, run in nonempty("schedules", schedules).items()
    }
    names = [n for run in runs.values() for n in nonempty("a run", run)]
    names = list(dict.fromkeys(names))
    with style.context(LOOK):
        figure, axes = panels(len(names))
        for ax, name in zip(axes, names, strict=True):
            ax.set_title(name)
            for order, (label, run) in enumerate(runs.items()):
                if name in run:
                    steps = _some(run[name].size)
                    # Where a step is narrower than two pixels, stairs are not seen.
                    stairs = "steps-post" if 2 * run[name].size < WIDTH else "default"
                    rate = run[name][steps]
                    curve(ax, label, order, rate, steps, drawstyle=stairs)
        last = max(v.size for run in runs.values() for v in run.values()) - 1
        whole_numbers(axes[-1], "step", 0, last)
        legend(figure, axes[0])
        return picture(figure, _rates_alt(runs, names))


def agreement(ulps: Mapping[str, Sequence[int]]) -> Picture:
    """Draw how far each run's weights are from Keras's, by epoch.

    ulps: label -> the largest distance of any weight after each epoch, in units in the
    last place (ulp), 0 or more. The scale is logarithmic above 1; 0 has its own line.
    Raises ValueError for a label without epochs or with a negative distance.
    """
    runs = {k: epochs(f"{k}'s ulps", v) for k, v in nonempty("ulps", ulps).items()}
    for label, distances in runs.items():
        if not np.all(distances >= 0):
            raise ValueError(f"{label}'s ulps are distances, 0 or more: pass abs(ulps)")
    top = max(1, *(_exponent(distances) for distances in runs.values()))
    ticks = range(0, top + 1, 1 + top // 5)
    names = [f"{10**t:,}" if t < 5 else f"1e{t}" for t in ticks]
    with style.context(LOOK):
        figure, (ax,) = panels(1)
        ax.set_title("distance from Keras, in ulp")
        ax.set_yscale("symlog", linthresh=1, linscale=max(0.9, top / 5))
        ax.yaxis.set_major_locator(FixedLocator([0, *(10.0**t for t in ticks)]))
        ax.yaxis.set_minor_locator(NullLocator())
        ax.set_yticklabels(["0: same bits", *names])
        ax.set_ylim(-0.35, 10.0**top * 1.5)
        for order, (label, distances) in enumerate(runs.items()):
            curve(ax, label, order, distances)
        epoch_axis(ax, list(runs.values()))
        legend(figure, ax)
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
    with style.context(LOOK):
        figure, (ax,) = panels(1, height=230)
        for order, (label, pair) in enumerate(nonempty("lines", lines).items()):
            w, b = (float(np.asarray(v).item()) for v in pair)
            equation = f"y = {w:.2f} x {'-' if b < 0 else '+'} {abs(b):.2f}"
            equations.append(f"{label} {equation}")
            name = f"{label}: {equation}"
            ax.plot(ends, w * ends + b, label=name, **style_of(label, order))
        rings: dict[str, Any] = {"ms": 13, "mfc": "none", "mec": INK, "alpha": 0.5}
        ax.plot(xs, ys, "o", mew=0.9, zorder=1, label="examples", **rings)
        ax.set_xlabel("x")
        ax.set_title("y", fontweight="normal")
        ax.legend(loc="best", fontsize=FONT)
        ax.grid(visible=False)  # it would run through the legend
        alt = f"{xs.size} examples and the fitted lines: {'; '.join(equations)}."
        return picture(figure, alt)


def _some(count: int) -> NDArray[np.int64]:
    """Places of at most `WIDTH` values among `count`, first and last included."""
    places = np.linspace(0, count - 1, min(count, WIDTH)).round()
    return places.astype(np.int64)


def _name_ends(ax: Axes, training: float, validation: float) -> None:
    """Write which curve is which at their ends, without overlap."""
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
    names, what = join_names(list(runs)), join_names(quantities)
    verdict = "coincide exactly" if same else "differ"
    tail = f"; the curves {verdict}" if rest else ""
    span = f"over {epochs} epochs" if epochs > 1 else "after 1 epoch"
    return f"{what.capitalize()} {span} for {names}{tail}."


def _rates_alt(runs: Mapping[str, Mapping[str, Floats]], names: Sequence[str]) -> str:
    """Describe each schedule, rounded so that every processor gives the same text."""
    parts = []
    for name in names:
        curves = [run[name] for run in runs.values() if name in run]
        first, *rest = curves
        same = all(np.array_equal(first, curve, equal_nan=True) for curve in rest)
        verdict = ("; the same" if same else "; not the same") if rest else ""
        ends = f"{first[0]:.2g} to {first[-1]:.2g}, at most {first.max():.2g}"
        parts.append(f"{name[:1].upper()}{name[1:]}: {ends}{verdict}")
    return f"Learning rates by step for {join_names(list(runs))}. {'. '.join(parts)}."


def _agreement_alt(runs: Mapping[str, Floats]) -> str:
    parts = []
    for label, distances in runs.items():
        if not distances.any():
            parts.append(f"{label}: 0 after every epoch, bit for bit")
        else:
            parts.append(f"{label}: at most {10 ** _exponent(distances):,}")
    return f"Distance from Keras's weights, in ulp. {'; '.join(parts)}."


def _exponent(distances: Floats) -> int:
    """The least power of ten that is not below any distance."""
    return len(str(max(0, int(distances.max()) - 1))) if distances.max() > 1 else 0
