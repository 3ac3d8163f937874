"""One raw TensorFlow 2 training, taken apart into functions that can be exchanged.

The default `Recipe` is the feed-forward network of section 03 under plain SGD; it holds
Keras's bits. `dataclasses.replace(Recipe(), reduce=…)` is the same training with one
thing changed.
"""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvt import data
from kvt.data.quietly import quiet, without_warnings
from kvt.training import History

with quiet():
    import tensorflow as tf

Array = NDArray[Any]
Rows = NDArray[np.int64]
Weights = list[Array]
# TensorFlow ships no types.
Tensor = Any
Tensors = Any
Variables = list[Any]
Step = Any


# --- the parts, as Keras has them -----------------------------------------------------


def copied(initial: Weights, seed: int) -> Weights:
    """Start from the very numbers that Keras drew."""
    return initial


def scaled(x: Array) -> Array:
    """Pixels from 0 to 1, in float32, as they are loaded."""
    return x


def same_shape(y: Array) -> Array:
    """Targets in the shape of the predictions."""
    return y


def tail(n: int, validation_split: float, seed: int) -> tuple[Rows, Rows]:
    """Hold back the last rows, before anything is shuffled."""
    n_train = data.split(n, validation_split)
    return np.arange(n_train), np.arange(n_train, n)


def cut(order: Rows, batch_size: int) -> list[Rows]:
    """Cut an order of rows into batches; the last one may be smaller."""
    starts = range(0, len(order), batch_size)
    return [order[start : start + batch_size] for start in starts]


def seeded(n: int, batch_size: int, seed: int, epoch: int) -> list[Rows]:
    """Visit every row once, in one order for all epochs."""
    return cut(data.example_order(n, seed), batch_size)


def dense(weights: Variables, x: Tensor, training: bool) -> Tensor:
    """Two layers; a bias goes on with bias_add."""
    w1, b1, w2, b2 = weights
    h = tf.nn.relu(tf.nn.bias_add(x @ w1, b1))  # (b, 32)
    return tf.nn.bias_add(h @ w2, b2)  # (b, 10), logits


def cross_entropy(y: Tensor, logits: Tensor) -> Tensor:
    """Take the loss from the logits, as Keras does."""
    return tf.nn.softmax_cross_entropy_with_logits(y, logits)


def mean(losses: Tensor, batch_size: int) -> Tensor:
    """Divide by the examples that the batch really has."""
    return tf.reduce_mean(losses)


def no_penalty(weights: Variables) -> Tensor:
    """Nothing is added to the loss."""
    return 0.0


def categorical(y: Tensor, logits: Tensor) -> Tensor:
    """The largest probability must be that of the right class."""
    classes = tf.argmax(tf.nn.softmax(logits), axis=1)
    hits = tf.equal(tf.argmax(y, axis=1), classes)
    return tf.cast(hits, y.dtype)  # (b,)


def in_training(phase: str) -> bool:
    """The train step says training=True, the test step does not."""
    return phase == "train"


def from_tape(tape: Any, loss: Tensor, weights: Variables) -> Tensors:
    """Each gradient is its own operation."""
    return tape.gradient(loss, weights)


@dataclass(frozen=True)
class Slots:
    """What an optimizer keeps between steps: all zero before the first.

    Attributes:
        count: updates so far, an int64 variable.
        m: one variable of each weight's shape, for means of gradients.
        v: another, for means of their squares.
    """

    count: Any
    m: Variables
    v: Variables

    @classmethod
    def like(cls, weights: Variables) -> "Slots":
        """Make the slots of these weights."""
        m, v = ([tf.Variable(tf.zeros_like(w)) for w in weights] for _ in range(2))
        return cls(tf.Variable(0, dtype="int64"), m, v)

    def reset(self) -> None:
        """Forget all steps."""
        for variable in (self.count, *self.m, *self.v):
            variable.assign(tf.zeros_like(variable))


