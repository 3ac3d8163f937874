"""Why two runs differ: a table of causes, each one function in place of another.

A new cause is a function and an entry in `CAUSES`: figure, symptoms and text come from
the entry, and its size comes from the run.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kvt import data, quiet
from kvt.compare.pairs import NORM, STRENGTH, bright, late_starts, moments
from kvt.compare.recipe import (
    Array,
    Rows,
    Slots,
    Step,
    Tensor,
    Tensors,
    Variables,
    Weights,
    cut,
    sgd,
)

with quiet():
    import tensorflow as tf


@dataclass(frozen=True)
class Cause:
    """One thing that makes two runs differ.

    Attributes:
        name: of its heading and of its row in the figure, 26 characters at most.
        symptom: what is seen first, in a few words.
        part: the field of `Recipe` that it replaces.
        variant: what stands there instead.
        why: what happens.
        tell: how to find out, within a minute, that it is this.
        fix: what makes both sides alike.
        threads: where people met it, on GitHub.
        base: the pair that it is measured on.
        needs: what to look at where it has no effect.
        of_the_machine: whether the processor decides if it shows.
    """

    name: str
    symptom: str
    part: str
    variant: Callable[..., Any]
    why: str
    tell: str
    fix: str
    threads: tuple[str, ...]
    base: str = "network"
    needs: str = "compare its variant with the part that it replaces"
    of_the_machine: bool = False


# --- initial weights ------------------------------------------------------------------


def drawn_again(initial: Weights, seed: int) -> Weights:
    """Glorot's limits and an equal seed, but another generator."""
    draw = tf.random.Generator.from_seed(seed).uniform
    weights = list(initial)
    for i in (0, 2):  # the kernels
        limit = (6 / sum(weights[i].shape)) ** 0.5
        weights[i] = draw(weights[i].shape, -limit, limit).numpy()
    return weights


def standard_normal(initial: Weights, seed: int) -> Weights:
    """Draw kernels as tf.random.normal does by default."""
    draw = np.random.default_rng(seed).standard_normal
    weights = list(initial)
    for i in (0, 2):  # the kernels
        weights[i] = draw(weights[i].shape).astype("float32")
    return weights


# --- inputs and targets ---------------------------------------------------------------


def doubles(x: Array) -> Array:
    """NumPy's own dtype, and the whole training takes it."""
    return x.astype("float64")


def without_axis(y: Array) -> Array:
    """Drop the axis that the predictions have."""
    return y[:, 0]  # (n,), not (n, 1)


# --- split, order, batches ------------------------------------------------------------


def random_rows(n: int, validation_split: float, seed: int) -> tuple[Rows, Rows]:
    """Draw the rows to hold back, as train_test_split does."""
    rows = np.random.default_rng(seed).permutation(n)
    n_train = data.split(n, validation_split)
    return rows[:n_train], rows[n_train:]


def as_stored(n: int, batch_size: int, seed: int, epoch: int) -> list[Rows]:
    """Visit the rows as they are stored."""
    return cut(np.arange(n), batch_size)


def drawn_each_time(n: int, batch_size: int, seed: int, epoch: int) -> list[Rows]:
    """Draw every batch from all rows, drawn ones included."""
    generator = np.random.default_rng([seed, epoch])
    return cut(generator.integers(n, size=n), batch_size)


def from_small_buffer(n: int, batch_size: int, seed: int, epoch: int) -> list[Rows]:
    """Shuffle through a buffer of 100 rows."""
    rows = tf.data.Dataset.range(n).shuffle(100, seed=seed)
    return list(rows.batch(batch_size).as_numpy_iterator())


def whole_batches(n: int, batch_size: int, seed: int, epoch: int) -> list[Rows]:
    """Batch first, then shuffle the batches."""
    batches = cut(np.arange(n), batch_size)
    generator = np.random.default_rng([seed, epoch])
    return [batches[i] for i in generator.permutation(len(batches))]


def another_order(n: int, batch_size: int, seed: int, epoch: int) -> list[Rows]:
    """Draw a new order for each epoch; the first is Keras's."""
    return cut(data.example_order(n, seed + epoch), batch_size)


def full_ones_only(n: int, batch_size: int, seed: int, epoch: int) -> list[Rows]:
    """Keep Keras's order, but drop_remainder=True."""
    batches = cut(data.example_order(n, seed), batch_size)
    return [batch for batch in batches if len(batch) == batch_size]


