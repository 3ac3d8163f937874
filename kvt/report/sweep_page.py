"""The page and the table of a sweep: the best runs, what each parameter does, failures.

A run's seed is no setting: the spread over seeds shows how much of a difference is
chance.
"""

import base64
import hashlib
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import StrictUndefined, Template
from matplotlib import style
from matplotlib.axes import Axes

from kvt.report.notebooks import printable
from kvt.report.parameters import Value
from kvt.show import canvas
from kvt.show.canvas import LOOK, OTHERS, WIDTH
from kvt.show.picture import Picture, picture

Row = Mapping[str, Any]
FACTS = ("host", "processor", "threads", "python", "system", "address", "differs")
SHOWN = ("host", "processor", "threads", "python", "system")
VERSIONS = ("tensorflow", "keras", "numpy")
SEED = "seed"
BEST = 10  # settings in the picture of the best
LINES = 5  # curves in a panel, one for each setting of the other parameters
LARGEST = 1000  # runs in the page's table
TEMPLATES = Path(__file__).parent / "templates" / "sweep"


def row(name: str, run: Any, values: Row, document: Row | None) -> dict[str, Any]:
    """Return a run as a row of the table: parameters, metrics, agreement, worker."""
    found: dict[str, Any] = {"run": name, "status": run.status, **values}
    if document:
        for dialect, one in document["dialects"].items():
            found |= {f"{dialect}_test_{k}": v for k, v in one["test"].items()}
            found[f"{dialect}_seconds"] = one["seconds"]
        parity = document["parity"].values()
        ulps = [max(one["weights_max_ulp"], default=0) for one in parity]
        found["max_ulp"] = max(ulps, default=0)
        found["history_equal"] = all(one["history_equal"] for one in parity)
        found["data_sha256"] = document["data"]["sha256"]
        found |= {f"version_{it}": document["versions"][it] for it in VERSIONS}
    found["run_seconds"] = round(run.seconds, 3)
    found |= {f"worker_{it}": run.worker.get(it, "") for it in SHOWN}
    found["worker_differs"] = "; ".join(run.worker.get("differs", []))
    found["problem"] = run.problem
    return found


