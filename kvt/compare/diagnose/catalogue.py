"""The causes that `diagnose` knows, and what each one changes on Keras's side.

A new cause is one entry: an id, the heading of its cells in chapter 09, the rungs where
it can show first, and a switch: a function that returns Keras's parts with the cause
on, in each variant to try, or nothing where it cannot be what is seen.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kvt.compare.diagnose import order
from kvt.compare.diagnose import switches as to
from kvt.compare.diagnose.keras_side import KerasParts, KerasSide
from kvt.compare.diagnose.record import Place, Record, Setup, Weights
from kvt.data import Array
from kvt.data.quietly import quiet

with quiet():
    import keras
    import tensorflow as tf

SMALL = 1e-4  # of a step's update: smaller differences are rounding


@dataclass(frozen=True)
class Evidence:
    """What both sides did up to the place where they part."""

    setup: Setup
    side: KerasSide
    mine: Record  # Keras's
    theirs: Record  # the port's
    place: Place

    @property
    def model(self) -> Any:
        """The user's model."""
        return self.side.compiled

    @property
    def optimizer(self) -> dict[str, Any]:
        """The configuration of the user's optimizer."""
        return dict(self.model.optimizer.get_config())

    @property
    def rounding(self) -> bool:
        """Whether the step where they part left almost the same weights."""
        return residual(self.mine, self.theirs, self.place.step) < SMALL

    def has_loss(self, *names: str) -> bool:
        """Whether the compiled loss has one of these names."""
        return to.name_of_loss(self.model) in names

    def is_adam(self) -> bool:
        """Whether the user's optimizer is Adam or AdamW."""
        return isinstance(self.model.optimizer, keras.optimizers.Adam)


Switch = Callable[[KerasParts, Evidence], Iterable[KerasParts]]


@dataclass(frozen=True)
class Suspect:
    """A cause that may be switched on."""

    heading: str  # of its section in chapter 09; "" if it has none
    rungs: str  # where it can show first
    switch: Switch
    rounding: bool = False  # whether it changes only the last digits


def before(record: Record, step: int) -> Weights:
    """Return the weights before a step."""
    return record.kept.get(step - 1, record.start) if step else record.start


def residual(mine: Record, theirs: Record, step: int) -> float:
    """Return the largest difference after a step, relative to the step's update."""
    if step not in mine.kept or step not in theirs.kept:
        return np.inf
    found = 0.0
    sides = mine.kept[step], theirs.kept[step], before(mine, step)
    for a, b, old in zip(*sides, strict=True):
        if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
            return np.inf
        if a.size and a.dtype.kind == "f":
            size = max(float(np.abs(a - old).max()), float(np.abs(a).max()) * 1e-6)
            found = max(found, float(np.abs(a - b).max()) / (size or 1.0))
    return found


def _start(parts: KerasParts, seen: Evidence) -> Iterable[KerasParts]:
    mine, theirs = seen.mine.start, seen.theirs.start
    if [(a.shape, a.dtype) for a in mine] == [(a.shape, a.dtype) for a in theirs]:
        yield replace(parts, start=lambda _: theirs)


def _transposed(parts: KerasParts, seen: Evidence) -> Iterable[KerasParts]:
    pairs = list(zip(seen.mine.start, seen.theirs.start, strict=True))
    if all(np.array_equal(a, b) or np.array_equal(a.T, b) for a, b in pairs):
        yield from _start(parts, seen)


def _reordered(parts: KerasParts, seen: Evidence) -> Iterable[KerasParts]:
    mine, theirs = (
        sorted(a.tobytes() for a in r.start) for r in (seen.mine, seen.theirs)
    )
    if mine == theirs:
        yield from _start(parts, seen)


def _float64(parts: KerasParts, seen: Evidence) -> Iterable[KerasParts]:
    if {a.dtype for a in seen.theirs.start if a.dtype.kind == "f"} == {np.dtype("f8")}:
        rate = float(f"{seen.optimizer['learning_rate']:.7g}")  # not rounded to float32
        model = replace(parts, model=to.in_float64, start=to.as_float64)
        yield to.with_config(replace(model, dtype="float64"), learning_rate=rate)


