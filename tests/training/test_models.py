"""Every kind of model has Keras's bits, for any number of steps per call.

Each kind is a Keras model. Keras trains it with `fit`; `kvt.fit` trains a copy by a
step that calls the same layers, loss and optimizer, in several modes, with and without
a smaller last batch. Weights and history must be equal to the last bit.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import kvt
from kvt.compare import parity

pytestmark = pytest.mark.long

BATCH, STEPS, EPOCHS = 4, 11, 2  # 11 steps: two rounds of a graph's loop and the rest
# Steps per call, by the number of examples that the last batch lacks. Each mode traces
# the model again, which takes the time.
Modes = dict[int, list[int | str]]
ALL: Modes = {lacking: [1, 2, 5, "epoch"] for lacking in (0, 1)}
FEW: Modes = {1: [1, "epoch"]}
# The first of these know the size of batches, or draw random numbers: modes differ.
MODES: dict[str, Modes] = {
    **{n: {0: ["epoch"], 1: [1, 2, 5]} for n in ("embedding", "weighted", "dropout")},
    "layer normalization": {0: [2, "epoch"], 1: [1]},
    "GRU": {1: [1, 2]},
    "both directions": {0: [2]},
}
Layers = list[Any]


@dataclass(frozen=True)
class Kind:
    """A kind of model, and how it is trained."""

    layers: Callable[[], Layers]  # made anew for each model
    shape: tuple[int, ...] = (6,)  # of an example
    optimizer: Callable[[], Any] = lambda: keras.optimizers.SGD(0.1)
    loss: str = "mse"
    weighted: bool = False
    policy: str = "float32"


def dense(units: int = 3, **options: Any) -> Any:
    return layers.Dense(units, **options)


class Sum(layers.Layer):
    """The sum of three dense layers and the input; Grappler may reorder it."""

    def build(self, shape: Any) -> None:
        self.parts = [dense(shape[-1]) for _ in range(3)]
        for part in self.parts:
            part.build(shape)

    def call(self, x: Any) -> Any:
        a, b, c = (part(x) for part in self.parts)
        return x + a + b * 0.3 + c


class Attention(layers.Layer):
    """Attention of a sequence to itself."""

    def build(self, shape: Any) -> None:
        self.heads = layers.MultiHeadAttention(2, 3)
        self.heads.build(shape, shape)

    def call(self, x: Any) -> Any:
        return x + self.heads(x, x)


def after(*others: Any) -> Callable[[], Layers]:
    """Return layers with a dense one behind them."""
    return lambda: [other() for other in others] + [dense()]


SEQUENCE, IMAGE = (5, 4), (8, 8, 2)
KINDS = {
    "dense": Kind(after(lambda: dense(8, activation="relu"))),
    "one unit": Kind(lambda: [dense(1)]),
    "softmax": Kind(
        lambda: [dense(3, activation="softmax")], loss="categorical_crossentropy"
    ),
    "sigmoid": Kind(
        lambda: [dense(3, activation="sigmoid")], loss="binary_crossentropy"
    ),
    "Huber": Kind(after(lambda: dense(8, activation="tanh")), loss="huber"),
    "convolution": Kind(
        after(
            lambda: layers.Conv2D(4, 3, activation="relu"),
            layers.MaxPooling2D,
            layers.Flatten,
        ),
        IMAGE,
    ),
    "separable convolution": Kind(
        after(lambda: layers.SeparableConv2D(4, 3), layers.GlobalAveragePooling2D),
        IMAGE,
    ),
    "LSTM": Kind(after(lambda: layers.LSTM(4)), SEQUENCE),
    "GRU": Kind(after(lambda: layers.GRU(4)), SEQUENCE),
    "both directions": Kind(
        after(lambda: layers.Bidirectional(layers.SimpleRNN(3))), SEQUENCE
    ),
    "embedding": Kind(
        after(lambda: layers.Embedding(9, 4), layers.GlobalAveragePooling1D), (5,)
    ),
    "batch normalization": Kind(after(lambda: dense(8), layers.BatchNormalization)),
    "normalized convolution": Kind(
        after(
            lambda: layers.Conv2D(4, 3),
            layers.BatchNormalization,
            layers.ReLU,
            layers.Flatten,
        ),
        IMAGE,
    ),
    "layer normalization": Kind(after(lambda: dense(8), layers.LayerNormalization)),
    "group normalization": Kind(
        after(lambda: layers.GroupNormalization(2), layers.Flatten), (4, 4, 6)
    ),
    "attention": Kind(after(Attention, layers.GlobalAveragePooling1D), SEQUENCE),
    "sum": Kind(after(Sum)),
    "dropout": Kind(after(lambda: dense(8), lambda: layers.Dropout(0.5, seed=3))),
    "noise": Kind(after(lambda: layers.GaussianNoise(0.5, seed=3), lambda: dense(8))),
    "weighted": Kind(after(lambda: dense(8)), weighted=True),
    "L2": Kind(after(lambda: dense(8, kernel_regularizer=keras.regularizers.L2(0.01)))),
    "Adam": Kind(
        after(lambda: dense(8)), optimizer=lambda: keras.optimizers.Adam(0.01)
    ),
    "RMSprop": Kind(
        after(lambda: dense(8)), optimizer=lambda: keras.optimizers.RMSprop(0.01)
    ),
    "momentum": Kind(
        after(lambda: dense(8)),
        optimizer=lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    ),
    "clipping": Kind(
        after(lambda: dense(8)),
        optimizer=lambda: keras.optimizers.SGD(0.5, global_clipnorm=0.1),
    ),
    "decay": Kind(
        after(lambda: dense(8)), optimizer=lambda: keras.optimizers.AdamW(0.01)
    ),
    "float16": Kind(after(lambda: dense(8)), policy="mixed_float16"),
    "bfloat16": Kind(after(lambda: dense(8)), policy="mixed_bfloat16"),
    "float64": Kind(after(lambda: dense(8)), policy="float64"),
}


@pytest.fixture(autouse=True)
def defaults() -> Iterator[None]:
    """Keep Keras's own settings."""
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    keras.backend.clear_session()


