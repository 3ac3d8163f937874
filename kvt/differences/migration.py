"""From TensorFlow 1 to 2: what to write instead, as pairs that return the same bits.

Each side is a function to copy: `tf1` is `tensorflow.compat.v1`, `tf` is TensorFlow 2.
"""

# The pairs look as they would in a notebook, where nobody annotates.
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators
# mypy: allow-subclassing-any

import contextlib
import logging
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow.compat.v1 as tf1
from tensorboard.backend.event_processing import (  # type: ignore[import-untyped]
    event_accumulator,
)

from kvt.compare import parity
from kvt.compare.results import DIALECTS
from kvt.show.sources import Markdown, beside, code
from kvt.show.tables import Table

_WIDTH = 68  # columns of code that fit a laptop twice


@dataclass(frozen=True)
class Pair:
    """One thing that has changed: how to write it in TensorFlow 1, and in 2.

    Attributes:
        old: what it was called, in Markdown.
        new: what takes its place, in Markdown.
        tf1: the old way; returns arrays, numbers, texts or None, or lists or tuples
            of them.
        tf2: the new way; returns the same.
        note: what to look out for.
        threads: where it was asked, as https links to GitHub.
        mistake: old habits in TensorFlow 2; raises the error that people ask about.
    """

    old: str
    new: str
    tf1: Callable[[], Any]
    tf2: Callable[[], Any]
    note: str
    threads: tuple[str, ...]
    mistake: Callable[[], object] | None = None

    @property
    def name(self) -> str:
        """What it was and what it is: the heading under which the pair is shown."""
        return f"{self.old}, now {self.new}"


def feed_tf1(x=(1.0, 2.0, 3.0)):
    """Build a graph first; feed it when a session runs it."""
    with tf1.Graph().as_default(), tf1.Session() as session:
        fed = tf1.placeholder(tf1.float32, (None,))
        total = tf1.reduce_sum(fed * fed)
        return session.run(total, feed_dict={fed: x})


def feed_tf2(x=(1.0, 2.0, 3.0)):
    """Call a function; what was fed is its argument."""
    vector = tf.TensorSpec((None,), tf.float32)

    @tf.function(input_signature=[vector])
    def sum_of_squares(x):
        return tf.reduce_sum(x * x)

    return sum_of_squares(x).numpy()


def feed_mistake():
    """Ask for a placeholder where everything has a value."""
    tf1.placeholder(tf1.float32, (None,))


def default_tf1(x=(1.0, 2.0)):
    """Give the placeholder a value for when nothing is fed."""
    with tf1.Graph().as_default(), tf1.Session() as session:
        scale = tf1.placeholder_with_default(1.0, ())
        y = scale * x
        return session.run(y), session.run(y, {scale: 0.5})


def default_tf2(x=(1.0, 2.0)):
    """Give the argument a default."""

    @tf.function
    def scaled(x, scale=1.0):
        return scale * x

    x = tf.constant(x)
    return scaled(x).numpy(), scaled(x, tf.constant(0.5)).numpy()


def initialize_tf1():
    """Run the initializer before anything else, and eval to see."""
    with tf1.Graph().as_default(), tf1.Session() as session:
        w = tf1.Variable([1.0, 2.0])
        session.run(tf1.global_variables_initializer())
        session.run(w.assign_add([0.5, 0.5]))
        return w.eval()


def initialize_tf2():
    """A variable has its value as soon as it exists."""
    w = tf.Variable([1.0, 2.0])
    w.assign_add([0.5, 0.5])
    return w.numpy()


def initialize_mistake():
    """Look at a value inside a tf.function, where it has none."""

    @tf.function
    def look(x):
        return x.numpy()

    look(tf.constant(1.0))


def reuse_tf1(x=((1.0, 2.0),)):
    """Find the shared variable by its name."""

    def layer(x):
        with tf1.variable_scope("layer", reuse=tf1.AUTO_REUSE):
            return x @ tf1.get_variable("w", initializer=start)

    with tf1.Graph().as_default(), tf1.Session() as session:
        start = tf1.constant([[0.0, 2.0], [3.0, 0.0]])
        y = layer(layer(tf1.constant(x)))
        session.run(tf1.global_variables_initializer())
        return session.run(y), len(tf1.global_variables())