def _scaled(parts: KerasParts, seen: Evidence) -> Iterable[KerasParts]:
    if seen.setup.x.dtype.kind == "f" and not seen.rounding:
        for factor in (255.0, 1 / 255.0):
            number = seen.setup.x.dtype.type(factor)
            yield replace(parts, inputs=lambda x, number=number: x * number)


def _broadcast(parts: KerasParts, seen: Evidence) -> Iterable[KerasParts]:
    if seen.setup.y[0].size == 1:
        if seen.has_loss("mse", "mean_squared_error"):
            yield replace(parts, loss=to.broadcast(tf.square))
        if seen.has_loss("mae", "mean_absolute_error"):
            yield replace(parts, loss=to.broadcast(tf.abs))


def _order(name: str) -> Switch:
    """Train Keras on the port's batches, if that cause orders them so."""

    def switch(parts: KerasParts, seen: Evidence) -> Iterable[KerasParts]:
        epochs = order.rows_of_epochs(seen.setup, seen.theirs)
        if epochs and order.cause_of_order(seen.setup, epochs) == name:
            held = order.held_back(seen.setup, epochs)
            yield replace(
                parts,
                split=lambda setup: (np.arange(len(setup.x)), held),
                batches=lambda setup, n, epoch: epochs[epoch],
            )

    return switch


def _no_dropout(parts: KerasParts, seen: Evidence) -> Iterable[KerasParts]:
    if to.random_layers(seen.model):
        yield replace(parts, training=False)
        rates = to.layers_with(parts.forward, to.random_layers, "rate", 0)
        yield replace(parts, forward=rates)


def _always_dropout(parts: KerasParts, seen: Evidence) -> Iterable[KerasParts]:
    return [replace(parts, testing=True)] if to.random_layers(seen.model) else []


def _frozen(parts: KerasParts, seen: Evidence) -> Iterable[KerasParts]:
    if to.averages(seen.model):
        yield replace(parts, forward=to.frozen(parts.forward))
        yield replace(parts, training=False)


def _momentum_of_averages(parts: KerasParts, seen: Evidence) -> Iterable[KerasParts]:
    own = {float(layer.momentum) for layer in to.averages(seen.model)}
    for value in (
        {0.9, 0.99, 0.999, *(round(1 - m, 6) for m in own)} - own if own else ()
    ):
        momentum = to.layers_with(parts.forward, to.averages, "momentum", value)
        yield replace(parts, forward=momentum)


def _penalty(factor: float) -> Switch:
    def penalties(own: list[Any]) -> list[Any]:
        return [factor * each for each in own] if factor else []

    def switch(parts: KerasParts, seen: Evidence) -> Iterable[KerasParts]:
        return [replace(parts, penalties=penalties)] if seen.model.losses else []

    return switch


def _unweighted(parts: KerasParts, seen: Evidence) -> Iterable[KerasParts]:
    return [replace(parts, weighted=False)] if seen.setup.class_weight else []


def _sum(parts: KerasParts, seen: Evidence) -> Iterable[KerasParts]:
    return [] if seen.rounding else [replace(parts, loss=to.summed)]


def _light_batch(parts: KerasParts, seen: Evidence) -> Iterable[KerasParts]:
    size = seen.setup.batch_size
    if any(len(rows) % size for rows in order.split(seen.setup)):
        yield replace(parts, loss=to.over(size))


def _formula(formula: Any) -> Switch:
    def switch(parts: KerasParts, seen: Evidence) -> Iterable[KerasParts]:
        if to.name_of_loss(seen.model).endswith("categorical_crossentropy"):
            yield replace(parts, loss=to.by_logits(formula))

    return switch


def _plus(parts: KerasParts, seen: Evidence) -> Iterable[KerasParts]:
    return [replace(parts, patched=to.bias_by_plus)]


def _xla(parts: KerasParts, seen: Evidence) -> Iterable[KerasParts]:
    return [replace(parts, xla=not seen.model.jit_compile)]


