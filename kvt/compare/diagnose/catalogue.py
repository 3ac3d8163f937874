"""The causes that `diagnose` knows, and what each one changes on Keras's side.

A new cause is one entry of `CATALOGUE`: an id, its fix, the rungs where it can show
first, and a switch, a function of the evidence. The switch gives changes of
`KerasParts`, one for each variant to try, or none if the cause cannot be what is seen.
"""

from collections.abc import Callable, Iterable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from math import lgamma, log
from typing import Any
from unittest.mock import patch

import numpy as np

from kvt.compare.diagnose.keras_side import KerasSide
from kvt.compare.diagnose.record import SMALL, Place, Record, port_rows
from kvt.compare.parts import Rows, cut, example_order
from kvt.data.quietly import quiet

with quiet():
    import keras
    import tensorflow as tf
    from keras.src.backend.tensorflow import numpy as keras_numpy
    from keras.src.losses.losses import LossFunctionWrapper

Change = dict[str, Any]
Changes = Iterable[Change]
Tensor = Any  # TensorFlow ships no types
STEP = "forward loss gradients update"
UPDATE = f"update {STEP}"  # tried first where the update differs and the loss is equal
ROUNDING = f"{STEP} rounding"  # causes that change only the last digits


@dataclass(frozen=True)
class Evidence:
    """What both sides did up to the place where they part."""

    side: KerasSide
    mine: Record  # Keras's
    theirs: Record  # the port's
    place: Place

    @property
    def rounding(self) -> bool:
        """Whether the step where they part left almost the same weights."""
        return self.mine.residual(self.theirs, self.place.step) < SMALL

    def option(self, name: str) -> Any:
        """Return an argument of the user's optimizer; None if it has no such one."""
        return self.side.compiled.optimizer.get_config().get(name)

    def has_loss(self, *endings: str) -> bool:
        """Whether the name of the compiled loss ends in one of these."""
        loss = self.side.compiled.loss
        given = loss if isinstance(loss, str) else getattr(loss, "name", None)
        return str(given or getattr(loss, "__name__", "")).endswith(endings)


def having(model: Any, attribute: str) -> list[Any]:
    """Return the layers of a model that have an attribute."""
    return [it for it in model._flatten_layers() if hasattr(it, attribute)]


@dataclass(frozen=True)
class Cause:
    """A cause that can be switched on."""

    fix: str  # the heading of its section in chapter 09, or a sentence with its period
    switch: Callable[[Evidence], Changes]
    rungs: str = STEP  # where it can show first


def when(condition: Callable[[Evidence], Any], *changes: Change) -> Any:
    """Make these changes, one at a time, if a condition holds."""
    return lambda seen: changes if condition(seen) else ()


# --- start, inputs and order ----------------------------------------------------------


def _start(alike: Callable[..., bool]) -> Any:
    """Start Keras from the port's weights, if both starts are alike."""

    def switch(seen: Evidence) -> Changes:
        mine, theirs = seen.mine.start, seen.theirs.start
        kinds = [[(a.shape, a.dtype) for a in side] for side in (mine, theirs)]
        if kinds[0] == kinds[1] and alike(mine, theirs):
            given = dict(zip(seen.side.listed, theirs, strict=True))
            yield {"start": lambda own: [given.get(i, w) for i, w in enumerate(own)]}

    return switch


def _transposed(mine: Any, theirs: Any) -> bool:
    pairs = zip(mine, theirs, strict=True)
    return all(np.array_equal(a, b) or np.array_equal(a.T, b) for a, b in pairs)


def _reordered(mine: Any, theirs: Any) -> bool:
    return sorted(a.tobytes() for a in mine) == sorted(b.tobytes() for b in theirs)


def _float64(seen: Evidence) -> Changes:
    dtypes = {a.dtype for a in seen.theirs.start if a.dtype.kind == "f"}
    if dtypes == {np.dtype("f8")} and isinstance(seen.option("learning_rate"), float):
        rate = float(f"{seen.option('learning_rate'):.7g}")  # not rounded to float32
        yield {
            "model": _in_float64,
            "dtype": "float64",
            "optimizer": _arguments(learning_rate=rate),
        }


def _in_float64(model: Any) -> Any:
    """Build the model again, in float64."""
    double = model.to_json().replace('"float32"', '"float64"')
    return keras.models.model_from_json(double)


