"""The causes that `diagnose` knows.

A new cause is one entry of `CATALOGUE`: an id, its fix, a switch (see `switches`), and
the rungs where it can show first.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from kvt.compare.diagnose import switches as on
from kvt.compare.diagnose.orders import rule_of_order
from kvt.compare.diagnose.switches import Changes, Evidence, when
from kvt.compare.parts import cross_entropy
from kvt.data.quietly import quiet

with quiet():
    import keras
    import tensorflow as tf

STEP = "forward loss gradients update"
UPDATE = f"update {STEP}"  # tried first where the update differs and the loss is equal
ROUNDING = f"{STEP} rounding"  # causes that change only the last digits


@dataclass(frozen=True)
class KnownCause:
    """A cause that can be switched on."""

    fix: str  # the heading of its section in chapter 09, or a sentence with its period
    switch: Callable[[Evidence], Changes]
    rungs: str = STEP  # where it can show first


_STARTS = "Different initial weights"
_L2 = "l2_loss instead of L2"
CATALOGUE = {
    "transposed_variable": KnownCause(
        _STARTS, partial(on.at_start, on.transposed), "start"
    ),
    "variable_order": KnownCause(_STARTS, partial(on.at_start, on.reordered), "start"),
    "float64": KnownCause(
        "Float64 instead of float32", on.parts_in_float64, "start inputs"
    ),
    "initial_weights": KnownCause(
        _STARTS, partial(on.at_start, lambda a, b: True), "start"
    ),
    "pixels_not_scaled": KnownCause(
        "Pixels not scaled", on.other_scales, "inputs forward loss"
    ),
    "targets_without_axis": KnownCause(
        "Targets missing an axis", on.broadcast_targets, "inputs loss"
    ),
    **{
        name: KnownCause(heading, partial(rule_of_order, name), "order")
        for name, heading in {
            "random_split": "Random validation split",
            "not_shuffled": "Not shuffled",
            "with_replacement": "Sampling with replacement",
            "reshuffled": "Reshuffled each epoch",
            "small_buffer": "Small shuffle buffer",
            "batches_shuffled": "Batch before shuffle",
            "last_batch_dropped": "Last batch dropped",
            "order_of_another_keras": "The seed does not reach the order",
        }.items()
    },
    "dropout_left_off": KnownCause(
        "Dropout off in training",
        when(
            on.has(*on.MASKS),
            {"training": False},
            on.layer_setting(["rate"], "rate", 0),
        ),
    ),
    "dropout_left_on": KnownCause(
        "Dropout on in validation",
        when(
            on.has(*on.MASKS),
            on.layer_setting(on.MASKS, "call", on.trained_call),
            {"testing": True},
        ),
        f"{STEP} metrics",
    ),
    "frozen_moving_averages": KnownCause(
        "Update the moving mean and variance in the train step, and in no other step.",
        when(on.has(*on.AVERAGES), {"around": on.frozen_averages}, {"training": False}),
        UPDATE,
    ),
    "moving_average_momentum": KnownCause(
        "Multiply the old moving average by Keras's momentum, 0.99 by default.",
        on.momentum_of_averages,
        f"{UPDATE} metrics",
    ),
    "half_of_l2": KnownCause(
        _L2, when(lambda s: s.side.compiled.losses, {"penalty": 0.5})
    ),
    "l2_missing": KnownCause(
        _L2, when(lambda s: s.side.compiled.losses, {"penalty": 0})
    ),
    "class_weight_missing": KnownCause(
        "Multiply the loss of each example by the weight of its class.",
        when(lambda s: s.side.setup.class_weight, {"weighted": False}),
    ),
    "sum_instead_of_mean": KnownCause(
        "Sum instead of mean", when(lambda s: not s.rounding, on.summed_loss(1))
    ),
    "last_batch_weighs_less": KnownCause(
        "Last batch weighs less", on.light_last_batch, f"{STEP} metrics"
    ),
    "softmax_twice": KnownCause(
        "Softmax applied twice",
        on.entropy_by(lambda y, z: cross_entropy(y, tf.nn.softmax(z))),
    ),
    "eager_steps": KnownCause(
        "Wrap both steps in tf.function.",
        when(lambda s: not s.theirs.traced, {"compile": {"run_eagerly": True}}),
        ROUNDING,
    ),
    "log_of_softmax": KnownCause(
        "Log of softmax",
        on.from_logarithms(
            on.log_of(tf.identity),
            *(on.log_of(partial(tf.add, e)) for e in (1e-7, 1e-8, 1e-10)),
        ),
        ROUNDING,
    ),
    "probabilities_clipped": KnownCause(
        "Clipped probabilities",
        on.from_logarithms(
            *(
                on.log_of(lambda p, e=e: tf.clip_by_value(p, e, 1 - e))
                for e in (1e-7, 1e-10)
            )
        ),
        ROUNDING,
    ),
    "log_softmax_by_hand": KnownCause(
        "Log-softmax by hand",
        on.from_logarithms(
            tf.nn.log_softmax,
            lambda z: z - tf.reduce_logsumexp(z, axis=-1, keepdims=True),
        ),
        ROUNDING,
    ),
    "bias_added_with_plus": KnownCause(
        "Bias added with plus", lambda s: [{"around": on.bias_by_plus}], ROUNDING
    ),
    "xla": KnownCause(
        "XLA",
        lambda s: [{"compile": {"jit_compile": not s.side.compiled.jit_compile}}],
        ROUNDING,
    ),
    "learning_rate": KnownCause(
        "Use the learning rate of Keras's optimizer.", on.other_rates, UPDATE
    ),
    "global_clipnorm": KnownCause("Clipping by global norm", on.norm_of_all, UPDATE),
    "momentum_missing": KnownCause(
        "Momentum left at 0",
        when(
            on.momentum,
            {"optimizer": on.optimizer_arguments(momentum=0.0, nesterov=False)},
        ),
        UPDATE,
    ),
    "momentum_averaged": KnownCause("Averaged momentum", on.averaged, UPDATE),
    "decoupled_weight_decay": KnownCause(
        "Subtract learning_rate * weight_decay * weight; leave the gradient as it is.",
        on.coupled_decay,
        UPDATE,
    ),
    # After many steps, both corrections are 1.
    "bias_correction_missing": KnownCause(
        "Multiply the rate by sqrt(1 - beta_2 ** step) / (1 - beta_1 ** step).",
        when(lambda s: s.option("beta_2"), on.counted_from(10**6)),
        UPDATE,
    ),
    "epsilon_size": KnownCause("Adam epsilon value", on.other_epsilons, UPDATE),
    "epsilon_place": KnownCause("Adam epsilon placement", on.places_of_epsilon, UPDATE),
    "steps_off_by_one": KnownCause(
        "Count steps as Keras: from 1 in Adam's corrections, from 0 in a schedule.",
        when(
            lambda s: s.option("beta_2") or isinstance(s.option("learning_rate"), dict),
            on.counted_from(1),
            on.counted_from(-1),
        ),
        UPDATE,
    ),
    "validation_updates_weights": KnownCause(
        "Validate with a step that updates no weight.",
        when(
            lambda s: s.side.setup.validation_split,
            {"validation": "steps"},
            {"validation": "trains"},
        ),
        f"order {STEP}",
    ),
    "mean_of_batch_means": KnownCause(
        "Mean of batch means",
        on.reporting(lambda losses, measure: {"loss": float(np.mean(losses))}),
        "metrics",
    ),
    "metrics_of_last_batch": KnownCause(
        "Average a metric over all examples of an epoch.",
        on.reporting(lambda losses, measure: {"loss": losses[-1]}),
        "metrics",
    ),
    "loss_after_epoch": KnownCause(
        "Loss after the epoch",
        on.reporting(
            lambda losses, measure: {"loss": measure()["loss"]},
            lambda losses, measure: measure(),
        ),
        "metrics",
    ),
    "accuracy_binary": KnownCause(
        "Binary accuracy", on.accuracy_by(keras.metrics.BinaryAccuracy), "metrics"
    ),
    "accuracy_exact": KnownCause(
        "Exact accuracy", on.accuracy_by(keras.metrics.Accuracy), "metrics"
    ),
}
# Causes that can leave the same bits: if one of them does, the others are tried, too.
ALIKE = (
    {"bias_added_with_plus", "eager_steps"},
    {"log_of_softmax", "probabilities_clipped"},
    {"sum_instead_of_mean", "learning_rate", "last_batch_weighs_less"},
    {"dropout_left_off", "frozen_moving_averages"},
    {"epsilon_size", "epsilon_place"},
    {"mean_of_batch_means", "last_batch_weighs_less"},
    {"half_of_l2", "l2_missing", "decoupled_weight_decay"},
    {"bias_correction_missing", "steps_off_by_one", "learning_rate"},
)
