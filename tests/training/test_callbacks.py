"""Callbacks work in Keras and in kvt alike."""

import inspect
import math
import re
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import kvt
from kvt.training.callbacks import Monitor, direction

HOOKS = sorted(
    name for name in dir(keras.callbacks.Callback) if name.startswith(("on_", "set_"))
)
X = np.arange(6, dtype=np.float32).reshape(6, 1)
Y = X % 2


def train_in_keras(*callbacks: Any) -> keras.Model:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(
        loss="mse", optimizer=keras.optimizers.SGD(0.01), metrics=["accuracy", "mae"]
    )
    model.fit(
        X,
        Y,
        batch_size=4,
        epochs=2,
        validation_data=(X, Y),
        verbose=0,
        callbacks=list(callbacks),
    )
    return model


def train_in_numpy(*callbacks: Any) -> None:
    def step(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
        one = np.float32(1)
        return {"loss": one, "accuracy": one, "mae": one}

    kvt.fit(
        step,
        step,
        X,
        Y,
        batch_size=4,
        epochs=2,
        validation_data=(X, Y),
        verbose=0,
        callbacks=callbacks,
    )


# The hooks


@pytest.mark.parametrize("hook", HOOKS)
def test_callback_has_every_hook_of_keras(hook: str) -> None:
    """A hook that a new version of Keras adds fails here."""
    parameters = inspect.signature(getattr(keras.callbacks.Callback(), hook)).parameters
    required = [p for p in parameters.values() if p.default is inspect.Parameter.empty]
    assert getattr(kvt.Callback(), hook)(*range(len(required))) is None
    if "logs" in parameters:
        assert getattr(kvt.Callback(), hook)(*range(len(required)), logs={}) is None


def test_the_same_callbacks_work_in_keras_and_in_kvt(
    capsys: pytest.CaptureFixture[str],
) -> None:
    recorder = kvt.Recorder(lambda: [np.zeros(1)])
    callbacks = (recorder, kvt.ProgressBar(), kvt.Callback())
    train_in_keras(*callbacks)
    in_keras = capsys.readouterr()
    train_in_numpy(*callbacks)
    in_numpy = capsys.readouterr()
    assert len(recorder.weights) == len(recorder.epoch_seconds) == 4
    shapes = [
        [line.split()[0::2] for line in run.out.splitlines()]
        for run in (in_keras, in_numpy)
    ]
    assert shapes[0] == shapes[1]
    assert in_keras.err == in_numpy.err == ""


# The recorder


def test_recorder_stores_the_weights_of_keras_after_every_epoch() -> None:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(loss="mse", optimizer=keras.optimizers.SGD(0.01))
    recorder = kvt.Recorder(model.get_weights)
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[recorder])
    assert [len(weights) for weights in recorder.weights] == [2, 2]
    for ours, theirs in zip(recorder.weights[-1], model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not np.array_equal(recorder.weights[0][0], recorder.weights[1][0])


def test_later_updates_do_not_change_recorded_weights() -> None:
    weight = np.zeros(2)
    recorder = kvt.Recorder(lambda: [weight])
    for epoch in range(3):
        recorder.on_epoch_begin(epoch)
        weight += 1
        recorder.on_epoch_end(epoch)
    weight += 100
    assert [w.tolist() for (w,) in recorder.weights] == [[1, 1], [2, 2], [3, 3]]


def test_recorder_times_epochs_without_its_own_copying(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 10.0

    def get_weights() -> list[np.ndarray]:
        nonlocal now
        now += 50
        return []

    monkeypatch.setattr("time.perf_counter", lambda: now)
    recorder = kvt.Recorder(get_weights)
    for epoch, seconds in enumerate((2.0, 0.5)):
        recorder.on_epoch_begin(epoch)
        now += seconds
        recorder.on_epoch_end(epoch)
        now += 7
    monkeypatch.undo()
    assert recorder.epoch_seconds == [2.0, 0.5]
    assert recorder.seconds == 2.5


# Early stopping

VALUES = st.one_of(
    st.sampled_from([0.5, 0.5, 0.25, 1.0, 0.0, -0.0, math.nan, math.inf, -math.inf]),
    st.floats(-2, 2, width=32).filter(lambda x: x == 0 or abs(x) > 1e-30),
    st.sampled_from([0.1, 0.2, 0.3, 0.3 - 1e-9, 0.3 + 1e-9, 0.1 + 0.2]),
)


class Model:
    """Stands in for a model: its only weight is the number of the epoch."""

    def __init__(self) -> None:
        self.stop_training = False
        self.weights = [np.zeros(1)]
        self.metrics: list[Any] = []

    def get_weights(self) -> list[np.ndarray]:
        return self.weights

    def set_weights(self, weights: list[np.ndarray]) -> None:
        self.weights = weights


def watch(callback: Any, model: Model, values: list[float]) -> list[float]:
    """Report a value per epoch; return the epoch in which training stops."""
    callback.set_model(model)
    callback.set_params({"epochs": len(values), "steps": 1})
    callback.on_train_begin()
    for epoch, value in enumerate(values):
        model.weights = [np.full(1, float(epoch))]
        callback.on_epoch_end(epoch, {"metric": value, "other": 0.0})
        if model.stop_training:
            break
    callback.on_train_end()
    return [epoch, callback.stopped_epoch, callback.best_epoch, *model.weights[0]]


@given(
    values=st.lists(VALUES, min_size=1, max_size=12),
    patience=st.integers(0, 4),
    min_delta=st.sampled_from([0, 0.0, 0.1, 0.25, 1e-9, 0.3]),
    mode=st.sampled_from(["min", "max"]),
    restore=st.booleans(),
    baseline=st.none() | VALUES,
    start=st.integers(0, 4),
)
@example([math.nan, 1.0, 0.5], 1, 0, "min", True, None, 0)
@example([1.0, math.nan, 0.5, 0.5, 0.5], 1, 0, "min", True, None, 0)
@example([1.0, 1.0], 0, 0, "min", False, None, 0)
@example([0.3, 0.3 - 1e-9, 0.3 - 2e-9], 1, 0, "min", False, None, 0)
@example([0.5, 0.4, 0.3, 0.2], 2, 0, "min", True, 0.25, 1)
def test_early_stopping_stops_in_the_same_epoch_as_keras(
    values: list[float],
    patience: int,
    min_delta: float,
    mode: str,
    restore: bool,
    baseline: float | None,
    start: int,
) -> None:
    rules = {"min_delta": min_delta, "patience": patience, "mode": mode}
    rules |= {"restore_best_weights": restore}
    rules |= {"baseline": baseline, "start_from_epoch": start}
    ours, theirs = Model(), Model()
    stopping = kvt.EarlyStopping(
        "metric", get_weights=ours.get_weights, set_weights=ours.set_weights, **rules
    )
    expected = watch(keras.callbacks.EarlyStopping("metric", **rules), theirs, values)
    assert watch(stopping, ours, values) == expected
    # One object can watch several trainings, as in Keras.
    again = Model()
    stopping._get_weights, stopping._set_weights = again.get_weights, again.set_weights
    assert watch(stopping, again, values) == expected


def metrics_of_keras() -> dict[str, str | None]:
    """Return the direction of each metric that `compile` knows by name."""
    names = {"accuracy", "acc", *keras.src.metrics.ALL_OBJECTS_DICT}
    names -= {"Metric", "MeanMetricWrapper"}
    found: dict[str, str | None] = {}
    for name in names:
        made = keras.src.metrics.ALL_OBJECTS_DICT.get(name, keras.metrics.Accuracy)
        given: dict[str, Any] = {}
        for one in inspect.signature(made).parameters.values():
            if one.default is one.empty:
                known = {"num_classes": 2, "target_class_ids": [0]}
                given[one.name] = known.get(one.name, 0.5)
        metric = made(**given)
        up = {"up": "max", "down": "min"}.get(getattr(metric, "_direction", ""))
        found[re.sub(r"_\d+$", "", metric.name)] = up
    return found | {"acc": "max", "mse": "min", "mae": "min", "bce": "min"}


def test_mode_auto_is_that_of_keras_for_each_of_its_metrics() -> None:
    known = metrics_of_keras()
    assert len(known) > 40
    wrong = {n: up for n, up in known.items() if direction(n) != up}
    assert wrong == {}
    assert {direction(f"val_{name}_3") for name in ("auc", "recall")} == {"max"}


def test_mode_auto_decides_what_improves_as_in_keras() -> None:
    model = train_in_keras()
    for monitor in ("loss", "val_loss", "mae", "val_accuracy"):
        theirs = keras.callbacks.EarlyStopping(monitor)
        theirs.set_model(model)
        theirs._set_monitor_op()
        for value in (0.75, 0.25):
            ours = Monitor(monitor)
            ours.improves({monitor: 0.5})
            better = bool(theirs._is_improvement(value, 0.5))
            assert ours.improves({monitor: value}) == better


def test_epochs_without_validation_are_not_counted() -> None:
    stopping = kvt.EarlyStopping("val_metric", mode="min", patience=2)
    stopping.set_model(Model())
    stopping.on_train_begin()
    for epoch, value in enumerate([0.5, None, 0.6, None, None, 0.6]):
        assert not stopping.model.stop_training
        logs = {"loss": 1.0} | ({} if value is None else {"val_metric": value})
        stopping.on_epoch_end(epoch, logs)
    assert stopping.stopped_epoch == 5


def test_early_stopping_stops_keras_and_kvt() -> None:
    stopping = {"keras": kvt.EarlyStopping(patience=1), "kvt": kvt.EarlyStopping()}
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(loss="mse", optimizer=keras.optimizers.SGD(0.9))
    data = {"batch_size": 2, "epochs": 9, "validation_data": (X, Y), "verbose": 0}
    in_keras = model.fit(X, Y, callbacks=[stopping["keras"]], **data)

    losses = iter([3.0, 2.0, 2.5, 1.0])

    def test_step(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
        return {"loss": np.float32(next(losses))}

    data["batch_size"] = 6
    in_kvt = kvt.fit(
        lambda x, y: {"loss": np.float32(1)},
        test_step,
        X,
        Y,
        callbacks=[stopping["kvt"]],
        **data,
    )
    assert in_keras.epoch[-1] == stopping["keras"].stopped_epoch < 8
    assert in_kvt.epoch == [0, 1, 2]
    assert in_kvt.history["val_loss"] == [3.0, 2.0, 2.5]


INVALID = {
    "patience -1": (
        {"patience": -1},
        "patience is -1; .* at least 0; use 0",
    ),
    "min_delta -1": ({"min_delta": -1.0}, "min_delta is -1.0; .* at least 0; use 0"),
    "min_delta nan": ({"min_delta": math.nan}, "min_delta is nan; it must be"),
    "mode": ({"mode": "best"}, "mode is 'best' for val_loss; it must be 'min' or"),
    "auto": ({"monitor": "f1"}, "mode is 'auto' for f1; .*; use 'min' if lower"),
    "restore": (
        {"restore_best_weights": True},
        "is True; it needs get_.*; pass both",
    ),
}


@pytest.mark.parametrize("case", INVALID)
def test_an_invalid_argument_is_rejected_at_once(case: str) -> None:
    rules, message = INVALID[case]
    with pytest.raises(ValueError, match=message):
        kvt.EarlyStopping(**rules)


def test_a_metric_of_validation_is_rejected_without_validation() -> None:
    def step(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
        raise AssertionError("a step ran")

    with pytest.raises(ValueError, match=r"'val_loss'; it needs validation, .*; pass"):
        kvt.fit(step, step, X, Y, verbose=0, callbacks=[kvt.EarlyStopping()])


def test_an_unknown_metric_is_rejected_after_one_step() -> None:
    steps = []

    def step(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
        steps.append(x)
        return {"loss": np.float32(1), "accuracy": np.float32(1)}

    stopping = kvt.EarlyStopping("acc", mode="max")
    message = "monitor is 'acc'; it must be a metric of .*; use one of: accuracy, loss"
    with pytest.raises(ValueError, match=message):
        kvt.fit(step, step, X, Y, batch_size=1, verbose=0, callbacks=[stopping])
    assert len(steps) == 1


def test_an_unknown_metric_of_validation_is_rejected_after_one_epoch() -> None:
    stopping = kvt.EarlyStopping("val_acc", mode="max")
    with pytest.raises(ValueError, match=r"monitor is 'val_acc'; .* val_accuracy"):
        train_in_numpy(stopping)


def test_the_best_weights_are_restored_if_training_fails() -> None:
    weights = [np.zeros(1)]

    def set_weights(new: list[np.ndarray]) -> None:
        weights[0][...] = new[0]

    def step(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
        weights[0] += 1
        if weights[0] == 3:
            raise RuntimeError("no step")
        return {"loss": np.float32(weights[0].item())}

    stopping = kvt.EarlyStopping(
        "loss",
        restore_best_weights=True,
        patience=5,
        get_weights=lambda: weights,
        set_weights=set_weights,
    )
    with pytest.raises(RuntimeError, match="no step"):
        kvt.fit(step, step, X, Y, epochs=9, verbose=0, callbacks=[stopping])
    assert weights[0].tolist() == [1.0]
