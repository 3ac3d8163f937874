"""What each cause changes on Keras's side.

A switch is a function of the evidence. It gives changes of `KerasParts`, one for each
variant to try, or none if the cause cannot be what is seen.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import compress
from typing import Any
from unittest.mock import patch

import numpy as np

from kvt.compare.diagnose.keras_side import KerasSide
from kvt.compare.diagnose.record import SMALL, Place, Record, flat
from kvt.data.quietly import quiet

with quiet():
    import keras
    import tensorflow as tf
    from keras.optimizers import SGD, Adam
    from keras.src.backend.tensorflow import numpy as keras_numpy
    from keras.src.losses.losses import LossFunctionWrapper

# Of other libraries; then the other powers of ten.
EPSILONS = 1e-8, 1e-7, 1e-5, 1e-3, 1e-6, 1e-4
# Attributes of layers: with random masks, and with moving averages.
MASKS, AVERAGES = ("seed_generator",), ("moving_mean", "moving_variance")
Change = dict[str, Any]
Changes = Iterable[Change]
Tensor = Any  # TensorFlow ships no types


@dataclass(frozen=True)
class Evidence:
    """What both sides did up to their first difference."""

    side: KerasSide
    mine: Record  # Keras's
    theirs: Record  # the port's
    place: Place

    @property
    def rounding(self) -> bool:
        """Whether the step that differs left almost the same weights."""
        return self.mine.residual(self.theirs, self.place.step) < SMALL

    def option(self, name: str) -> Any:
        """Return an argument of the user's optimizer; None if it has no such one."""
        return self.side.compiled.optimizer.get_config().get(name)

    def has_loss(self, *endings: str) -> bool:
        """Whether the name of the compiled loss ends in one of these."""
        loss = self.side.loss
        given = loss if isinstance(loss, str) else getattr(loss, "name", None)
        return str(given or getattr(loss, "__name__", "")).endswith(endings)


def having(model: Any, *attributes: str) -> list[Any]:
    """Return the layers of a model that have all these attributes."""
    layers = model._flatten_layers()
    return [it for it in layers if all(hasattr(it, name) for name in attributes)]


def has(*attributes: str) -> Any:
    """Make a condition: a layer of the user's model has all these attributes."""
    return lambda seen: having(seen.side.compiled, *attributes)


def when(condition: Callable[[Evidence], Any], *changes: Change) -> Any:
    """Make these changes, one at a time, if a condition holds."""
    return lambda seen: changes if condition(seen) else ()


# --- start and inputs ----------------------------------------------------------------


def at_start(alike: Callable[..., bool], seen: Evidence) -> Changes:
    """Start Keras from the port's weights, if both starts are alike."""
    mine, theirs = seen.mine.start, seen.theirs.start
    kinds = [[(a.shape, a.dtype) for a in side] for side in (mine, theirs)]
    if kinds[0] == kinds[1] and alike(mine, theirs):
        given = dict(zip(seen.side.listed, theirs, strict=True))
        yield {"start": lambda own: [given.get(i, w) for i, w in enumerate(own)]}


def transposed(mine: Any, theirs: Any) -> bool:
    """Tell whether the other arrays are these, some of them transposed."""
    pairs = zip(mine, theirs, strict=True)
    return all(np.array_equal(a, b) or np.array_equal(a.T, b) for a, b in pairs)


def reordered(mine: Any, theirs: Any) -> bool:
    """Tell whether the other arrays are these in another order."""
    return sorted(a.tobytes() for a in mine) == sorted(b.tobytes() for b in theirs)


def parts_in_float64(seen: Evidence) -> Changes:
    """Compute in float64 if the port starts from float64 arrays."""
    dtypes = {a.dtype for a in seen.theirs.start if a.dtype.kind == "f"}
    if dtypes == {np.dtype("f8")} and isinstance(seen.option("learning_rate"), float):
        rate = float(f"{seen.option('learning_rate'):.7g}")  # not rounded to float32
        optimizer = optimizer_arguments(learning_rate=rate)
        yield {"dtype": "float64", "optimizer": optimizer}


def other_scales(seen: Evidence) -> Changes:
    """Multiply and divide the inputs by 255."""
    if seen.side.setup.x.dtype.kind in "fu" and not seen.rounding:
        for factor in (np.float32(255), 1 / np.float32(255)):
            told = f"the port's inputs are {factor:.4g} times x"
            yield {"inputs": partial(np.multiply, factor), "told": told}


# --- forward pass and loss ------------------------------------------------------------


def layer_setting(attributes: Sequence[str], name: str, value: Any) -> Change:
    """Call the model while its layers with these attributes have another value.

    A function computes the value from the layer.
    """

    @contextmanager
    def context(model: Any) -> Any:
        with ExitStack() as changed:
            for layer in having(model, *attributes):
                new = value(layer) if callable(value) else value
                changed.enter_context(patch.object(layer, name, new))
            yield

    return {"around": context}


