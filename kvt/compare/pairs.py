"""The pairs to start from: a Keras model, and the recipe that holds its bits."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from kvt import data
from kvt.compare import parity
from kvt.compare.recipe import (
    Array,
    Recipe,
    Run,
    Settings,
    Slots,
    Tensor,
    Tensors,
    Variables,
    Weights,
    runs,
    same_shape,
)
from kvt.data.quietly import quiet, without_warnings
from kvt.training import Recorder

with quiet():
    import keras
    import tensorflow as tf

RATE = 0.5  # of dropout
STRENGTH = 1e-3  # of the L2 penalty
NORM = 0.5  # to which a gradient is clipped
FILTERS = 32
SHARE = 6_000  # of MNIST, for all pairs but the first: ten whole ones take too long


class BaselineError(AssertionError):
    """A pair that had to be equal and is not, so that nothing can be measured on it."""


# --- recipes' parts that equal what Keras is told below -------------------------------


def bright(x: Array) -> Array:
    """Pixels from 0 to 255, as they are stored."""
    return x * np.float32(255)


def line(weights: Variables, x: Tensor, training: bool) -> Tensor:
    """One weight, one bias: y = w x + b, and no logits."""
    w, b = weights
    return x @ w + b  # (b, 1)


def squares(y: Tensor, y_pred: Tensor) -> Tensor:
    """Square each example's error."""
    return tf.square(y - y_pred)  # (b, 1)


def identity(outputs: Tensor) -> Tensor:
    """A line's output is its prediction."""
    return outputs


def dropping(weights: Variables, x: Tensor, training: bool) -> Tensor:
    """Drop half of the hidden units, but only in training."""
    w1, b1, w2, b2, mask = weights
    h = tf.nn.relu(tf.nn.bias_add(x @ w1, b1))  # (b, 32)
    if training:
        h = tf.nn.experimental.stateless_dropout(h, RATE, seed=mask)
        mask.assign_add([0, 1])  # the next batch, the next mask
    return tf.nn.bias_add(h @ w2, b2)  # (b, 10), logits


def convolution(weights: Variables, x: Tensor, training: bool) -> Tensor:
    """One convolution, pooled, and the output layer."""
    k, c, w, b = weights
    h = tf.nn.conv2d(x, k, strides=1, padding="SAME")
    h = tf.nn.relu(tf.nn.bias_add(h, c))  # (b, 28, 28, 32)
    h = tf.nn.max_pool2d(h, ksize=2, strides=2, padding="SAME")
    h = tf.reshape(h, (-1, 14 * 14 * FILTERS))
    return tf.nn.bias_add(h @ w, b)  # (b, 10), logits


def sum_of_squares(weights: Variables) -> Tensor:
    """Add the sum of squares, as Keras's L2 does."""
    kernels = weights[0], weights[2]
    first, second = (tf.reduce_sum(tf.square(w)) for w in kernels)
    return STRENGTH * first + STRENGTH * second


def clipped_each(tape: Any, loss: Tensor, weights: Variables) -> Tensors:
    """Keras's clipnorm: each gradient is shortened by itself."""
    gradients = tape.gradient(loss, weights)
    return [tf.clip_by_norm(g, NORM) for g in gradients]


def adam(
    weights: Variables, gradients: Tensors, learning_rate: float, slots: Slots
) -> None:
    """Keras's Adam: epsilon is 1e-7, the root not corrected."""
    first, second = late_starts(slots)
    rate = learning_rate * tf.sqrt(second) / first
    for w, m, v in moments(weights, gradients, slots):
        w.assign_sub(m * rate / (tf.sqrt(v) + 1e-7))


def with_momentum(
    weights: Variables, gradients: Tensors, learning_rate: float, slots: Slots
) -> None:
    """Keras's momentum: the rate goes into the velocity."""
    for w, g, m in zip(weights, gradients, slots.m, strict=True):
        m.assign(0.9 * m - learning_rate * g)
        w.assign_add(m)


def late_starts(slots: Slots) -> tuple[Tensor, Tensor]:
    """Count the step; return how far both means have come from their zero start."""
    dtype = slots.m[0].dtype
    step = tf.cast(slots.count.assign_add(1), dtype)
    first, second = (1 - tf.pow(tf.cast(b, dtype), step) for b in (0.9, 0.999))
    return first, second


def moments(
    weights: Variables, gradients: Tensors, slots: Slots
) -> Iterator[tuple[Any, Any, Any]]:
    """Move the means of gradients and of their squares; yield weight, m, v."""
    for w, g, m, v in zip(weights, gradients, slots.m, slots.v, strict=True):
        m.assign_add((g - m) * (1 - 0.9))
        v.assign_add((tf.square(g) - v) * (1 - 0.999))
        yield w, m, v


# --- Keras's side ---------------------------------------------------------------------