def reuse_tf2(x=((1.0, 2.0),)):
    """Share the object that holds the variable."""

    class Layer(tf.Module):
        def __init__(self):
            self.w = tf.Variable([[0.0, 2.0], [3.0, 0.0]])

        def __call__(self, x):
            return x @ self.w

    layer = Layer()
    y = layer(layer(tf.constant(x)))
    return y.numpy(), len(layer.variables)


def count_tf1():
    """The graph is built once, and its variable with it."""
    with tf1.Graph().as_default(), tf1.Session() as session:
        calls = tf1.get_variable("calls", initializer=0)
        count = tf1.assign_add(calls, 1)
        session.run(tf1.global_variables_initializer())
        return [session.run(count) for _ in range(3)]


def count_tf2():
    """Create the variable outside the function that uses it."""
    calls = tf.Variable(0)

    @tf.function
    def count():
        return calls.assign_add(1)

    return [count().numpy() for _ in range(3)]


def count_mistake():
    """Create a variable in a function that is called repeatedly."""

    @tf.function
    def count():
        return tf.Variable(0).assign_add(1)

    count()


def collect_tf1():
    """The graph keeps lists of variables and penalties."""

    def l2(w):
        return 0.01 * tf1.nn.l2_loss(w)

    with tf1.Graph().as_default(), tf1.Session() as session:
        tf1.get_variable("w1", initializer=[3.0], regularizer=l2)
        tf1.get_variable("w2", initializer=[4.0], regularizer=l2)
        key = tf1.GraphKeys.REGULARIZATION_LOSSES
        penalty = tf1.add_n(tf1.get_collection(key))
        session.run(tf1.global_variables_initializer())
        names = [w.name for w in tf1.trainable_variables()]
        return names, session.run(penalty)


def collect_tf2():
    """A module knows its variables; sum the penalties yourself."""
    model = tf.Module()
    model.w1 = tf.Variable([3.0], name="w1")
    model.w2 = tf.Variable([4.0], name="w2")
    l2 = keras.regularizers.L2(0.01 / 2)
    penalty = tf.add_n([l2(w) for w in model.trainable_variables])
    names = [w.name for w in model.trainable_variables]
    return names, penalty.numpy()


def branch_tf1(n=27):
    """Build the branch and the loop out of operations."""

    def step(n, steps):
        even = tf1.equal(n % 2, 0)
        n = tf1.cond(even, lambda: n // 2, lambda: 3 * n + 1)
        return n, steps + 1

    with tf1.Graph().as_default(), tf1.Session() as session:
        start = (tf1.constant(n), tf1.constant(0))
        loop = tf1.while_loop(lambda n, _: n > 1, step, start)
        return session.run(loop)[1]


def branch_tf2(n=27):
    """Write if and while: tf.function translates them."""

    @tf.function
    def count_steps(n):
        steps = 0
        while n > 1:
            n = n // 2 if n % 2 == 0 else 3 * n + 1
            steps += 1
        return steps

    return count_steps(tf.constant(n)).numpy()


def branch_mistake():
    """Branch on a tensor where nothing translates the if."""

    @tf.function(autograph=False)
    def absolute(x):
        return x if x > 0 else -x

    absolute(tf.constant(-1.0))


def order_tf1():
    """Name what must have happened before."""
    with tf1.Graph().as_default(), tf1.Session() as session:
        w = tf1.Variable(3.0)
        doubled = w.assign(2.0 * w)
        with tf1.control_dependencies([doubled]):
            increased = w.assign_add(1.0)
        with tf1.control_dependencies([increased]):
            result = w.read_value()
        session.run(tf1.global_variables_initializer())
        return session.run(result)


def order_tf2():
    """Write it in the order in which it shall happen."""
    w = tf.Variable(3.0)

    @tf.function
    def double_and_increase():
        w.assign(2.0 * w)
        w.assign_add(1.0)
        return w.read_value()

    return double_and_increase().numpy()


def minimize_tf1(x=(1.0, 2.0, 3.0), y=(2.0, 4.0, 7.0)):
    """Minimize a tensor: its graph says what it depends on."""
    with tf1.Graph().as_default(), tf1.Session() as session:
        w = tf1.Variable(0.0)
        loss = tf1.reduce_mean(tf1.square(w * x - y))
        optimizer = tf1.train.GradientDescentOptimizer(0.1)
        train = optimizer.minimize(loss)
        session.run(tf1.global_variables_initializer())
        losses = [session.run([loss, train])[0] for _ in range(5)]
        return losses, session.run(w)


def minimize_tf2(x=(1.0, 2.0, 3.0), y=(2.0, 4.0, 7.0)):
    """Record the loss on a tape while it is computed."""
    w = tf.Variable(0.0)

    @tf.function
    def train():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(w * x - y))
        w.assign_sub(0.1 * tape.gradient(loss, w))
        return loss

    losses = [train().numpy() for _ in range(5)]
    return losses, w.numpy()