def rows(kind: Kind, lacking: int) -> dict[str, np.ndarray]:
    """Return the arguments `x`, `y` and, if weighted, `sample_weight`."""
    n = BATCH * STEPS - lacking
    random = np.random.default_rng(1)
    dtype = "float64" if kind.policy == "float64" else "float32"
    x = random.standard_normal((n, *kind.shape)).astype(dtype)
    units = kind.layers()[-1].units
    y = random.uniform(size=(n, units)).astype(dtype)
    if isinstance(kind.layers()[0], layers.Embedding):
        x = random.integers(0, 9, (n, *kind.shape)).astype("int32")
    if kind.loss == "categorical_crossentropy":
        y = np.eye(units, dtype=dtype)[random.integers(0, units, n)]
    weights = {"sample_weight": random.uniform(0, 2, n).astype(dtype)}
    return {"x": x, "y": y} | (weights if kind.weighted else {})


def model_of(kind: Kind) -> Any:
    """Return a compiled model, with the same initial weights each time."""
    keras.utils.set_random_seed(5)
    if kind.policy == "float64":
        keras.config.set_floatx("float64")
    keras.config.set_dtype_policy(kind.policy)
    model = keras.Sequential([keras.Input(kind.shape), *kind.layers()])
    model.compile(kind.optimizer(), kind.loss, metrics=["mae"], jit_compile=False)
    return model


def step_of(model: Any) -> Any:
    """Return a step that trains the model as Keras's own does."""

    @tf.function(autograph=False)
    def step(x: Any, y: Any, sample_weight: Any = None) -> Mapping[str, Any]:
        with tf.GradientTape() as tape:
            y_pred = model(x, training=True)
            loss = model.compute_loss(x, y, y_pred, sample_weight)
            scaled = model.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, model.trainable_weights)
        model.optimizer.apply_gradients(
            zip(gradients, model.trainable_weights, strict=True)
        )
        error = keras.losses.mean_absolute_error(y, y_pred)
        return {"loss": loss, "mae": error}

    return step


Training = tuple[dict[str, list[float]], list[np.ndarray]]  # history, variables


