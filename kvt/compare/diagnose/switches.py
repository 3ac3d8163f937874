"""What a cause changes on Keras's side: losses, layers, optimizers, metrics."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from kvt.compare.diagnose.keras_side import KerasParts, KerasSide, bias_by_plus
from kvt.compare.diagnose.record import Weights
from kvt.data.quietly import quiet

with quiet():
    import keras
    import tensorflow as tf

__all__ = ["bias_by_plus"]
Tensor = Any  # TensorFlow ships no types
Change = Callable[..., Any]


def name_of_loss(model: Any) -> str:
    """Return the compiled loss's name: "categorical_crossentropy"."""
    loss = model.loss
    name = loss if isinstance(loss, str) else getattr(loss, "name", "")
    return str(name or getattr(loss, "__name__", ""))


def summed(side: KerasSide, y: Tensor, y_pred: Tensor, weight: Tensor) -> Tensor:
    """Compute the compiled loss times the number of examples."""
    return side.loss(y, y_pred, weight) * tf.cast(tf.shape(y_pred)[0], y_pred.dtype)


def over(size: int) -> Change:
    """Divide the sum of the losses by the size of a full batch."""
    return lambda *given: summed(*given) / size


def broadcast(formula: Change) -> Change:
    """Compare every target with every prediction."""

    def loss(_: Any, y: Tensor, y_pred: Tensor, weight: Tensor) -> Tensor:
        return tf.reduce_mean(formula(tf.reshape(y, [-1]) - y_pred))

    return loss


def by_logits(formula: Change) -> Change:
    """Compute a cross-entropy from the logits by another formula."""

    def loss(_: Any, y: Tensor, y_pred: Tensor, weight: Tensor) -> Tensor:
        logits: Any = getattr(y_pred, "_keras_logits", y_pred)
        if y.shape[-1] != logits.shape[-1]:  # sparse targets
            labels = tf.cast(tf.reshape(y, [-1]), "int32")
            y = tf.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
        losses = formula(y, logits)
        return tf.reduce_mean(losses if weight is None else losses * weight)

    return loss


def twice(y: Tensor, z: Tensor) -> Tensor:
    """Apply the softmax twice."""
    return tf.nn.softmax_cross_entropy_with_logits(y, tf.nn.softmax(z))


def log_of_softmax(y: Tensor, z: Tensor) -> Tensor:
    """Take the logarithm of the softmax."""
    return -tf.reduce_sum(y * tf.math.log(tf.nn.softmax(z)), axis=-1)


def clipped(y: Tensor, z: Tensor) -> Tensor:
    """Clip the probabilities first."""
    p = tf.clip_by_value(tf.nn.softmax(z), 1e-7, 1 - 1e-7)
    return -tf.reduce_sum(y * tf.math.log(p), axis=-1)


def log_softmax(y: Tensor, z: Tensor) -> Tensor:
    """Use the stable log-softmax."""
    return -tf.reduce_sum(y * tf.nn.log_softmax(z), axis=-1)


def random_layers(model: Any) -> list[Any]:
    """Return the layers that act by chance in training."""
    return [it for it in model._flatten_layers() if hasattr(it, "seed_generator")]


def averages(model: Any) -> list[Any]:
    """Return the layers that keep moving averages."""
    kind = keras.layers.BatchNormalization
    return [layer for layer in model._flatten_layers() if isinstance(layer, kind)]


@contextmanager
def _attribute(layers: list[Any], name: str, value: Any) -> Iterator[None]:
    before = [getattr(layer, name) for layer in layers]
    try:
        for layer in layers:
            setattr(layer, name, value)
        yield
    finally:
        for layer, old in zip(layers, before, strict=True):
            setattr(layer, name, old)


def layers_with(forward: Change, found: Change, name: str, value: Any) -> Change:
    """Call the model while some of its layers have another attribute."""

    def changed(model: Any, x: Tensor, training: bool) -> Tensor:
        with _attribute(found(model), name, value):
            return forward(model, x, training)

    return changed


def frozen(forward: Change) -> Change:
    """Call the model so that its moving averages stay as they are."""

    def changed(model: Any, x: Tensor, training: bool) -> Tensor:
        layers = averages(model)
        moving = [v for it in layers for v in (it.moving_mean, it.moving_variance)]
        kept = [tf.identity(v.value) for v in moving]
        outputs = forward(model, x, training)
        for variable, value in zip(moving, kept, strict=True):
            variable.assign(value)
        return outputs

    return changed


def with_config(parts: KerasParts, **changed: Any) -> KerasParts:
    """Change arguments of the optimizer."""

    def other(given: Any) -> Any:
        own = parts.optimizer(given)
        return type(own).from_config(own.get_config() | changed)

    return replace(parts, optimizer=other)


