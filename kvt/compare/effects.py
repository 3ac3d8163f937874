"""What one change does: measured against a pair whose two sides have equal bits."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kvt.compare.pairs import EqualPair, FittedKeras, differences
from kvt.compare.parity import ParityError
from kvt.compare.recipe import Trained, Training

ROUNDING = 1e-5  # a change that stays below this everywhere is rounding

STAGES = (
    "before the first step",
    "in the first batch's loss",
    "in the first update",
    "in later weights",
    "in the metrics only",
    "as rounding only",
)


class NoEffectError(AssertionError):
    """A cause that changed nothing, so its section would be wrong."""


@dataclass(frozen=True)
class Effect:
    """How far a training is from its equal twin, for one seed; infinite for NaN."""

    start: float  # largest difference of any weight before training
    first_loss: float  # of the first batch's loss, before any update
    step: float  # of any weight after one step
    end: float  # of any weight at the end
    loss: float  # of the last epoch's loss or val_loss, the larger difference
    accuracy: float | None  # likewise, in points; None for a model without accuracy
    predictions: int | None  # how many test examples get another class; None likewise


@dataclass(frozen=True)
class Cause:
    """One part of a pair's training exchanged, and what that changed for each seed."""

    name: str
    symptom: str  # what is seen first, in a few words
    equal: EqualPair
    part: str  # the field of `Recipe`
    function: Callable[..., Any]  # the new part
    training: Training  # with the new part
    effects: list[Effect]
    of_the_machine: bool  # whether the processor decides if it shows


def measure(
    name: str,
    equal: EqualPair,
    *,
    symptom: str,
    needs: str = "",
    of_the_machine: bool = False,
    **change: Any,
) -> Cause:
    """Replace one part (such as `forward=plus`), and train from each of the seeds.

    Raises NoEffectError if no seed shows a difference in any bit; `needs` says what the
    cause needs to show. A cause that is `of_the_machine` may show nothing on another.
    """
    if len(change) != 1:
        raise TypeError(
            f"{name!r} changes {[*change]}; it must change exactly one part"
        )
    ((part, function),) = change.items()
    training = equal.training.changed(**change)
    changed = training.run()
    twins = [(equal.trained[seed], one) for seed, one in changed.items()]
    if not (of_the_machine or any(differences(*twin) for twin in twins)):
        raise NoEffectError(
            f"{name!r} changed no bit of {equal.name!r} with {equal.training.settings} "
            f"and the seeds {sorted(changed)}; every cause must have an effect; "
            f"{needs or f'compare {function.__name__} with the part that it replaces'}"
        )
    effects = [effect(*twin) for twin in twins]
    return Cause(
        name, symptom, equal, part, function, training, effects, of_the_machine
    )


def trail(equal: EqualPair, training: Training) -> dict[str, Any]:
    """Train a pair's changed training; return its distance from Keras by epoch.

    It takes the pair's epochs and its first seed. `identical` and `distance`, the
    number of equal weights and the largest difference of any weight, begin before the
    first epoch; the metrics of both sides are those of the validation examples.
    Whatever is not finite is None, as JSON has it.
    """
    seed, before = next(iter(equal.trained.items()))
    after = training.lasting(len(before.epochs)).run(seed)[seed]
    weights = [
        [np.concatenate([w.ravel() for w in each]) for each in (one.start, *one.epochs)]
        for one in (before, after)
    ]
    pairs = list(zip(*weights, strict=True))
    held_back = "val_" if "val_loss" in before.history else ""
    return {
        "pair": equal.name,
        "weights": weights[0][0].size,
        "identical": [int((a == b).sum()) for a, b in pairs],
        "distance": [_finite(_distance(a, b)) for a, b in pairs],
    } | {
        f"{side}_{name}": list(map(_finite, one.history[f"{held_back}{name}"]))
        for side, one in (("keras", before), ("changed", after))
        for name in ("loss", "accuracy")
    }


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def verify_no_effect(
    name: str, equal: EqualPair, *, keras: Any = None, **change: Any
) -> None:
    """Train with a switch on: other parts, or `keras`, arguments of its `compile`.

    Only the pair's first seed is used. Raises ParityError if any bit changes.
    """
    of = equal.training
    seed, before = next(iter(equal.trained.items()))
    if change:
        after = of.changed(**change).run(seed)[seed]
    else:
        in_keras = FittedKeras(equal.pair, of.examples, of.settings, **keras)
        after = in_keras.run([seed], of.settings.epochs)[seed]
        # Keras may call back only after several steps.
        after = replace(after, first=before.first, first_loss=before.first_loss)
    if found := differences(before, after):
        raise ParityError(
            f"{name!r}, seed {seed}, changed {', '.join(found)}; it must change "
            "nothing; list it as a cause instead, and explain the difference"
        )


def effect(before: Trained, after: Trained) -> Effect:
    """Measure how far `after` is from `before`."""
    accuracy = _last_metric(before, after, "accuracy")
    classes = before.predictions.argmax(axis=1), after.predictions.argmax(axis=1)
    return Effect(
        _distance(before.start, after.start),
        _distance(before.first_loss, after.first_loss),
        _distance(before.first, after.first),
        _distance(before.epochs[-1], after.epochs[-1]),
        _last_metric(before, after, "loss") or 0.0,
        None if accuracy is None else 100 * accuracy,
        None if accuracy is None else int((classes[0] != classes[1]).sum()),
    )


def stage(effects: Iterable[Effect]) -> str:
    """Return where a change shows first: one of STAGES."""
    effects = list(effects)
    fields = ("start", "first_loss", "step", "end")
    sizes = [max(getattr(one, name) for one in effects) for name in fields]
    metrics = max(max(one.loss, one.accuracy or 0) for one in effects)
    if max(sizes[-1], metrics) < ROUNDING:
        return STAGES[5]
    first = (i for i, size in enumerate(sizes) if size >= ROUNDING)
    return STAGES[next(first, 4)]


def seeds_differ(equal: EqualPair) -> dict[str, float]:
    """Return how far the last loss, and accuracy in points, differ between seeds.

    Each is the larger spread of training and validation; a model without accuracy has
    none.
    """
    histories = [one.history for one in equal.trained.values()]
    found: dict[str, float] = {}
    for name, unit in (("loss", 1), ("accuracy", 100)):
        for key in histories[0].keys() & {name, f"val_{name}"}:
            spread = unit * float(np.ptp([history[key][-1] for history in histories]))
            found[name] = max(found.get(name, 0.0), spread)
    return found


def _last_metric(one: Trained, other: Trained, name: str) -> float | None:
    """Return the larger difference of a metric and its validation twin, last epoch."""
    found = [
        _distance(one.history[key][-1], other.history[key][-1])
        for key in one.history.keys() & {name, f"val_{name}"}
    ]
    return max(found, default=None)


@np.errstate(invalid="ignore", over="ignore")
def _distance(one: Any, other: Any) -> float:
    """Return the largest absolute difference; infinite if either is not finite."""
    if isinstance(one, list):
        return max(map(_distance, one, other))
    a, b = np.asarray(one, "float64"), np.asarray(other, "float64")
    largest = np.abs(a - b).max()
    return float(largest) if np.isfinite(largest) else np.inf
