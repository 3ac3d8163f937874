"""Which examples are held back for validation, and in which order the others come."""

import math

import numpy as np
import numpy.typing as npt

from kvt.data import parameters
from kvt.data.quietly import quiet


def split(n: int, validation_split: float) -> int:
    """Count the examples to train on; the others, at the end, are for validation.

    It is floor(n * (1 - validation_split)), rounded as Keras rounds it. Raises
    ValueError for a validation_split outside [0, 1), or one that leaves a part empty.
    """
    parameters.check({"validation_split": validation_split})
    n_train = math.floor(n * (1.0 - validation_split))
    if validation_split > 0 and not 0 < n_train < n:
        raise ValueError(
            f"validation_split {validation_split!r} leaves {n_train} of {n} examples "
            f"for training and {n - n_train} for validation, and each needs at least "
            "one; use 0 for no validation, another share, or more examples"
        )
    return n_train


def example_order(n: int, seed: int) -> npt.NDArray[np.int64]:
    """Return the order (n,) in which Keras's `fit(shuffle=True)` visits n examples.

    It is the order after `keras.utils.set_random_seed(seed)`. It depends on n and
    the seed alone, and is the same in every epoch: Keras shuffles inside a tf.data
    map, which starts the same random stream anew each time.
    """
    with quiet():
        import tensorflow as tf

    # A graph of its own has a seed of its own, so the caller's random numbers stay
    # as they were. Keras's shuffle is the first random op of its function, and
    # TensorFlow numbers random ops from 0: that is the op's seed.
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.random.set_seed(seed)
        order = tf.random.shuffle(tf.range(n, dtype=tf.int64), seed=0)
        shuffled: npt.NDArray[np.int64] = session.run(order)
    return shuffled
