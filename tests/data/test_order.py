"""The validation split and the order of examples are those of Keras."""

import importlib
import math
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kvt import data
from kvt.data import releases

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


RULES = {"3.15": "the seed alone", "3.16": "neither the seed nor the epoch"}


def keras_orders(n: int, seed: int, size: int, shuffle: bool | str) -> list[list[int]]:
    """Return the orders of three epochs of Keras's own adapter for arrays."""
    import keras
    from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter

    keras.utils.set_random_seed(seed)
    adapter = ArrayDataAdapter(np.arange(n), batch_size=size, shuffle=shuffle)
    dataset = adapter.get_tf_dataset()
    orders = []
    for _ in range(3):
        orders.append(np.concatenate([batch.numpy() for batch in dataset]).tolist())
        adapter.on_epoch_end()
    return orders


def what_the_order_follows() -> str:
    """Say what Keras's order of examples depends on, in the words of `RULES`."""
    orders = [keras_orders(50, seed, 50, True) for seed in (0, 1, 42)]
    by_seed = any(of_seed != orders[0] for of_seed in orders)
    by_epoch = any(epoch != of_seed[0] for of_seed in orders for epoch in of_seed)
    if by_seed:
        return "the seed and the epoch" if by_epoch else "the seed alone"
    return "the epoch alone" if by_epoch else "neither the seed nor the epoch"


def test_the_order_follows_what_it_follows_in_the_installed_release() -> None:
    release = releases.release("keras")
    rule = RULES["3.15" if data.keras_before("3.16") else "3.16"]
    found = what_the_order_follows()
    assert found == rule, (
        f"the order of examples changed: in Keras {release} it depends on {found}; "
        f"example_order expects {rule}"
    )


@pytest.mark.long
@settings(deadline=None, max_examples=25)
@example(n=1, seed=0, size=1, shuffle=True)
@example(n=5000, seed=7, size=32, shuffle=True)
@example(n=4999, seed=2**31 + 5, size=128, shuffle="batch")
@given(
    n=st.integers(1, 5000),
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(20, 6000),
    shuffle=st.sampled_from([True, "batch"]),
)
def test_example_order_is_the_order_of_keras_in_every_epoch(
    n: int, seed: int, size: int, shuffle: bool | str
) -> None:
    expected = data.example_order(n, seed, size if shuffle == "batch" else None)
    assert expected.dtype == np.int64
    release, found = releases.release("keras"), what_the_order_follows
    for visited in keras_orders(n, seed, size, shuffle):
        assert visited == expected.tolist(), (
            f"the order of examples changed: in Keras {release} it depends on {found()}"
        )


@pytest.mark.parametrize("validation_split", [0.0, 0.25])
def test_fit_of_keras_visits_examples_in_this_order(validation_split: float) -> None:
    import keras

    visited: list[int] = []

    class Witness(keras.Model):  # type: ignore[misc]
        def train_step(self, batch: tuple[object, ...]) -> dict[str, float]:
            visited.extend(np.asarray(batch[0])[:, 0].astype(int))
            return {"loss": 0.0}

        def test_step(self, batch: tuple[object, ...]) -> dict[str, float]:
            return {"loss": 0.0}

    x = np.arange(300, dtype="float32").reshape(300, 1)
    keras.utils.set_random_seed(7)
    model = Witness()
    model.compile(run_eagerly=True, jit_compile=False)
    options = {"epochs": 2, "validation_split": validation_split, "verbose": 0}
    model.fit(x, x, batch_size=32, **options)

    expected = data.example_order(data.split(300, validation_split), 7)
    assert visited == [*expected, *expected]


@pytest.mark.parametrize("within", [None, 16])
def test_the_order_of_another_release_can_be_requested(within: int | None) -> None:
    def orders(release: str | None) -> list[list[int]]:
        seeds = (1, 2, 3)
        return [data.example_order(50, s, within, release).tolist() for s in seeds]

    assert all(sorted(one) == list(range(50)) for one in orders("3.15"))
    assert orders("3.3.3") == orders("3.15.1")
    one, two, three = orders("3.15")
    assert one != two != three != one
    one, two, three = orders("3.16.0.dev2026102704")
    assert one == two == three
    assert orders(None) == orders(releases.release("keras"))


def test_the_release_is_read_without_importing_keras() -> None:
    code = "import sys; from kvt.data import releases; print(releases.release('keras'))"
    code += "; assert not {'keras', 'tensorflow'} & {*sys.modules}"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == importlib.import_module("keras").__version__


def test_a_nightly_beside_a_release_is_rejected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(releases.metadata, "version", lambda name: f"3.15 of {name}")
    with pytest.raises(RuntimeError, match="uninstall both, then install one"):
        releases.release("keras")
    assert releases.release("numpy") == "3.15 of numpy"


@pytest.mark.parametrize("seed", [0, 1])
def test_the_script_for_keras_alone_prints_the_same_orders(seed: int) -> None:
    from benchmarks import keras_order

    lines = (Path(keras_order.__file__)).read_text("utf-8").splitlines()
    assert len(lines) <= 30
    assert keras_order.orders(seed) == [data.example_order(8, seed).tolist()] * 3


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