def sgd(
    weights: Variables, gradients: Tensors, learning_rate: float, slots: Slots
) -> None:
    """Plain SGD; the rate takes the gradient's dtype."""
    for w, g in zip(weights, gradients, strict=True):
        w.assign_sub(learning_rate * g)


def graph(step: Step, signature: Sequence[Any]) -> Step:
    """One graph, each operation computed as it stands."""
    return tf.function(step, input_signature=signature)


def by_example(values: list[Array], sizes: list[int]) -> float:
    """Average over examples; the sum is held in the run's dtype."""
    number = values[0].dtype.type
    total = number(0)
    for value, size in zip(values, sizes, strict=True):
        total += value.sum() if value.ndim else value * number(size)
    return float(total / number(sum(sizes)))


def running(
    logs: dict[str, float], measure: Callable[[], dict[str, float]]
) -> dict[str, float]:
    """Report what the batches showed, each before its update."""
    return logs


def as_it_is() -> dict[str, str]:
    """Processor, threads and kernels as TensorFlow finds them."""
    return {}


def probabilities(outputs: Tensor) -> Tensor:
    """Turn logits into what a classifier predicts."""
    return tf.nn.softmax(outputs)


@dataclass(frozen=True)
class Recipe:
    """The replaceable parts of a training, in the order in which they act.

    Attributes:
        start: Keras's weights and a seed → the weights to start from.
        inputs: x → x; the whole training takes its dtype.
        targets: y → y.
        split: n, validation_split, seed → rows to train on, rows to validate on.
        batches: n, batch_size, seed, epoch → the epoch's batches, arrays of rows.
        forward: weights, x, training → outputs (b, …).
        losses: y, outputs → losses, one an example.
        reduce: losses, batch_size → the batch's loss.
        penalty: weights → what the weights add to the loss.
        accuracy: y, outputs → hits (b,); None for a model without.
        training: "train" or "test" → whether forward is told that it trains.
        gradients: tape, loss, weights → gradients.
        update: weights, gradients, learning_rate, slots; assigns the weights.
        compile: step, signature → the step that is called.
        mean: a figure of each batch, the batches' sizes → the epoch's figure.
        report: the epoch's training figures, a way to measure anew → those reported.
        environment: environment variables of the process that trains.
        predicted: outputs → predictions.
    """

    start: Callable[[Weights, int], Weights] = copied
    inputs: Callable[[Array], Array] = scaled
    targets: Callable[[Array], Array] = same_shape
    split: Callable[[int, float, int], tuple[Rows, Rows]] = tail
    batches: Callable[[int, int, int, int], list[Rows]] = seeded
    forward: Callable[[Variables, Tensor, bool], Tensor] = dense
    losses: Callable[[Tensor, Tensor], Tensor] = cross_entropy
    reduce: Callable[[Tensor, int], Tensor] = mean
    penalty: Callable[[Variables], Tensor] = no_penalty
    accuracy: Callable[[Tensor, Tensor], Tensor] | None = categorical
    training: Callable[[str], bool] = in_training
    gradients: Callable[[Any, Tensor, Variables], Tensors] = from_tape
    update: Callable[[Variables, Tensors, float, Slots], None] = sgd
    compile: Callable[[Step, Sequence[Any]], Step] = graph
    mean: Callable[[list[Array], list[int]], float] = by_example
    report: Callable[
        [dict[str, float], Callable[[], dict[str, float]]], dict[str, float]
    ] = running
    environment: Callable[[], dict[str, str]] = as_it_is
    predicted: Callable[[Tensor], Tensor] = probabilities


# --- the training that they make ------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """What every training of a comparison shares: the parameters of the notebook."""

    epochs: int
    batch_size: int
    learning_rate: float
    validation_split: float


