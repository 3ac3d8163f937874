"""Which examples are held back for validation, and the order of the others."""

import math

import numpy as np
import numpy.typing as npt

from kvt.data import parameters
from kvt.data.quietly import quiet
from kvt.data.releases import keras_before


def split(n: int, validation_split: float) -> int:
    """Return how many of n examples to train on; the rest, the tail, is for validation.

    The number is floor(n * (1 - validation_split)), rounded as Keras rounds it. Raises
    ValueError for a validation_split outside [0, 1) and for one that leaves no example
    to train on or none to validate on.
    """
    parameters.check({"validation_split": validation_split})
    n_train = math.floor(n * (1.0 - validation_split))
    if validation_split > 0:
        check_parts(n, n_train, validation_split)
    return n_train


def example_order(
    n: int,
    seed: int,
    within_batches_of: int | None = None,
    release: str | None = None,
) -> npt.NDArray[np.int64]:
    """Return the order (n,) in which Keras's `fit(shuffle=True)` visits n examples.

    Keras uses this order after `keras.utils.set_random_seed(seed)`, in every epoch. Up
    to Keras 3.15 it depends on n and the seed. In Keras 3.16 it depends on n alone:
    each seed gives the same order. The order is that of the installed Keras, or of
    another `release`, such as "3.15". A batch size `within_batches_of` gives the order
    of `shuffle="batch"`, which shuffles each batch.
    """
    with quiet():
        import tensorflow as tf

    size = within_batches_of or n
    # A separate graph has a separate seed, so the caller's random numbers stay as they
    # are. Keras's shuffle is the first random operation of its function, and TensorFlow
    # numbers random operations from 0: hence the operation's seed of 0.
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.random.set_seed(seed)
        rows = tf.compat.v1.placeholder(tf.int64, (None,))
        if keras_before("3.16", release):
            shuffled = tf.random.shuffle(rows, seed=0)
        else:  # Keras's seed is [epoch, 0], but its graph is traced in epoch 0
            shuffled = tf.random.experimental.stateless_shuffle(rows, seed=[0, 0])
        parts = [np.arange(i, min(i + size, n)) for i in range(0, n, size)]
        order = np.concatenate([session.run(shuffled, {rows: part}) for part in parts])
    return order.astype(np.int64)


def check_parts(n: int, n_train: int, validation_split: float) -> None:
    """Reject a split that leaves no example to train on, or none to validate on."""
    if not 0 < n_train < n:
        raise ValueError(
            f"validation_split {validation_split!r} leaves {n_train} of {n} examples "
            f"for training and {n - n_train} for validation; each needs at least one; "
            "use 0 for no validation, another share, or more examples"
        )
