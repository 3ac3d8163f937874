"""Switches that are often suspected and change no bit: the run proves each anew."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kvt import quiet
from kvt.compare.recipe import Slots, Step, Tensor, Tensors, Variables

with quiet():
    import tensorflow as tf


@dataclass(frozen=True)
class Suspect:
    """A switch that changes nothing.

    Attributes:
        name: what is suspected.
        note: why it changes nothing, and when it might.
        part: the field of `Recipe` that it replaces; "" for a switch of Keras's.
        variant: what stands there instead.
        options: for a switch of Keras's, what `compile` is told.
    """

    name: str
    note: str
    part: str = ""
    variant: Any = None
    options: Mapping[str, Any] = field(default_factory=dict)


def eager(step: Step, signature: object) -> Step:
    """No graph: each operation is computed as Python reaches it."""
    return step


def by_count(losses: Tensor, batch_size: int) -> Tensor:
    """The mean as a sum over a count."""
    return tf.reduce_sum(losses) / tf.cast(tf.size(losses), losses.dtype)


def of_logits(y: Tensor, logits: Tensor) -> Tensor:
    """The largest logit in place of the largest probability."""
    hits = tf.equal(tf.argmax(y, axis=1), tf.argmax(logits, axis=1))
    return tf.cast(hits, y.dtype)


def symbolic(tape: object, loss: Tensor, weights: Variables) -> Tensors:
    """TensorFlow 1's gradients, not gated."""
    return tf.gradients(loss, weights)


def fused(
    weights: Variables, gradients: Tensors, learning_rate: float, slots: Slots
) -> None:
    """TensorFlow 1's update: multiplication and subtraction in one operation."""
    for w, g in zip(weights, gradients, strict=True):
        tf.raw_ops.ResourceApplyGradientDescent(
            var=w.handle, alpha=learning_rate, delta=g
        )


def new_value(
    weights: Variables, gradients: Tensors, learning_rate: float, slots: Slots
) -> None:
    """The new value assigned whole."""
    for w, g in zip(weights, gradients, strict=True):
        w.assign(w - learning_rate * g)


INNOCENT = (
    Suspect(
        "Eager execution instead of a graph",
        "Slower, but the same operations. A graph may merge operations where oneDNN "
        "or XLA knows how: that is a cause of its own.",
        "compile",
        eager,
    ),
    Suspect(
        "`run_eagerly=True` in Keras",
        "The same, on the other side.",
        options={"run_eagerly": True},
    ),
    Suspect(
        "`steps_per_execution=5` in Keras",
        "Five steps a call; each is the same step.",
        options={"steps_per_execution": 5},
    ),
    Suspect(
        "`reduce_sum` over the count instead of `reduce_mean`",
        "That is how the mean is computed.",
        "reduce",
        by_count,
    ),
    Suspect(
        "The largest logit instead of the largest probability",
        "The softmax keeps the order, unless two probabilities round to one number.",
        "accuracy",
        of_logits,
    ),
    Suspect(
        "`tf.gradients` instead of a tape",
        "Both write the same operations; gated, they may be computed otherwise.",
        "gradients",
        symbolic,
    ),
    Suspect(
        "TensorFlow 1's fused update",
        "One operation in place of two rounds twice as well.",
        "update",
        fused,
    ),
    Suspect(
        "`assign(w - rate * g)` instead of `assign_sub`",
        "The same product, the same difference.",
        "update",
        new_value,
    ),
)