def network(seed: int, **options: Any) -> Any:
    """Section 03's network; `options` go to both dense layers."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((784,)),
            layers.Dense(32, activation="relu", **options),
            layers.Dense(10, activation="softmax", **options),
        ]
    )


def penalized(seed: int) -> Any:
    """The network with L2 on both kernels."""
    return network(seed, kernel_regularizer=keras.regularizers.L2(STRENGTH))


def with_dropout(seed: int) -> Any:
    """The network with dropout behind the hidden layer."""
    model = network(seed)
    hidden, output = model.layers
    dropout = keras.layers.Dropout(RATE, seed=seed)
    return keras.Sequential([keras.Input((784,)), hidden, dropout, output])


def convolutional(seed: int) -> Any:
    """One convolution, pooled, and the output layer."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(FILTERS, (5, 5), padding="same", activation="relu"),
            layers.MaxPooling2D((2, 2), padding="same"),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )


def one_unit(seed: int) -> Any:
    """Section 01's line."""
    return keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])


def plain(learning_rate: float) -> Any:
    """Keras's SGD."""
    return keras.optimizers.SGD(learning_rate)


def clipping(learning_rate: float) -> Any:
    """Keras's SGD with clipped gradients."""
    return keras.optimizers.SGD(learning_rate, clipnorm=NORM)


def momentum(learning_rate: float) -> Any:
    """Keras's SGD with momentum."""
    return keras.optimizers.SGD(learning_rate, momentum=0.9)


def keras_adam(learning_rate: float) -> Any:
    """Keras's Adam."""
    return keras.optimizers.Adam(learning_rate)


def no_state(initial: Weights, seed: int) -> Weights:
    """A model whose state is its weights."""
    return initial


def mask_state(initial: Weights, seed: int) -> Weights:
    """Append the dropout's seed and how many masks it has drawn."""
    return [*initial, np.array([seed, 0], "int32")]


@dataclass(frozen=True)
class Base:
    """A Keras model and the recipe that holds its bits.

    Attributes:
        name: what the notebook calls it.
        recipe: the raw training.
        model: seed → the Keras model, not compiled.
        optimizer: learning rate → Keras's optimizer.
        loss: Keras's name of the loss.
        settings: those that this pair needs otherwise than the notebook says.
        image_shape: of its inputs; () for the line's examples.
        train_size: at most so many training examples; 0 for no limit.
        dtype: of the whole training, on both sides.
        state: Keras's weights and the seed → the raw training's variables.
    """

    name: str
    recipe: Recipe = field(default_factory=Recipe)
    model: Callable[[int], Any] = network
    optimizer: Callable[[float], Any] = plain
    loss: str = "categorical_crossentropy"
    settings: Mapping[str, Any] = field(default_factory=dict)
    image_shape: tuple[int, ...] = (784,)
    train_size: int = SHARE
    dtype: str = "float32"
    state: Callable[[Weights, int], Weights] = no_state


BASES = {
    base.name: base
    for base in (
        Base("network", train_size=0),
        Base(
            "network, pixels to 255",
            Recipe(inputs=bright),
            settings={"learning_rate": 1e-4, "epochs": 1},
        ),
        Base("network in float64", dtype="float64"),
        Base("network, L2", Recipe(penalty=sum_of_squares), penalized),
        Base("network, clipnorm", Recipe(gradients=clipped_each), optimizer=clipping),
        Base(
            "network, momentum",
            Recipe(update=with_momentum),
            optimizer=momentum,
            settings={"learning_rate": 0.01},
        ),
        Base(
            "network, Adam",
            Recipe(update=adam),
            optimizer=keras_adam,
            settings={"learning_rate": 1e-3},
        ),
        Base(
            "network, dropout",
            Recipe(forward=dropping),
            with_dropout,
            state=mask_state,
        ),
        Base(
            "convolution",
            Recipe(forward=convolution),
            convolutional,
            image_shape=(28, 28, 1),
            settings={"batch_size": 32, "learning_rate": 0.02, "epochs": 2},
            train_size=200,
        ),
        Base(
            "line",
            Recipe(
                targets=same_shape,
                forward=line,
                losses=squares,
                accuracy=None,
                predicted=identity,
            ),
            one_unit,
            loss="mean_squared_error",
            settings={"batch_size": 16},
            image_shape=(),
        ),
    )
}


# --- the proof that they are equal ----------------------------------------------------


@dataclass(frozen=True)
class Baseline:
    """A pair as trained: what every cause on it is measured against.

    Attributes:
        base: the pair.
        examples: what it was trained and tested on.
        settings: the notebook's, with what the base changed.
        starts: seed → the weights that Keras drew.
        runs: seed → the raw run, equal to Keras's bit for bit.
    """

    base: Base
    examples: data.Data
    settings: Settings
    starts: dict[int, Weights]
    runs: dict[int, Run]