def minimize_mistake():
    """Minimize a tensor that has forgotten where it came from."""
    w = tf.Variable(2.0)
    keras.optimizers.SGD(0.1).minimize(w * w, [w])


def labels_tf1(y=((0.0, 1.0),), logits=((2.0, -1.0),)):
    """Only the second version of the loss goes on to the labels."""
    with tf1.Graph().as_default(), tf1.Session() as session:
        y, z = tf1.constant(y), tf1.constant(logits)
        v1 = tf1.nn.softmax_cross_entropy_with_logits
        v2 = tf1.nn.softmax_cross_entropy_with_logits_v2
        to_z, none = tf1.gradients(v1(labels=y, logits=z), [z, y])
        (to_y,) = tf1.gradients(v2(y, z), y)
        return session.run(to_z), none, session.run(to_y)


def labels_tf2(y=((0.0, 1.0),), logits=((2.0, -1.0),)):
    """There is only the second; stop it yourself."""
    y, z = tf.constant(y), tf.constant(logits)
    v2 = tf.nn.softmax_cross_entropy_with_logits
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([z, y])
        stopped = v2(tf.stop_gradient(y), z)
        loss = v2(y, z)
    to_z, none = tape.gradient(stopped, [z, y])
    return to_z.numpy(), none, tape.gradient(loss, y).numpy()


def labels_mistake():
    """Ask for gradients without a tape."""
    x = tf.constant(3.0)
    tf1.gradients(x * x, x)


def decay_tf1():
    """The rate is a tensor that depends on the global step."""
    with tf1.Graph().as_default(), tf1.Session() as session:
        w = tf1.Variable(1.0)
        step = tf1.train.get_or_create_global_step()
        rate = tf1.train.exponential_decay(0.1, step, 10, 0.5)
        optimizer = tf1.train.GradientDescentOptimizer(rate)
        train = optimizer.minimize(w * w, global_step=step)
        session.run(tf1.global_variables_initializer())
        for _ in range(20):
            session.run(train)
        return session.run(w), session.run(rate)


def decay_tf2():
    """The rate is a schedule; the optimizer counts the steps."""
    w = tf.Variable(1.0)
    schedule = keras.optimizers.schedules.ExponentialDecay
    optimizer = keras.optimizers.SGD(schedule(0.1, 10, 0.5))

    @tf.function
    def train():
        optimizer.apply([2 * w], [w])  # the gradient of w * w

    for _ in range(20):
        train()
    return w.numpy(), optimizer.learning_rate.numpy()


def metric_tf1(batches=(([1, 0], [1, 1]), ([1], [1]))):
    """Run the update on each batch, then the metric."""
    with tf1.Graph().as_default(), tf1.Session() as session:
        fed = tf1.placeholder(tf1.int64, (2, None))
        accuracy, update = tf1.metrics.accuracy(fed[0], fed[1])
        session.run(tf1.local_variables_initializer())
        for y, y_pred in batches:
            session.run(update, {fed: [y, y_pred]})
        return session.run(accuracy)


def metric_tf2(batches=(([1, 0], [1, 1]), ([1], [1]))):
    """Update an object, then ask it for the result."""
    accuracy = keras.metrics.Accuracy()
    for y, y_pred in batches:
        accuracy.update_state(y, y_pred)
    return accuracy.result().numpy()