def _rate(parts: KerasParts, seen: Evidence) -> Iterable[KerasParts]:
    ratios, own = [], seen.optimizer.get("learning_rate")
    for mine, theirs in deltas(seen):
        large = np.abs(mine) > 0.1 * np.abs(mine).max()
        if large.any() and np.isfinite(theirs).all():
            ratios.append(float(np.median(theirs[large] / mine[large])))
    alike = bool(ratios) and np.ptp(ratios) < 0.01 * abs(ratios[0])
    if alike and isinstance(own, float) and abs(ratios[0] - 1) > 1e-3:
        yield to.with_config(parts, learning_rate=float(f"{own * ratios[0]:.3g}"))


def deltas(seen: Evidence) -> list[tuple[Array, Array]]:
    """How a step changed each weight: in Keras, and in the port; [] if unknown."""
    step, sides = seen.place.step, (seen.mine, seen.theirs)
    if any(step not in side.kept for side in sides):
        return []
    changes = [
        [new - old for new, old in zip(r.kept[step], before(r, step), strict=True)]
        for r in sides
    ]
    return [(a, b) for a, b in zip(*changes, strict=True) if a.dtype.kind == "f"]


def _clipping(parts: KerasParts, seen: Evidence) -> Iterable[KerasParts]:
    one, all_ = (seen.optimizer.get(k) for k in ("clipnorm", "global_clipnorm"))
    if one or all_:
        yield to.with_config(parts, clipnorm=all_, global_clipnorm=one)


def _no_momentum(parts: KerasParts, seen: Evidence) -> Iterable[KerasParts]:
    if seen.optimizer.get("momentum"):
        yield to.with_config(parts, momentum=0.0, nesterov=False)


def _averaged(parts: KerasParts, seen: Evidence) -> Iterable[KerasParts]:
    sgd = isinstance(seen.model.optimizer, keras.optimizers.SGD)
    if sgd and seen.optimizer.get("momentum"):
        yield to.with_update(parts, to.averaged)


def _epsilon(parts: KerasParts, seen: Evidence) -> Iterable[KerasParts]:
    own = seen.optimizer.get("epsilon")
    for epsilon in {1e-8, 1e-7, 1e-5, 1e-3} - {own} if own else ():
        yield to.with_config(parts, epsilon=epsilon)


def _adam(update: Any) -> Switch:
    def switch(parts: KerasParts, seen: Evidence) -> Iterable[KerasParts]:
        return [to.with_update(parts, update)] if seen.is_adam() else []

    return switch


def _shifted(parts: KerasParts, seen: Evidence) -> Iterable[KerasParts]:
    return [to.counted_from(parts, seen.model, first) for first in (1, -1)]


def _coupled(parts: KerasParts, seen: Evidence) -> Iterable[KerasParts]:
    decay = seen.optimizer.get("weight_decay")
    return [to.coupled(parts, seen.model, decay)] if decay else []


def _validating(parts: KerasParts, seen: Evidence) -> Iterable[KerasParts]:
    kinds = ("steps", "trains") if seen.setup.validation_split else ()
    return [replace(parts, validation=kind) for kind in kinds]


def _metric(*metrics: Any, accuracy: Any = None) -> Switch:
    def switch(parts: KerasParts, seen: Evidence) -> Iterable[KerasParts]:
        yield from (replace(parts, metrics=each) for each in metrics)
        if accuracy:
            yield replace(parts, accuracy=accuracy)

    return switch


