"""`diagnose` on ports that train a clone of the Keras model with a tape of their own.

So the pairs may have any layer and any optimizer of Keras.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from kvt.compare.diagnose.ladder import diagnose
from kvt.compare.diagnose.port_side import Port

pytestmark = pytest.mark.long
Layers = Callable[[], list[Any]]
Part = Callable[..., Any]
SGD = keras.optimizers.SGD


class Centered(layers.Layer):  # type: ignore[misc]
    """Subtracts a moving mean; has no variance and no momentum."""

    def build(self, shape: Any) -> None:
        self.moving_mean = self.add_weight(
            shape=shape[1:], initializer="zeros", trainable=False, name="moving_mean"
        )

    def call(self, x: Any, training: bool = False) -> Any:
        if training:
            mean = tf.reduce_mean(x, axis=0)
            self.moving_mean.assign(0.9 * self.moving_mean + 0.1 * mean)
        return x - tf.convert_to_tensor(self.moving_mean)


class Noisy(layers.Layer):  # type: ignore[misc]
    """Adds noise in every phase: its `call` has no argument `training`."""

    def __init__(self, deviation: float) -> None:
        super().__init__()
        self.deviation = deviation
        self.seed_generator = keras.random.SeedGenerator(1)

    def call(self, x: Any) -> Any:
        shape = tf.shape(x)
        noise = keras.random.normal(
            shape, 0.0, self.deviation, seed=self.seed_generator
        )
        return x + noise


def made(some: Layers, columns: int) -> Any:
    keras.utils.set_random_seed(0)
    last = layers.Dense(3, activation="softmax")
    return keras.Sequential([keras.Input((columns,)), *some(), last])


def found_in(
    some: Layers,
    *,
    optimizer: Part = lambda: SGD(0.1),
    ported: Layers | None = None,  # the port's layers
    rule: Part | None = None,  # the port's optimizer
    inputs: Part = lambda x: x,
    n: int = 70,
    x: Any = None,
) -> Any:
    draw = np.random.default_rng(0)
    if x is None:
        x = draw.standard_normal((n, 8)).astype("float32")
    y = np.eye(3, dtype="float32")[draw.integers(0, 3, n)]
    model = made(some, x.shape[1])
    model.compile(optimizer(), "categorical_crossentropy")
    measured = keras.losses.CategoricalCrossentropy()

    def port(weights: Any) -> Port:
        clone = made(ported or some, x.shape[1])
        clone.set_weights(weights)
        own = (rule or optimizer)()
        own.build(clone.trainable_variables)

        def train_step(x: Any, y: Any) -> Any:
            with tf.GradientTape() as tape:
                loss = measured(y, clone(inputs(x), training=True))
            gradients = tape.gradient(loss, clone.trainable_weights)
            own.apply_gradients(zip(gradients, clone.trainable_weights, strict=True))
            return {"loss": loss}

        def test_step(x: Any, y: Any) -> Any:
            return {"loss": measured(y, clone(inputs(x), training=False))}

        steps = tf.function(train_step), tf.function(test_step)
        return Port(*steps, clone.weights)

    return diagnose(
        *(model, port, x, y),
        batch_size=16,
        epochs=2,
        validation_split=0.2,
        seed=1,
        verbose=0,
    )


EQUAL: dict[str, Layers] = {
    "layer normalization": lambda: [layers.Dense(6), layers.LayerNormalization()],
    "group normalization": lambda: [layers.Dense(6), layers.GroupNormalization(2)],
    "batch normalization": lambda: [layers.Dense(6), layers.BatchNormalization()],
    "LSTM with dropout": lambda: [
        layers.Reshape((4, 2)),
        layers.LSTM(3, dropout=0.3, recurrent_dropout=0.2, seed=1),
    ],
    "moving mean only": lambda: [Centered(), layers.Dense(6)],
    "noise in every phase": lambda: [Noisy(0.1), layers.Dense(6)],
}


@pytest.mark.parametrize("n", [70, 80], ids=["partial last batch", "full batches"])
@pytest.mark.parametrize("some", EQUAL.values(), ids=EQUAL)
def test_the_port_is_traced_as_fit_traces_it(some: Layers, n: int) -> None:
    found = found_in(some, n=n)
    assert (found.first, found.causes, found.experiments) == (None, (), 1)


HIDDEN: Layers = lambda: [layers.Dense(6, activation="relu")]  # noqa: E731


def test_nesterov_is_not_taken_for_another_momentum() -> None:
    found = found_in(
        HIDDEN,
        optimizer=lambda: SGD(0.1, momentum=0.9, nesterov=True),
        rule=lambda: SGD(0.1, momentum=0.9),
    )
    assert (found.first, found.cause, found.proof) == ("update", None, None)
    assert "what causes it is unknown" in found.notes[-1]


def test_pixels_may_be_integers() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (70, 8)).astype("uint8")
    found = found_in(HIDDEN, x=pixels, inputs=lambda x: tf.cast(x, "float32") / 255)
    assert found.causes == ("pixels_not_scaled",)
    assert found.proof in ("exact", "consistent")  # x / 255 is not x * (1 / 255)


@pytest.mark.parametrize(
    ("some", "ported"),
    [
        (
            lambda: [Centered(), layers.Dense(6)],
            lambda: [Centered(), layers.Dense(6, "relu")],
        ),
        (lambda: [Noisy(0.1), layers.Dense(6)], lambda: [Noisy(0.3), layers.Dense(6)]),
    ],
    ids=["moving mean only", "noise in every phase"],
)
def test_a_cause_outside_the_catalogue_is_not_named(
    some: Layers, ported: Layers
) -> None:
    found = found_in(some, ported=ported)
    assert found.first in ("forward", "loss")
    assert (found.causes, found.proof) == ((), None)
