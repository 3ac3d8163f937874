"""Curves by epoch or step, and the line through its examples."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator
from numpy.typing import ArrayLike

from kvt.compare.parity import same_history
from kvt.show import canvas
from kvt.show.canvas import LOOK, Curves, Floats, join_names, longest
from kvt.show.picture import FONT, INK, Picture, picture
from kvt.show.sources import Markdown

Runs = Mapping[str, Mapping[str, Sequence[float]]]


@style.context(LOOK)
def history(histories: Runs) -> Picture:
    """Draw what each run reported by epoch, validation beside training.

    histories: label -> key -> one number per epoch, as in Keras's `History.history`;
    each key gets a panel, shared with its `val_` twin. Values that are not finite leave
    a gap.
    """
    runs = _curves(histories)
    names = [key.removeprefix("val_") for run in runs.values() for key in run]
    pairs = {name: (name, f"val_{name}") for name in names}
    figure, axes = canvas.curves(runs, pairs, "epoch")
    for ax, pair in zip(axes, pairs.values(), strict=True):
        if both := [run for run in runs.values() if run.keys() >= {*pair}]:
            _name_ends(ax, *(both[0][key][-1] for key in pair))
    return picture(figure, _history_finding(runs, [*pairs]), _listed(runs))


@style.context(LOOK)
def rates(schedules: Runs) -> Picture:
    """Draw the learning rate that each run uses at each step, one panel per schedule.

    schedules: label -> schedule -> one rate per step, from step 0 on. A rate holds for
    its whole step, so curves are stairs while a stair is wide enough to be seen.
    """
    runs = _curves(schedules)
    names = {name: [name] for run in runs.values() for name in run}
    figure, _ = canvas.curves(runs, names, "step", 0, stairs=True)
    return picture(figure, _rates_finding(runs, [*names]), _rates_in_words(runs))


@style.context(LOOK)
def agreement(ulps: Mapping[str, Sequence[int]]) -> Picture | Markdown:
    """Draw how far each run's weights are from Keras's, by epoch.

    ulps: label -> the largest distance of any weight after each epoch, in units in the
    last place (ulp), 0 or more. The scale is logarithmic above 1; 0 has its own line.
    Where nothing but zeros would be drawn, a sentence says so.
    """
    runs = _curves({label: {"ulp": values} for label, values in ulps.items()})
    largest = {label: run["ulp"].max() for label, run in runs.items()}
    if not any(largest.values()):
        epochs = longest(runs)
        when = f"in all {epochs} epochs" if epochs > 1 else "after 1 epoch"
        rest = f"of {join_names([*runs])}: every weight has the bits of Keras's."
        return Markdown(f"**0 ulp {when}** {rest}")
    top = max(1, *map(_exponent, largest.values()))
    ticks = range(0, top + 1, 1 + top // 5)
    names = [f"{10**t:,}" if t < 5 else f"1e{t}" for t in ticks]
    title = "distance from Keras, in ulp"
    figure, (ax,) = canvas.curves(runs, {title: ["ulp"]}, "epoch")
    ax.set_yscale("symlog", linthresh=1, linscale=max(0.9, top / 5))
    ax.set_yticks([0, *(10.0**t for t in ticks)], ["0: same bits", *names])
    ax.yaxis.set_minor_locator(NullLocator())
    ax.set_ylim(-0.35, 10.0**top * 1.5)
    return picture(figure, _agreement_finding(largest), _listed(runs))


@style.context(LOOK)
def line(x: ArrayLike, y: ArrayLike, lines: Mapping[str, tuple[Any, Any]]) -> Picture:
    """Draw examples and the lines fitted to them.

    x, y: (n,) or (n, 1). lines: label -> (w, b) of y = w x + b, numbers or arrays of
    one element.
    """
    xs, ys = (np.asarray(v, np.float64).reshape(-1) for v in (x, y))
    ends = np.array([xs.min(), xs.max()])
    equations = {}
    figure, (ax,) = canvas.panels(1)
    for order, (label, pair) in enumerate(lines.items()):
        w, b = (float(np.asarray(v).item()) for v in pair)
        equation = f"y = {w:.2f} x {'-' if b < 0 else '+'} {abs(b):.2f}"
        equations[label] = equation
        look = canvas.style_of(label, order)
        ax.plot(ends, w * ends + b, label=f"{label}: {equation}", **look)
    rings: dict[str, Any] = {"ms": 13, "mfc": "none", "mec": INK, "alpha": 0.5}
    ax.plot(xs, ys, "o", mew=0.9, zorder=1, label="examples", **rings)
    ax.set_xlabel("x")
    ax.set_title("y", fontweight="normal")
    ax.legend(loc="best", fontsize=FONT)
    ax.grid(visible=False)  # it would run through the legend
    fitted = {*equations.values()}
    same = f"the line {min(fitted)}"
    what = same if len(fitted) == 1 else f"{len(fitted)} different lines"
    finding = f"{join_names([*equations])} fit {what} to {xs.size} examples."
    named = [f"{label}: {equation}." for label, equation in equations.items()]
    return picture(figure, finding, " ".join(named))


def _curves(runs: Runs) -> Curves:
    return {
        label: {key: np.asarray(values, np.float64) for key, values in run.items()}
        for label, run in runs.items()
    }


def _name_ends(ax: Axes, training: float, validation: float) -> None:
    """Write which curve is which at their ends, without overlap."""
    low, high = ax.get_ylim()
    if not np.isfinite([training, validation]).all():
        training = validation = (low + high) / 2
    middle, apart = (training + validation) / 2, training - validation
    half = np.copysign(max((high - low) * 0.13, abs(apart)), apart) / 2
    beside = ax.get_yaxis_transform()
    for name, y in {"training": middle + half, "validation": middle - half}.items():
        ax.text(1.01, y, name, va="center_baseline", transform=beside)


def _history_finding(runs: Curves, quantities: Sequence[str]) -> str:
    """Say whether the curves coincide, or else where the loss ends."""
    quantity = "loss" if "loss" in quantities else quantities[0]
    if not any(quantity in run for run in runs.values()):
        quantity = f"val_{quantity}"
    epochs = longest(runs)
    span = f"over {epochs} epochs" if epochs > 1 else "after 1 epoch"
    last = {label: run[quantity][-1] for label, run in runs.items() if quantity in run}
    if len(runs) == 1:
        (run,) = runs.values()
        seen = next(key for key in (f"val_{quantity}", quantity) if key in run)
        values = -run[seen] if "accuracy" in seen else run[seen]
        if not np.isfinite(values).any():
            return f"{seen} is no finite number {span}."
        return f"{seen} is best after epoch {np.nanargmin(values) + 1} of {epochs}."
    if _coincide(runs.values()):
        return f"The curves of {join_names([*runs])} coincide exactly {span}."
    low, high = (f(last, key=lambda label: last[label]) for f in (min, max))
    ends = f"{quantity} ends lowest for {low}, highest for {high}"
    return f"The curves differ {span}: {ends}."


def _coincide(runs: Iterable[Mapping[str, Floats]]) -> bool:
    first, *rest = runs
    return all(same_history(first, run) for run in rest)


def _rates_finding(runs: Curves, names: Sequence[str]) -> str:
    labels, steps = join_names([*runs]), longest(runs)
    if len(runs) == 1:
        return f"{len(names)} schedules of {labels}, by step."
    differ = [
        name
        for name in names
        if not _coincide({"": run[name]} for run in runs.values() if name in run)
    ]
    if differ:
        return f"{labels} differ in {join_names(differ)}."
    return f"{labels} use the same rate at each of {steps:,} steps."


def _rates_in_words(runs: Curves) -> str:
    return " ".join(
        f"{label}, {name}: {rates[0]:.2g} to {rates[-1]:.2g}, top {rates.max():.2g}."
        for label, run in runs.items()
        for name, rates in run.items()
    )


def _agreement_finding(largest: Mapping[str, float]) -> str:
    """Bound each distance by a power of ten: it may depend on the processor."""
    parts = [
        f"{label} differs from Keras by at most {10 ** _exponent(distance):,} ulp"
        for label, distance in largest.items()
        if distance
    ]
    if equal := [label for label, distance in largest.items() if not distance]:
        parts.append(f"{join_names(equal)} by no bit")
    return f"{join_names(parts)}."


def _exponent(distance: float) -> int:
    """Return the least power of ten that is not below a distance."""
    return len(str(int(distance) - 1)) if distance > 1 else 0


def _listed(runs: Curves) -> str:
    """Return every curve in words: its values by epoch."""
    return " ".join(
        f"{label}, {key} by epoch: {', '.join(map(_number, values))}."
        for label, run in runs.items()
        for key, values in run.items()
    )


def _number(value: float) -> str:
    return f"{value:.3g}" if np.isfinite(value) else "no number"
