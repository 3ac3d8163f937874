"""A training in the TensorFlow 1 dialect, made of parts that can be replaced.

As they stand, the parts are right: a training of them equals `kvt.fit`, bit for bit.
`kvt.differences.errata` replaces them by what the 2017 notebook did.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf1
from numpy.typing import NDArray

from kvt import data as datasets
from kvt.data import Data
from kvt.training import Mean, evaluate

Array = NDArray[Any]
Figures = dict[str, float]
Tensor = Any
Variable = Callable[..., Tensor]

LEARNING_RATE = 0.01
VALIDATION_SPLIT = 0.2
TESTED = 2_000  # test examples at most: a convolution of MNIST's 10,000 takes seconds


class Net(NamedTuple):
    """The tensors of a graph that a session feeds, fetches and runs."""

    graph: Any
    x: Tensor
    y: Tensor
    figures: dict[str, Tensor]
    optimizer: Any
    updates: Tensor
    init: Any
    variables: list[Tensor]


# --- the parts, as they ought to be ---------------------------------------------------


def line(x: Tensor, variable: Variable) -> Tensor:
    """Return x w + b, (b, 1)."""
    return tf1.add(tf1.multiply(x, variable([])), variable([], bias=True))


def logistic(x: Tensor, variable: Variable) -> Tensor:
    """Return logits, (b, 10)."""
    w, b = variable([784, 10]), variable([10], bias=True)
    return tf1.add(tf1.matmul(x, w), b)


def feed_forward(x: Tensor, variable: Variable) -> Tensor:
    """Return logits, (b, 10), from 32 hidden units."""
    w_1, b_1 = variable([784, 32]), variable([32], bias=True)
    w_2, b_2 = variable([32, 10]), variable([10], bias=True)
    h = tf1.nn.relu(tf1.matmul(x, w_1) + b_1)
    return tf1.matmul(h, w_2) + b_2


def convolutional(x: Tensor, variable: Variable) -> Tensor:
    """Return logits, (b, 10), from two convolutions and 1,024 hidden units."""

    def convolve(h: Tensor, channels: int, filters: int) -> Tensor:
        w = variable([5, 5, channels, filters])
        b = variable([filters], bias=True)
        h = tf1.nn.relu(tf1.nn.conv2d(h, w, [1, 1, 1, 1], "SAME") + b)
        return tf1.nn.max_pool(h, [1, 2, 2, 1], [1, 2, 2, 1], "SAME")

    h = convolve(convolve(x, 1, 32), 32, 64)
    h = tf1.reshape(h, [-1, 7 * 7 * 64])
    w_1, b_1 = variable([7 * 7 * 64, 1024]), variable([1024], bias=True)
    w_2, b_2 = variable([1024, 10]), variable([10], bias=True)
    h = tf1.nn.relu(tf1.matmul(h, w_1) + b_1)
    return tf1.matmul(h, w_2) + b_2


def glorot_start(shape: list[int], bias: bool) -> Tensor:
    """Draw weights as Keras does; start biases at zero."""
    if bias:
        return tf1.zeros(shape)
    return tf1.glorot_uniform_initializer()(shape)


def squared_error(y: Tensor, predicted: Tensor) -> Tensor:
    """Return the mean over the batch."""
    return tf1.reduce_mean(tf1.square(y - predicted))


def loss_from_logits(y: Tensor, logits: Tensor) -> Tensor:
    """Return the mean over the batch; the softmax is inside."""
    losses = tf1.nn.softmax_cross_entropy_with_logits_v2(y, logits)
    return tf1.reduce_mean(losses)


def rate_as_asked(learning_rate: float) -> Any:
    """Return plain gradient descent."""
    return tf1.train.GradientDescentOptimizer(learning_rate)


def all_rows(x: Array, y: Array) -> Sequence[Array]:
    """Take all training examples."""
    return x, y


def first_rows(x: Array, y: Array) -> Sequence[Array]:
    """Take the first 1,000 training examples."""
    return x[:1000], y[:1000]


def split_off_the_tail(
    x: Array,
    y: Array,
    split: float,
    random: np.random.Generator,
) -> Sequence[Array]:
    """Hold back the last ones."""
    n = datasets.split(len(x), split)  # floor(n * (1 - split))
    return x[:n], x[n:], y[:n], y[n:]


def batch_of_5() -> int:
    """Return what Keras's `fit` got for the line."""
    return 5


def batch_of_32() -> int:
    """Return what both dialects got for the images."""
    return 32


def batch_of_128() -> int:
    """Return what both dialects got for the digits."""
    return 128


def rounded_up(n: int, batch_size: int) -> int:
    """Count the batches, the partial one too."""
    return math.ceil(n / batch_size)


def stop_at(index: int, train_range: int) -> bool:
    """Whether the batches from here on are too many."""
    return index >= train_range