def _scaled(seen: Evidence) -> Changes:
    if seen.side.setup.x.dtype.kind == "f" and not seen.rounding:
        for factor in (np.float32(255), 1 / np.float32(255)):
            told = f"the port's inputs are {factor:.4g} times x"
            yield {"inputs": partial(np.multiply, factor), "told": told}


def _order(name: str) -> Any:
    """Train Keras on the port's batches, if this cause orders them so."""

    def switch(seen: Evidence) -> Changes:
        epochs, same = port_rows(seen.side.setup, seen.theirs)
        if epochs and _cause_of_order(seen, epochs, same) == name:
            tail = seen.side.setup.split()[1]
            seen_rows = np.concatenate([rows for epoch in epochs for rows in epoch])
            rest = np.setdiff1d(np.arange(len(same)), seen_rows)
            held_back = tail if np.isin(tail, rest).all() else rest
            yield {
                "split": lambda setup: (np.arange(len(same)), held_back),
                "batches": lambda setup, n, epoch: epochs[epoch],
            }

    return switch


def _cause_of_order(seen: Evidence, epochs: list[list[Rows]], same: Rows) -> str:
    """Name the cause of an order that is not Keras's; "" if it is not known."""
    setup = seen.side.setup
    rows, size = same[setup.split()[0]], setup.batch_size
    n, orders = len(rows), [np.concatenate(epoch) for epoch in epochs]
    first, mine = orders[0], rows[example_order(n, setup.seed)]
    stored = {np.sort(batch).tobytes() for batch in cut(rows, size)}
    counts = [np.bincount(order, minlength=len(same)) for order in (*orders, rows)]
    if not np.isin(first, rows).all():  # or first training, then the held-back rows
        return "" if np.isin(first[:n], rows).all() else "random_split"
    if any((count > counts[-1]).any() for count in counts[:-1]):
        return "with_replacement"
    if len(first) == n // size * size < n and np.array_equal(first, mine[: len(first)]):
        return "last_batch_dropped"
    if np.array_equal(first, rows[: len(first)]):
        return "not_shuffled"
    if {np.sort(batch).tobytes() for batch in epochs[0]} <= stored:
        return "batches_shuffled"
    # The smallest buffer that can give this order; few random orders have one so small.
    buffer = int((first - np.arange(len(first))).max()) + 1
    chance = (n - buffer) * log(buffer) + lgamma(buffer + 1) - lgamma(n + 1)
    if chance < log(1e-3):
        return "small_buffer"
    return "reshuffled" if any(not np.array_equal(o, first) for o in orders) else ""


# --- forward pass and loss ------------------------------------------------------------


def _set(attribute: str, name: str, value: Any) -> Change:
    """Call the model while its layers with an attribute have another value."""

    @contextmanager
    def context(model: Any) -> Any:
        with ExitStack() as changed:
            for layer in having(model, attribute):
                changed.enter_context(patch.object(layer, name, value))
            yield

    return {"around": context}


@contextmanager
def _frozen(model: Any) -> Any:
    """Leave the moving averages as they are."""
    layers = having(model, "moving_mean")
    moving = [v for it in layers for v in (it.moving_mean, it.moving_variance)]
    kept = [tf.identity(v.value) for v in moving]
    yield
    for variable, value in zip(moving, kept, strict=True):
        variable.assign(value)


def _dropout(seen: Evidence) -> Any:
    return having(seen.side.compiled, "seed_generator")


def _averages(seen: Evidence) -> Any:
    return having(seen.side.compiled, "moving_mean")


def _momentum_of_averages(seen: Evidence) -> Changes:
    own = {float(layer.momentum) for layer in _averages(seen)}
    tried = {0.9, 0.99, 0.999, *(round(1 - m, 6) for m in own)} - own
    for value in sorted(tried) if own else ():
        told = f"the port's momentum of moving averages is {value}"
        yield _set("moving_mean", "momentum", value) | {"told": told}


def _bias_by_plus(model: Any) -> Any:
    """Let Keras's layers add their bias with `+`, not with `tf.nn.bias_add`."""
    return patch.object(keras_numpy, "add", lambda x1, x2: tf.add(x1, x2))


