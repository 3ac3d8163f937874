"""The loop that drives the steps of every dialect."""

import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvt
from kvt import data
from kvt.training.means import Mean


class Steps:
    """Steps in NumPy that record their examples; training changes a weight."""

    def __init__(self) -> None:
        self.trained: list[list[int]] = []
        self.tested: list[list[int]] = []
        self.weight = np.zeros(1, np.float32)

    def train(self, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
        self.trained.append(numbers(x))
        self.weight += 1
        return {"loss": np.float32(x.mean()), "accuracy": y[:, 0]}

    def test(self, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
        self.tested.append(numbers(x))
        return {"loss": np.float32(x.mean()), "accuracy": y[:, 0]}


class Log(kvt.Callback):
    """Records every hook that `fit` calls, and its arguments."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __getattribute__(self, name: str) -> Any:
        if name.startswith(("on_", "set_")):
            return lambda *args, **logs: self.calls.append(
                (name, *args, *logs.values())
            )
        return super().__getattribute__(name)

    @property
    def names(self) -> list[str]:
        return [name for name, *_ in self.calls]


def examples(n: int, start: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return x that holds the examples' numbers, and y of zeros and ones."""
    x = np.arange(start, start + n, dtype=np.float32).reshape(n, 1)
    return x, x % 2


def numbers(x: np.ndarray) -> list[int]:
    return [int(value) for value in x[:, 0]]


def flat(batches: list[list[int]]) -> list[int]:
    return [number for batch in batches for number in batch]


def fit(steps: Steps, x: np.ndarray, y: np.ndarray, **options: Any) -> kvt.History:
    return kvt.fit(steps.train, steps.test, x, y, **{"verbose": 0, **options})


# Which examples are visited


def test_importing_kvt_imports_no_tensorflow() -> None:
    code = "import sys, kvt; print({'tensorflow', 'keras', 'sklearn'} & {*sys.modules})"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout == "set()\n"


@given(
    n=st.integers(1, 40),
    batch_size=st.integers(1, 50),
    epochs=st.integers(1, 3),
    shuffle=st.booleans(),
)
def test_every_epoch_visits_each_example_once(
    n: int, batch_size: int, epochs: int, shuffle: bool
) -> None:
    steps = Steps()
    fit(steps, *examples(n), batch_size=batch_size, epochs=epochs, shuffle=shuffle)
    per_epoch = -(-n // batch_size)
    assert len(steps.trained) == per_epoch * epochs
    for start in range(0, len(steps.trained), per_epoch):
        batches = steps.trained[start : start + per_epoch]
        assert sorted(flat(batches)) == list(range(n))
        assert {len(batch) for batch in batches[:-1]} <= {batch_size}
        assert len(batches[-1]) == n - batch_size * (per_epoch - 1)


def test_the_last_batch_is_smaller() -> None:
    steps = Steps()
    fit(steps, *examples(7), batch_size=3, shuffle=False)
    assert steps.trained == [[0, 1, 2], [3, 4, 5], [6]]


def test_a_batch_size_beyond_the_data_makes_one_batch() -> None:
    steps = Steps()
    fit(steps, *examples(4), batch_size=100, shuffle=False)
    assert steps.trained == [[0, 1, 2, 3]]


def test_the_shuffled_order_is_that_of_keras_in_every_epoch() -> None:
    steps = Steps()
    fit(steps, *examples(20), batch_size=20, epochs=3, seed=7)
    order = data.example_order(20, 7).tolist()
    assert steps.trained == [order] * 3
    assert order != list(range(20))


def test_the_order_depends_on_the_seed() -> None:
    one, two = Steps(), Steps()
    fit(one, *examples(20), seed=1)
    fit(two, *examples(20), seed=2)
    assert one.trained != two.trained


def test_the_split_takes_the_tail_before_shuffling() -> None:
    steps = Steps()
    fit(steps, *examples(10), batch_size=4, validation_split=0.25, seed=3)
    assert sorted(flat(steps.trained)) == list(range(7))
    assert steps.tested == [[7, 8, 9]]


def test_validation_data_overrides_the_split() -> None:
    steps = Steps()
    fit(
        steps,
        *examples(10),
        validation_split=0.5,
        validation_data=examples(3, start=100),
        shuffle=False,
    )
    assert steps.trained == [list(range(10))]
    assert steps.tested == [[100, 101, 102]]


def test_without_validation_the_test_step_never_runs() -> None:
    steps = Steps()
    fit(steps, *examples(10))
    assert steps.tested == []


# Validation, evaluation, prediction


def test_validation_never_updates_weights() -> None:
    with_validation, without = Steps(), Steps()
    x, y = examples(10)
    fit(with_validation, x, y, batch_size=2, epochs=3, validation_split=0.2)
    fit(without, x[:8], y[:8], batch_size=2, epochs=3)
    assert with_validation.trained == without.trained
    np.testing.assert_array_equal(with_validation.weight, without.weight)
    assert len(with_validation.tested) == 3


@given(n=st.integers(1, 30), batch_size=st.integers(1, 40))
def test_evaluation_visits_all_examples_in_order_and_updates_nothing(
    n: int, batch_size: int
) -> None:
    steps = Steps()
    x, y = examples(n)
    kvt.evaluate(steps.test, x, y, batch_size=batch_size)
    assert flat(steps.tested) == list(range(n))
    assert {len(batch) for batch in steps.tested[:-1]} <= {batch_size}
    assert steps.trained == []
    assert steps.weight == 0


def test_evaluation_weights_a_partial_batch_by_its_size() -> None:
    metrics = kvt.evaluate(Steps().test, *examples(5), batch_size=4)
    assert metrics == {"loss": 2.0, "accuracy": pytest.approx(0.4)}


@given(n=st.integers(1, 30), batch_size=st.integers(1, 40))
def test_prediction_is_batch_by_batch_and_in_order(n: int, batch_size: int) -> None:
    batches: list[list[int]] = []

    def predict_step(x: np.ndarray) -> np.ndarray:
        batches.append(numbers(x))
        return 2 * x

    x, _ = examples(n)
    np.testing.assert_array_equal(
        kvt.predict(predict_step, x, batch_size=batch_size), 2 * x
    )
    assert flat(batches) == list(range(n))
    assert {len(batch) for batch in batches[:-1]} <= {batch_size}


# Metrics


def test_history_has_the_keys_of_keras_and_an_entry_per_epoch() -> None:
    history = fit(Steps(), *examples(10), epochs=3, validation_split=0.2)
    assert history.epoch == [0, 1, 2]
    assert list(history.history) == ["accuracy", "loss", "val_accuracy", "val_loss"]
    assert [len(values) for values in history.history.values()] == [3] * 4
    assert {type(v) for values in history.history.values() for v in values} == {float}


def test_history_without_validation_has_no_val_keys() -> None:
    assert list(fit(Steps(), *examples(10)).history) == ["accuracy", "loss"]


def test_means_start_again_in_every_epoch() -> None:
    losses = iter(np.float32([1, 3, 10, 30]))
    history = kvt.fit(
        lambda x, y: {"loss": next(losses)},
        Steps().test,
        *examples(4),
        batch_size=2,
        epochs=2,
        verbose=0,
    )
    assert history.history == {"loss": [2.0, 20.0]}


# Not below: TensorFlow turns subnormal numbers into zero, NumPy does not.
losses = st.just(0.0) | st.floats(2**-99, 1e6, width=32)


@given(st.lists(st.tuples(losses, st.integers(1, 130)), min_size=1, max_size=60))
def test_means_equal_those_of_keras_bit_for_bit(
    batches: list[tuple[float, int]],
) -> None:
    import keras

    ours, theirs = Mean(), keras.metrics.Mean(dtype="float32")
    for loss, size in batches:
        ours.update({"loss": np.float32(loss)}, size)
        theirs.update_state(np.float32(loss), sample_weight=size)
        assert ours.result()["loss"] == float(theirs.result())


@given(
    st.lists(st.lists(st.booleans(), min_size=1, max_size=9), min_size=1, max_size=30)
)
def test_means_of_values_per_example_equal_those_of_keras_bit_for_bit(
    batches: list[list[bool]],
) -> None:
    import keras

    ours, theirs = Mean(), keras.metrics.Mean(dtype="float32")
    for batch in batches:
        hits = np.float32(batch)
        ours.update({"accuracy": hits}, len(hits))
        theirs.update_state(hits)
    assert ours.result()["accuracy"] == float(theirs.result())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_totals_have_the_dtype_of_the_metrics(dtype: str) -> None:
    mean = Mean()
    for _ in range(3):
        mean.update({"loss": np.array(0.1, dtype)}, 7)
    number = np.dtype(dtype).type
    batch = number(0.1) * number(7)
    assert mean.result()["loss"] == float((batch + batch + batch) / number(21))


def test_means_in_float32_differ_from_means_in_float64() -> None:
    """Without this, the tests above could not distinguish the dtypes."""
    results = []
    for number in (np.float32, np.float64):
        mean = Mean()
        for loss in np.float32([0.1, 0.2, 0.3]):
            mean.update({"loss": number(loss)}, 7)
        results.append(mean.result()["loss"])
    assert results[0] != results[1]


# Callbacks


def test_callbacks_are_called_in_the_given_order() -> None:
    told = []

    class Named(kvt.Callback):
        def __init__(self, name: str) -> None:
            self.name = name

        def on_epoch_end(self, epoch: int, logs: object = None) -> None:
            told.append((epoch, self.name))

    fit(Steps(), *examples(2), epochs=2, callbacks=[Named("b"), Named("a")])
    assert told == [(0, "b"), (0, "a"), (1, "b"), (1, "a")]


@given(epochs=st.integers(1, 4), initial=st.integers(0, 4), seed=st.integers(0, 9))
def test_a_continued_training_equals_an_uninterrupted_one(
    epochs: int, initial: int, seed: int
) -> None:
    initial = min(initial, epochs)
    whole, rest = Steps(), Steps()
    x, y = examples(5)
    fit(whole, x, y, batch_size=2, epochs=epochs, seed=seed)
    log = Log()
    going_on = {"epochs": epochs, "initial_epoch": initial, "callbacks": [log]}
    history = fit(rest, x, y, batch_size=2, seed=seed, **going_on)
    assert history.epoch == list(range(initial, epochs))
    assert rest.trained == whole.trained[3 * initial :]
    assert [c[1] for c in log.calls if c[0] == "on_epoch_begin"] == history.epoch


def test_verbose_0_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    fit(Steps(), *examples(4), verbose=0)
    assert capsys.readouterr() == ("", "")


def test_verbose_1_prints_a_line_per_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    fit(Steps(), *examples(4), epochs=2, verbose=1)
    out, err = capsys.readouterr()
    assert out == (
        "Epoch 1/2  loss 1.500  accuracy 0.500\nEpoch 2/2  loss 1.500  accuracy 0.500\n"
    )
    assert err == ""


# A diverging loss


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        (np.float32(np.nan), "nan"),
        (np.float32(np.inf), "inf"),
        (np.float32(3e38), "inf"),  # finite, but its sum over two examples is not
        (np.float32([np.inf, -np.inf]), "nan"),
    ],
)
def test_a_loss_that_is_not_finite_stops_the_training(
    bad: np.ndarray, named: str
) -> None:
    seen = []

    def train_step(x: np.ndarray, y: np.ndarray) -> Mapping[str, Any]:
        seen.append(x)
        return {"loss": bad if len(seen) == 7 else np.float32(0.5)}

    message = (
        rf"loss became {named} in epoch 2, step 3 of 4; it must stay finite; "
        "try a smaller learning_rate"
    )
    log = Log()
    with pytest.raises(FloatingPointError, match=message):
        kvt.fit(
            train_step,
            Steps().test,
            *examples(8),
            batch_size=2,
            epochs=3,
            verbose=0,
            callbacks=[log],
        )
    assert len(seen) == 7
    assert log.names[-2:] == ["on_train_batch_end", "on_train_failure"]


def test_a_validation_loss_that_is_not_finite_stops_the_training() -> None:
    def test_step(x: np.ndarray, y: np.ndarray) -> Mapping[str, Any]:
        return {"loss": np.float32(np.nan)}

    message = "val_loss became nan in epoch 1; it must stay finite; try a smaller"
    with pytest.raises(FloatingPointError, match=message):
        kvt.fit(Steps().train, test_step, *examples(8), validation_split=0.5)


# Dialects


def in_tensorflow_2(
    rate: float,
) -> tuple[Callable[..., Any], Callable[..., Any], Callable[[], np.ndarray]]:
    """Return train step, test step and the weight of a line through the origin."""
    import tensorflow as tf

    w = tf.Variable([[3.0]])

    @tf.function
    def test_step(x: Any, y: Any) -> dict[str, Any]:
        return {"loss": tf.reduce_mean(tf.square(y - x @ w))}

    @tf.function
    def train_step(x: Any, y: Any) -> dict[str, Any]:
        with tf.GradientTape() as tape:
            logs = test_step(x, y)
        w.assign_sub(rate * tape.gradient(logs["loss"], w))
        return logs

    return train_step, test_step, w.numpy


def in_tensorflow_1(
    rate: float,
) -> tuple[Callable[..., Any], Callable[..., Any], Callable[[], np.ndarray]]:
    """Return the same for a session."""
    import tensorflow.compat.v1 as tf1

    with tf1.Graph().as_default() as graph:
        x, y = (tf1.placeholder("float32", (None, 1)) for _ in range(2))
        w = tf1.get_variable("w", initializer=[[3.0]])
        logs = {"loss": tf1.reduce_mean(tf1.square(y - x @ w))}
        train = tf1.train.GradientDescentOptimizer(rate).minimize(logs["loss"])
        start = tf1.global_variables_initializer()
    session = tf1.Session(graph=graph)
    session.run(start)

    def train_step(x_batch: np.ndarray, y_batch: np.ndarray) -> Any:
        return session.run([logs, train], {x: x_batch, y: y_batch})[0]

    def test_step(x_batch: np.ndarray, y_batch: np.ndarray) -> Any:
        return session.run(logs, {x: x_batch, y: y_batch})

    return train_step, test_step, lambda: session.run(w)


def in_numpy(
    rate: float,
) -> tuple[Callable[..., Any], Callable[..., Any], Callable[[], np.ndarray]]:
    """Return the same without any framework."""
    w = np.float32([[3.0]])

    def test_step(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
        return {"loss": np.mean(np.square(y - x @ w))}

    def train_step(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
        logs = test_step(x, y)
        w[:] -= np.float32(rate) * (-2 * x.T @ (y - x @ w) / len(x))
        return logs

    return train_step, test_step, lambda: w


def test_one_loop_drives_every_dialect_to_the_same_history() -> None:
    x = np.random.default_rng(0).standard_normal((23, 1)).astype(np.float32)
    histories, weights = [], []
    for dialect in (in_tensorflow_2, in_tensorflow_1, in_numpy):
        train_step, test_step, weight = dialect(0.1)
        history = kvt.fit(
            train_step,
            test_step,
            x,
            np.float32(0.5) * x,
            batch_size=4,
            epochs=3,
            validation_split=0.2,
            seed=5,
            verbose=0,
        )
        histories.append(history.history)
        weights.append(weight())
    assert histories[0] == histories[1]
    assert weights[0].tobytes() == weights[1].tobytes()
    for name, values in histories[2].items():
        np.testing.assert_allclose(values, histories[0][name], rtol=1e-5)
    assert histories[0]["loss"][-1] < histories[0]["loss"][0] / 10