def trained_call(layer: Any) -> Any:
    """Return a layer's `call`, as in training."""
    own, takes_it = layer.call, layer._call_has_training_arg
    always = {"training": True} if takes_it else {}
    return lambda *args, **options: own(*args, **options | always)


@contextmanager
def frozen_averages(model: Any) -> Any:
    """Leave the moving averages as they are."""
    moving = [getattr(it, name) for it in having(model, *AVERAGES) for name in AVERAGES]
    kept = [tf.identity(v.value) for v in moving]
    yield
    for variable, value in zip(moving, kept, strict=True):
        variable.assign(value)


def momentum_of_averages(seen: Evidence) -> Changes:
    """Give moving averages the momentum of other libraries."""
    named = *AVERAGES, "momentum"
    own = {float(it.momentum) for it in having(seen.side.compiled, *named)}
    tried = {0.9, 0.99, 0.999, *(round(1 - m, 6) for m in own)} - own
    for value in sorted(tried) if own else ():
        told = f"the port's momentum of moving averages is {value}"
        yield layer_setting(named, "momentum", value) | {"told": told}


def bias_by_plus(model: Any) -> Any:
    """Let Keras's layers add their bias with `+`, not with `tf.nn.bias_add`."""
    return patch.object(keras_numpy, "add", lambda x1, x2: tf.add(x1, x2))


def summed_loss(size: float) -> Change:
    """Divide the sum of the examples' losses by a constant."""

    def changed(given: Any) -> Any:
        own = keras.losses.get(given)
        call = getattr(own, "call", own)
        return LossFunctionWrapper(lambda *batch: call(*batch) / size, reduction="sum")

    return {"loss": changed}


def light_last_batch(seen: Evidence) -> Changes:
    """Divide the loss of a partial batch by the full batch size."""
    size = seen.side.setup.batch_size
    partial_batch = any(len(rows) % size for rows in seen.side.setup.split())
    return [summed_loss(size)] if partial_batch else []


def broadcast_targets(seen: Evidence) -> Changes:
    """Compare every target with every prediction."""
    is_absolute = seen.has_loss("mae", "absolute_error")
    size = tf.abs if is_absolute else tf.square

    def loss(y: Tensor, y_pred: Tensor) -> Tensor:
        return tf.reduce_mean(size(tf.reshape(y, [-1]) - y_pred))  # of (b, b)

    known = is_absolute or seen.has_loss("mse", "squared_error")
    if known and seen.side.setup.y[0].size == 1:
        yield {"loss": lambda given: loss}


def entropy_by(*formulas: Any) -> Any:
    """Compute a cross-entropy from targets y and logits z by other formulas."""

    def switch(seen: Evidence) -> Changes:
        sparse = seen.has_loss("sparse_categorical_crossentropy")
        smoothing = getattr(seen.side.loss, "label_smoothing", 0.0)

        def loss(formula: Any, y: Tensor, y_pred: Tensor) -> Tensor:
            z: Any = getattr(y_pred, "_keras_logits", y_pred)
            if sparse:
                y = tf.one_hot(tf.cast(tf.reshape(y, [-1]), "int32"), z.shape[-1])
            y = tf.cast(y, z.dtype)
            if smoothing:
                y = y * (1 - smoothing) + smoothing / z.shape[-1]
            return formula(y, z)

        for formula in formulas if seen.has_loss("categorical_crossentropy") else ():
            yield {"loss": lambda given, f=formula: partial(loss, f)}

    return switch


def from_logarithms(*logarithms: Any) -> Any:
    """Compute a cross-entropy from the logarithms of the probabilities."""
    return entropy_by(
        *(lambda y, z, f=f: -tf.reduce_sum(y * f(z), axis=-1) for f in logarithms)
    )


def log_of(change: Any) -> Any:
    """Compute logarithms of changed probabilities."""
    return lambda z: tf.math.log(change(tf.nn.softmax(z)))


# --- update ---------------------------------------------------------------------------


def optimizer_arguments(**changed: Any) -> Any:
    """Give the optimizer other arguments."""
    return lambda own, model: type(own).from_config(own.get_config() | changed)


def rule_of_update(rule: Any, **changed: Any) -> Change:
    """Let the optimizer, with other arguments, update each variable by a rule."""

    def other(own: Any, model: Any) -> Any:
        own = optimizer_arguments(**changed)(own, model) if changed else own

        def step(gradient: Tensor, variable: Any, rate: Tensor) -> None:
            gradient, rate = (tf.cast(v, variable.dtype) for v in (gradient, rate))
            rule(own, gradient, variable, rate)

        own.update_step = step
        return own

    return {"optimizer": other}