def _summed(size: float) -> Change:
    """Divide the sum of the examples' losses by a constant."""

    def changed(given: Any) -> Any:
        own = keras.losses.get(given)
        call = getattr(own, "call", own)
        return LossFunctionWrapper(lambda *batch: call(*batch) / size, reduction="sum")

    return {"loss": changed}


def _light_batch(seen: Evidence) -> Changes:
    size = seen.side.setup.batch_size
    partial_batch = any(len(rows) % size for rows in seen.side.setup.split())
    return [_summed(size)] if partial_batch else []


def _broadcast(seen: Evidence) -> Changes:
    """Compare every target with every prediction."""
    square = not seen.has_loss("mae", "absolute_error")

    def loss(y: Tensor, y_pred: Tensor) -> Tensor:
        errors = tf.reshape(y, [-1]) - y_pred  # (b, b)
        return tf.reduce_mean(tf.square(errors) if square else tf.abs(errors))

    known = seen.has_loss("mse", "mae", "squared_error", "absolute_error")
    if known and seen.side.setup.y[0].size == 1:
        yield {"loss": lambda given: loss}


def _entropy(formula: Any) -> Any:
    """Compute a cross-entropy from targets y and logits z by another formula."""

    def loss(y: Tensor, y_pred: Tensor) -> Tensor:
        z: Any = getattr(y_pred, "_keras_logits", y_pred)
        if y.shape[-1] != z.shape[-1]:  # sparse targets
            y = tf.one_hot(tf.cast(tf.reshape(y, [-1]), "int32"), z.shape[-1])
        return formula(tf.cast(y, z.dtype), z)

    return when(
        lambda seen: seen.has_loss("categorical_crossentropy"),
        {"loss": lambda given: loss},
    )


def _from_logarithms(logarithms: Any) -> Any:
    """Compute a cross-entropy from the logarithms of the probabilities."""
    return _entropy(lambda y, z: -tf.reduce_sum(y * logarithms(z), axis=-1))


# --- update ---------------------------------------------------------------------------


def _arguments(**changed: Any) -> Any:
    """Give the optimizer other arguments."""
    return lambda own, model: type(own).from_config(own.get_config() | changed)


def _update(rule: Any, **changed: Any) -> Change:
    """Let the optimizer, with other arguments, update each variable by a rule."""

    def other(own: Any, model: Any) -> Any:
        own = _arguments(**changed)(own, model) if changed else own

        def step(gradient: Tensor, variable: Any, rate: Tensor) -> None:
            gradient, rate = (tf.cast(v, variable.dtype) for v in (gradient, rate))
            rule(own, gradient, variable, rate)

        own.update_step = step
        return own

    return {"optimizer": other}


def _rate(seen: Evidence) -> Changes:
    sides, step = (seen.mine, seen.theirs), seen.place.step
    own, changes = seen.option("learning_rate"), []
    if not isinstance(own, float) or any(step not in side.kept for side in sides):
        return
    for side in sides:
        pairs = zip(side.kept[step], side.weights_before(step), strict=True)
        found = [(a - b).ravel() for a, b in pairs if a.dtype.kind == "f"]
        changes.append(np.concatenate(found))
    mine, theirs = changes
    large = np.abs(mine) > 0.1 * np.abs(mine).max()
    ratio = float(np.median(theirs[large] / mine[large])) if large.any() else np.nan
    alike = np.allclose(theirs[large], ratio * mine[large], rtol=0.01)
    if alike and abs(ratio - 1) > 1e-3:
        rate = float(f"{own * ratio:.3g}")
        told = f"the port's learning rate is {rate:g}, {rate / own:.3g} times Keras's"
        yield {"optimizer": _arguments(learning_rate=rate), "told": told}


def _clipping(seen: Evidence) -> Changes:
    one, together = (seen.option(k) for k in ("clipnorm", "global_clipnorm"))
    swapped = _arguments(clipnorm=together, global_clipnorm=one)
    return [{"optimizer": swapped}] if one or together else []


def _epsilon(seen: Evidence) -> Changes:
    own = seen.option("epsilon")
    for value in sorted({1e-8, 1e-7, 1e-5, 1e-3} - {own}) if own else ():
        told = f"the port's epsilon is {value:g}, Keras's is {own:g}"
        yield {"optimizer": _arguments(epsilon=value), "told": told}


