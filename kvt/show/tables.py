"""Tables: what the notebooks show beside the figures."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kvt.compare.parity import Parity
from kvt.compare.results import DIALECTS
from kvt.training.progress import metric_order

MODES = ("eager", "graph", "epoch", "XLA")  # from the simplest to write on
GAIN = 1.2  # times as fast as a simpler mode: less is not worth another


@dataclass(frozen=True)
class Table:
    """A table of texts: Markdown in Jupyter and in the report, aligned elsewhere.

    The first `names` columns are names, aligned to the left; the others are figures.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    names: int = 1

    def _repr_markdown_(self) -> str:
        figures = len(self.header) - self.names
        ruler = ["---"] * self.names + ["---:"] * figures
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


@dataclass(frozen=True)
class Prose:
    """Text made from numbers: Markdown in Jupyter and in the report."""

    text: str

    def _repr_markdown_(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return self.text


def agreement(parities: Mapping[str, Parity]) -> Table:
    """Return the verdicts, a row a dialect: same bits, same history, worst distance."""
    return Table(
        ["against Keras", "same weights", "same history", "worst distance"],
        [
            [
                DIALECTS[name],
                _yes(not any(parity.weights_max_ulp)),
                _yes(parity.history_equal),
                f"{max(parity.weights_max_ulp):,} ulp",
            ]
            for name, parity in parities.items()
        ],
    )


def examples(runs: Sequence[Mapping[str, Any]]) -> Table:
    """Return how many examples each model was trained, validated and tested on."""
    counts = ("train", "validation", "test")
    return Table(
        ["model", "data", *counts],
        [
            [title(run), run["data"]["name"], *(f"{run['data'][n]:,}" for n in counts)]
            for run in runs
        ],
        names=2,
    )


def at_a_glance(runs: Sequence[Mapping[str, Any]]) -> Table:
    """Return agreement, test figure, lines and seconds, a row a model and dialect.

    A model is named once, linked to its notebook, and each verdict to its evidence.
    """
    rows = []
    for run in runs:
        notebook = f"{run['notebook']}.ipynb"
        model = f"[{title(run)}]({notebook})"
        for name, one in run["dialects"].items():
            verdict = _apart(run["parity"].get(name))
            rows.append(
                [
                    model,
                    DIALECTS[name],
                    f"[{verdict}]({notebook}#Do-they-agree?)",
                    _test_figure(one["test"]),
                    str(one["lines"]),
                    f"{one['seconds']:.2f}",
                ]
            )
            model = ""
    columns = ["model", "dialect", "apart from Keras", "test accuracy"]
    return Table([*columns, "lines", "seconds"], rows, names=2)


def lines(runs: Sequence[Mapping[str, Any]]) -> Table:
    """Return the lines of code, a row a model, and how many times Keras's they are."""
    rows = []
    for run in runs:
        counts = {name: one["lines"] for name, one in run["dialects"].items()}
        ratios = [f"{n} (×{n / counts['keras']:.1f})" for n in counts.values()]
        rows.append([title(run), str(counts["keras"]), *ratios[1:]])
    return Table(["lines of code", *DIALECTS.values()], rows)


def side_by_side(dialects: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return last-epoch and test figures, parameters and lines, a column a dialect.

    `dialects` is what a results JSON holds under that name. Figures are rounded to
    three decimals, so that another processor prints the same.
    """
    runs = dialects.values()
    first = next(iter(runs))
    rows = [
        [name, *(f"{run['history'][name][-1]:.3f}" for run in runs)]
        for name in sorted(first["history"], key=metric_order)
    ]
    rows += [
        [f"test {name}", *(f"{run['test'][name]:.3f}" for run in runs)]
        for name in sorted(first["test"], key=metric_order)
    ]
    rows += [
        [name, *(f"{run[name]:,}" for run in runs)] for name in ("parameters", "lines")
    ]
    return Table(["", *(DIALECTS[name] for name in dialects)], rows)


def seconds(dialects: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return the seconds of the training and of its epochs, a column a dialect.

    The first epoch includes tracing the graph; the median stands for the others.
    """
    runs = dialects.values()
    return Table(
        ["seconds", *(DIALECTS[name] for name in dialects)],
        [
            ["whole training", *(f"{run['seconds']:.2f}" for run in runs)],
            ["first epoch", *(f"{run['epoch_seconds'][0]:.3f}" for run in runs)],
            ["median epoch", *(f"{_median(run['epoch_seconds']):.3f}" for run in runs)],
        ],
    )


def modes(speed: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return what each mode takes, a row a dialect and mode.

    `speed` is what a results JSON holds under that name. The first epoch includes
    tracing and compiling; the quickest stands for the others.
    """
    times = microseconds(speed)
    default = times["keras"]["graph"]
    return Table(
        ["dialect", "mode", "first epoch, s", "then, µs an example", "as fast"],
        [
            [
                DIALECTS[name],
                mode,
                f"{speed[name][mode]['epoch_seconds'][0]:.2f}",
                _digits(times[name][mode]),
                _times(default / times[name][mode]),
            ]
            for name in DIALECTS
            for mode in MODES
            if mode in times.get(name, {})
        ],
        names=2,
    )


def speeds(runs: Sequence[Mapping[str, Any]]) -> Table:
    """Return microseconds an example, a column a model; the least is bold."""
    columns = [microseconds(run["speed"]) for run in runs]
    least = [min(min(of.values()) for of in times.values()) for times in columns]
    rows = []
    for name, dialect in DIALECTS.items():
        for mode in MODES:
            found = [times.get(name, {}).get(mode) for times in columns]
            if any(found):
                rows.append([dialect, mode, *map(_bold_least, found, least)])
    titles = [title(run) for run in runs]
    return Table(["µs an example", "mode", *titles], rows, names=2)


def advice(runs: Sequence[Mapping[str, Any]]) -> Prose:
    """Say which mode to write in Keras and in TensorFlow 2, a point a model.

    It is graph, unless epoch or XLA is `GAIN` times as fast. What that would have saved
    in the runs themselves stands in the end.
    """
    points, savings = [], {"": 0.0}
    for run in runs:
        times = microseconds(run["speed"])
        chosen = {
            name: _advised(times[name])
            for name in ("keras", "tf2")
            if "graph" in times.get(name, {})
        }
        said = [_choice(run, name, mode) for name, mode in chosen.items()]
        if len(chosen) > 1:
            said.append(_against(*(times[name][mode] for name, mode in chosen.items())))
        points.append(f"- **{title(run)}.** {' '.join(said)}")
        for name, mode in chosen.items():
            saved, start = _saved(run, name, mode)
            epochs = len(run["dialects"][name]["epoch_seconds"])
            savings[f"{title(run)} in {DIALECTS[name]}"] = saved * epochs - start
    most = max(savings, key=lambda place: savings[place])
    told = f"at most {_digits(savings[most])} s ({most})" if most else "no time"
    return Prose(
        "\n".join(points) + "\n\nThe sections keep graph, a step a call, in every "
        "dialect, as Keras does by default: over their own epochs, starts included, "
        f"the modes above would have saved {told}."
    )


def microseconds(speed: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return microseconds an example by dialect and mode, the first epoch left out."""
    return {
        name: {mode: 1e6 * _quickest(one) / one["examples"] for mode, one in of.items()}
        for name, of in speed.items()
    }


def title(run: Mapping[str, Any]) -> str:
    """Return `Linear regression` for `01_linear_regression`."""
    words: str = run["notebook"].split("_", 1)[1].replace("_", " ").capitalize()
    return words


def _advised(times: Mapping[str, float]) -> str:
    """Return a dialect's mode: a later one only where it gains enough."""
    chosen = "graph"
    for mode in MODES:
        if mode in times and mode != "eager" and times[chosen] / times[mode] >= GAIN:
            chosen = mode
    return chosen


def _choice(run: Mapping[str, Any], name: str, mode: str) -> str:
    """Say how much the mode gains in a dialect, and when it makes up for its start."""
    where = f"In {DIALECTS[name]}"
    if mode == "graph":
        return f"{where} keep graph: epoch and XLA gain less than {GAIN} times."
    times = microseconds(run["speed"])[name]
    saved, more = _saved(run, name, mode)
    epochs = math.ceil(more / saved)
    start = f"; {epochs:,} epochs make up for its start" if epochs > 1 else ""
    gain = _digits(times["graph"] / times[mode])
    return f"{where} take {mode}: {gain} times as fast as graph{start}."


def _saved(run: Mapping[str, Any], name: str, mode: str) -> tuple[float, float]:
    """Return the seconds that a mode saves an epoch, and what its start takes more."""
    times = microseconds(run["speed"])[name]
    first, graph = (
        one["epoch_seconds"][0] - _quickest(one)
        for one in (run["speed"][name][mode], run["speed"][name]["graph"])
    )
    saved = (times["graph"] - times[mode]) * run["data"]["train"] / 1e6
    return saved, max(0.0, first - graph)


def _quickest(mode: Mapping[str, Any]) -> float:
    """Return the seconds of a mode's quickest epoch after the first.

    There are few, and what else the machine does can only make one longer.
    """
    return float(min(mode["epoch_seconds"][1:]))


def _against(keras: float, tf2: float) -> str:
    """Set the two dialects' advised modes against each other."""
    if max(keras, tf2) / min(keras, tf2) < GAIN:
        return f"The two are then less than {GAIN} times apart."
    fast, slow = ("TensorFlow 2", "Keras") if tf2 < keras else ("Keras", "TensorFlow 2")
    gain = _digits(max(keras, tf2) / min(keras, tf2))
    return f"{fast} is then {gain} times as fast as {slow}."


def _bold_least(time: float | None, least: float) -> str:
    """Return the time, marked if it is the least; a dash where there is none."""
    if time is None:
        return "–"
    return f"**{_digits(time)}**" if time == least else _digits(time)


def _times(ratio: float) -> str:
    """Return ×1.19, which 1.2 would hide, or ×168."""
    return f"×{ratio:.2f}" if ratio < 10 else f"×{ratio:,.0f}"


def _digits(value: float) -> str:
    """Return two digits or more that count: 1,234, 24, 5.1, 0.25."""
    return f"{value:{',.0f' if value >= 10 else '.1f' if value >= 1 else '.2g'}}"


def _apart(parity: Mapping[str, Any] | None) -> str:
    """Return the worst distance, and a word if the histories differ."""
    if parity is None:
        return "reference"
    differs = "" if parity["history_equal"] else ", history differs"
    return f"{max(parity['weights_max_ulp']):,} ulp{differs}"


def _test_figure(test: Mapping[str, float]) -> str:
    """Return the accuracy, or the loss of a model without one."""
    return (
        f"{test['accuracy']:.3f}" if "accuracy" in test else f"loss {test['loss']:.3f}"
    )


def _yes(verdict: bool) -> str:
    """Return yes or no."""
    return "yes" if verdict else "no"


def _median(values: Sequence[float]) -> float:
    """Return the upper median."""
    return sorted(values)[len(values) // 2]