# --- forward --------------------------------------------------------------------------


def plus(weights: Variables, x: Tensor, training: bool) -> Tensor:
    """Two layers; a bias goes on with +."""
    w1, b1, w2, b2 = weights
    h = tf.nn.relu(x @ w1 + b1)  # (b, 32)
    return h @ w2 + b2  # (b, 10), logits


def always(phase: str) -> bool:
    """The test step says training=True as well."""
    return True


def never(phase: str) -> bool:
    """Nobody says training=True."""
    return False


# --- loss -----------------------------------------------------------------------------


def total(losses: Tensor, batch_size: int) -> Tensor:
    """Add the examples' losses up."""
    return tf.reduce_sum(losses)


def over_full_batch(losses: Tensor, batch_size: int) -> Tensor:
    """Divide by the examples that a full batch would have."""
    return tf.reduce_sum(losses) / batch_size


def softmax_twice(y: Tensor, logits: Tensor) -> Tensor:
    """Hand probabilities to a function that expects logits."""
    p = tf.nn.softmax(logits)
    return tf.nn.softmax_cross_entropy_with_logits(y, p)  # (b,)


def log_of_softmax(y: Tensor, logits: Tensor) -> Tensor:
    """Write the formula down."""
    p = tf.nn.softmax(logits)
    return -tf.reduce_sum(y * tf.math.log(p), axis=1)  # (b,)


def clipped_softmax(y: Tensor, logits: Tensor) -> Tensor:
    """Keep the logarithm away from zero."""
    p = tf.clip_by_value(tf.nn.softmax(logits), 1e-7, 1 - 1e-7)
    return -tf.reduce_sum(y * tf.math.log(p), axis=1)  # (b,)


def log_softmax(y: Tensor, logits: Tensor) -> Tensor:
    """Write the formula down, stably."""
    return -tf.reduce_sum(y * tf.nn.log_softmax(logits), axis=1)


def half_of_squares(weights: Variables) -> Tensor:
    """Add TensorFlow's l2_loss."""
    kernels = weights[0], weights[2]
    first, second = (tf.nn.l2_loss(w) for w in kernels)
    return STRENGTH * first + STRENGTH * second


# --- gradients and update -------------------------------------------------------------


def gated(tape: Any, loss: Tensor, weights: Variables) -> Tensors:
    """All gradients of an operation wait for each other."""
    return tf.gradients(loss, weights, gate_gradients=True)


def clipped_together(tape: Any, loss: Tensor, weights: Variables) -> Tensors:
    """All gradients are shortened by one factor."""
    gradients = tape.gradient(loss, weights)
    return tf.clip_by_global_norm(gradients, NORM)[0]


def averaged_momentum(
    weights: Variables, gradients: Tensors, learning_rate: float, slots: Slots
) -> None:
    """The velocity is a mean of gradients."""
    for w, g, m in zip(weights, gradients, slots.m, strict=True):
        m.assign(0.9 * m + (1 - 0.9) * g)
        w.assign_sub(learning_rate * m)


def smaller_epsilon(
    weights: Variables, gradients: Tensors, learning_rate: float, slots: Slots
) -> None:
    """Adam with the epsilon of PyTorch and TensorFlow 1."""
    first, second = late_starts(slots)
    rate = learning_rate * tf.sqrt(second) / first
    for w, m, v in moments(weights, gradients, slots):
        w.assign_sub(m * rate / (tf.sqrt(v) + 1e-8))


def epsilon_of_the_paper(
    weights: Variables, gradients: Tensors, learning_rate: float, slots: Slots
) -> None:
    """Adam with epsilon added to the corrected root."""
    first, second = late_starts(slots)
    for w, m, v in moments(weights, gradients, slots):
        root = tf.sqrt(v / second) + 1e-7
        w.assign_sub(learning_rate * (m / first) / root)


def single_rate(
    weights: Variables, gradients: Tensors, learning_rate: float, slots: Slots
) -> None:
    """The rate is a float32 first."""
    rate = tf.cast(tf.constant(learning_rate), gradients[0].dtype)
    for w, g in zip(weights, gradients, strict=True):
        w.assign_sub(rate * g)


# --- compilation and processor --------------------------------------------------------


def xla(step: Step, signature: Sequence[Any]) -> Step:
    """One graph, its operations merged and reordered by XLA."""
    options = {"input_signature": signature, "jit_compile": True}
    return tf.function(step, **options)


