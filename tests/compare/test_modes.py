"""How the modes of execution are timed, and which one is advised."""

import functools
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import kvt
from kvt.compare import modes, parity

pytestmark = pytest.mark.long

X = np.linspace(-1, 1, 11, dtype=np.float32)[:, np.newaxis]  # (11, 1)
Y = 0.5 * X + 1
START = [np.float32([[0.25]]), np.float32([0.5])]


def stopwatch(**options: Any) -> modes.Stopwatch:
    given = {"batch_size": 2, "initial_weights": START} | options
    return modes.Stopwatch(X, Y, **given)


# Timing


def test_every_epoch_starts_from_the_initial_weights() -> None:
    weights, seen = [0.0], []

    def set_weights(values: Any) -> None:
        weights[0] = float(values[1][0])

    def step(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
        seen.append(weights[0])
        weights[0] *= 1e300  # a second step from there would diverge
        return {"loss": weights[0]}

    fit = functools.partial(kvt.fit, step, step)
    timed = stopwatch(batch_size=11).time(fit, set_weights, 1)
    assert seen == [0.5] * 4
    assert weights == [0.5]
    assert timed["examples"] == 11
    assert len(timed["epoch_seconds"]) == 4
    assert min(timed["epoch_seconds"]) > 0


def test_setting_the_weights_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def set_weights(values: Any) -> None:
        nonlocal now
        now += 50

    def fit(x: Any, y: Any, *, epochs: int, callbacks: list[Any], **_: Any) -> None:
        nonlocal now
        for epoch in range(epochs):
            callbacks[0].on_epoch_begin(epoch)
            now += epoch + 1
            callbacks[0].on_epoch_end(epoch)

    monkeypatch.setattr("time.perf_counter", lambda: now)
    timed = stopwatch().time(fit, set_weights, 2)
    monkeypatch.undo()
    assert timed == {"examples": 4, "epoch_seconds": [1.0, 2.0, 3.0, 4.0]}


@pytest.fixture
def model() -> Any:
    keras.config.set_dtype_policy("float32")
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(
        loss="mean_squared_error",
        optimizer=keras.optimizers.SGD(0.125),
        metrics=["mean_absolute_error"],
        steps_per_execution=3,
        jit_compile=False,
    )
    model.set_weights(START)
    return model


class Raw:
    """A raw step like the model's, and the numbers of rows that it was called with."""

    def __init__(self) -> None:
        self.variables = [tf.Variable(value) for value in START]
        self.shapes: list[tuple[int | None, ...]] = []
        self.step = tf.function(
            self._step, input_signature=[tf.TensorSpec((None, 1))] * 2
        )

    def _step(self, x: tf.Tensor, y: tf.Tensor) -> dict[str, tf.Tensor]:
        self.shapes.append(tuple(x.shape))
        w, b = self.variables
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(y - (x @ w + b)))
        for v, gradient in zip(
            self.variables, tape.gradient(loss, self.variables), strict=True
        ):
            v.assign_sub(0.125 * gradient)
        return {"loss": loss}


