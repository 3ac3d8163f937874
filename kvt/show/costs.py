"""A figure of time by mode of execution, with the lines of code beside it."""

from collections import Counter
from collections.abc import Mapping

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator

from kvt.compare.modes import MODES
from kvt.show.canvas import LOOK, join_names, legend, panels, style_of
from kvt.show.picture import INK, Picture, picture
from kvt.show.tables import digits

Models = Mapping[str, Mapping[str, tuple[int, Mapping[str, float]]]]


def speed(models: Models) -> Picture:
    """Draw the time of each mode: a panel per model, a row per mode, a dot per dialect.

    models: title -> label -> (lines of code, mode -> microseconds per example, above
    0). All panels share one logarithmic scale. No dot has a label that another could
    touch; equal dots lie within each other.
    """
    with style.context(LOOK):
        figure, axes = panels(len(models), height=135)
        for ax, (title, runs) in zip(axes, models.items(), strict=True):
            ax.set_title(title)
            lines = [f"{label} {count}" for label, (count, _) in runs.items()]
            ax.set_title(f"lines: {', '.join(lines)}", loc="right", weight="normal")
            _dots(ax, runs)
        axes[-1].set_xscale("log")
        axes[-1].set_xlabel("µs per example")
        axes[-1].xaxis.set_major_locator(LogLocator(numticks=9))
        axes[-1].xaxis.set_minor_locator(NullLocator())
        axes[-1].xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        legend(figure, axes[0])
        return picture(figure, _fastest(models), _in_words(models))


def _dots(ax: Axes, runs: Mapping[str, tuple[int, Mapping[str, float]]]) -> None:
    """Draw one row per mode, and in it one dot per dialect that has the mode."""
    names = [mode for mode in MODES if any(mode in times for _, times in runs.values())]
    for label, (_, times) in runs.items():
        rows = [names.index(mode) for mode in times]
        look = {**style_of(label, 0), "linestyle": "", "marker": "o"}
        look["markersize"] = max(6, look["markersize"])  # seen alone
        ax.plot([*times.values()], rows, label=label, clip_on=False, **look)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(color=INK, alpha=0.15, linewidth=0.8)
    ax.tick_params(axis="x", length=0)


def _fastest(models: Models) -> str:
    """Say how often each dialect has the shortest time."""
    times = [
        {label: min(of.values()) for label, (_, of) in runs.items()}
        for runs in models.values()
    ]
    wins = Counter(min(of, key=lambda label: of[label]) for of in times)
    counted = [f"{label} in {count}" for label, count in wins.most_common()]
    many = f"{len(models)} models" if len(models) > 1 else "1 model"
    return f"The shortest time of {many}: {join_names(counted)}."


def _in_words(models: Models) -> str:
    parts = []
    for title, runs in models.items():
        labels = []
        for label, (lines, times) in runs.items():
            ends = dict.fromkeys(digits(f(times.values())) for f in (min, max))
            labels.append(f"{label} {lines} lines, {' to '.join(ends)} µs per example")
        parts.append(f"{title}: {'; '.join(labels)}.")
    return " ".join(parts)