@dataclass
class Run:
    """What is left of one training.

    Attributes:
        start: the weights before the first step.
        first_loss: the loss of the first batch, before any update.
        first: the weights after one step.
        epochs: the weights after each epoch.
        history: as `History.history`.
        test: the test set's figures at the end.
        predictions: for each test example (n, outputs) at the end.
    """

    start: Weights
    first_loss: float = np.nan
    first: Weights = field(default_factory=list)
    epochs: list[Weights] = field(default_factory=list)
    history: dict[str, list[float]] = field(default_factory=dict)
    test: dict[str, float] = field(default_factory=dict)
    predictions: Array = field(default_factory=lambda: np.empty(0))


class Training:
    """A recipe's variables and compiled steps, to be run from one start or several.

    Args:
        recipe: the parts.
        examples: what to train and to test on.
        settings: epochs, batch size and the like.
        initial: weights of the model's shapes; integers count, and are not trained.

    Attributes:
        train_step: x, y → logs; updates the weights, as `kvt.fit` wants it.
        test_step: x, y → logs; updates nothing.
    """

    def __init__(
        self, recipe: Recipe, examples: data.Data, settings: Settings, initial: Weights
    ) -> None:
        self._recipe, self._settings = recipe, settings
        self._x, self._y = self._examples(examples.x_train, examples.y_train)
        self._test = self._examples(examples.x_test, examples.y_test)
        dtype = self._x.dtype
        self._variables = [
            tf.Variable(w, trainable=w.dtype.kind == "f", dtype=_cast(w, dtype).dtype)
            for w in initial
        ]
        self._weights = [w for w in self._variables if w.trainable]
        self._slots = Slots.like(self._weights)
        signature = [
            tf.TensorSpec((None, *v.shape[1:]), v.dtype) for v in (self._x, self._y)
        ]
        # AutoGraph would search every part for conditions on tensors: there are none.
        as_written = tf.autograph.experimental.do_not_convert
        self.train_step = recipe.compile(as_written(self._train), signature)
        self.test_step = recipe.compile(as_written(self._measure), signature)
        self._predict_step = recipe.compile(as_written(self._predict), signature[:1])

    def run(self, initial: Weights, seed: int) -> Run:
        """Train from `initial` as the recipe says, and keep what is compared."""
        recipe, settings = self._recipe, self._settings
        x, y = self._x, self._y
        self.begin(initial, seed)
        run = Run(self.values())
        history = History()
        rows, held_back = recipe.split(len(x), settings.validation_split, seed)
        for epoch in range(settings.epochs):
            order = recipe.batches(len(rows), settings.batch_size, seed, epoch)
            logs = self._train_epoch([rows[batch] for batch in order], run)
            logs = recipe.report(logs, lambda: self._evaluate(x[rows], y[rows]))
            if len(held_back):
                figures = self._evaluate(x[held_back], y[held_back])
                logs = logs | {f"val_{name}": v for name, v in figures.items()}
            history.append(epoch, logs)
            run.epochs.append(self.values())
        run.history = history.history
        run.test = self._evaluate(*self._test)
        run.predictions = self._predictions(self._test[0])
        return run

    def _examples(self, x: Array, y: Array) -> tuple[Array, Array]:
        x = self._recipe.inputs(x)
        return x, self._recipe.targets(y).astype(x.dtype, copy=False)

    def begin(self, initial: Weights, seed: int) -> None:
        """Set the weights to the recipe's start, and forget all steps."""
        start = self._recipe.start(initial, seed)
        for variable, value in zip(self._variables, start, strict=True):
            variable.assign(_cast(value, self._x.dtype))
        self._slots.reset()

    def values(self) -> Weights:
        """Copy the current weights."""
        return [w.numpy() for w in self._weights]

    def _figures(self, x: Tensor, y: Tensor, phase: str) -> dict[str, Tensor]:
        """The batch's loss, and for each example whether it is classified right."""
        recipe = self._recipe
        outputs = recipe.forward(self._variables, x, recipe.training(phase))
        losses = recipe.losses(y, outputs)
        loss = recipe.reduce(losses, self._settings.batch_size)
        logs = {"loss": loss + recipe.penalty(self._weights)}
        if recipe.accuracy is not None:
            logs["accuracy"] = recipe.accuracy(y, outputs)
        return logs

    def _train(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        with tf.GradientTape() as tape:
            logs = self._figures(x, y, "train")
        gradients = self._recipe.gradients(tape, logs["loss"], self._weights)
        rate = self._settings.learning_rate
        self._recipe.update(self._weights, gradients, rate, self._slots)
        return logs

    def _measure(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        return self._figures(x, y, "test")

    def _predict(self, x: Tensor) -> Tensor:
        outputs = self._recipe.forward(
            self._variables, x, self._recipe.training("test")
        )
        return self._recipe.predicted(outputs)

    def _train_epoch(self, batches: list[Rows], run: Run) -> dict[str, float]:
        seen = []
        for batch in batches:
            x, y = tf.constant(self._x[batch]), tf.constant(self._y[batch])
            seen.append(_numpy(self.train_step(x, y)))
            if not run.first:
                run.first = self.values()
                run.first_loss = float(seen[0]["loss"])
        return self._means(seen, batches)

    def _evaluate(self, x: Array, y: Array) -> dict[str, float]:
        batches = cut(np.arange(len(x)), self._settings.batch_size)
        seen = [
            _numpy(self.test_step(tf.constant(x[batch]), tf.constant(y[batch])))
            for batch in batches
        ]
        return self._means(seen, batches)

    def _predictions(self, x: Array) -> Array:
        batches = cut(np.arange(len(x)), self._settings.batch_size)
        steps = [self._predict_step(tf.constant(x[batch])) for batch in batches]
        return np.concatenate([step.numpy() for step in steps])

    @np.errstate(over="ignore", invalid="ignore")  # a diverged run is a finding here
    def _means(
        self, seen: list[dict[str, Array]], batches: list[Rows]
    ) -> dict[str, float]:
        sizes = [len(batch) for batch in batches]
        return {
            name: self._recipe.mean([logs[name] for logs in seen], sizes)
            for name in seen[0]
        }


def runs(
    recipe: Recipe,
    examples: data.Data,
    settings: Settings,
    starts: Mapping[int, Weights],
) -> dict[int, Run]:
    """Train once from each start: seed → Keras's initial weights, seed → run.

    A recipe whose environment is not this process's is trained in a process of its own.
    """
    environment = recipe.environment()
    if not environment:
        first = next(iter(starts.values()))
        with without_warnings():
            model = Training(recipe, examples, settings, first)
            return {seed: model.run(initial, seed) for seed, initial in starts.items()}
    here = replace(recipe, environment=as_it_is)
    return _elsewhere(environment, here, examples, settings, starts)


def _elsewhere(environment: Mapping[str, str], *task: Any) -> dict[int, Run]:
    """Let another process answer `runs(*task)`: TensorFlow reads these variables once.

    Raises RuntimeError with what the process wrote where it fails.
    """
    code = "from kvt.compare import recipe; recipe.answer()"
    process = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps(task),
        env=os.environ | environment,
        capture_output=True,
        check=False,
    )
    if process.returncode:
        raise RuntimeError(
            f"the process with {environment} failed:\n{process.stderr.decode()}"
        )
    answered: dict[int, Run] = pickle.loads(process.stdout)
    return answered


def answer() -> None:
    """Read a pickled task from stdin, write its pickled runs to stdout."""
    task = pickle.load(sys.stdin.buffer)
    sys.stdout.buffer.write(pickle.dumps(runs(*task)))


def _cast(weight: Array, dtype: Any) -> Array:
    """Weights take the inputs' dtype, counts keep their own."""
    return weight.astype(dtype) if weight.dtype.kind == "f" else weight


def _numpy(logs: Mapping[str, Tensor]) -> dict[str, Array]:
    return {name: np.asarray(value.numpy()) for name, value in logs.items()}
