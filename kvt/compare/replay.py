"""The training loop of the 2017 notebook, in TensorFlow 1, with exchangeable parts.

By default every part is correct, and a training equals `kvt.fit` bit for bit. The
notebook `10_errors_of_2017` exchanges parts for what 2017 had in their place.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf1

from kvt import data as datasets
from kvt.data import Array, Data
from kvt.training import Mean, evaluate

Metrics = dict[str, float]
Random = np.random.Generator
Step = Callable[..., Metrics]
Tensor = Any

VALIDATION_SPLIT = 0.2
TESTED = 2_000  # test examples: convolutions of MNIST's 10,000 images take seconds
# Operations run in the calling thread: for small graphs, a hand-over takes longer.
CONFIG = tf1.ConfigProto(inter_op_parallelism_threads=-1)


class Net(NamedTuple):
    """What a session feeds, fetches or runs of a graph."""

    graph: Any
    x: Tensor
    y: Tensor
    metrics: dict[str, Tensor]
    optimizer: Any
    updates: Tensor
    init: Any
    variables: list[Tensor]


# --- the networks: x (b, …) and a function that creates variables ---------------------


def linear(x: Tensor, variable: Callable[..., Tensor]) -> Tensor:
    """Return x w + b, (b, 1)."""
    return tf1.add(tf1.multiply(x, variable([])), variable([], bias=True))


def logistic(x: Tensor, variable: Callable[..., Tensor]) -> Tensor:
    """Return logits, (b, 10)."""
    w, b = variable([784, 10]), variable([10], bias=True)
    return tf1.add(tf1.matmul(x, w), b)


def feedforward(
    x: Tensor, variable: Callable[..., Tensor], inputs: int = 784, hidden: int = 32
) -> Tensor:
    """Return logits, (b, 10), from one layer of hidden units."""
    w_1, b_1 = variable([inputs, hidden]), variable([hidden], bias=True)
    w_2, b_2 = variable([hidden, 10]), variable([10], bias=True)
    h = tf1.nn.relu(tf1.matmul(x, w_1) + b_1)
    return tf1.matmul(h, w_2) + b_2


def convolutional(x: Tensor, variable: Callable[..., Tensor]) -> Tensor:
    """Return logits, (b, 10), from two convolutions and 1,024 hidden units."""
    for channels, filters in ((1, 32), (32, 64)):
        w = variable([5, 5, channels, filters])
        b = variable([filters], bias=True)
        x = tf1.nn.relu(tf1.nn.conv2d(x, w, [1, 1, 1, 1], "SAME") + b)
        x = tf1.nn.max_pool(x, [1, 2, 2, 1], [1, 2, 2, 1], "SAME")
    return feedforward(tf1.reshape(x, [-1, 7 * 7 * 64]), variable, 7 * 7 * 64, 1_024)


# --- the other parts ------------------------------------------------------------------


def glorot_start(shape: list[int], bias: bool) -> Tensor:
    """Draw weights as Keras does; start biases at 0."""
    if bias:
        return tf1.zeros(shape)
    return tf1.glorot_uniform_initializer()(shape)


def squared_error(y: Tensor, predicted: Tensor) -> Tensor:
    """Return the mean over the batch."""
    return tf1.reduce_mean(tf1.square(y - predicted))


def loss_from_logits(y: Tensor, logits: Tensor) -> Tensor:
    """Return the mean cross-entropy over the batch; it includes the softmax."""
    losses = tf1.nn.softmax_cross_entropy_with_logits_v2(y, logits)
    return tf1.reduce_mean(losses)


def requested_rate(learning_rate: float) -> Any:
    """Return plain gradient descent."""
    return tf1.train.GradientDescentOptimizer(learning_rate)


def tail_split(x: Array, y: Array, split: float, random: Random) -> Sequence[Array]:
    """Hold back the last examples: return x_train, x_val, y_train, y_val."""
    n = datasets.split(len(x), split)  # floor(n * (1 - split))
    return x[:n], x[n:], y[:n], y[n:]


def batches_of(n: int, batch_size: int) -> int:
    """Count the batches of n examples, the partial batch included."""
    return math.ceil(n / batch_size)


def stop_at(index: int, train_range: int) -> bool:
    """Return whether the epoch has trained on all its batches."""
    return index >= train_range


def next_in_order(index: int, order: Array, batch_size: int, random: Random) -> Array:
    """Return the numbers of the examples in the epoch's batch `index`."""
    start = index * batch_size % len(order)
    return order[start : start + batch_size]


def only_measure(session: Any, net: Net, x: Array, y: Array) -> Metrics:
    """Measure a batch; change no weight."""
    metrics: Metrics = session.run(net.metrics, {net.x: x, net.y: y})
    return metrics


def mean_over_examples(metrics: Sequence[Metrics], sizes: Sequence[int]) -> Metrics:
    """Return an epoch's means, weighted by the batches' sizes."""
    mean = Mean()
    for logs, size in zip(metrics, sizes, strict=True):
        mean.update(logs, size)
    return mean.result()


# --- the training ---------------------------------------------------------------------