def as_elsewhere() -> dict[str, str]:
    """Other kernels and one thread, as on another machine."""
    return {
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "TF_NUM_INTRAOP_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }


# --- figures --------------------------------------------------------------------------


def by_batch(values: list[Array], sizes: list[int]) -> float:
    """Average over batches, however many examples each has."""
    return float(np.mean([value.mean() for value in values]))


def in_float64(values: list[Array], sizes: list[int]) -> float:
    """Average over examples; the sum is held in float64."""
    sums = [
        np.sum(value, dtype="float64") * (1 if value.ndim else size)
        for value, size in zip(values, sizes, strict=True)
    ]
    return float(sum(sums) / sum(sizes))


def after_epoch(
    logs: dict[str, float], measure: Callable[[], dict[str, float]]
) -> dict[str, float]:
    """Measure all training examples again, on the final weights."""
    return measure()


def binary(y: Tensor, logits: Tensor) -> Tensor:
    """Count each of the ten outputs by itself."""
    outputs = tf.round(tf.nn.softmax(logits))  # (b, 10)
    hits = tf.cast(tf.equal(y, outputs), y.dtype)
    return tf.reduce_mean(hits, axis=1)  # (b,)


def exact(y: Tensor, logits: Tensor) -> Tensor:
    """Count outputs that are the very numbers of the target."""
    hits = tf.equal(y, tf.nn.softmax(logits))  # (b, 10)
    return tf.reduce_mean(tf.cast(hits, y.dtype), axis=1)  # (b,)


# --- the table ------------------------------------------------------------------------

KERAS = "https://github.com/keras-team/keras/issues/"
TENSORFLOW = "https://github.com/tensorflow/tensorflow/issues/"
GITHUB = "https://github.com/"

CAUSES = (
    Cause(
        name="Another initial draw",
        symptom="the first figures differ, the last ones are much alike",
        part="start",
        variant=drawn_again,
        why="A seed names a stream of numbers of one generator. Keras draws from its "
        "own, `tf.random` from another, NumPy from a third: with equal seeds, shapes "
        "and limits, every number is another one. What is left is the distance "
        "between two honest runs, so a difference of this size says nothing about "
        "the code.",
        tell="Before the first step, print "
        "`parity.same_bits(model.get_weights(), [w.numpy() for w in weights])`.",
        fix="Copy the draw: `w.assign(value)` for each of `model.get_weights()`.",
        threads=(f"{KERAS}3654", f"{KERAS}15586"),
    ),
    Cause(
        name="Standard normal start",
        symptom="the first loss is far above the logarithm of the number of classes",
        part="start",
        variant=standard_normal,
        why="`tf.random.normal` has a standard deviation of 1 unless told otherwise. A "
        "hidden unit adds up 784 such weights, the softmax starts out sure and wrong, "
        "and the training is spent on undoing it. Keras's Glorot limits shrink with "
        "the number of inputs and outputs. (2017's raw networks drew with 0.1.)",
        tell="Print each kernel's `std()` on both sides. Or look at the first "
        "batch's loss: ten classes and no knowledge give ln 10 = 2.303.",
        fix="`keras.initializers.GlorotUniform()(shape)` draws for raw TensorFlow "
        "too, or copy the draw.",
        threads=(f"{TENSORFLOW}1565", f"{TENSORFLOW}21738"),
    ),
    Cause(
        name="Pixels not scaled",
        symptom="the loss jumps, then stays at 2.303 with ten classes",
        part="inputs",
        variant=bright,
        why="Inputs 255 times as large make the first layer's gradient 255 times as "
        "large. The first steps throw the hidden units to where their relu gives 0 "
        "for every image; from then on only the output's biases learn, and the loss "
        "stays at that of guessing, ln 10.",
        tell="Print `x.max()` of one batch on both sides, as the step receives it.",
        fix="Divide by 255 in one place, for training, validation and test.",
        threads=(f"{KERAS}6914", f"{KERAS}3642"),
    ),
    Cause(
        name="Float64 throughout",
        symptom="everything agrees to six digits or so, and to no more",
        part="inputs",
        variant=doubles,
        why="`x / 255` of whole numbers is float64 in NumPy. Keras casts what it is "
        "given to its own `floatx`, float32; raw TensorFlow computes in the dtype "
        "that comes in, and the weights have to follow. The operations are the same, "
        "each rounds at another digit.",
        tell="Print `x.dtype` and the weights' dtypes on both sides.",
        fix='`x.astype("float32")` where the data is loaded; or '
        '`keras.config.set_floatx("float64")` before the model is built.',
        threads=(
            f"{KERAS}15791",
            f"{GITHUB}d2l-ai/d2l-en/pull/1059",
        ),
    ),
    Cause(
        name="Targets without their axis",
        symptom="a regression learns the mean of its targets, and nothing else",
        part="targets",
        variant=without_axis,
        base="line",
        why="The difference of shapes (b,) and (b, 1) has shape (b, b): every target "
        "is compared with every prediction. The best answer to that is one number, "
        "the targets' mean. Keras brings targets and predictions to one rank before "
        "it subtracts; raw TensorFlow broadcasts without a word.",
        tell="Print `(y - y_pred).shape` inside the loss.",
        fix="Give the targets the axis, `y[:, None]`, and assert that "
        "`y.shape == y_pred.shape`.",
        threads=(f"{KERAS}14627", f"{TENSORFLOW}37770"),
    ),
    Cause(
        name="Random split",
        symptom="validation figures differ from the first epoch on",
        part="split",
        variant=random_rows,
        why="`validation_split` holds back the tail, cut before any shuffling; "
        "`train_test_split` draws. The two sides then learn from other examples and "
        "are examined on others. Where the stored data is sorted, the tail holds "
        "classes that were never trained on.",
        tell="Print `y_val[:10]` on both sides.",
        fix="Cut once, `n = math.floor(len(x) * (1 - validation_split))`, and give "
        "both sides the same `validation_data=(x[n:], y[n:])`.",
        threads=(f"{KERAS}597", f"{KERAS}4692", f"{KERAS}8346"),
        needs="with a validation_split of 0 only the order differs",
    ),
    Cause(
        name="Not shuffled",
        symptom="the first batch holds other examples",
        part="batches",
        variant=as_stored,
        why="`fit` shuffles unless told otherwise; a loop over `x[i : i + b]` does "
        "not. On data that was stored in random order this is one more order among "
        "many. On sorted data each batch knows one class only.",
        tell="Print the targets of the first batch on both sides.",
        fix="Give both sides one order: `kvt.data.example_order(n, seed)` is Keras's.",
        threads=(f"{KERAS}6955",),
    ),
    Cause(
        name="Drawn with replacement",
        symptom="some examples come twice in an epoch, others never",
        part="batches",
        variant=drawn_each_time,
        why="A batch drawn from all rows may draw again what an earlier one had. Of n "
        "draws among n rows about 1/e, or 37 %, of the rows are missed in an epoch: "
        "an epoch is then a number of steps, no longer a pass.",
        tell="Collect an epoch's rows: `len(np.unique(rows)) == len(rows)` must hold.",
        fix="Permute, then cut: `order = rng.permutation(n)`.",
        threads=(
            f"{GITHUB}ageron/handson-ml2/issues/458",
            f"{GITHUB}tensorflow/skflow/issues/50",
        ),
    ),
    Cause(
        name="Small shuffle buffer",
        symptom="early batches hold examples from the beginning of the data",
        part="batches",
        variant=from_small_buffer,
        why="`Dataset.shuffle(100)` draws each example from the next 100 that are "
        "stored, so that none comes much before its turn. Keras, given arrays, "
        "permutes all of them.",
        tell="Print the largest row of the first batch: with a full shuffle it is "
        "near n.",
        fix="`shuffle(len(x))`, or shuffle the rows' numbers and gather.",
        threads=(
            f"{TENSORFLOW}36626",
            f"{GITHUB}IBM/graph2tac/pull/95",
        ),
    ),
    Cause(
        name="Batches shuffled whole",
        symptom="the same examples sit together in every epoch",
        part="batches",
        variant=whole_batches,
        why='`batch(b).shuffle(…)`, and Keras\'s `shuffle="batch"`, move batches as '
        "wholes: neighbors in the data stay together. On sorted data each batch holds "
        "one class.",
        tell="Print one batch's targets in two epochs: the same set comes again.",
        fix="`shuffle(…).batch(b)`, in this order.",
        threads=(f"{TENSORFLOW}45197",),
    ),
    Cause(
        name="Reshuffled each epoch",
        symptom="the first epoch is equal, the second is not",
        part="batches",
        variant=another_order,
        why="After `keras.utils.set_random_seed` Keras visits the examples in one "
        "order, the same in every epoch; section 03 says why. A raw loop that "
        "permutes anew agrees for one epoch and never again.",
        tell="Compare the weights after the first epoch, then after the second.",
        fix="Draw the order once, before the epochs; or feed both sides batches that "
        "you ordered yourself.",
        threads=(f"{KERAS}4950", f"{TENSORFLOW}29558"),
        needs="a second epoch is needed: run at least 2",
    ),
    Cause(
        name="Last batch dropped",
        symptom="one step an epoch is missing",
        part="batches",
        variant=full_ones_only,
        why="`drop_remainder=True`, and `n // batch_size` steps, leave the partial "
        "batch out. Under one order for all epochs they leave out the same examples "
        "every time, which are never learned from. Keras keeps them.",
        tell="Count the steps of an epoch: `math.ceil(n / batch_size)`.",
        fix="Round up, and let the last batch be smaller.",
        threads=(f"{GITHUB}keras-team/keras/pull/8310",),
        needs="the batch_size divides the training examples: choose another",
    ),
    Cause(
        name="Last batch weighs less",
        symptom="equal up to the last step of the first epoch",
        part="reduce",
        variant=over_full_batch,
        why="Keras divides a batch's loss by the examples that it has: the partial "
        "batch moves the weights as far as a full one. Divided by `batch_size`, as "
        "distributed training divides by its global batch, it moves them less.",
        tell="Compare the weights after the last full batch, then after the partial "
        "one.",
        fix="`tf.reduce_mean`; or divide by `tf.shape(losses)[0]`.",
        threads=(f"{TENSORFLOW}48875", f"{GITHUB}rstudio/keras3/issues/1071"),
        needs="the batch_size divides the training examples: choose another",
    ),
    Cause(
        name="Sum instead of mean",
        symptom="the loss is batch_size times as large, and training breaks down",
        part="reduce",
        variant=total,
        why="The gradient of a sum is batch_size times that of the mean, so the "
        "learning rate is, too. It hides well: with small batches and a small rate "
        "the training merely seems quicker, and a larger batch ends it.",
        tell="Double the batch: a mean's first loss stays, a sum's doubles.",
        fix="`tf.reduce_mean`, or a rate divided by `batch_size`.",
        threads=(
            f"{TENSORFLOW}307",
            f"{GITHUB}tensorflow/tensorflow/pull/1358",
        ),
    ),
    Cause(
        name="Softmax twice",
        symptom="it learns slowly, and the loss never falls below 1.461",
        part="losses",
        variant=softmax_twice,
        why="Probabilities lie between 0 and 1. Taken for logits, even perfect ones, "
        "a 1 among nine 0s, give a loss of ln(e + 9) − 1 = 1.461, and the gradients "
        "shrink with them. A name with `_with_logits` wants the numbers before the "
        "softmax.",
        tell="Print `tf.reduce_sum(logits, axis=1)`: if all are 1, they are no logits.",
        fix="Drop the softmax from the model, or `from_logits=False` in Keras's loss.",
        threads=(
            f"{GITHUB}nfmcclure/tensorflow_cookbook/issues/86",
            f"{KERAS}6636",
        ),
    ),
    Cause(
        name="Log of softmax",
        symptom="the loss is NaN, and so is every weight",
        part="losses",
        variant=log_of_softmax,
        base="network, pixels to 255",
        why="In float32 a probability beside a logit that is 104 larger is 0. Its "
        "logarithm is minus infinity, times a target of 0 it is NaN, and one NaN "
        "in one example reaches every weight in the next update. 2017's "
        "convolutional network computed its loss so. Unscaled pixels bring such "
        "logits at once; a long training brings them in the end.",
        tell="`tf.math.log(tf.nn.softmax([[0.0, 200.0]]))` is `[[-inf, 0.]]`: print "
        "`tf.reduce_min` of your probabilities.",
        fix="`tf.nn.softmax_cross_entropy_with_logits(y, logits)`.",
        threads=(
            f"{GITHUB}aymericdamien/TensorFlow-Examples/issues/383",
            f"{GITHUB}tensorflow/models/pull/181",
        ),
    ),
    Cause(
        name="Probabilities clipped",
        symptom="the examples that are most wrong are never learned",
        part="losses",
        variant=clipped_softmax,
        base="network, pixels to 255",
        why="Clipping heals the NaN and hides the examples: where a probability is "
        "clipped its gradient is 0, and an example's loss ends at −ln 1e-7 = 16.1. "
        "Keras does this itself when it cannot find the logits behind the "
        "probabilities, after a `Lambda` or a softmax of your own.",
        tell="Print the largest loss of one example: 16.118 is the clip.",
        fix='End the Keras model in `Dense(…, activation="softmax")`, where the '
        "loss finds the logits, or without softmax and with `from_logits=True`.",
        threads=(f"{TENSORFLOW}34221", f"{KERAS}7558", f"{KERAS}11801"),
    ),
    Cause(
        name="Log-softmax by hand",
        symptom="equal but for the last digits, from the first step on",
        part="losses",
        variant=log_softmax,
        why="The formula is the same and it is stable, but it is three operations "
        "where Keras calls one, which computes loss and gradient together and rounds "
        "at other places.",
        tell="Exchange the one for the other on one batch and compare the bits.",
        fix="Call the operation that the other side calls.",
        threads=(f"{TENSORFLOW}2462",),
    ),
    Cause(
        name="Bias added with plus",
        symptom="equal but for the last digits of the biases, then of all",
        part="forward",
        variant=plus,
        why="`x @ w + b` and `tf.nn.bias_add(x @ w, b)` are the same numbers. Their "
        "gradients are the same sum over the batch, taken in another order. Keras "
        "calls `bias_add` for two or more units, and `+` for one.",
        tell="Compare the biases alone after one step: the kernels still agree "
        "where no bias lies between them and the loss.",
        fix="`tf.nn.bias_add`.",
        threads=(f"{TENSORFLOW}22398",),
    ),
    Cause(
        name="Gradients gated",
        symptom="TensorFlow 1 differs in the last digits, on convolutions only",
        part="gradients",
        variant=gated,
        base="convolution",
        of_the_machine=True,
        why="TensorFlow 1's `minimize` lets nobody use one gradient of an operation "
        "before all are there. That keeps oneDNN from merging a convolution's two "
        "gradients, of filters and of biases, into one operation, and the two add up "
        "in other orders. "
        "[Section 04](04_convolutional_network.ipynb#One-keyword-and-the-last-bits) "
        "looks at both graphs. Without oneDNN there is nothing to merge.",
        tell="Run with `TF_ENABLE_ONEDNN_OPTS=0`: the difference goes away.",
        fix="`minimize(loss, gate_gradients=optimizer.GATE_NONE)`.",
        threads=(
            f"{GITHUB}uxlfoundation/oneDNN/issues/1227",
            f"{GITHUB}uxlfoundation/oneDNN/issues/120",
        ),
    ),
    Cause(
        name="Dropout left on",
        symptom="validation is far worse, and another number each time",
        part="training",
        variant=always,
        base="network, dropout",
        why="Dropout is for training. Left on, each validation and each prediction "
        "passes through half a network, another half each time; and the masks that "
        "it draws there are missing from the training, whose weights then differ as "
        "well.",
        tell="Predict the same batch twice: the answers must be equal.",
        fix="`model(x, training=False)` wherever nothing is learned.",
        threads=(
            f"{GITHUB}d2l-ai/d2l-en/issues/1093",
            f"{GITHUB}chiphuyen/stanford-tensorflow-tutorials/issues/125",
        ),
    ),
    Cause(
        name="Dropout left off",
        symptom="training is far better than Keras's",
        part="training",
        variant=never,
        base="network, dropout",
        why="In a loop of your own, `model(x)` means `training=False`. Nothing "
        "fails: the dropout is simply not there, nor does batch normalization learn "
        "its means. `fit` says `training=True` for you.",
        tell="Call the train step's forward pass twice: the answers must differ.",
        fix="`model(x, training=True)` under the tape.",
        threads=(f"{GITHUB}google-research/vision_transformer/issues/19",),
    ),
    Cause(
        name="Half of L2",
        symptom="the losses differ by a share of the weights' size",
        part="penalty",
        variant=half_of_squares,
        base="network, L2",
        why="`tf.nn.l2_loss(w)` is half of the sum of squares, "
        "`keras.regularizers.L2` takes the whole. One constant means two strengths. "
        "Keras also adds the penalty to the loss that it reports, in validation too.",
        tell="Print `tf.nn.l2_loss([2.0])`: 2, not 4.",
        fix="Double the constant for `l2_loss`, or halve it for Keras.",
        threads=(
            f"{GITHUB}tensorpack/tensorpack/issues/1381",
            f"{GITHUB}danielegrattarola/keras-gat/pull/19",
        ),
    ),
    Cause(
        name="Clipped by global norm",
        symptom="equal while gradients are small, then slower",
        part="gradients",
        variant=clipped_together,
        base="network, clipnorm",
        why="`clipnorm` shortens each variable's gradient by itself, which turns the "
        "step's direction; `tf.clip_by_global_norm` shortens all by one factor, which "
        "keeps it. The meaning of `clipnorm` has changed between Keras versions.",
        tell="Print `tf.linalg.global_norm` of the clipped gradients: only the "
        "global one is bounded by the constant.",
        fix="`global_clipnorm` in Keras, or `tf.clip_by_norm` for each gradient.",
        threads=(f"{TENSORFLOW}29108", f"{KERAS}13575"),
        needs="the gradients' norms stayed below what is clipped",
    ),
    Cause(
        name="Momentum left at 0",
        symptom="the first step is equal, all later ones are too short",
        part="update",
        variant=sgd,
        base="network, momentum",
        why="An optimizer's defaults belong to its library and version: Keras's `SGD` "
        "has no momentum unless told, and two optimizers of one name can differ in "
        "their learning rate. Since momentum starts at zero, the first step "
        "cannot show it.",
        tell="Print `optimizer.get_config()`, and write every number of it into the "
        "other side.",
        fix="Name every setting on both sides, defaults included.",
        threads=(f"{TENSORFLOW}39083",),
    ),
    Cause(
        name="Averaged momentum",
        symptom="it learns as if the rate were a tenth",
        part="update",
        variant=averaged_momentum,
        base="network, momentum",
        why="There are two momentums. Keras's velocity is a sum of gradients, which "
        "for β = 0.9 grows to ten times one of them; the other is their mean. At the "
        "same rate the second takes a tenth of the step.",
        tell="Compare the first update: the mean's is (1 − β) times as long.",
        fix="Divide the rate by 1 − β, or write `β m − rate · g`.",
        threads=(f"{KERAS}13971", f"{GITHUB}pytorch/pytorch/issues/1099"),
    ),
    Cause(
        name="Size of epsilon",
        symptom="Adam differs at once, most where gradients are tiny",
        part="update",
        variant=smaller_epsilon,
        base="network, Adam",
        why="Keras's epsilon is 1e-7; the paper's, PyTorch's and TensorFlow 1's is "
        "1e-8. Adam divides a gradient by its own size, so that a tiny one makes a "
        "whole step, unless epsilon outweighs it: pixels at the rim, that are nearly "
        "always 0, have such gradients.",
        tell='Print `optimizer.get_config()["epsilon"]`.',
        fix="Name epsilon on both sides.",
        threads=(f"{GITHUB}juntang-zhuang/Adabelief-Optimizer/pull/12",),
    ),
    Cause(
        name="Place of epsilon",
        symptom="Adam differs at once, and less from step to step",
        part="update",
        variant=epsilon_of_the_paper,
        base="network, Adam",
        why="The paper corrects the root for its late start and then adds epsilon; "
        "Keras and TensorFlow add it to the uncorrected root, which makes it count "
        "for more by 1/√(1 − β₂ᵗ): 32 times in the first step, hardly in the "
        "thousandth. PyTorch follows the paper.",
        tell="Train both with an epsilon of 1e-16: if they agree then, it was epsilon.",
        fix="Write the other side's formula; no constant makes them equal.",
        threads=(f"{KERAS}17391", f"{TENSORFLOW}35102", f"{TENSORFLOW}9047"),
    ),
    Cause(
        name="Rate held in float32",
        symptom="float64 runs agree to eight digits only",
        part="update",
        variant=single_rate,
        base="network in float64",
        why="`tf.constant(0.1)` is a float32, and casting it later does not bring the "
        "lost digits back. TensorFlow 1's optimizers hold a bare float like that. "
        "Keras holds the rate in its `floatx`.",
        tell="`tf.cast(tf.constant(0.1), tf.float64)` prints 0.10000000149.",
        fix="`tf.constant(learning_rate, dtype)`.",
        threads=(f"{TENSORFLOW}35938", f"{TENSORFLOW}57779"),
        needs="the rate is a float32 number already: try 0.1",
    ),
    Cause(
        name="XLA",
        symptom="equal but for the last digits, and another speed",
        part="compile",
        variant=xla,
        why="`jit_compile=True` lets XLA merge operations and choose the order of "
        'sums. Keras\'s default, "auto", turns it on where it finds a GPU, so that '
        "the same script may differ from itself on two machines.",
        tell="Print `model.jit_compile`; set it to False on both sides.",
        fix="Pin `jit_compile` on both sides.",
        threads=(
            f"{GITHUB}keras-team/keras/pull/22512",
            f"{TENSORFLOW}62206",
        ),
    ),
    Cause(
        name="Another processor",
        symptom="the same script differs in the last digits between machines",
        part="environment",
        variant=as_elsewhere,
        of_the_machine=True,
        why="How a product of matrices is cut into pieces, and in which order they "
        "are added, depends on the processor's instructions, on the library of "
        "kernels (oneDNN or Eigen), and can depend on the number of threads. The "
        "variant asks for other kernels and one thread, in a process of its own.",
        tell="Run the script twice on one machine: equal there, it is the machine.",
        fix="None that is worth its price: compare on one machine, or by tolerance.",
        threads=(f"{TENSORFLOW}53277", f"{KERAS}12040"),
    ),
    Cause(
        name="Mean of batch means",
        symptom="weights are equal, the reported figures are not",
        part="mean",
        variant=by_batch,
        why="The partial last batch counts as much as a full one, and each of its "
        "examples for more. Keras weights every batch by its examples; early "
        "TensorFlow 2 did not.",
        tell="Evaluate with a `batch_size` that divides the examples: the difference "
        "is gone.",
        fix="Add up `loss * len(batch)`, divide by the examples.",
        threads=(
            f"{TENSORFLOW}38596",
            f"{TENSORFLOW}27993",
            f"{GITHUB}https-deeplearning-ai/tensorflow-3/issues/3",
        ),
        needs="the batch_size divides training and validation examples: choose another",
    ),
    Cause(
        name="Loss after the epoch",
        symptom="weights and validation are equal, the training loss is not",
        part="report",
        variant=after_epoch,
        why="`fit` reports the mean of what the batches showed, each measured before "
        "its own update: a mean over moving weights. A loop that measures the training "
        "set after the epoch, as `evaluate` does, finds the final weights, which are "
        "better.",
        tell="`model.evaluate(x_train, y_train)` after `fit` gives the other number.",
        fix="Compare like with like: validation figures are measured after the epoch "
        "on both sides.",
        threads=(f"{KERAS}503", f"{KERAS}6977", f"{KERAS}12681"),
    ),
    Cause(
        name="Sum in float64",
        symptom="weights are equal, figures differ in the eighth digit",
        part="mean",
        variant=in_float64,
        why="Keras's `Mean` adds up in float32. A Python float, or NumPy's, is a "
        "float64 and nearer to the truth. It matters where many examples are "
        "counted: a float32 sum that has reached 16,777,216 cannot grow by 1.",
        tell="Print the sums' dtypes.",
        fix="Hold the sum in float32, or compare the figures rounded.",
        threads=(f"{GITHUB}apache/mxnet/issues/8226",),
    ),
    Cause(
        name="Binary accuracy",
        symptom="accuracy is 0.9 or so before anything is learned",
        part="accuracy",
        variant=binary,
        why="Of ten outputs nine are rightly near 0, so counting each by itself gives "
        '0.9 to a network that knows nothing. Keras resolves the word "accuracy" by '
        "the shapes of target and output; older versions went by the loss, and "
        "`binary_crossentropy` on ten classes got this one.",
        tell="Print `[metric.name for metric in model.metrics]`, and the accuracy of "
        "the untrained model.",
        fix="Name the metric: `keras.metrics.CategoricalAccuracy()`.",
        threads=(f"{GITHUB}keras-team/keras/pull/3098",),
    ),
    Cause(
        name="Exact accuracy",
        symptom="accuracy is 0 although the loss falls",
        part="accuracy",
        variant=exact,
        why="The class `keras.metrics.Accuracy` counts outputs that equal their "
        "target; a probability hardly ever is exactly 1 or 0. The string "
        '"accuracy" is something else.',
        tell="Look for `metrics=[keras.metrics.Accuracy()]`, without quotes.",
        fix='`metrics=["accuracy"]`, or `CategoricalAccuracy()`.',
        threads=(
            f"{GITHUB}keras-team/tf-keras/issues/15",
            f"{TENSORFLOW}38004",
        ),
    ),
)