def other_rates(seen: Evidence) -> Changes:
    """Take the rate from the two updates of a step, or the first of a schedule."""
    sides, step = (seen.mine, seen.theirs), seen.place.step
    own = seen.option("learning_rate")
    if isinstance(own, dict):
        rate = float(seen.side.compiled.optimizer.learning_rate)
        told = f"the port's learning rate stays at {rate:g}"
        yield {"optimizer": optimizer_arguments(learning_rate=rate), "told": told}
    if not isinstance(own, float) or any(step not in side.kept for side in sides):
        return
    trained = [seen.side.compiled.weights[at].trainable for at in seen.side.listed]
    mine, theirs = (
        flat(compress(side.kept[step], trained))
        - flat(compress(side.weights_before(step), trained))
        for side in sides
    )
    large = np.abs(mine) > 0.1 * np.abs(mine).max()
    ratio = float(np.median(theirs[large] / mine[large])) if large.any() else np.nan
    alike = np.allclose(theirs[large], ratio * mine[large], rtol=0.01)
    if alike and abs(ratio - 1) > 1e-3:
        rate = float(f"{own * ratio:.3g}")
        told = f"the port's learning rate is {rate:g}, {rate / own:.3g} times Keras's"
        yield {"optimizer": optimizer_arguments(learning_rate=rate), "told": told}


def norm_of_all(seen: Evidence) -> Changes:
    """Clip by the global norm instead of each norm, and the other way round."""
    one, together = (seen.option(k) for k in ("clipnorm", "global_clipnorm"))
    swapped = optimizer_arguments(clipnorm=together, global_clipnorm=one)
    return [{"optimizer": swapped}] if one or together else []


def momentum(seen: Evidence) -> Any:
    """Return the momentum of plain SGD."""
    return type(seen.side.compiled.optimizer) is SGD and seen.option("momentum")


def other_epsilons(seen: Evidence) -> Changes:
    """Give the optimizer the epsilon of other libraries."""
    own = seen.option("epsilon")
    for value in (v for v in EPSILONS if own and v != own):
        told = f"the port's epsilon is {value:g}, Keras's is {own:g}"
        yield {"optimizer": optimizer_arguments(epsilon=value), "told": told}


def counted_from(first: int) -> Change:
    """Let the optimizer count its steps from another number."""

    def other(own: Any, model: Any) -> Any:
        own.build(model.trainable_variables)
        own.iterations.assign_add(first)
        return own

    return {"optimizer": other}


def coupled_decay(seen: Evidence) -> Changes:
    """Add the weight decay to the gradients, as an L2 penalty does."""
    decay = seen.option("weight_decay")

    def rule(own: Any, gradient: Tensor, variable: Any, rate: Tensor) -> None:
        type(own).update_step(
            own, gradient + decay * tf.identity(variable), variable, rate
        )

    return [rule_of_update(rule, weight_decay=0.0)] if decay else []


def places_of_epsilon(seen: Evidence) -> Changes:
    """Add Adam's epsilon, or that of another library, to the corrected root."""
    own = seen.option("epsilon")
    if isinstance(seen.side.compiled.optimizer, Adam) and not seen.option("amsgrad"):
        yield rule_of_update(epsilon_of_the_paper)
        for value in (v for v in EPSILONS if v != own):
            told = f"the port's epsilon is {value:g}, Keras's is {own:g}"
            yield rule_of_update(epsilon_of_the_paper, epsilon=value) | {"told": told}


def averaged(seen: Evidence) -> Changes:
    """Keep the velocity as a running mean, even if no momentum was tried before."""
    own = momentum(seen)
    return [rule_of_update(averaged_momentum, momentum=own)] if own else []


def averaged_momentum(own: Any, gradient: Tensor, variable: Any, rate: Tensor) -> None:
    """Keep the velocity as a running mean of the gradients."""
    m, beta = own.momentums[own._get_variable_index(variable)], own.momentum
    m.assign(beta * m.value + (1 - beta) * gradient)
    variable.assign_sub(rate * m.value)


def epsilon_of_the_paper(own: Any, gradient: Any, variable: Any, rate: Any) -> None:
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


def accuracy_by(kind: Any) -> Any:
    """Compute the accuracy by a metric of Keras that does not compare classes."""
    return lambda seen: [
        {"compile": {"metrics": [kind("accuracy")], "weighted_metrics": None}}
    ]


def reporting(*reports: Any) -> Any:
    """Report other metrics: functions of the batches' losses, and of a measurement."""
    return lambda seen: [
        {"report": lambda logs, losses, measure, r=report: logs | r(losses, measure)}
        for report in reports
    ]