@dataclass(frozen=True)
class Parts:
    """What a training is made of. The defaults are correct."""

    network: Callable[..., Any]
    loss: Callable[..., Any] = loss_from_logits
    batch_size: int = 128
    rows: int | None = None  # first examples to use; None uses all
    start: Callable[..., Any] = glorot_start
    optimizer: Callable[..., Any] = requested_rate
    split: Callable[..., Any] = tail_split
    train_range: Callable[..., int] = batches_of
    stop: Callable[..., bool] = stop_at
    draw: Callable[..., Any] = next_in_order
    validation_range: Callable[..., int] = batches_of
    validate: Callable[..., Any] = only_measure
    report: Callable[..., Any] = mean_over_examples


MODELS = {
    "linear": Parts(linear, squared_error, batch_size=5),
    "logistic": Parts(logistic),
    "feedforward": Parts(feedforward),
    "convolutional": Parts(convolutional, batch_size=32, rows=1_000),
}


@dataclass
class Side:
    """The examples on one side of the validation split, and what they were used for."""

    x: Array
    y: Array
    visits: Array  # (n,): how many updates of the weights used each example
    seen: int = 0  # different examples in the last epoch's batches
    batches: int = 0  # in the whole training
    updates: int = 0  # of the weights, in the whole training


@dataclass
class Replay:
    """What a training reported, and what was true."""

    training: Side
    validation: Side
    printed: list[Metrics] = field(default_factory=list)  # by epoch, as reported
    true: list[Metrics] = field(default_factory=list)  # of all validation examples
    test: Metrics = field(default_factory=dict)  # of the first `TESTED` test examples
    weights: list[Array] = field(default_factory=list)  # after the training


def train(
    parts: Parts, data: Data, *, epochs: int, learning_rate: float = 0.01, seed: int = 0
) -> Replay:
    """Train as the 2017 notebook's loop did, with the given parts."""
    splits, draws, validation_draws = np.random.default_rng(seed).spawn(3)
    x, y = data.x_train[: parts.rows], data.y_train[: parts.rows]
    x, x_val, y, y_val = parts.split(x, y, VALIDATION_SPLIT, splits)
    n, n_val, size = len(x), len(x_val), parts.batch_size
    training = Side(x, y, np.zeros(n, int))
    replay = Replay(training, Side(x_val, y_val, np.zeros(n_val, int)))
    order = datasets.example_order(n, seed)
    net = build(parts, data, learning_rate=learning_rate, seed=seed)
    with tf1.Session(graph=net.graph, config=CONFIG) as session:
        session.run(net.init)
        for _ in range(epochs):
            train_range = parts.train_range(n, size)
            batches = [
                parts.draw(index, order, size, draws)
                for index in range(n)  # 2017 counted on to n, to fill its bar
                if not parts.stop(index, train_range)
            ]
            logs = parts.report(*_run(update, session, net, training, batches))
            batches = [
                parts.draw(index, np.arange(n_val), size, validation_draws)
                for index in range(parts.validation_range(n_val, size))
            ]
            measured = _run(parts.validate, session, net, replay.validation, batches)
            val = parts.report(*measured)
            replay.printed.append(logs | {f"val_{name}": val[name] for name in val})
            replay.true.append(_measure(session, net, x_val, y_val))
        tested = data.x_test[:TESTED], data.y_test[:TESTED]
        replay.test = _measure(session, net, *tested)
        replay.weights = session.run(net.variables)
    return replay


def build(
    parts: Parts, data: Data, *, learning_rate: float = 0.01, seed: int = 0
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
        metrics = {"loss": parts.loss(y, predicted)}
        if y.shape[1] > 1:
            hits = tf1.equal(tf1.argmax(y, 1), tf1.argmax(predicted, 1))
            metrics["accuracy"] = tf1.reduce_mean(tf1.cast(hits, tf1.float32))
        variables = tf1.trainable_variables()
        updates = tf1.train.get_or_create_global_step()
        optimizer = parts.optimizer(learning_rate).minimize(metrics["loss"], updates)
        init = tf1.global_variables_initializer()
    return Net(graph, x, y, metrics, optimizer, updates, init, variables)


def update(session: Any, net: Net, x: Array, y: Array) -> Metrics:
    """Update the weights by one batch; return its metrics from before the update."""
    _, metrics = session.run([net.optimizer, net.metrics], {net.x: x, net.y: y})
    return dict(metrics)


def measure(
    parts: Parts, data: Data, weights: Sequence[Array], x: Array, y: Array
) -> Metrics:
    """Return the metrics of x (n, …) and y (n, …) under the given weights."""
    net = build(parts, data)
    with tf1.Session(graph=net.graph, config=CONFIG) as session:
        starts = [variable.initial_value for variable in net.variables]
        session.run(net.init, dict(zip(starts, weights, strict=True)))
        return _measure(session, net, x, y)


def _run(
    step: Step, session: Any, net: Net, side: Side, batches: Sequence[Array]
) -> tuple[list[Metrics], list[int]]:
    """Take one step per batch; return the steps' metrics and the batches' sizes."""
    before = session.run(net.updates)
    metrics = [step(session, net, side.x[batch], side.y[batch]) for batch in batches]
    updates = int(session.run(net.updates) - before)
    visits = np.bincount(np.concatenate(batches), minlength=len(side.x))
    side.visits += visits if updates else 0
    side.seen = int(np.count_nonzero(visits))
    side.batches += len(batches)
    side.updates += updates
    return metrics, [len(batch) for batch in batches]


def _measure(session: Any, net: Net, x: Array, y: Array) -> Metrics:
    """Return the metrics of all examples; change no weight."""
    return evaluate(lambda x, y: only_measure(session, net, x, y), x, y, batch_size=500)
