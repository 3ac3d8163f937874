"""Tables of what the notebooks measure."""

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from kvt.compare import modes
from kvt.compare.parity import Parity
from kvt.compare.results import DIALECTS
from kvt.training.progress import metric_order

Results = Mapping[str, Any]  # a notebook's results, as `results.read` returns them


@dataclass(frozen=True)
class Table:
    """A table of texts: Markdown in Jupyter and in the report, aligned elsewhere.

    The first `names` columns are aligned left, the others, numbers, right.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    names: int = 1

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, str]], names: int = 1) -> Self:
        """Return a table of rows that name their columns."""
        return cls([*rows[0]], [[*row.values()] for row in rows], names)

    def _repr_markdown_(self) -> str:
        numbers = len(self.header) - self.names
        ruler = ["---"] * self.names + ["---:"] * numbers
        lines = [self.header, ruler, *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def __repr__(self) -> str:
        lines = [self.header, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(
                text.ljust(width) if column < self.names else text.rjust(width)
                for column, (text, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        )


def title(run: Results) -> str:
    """Return `Linear regression` for `01_linear_regression`."""
    return str(run["notebook"].split("_", 1)[1].replace("_", " ").capitalize())


# One model


def agreement(parities: Mapping[str, Parity]) -> Table:
    """Compare each dialect with Keras: weights, history, largest distance."""
    rows = [
        {
            "dialect": DIALECTS[name],
            "same weights": "no" if any(parity.weights_max_ulp) else "yes",
            "same history": "yes" if parity.history_equal else "no",
            "distance from Keras, ulp": f"{max(parity.weights_max_ulp):,}",
        }
        for name, parity in parities.items()
    ]
    return Table.of(rows)


def side_by_side(dialects: Mapping[str, Results]) -> Table:
    """Show metrics, parameters and lines of code, one column per dialect.

    `dialects` is what a results JSON holds under that name. The metrics are those of
    the last epoch and of the test set, with three decimals, so that another processor
    prints the same.
    """

    def column(run: Results) -> dict[str, str]:
        history, test = run["history"], run["test"]
        last = {name: history[name][-1] for name in sorted(history, key=metric_order)}
        tested = {f"test {name}": test[name] for name in sorted(test, key=metric_order)}
        return {
            **{name: f"{value:.3f}" for name, value in (last | tested).items()},
            "parameters": f"{run['parameters']:,}",
            "lines of code": str(run["lines"]),
            "lines of code, whole program": str(run.get("program_lines", "–")),
        }

    return _by_dialect("", {name: column(run) for name, run in dialects.items()})


def seconds(dialects: Mapping[str, Results]) -> Table:
    """Show the seconds of the training and of its epochs, one column per dialect.

    The first epoch includes tracing the graph; the median represents the others.
    """
    columns = {
        name: {
            "whole training": f"{run['seconds']:.2f}",
            "first epoch": f"{run['epoch_seconds'][0]:.3f}",
            "median epoch": f"{statistics.median_high(run['epoch_seconds']):.3f}",
        }
        for name, run in dialects.items()
    }
    return _by_dialect("seconds", columns)


def _by_dialect(corner: str, columns: Mapping[str, Mapping[str, str]]) -> Table:
    """Return a table from dialect -> name of the row -> text."""
    names = next(iter(columns.values()))
    rows = [[name, *(column[name] for column in columns.values())] for name in names]
    return Table([corner, *(DIALECTS[dialect] for dialect in columns)], rows)


def speed(measured: modes.Speed) -> Table:
    """Show how fast each mode is, one row per dialect and mode.

    The first epoch includes tracing and compiling; the fastest represents the others.
    """
    times = modes.microseconds(measured)
    reference = times["keras"]["graph"]
    rows = [
        {
            "dialect": DIALECTS[name],
            "mode": mode,
            "first epoch, s": f"{measured[name][mode]['epoch_seconds'][0]:.2f}",
            "then, µs per example": digits(times[name][mode]),
            "speed relative to Keras, graph": _factor(reference / times[name][mode]),
        }
        for name, mode in itertools.product(DIALECTS, modes.MODES)
        if mode in times.get(name, {})
    ]
    return Table.of(rows, names=2)


# All models


def examples(runs: Sequence[Results]) -> Table:
    """Show how many examples each model was trained, validated and tested on."""
    rows = []
    for run in runs:
        counts = {n: f"{run['data'][n]:,}" for n in ("train", "validation", "test")}
        rows.append({"model": title(run), "data": run["data"]["name"], **counts})
    return Table.of(rows, names=2)


def at_a_glance(runs: Sequence[Results]) -> Table:
    """Show distance, test accuracy, lines and seconds, one row per model and dialect.

    Each model links to its notebook, each distance to its evidence.
    """
    rows = []
    for run in runs:
        notebook = f"{run['notebook']}.ipynb"
        for place, (name, one) in enumerate(run["dialects"].items()):
            test, distance = one["test"], "reference"
            metric = "" if "accuracy" in test else "loss "
            if parity := run["parity"].get(name):
                differs = "" if parity["history_equal"] else ", history differs"
                distance = f"{max(parity['weights_max_ulp']):,}{differs}"
            row = {
                "model": "" if place else f"[{title(run)}]({notebook})",
                "dialect": DIALECTS[name],
                "distance from Keras, ulp": f"[{distance}]({notebook}#Do-they-agree?)",
                "test accuracy": f"{metric}{test.get('accuracy', test['loss']):.3f}",
                "lines of code": str(one["lines"]),
                "whole program": str(one.get("program_lines", "–")),
                "seconds": f"{one['seconds']:.2f}",
            }
            rows.append(row)
    return Table.of(rows, names=2)


def lines(runs: Sequence[Results]) -> Table:
    """Show the lines of code and how many times Keras's they are, one row per model."""
    rows = []
    for run in runs:
        keras, tf2, tf1 = (run["dialects"][name] for name in ("keras", "tf2", "tf1"))
        counts = {
            "TensorFlow 2 with kvt.fit": tf2["lines"],
            "TensorFlow 1 with kvt.fit": tf1["lines"],
            "TensorFlow 2, whole program": tf2["program_lines"],
        }
        row = {"lines of code": title(run), "Keras": str(keras["lines"])}
        for name, n in counts.items():
            row[name] = f"{n} (×{n / keras['lines']:.1f})"
        rows.append(row)
    return Table.of(rows)


