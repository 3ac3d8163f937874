"""The validation split and the order of examples are those of Keras."""

import math
import random
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvt import data

# The validation split


@settings(deadline=None)
@given(
    n=st.integers(1, 100_000),
    validation_split=st.floats(0, 1, exclude_min=True, exclude_max=True)
    | st.sampled_from([0.1, 0.2, 0.25, 0.3, 0.5, 0.7, 0.9]),
)
def test_split_is_the_split_of_keras(n: int, validation_split: float) -> None:
    from keras.src.trainers.data_adapters.array_slicing import train_validation_split

    try:
        train, validation = train_validation_split(np.zeros(n, "u1"), validation_split)
    except ValueError:
        with pytest.raises(ValueError, match="each needs at least one"):
            data.split(n, validation_split)
    else:
        n_train = data.split(n, validation_split)
        assert (n_train, n - n_train) == (len(train), len(validation))


@given(n=st.integers(0, 10**9))
def test_a_split_of_0_holds_nothing_back(n: int) -> None:
    assert data.split(n, 0) == data.split(n, 0.0) == n


@pytest.mark.parametrize("validation_split", [-0.1, 1, 1.0, 1.5, math.nan, math.inf])
def test_a_split_outside_0_to_1_is_rejected(validation_split: float) -> None:
    with pytest.raises(ValueError, match=r"it must be in \[0, 1\); use 0\.2 to hold"):
        data.split(100, validation_split)


# The order of examples


@pytest.mark.parametrize("validation_split", [0.0, 0.25])
@pytest.mark.parametrize(("n", "batch_size"), [(1, 1), (10, 3), (37, 64), (300, 32)])
@pytest.mark.parametrize("seed", [0, 7, 2**31 + 5])
def test_example_order_is_the_order_of_keras_fit_in_every_epoch(
    n: int, batch_size: int, seed: int, validation_split: float
) -> None:
    import keras

    if n == 1:
        validation_split = 0.0
    visited: list[int] = []

    class Witness(keras.Model):  # type: ignore[misc]
        def train_step(self, batch: tuple[object, ...]) -> dict[str, float]:
            visited.extend(np.asarray(batch[0])[:, 0].astype(int))
            return {"loss": 0.0}

        def test_step(self, batch: tuple[object, ...]) -> dict[str, float]:
            return {"loss": 0.0}

    x = np.arange(n, dtype="float32").reshape(n, 1)
    keras.utils.set_random_seed(seed)
    model = Witness()
    model.compile(run_eagerly=True, jit_compile=False)
    model.fit(
        x,
        x,
        batch_size=batch_size,
        epochs=2,
        validation_split=validation_split,
        verbose=0,
    )
    n_train = data.split(n, validation_split)
    order = data.example_order(n_train, seed)
    assert order.dtype == np.int64
    assert visited == [*order, *order]


def test_example_order_is_a_permutation_that_depends_on_the_seed() -> None:
    one, two = data.example_order(50, 1), data.example_order(50, 2)
    assert sorted(one) == sorted(two) == list(range(50))
    assert list(one) != list(two)
    assert list(one) == list(data.example_order(50, 1))


def test_example_order_does_not_change_the_random_numbers_of_its_caller() -> None:
    import keras
    import tensorflow as tf

    def draw(between: Callable[[], object]) -> list[float]:
        keras.utils.set_random_seed(11)
        generator = keras.random.SeedGenerator()
        numbers = []
        for _ in range(2):
            numbers += [random.random(), np.random.random()]
            numbers += [float(tf.random.uniform([]))]
            numbers += [float(keras.random.uniform([], seed=generator))]
            between()
        shuffled = tf.data.Dataset.range(9).shuffle(9)
        return numbers + list(shuffled.as_numpy_iterator())

    assert draw(lambda: None) == draw(lambda: data.example_order(20, seed=5))