def with_update(parts: KerasParts, update: Change) -> KerasParts:
    """Let the optimizer update each variable in another way."""

    def other(given: Any) -> Any:
        own = parts.optimizer(given)

        def step(gradient: Tensor, variable: Any, rate: Tensor) -> None:
            gradient, rate = (tf.cast(v, variable.dtype) for v in (gradient, rate))
            update(own, gradient, variable, rate)

        own.update_step = step
        return own

    return replace(parts, optimizer=other)


def counted_from(parts: KerasParts, model: Any, first: int) -> KerasParts:
    """Let the optimizer count its steps from another number."""

    def other(given: Any) -> Any:
        own = parts.optimizer(given)
        own.build(model.trainable_variables)
        own.iterations.assign_add(first)
        return own

    return replace(parts, optimizer=other)


def coupled(parts: KerasParts, model: Any, decay: float) -> KerasParts:
    """Add the weight decay to the gradients, as an L2 penalty does."""

    def gradients(given: Any) -> Any:
        pairs = zip(parts.gradients(given), model.trainable_weights, strict=True)
        return [g + decay * w.value for g, w in pairs]

    return replace(with_config(parts, weight_decay=None), gradients=gradients)


def averaged(own: Any, gradient: Tensor, variable: Any, rate: Tensor) -> None:
    """Keep the velocity as a running mean of the gradients."""
    m, beta = own.momentums[own._get_variable_index(variable)], own.momentum
    m.assign(beta * m.value + (1 - beta) * gradient)
    variable.assign_sub(rate * m.value)


def _moments(own: Any, gradient: Tensor, variable: Any) -> tuple[Tensor, ...]:
    """Update Adam's means; return them, and the corrections of this step."""
    at = own._get_variable_index(variable)
    m, v = own._momentums[at], own._velocities[at]
    step = tf.cast(own.iterations.value + 1, variable.dtype)
    betas = (tf.cast(b, variable.dtype) for b in (own.beta_1, own.beta_2))
    first, second = (1 - tf.pow(beta, step) for beta in betas)
    m.assign_add((gradient - m.value) * (1 - own.beta_1))
    v.assign_add((tf.square(gradient) - v.value) * (1 - own.beta_2))
    return m.value, v.value, first, second


def epsilon_of_the_paper(own: Any, gradient: Any, variable: Any, rate: Any) -> None:
    """Add epsilon to the corrected root."""
    m, v, first, second = _moments(own, gradient, variable)
    variable.assign_sub(rate * (m / first) / (tf.sqrt(v / second) + own.epsilon))


def uncorrected(own: Any, gradient: Any, variable: Any, rate: Any) -> None:
    """Leave Adam's corrections out."""
    m, v, _, _ = _moments(own, gradient, variable)
    variable.assign_sub(m * rate / (tf.sqrt(v) + own.epsilon))


def binary(y: Tensor, y_pred: Tensor) -> Tensor:
    """Compare every output with its target, at a threshold of one half."""
    hits = tf.equal(tf.cast(y_pred > 0.5, y_pred.dtype), tf.cast(y, y_pred.dtype))
    return tf.reduce_mean(tf.cast(hits, y_pred.dtype), axis=-1)


def exact(y: Tensor, y_pred: Tensor) -> Tensor:
    """Compare every output with its target as numbers."""
    hits = tf.equal(tf.cast(y, y_pred.dtype), y_pred)
    return tf.reduce_mean(tf.cast(hits, y_pred.dtype), axis=-1)


def mean_of_means(epoch: Any, logs: Any, evaluate: Any) -> Any:
    """Average the losses of the batches, whatever their sizes."""
    return logs | {"loss": float(np.mean([step["loss"] for step in epoch.steps]))}


def loss_again(epoch: Any, logs: Any, evaluate: Any) -> Any:
    """Measure the loss of the training examples after the epoch, nothing else."""
    return logs | {"loss": evaluate()["loss"]}


def measured_again(epoch: Any, logs: Any, evaluate: Any) -> Any:
    """Measure the training examples after the epoch."""
    return evaluate()


def last(epoch: Any, logs: Any, evaluate: Any) -> Any:
    """Report the last batch's loss."""
    return logs | {"loss": float(epoch.steps[-1]["loss"])}


def in_float64(model: Any) -> Any:
    """Build the model again, in float64."""

    def changed(config: Any) -> Any:
        if isinstance(config, dict):
            return {name: changed(value) for name, value in config.items()}
        if isinstance(config, list | tuple):
            return type(config)(map(changed, config))
        return "float64" if config == "float32" else config

    return type(model).from_config(changed(model.get_config()))


def as_float64(weights: Weights) -> Weights:
    """Cast the weights that are floating-point numbers."""
    return [w.astype("float64") if w.dtype.kind == "f" else w for w in weights]
