"""A figure of lines of code against time."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from kvt.show.canvas import LOOK, Floats, legend, panels, style_of
from kvt.show.picture import Picture, picture
from kvt.show.tables import digits

Models = Mapping[str, Mapping[str, tuple[int, Mapping[str, float]]]]


def speed(models: Models) -> Picture:
    """Draw the time that each mode takes over its lines of code, one panel per model.

    models: title -> label -> (lines of code, mode -> microseconds per example, above
    0). The time's scale is logarithmic.
    """
    with style.context(LOOK):
        figure, axes = panels(len(models), height=125)
        for ax, (title, runs) in zip(axes, models.items(), strict=True):
            ax.set_title(f"{title}, µs per example")
            ax.tick_params(axis="x", length=0)
            _log_axis(ax, [t for _, times in runs.values() for t in times.values()])
            for label, (lines, times) in runs.items():
                _column(ax, label, lines, times)
        axes[-1].set_xlabel("lines of code")
        axes[-1].margins(x=0.12)
        places = MaxNLocator(6, integer=True, steps=[1, 2, 5, 10])
        axes[-1].xaxis.set_major_locator(places)
        legend(figure, axes[0])
        return picture(figure, _speed_alt(models))


def _log_axis(ax: Axes, values: Sequence[float]) -> None:
    """Set a logarithmic scale with room for a name at either end, and plain numbers."""
    span = max(values) / min(values)
    room = max(1.6, span**0.08)  # 1.6: a 1, 2 or 5 lies within
    ax.set_yscale("log")
    ax.set_ylim(min(values) / room, max(values) * room)
    subs = (1, 2, 5) if span < 10 else (1,)
    ax.yaxis.set_major_locator(LogLocator(subs=subs, numticks=5))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")


def _column(ax: Axes, label: str, lines: int, times: Mapping[str, float]) -> None:
    """Draw a dialect's modes one above the other, with names that do not overlap."""
    color = style_of(label, 0)["color"]
    left = label == "TensorFlow 1"  # it has about as many lines as TensorFlow 2
    modes = sorted(times, key=lambda mode: times[mode])
    heights = [times[mode] for mode in modes]
    ends = [lines, lines], [heights[0], heights[-1]]
    ax.plot(*ends, color=color, linewidth=1, clip_on=False)
    # Lines of no length with round ends take a tenth of the bytes of markers.
    places = np.repeat([lines, lines, np.nan], len(modes)).reshape(3, -1)
    dots = np.array([heights, heights, heights])
    style: dict[str, Any] = {"color": color, "linewidth": 7, "clip_on": False}
    ax.plot(places.T.ravel(), dots.T.ravel(), label=label, **style)
    low, high = np.log(ax.get_ylim())
    shares = [(np.log(height) - low) / (high - low) for height in heights]
    for mode, share in zip(modes, _spread(shares, 0.145), strict=True):
        ax.annotate(
            mode,
            (lines, share),
            (-7 if left else 7, 0),
            xycoords=ax.get_xaxis_transform(),
            textcoords="offset points",
            ha="right" if left else "left",
            va="center_baseline",
        )


def _spread(heights: Sequence[float], gap: float) -> Floats:
    """Move ascending heights up until they keep a gap, then down from the ceiling."""
    steps = gap * np.arange(len(heights))
    ceiling = 0.93 - steps[-1]  # a name at 1 would touch the title
    spread: Floats = np.maximum.accumulate(heights - steps).clip(max=ceiling) + steps
    return spread


def _speed_alt(models: Models) -> str:
    parts = []
    for title, runs in models.items():
        labels = []
        for label, (lines, times) in runs.items():
            ends = dict.fromkeys(digits(f(times.values())) for f in (min, max))
            labels.append(f"{label} {lines}, {' to '.join(ends)}")
        parts.append(f"{title}: {'; '.join(labels)}.")
    return f"Lines of code, and microseconds per example. {' '.join(parts)}"