_STEP = "loss gradients update"
CATALOGUE = {
    "transposed_variable": Suspect("Different initial weights", "start", _transposed),
    "variable_order": Suspect("Different initial weights", "start", _reordered),
    "float64": Suspect("Float64 instead of float32", "start inputs", _float64),
    "initial_weights": Suspect("Different initial weights", "start", _start),
    "pixels_not_scaled": Suspect("Pixels not scaled", "inputs loss", _scaled),
    "targets_without_axis": Suspect(
        "Targets missing an axis", "inputs loss", _broadcast
    ),
    **{
        name: Suspect(heading, "order", _order(name))
        for name, heading in {
            "random_split": "Random validation split",
            "not_shuffled": "Not shuffled",
            "with_replacement": "Sampling with replacement",
            "reshuffled": "Reshuffled each epoch",
            "small_buffer": "Small shuffle buffer",
            "batches_shuffled": "Batch before shuffle",
            "last_batch_dropped": "Last batch dropped",
        }.items()
    },
    "dropout_left_off": Suspect("Dropout off in training", _STEP, _no_dropout),
    "dropout_left_on": Suspect(
        "Dropout on in validation", f"{_STEP} metrics", _always_dropout
    ),
    "frozen_moving_averages": Suspect("", _STEP, _frozen),
    "moving_average_momentum": Suspect("", f"{_STEP} metrics", _momentum_of_averages),
    "half_of_l2": Suspect("l2_loss instead of L2", _STEP, _penalty(0.5)),
    "l2_missing": Suspect("l2_loss instead of L2", _STEP, _penalty(0)),
    "class_weight_missing": Suspect("", _STEP, _unweighted),
    "sum_instead_of_mean": Suspect("Sum instead of mean", _STEP, _sum),
    "last_batch_weighs_less": Suspect(
        "Last batch weighs less", f"{_STEP} metrics", _light_batch
    ),
    "softmax_twice": Suspect("Softmax applied twice", _STEP, _formula(to.twice)),
    "log_of_softmax": Suspect(
        "Log of softmax", _STEP, _formula(to.log_of_softmax), rounding=True
    ),
    "probabilities_clipped": Suspect(
        "Clipped probabilities", _STEP, _formula(to.clipped), rounding=True
    ),
    "log_softmax_by_hand": Suspect(
        "Log-softmax by hand", _STEP, _formula(to.log_softmax), rounding=True
    ),
    "bias_added_with_plus": Suspect(
        "Bias added with plus", _STEP, _plus, rounding=True
    ),
    "xla": Suspect("XLA", _STEP, _xla, rounding=True),
    "learning_rate": Suspect("", _STEP, _rate),
    "global_clipnorm": Suspect("Clipping by global norm", _STEP, _clipping),
    "momentum_missing": Suspect("Momentum left at 0", _STEP, _no_momentum),
    "momentum_averaged": Suspect("Averaged momentum", _STEP, _averaged),
    "bias_correction_missing": Suspect("", _STEP, _adam(to.uncorrected)),
    "epsilon_size": Suspect("Adam epsilon value", _STEP, _epsilon, rounding=True),
    "epsilon_place": Suspect(
        "Adam epsilon placement", _STEP, _adam(to.epsilon_of_the_paper), rounding=True
    ),
    "steps_off_by_one": Suspect("", _STEP, _shifted),
    "decoupled_weight_decay": Suspect("", _STEP, _coupled),
    "validation_updates_weights": Suspect("", f"order {_STEP}", _validating),
    "mean_of_batch_means": Suspect(
        "Mean of batch means", "metrics", _metric(to.mean_of_means)
    ),
    "metrics_of_last_batch": Suspect("", "metrics", _metric(to.last)),
    "loss_after_epoch": Suspect(
        "Loss after the epoch",
        "metrics",
        _metric(to.loss_again, to.measured_again),
    ),
    "accuracy_binary": Suspect(
        "Binary accuracy", "metrics", _metric(accuracy=to.binary)
    ),
    "accuracy_exact": Suspect("Exact accuracy", "metrics", _metric(accuracy=to.exact)),
}
# Causes that can leave the same bits: if one of them does, the others are tried, too.
ALIKE = (
    {"log_of_softmax", "probabilities_clipped"},
    {"sum_instead_of_mean", "learning_rate", "last_batch_weighs_less"},
    {"dropout_left_off", "frozen_moving_averages"},
    {"epsilon_size", "epsilon_place"},
    {"mean_of_batch_means", "last_batch_weighs_less"},
    {"half_of_l2", "l2_missing", "decoupled_weight_decay"},
    {"bias_correction_missing", "steps_off_by_one", "learning_rate"},
)