def seed_tf1(seed=1):
    """Seed the graph and the operation."""
    with tf1.Graph().as_default(), tf1.Session() as session:
        tf1.set_random_seed(seed)
        draw = tf1.random_normal((3,), seed=2)
        return [session.run(draw) for _ in range(2)]


def seed_tf2(seed=1):
    """Seed everything and the operation."""
    tf.random.set_seed(seed)
    draws = [tf.random.normal((3,), seed=2) for _ in range(2)]
    return [draw.numpy() for draw in draws]


def python_tf1(x=(3.0, 1.0, 2.0)):
    """Wrap Python code as an operation of the graph."""
    with tf1.Graph().as_default(), tf1.Session() as session:
        y = tf1.py_func(np.sort, [tf1.constant(x)], tf1.float32)
        return session.run(y)


def python_tf2(x=(3.0, 1.0, 2.0)):
    """Wrap it only where a tf.function needs it."""

    @tf.function
    def ordered(x):
        return tf.numpy_function(np.sort, [x], tf.float32)

    return ordered(tf.constant(x)).numpy()


def iterate_tf1(n=5):
    """Run the next batch until there is none."""
    with tf1.Graph().as_default(), tf1.Session() as session:
        dataset = tf1.data.Dataset.range(n).batch(2)
        batch = tf1.data.make_one_shot_iterator(dataset).get_next()
        batches = []
        try:
            while True:
                batches.append(session.run(batch))
        except tf1.errors.OutOfRangeError:
            return batches


def iterate_tf2(n=5):
    """A dataset is something to loop over."""
    dataset = tf.data.Dataset.range(n).batch(2)
    return [batch.numpy() for batch in dataset]


def iterate_mistake():
    """Ask a dataset of TensorFlow 2 for an iterator of 1."""
    tf.data.Dataset.range(5).make_one_shot_iterator()


def graph_tf1():
    """Write the session's graph for TensorBoard."""
    graph = tf1.Graph()
    with graph.as_default(), TemporaryDirectory() as folder:
        x = tf1.placeholder(tf1.float32, (None, 2))
        tf1.identity(tf1.nn.relu(x @ tf1.ones((2, 1))))
        tf1.summary.FileWriter(folder, graph).close()
        events = event_accumulator.EventAccumulator(folder).Reload()
        return sorted({node.op for node in events.Graph().node})


def graph_tf2():
    """Write the graph of a function for one shape of argument."""

    @tf.function
    def forward(x):
        return tf.nn.relu(x @ tf.ones((2, 1)))

    with TemporaryDirectory() as folder:
        batch = tf.TensorSpec((None, 2), tf.float32)
        graph = forward.get_concrete_function(batch).graph
        with tf.summary.create_file_writer(folder).as_default():
            tf.summary.graph(graph)
        events = event_accumulator.EventAccumulator(folder).Reload()
        return sorted({node.op for node in events.Graph().node})


def save_tf1(path=None):
    """A saver files variables under their names."""
    with TemporaryDirectory() as folder, tf1.Graph().as_default():
        w = tf1.get_variable("w", initializer=[1.0, 2.0])
        saver = tf1.train.Saver()
        with tf1.Session() as session:
            session.run(tf1.global_variables_initializer())
            path = saver.save(session, path or f"{folder}/model")
            session.run(w.assign([0.0, 0.0]))
            saver.restore(session, path)
            return session.run(w)


def save_tf2():
    """A checkpoint files them where the object holds them."""
    w = tf.Variable([1.0, 2.0])
    checkpoint = tf.train.Checkpoint(w=w)
    with TemporaryDirectory() as folder:
        path = checkpoint.write(f"{folder}/model")
        w.assign([0.0, 0.0])
        checkpoint.read(path).assert_consumed()
        return w.numpy()


def read_old_tf2():
    """Read by its name what save_tf1 has written."""
    with TemporaryDirectory() as folder:
        save_tf1(f"{folder}/model")
        reader = tf.train.load_checkpoint(f"{folder}/model")
        w = tf.Variable(reader.get_tensor("w"))
        return w.numpy()