def baseline(
    base: Base, dataset: str, train_size: int, settings: Settings, seeds: range
) -> Baseline:
    """Train a pair from each seed, and refuse it unless all bits are equal.

    Raises BaselineError, which names the pair, the seed and what differs, and
    ValueError without a seed.
    """
    if not seeds:
        raise ValueError(f"{seeds} has no seed; at least 1 is needed; 3 show a spread")
    settings = replace(settings, **base.settings)
    examples = load(base, dataset, train_size, seeds[0])
    reference = keras_runs(base, examples, settings, seeds)
    starts = {seed: base.state(run.start, seed) for seed, run in reference.items()}
    raw_runs = runs(base.recipe, examples, settings, starts)
    for seed in seeds:
        unequal = differing(reference[seed], raw_runs[seed])
        if unequal:
            raise BaselineError(
                f"{base.name}, seed {seed}: Keras and raw TensorFlow differ in "
                f"{', '.join(unequal)}; they must hold the same bits, or no difference "
                "can be blamed on a cause; compare the recipe's parts with Keras's"
            )
    return Baseline(base, examples, settings, starts, raw_runs)


def load(base: Base, dataset: str, train_size: int, seed: int) -> data.Data:
    """Load what the base is trained on; `train_size` 0 takes all that it may."""
    if not base.image_shape:
        return data.line(seed=seed, dtype=base.dtype)
    if base.train_size:
        most = min(base.train_size, data.DATASETS[dataset])
        train_size = min(train_size or most, most)
    return data.load(
        dataset,
        train_size=train_size,
        image_shape=base.image_shape,
        dtype=base.dtype,
    )


def keras_runs(
    base: Base,
    examples: data.Data,
    settings: Settings,
    seeds: Iterable[int],
    **options: Any,
) -> dict[int, Run]:
    """Train the Keras model once from each seed; `options` go to `compile`."""
    with _floatx(base.dtype), without_warnings():
        model = base.model(0)
        model.compile(
            loss=base.loss,
            optimizer=base.optimizer(settings.learning_rate),
            metrics=["accuracy"] if base.recipe.accuracy else [],
            **{"jit_compile": False} | options,
        )
        model.optimizer.build(model.trainable_variables)
        state = [variable.numpy() for variable in model.optimizer.variables]
        found = {}
        for seed in seeds:  # one model, begun anew: its steps are traced only once
            keras.utils.set_random_seed(seed)
            _assign(model.variables, base.model(seed).variables)
            _assign(model.optimizer.variables, state)
            found[seed] = _keras_run(model, base.recipe.inputs, examples, settings)
    return found


def _keras_run(
    model: Any,
    inputs: Callable[[Array], Array],
    examples: data.Data,
    settings: Settings,
) -> Run:
    """Fit a compiled model, and keep what is compared."""
    x_test, y_test = inputs(examples.x_test), examples.y_test
    quietly = {"batch_size": settings.batch_size, "verbose": 0}
    seen = FirstStep(model.get_weights)
    run = Run(model.get_weights())
    history = model.fit(
        inputs(examples.x_train),
        examples.y_train,
        epochs=settings.epochs,
        validation_split=settings.validation_split,
        callbacks=[seen],
        **quietly,
    )
    run.first, run.first_loss = seen.first, seen.first_loss
    run.epochs, run.history = seen.weights, history.history
    run.test = model.evaluate(x_test, y_test, return_dict=True, **quietly)
    run.predictions = model.predict(x_test, **quietly)
    return run


def _assign(variables: Sequence[Any], values: Sequence[Any]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


class FirstStep(Recorder):
    """Keep the first batch's loss and the weights after it, besides each epoch's."""

    first: Weights
    first_loss: float

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        """Wait for the first batch."""
        self.first = []

    def on_train_batch_end(
        self, batch: int, logs: Mapping[str, float] | None = None
    ) -> None:
        """Look at the first one only."""
        if not self.first:
            self.first = [np.array(weight) for weight in self._get_weights()]
            self.first_loss = (logs or {})["loss"]


def differing(one: Run, other: Run) -> list[str]:
    """Name what two runs do not have in common, to the last bit."""
    names = {
        "initial weights": parity.same_bits(one.start, other.start),
        "the first batch's loss": _same(one.first_loss, other.first_loss),
        "weights after one step": parity.same_bits(one.first, other.first),
        "weights after an epoch": len(one.epochs) == len(other.epochs)
        and all(map(parity.same_bits, one.epochs, other.epochs)),
        "history": parity.same_history(one.history, other.history),
        "test figures": parity.same_history(one.test, other.test),
        "predictions": parity.same_bits([one.predictions], [other.predictions]),
    }
    return [name for name, same in names.items() if not same]


def _same(one: Any, other: Any) -> bool:
    return np.array_equal(one, other, equal_nan=True)


@contextlib.contextmanager
def _floatx(dtype: str) -> Iterator[None]:
    """Let Keras hold weights, inputs, rate and metrics in `dtype` for as long."""
    before = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        keras.config.set_floatx(before[0])
        keras.config.set_dtype_policy(before[1])
