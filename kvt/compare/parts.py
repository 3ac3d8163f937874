"""The parts of a training, each as Keras computes it, in raw TensorFlow 2.

A part is a function that `kvt.compare.recipe` can exchange for another one. The parts
of the feedforward network come first, in the order in which they act.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kvt import data
from kvt.data import Array
from kvt.data.quietly import quiet

with quiet():
    import tensorflow as tf

Rows = NDArray[np.int64]
Weights = list[Array]
Metrics = dict[str, float]
Tensor = Any  # or a list of them, or a variable: TensorFlow ships no types

RATE = 0.5  # of dropout
STRENGTH = 1e-3  # of the L2 penalty
NORM = 0.5  # the largest norm of a clipped gradient
FILTERS = 32

example_order = functools.cache(data.example_order)  # asked for in every epoch


def keras_weights(initial: Weights, seed: int) -> Weights:
    """Start from the weights that Keras drew."""
    return initial


def scaled(x: Array) -> Array:
    """Keep the pixels in [0, 1] and in float32, as loaded."""
    return x


def same_shape(y: Array) -> Array:
    """Keep the targets in the shape of the predictions."""
    return y


def tail(n: int, validation_split: float, seed: int) -> tuple[Rows, Rows]:
    """Hold back the last rows, before any shuffling."""
    n_train = data.split(n, validation_split)
    return np.arange(n_train), np.arange(n_train, n)


def cut(order: Rows, batch_size: int) -> list[Rows]:
    """Cut an order of rows into batches; the last one may be smaller."""
    starts = range(0, len(order), batch_size)
    return [order[start : start + batch_size] for start in starts]


def keras_order(n: int, batch_size: int, seed: int, epoch: int) -> list[Rows]:
    """Visit every row once, in the same order in every epoch."""
    return cut(example_order(n, seed), batch_size)


def dense(weights: Tensor, x: Tensor, training: bool) -> Tensor:
    """Two layers; bias_add adds the biases."""
    w1, b1, w2, b2 = weights
    h = tf.nn.relu(tf.nn.bias_add(x @ w1, b1))  # (b, 32)
    return tf.nn.bias_add(h @ w2, b2)  # (b, 10), logits


def cross_entropy(y: Tensor, logits: Tensor) -> Tensor:
    """Compute each example's loss from its logits."""
    return tf.nn.softmax_cross_entropy_with_logits(y, logits)


def mean(losses: Tensor, batch_size: int) -> Tensor:
    """Divide by the number of examples in this batch."""
    return tf.reduce_mean(losses)


def no_penalty(weights: Tensor) -> Tensor:
    """Add nothing to the loss."""
    return 0.0


def categorical(y: Tensor, logits: Tensor) -> Tensor:
    """Compare the most probable class with the true class."""
    classes = tf.argmax(tf.nn.softmax(logits), axis=1)
    hits = tf.equal(tf.argmax(y, axis=1), classes)
    return tf.cast(hits, y.dtype)  # (b,)


def in_training(phase: str) -> bool:
    """Pass training=True in the train step only."""
    return phase == "train"


def from_tape(tape: Any, loss: Tensor, weights: Tensor) -> Tensor:
    """Compute each gradient by its own operation."""
    return tape.gradient(loss, weights)


class Slots(NamedTuple):
    """What an optimizer remembers between steps; zero before the first step."""

    count: Any  # the number of updates so far, an int64 variable
    m: list[Any]  # variables of the weights' shapes, for means of gradients
    v: list[Any]  # likewise, for means of squared gradients


def sgd(weights: Any, gradients: Any, learning_rate: float, slots: Slots) -> None:
    """Plain SGD; the learning rate takes the gradient's dtype."""
    for w, g in zip(weights, gradients, strict=True):
        w.assign_sub(learning_rate * g)


def as_graph(step: Any, signature: Sequence[Any]) -> Any:
    """Trace a graph; TensorFlow's own kernels run its operations."""
    return tf.function(step, input_signature=signature)


def by_example(values: list[Array], sizes: list[int]) -> float:
    """Average over examples; the sum has the dtype of the run."""
    number = values[0].dtype.type
    total = number(0)
    for value, size in zip(values, sizes, strict=True):
        total += value.sum() if value.ndim else value * number(size)
    return float(total / number(sum(sizes)))


