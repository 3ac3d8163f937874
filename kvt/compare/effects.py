"""What one cause does: measured against a pair that is equal to the last bit."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from kvt.compare.pairs import Baseline, differing, keras_runs
from kvt.compare.recipe import Run, Weights, runs
from kvt.differences.causes import Cause
from kvt.differences.innocent import Suspect

ROUNDING = 1e-5  # what is smaller on every count is rounding, carried along

STAGES = (
    "before the first step",
    "in the first batch's loss",
    "in the first update",
    "in later weights",
    "in the figures alone",
    "by rounding only",
)


class NoEffectError(AssertionError):
    """A cause that changed nothing, so that what is said of it is not shown."""


class EffectError(AssertionError):
    """An innocent switch that changed something after all."""


@dataclass(frozen=True)
class Effect:
    """How far one run is from its equal twin, for one seed; infinite for NaN.

    Attributes:
        start: largest difference of any weight before training.
        first_loss: difference of the first batch's loss, before any update.
        step: largest difference of any weight after one step.
        end: largest difference of any weight at the end.
        loss: of the last epoch's reported losses, training's or validation's,
            the larger difference.
        accuracy: likewise, in points; None for a model without.
        otherwise: how many test examples are classified otherwise; None likewise.
    """

    start: float
    first_loss: float
    step: float
    end: float
    loss: float
    accuracy: float | None
    otherwise: int | None


def effect(baseline: Run, run: Run) -> Effect:
    """Measure how far `run` is from `baseline`."""
    classes = [one.predictions.argmax(axis=1) for one in (baseline, run)]
    accuracy = _figure(baseline, run, "accuracy")
    return Effect(
        _weights(baseline.start, run.start),
        _apart(baseline.first_loss, run.first_loss),
        _weights(baseline.first, run.first),
        _weights(baseline.epochs[-1], run.epochs[-1]),
        _figure(baseline, run, "loss") or 0.0,
        None if accuracy is None else 100 * accuracy,
        None if accuracy is None else int((classes[0] != classes[1]).sum()),
    )


def measure(cause: Cause, baseline: Baseline) -> list[Effect]:
    """Train with the cause from each of the baseline's seeds; return the effects.

    Raises NoEffectError, which names the cause, where no seed shows a difference in any
    bit; but not for a cause that is the machine's, on a machine that does not show it.
    """
    recipe = replace(baseline.base.recipe, **{cause.part: cause.variant})
    changed = runs(recipe, baseline.examples, baseline.settings, baseline.starts)
    pairs = [(baseline.runs[seed], run) for seed, run in changed.items()]
    if not (cause.of_the_machine or any(differing(*pair) for pair in pairs)):
        raise NoEffectError(
            f"{cause.name!r} changed no bit of {baseline.base.name!r} with "
            f"{baseline.settings} and the seeds {sorted(changed)}; each cause must "
            f"show; {cause.needs}"
        )
    return [effect(*pair) for pair in pairs]


def acquit(suspect: Suspect, baseline: Baseline) -> None:
    """Train with an innocent switch; every bit must stay.

    Raises EffectError, which names the switch and what it changed.
    """
    settings, examples = baseline.settings, baseline.examples
    if suspect.part:
        recipe = replace(baseline.base.recipe, **{suspect.part: suspect.variant})
        changed = runs(recipe, examples, settings, baseline.starts)
    else:
        seeds = baseline.starts
        changed = keras_runs(
            baseline.base, examples, settings, seeds, **suspect.options
        )
    for seed, run in changed.items():
        before = baseline.runs[seed]
        if not suspect.part:  # Keras may call back after several steps only
            run = replace(run, first=before.first, first_loss=before.first_loss)
        found = differing(before, run)
        if found:
            raise EffectError(
                f"{suspect.name!r}, seed {seed}, changed {', '.join(found)}; it must "
                "change nothing; move it to the causes, and say why it differs"
            )


def stage(effects: Iterable[Effect]) -> str:
    """Say where a cause shows first: one of STAGES."""
    effects = list(effects)
    start, loss, step, end = (
        max(getattr(one, name) for one in effects)
        for name in ("start", "first_loss", "step", "end")
    )
    figures = max(max(one.loss, one.accuracy or 0) for one in effects)
    if max(end, figures) < ROUNDING:
        return STAGES[5]
    for name, size in zip(STAGES, (start, loss, step, end), strict=False):
        if size >= ROUNDING:
            return name
    return STAGES[4]


def _weights(one: Weights, other: Weights) -> float:
    return max(_apart(a, b) for a, b in zip(one, other, strict=True))


def _figure(one: Run, other: Run, name: str) -> float | None:
    """The larger difference of a figure and its validation twin, last epoch."""
    names = [key for key in one.history if key in (name, f"val_{name}")]
    last = [(one.history[key][-1], other.history[key][-1]) for key in names]
    return max((_apart(a, b) for a, b in last), default=None)


@np.errstate(invalid="ignore", over="ignore")
def _apart(one: object, other: object) -> float:
    """The largest absolute difference; infinite where either is not finite."""
    a, b = np.asarray(one, "float64"), np.asarray(other, "float64")
    apart = np.abs(a - b).max()
    return float(apart) if np.isfinite(apart) else np.inf
