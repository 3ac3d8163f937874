"""Pairs: a Keras model, and the raw training that has the same bits."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from kvt import data
from kvt.compare import parts
from kvt.compare.parity import ParityError, same_bits, same_history
from kvt.compare.parts import NORM, RATE, STRENGTH, Metrics, Weights
from kvt.compare.recipe import Recipe, Settings, Trained, Training
from kvt.data.quietly import quiet, without_warnings

with quiet():
    import keras
    import tensorflow as tf

SHARE = 6_000  # of MNIST for all pairs but the first: ten on all of it take too long


def network(seed: int, *, dropout: bool = False, **options: Any) -> Any:
    """Create chapter 03's network; `options` go to both dense layers."""
    hidden = keras.layers.Dense(32, activation="relu", **options)
    output = keras.layers.Dense(10, activation="softmax", **options)
    between = [keras.layers.Dropout(RATE, seed=seed)] if dropout else []
    return keras.Sequential([keras.Input((784,)), hidden, *between, output])


def convolutional(seed: int) -> Any:
    """Create one convolution with pooling, and the output layer."""
    same: dict[str, Any] = {"padding": "same"}
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(parts.FILTERS, (5, 5), activation="relu", **same),
            keras.layers.MaxPooling2D((2, 2), **same),
            keras.layers.Flatten(),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )


def one_unit(seed: int) -> Any:
    """Create chapter 01's linear regression."""
    return keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])


def with_mask(initial: Weights, seed: int) -> Weights:
    """Append the dropout's seed and the number of masks drawn so far."""
    return [*initial, np.array([seed, 0], "int32")]


@dataclass(frozen=True)
class Pair:
    """A Keras model, and the recipe with the same bits."""

    recipe: Recipe = field(default_factory=Recipe)
    model: Callable[[int], Any] = network  # seed -> Keras model, not compiled
    optimizer: Callable[[float], Any] = keras.optimizers.SGD  # of a learning rate
    loss: str = "categorical_crossentropy"
    settings: Mapping[str, Any] = field(default_factory=dict)  # unlike the notebook's
    image_shape: tuple[int, ...] = (784,)  # () for linear regression's examples
    train_size: int = SHARE  # the largest number of training examples; 0: no limit
    dtype: str = "float32"  # of the whole training, on both sides
    state: Callable[[Weights, int], Weights] = parts.keras_weights  # or more than them


L2 = partial(network, kernel_regularizer=keras.regularizers.L2(STRENGTH))
CLIPPING = partial(keras.optimizers.SGD, clipnorm=NORM)
PAIRS = {
    "network": Pair(train_size=0),
    "network, pixels to 255": Pair(
        Recipe(inputs=parts.up_to_255), settings={"learning_rate": 1e-4, "epochs": 1}
    ),
    "network in float64": Pair(dtype="float64"),
    "network, L2": Pair(Recipe(penalty=parts.sum_of_squares), L2),
    "network, clipnorm": Pair(Recipe(gradients=parts.clipped_each), optimizer=CLIPPING),
    "network, momentum": Pair(
        Recipe(update=parts.momentum),
        optimizer=partial(keras.optimizers.SGD, momentum=0.9),
        settings={"learning_rate": 0.01},
    ),
    "network, Adam": Pair(
        Recipe(update=parts.adam),
        optimizer=keras.optimizers.Adam,
        settings={"learning_rate": 1e-3},
    ),
    "network, dropout": Pair(
        Recipe(forward=parts.dropping), partial(network, dropout=True), state=with_mask
    ),
    "convolution": Pair(
        Recipe(forward=parts.convolution),
        convolutional,
        image_shape=(28, 28, 1),
        settings={"batch_size": 32, "learning_rate": 0.02, "epochs": 2},
        train_size=200,
    ),
    "linear regression": Pair(
        Recipe(
            forward=parts.linear,
            losses=parts.squared_error,
            accuracy=None,
            predicted=tf.identity,
        ),
        one_unit,
        loss="mean_squared_error",
        settings={"batch_size": 16},
        image_shape=(),
    ),
}


@dataclass(frozen=True)
class EqualPair:
    """A pair, trained and proven equal: what every change is measured against."""

    name: str
    pair: Pair
    keras: "FittedKeras"
    training: Training  # the raw one
    trained: dict[int, Trained]  # by seed, equal to Keras bit for bit


def prove_equal(
    name: str, dataset: str, train_size: int, settings: Settings, seeds: range
) -> EqualPair:
    """Train the pair of that name from each seed; at least one is needed.

    Raises ParityError if any bit differs: it names the pair, the seed, the difference.
    """
    pair = PAIRS[name]
    settings = replace(settings, **pair.settings)
    examples = load(pair, dataset, train_size, seeds[0])
    in_keras = FittedKeras(pair, examples, settings)
    expected = in_keras.run(seeds, settings.epochs)
    starts = {seed: pair.state(one.start, seed) for seed, one in expected.items()}
    training = Training(pair.recipe, examples, settings, starts)
    trained = training.run()
    _verify_equal(name, expected, trained)
    return EqualPair(name, pair, in_keras, training, trained)


