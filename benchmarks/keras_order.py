"""Does the seed determine the order in which Keras's `fit` visits examples?

Prints the orders of three seeds and three epochs, and exits with 1 if all seeds have
the same orders. Needs Keras and one backend, which KERAS_BACKEND may name.
"""

import keras
from numpy import arange


def orders(seed, n=8, epochs=3):
    """Return the order of n examples in each epoch."""
    seen = []

    def loss(y, y_pred):
        if "Tracer" not in type(y).__name__:  # of JAX, before it trains
            seen.append([int(row) for row in keras.ops.convert_to_numpy(y)[:, 0]])
        return keras.ops.square(y - y_pred)

    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", loss, run_eagerly=True)
    x = arange(n)[:, None]
    model.fit(x / n, x, batch_size=n, epochs=epochs, verbose=0)
    return seen[-epochs:]  # PyTorch computes a loss before it trains


if __name__ == "__main__":
    print(table := {seed: orders(seed) for seed in (0, 1, 42)})
    raise SystemExit(table[0] == table[1] == table[42])