def speeds(runs: Sequence[Results]) -> Table:
    """Show microseconds per example, one column per model; the least is bold."""
    columns = []
    for run in runs:
        times = {
            (DIALECTS[name], mode): time
            for name, of in modes.microseconds(run["speed"]).items()
            for mode, time in of.items()
        }
        texts = {place: digits(time) for place, time in times.items()}
        least = min(times, key=lambda place: times[place])
        columns.append(texts | {least: f"**{texts[least]}**"})
    rows = [
        [*place, *(column.get(place, "–") for column in columns)]
        for place in itertools.product(DIALECTS.values(), modes.MODES)
        if any(place in column for column in columns)
    ]
    return Table(["µs per example", "mode", *map(title, runs)], rows, names=2)


def advice(runs: Sequence[Results]) -> Table:
    """Show which mode to use, one row per model in Keras and in TensorFlow 2.

    A mode repays its longer start after so many epochs of the run.
    """
    rows = []
    for run in runs:
        times = modes.microseconds(run["speed"])
        for name in [n for n in ("keras", "tf2") if "graph" in times.get(n, {})]:
            mode = modes.advised(times[name])
            row = {"model": title(run), "dialect": DIALECTS[name], "use": mode}
            row["µs per example"] = digits(times[name][mode])
            gain = times[name]["graph"] / times[name][mode]
            row["speed relative to graph"] = _factor(gain)
            per_epoch, start = modes.saved(run, name, mode)
            epochs = math.ceil(start / per_epoch) if per_epoch else 0
            row["epochs until its start is repaid"] = f"{epochs:,}"
            rows.append(row)
    return Table.of(rows, names=3)


def _factor(ratio: float) -> str:
    """Return ×1.19, which 1.2 would hide, or ×168."""
    return f"×{ratio:.2f}" if ratio < 10 else f"×{ratio:,.0f}"


def digits(value: float) -> str:
    """Return at least two significant digits: 1,234, 24, 5.1, 0.25."""
    return f"{value:{',.0f' if value >= 10 else '.1f' if value >= 1 else '.2g'}}"