def _counted_from(first: int) -> Change:
    """Let the optimizer count its steps from another number."""

    def other(own: Any, model: Any) -> Any:
        own.build(model.trainable_variables)
        own.iterations.assign_add(first)
        return own

    return {"optimizer": other}


def _coupled(seen: Evidence) -> Changes:
    """Add the weight decay to the gradients, as an L2 penalty does."""
    decay = seen.option("weight_decay")

    def rule(own: Any, gradient: Tensor, variable: Any, rate: Tensor) -> None:
        type(own).update_step(
            own, gradient + decay * tf.identity(variable), variable, rate
        )

    return [_update(rule, weight_decay=0.0)] if decay else []


def _averaged(own: Any, gradient: Tensor, variable: Any, rate: Tensor) -> None:
    """Keep the velocity as a running mean of the gradients."""
    m, beta = own.momentums[own._get_variable_index(variable)], own.momentum
    m.assign(beta * m.value + (1 - beta) * gradient)
    variable.assign_sub(rate * m.value)


def _epsilon_of_the_paper(own: Any, gradient: Any, variable: Any, rate: Any) -> None:
    """Add Adam's epsilon to the corrected root."""
    at = own._get_variable_index(variable)
    m, v = own._momentums[at], own._velocities[at]
    step = tf.cast(own.iterations.value + 1, variable.dtype)
    betas = (tf.cast(b, variable.dtype) for b in (own.beta_1, own.beta_2))
    first, second = (1 - tf.pow(beta, step) for beta in betas)
    m.assign_add((gradient - m.value) * (1 - own.beta_1))
    v.assign_add((tf.square(gradient) - v.value) * (1 - own.beta_2))
    root = tf.sqrt(v.value / second) + own.epsilon
    variable.assign_sub(rate * (m.value / first) / root)


# --- metrics --------------------------------------------------------------------------


def _accuracy(predicted: Any) -> Any:
    """Compare each output with its target, then average over the outputs."""

    def accuracy(y: Tensor, y_pred: Tensor) -> Tensor:
        hits = tf.equal(*(tf.cast(v, y_pred.dtype) for v in (predicted(y_pred), y)))
        return tf.reduce_mean(tf.cast(hits, y_pred.dtype), axis=-1)

    return lambda seen: [{"metrics": accuracy}]


def _report(*reports: Any) -> Any:
    """Report other metrics: functions of the batches' losses, and of a measurement."""
    return lambda seen: [
        {"report": lambda logs, losses, measure, r=report: logs | r(losses, measure)}
        for report in reports
    ]


# --- the catalogue --------------------------------------------------------------------