def page(notebook: str, rows: Sequence[Row], *, varied: Sequence[str]) -> str:
    """Return the sweep as one HTML file that loads nothing."""
    # No picture may contain a control character.
    rows = [
        {k: printable(v) if isinstance(v, str) else v for k, v in it.items()}
        for it in rows
    ]
    finished = [it for it in rows if it["status"] == "finished"]
    css = f"\n{(TEMPLATES / 'sweep.css').read_text('utf-8')}"
    template: Template = Template(
        (TEMPLATES / "index.html.j2").read_text("utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    columns = finished[0] if finished else ()
    metrics = [it for it in columns if it.startswith("keras_test_")]
    return template.render(
        notebook=notebook,
        css=css,
        digest=f"sha256-{digest}",
        rows=rows,
        finished=finished,
        agreement=agreement(finished),
        figures=[*_figures(finished, metrics, varied)],
        best={it: _best_run(finished, it) for it in metrics},
        varied=varied,
        metrics=metrics,
        workers=_workers(rows),
        limit=LARGEST,
        label=_label,
        heading=_heading,
    )


def agreement(finished: Sequence[Row]) -> str:
    """Return in how many runs all dialects have the same bits, and the distance."""
    if not finished:
        return "no run has finished"
    equal = [it for it in finished if it["max_ulp"] == 0 and it["history_equal"]]
    most = max(it["max_ulp"] for it in finished)
    return f"{len(equal):,} of {len(finished):,} runs, {most:,} ulp"


def _heading(metric: str) -> str:
    return f"test {metric.split('_test_')[1].replace('_', ' ')}"


def _rank(metric: str, value: float) -> tuple[bool, float]:
    """Return what sorts the best first, and NaN, of a training that diverged, last."""
    return math.isnan(value), -value if "accuracy" in metric else value


def _best_run(finished: Sequence[Row], metric: str) -> Row:
    return min(finished, key=lambda it: _rank(metric, float(it[metric])))


def _label(row: Row, names: Sequence[str]) -> str:
    return ", ".join(f"{name} {row[name]}" for name in names) or "all runs"


def _grouped(
    rows: Sequence[Row], names: Sequence[str]
) -> list[tuple[tuple[Value, ...], list[Row]]]:
    """Return the rows by their values of these parameters, in the values' order."""
    found: dict[tuple[Value, ...], list[Row]] = defaultdict(list)
    for row in rows:
        found[tuple(row[name] for name in names)].append(row)
    return sorted(found.items())  # by the values, which differ


def _figures(
    rows: Sequence[Row], metrics: Sequence[str], varied: Sequence[str]
) -> Iterator[tuple[str, Picture]]:
    """Yield headings and pictures: the best settings, then each parameter."""
    settings = [name for name in varied if name != SEED]
    for metric in metrics if settings else ():
        yield f"Best settings by {_heading(metric)}", _best(rows, metric, settings)
    for name in settings or varied:
        others = [it for it in settings if it != name]
        for metric in metrics:
            title = f"{name.replace('_', ' ').capitalize()} and {_heading(metric)}"
            yield title, _against(rows, name, metric, others)


def _best(rows: Sequence[Row], metric: str, settings: Sequence[str]) -> Picture:
    """Draw the best settings: the mean over seeds, and the range."""
    found = []
    for _, own in _grouped(rows, settings):
        values = [float(it[metric]) for it in own]
        found.append((statistics.fmean(values), values, _label(own[0], settings)))
    found = sorted(found, key=lambda it: _rank(metric, it[0]))[:BEST]
    above: dict[str, Any] = {"xytext": (0, 7), "textcoords": "offset points"}
    above["xycoords"] = "axes fraction", "data"
    with style.context(LOOK):
        figure, (ax,) = canvas.panels(1, height=24 * len(found) + 20)
        for place, (mean, values, label) in enumerate(found):
            ax.plot([min(values), max(values)], [place] * 2, color=OTHERS[1], lw=3)
            ax.plot([mean], [place], "o", color=OTHERS[1], markersize=8)
            ax.annotate(label, (0, place), **above)
        ax.set_ylim(len(found) - 0.5, -0.8)
        ax.set_yticks([])
        ax.set_xlabel(f"{_heading(metric)}: mean and range over seeds")
        mean, values, label = found[0]
        alt = (
            f"The best settings by {_heading(metric)}. Best: {label}, with a mean of "
            f"{mean:.4g}, from {min(values):.4g} to {max(values):.4g}."
        )
        data = "; ".join(f"{label}: {mean:.6g}" for mean, _, label in found)
        return picture(figure, alt, data)


def _against(
    rows: Sequence[Row], name: str, metric: str, others: Sequence[str]
) -> Picture:
    """Draw a metric by a parameter: means over seeds, and their ranges."""
    by_value = _grouped(rows, [name])
    values = [value for (value,), _ in by_value]
    places = {value: place for place, value in enumerate(values)}
    if len(_grouped(rows, others)) > LINES:
        others = []
    curves = _grouped(rows, others)
    with style.context(LOOK):
        figure, (ax,) = canvas.panels(1, height=180)
        for order, (_, own) in enumerate(curves):
            points = _grouped(own, [name])
            measured = [[float(it[metric]) for it in each] for _, each in points]
            x = np.array([places[value] for (value,), _ in points], float)
            x += 0.06 * (order - (len(curves) - 1) / 2)  # ranges beside each other
            color = OTHERS[order % len(OTHERS)]
            ax.vlines(x, [*map(min, measured)], [*map(max, measured)], color, lw=2.2)
            means = [*map(statistics.fmean, measured)]
            label = _label(own[0], others)
            ax.plot(x, means, "o-", color=color, lw=2.2, markersize=6, label=label)
        _name_values(ax, name, values)
        if others:
            figure.legend(loc="outside upper left")
        means_by = {
            str(value): statistics.fmean(float(it[metric]) for it in own)
            for (value,), own in by_value
        }
        known = [it for it in means_by if not math.isnan(means_by[it])] or [*means_by]
        most, least = (f(known, key=means_by.__getitem__) for f in (max, min))
        alt = (
            f"{_heading(metric).capitalize()} by {name}, for {len(values)} values. The "
            f"mean is highest, {means_by[most]:.4g}, at {most}, and lowest, "
            f"{means_by[least]:.4g}, at {least}."
        )
        data = "; ".join(f"{value}: {mean:.6g}" for value, mean in means_by.items())
        return picture(figure, alt, data)


def _name_values(ax: Axes, name: str, values: Sequence[Value]) -> None:
    """Name the values on the horizontal axis, as many as there is room for."""
    room = max(1, int(WIDTH / 9 / max(len(str(it)) + 2 for it in values)))
    step = -(-len(values) // room)
    ax.set_xticks(range(0, len(values), step), [str(it) for it in values[::step]])
    ax.set_xlim(-0.5, len(values) - 0.5)
    ax.set_xlabel(name)


def _workers(rows: Sequence[Row]) -> list[tuple[dict[str, str], int]]:
    """Return where runs ran and with what, and how many of them."""
    columns = [*(f"worker_{it}" for it in SHOWN), *(f"version_{it}" for it in VERSIONS)]
    columns.append("worker_differs")
    found = Counter(
        tuple(str(it.get(name, "")) for name in columns)
        for it in rows
        if it["worker_host"]
    )
    return [
        (dict(zip(columns, values, strict=True)), count)
        for values, count in found.most_common()
    ]
