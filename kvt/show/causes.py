"""What the notebook shows of the causes: a figure, tables, and a text for each."""

import ast
import inspect
import math
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kvt.compare import pairs as bases
from kvt.compare import recipe
from kvt.compare.effects import ROUNDING, STAGES, Effect, stage
from kvt.compare.pairs import Baseline
from kvt.differences.causes import Cause
from kvt.differences.innocent import Suspect
from kvt.show.picture import Picture
from kvt.show.ranking import causes as draw_causes
from kvt.show.sources import Markdown, beside, code
from kvt.show.tables import Table

NOTEBOOK = "06_why_results_differ.ipynb"
BELOW = f"< 1e{math.log10(ROUNDING):.0f}"
Measured = Mapping[str, Sequence[Effect]]  # a cause's name -> an effect a seed


def plainly(function: Callable[..., Any]) -> str:
    """Return a function's source without its types, as notebooks write functions.

    Raises OSError where Python has no file to read the source from.
    """
    source = textwrap.dedent(inspect.getsource(function))
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.FunctionDef)
    body = source.splitlines()[definition.body[0].lineno - 1 :]
    names = ", ".join(inspect.signature(function).parameters)
    return "\n".join([f"def {definition.name}({names}):", *body])


def baselines(found: Mapping[str, Baseline]) -> Table:
    """Return the pairs that were proven equal, and what they learned meanwhile."""
    rows = []
    for name, one in found.items():
        tests = [run.test for run in one.runs.values()]
        figure = "accuracy" if "accuracy" in tests[0] else "loss"
        reached = sorted(test[figure] for test in tests)
        spread = f"{figure} {reached[0]:.2f} to {reached[-1]:.2f}"
        rows.append([name, spread, str(len(one.runs)), "0"])
    return Table(["pair", "on the test set", "seeds", "bits apart"], rows, names=2)


def ranking(measured: Measured) -> Picture:
    """Draw all causes, ranked by what they do."""
    drawn = {"weights": "end", "loss": "loss", "accuracy": "accuracy"}
    return draw_causes(
        {
            name: {
                key: values
                for key, attribute in drawn.items()
                if None not in (values := _values(effects, attribute))
            }
            for name, effects in measured.items()
        }
    )


def symptoms(causes: Sequence[Cause], measured: Measured) -> Table:
    """Return a row a cause, by where it shows first: symptom, cause, median size."""
    rows = []
    for place in STAGES:
        here = [cause for cause in causes if stage(measured[cause.name]) == place]
        for first, cause in enumerate(here):
            words = cause.name.replace(" ", "-")
            sizes = [
                _size(cause, measured[cause.name], name)[0]
                for name in ("loss", "accuracy")
            ]
            link = f"[{cause.name}]({NOTEBOOK}#{words})"
            rows.append(["" if first else place, cause.symptom, link, *sizes])
    header = ["shows first", "what you see", "look at", "loss", "accuracy, points"]
    return Table(header, rows, names=3)


def helpers() -> Markdown:
    """Return what the causes' functions share: their constants and helpers."""
    constants = [f"{k} = {getattr(bases, k)}" for k in ("RATE", "STRENGTH", "NORM")]
    functions: list[Callable[..., Any]]
    functions = [recipe.cut, bases.late_starts, bases.moments]
    return code("\n".join(constants), *[plainly(one) for one in functions])


def describe(cause: Cause, baseline: Baseline, effects: Sequence[Effect]) -> Markdown:
    """Return a cause's heading, both variants, its measured effect, and its prose."""
    variants = {
        "equal to Keras": plainly(getattr(baseline.base.recipe, cause.part)),
        cause.name: plainly(cause.variant),
    }
    threads = ", ".join(f"[{_thread(url)}]({url})" for url in cause.threads)
    parts = [
        f"### {cause.name}",
        beside(variants).text,
        _effect_table(cause, baseline, effects)._repr_markdown_(),
        f"**Why.** {cause.why}",
        f"**How to tell.** {cause.tell}",
        f"**The mend.** {cause.fix}",
        f"People met it in {threads}.",
    ]
    return Markdown("\n\n".join(parts))


def innocents(suspects: Sequence[Suspect]) -> Table:
    """Return the switches that were tried and changed nothing."""
    rows = [[one.name, one.note, "0"] for one in suspects]
    return Table(["suspected", "why not", "bits apart"], rows, names=2)


def _effect_table(cause: Cause, baseline: Baseline, effects: Sequence[Effect]) -> Table:
    """A row for the median and one for the range; a column for each figure."""
    columns = {
        "weights, one step": "step",
        "weights, end": "end",
        "loss": "loss",
        "accuracy, points": "accuracy",
        f"classified otherwise, of {len(baseline.examples.x_test):,}": "otherwise",
    }
    sizes = {
        title: _size(cause, effects, name)
        for title, name in columns.items()
        if None not in _values(effects, name)
    }
    return Table(
        [baseline.base.name, *sizes],
        [
            [f"median of {len(effects)}", *(median for median, _ in sizes.values())],
            ["range", *(spread for _, spread in sizes.values())],
        ],
    )


def _values(effects: Sequence[Effect], name: str) -> list[Any]:
    return [getattr(one, name) for one in effects]


def _size(cause: Cause, effects: Sequence[Effect], name: str) -> tuple[str, str]:
    """Median and range of a figure, as texts that are the same on every processor."""
    values = sorted(v for v in _values(effects, name) if v is not None)
    if not values:
        return "", ""
    zero = "0" if _surely_zero(cause, effects, name) else BELOW
    three = (values[0], values[len(values) // 2], values[-1])
    least, median, most = (_text(value, name, zero) for value in three)
    return median, least if least == most else f"{least} to {most}"


def _surely_zero(cause: Cause, effects: Sequence[Effect], name: str) -> bool:
    """Whether a zero is one on every processor: where all rounds, it may not be."""
    if stage(effects) != STAGES[-1]:
        return True
    return name in ("step", "end") and not (
        cause.of_the_machine or any(_values(effects, name))
    )


def _text(value: float, name: str, zero: str) -> str:
    """Two digits: the third may be another one on another processor."""
    if math.isinf(value):
        return "NaN"
    if name == "accuracy":
        return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"
    if name != "otherwise" and value < ROUNDING:
        return BELOW if value else zero
    return f"{float(f'{value:.2g}'):,g}"


def _thread(url: str) -> str:
    """Return `keras#3654` for a thread's address."""
    found = re.fullmatch(
        r"https://github\.com/[^/]+/([^/]+)/(?:issues|pull)/(\d+)", url
    )
    assert found, url
    return f"{found[1]}#{found[2]}"