@pytest.mark.parametrize("xla_steps", ["epoch", 1])
def test_keras_is_timed_in_four_modes_and_the_model_stays_as_it_was(
    model: Any, xla_steps: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    time = modes.Stopwatch.time

    def spy(self: Any, fit: Any, set_weights: Any, steps: int) -> dict[str, Any]:
        twin = fit.__self__
        told.append(
            (twin.run_eagerly, twin.steps_per_execution, twin.jit_compile, steps)
        )
        assert twin is not model
        assert twin.optimizer.learning_rate == 0.125
        assert twin.loss == "mean_squared_error"
        return time(self, fit, set_weights, steps)

    monkeypatch.setattr(modes.Stopwatch, "time", spy)
    timed = stopwatch(batches=4, slow_batches=3, xla_steps=xla_steps).keras(model)
    assert list(timed) == list(modes.MODES)
    assert told == [
        (True, 1, False, 3),
        (False, 1, False, 4),
        (False, 4, False, 4),
        (False, 3 if xla_steps == "epoch" else 1, True, 3),
    ]
    assert [one["examples"] for one in timed.values()] == [6, 8, 8, 6]
    assert parity.same_bits(model.get_weights(), START)
    assert model.steps_per_execution == 3


def test_tensorflow_2_is_timed_in_four_modes() -> None:
    raw = Raw()
    timed = stopwatch(slow_batches=2).tf2(raw.step, raw.step, raw.variables)
    assert list(timed) == list(modes.MODES)
    assert [one["examples"] for one in timed.values()] == [4, 10, 10, 4]
    assert raw.shapes[:8] == [(2, 1)] * 8  # eager: four epochs of two steps
    assert raw.shapes[8] == (None, 1)  # graph: one trace
    assert set(raw.shapes[9:]) <= {(None, 1)}  # never eager again
    assert parity.same_bits([v.numpy() for v in raw.variables], START)


def test_a_session_has_the_mode_graph() -> None:
    seen = []

    def step(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
        seen.append(len(x))
        return {"loss": 0.0}

    timed = stopwatch().tf1(step, step, lambda values: None)
    assert list(timed) == ["graph"]
    assert seen == [2] * 5 * 4


@pytest.mark.parametrize(
    ("batch_size", "batches", "examples"),
    [(2, 100, 10), (2, 3, 6), (11, 100, 11), (12, 100, 11), (5, 1, 5), (4, 2, 8)],
)
def test_an_epoch_has_whole_batches_unless_there_is_only_a_part_of_one(
    batch_size: int, batches: int, examples: int
) -> None:
    def step(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
        return {"loss": 0.0}

    one = stopwatch(batch_size=batch_size, batches=batches)
    timed = one.tf1(step, step, lambda values: None)
    assert timed["graph"]["examples"] == examples


# What follows from the times


def test_the_fastest_epoch_after_the_first_represents_a_mode() -> None:
    speed = {
        "keras": {"graph": {"examples": 10, "epoch_seconds": [0.01, 0.3, 0.1, 0.2]}},
        "tf2": {"epoch": {"examples": 20, "epoch_seconds": [0.02, 0.001]}},
    }
    assert modes.quickest(speed["keras"]["graph"]) == 0.1
    times = modes.microseconds(speed)
    assert times["keras"]["graph"] == pytest.approx(10_000)
    assert times["tf2"]["epoch"] == pytest.approx(50)


@pytest.mark.parametrize(
    ("times", "advised"),
    [
        ({"graph": 120.0, "epoch": 101.0, "XLA": 200.0}, "graph"),
        ({"graph": 120.0, "epoch": 100.0, "XLA": 90.0}, "epoch"),
        ({"graph": 100.0, "epoch": 90.0, "XLA": 80.0}, "XLA"),
        ({"graph": 100.0, "epoch": 50.0, "XLA": 42.0}, "epoch"),
        ({"graph": 100.0, "epoch": 50.0, "XLA": 4.0}, "XLA"),
        ({"graph": 100.0, "epoch": 150.0, "XLA": 50.0}, "XLA"),
        ({"XLA": 50.0, "epoch": 60.0, "graph": 100.0}, "XLA"),
        ({"graph": 100.0, "XLA": 1_000.0}, "graph"),
        ({"eager": 1.0, "graph": 100.0}, "graph"),
        ({"graph": 100.0}, "graph"),
    ],
)
def test_advised_is_graph_unless_another_mode_is_a_fifth_faster(
    times: dict[str, float], advised: str
) -> None:
    assert modes.advised(times) == advised


def test_saved_seconds_are_those_of_an_epoch_of_the_run_and_of_the_start() -> None:
    run = {
        "data": {"train": 1_000},
        "speed": {
            "keras": {
                "graph": {"examples": 100, "epoch_seconds": [0.25, 0.002]},
                "epoch": {"examples": 50, "epoch_seconds": [0.75, 0.0005]},
            }
        },
    }
    per_epoch, start = modes.saved(run, "keras", "epoch")
    assert per_epoch == pytest.approx(0.01)  # 20 and 10 µs per example
    assert start == pytest.approx(0.7495 - 0.248)
    assert modes.saved(run, "keras", "graph") == (0.0, 0.0)
    sooner = {**run["speed"]["keras"]["epoch"], "epoch_seconds": [0.1, 0.0005]}
    run["speed"]["keras"]["epoch"] = sooner
    assert modes.saved(run, "keras", "epoch")[1] == 0.0