def lasting(equal: EqualPair, epochs: int) -> EqualPair:
    """Train a pair for so many epochs, from its first seed; raise as `prove_equal`."""
    seed = next(iter(equal.trained))
    training = equal.training.lasting(epochs)
    trained = training.run(seed)
    _verify_equal(equal.name, equal.keras.run([seed], epochs), trained)
    return replace(equal, training=training, trained=trained)


def _verify_equal(
    name: str, expected: Mapping[int, Trained], trained: Mapping[int, Trained]
) -> None:
    for seed, one in expected.items():
        if unequal := differences(one, trained[seed]):
            raise ParityError(
                f"{name}, seed {seed}: Keras and raw TensorFlow differ in "
                f"{', '.join(unequal)}; both must have the same bits, or no cause can "
                "be measured; compare the recipe's parts with Keras"
            )


def load(pair: Pair, dataset: str, train_size: int, seed: int) -> data.Data:
    """Load a pair's examples; `train_size` 0 takes as many as the pair allows."""
    if not pair.image_shape:
        return data.line(seed=seed, dtype=pair.dtype)
    if pair.train_size:
        most = min(pair.train_size, data.DATASETS[dataset])
        train_size = min(train_size or most, most)
    options: Any = {"image_shape": pair.image_shape, "dtype": pair.dtype}
    return data.load(dataset, train_size=train_size, **options)


class FittedKeras:
    """A compiled Keras model of a pair; Keras traces its steps once for all runs."""

    def __init__(
        self, pair: Pair, examples: data.Data, settings: Settings, **options: Any
    ) -> None:
        """Compile the model; `options` go to `compile`."""
        self._pair, self._batch_size = pair, settings.batch_size
        inputs = pair.recipe.inputs
        self._train = inputs(examples.x_train), examples.y_train
        self._test = inputs(examples.x_test), examples.y_test
        self._split = settings.validation_split
        with in_dtype(pair.dtype):
            self._model = pair.model(0)
            self._model.compile(
                loss=pair.loss,
                optimizer=pair.optimizer(settings.learning_rate),
                metrics=["accuracy"] if pair.recipe.accuracy else [],
                **{"jit_compile": False} | options,
            )
            optimizer = self._model.optimizer
            optimizer.build(self._model.trainable_variables)
            self._state = [variable.numpy() for variable in optimizer.variables]

    def run(self, seeds: Iterable[int], epochs: int) -> dict[int, Trained]:
        """Train once from each seed; return results by seed."""
        with without_warnings(), in_dtype(self._pair.dtype):
            return {seed: self._run(seed, epochs) for seed in seeds}

    def _run(self, seed: int, epochs: int) -> Trained:
        model = self._model
        keras.utils.set_random_seed(seed)
        variables = [*model.variables, *model.optimizer.variables]
        values = [*self._pair.model(seed).variables, *self._state]
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        trained = Trained(model.get_weights())

        def keep_first(batch: int, logs: Metrics) -> None:
            if not trained.first:
                trained.first, trained.first_loss = model.get_weights(), logs["loss"]

        keep = keras.callbacks.LambdaCallback(
            on_train_batch_end=keep_first,
            on_epoch_end=lambda epoch, logs: trained.epochs.append(model.get_weights()),
        )
        quietly: dict[str, Any] = {"batch_size": self._batch_size, "verbose": 0}
        split, kept = self._split, [keep]
        trained.history = model.fit(
            *self._train,
            epochs=epochs,
            validation_split=split,
            callbacks=kept,
            **quietly,
        ).history
        trained.test = model.evaluate(*self._test, return_dict=True, **quietly)
        x_test, _ = self._test
        batches = parts.cut(np.arange(len(x_test)), self._batch_size)
        predictions = [model.predict_on_batch(x_test[rows]) for rows in batches]
        trained.predictions = np.concatenate(predictions)
        return trained


@contextmanager
def in_dtype(dtype: str) -> Iterator[None]:
    """Set the dtype of inputs, weights, learning rate and metrics in Keras."""
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(policy)


def differences(one: Trained, other: Trained) -> list[str]:
    """Name everything that two trainings do not share to the last bit."""
    first = {"loss": one.first_loss}, {"loss": other.first_loss}
    same = {
        "initial weights": same_bits(one.start, other.start),
        "the first batch's loss": same_history(*first),
        "weights after one step": same_bits(one.first, other.first),
        "weights after an epoch": same_bits(one.epochs, other.epochs),
        "history": same_history(one.history, other.history),
        "test metrics": same_history(one.test, other.test),
        "predictions": same_bits(one.predictions, other.predictions),
    }
    return [name for name, equal in same.items() if not equal]