def in_turn(
    index: int,
    order: Array,  # (n,): every example once
    batch_size: int,
    random: np.random.Generator,
) -> Array:
    """Return the batch that is next in this epoch's order."""
    start = index * batch_size % len(order)
    return order[start : start + batch_size]


def once_per_batch(n: int, batch_size: int) -> int:
    """Count the validation batches."""
    return math.ceil(n / batch_size)


def only_measure(
    session: Any,
    net: Net,
    x: Array,
    y: Array,
) -> Figures:
    """Measure a batch, and change nothing."""
    feed_dict = {net.x: x, net.y: y}
    figures: Figures = session.run(net.figures, feed_dict)
    return figures


def mean_over_examples(
    figures: Sequence[Figures],
    batches: Sequence[Array],
) -> Figures:
    """Return the means of an epoch, weighted by examples."""
    mean = Mean()
    for figure, batch in zip(figures, batches, strict=True):
        mean.update(figure, len(batch))
    return mean.result()


# --- the training that they make ------------------------------------------------------


@dataclass(frozen=True)
class Parts:
    """What a training is made of; every part is a function that can be replaced."""

    network: Callable[..., Any]
    loss: Callable[..., Any] = loss_from_logits
    batch_size: Callable[..., int] = batch_of_128
    rows: Callable[..., Any] = all_rows
    start: Callable[..., Any] = glorot_start
    optimizer: Callable[..., Any] = rate_as_asked
    split: Callable[..., Any] = split_off_the_tail
    train_range: Callable[..., int] = rounded_up
    stop: Callable[..., bool] = stop_at
    draw: Callable[..., Any] = in_turn
    validation_range: Callable[..., int] = once_per_batch
    validate: Callable[..., Any] = only_measure
    report: Callable[..., Any] = mean_over_examples


@dataclass(frozen=True)
class Model:
    """A model of 2017: its training put right, and how many epochs are replayed."""

    parts: Parts
    epochs: int = 10


MODELS = {
    "line": Model(Parts(line, squared_error, batch_of_5)),
    "logistic": Model(Parts(logistic)),
    "feed-forward": Model(Parts(feed_forward)),
    # 1,000 images in Keras too. 2 epochs of 10, for 2017 made 226 updates in each.
    "convolutional": Model(
        Parts(convolutional, batch_size=batch_of_32, rows=first_rows), epochs=2
    ),
}


@dataclass
class Side:
    """The examples of one side of the split, and what a training did with them.

    Attributes:
        x, y: the examples.
        visits: by example, how often the weights were updated by it.
        seen: examples that the last epoch's batches held.
        batches, updates: in the whole training.
    """

    x: Array
    y: Array
    visits: Array
    seen: int = 0
    batches: int = 0
    updates: int = 0


@dataclass
class Run:
    """What a training reported, and what is so.

    Attributes:
        training, validation: the two sides of the split.
        printed: by epoch, the figures as the training reports them.
        true: by epoch, the figures of all validation examples at its end.
        train, test: those of all training examples and of the first `TESTED` test
            examples at the very end.
        weights: at the very end.
    """

    training: Side
    validation: Side
    printed: list[Figures] = field(default_factory=list)
    true: list[Figures] = field(default_factory=list)
    train: Figures = field(default_factory=dict)
    test: Figures = field(default_factory=dict)
    weights: list[Array] = field(default_factory=list)


def build(
    parts: Parts, data: Data, *, learning_rate: float = LEARNING_RATE, seed: int
) -> Net:
    """Build the graph of a network, its loss and its update."""
    graph = tf1.Graph()
    with graph.as_default():
        tf1.set_random_seed(seed)
        x = tf1.placeholder(tf1.float32, [None, *data.x_train.shape[1:]], "x")
        y = tf1.placeholder(tf1.float32, [None, *data.y_train.shape[1:]], "y")

        def variable(shape: list[int], bias: bool = False) -> Tensor:
            return tf1.Variable(parts.start(shape, bias))

        predicted = parts.network(x, variable)
        figures = {"loss": parts.loss(y, predicted)}
        if y.shape[1] > 1:
            hits = tf1.equal(tf1.argmax(y, 1), tf1.argmax(predicted, 1))
            figures["accuracy"] = tf1.reduce_mean(tf1.cast(hits, tf1.float32))
        variables = tf1.trainable_variables()
        updates = tf1.train.get_or_create_global_step()
        optimizer = parts.optimizer(learning_rate).minimize(figures["loss"], updates)
        init = tf1.global_variables_initializer()
    return Net(graph, x, y, figures, optimizer, updates, init, variables)


def update(session: Any, net: Net, x: Array, y: Array) -> Figures:
    """Update the weights by one batch, and measure it as it was before."""
    feed_dict = {net.x: x, net.y: y}
    _, figures = session.run([net.optimizer, net.figures], feed_dict)
    return dict(figures)