def rename_tf1(n=((1, 2), (3, 4))):
    """The names of 2017."""
    with tf1.Graph().as_default(), tf1.Session() as session:
        x = tf1.log(tf1.to_float(n))
        y = tf1.reduce_sum(x, reduction_indices=[1], keep_dims=True)
        return session.run([y, tf1.arg_max(x, 0), tf1.div(n, 2)])


def rename_tf2(n=((1, 2), (3, 4))):
    """The names of today."""
    x = tf.math.log(tf.cast(n, tf.float32))
    y = tf.reduce_sum(x, axis=[1], keepdims=True)
    results = [y, tf.argmax(x, axis=0), tf.constant(n) // 2]
    return [result.numpy() for result in results]


def rename_mistake():
    """Call the logarithm by its old name."""
    return tf.log(2.0)


def dense_tf1(x=((1.0, 2.0),), classes=(2, 0)):
    """What np_utils and the dense layer compute."""
    with tf1.Graph().as_default(), tf1.Session() as session:
        one_hot = tf1.one_hot(classes, 3, dtype=tf1.float64)
        kernel, bias = tf1.fill((2, 3), 0.5), tf1.fill((3,), -1.0)
        y = tf1.nn.bias_add(tf1.constant(x) @ kernel, bias)
        return session.run([one_hot, tf1.nn.relu(y)])


def dense_tf2(x=((1.0, 2.0),), classes=(2, 0)):
    """Import from keras.utils and keras.layers, and no deeper."""
    one_hot = keras.utils.to_categorical(classes, 3)
    dense = keras.layers.Dense(
        3,
        activation="relu",
        kernel_initializer=keras.initializers.Constant(0.5),
        bias_initializer=keras.initializers.Constant(-1.0),
    )
    return [one_hot, dense(tf.constant(x)).numpy()]


def dense_mistake():
    """Look for np_utils where it was."""
    return keras.utils.np_utils.to_categorical([2, 0], 3)


PAIRS = (
    Pair(
        old="`placeholder`, `Session`, `feed_dict`",
        new="arguments of a function",
        tf1=feed_tf1,
        tf2=feed_tf2,
        note=(
            "What the placeholder said of shape and dtype goes into "
            "`input_signature`; without it, every new shape is traced anew. A graph "
            "is still built, when the function is first called."
        ),
        threads=(
            "https://github.com/tensorflow/tensorflow/issues/28512",
            "https://github.com/tensorflow/tensorflow/issues/38361",
            "https://github.com/tensorflow/community/pull/20",
        ),
        mistake=feed_mistake,
    ),
    Pair(
        old="`placeholder_with_default`",
        new="a default argument",
        tf1=default_tf1,
        tf2=default_tf2,
        note=(
            "Pass a tensor where a value changes: a Python number belongs to the "
            "signature, and the function is traced anew for every other one."
        ),
        threads=("https://github.com/tensorflow/tensorflow/issues/40997",),
    ),
    Pair(
        old="`global_variables_initializer`, `eval()`",
        new="nothing, and `numpy()`",
        tf1=initialize_tf1,
        tf2=initialize_tf2,
        note=(
            "A forgotten or too early initializer cannot happen any more. Inside a "
            "`tf.function` a tensor has no value to look at: return it, or use "
            "`tf.print`."
        ),
        threads=(
            "https://github.com/tensorflow/tensorflow/issues/36648",
            "https://github.com/tensorflow/tensorflow/issues/27519",
        ),
        mistake=initialize_mistake,
    ),
    Pair(
        old="`get_variable`, `variable_scope`",
        new="a `tf.Module` that holds them",
        tf1=reuse_tf1,
        tf2=reuse_tf2,
        note=(
            "Names are for reading only: two variables may have the same. Called "
            "eagerly, `tf1.get_variable` ignores `reuse` and makes a new variable "
            "every time."
        ),
        threads=(
            "https://github.com/tensorflow/tensorflow/issues/45876",
            "https://github.com/ageron/tf2_course/issues/14",
        ),
    ),
    Pair(
        old="a variable of the graph",
        new="a variable outside the `tf.function`",
        tf1=count_tf1,
        tf2=count_tf2,
        note=(
            "A `tf.function` is traced again for other arguments, so it may create "
            "variables on its very first call only. The place for them is an object's "
            "constructor, or a layer's `build`."
        ),
        threads=(
            "https://github.com/tensorflow/tensorflow/issues/26812",
            "https://github.com/tensorflow/tensorflow/issues/27120",
        ),
        mistake=count_mistake,
    ),
    Pair(
        old="`GraphKeys`, `get_collection`",
        new="attributes of an object",
        tf1=collect_tf1,
        tf2=collect_tf2,
        note=(
            "A Keras model lists its penalties in `losses`. "
            "`keras.regularizers.L2(c)` is c times the sum of squares, "
            "`tf.nn.l2_loss` half that sum, and so was "
            "`tf.contrib.layers.l2_regularizer`: halve c on the way."
        ),
        threads=(
            "https://github.com/tensorflow/community/pull/17",
            "https://github.com/tensorpack/tensorpack/issues/1381",
        ),
    ),
    Pair(
        old="`cond`, `while_loop`",
        new="`if`, `while`, `for`",
        tf1=branch_tf1,
        tf2=branch_tf2,
        note=(
            "Only a condition on a tensor becomes part of the graph. On a Python "
            "number the loop runs while the function is traced, and leaves the "
            "operations of every turn in the graph."
        ),
        threads=(
            "https://github.com/tensorflow/tensorflow/issues/34940",
            "https://github.com/tensorflow/addons/issues/1794",
        ),
        mistake=branch_mistake,
    ),
    Pair(
        old="`control_dependencies`",
        new="the order of the lines",
        tf1=order_tf1,
        tf2=order_tf2,
        note=(
            "TensorFlow 1 ran what a fetch depended on, and nothing else. A "
            "`tf.function` runs every assignment, in the order in which they are "
            "written."
        ),
        threads=("https://github.com/tensorflow/tensorflow/issues/24874",),
    ),
    Pair(
        old="`minimize(tensor)`",
        new="a tape",
        tf1=minimize_tf1,
        tf2=minimize_tf2,
        note=(
            "In a graph a tensor knows what it was computed from; eagerly, only a "
            "tape does. Keras's optimizers take the gradients in `apply_gradients`; "
            "`minimize` wanted a function or the tape, and Keras 3 has dropped it."
        ),
        threads=(
            "https://github.com/tensorflow/tensorflow/issues/37933",
            "https://github.com/tensorflow/tensorflow/issues/51622",
        ),
        mistake=minimize_mistake,
    ),
    Pair(
        old="`softmax_cross_entropy_with_logits`",
        new="the same with `stop_gradient`",
        tf1=labels_tf1,
        tf2=labels_tf2,
        note=(
            "It matters where the labels are computed too, by a second model for "
            "instance: the new loss trains that one as well. For labels that are data "
            "nothing changes."
        ),
        threads=("https://github.com/tensorflow/tensorflow/issues/16534",),
        mistake=labels_mistake,
    ),
    Pair(
        old="`exponential_decay`, `global_step`",
        new="a schedule in the optimizer",
        tf1=decay_tf1,
        tf2=decay_tf2,
        note=(
            "Only in a `tf.function` are the rates the same to the last bit: a graph "
            "multiplies by 1/10 where eager code divides by 10. Keras's Adam and "
            "momentum do their sums in another order than TensorFlow 1's and agree "
            "but for rounding, once Adam's epsilon is the same: 1e-8 there, 1e-7 in "
            "Keras."
        ),
        threads=(
            "https://github.com/tensorflow/tensorflow/issues/28068",
            "https://github.com/keras-team/keras/issues/11718",
        ),
    ),
    Pair(
        old="`metrics`, `local_variables_initializer`",
        new="`keras.metrics`",
        tf1=metric_tf1,
        tf2=metric_tf2,
        note=(
            "A metric that is read without an update is 0, then and now. "
            "`reset_state()` begins a new epoch, where the local variables had to be "
            "initialized again."
        ),
        threads=(
            "https://github.com/tensorflow/tensorflow/issues/15115",
            "https://github.com/tensorflow/tensorflow/issues/9498",
        ),
    ),
    Pair(
        old="`set_random_seed`, `random_normal`",
        new="`random.set_seed`, `random.normal`",
        tf1=seed_tf1,
        tf2=seed_tf2,
        note=(
            "With the first seed alone the draws differ: the second is then the number "
            "of the graph's random operations so far in TensorFlow 1, and itself drawn "
            "in TensorFlow 2. `tf.random.stateless_normal` depends on its own seed "
            "only, in both."
        ),
        threads=(
            "https://github.com/tensorflow/tensorflow/issues/33034",
            "https://github.com/tensorflow/tensorflow/issues/9171",
        ),
    ),
    Pair(
        old="`py_func`",
        new="`numpy_function`, `py_function`",
        tf1=python_tf1,
        tf2=python_tf2,
        note=(
            "`numpy_function` hands over arrays and has no gradient, as before; "
            "`py_function` hands over tensors, and a tape sees through it. Outside a "
            "`tf.function` neither is needed."
        ),
        threads=(
            "https://github.com/tensorflow/tensorflow/pull/29912",
            "https://github.com/tensorflow/tensorflow/issues/34166",
        ),
    ),
    Pair(
        old="`make_one_shot_iterator`, `get_next`",
        new="`for`",
        tf1=iterate_tf1,
        tf2=iterate_tf2,
        note=(
            "The loop ends where the error came, and a second loop begins anew. In a "
            "`tf.function` the same `for` becomes part of the graph."
        ),
        threads=(
            "https://github.com/tensorflow/tensorflow/issues/29252",
            "https://github.com/tensorflow/tensorflow/issues/29747",
        ),
        mistake=iterate_mistake,
    ),
    Pair(
        old="`FileWriter(sess.graph)`",
        new="`tf.summary.graph`",
        tf1=graph_tf1,
        tf2=graph_tf2,
        note=(
            "A function has a graph for every signature; `get_concrete_function` "
            "picks one. `tf.summary.trace_on` and `trace_export` write the graphs of "
            "what is called between them. `keras.callbacks.TensorBoard` writes the "
            "model's layers, and in Keras 3.15.1 no graph of operations."
        ),
        threads=(
            "https://github.com/tensorflow/tensorboard/issues/1961",
            "https://github.com/tensorflow/tensorboard/issues/2408",
            "https://github.com/tensorflow/tensorboard/issues/5072",
        ),
    ),
    Pair(
        old="`Saver`",
        new="`tf.train.Checkpoint`",
        tf1=save_tf1,
        tf2=save_tf2,
        note=(
            "A saver loses a variable whose name changes, a checkpoint one whose "
            "attribute changes. `assert_consumed` raises unless everything was found."
        ),
        threads=(
            "https://github.com/deepchem/deepchem/pull/1566",
            "https://github.com/tensorflow/tensorflow/issues/23763",
        ),
    ),
    Pair(
        old="a checkpoint of `Saver`",
        new="`tf.train.load_checkpoint`",
        tf1=save_tf1,
        tf2=read_old_tf2,
        note=(
            "The file holds arrays by name, and `tf.train.list_variables` lists them. "
            "Build the model anew and assign what it needs."
        ),
        threads=(
            "https://github.com/tensorflow/tensorflow/issues/38997",
            "https://github.com/tensorflow/tensorflow/issues/55763",
        ),
    ),
    Pair(
        old="`log`, `to_float`, `reduction_indices`",
        new="`math.log`, `cast`, `axis`",
        tf1=rename_tf1,
        tf2=rename_tf2,
        note=(
            "TensorFlow brings a program, `tf_upgrade_v2`, that rewrites files; what "
            "has no new name it sends to `tf.compat.v1`. `keep_dims` is `keepdims`, "
            "`arg_max(x, 0)` is `argmax(x, axis=0)`, `div` of integers is `//`."
        ),
        threads=(
            "https://github.com/tensorflow/tensorflow/issues/24653",
            "https://github.com/keras-team/keras/pull/7126",
            "https://github.com/matterport/Mask_RCNN/issues/1797",
        ),
        mistake=rename_mistake,
    ),
    Pair(
        old="`np_utils`, `layers.core`, `tf.layers`",
        new="`keras.utils`, `keras.layers`",
        tf1=dense_tf1,
        tf2=dense_tf2,
        note=(
            "These and `tf.contrib` are gone altogether, from `tf.compat.v1` too: "
            "what stands under TensorFlow 1 is what they computed. `np_utils` and "
            "`layers.core` were inner modules of Keras, whose contents have long been "
            "importable from the outer ones."
        ),
        threads=(
            "https://github.com/keras-team/keras/issues/18363",
            "https://github.com/keras-team/keras/issues/1670",
            "https://github.com/tensorflow/tensorflow/issues/26144",
            "https://github.com/tensorflow/tensorflow/issues/31350",
        ),
        mistake=dense_mistake,
    ),
)


def check(pair: Pair) -> Any:
    """Run both sides; return what they return, which is the same to the last bit.

    Raises ValueError where it is not.
    """
    with _without_advice():
        old, new = pair.tf1(), pair.tf2()
    if not same(old, new):
        raise ValueError(
            f"{pair.name}: TensorFlow 1 returns {old!r}, TensorFlow 2 {new!r}; the two "
            "must have the same structure, types, shapes and bits; mend tf2"
        )
    return new


def same(a: Any, b: Any) -> bool:
    """Whether two results agree in structure, type, dtype, shape and every bit."""
    if type(a) is not type(b):
        return False
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a is None or parity.same_bits([np.asarray(a)], [np.asarray(b)])


def error(mistake: Callable[[], object]) -> str:
    """Return the type and the first sentence of what a mistake raises.

    Raises ValueError if it raises nothing.
    """
    try:
        mistake()
    except Exception as problem:
        name = type(problem).__name__
        # In a tf.function the text is a traceback that ends on the error's own line.
        line = str(problem).rpartition(f"{name}: ")[2].partition("\n")[0]
        return f"{name}: {line.partition('. ')[0]}"
    raise ValueError(
        f"{mistake.__name__} raises nothing; a mistake must raise an error; drop it"
    )


def summary(pairs: Sequence[Pair], notebook: str) -> Table:
    """Check the pairs and list them, a row each, linked to where `notebook` shows them.

    Raises ValueError for a pair whose sides differ.
    """
    rows = []
    for pair in pairs:
        check(pair)  # or there is no table
        anchor = pair.name.replace("`", "").replace(" ", "-")
        rows.append([f"[{pair.old}]({notebook}#{anchor})", pair.new, "yes"])
    return Table([DIALECTS["tf1"], DIALECTS["tf2"], "equal"], rows, names=3)


def show(pair: Pair) -> Markdown:
    """Show a pair: the code abreast, what both return, what to look out for.

    Raises ValueError where the two sides differ.
    """
    blocks = {DIALECTS["tf1"]: pair.tf1, DIALECTS["tf2"]: pair.tf2}
    parts = [
        f"#### {pair.name}",
        beside(blocks).text,
        f"Both return `{_rounded(check(pair))}`. {pair.note}",
    ]
    if pair.mistake:
        parts += [
            "What fails:",
            code(pair.mistake).text,
            f"```text\n{textwrap.fill(error(pair.mistake), _WIDTH)}\n```",
        ]
    links = [f"[{_label(thread)}]({thread})" for thread in pair.threads]
    parts.append(f"Threads: {', '.join(links)}.")
    return Markdown("\n\n".join(parts))


def _label(thread: str) -> str:
    """Name a thread as GitHub does: tensorflow#28512."""
    _, repository, _, number = thread.rsplit("/", 3)
    return f"{repository}#{number}"


def _rounded(value: Any) -> Any:
    """Arrays as lists, to three decimals: more would differ between processors."""
    if isinstance(value, list | tuple):
        return type(value)(map(_rounded, value))
    if isinstance(value, np.ndarray | np.generic):
        floating = np.issubdtype(value.dtype, np.floating)
        return (np.round(value.astype(float), 3) if floating else value).tolist()
    return value


@contextlib.contextmanager
def _without_advice() -> Iterator[None]:
    """Silence TensorFlow's advice to use the new names, which is what the pairs do."""
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