def during_epoch(logs: Metrics, evaluate: Callable[[], Metrics]) -> Metrics:
    """Report each batch's metrics from before its update."""
    return logs


# --- parts of the other pairs ---------------------------------------------------------


def up_to_255(x: Array) -> Array:
    """Keep the pixels in [0, 255], as stored."""
    return x * np.float32(255)


def linear(weights: Tensor, x: Tensor, training: bool) -> Tensor:
    """One weight and one bias: y = w x + b."""
    w, b = weights
    add = tf.add if data.keras_before("3.16") else tf.nn.bias_add  # as Keras's Dense
    return add(x @ w, b)  # (b, 1)


def squared_error(y: Tensor, y_pred: Tensor) -> Tensor:
    """Square each example's error."""
    return tf.square(y - y_pred)  # (b, 1)


def dropping(weights: Tensor, x: Tensor, training: bool) -> Tensor:
    """Drop half of the hidden units, in training only."""
    w1, b1, w2, b2, mask = weights
    h = tf.nn.relu(tf.nn.bias_add(x @ w1, b1))  # (b, 32)
    if training:
        h = tf.nn.experimental.stateless_dropout(h, RATE, seed=mask)
        mask.assign_add([0, 1])  # the next batch draws the next mask
    return tf.nn.bias_add(h @ w2, b2)  # (b, 10), logits


def convolution(weights: Tensor, x: Tensor, training: bool) -> Tensor:
    """One convolution with pooling, then the output layer."""
    k, c, w, b = weights
    h = tf.nn.conv2d(x, k, strides=1, padding="SAME")
    h = tf.nn.relu(tf.nn.bias_add(h, c))  # (b, 28, 28, 32)
    h = tf.nn.max_pool2d(h, ksize=2, strides=2, padding="SAME")
    h = tf.reshape(h, (-1, 14 * 14 * FILTERS))
    return tf.nn.bias_add(h @ w, b)  # (b, 10), logits


def sum_of_squares(weights: Tensor) -> Tensor:
    """Add the sum of squares, as Keras's L2 does."""
    kernels = weights[0], weights[2]
    first, second = (tf.reduce_sum(tf.square(w)) for w in kernels)
    return STRENGTH * first + STRENGTH * second


def clipped_each(tape: Any, loss: Tensor, weights: Tensor) -> Tensor:
    """Clip each gradient by its own norm: Keras's clipnorm."""
    gradients = tape.gradient(loss, weights)
    return [tf.clip_by_norm(g, NORM) for g in gradients]


def momentum(weights: Any, gradients: Any, learning_rate: float, slots: Slots) -> None:
    """Keras's momentum: the velocity includes the learning rate."""
    for w, g, m in zip(weights, gradients, slots.m, strict=True):
        m.assign(0.9 * m - learning_rate * g)
        w.assign_add(m)


def adam(weights: Any, gradients: Any, learning_rate: float, slots: Slots) -> None:
    """Keras's Adam: 1e-7 is added to the uncorrected root."""
    first, second = corrections(slots)
    rate = learning_rate * tf.sqrt(second) / first
    for w, m, v in moments(weights, gradients, slots):
        w.assign_sub(m * rate / (tf.sqrt(v) + 1e-7))


def corrections(slots: Slots) -> tuple[Tensor, Tensor]:
    """Count the step; return Adam's bias corrections, 1 - beta ** step."""
    dtype = slots.m[0].dtype
    step = tf.cast(slots.count.assign_add(1), dtype)
    first, second = (1 - tf.pow(tf.cast(b, dtype), step) for b in (0.9, 0.999))
    return first, second


def moments(weights: Tensor, gradients: Tensor, slots: Slots) -> Iterator[Tensor]:
    """Update the means of gradients and of their squares; yield w, m, v."""
    for w, g, m, v in zip(weights, gradients, slots.m, slots.v, strict=True):
        m.assign_add((g - m) * (1 - 0.9))
        v.assign_add((tf.square(g) - v) * (1 - 0.999))
        yield w, m, v