def train(
    parts: Parts,
    data: Data,
    *,
    epochs: int,
    learning_rate: float = LEARNING_RATE,
    seed: int = 0,
) -> Run:
    """Train as 2017's loop did, with the parts that are given."""
    splits, *draws = np.random.default_rng(seed).spawn(3)
    x, y = parts.rows(data.x_train, data.y_train)
    x, x_val, y, y_val = parts.split(x, y, VALIDATION_SPLIT, splits)
    run = Run(_side(x, y), _side(x_val, y_val))
    order = datasets.example_order(len(x), seed)
    net = build(parts, data, learning_rate=learning_rate, seed=seed)
    with tf1.Session(graph=net.graph) as session:
        session.run(net.init)
        for _ in range(epochs):
            batches = training_batches(parts, order, draws[0])
            logs = _pass(update, parts, session, net, run.training, batches)
            batches = validation_batches(parts, len(x_val), draws[1])
            val = _pass(parts.validate, parts, session, net, run.validation, batches)
            run.printed.append(logs | {f"val_{name}": val[name] for name in val})
            run.true.append(_measure(session, net, x_val, y_val))
        run.train = _measure(session, net, x, y)
        run.test = _measure(session, net, data.x_test[:TESTED], data.y_test[:TESTED])
        run.weights = session.run(net.variables)
    return run


def measure(
    parts: Parts, data: Data, weights: Sequence[Array], x: Array, y: Array
) -> Figures:
    """Return the figures of x (n, …) and y (n, …) at some weights."""
    net = build(parts, data, seed=0)
    with tf1.Session(graph=net.graph) as session:
        starts = [variable.initial_value for variable in net.variables]
        session.run(net.init, dict(zip(starts, weights, strict=True)))
        return _measure(session, net, x, y)


def training_batches(
    parts: Parts, order: Array, random: np.random.Generator
) -> list[Array]:
    """Return the indexes of the examples in each batch of an epoch."""
    n, batch_size = len(order), parts.batch_size()
    train_range = parts.train_range(n, batch_size)
    # 2017 went on counting to n, so that its bar would fill, and worked no more.
    worked = [index for index in range(n) if not parts.stop(index, train_range)]
    return [parts.draw(index, order, batch_size, random) for index in worked]


def validation_batches(
    parts: Parts, n: int, random: np.random.Generator
) -> list[Array]:
    """Return the indexes of the examples in each batch of a validation."""
    order, batch_size = np.arange(n), parts.batch_size()
    return [
        parts.draw(index, order, batch_size, random)
        for index in range(parts.validation_range(n, batch_size))
    ]


def _side(x: Array, y: Array) -> Side:
    return Side(x, y, visits=np.zeros(len(x), int))


def _pass(
    step: Callable[..., Figures],
    parts: Parts,
    session: Any,
    net: Net,
    side: Side,
    batches: Sequence[Array],
) -> Figures:
    """Take one step a batch; note whether they updated the weights, and by what."""
    # In this thread: handing the small graphs' operations to others takes longer.
    inline = tf1.RunOptions(inter_op_thread_pool=-1)
    here = SimpleNamespace(run=partial(session.run, options=inline))
    before = session.run(net.updates)
    figures = [step(here, net, side.x[batch], side.y[batch]) for batch in batches]
    updates = int(session.run(net.updates) - before)
    visits = np.bincount(np.concatenate(batches), minlength=len(side.x))
    if updates:
        side.visits += visits
    side.seen = int(np.count_nonzero(visits))
    side.batches += len(batches)
    side.updates += updates
    return dict(parts.report(figures, batches))


def _measure(session: Any, net: Net, x: Array, y: Array) -> Figures:
    """Return the figures of all examples, updating nothing."""

    def step(x: Array, y: Array) -> Figures:
        return only_measure(session, net, x, y)

    return evaluate(step, x, y, batch_size=500)


# --- all trainings of a notebook ------------------------------------------------------


class Replays:
    """The trainings that the errata are measured by, each of them run once."""

    def __init__(self, dataset: str, *, seed: int = 0) -> None:
        """Load the examples: `dataset` as `kvt.data.load` knows it, and the line."""
        flat = datasets.load(dataset)
        images = replace(
            flat,
            x_train=flat.x_train.reshape(-1, 28, 28, 1),
            x_test=flat.x_test.reshape(-1, 28, 28, 1),
        )
        self.seed = seed
        self.data = {
            "line": datasets.line(seed=seed),
            "logistic": flat,
            "feed-forward": flat,
            "convolutional": images,
        }
        self._runs: dict[Any, Run] = {}

    def run(self, model: str, parts: Parts, **settings: Any) -> Run:
        """Train a model of `MODELS`, or return what the same training left before."""
        settings = {"seed": self.seed, "epochs": MODELS[model].epochs} | settings
        key = (model, parts, *sorted(settings.items()))
        if key not in self._runs:
            self._runs[key] = train(parts, self.data[model], **settings)
        return self._runs[key]
