"""Curves by epoch or step, and the line through its examples."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator
from numpy.typing import ArrayLike

from kvt.show import canvas
from kvt.show.canvas import LOOK, WIDTH, Floats, join_names
from kvt.show.picture import FONT, INK, Picture, picture

Runs = Mapping[str, Mapping[str, Sequence[float]]]
Curves = dict[str, dict[str, Floats]]


def history(histories: Runs) -> Picture:
    """Draw what each run reported by epoch, validation beside training.

    histories: label -> key -> one number per epoch, as in Keras's `History.history`;
    each key gets a panel, shared with its `val_` twin. Values that are not finite leave
    a gap.
    """
    runs = _curves(histories)
    keys = [key for run in runs.values() for key in run]
    quantities = list(dict.fromkeys(key.removeprefix("val_") for key in keys))
    with style.context(LOOK):
        figure, axes = canvas.panels(len(quantities))
        for ax, quantity in zip(axes, quantities, strict=True):
            ax.set_title(quantity)
            pair = (quantity, f"val_{quantity}")
            for order, (label, run) in enumerate(runs.items()):
                for key in (k for k in pair if k in run):
                    canvas.curve(ax, label, order, run[key])
            if both := [run for run in runs.values() if run.keys() >= {*pair}]:
                _name_ends(ax, *(both[0][key][-1] for key in pair))
        canvas.whole_numbers(axes[-1], "epoch", 1, _longest(runs))
        canvas.legend(figure, axes[0])
        return picture(figure, _history_alt(runs, quantities))


def rates(schedules: Runs) -> Picture:
    """Draw the learning rate that each run uses at each step, one panel per schedule.

    schedules: label -> schedule -> one rate per step, from step 0 on. A rate holds for
    its whole step, so a short run's curves are stairs.
    """
    runs = _curves(schedules)
    names = list(dict.fromkeys(name for run in runs.values() for name in run))
    with style.context(LOOK):
        figure, axes = canvas.panels(len(names))
        for ax, name in zip(axes, names, strict=True):
            ax.set_title(name)
            for order, (label, run) in enumerate(runs.items()):
                if name in run:
                    # Where a step is narrower than two pixels, stairs are not seen.
                    stairs = "steps-post" if 2 * run[name].size < WIDTH else "default"
                    canvas.curve(ax, label, order, run[name], 0, drawstyle=stairs)
        canvas.whole_numbers(axes[-1], "step", 0, _longest(runs) - 1)
        canvas.legend(figure, axes[0])
        return picture(figure, _rates_alt(runs, names))


def agreement(ulps: Mapping[str, Sequence[int]]) -> Picture:
    """Draw how far each run's weights are from Keras's, by epoch.

    ulps: label -> the largest distance of any weight after each epoch, in units in the
    last place (ulp), 0 or more. The scale is logarithmic above 1; 0 has its own line.
    """
    runs = {label: np.asarray(values, np.float64) for label, values in ulps.items()}
    top = max(1, *map(_exponent, runs.values()))
    ticks = range(0, top + 1, 1 + top // 5)
    names = [f"{10**t:,}" if t < 5 else f"1e{t}" for t in ticks]
    with style.context(LOOK):
        figure, (ax,) = canvas.panels(1)
        ax.set_title("distance from Keras, in ulp")
        ax.set_yscale("symlog", linthresh=1, linscale=max(0.9, top / 5))
        ax.yaxis.set_major_locator(FixedLocator([0, *(10.0**t for t in ticks)]))
        ax.yaxis.set_minor_locator(NullLocator())
        ax.set_yticklabels(["0: same bits", *names])
        ax.set_ylim(-0.35, 10.0**top * 1.5)
        for order, (label, distances) in enumerate(runs.items()):
            canvas.curve(ax, label, order, distances)
        canvas.whole_numbers(ax, "epoch", 1, max(v.size for v in runs.values()))
        canvas.legend(figure, ax)
        return picture(figure, _agreement_alt(runs))


def line(x: ArrayLike, y: ArrayLike, lines: Mapping[str, tuple[Any, Any]]) -> Picture:
    """Draw examples and the lines fitted to them.

    x, y: (n,) or (n, 1). lines: label -> (w, b) of y = w x + b, numbers or arrays of
    one element.
    """
    xs, ys = (np.asarray(v, np.float64).reshape(-1) for v in (x, y))
    ends = np.array([xs.min(), xs.max()])
    equations = []
    with style.context(LOOK):
        figure, (ax,) = canvas.panels(1, height=230)
        for order, (label, pair) in enumerate(lines.items()):
            w, b = (float(np.asarray(v).item()) for v in pair)
            equation = f"y = {w:.2f} x {'-' if b < 0 else '+'} {abs(b):.2f}"
            equations.append(f"{label} {equation}")
            look = canvas.style_of(label, order)
            ax.plot(ends, w * ends + b, label=f"{label}: {equation}", **look)
        rings: dict[str, Any] = {"ms": 13, "mfc": "none", "mec": INK, "alpha": 0.5}
        ax.plot(xs, ys, "o", mew=0.9, zorder=1, label="examples", **rings)
        ax.set_xlabel("x")
        ax.set_title("y", fontweight="normal")
        ax.legend(loc="best", fontsize=FONT)
        ax.grid(visible=False)  # it would run through the legend
        alt = f"{xs.size} examples and the fitted lines: {'; '.join(equations)}."
        return picture(figure, alt)


def _curves(runs: Runs) -> Curves:
    return {
        label: {key: np.asarray(values, np.float64) for key, values in run.items()}
        for label, run in runs.items()
    }


def _longest(runs: Curves) -> int:
    return max(curve.size for run in runs.values() for curve in run.values())


def _name_ends(ax: Axes, training: float, validation: float) -> None:
    """Write which curve is which at their ends, without overlap."""
    low, high = ax.get_ylim()
    if not np.isfinite([training, validation]).all():
        training = validation = (low + high) / 2
    middle = (training + validation) / 2
    half = max((high - low) * 0.13, abs(training - validation)) / 2
    sign = -1 if validation > training else 1
    heights = {"training": middle + sign * half, "validation": middle - sign * half}
    beside = ax.get_yaxis_transform()
    for name, y in heights.items():
        ax.text(1.01, y, name, va="center_baseline", transform=beside)


def _equal(curves: Iterable[Floats]) -> bool:
    first, *rest = curves
    return all(np.array_equal(first, curve, equal_nan=True) for curve in rest)


def _history_alt(runs: Curves, quantities: Sequence[str]) -> str:
    keys = {key for run in runs.values() for key in run}
    same = all(run.keys() == keys for run in runs.values()) and all(
        _equal(run[key] for run in runs.values()) for key in keys
    )
    verdict = "coincide exactly" if same else "differ"
    tail = f"; the curves {verdict}" if len(runs) > 1 else ""
    epochs = _longest(runs)
    span = f"over {epochs} epochs" if epochs > 1 else "after 1 epoch"
    what, names = join_names(quantities), join_names([*runs])
    return f"{what.capitalize()} {span} for {names}{tail}."


def _rates_alt(runs: Curves, names: Sequence[str]) -> str:
    """Describe each schedule, rounded so that every processor gives the same text."""
    parts = []
    for name in names:
        first, *rest = curves = [run[name] for run in runs.values() if name in run]
        verdict = ("; the same" if _equal(curves) else "; not the same") if rest else ""
        ends = f"{first[0]:.2g} to {first[-1]:.2g}, at most {first.max():.2g}"
        parts.append(f"{name[:1].upper()}{name[1:]}: {ends}{verdict}")
    return f"Learning rates by step for {join_names([*runs])}. {'. '.join(parts)}."


def _agreement_alt(runs: Mapping[str, Floats]) -> str:
    parts = [
        f"{label}: at most {10 ** _exponent(distances):,}"
        if distances.any()
        else f"{label}: 0 after every epoch, bit for bit"
        for label, distances in runs.items()
    ]
    return f"Distance from Keras's weights, in ulp. {'; '.join(parts)}."


def _exponent(distances: Floats) -> int:
    """The least power of ten that is not below any distance."""
    return len(str(int(distances.max()) - 1)) if distances.max() > 1 else 0
