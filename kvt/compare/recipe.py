"""One raw TensorFlow 2 training, made of parts that can be exchanged one at a time.

The default `Recipe` is the feedforward network of chapter 03 under plain SGD, and has
the same bits as Keras.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from kvt import data
from kvt.compare import parts
from kvt.compare.parts import Metrics, Rows, Tensor, Weights
from kvt.data import Array
from kvt.data.quietly import quiet, without_warnings
from kvt.training import History

with quiet():
    import tensorflow as tf

Part = Callable[..., Any]
# Parts that leave the compiled steps as they are: trainings share the steps.
OUTSIDE_STEPS = {"start", "split", "batches", "average", "report"}


@dataclass(frozen=True)
class Recipe:
    """The exchangeable parts of a training: each field is a function, or None."""

    start: Part = parts.keras_weights  # (initial, seed) -> weights to start from
    inputs: Part = parts.scaled  # (x) -> x; the whole training takes its dtype
    targets: Part = parts.same_shape  # (y) -> y
    split: Part = parts.tail  # (n, validation_split, seed) -> training, held-back rows
    batches: Part = parts.keras_order  # (n, batch_size, seed, epoch) -> arrays of rows
    forward: Part = parts.dense  # (weights, x, training) -> outputs (b, …)
    training: Part = parts.in_training  # ("train" or "test") -> training, for forward
    losses: Part = parts.cross_entropy  # (y, outputs) -> one loss per example
    reduce: Part = parts.mean  # (losses, batch_size) -> the batch's loss
    penalty: Part = parts.no_penalty  # (weights) -> what is added to the loss
    accuracy: Part | None = parts.categorical  # (y, outputs) -> hits (b,)
    gradients: Part = parts.from_tape  # (tape, loss, weights) -> gradients
    update: Part = parts.sgd  # (weights, gradients, learning_rate, slots); assigns
    compile: Part = parts.as_graph  # (step, signature) -> the step to call
    average: Part = parts.by_example  # (values by batch, batch sizes) -> metric
    report: Part = parts.during_epoch  # (logs, a function that evaluates) -> logs
    predicted: Part = tf.nn.softmax  # (outputs) -> predictions


@dataclass(frozen=True)
class Settings:
    """The numbers that all trainings of a comparison share."""

    epochs: int
    batch_size: int
    learning_rate: float
    validation_split: float


@dataclass
class Trained:
    """What one training produced."""

    start: Weights  # before the first step
    first_loss: float = np.nan  # of the first batch, before any update
    first: Weights = field(default_factory=list)  # after one step
    epochs: list[Weights] = field(default_factory=list)  # after each epoch
    history: dict[str, list[float]] = field(default_factory=dict)
    test: Metrics = field(default_factory=dict)  # on the test set, at the end
    predictions: Array = field(default_factory=lambda: np.empty(0))  # (n, outputs)


@dataclass(eq=False)
class Training:
    """A recipe with its data, its variables and its compiled steps.

    `train_step` takes a batch, x and y, and returns its metrics, as `kvt.fit` expects;
    `test_step` returns metrics and predictions, and updates nothing.
    """

    recipe: Recipe
    examples: data.Data
    settings: Settings
    starts: Mapping[int, Weights]  # by seed; integer arrays count: they are not trained

    def __post_init__(self) -> None:
        recipe, examples = self.recipe, self.examples
        self._x, self._y = self._prepared(examples.x_train, examples.y_train)
        self._test = self._prepared(examples.x_test, examples.y_test)
        self._variables: list[Any] = []
        for value in next(iter(self.starts.values())):
            trained = value.dtype.kind == "f"
            value = value.astype(self._x.dtype) if trained else value
            self._variables.append(tf.Variable(value, trainable=trained))
        self._weights = [w for w in self._variables if w.trainable]
        zeros = ([tf.Variable(tf.zeros_like(w)) for w in self._weights] for _ in "mv")
        self._slots = parts.Slots(tf.Variable(0, dtype="int64"), *zeros)
        signature = [
            tf.TensorSpec((None, *v.shape[1:]), v.dtype) for v in (self._x, self._y)
        ]
        # AutoGraph would search every part for conditions on tensors: there are none.
        as_written = tf.autograph.experimental.do_not_convert
        self.train_step = recipe.compile(as_written(self._train), signature)
        self.test_step = recipe.compile(as_written(self._measure), signature)

    def changed(self, **change: Any) -> "Training":
        """Return this training with other parts, compiled again only if necessary."""
        recipe = replace(self.recipe, **change)
        if not change.keys() <= OUTSIDE_STEPS:
            return Training(recipe, self.examples, self.settings, self.starts)
        other = copy.copy(self)
        other.recipe = recipe
        return other

    def lasting(self, epochs: int) -> "Training":
        """Return this training with another number of epochs."""
        other = copy.copy(self)
        other.settings = replace(self.settings, epochs=epochs)
        return other

    def run(self, *seeds: int) -> dict[int, Trained]:
        """Train once from each start, or those of `seeds`; return results by seed."""
        chosen = seeds or self.starts
        with without_warnings():
            return {seed: self._run(self.starts[seed], seed) for seed in chosen}

    def begin(self, initial: Weights, seed: int) -> None:
        """Set the weights to the recipe's start and the slots to zero."""
        start = self.recipe.start(initial, seed)
        for variable, value in zip(self._variables, start, strict=True):
            variable.assign(tf.cast(value, variable.dtype))
        for slot in tf.nest.flatten(self._slots):
            slot.assign(tf.zeros_like(slot))

    def values(self) -> Weights:
        """Copy the current weights."""
        return [w.numpy() for w in self._weights]

    def _run(self, initial: Weights, seed: int) -> Trained:
        recipe, settings, x, y = self.recipe, self.settings, self._x, self._y
        self.begin(initial, seed)
        trained, history = Trained(self.values()), History()
        rows, held_back = recipe.split(len(x), settings.validation_split, seed)
        for epoch in range(settings.epochs):
            order = recipe.batches(len(rows), settings.batch_size, seed, epoch)
            logs = self._train_epoch([rows[batch] for batch in order], trained)
            logs = recipe.report(logs, lambda: self._evaluate(x[rows], y[rows])[0])
            if len(held_back):
                val, _ = self._evaluate(x[held_back], y[held_back])
                logs = logs | {f"val_{name}": value for name, value in val.items()}
            history.append(epoch, logs)
            trained.epochs.append(self.values())
        trained.history = history.history
        trained.test, _ = self._evaluate(*self._test)
        # In a second pass, as Keras predicts: dropout left on draws other masks.
        _, trained.predictions = self._evaluate(*self._test)
        return trained

    def _prepared(self, x: Array, y: Array) -> tuple[Array, Array]:
        x = self.recipe.inputs(x)
        return x, self.recipe.targets(y).astype(x.dtype, copy=False)

    def _forward(self, x: Tensor, y: Tensor, phase: str) -> tuple[Any, Tensor]:
        """Return the batch's loss, each example's hit or miss, and the outputs."""
        recipe = self.recipe
        outputs = recipe.forward(self._variables, x, recipe.training(phase))
        losses = recipe.losses(y, outputs)
        loss = recipe.reduce(losses, self.settings.batch_size)
        logs = {"loss": loss + recipe.penalty(self._weights)}
        if recipe.accuracy is not None:
            logs["accuracy"] = recipe.accuracy(y, outputs)
        return logs, outputs

    def _train(self, x: Tensor, y: Tensor) -> Any:
        with tf.GradientTape() as tape:
            logs, _ = self._forward(x, y, "train")
        gradients = self.recipe.gradients(tape, logs["loss"], self._weights)
        rate = self.settings.learning_rate
        self.recipe.update(self._weights, gradients, rate, self._slots)
        return logs

    def _measure(self, x: Tensor, y: Tensor) -> tuple[Any, Tensor]:
        logs, outputs = self._forward(x, y, "test")
        return logs, self.recipe.predicted(outputs)

    def _train_epoch(self, batches: list[Rows], trained: Trained) -> Metrics:
        seen = []
        for rows in batches:
            x, y = tf.constant(self._x[rows]), tf.constant(self._y[rows])
            seen.append(self.train_step(x, y))
            if not trained.first:
                trained.first = self.values()
                trained.first_loss = float(seen[0]["loss"])
        return self._average(seen, batches)

    def _evaluate(self, x: Array, y: Array) -> tuple[Metrics, Array]:
        """Return the metrics of all examples, and their predictions."""
        batches = parts.cut(np.arange(len(x)), self.settings.batch_size)
        steps = [self.test_step(tf.constant(x[i]), tf.constant(y[i])) for i in batches]
        predictions = np.concatenate([predicted.numpy() for _, predicted in steps])
        return self._average([logs for logs, _ in steps], batches), predictions

    @np.errstate(over="ignore", invalid="ignore")  # a diverged run is a finding here
    def _average(self, seen: list[Any], batches: list[Rows]) -> Metrics:
        average, sizes = self.recipe.average, [len(rows) for rows in batches]
        return {
            name: average([np.asarray(logs[name]) for logs in seen], sizes)
            for name in seen[0]
        }