CROSS_ENTROPY = tf.nn.softmax_cross_entropy_with_logits
_STARTS = "Different initial weights"
_L2 = "l2_loss instead of L2"
CATALOGUE = {
    "transposed_variable": Cause(_STARTS, _start(_transposed), "start"),
    "variable_order": Cause(_STARTS, _start(_reordered), "start"),
    "float64": Cause("Float64 instead of float32", _float64, "start inputs"),
    "initial_weights": Cause(_STARTS, _start(lambda a, b: True), "start"),
    "pixels_not_scaled": Cause("Pixels not scaled", _scaled, "inputs forward loss"),
    "targets_without_axis": Cause("Targets missing an axis", _broadcast, "inputs loss"),
    **{
        name: Cause(heading, _order(name), "order")
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
    "dropout_left_off": Cause(
        "Dropout off in training",
        when(_dropout, {"training": False}, _set("seed_generator", "rate", 0)),
    ),
    "dropout_left_on": Cause(
        "Dropout on in validation", when(_dropout, {"testing": True}), f"{STEP} metrics"
    ),
    "frozen_moving_averages": Cause(
        "Update the moving mean and variance in the train step, and in no other step.",
        when(_averages, {"around": _frozen}, {"training": False}),
    ),
    "moving_average_momentum": Cause(
        "Multiply the old moving average by Keras's momentum, 0.99 by default.",
        _momentum_of_averages,
        f"{STEP} metrics",
    ),
    "half_of_l2": Cause(_L2, when(lambda s: s.side.compiled.losses, {"penalty": 0.5})),
    "l2_missing": Cause(_L2, when(lambda s: s.side.compiled.losses, {"penalty": 0})),
    "class_weight_missing": Cause(
        "Multiply the loss of each example by the weight of its class.",
        when(lambda s: s.side.setup.class_weight, {"weighted": False}),
    ),
    "sum_instead_of_mean": Cause(
        "Sum instead of mean", when(lambda s: not s.rounding, _summed(1))
    ),
    "last_batch_weighs_less": Cause(
        "Last batch weighs less",
        _light_batch,
        f"{STEP} metrics",
    ),
    "softmax_twice": Cause(
        "Softmax applied twice",
        _entropy(lambda y, z: CROSS_ENTROPY(y, tf.nn.softmax(z))),
    ),
    "log_of_softmax": Cause(
        "Log of softmax",
        _from_logarithms(lambda z: tf.math.log(tf.nn.softmax(z))),
        ROUNDING,
    ),
    "probabilities_clipped": Cause(
        "Clipped probabilities",
        _from_logarithms(
            lambda z: tf.math.log(tf.clip_by_value(tf.nn.softmax(z), 1e-7, 1 - 1e-7))
        ),
        ROUNDING,
    ),
    "log_softmax_by_hand": Cause(
        "Log-softmax by hand", _from_logarithms(tf.nn.log_softmax), ROUNDING
    ),
    "bias_added_with_plus": Cause(
        "Bias added with plus", lambda s: [{"around": _bias_by_plus}], ROUNDING
    ),
    "xla": Cause("XLA", lambda s: [{"xla": not s.side.compiled.jit_compile}], ROUNDING),
    "learning_rate": Cause(
        "Use the learning rate of Keras's optimizer.", _rate, UPDATE
    ),
    "global_clipnorm": Cause("Clipping by global norm", _clipping, UPDATE),
    "momentum_missing": Cause(
        "Momentum left at 0",
        when(
            lambda s: s.option("momentum"),
            {"optimizer": _arguments(momentum=0.0, nesterov=False)},
        ),
        UPDATE,
    ),
    "momentum_averaged": Cause(
        "Averaged momentum",
        when(lambda s: s.option("momentum"), _update(_averaged)),
        UPDATE,
    ),
    # After many steps, both corrections are 1.
    "bias_correction_missing": Cause(
        "Multiply the rate by sqrt(1 - beta_2 ** step) / (1 - beta_1 ** step).",
        when(lambda s: s.option("beta_2"), _counted_from(10**6)),
        UPDATE,
    ),
    "epsilon_size": Cause("Adam epsilon value", _epsilon, UPDATE),
    "epsilon_place": Cause(
        "Adam epsilon placement",
        when(lambda s: s.option("beta_2"), _update(_epsilon_of_the_paper)),
        UPDATE,
    ),
    "steps_off_by_one": Cause(
        "Count steps as Keras: from 1 in Adam's corrections, from 0 in a schedule.",
        when(
            lambda s: s.option("beta_2") or isinstance(s.option("learning_rate"), dict),
            _counted_from(1),
            _counted_from(-1),
        ),
        UPDATE,
    ),
    "decoupled_weight_decay": Cause(
        "Subtract learning_rate * weight_decay * weight; leave the gradient as it is.",
        _coupled,
        UPDATE,
    ),
    "validation_updates_weights": Cause(
        "Validate with a step that updates no weight.",
        when(
            lambda s: s.side.setup.validation_split,
            {"validation": "steps"},
            {"validation": "trains"},
        ),
        f"order {STEP}",
    ),
    "mean_of_batch_means": Cause(
        "Mean of batch means",
        _report(lambda losses, measure: {"loss": float(np.mean(losses))}),
        "metrics",
    ),
    "metrics_of_last_batch": Cause(
        "Average a metric over all examples of an epoch.",
        _report(lambda losses, measure: {"loss": losses[-1]}),
        "metrics",
    ),
    "loss_after_epoch": Cause(
        "Loss after the epoch",
        _report(
            lambda losses, measure: {"loss": measure()["loss"]},
            lambda losses, measure: measure(),
        ),
        "metrics",
    ),
    "accuracy_binary": Cause(
        "Binary accuracy", _accuracy(lambda y_pred: y_pred > 0.5), "metrics"
    ),
    "accuracy_exact": Cause("Exact accuracy", _accuracy(tf.identity), "metrics"),
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