def trainings(
    kind: Kind, model: Any, modes: Modes
) -> Iterator[tuple[str, Training, Training]]:
    """Yield trainings: what is tried, kvt's result, and Keras's."""
    step = step_of(model)
    model.optimizer.build(model.trainable_variables)
    variables = [*model.variables, *model.optimizer.variables]
    start = [variable.numpy() for variable in variables]

    def train(fit: Callable[..., Any], **options: Any) -> Training:
        for variable, value in zip(variables, start, strict=True):
            variable.assign(value)
        how = {"batch_size": BATCH, "epochs": EPOCHS, "verbose": 0, "shuffle": False}
        history = fit(**rows(kind, lacking), **how, **options).history
        return history, [np.asarray(variable) for variable in variables]

    for lacking in modes:
        expected = train(model.fit)
        for mode in modes[lacking]:
            result = train(partial(kvt.fit, step, step), steps_per_execution=mode)
            yield f"mode {mode}, last batch lacks {lacking}", result, expected


@pytest.mark.parametrize("name", KINDS)
def test_a_model_has_the_bits_of_keras(name: str) -> None:
    check(KINDS[name], MODES.get(name, FEW))


@pytest.mark.wide
@pytest.mark.parametrize("name", KINDS)
def test_a_model_has_the_bits_of_keras_in_every_mode(name: str) -> None:
    check(KINDS[name], ALL)


def check(kind: Kind, modes: Modes) -> None:
    for case, result, expected in trainings(kind, model_of(kind), modes):
        if kind.weighted:  # Keras does not weight this metric
            assert result[0]["loss"] == expected[0]["loss"], case
        else:
            assert result[0] == {n: expected[0][n] for n in result[0]}, case
        for value, of_keras in zip(result[1], expected[1], strict=True):
            assert parity.same_bits(value, of_keras), case


@pytest.fixture
def not_regrouped() -> Iterator[None]:
    """Keep Grappler from adding the parts of a loss to the total of an epoch."""
    option = "arithmetic_optimization"
    tf.config.optimizer.set_experimental_options({option: False})
    yield
    tf.config.optimizer.set_experimental_options({option: True})


def two_losses(lengths: tuple[int, int]) -> tuple[Training, Training]:
    """Train a model with two outputs on batches of one example; kvt's, then Keras's."""
    keras.utils.set_random_seed(5)
    x = keras.Input((5,))
    model = keras.Model(x, [dense(length)(dense(4)(x)) for length in lengths])
    model.compile(keras.optimizers.SGD(0.05), ["mse", "mae"])
    start = model.get_weights()

    @tf.function(autograph=False)
    def step(x: Any, y: Any) -> Mapping[str, Any]:
        with tf.GradientTape() as tape:
            loss = model.compute_loss(x, y, model(x, training=True))
        gradients = tape.gradient(loss, model.trainable_weights)
        for variable, gradient in zip(model.trainable_weights, gradients, strict=True):
            variable.assign_sub(0.05 * gradient)
        return {"loss": loss}

    random = np.random.default_rng(0)
    given = random.standard_normal((30, 5)).astype("float32")
    targets = [random.standard_normal((30, n)).astype("float32") for n in lengths]

    def train(fit: Callable[..., Any]) -> Training:
        model.set_weights(start)
        how = {"batch_size": 1, "epochs": 2, "verbose": 0, "shuffle": False}
        history = fit(given, targets, **how).history
        return {"loss": history["loss"]}, model.get_weights()

    return train(partial(kvt.fit, step, step)), train(model.fit)


def test_the_weights_of_a_sum_of_losses_have_the_bits_of_keras_in_batches_of_one() -> (
    None
):
    (_, ours), (_, theirs) = two_losses((1, 2))
    assert all(map(parity.same_bits, ours, theirs))


def test_a_sum_of_losses_has_the_bits_of_keras_that_does_not_regroup_batches_of_one(
    not_regrouped: None,
) -> None:
    ours, theirs = two_losses((1, 1))
    assert ours[0] == theirs[0]
    assert all(map(parity.same_bits, ours[1], theirs[1]))
