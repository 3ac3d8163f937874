"""Tables: what the notebooks show beside the figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kvt.parity import Parity

DIALECTS = {"keras": "Keras", "tf2": "TensorFlow 2", "tf1": "TensorFlow 1"}


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


def figures(logs: Mapping[str, float]) -> str:
    """Return `loss 0.412  accuracy 0.887  val_loss …`, in that order.

    Three decimals: the further ones may differ between processors.
    """
    names = sorted(logs, key=_figure_order)
    return "  ".join(f"{name} {logs[name]:.3f}" for name in names)


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
            [_title(run), run["data"]["name"], *(f"{run['data'][n]:,}" for n in counts)]
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
        model = f"[{_title(run)}]({notebook})"
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
        rows.append([_title(run), str(counts["keras"]), *ratios[1:]])
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
        for name in sorted(first["history"], key=_figure_order)
    ]
    rows += [
        [f"test {name}", *(f"{run['test'][name]:.3f}" for run in runs)]
        for name in sorted(first["test"], key=_figure_order)
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


def _title(run: Mapping[str, Any]) -> str:
    """Return `Linear regression` for `01_linear_regression`."""
    title: str = run["notebook"].split("_", 1)[1].replace("_", " ").capitalize()
    return title


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


def _figure_order(name: str) -> tuple[bool, bool]:
    """Put training before validation, and the loss first."""
    return name.startswith("val_"), not name.endswith("loss")


def _median(values: Sequence[float]) -> float:
    """Return the upper median."""
    return sorted(values)[len(values) // 2]
