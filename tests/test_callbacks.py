"""What holds for the observers of a training, in Keras and in kvt alike."""

import inspect
from typing import Any

import keras
import numpy as np
import pytest

import kvt

HOOKS = sorted(
    name for name in dir(keras.callbacks.Callback) if name.startswith(("on_", "set_"))
)
X = np.arange(6, dtype=np.float32).reshape(6, 1)
Y = X % 2


class Log(kvt.Callback):
    """Notes which hook was called, for which epoch or batch, with which figures."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[int], list[str]]] = []

    def __getattribute__(self, name: str) -> Any:
        if name not in HOOKS:
            return super().__getattribute__(name)

        def note(*args: Any, **kwargs: Any) -> None:
            numbers = [value for value in args if isinstance(value, int)]
            logs = [*args, *kwargs.values()][-1:]
            figures = [
                key for value in logs if isinstance(value, dict) for key in value
            ]
            self.calls.append((name, numbers, sorted({*figures} - {"verbose"})))

        return note


def train_in_keras(*callbacks: Any) -> keras.Model:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(
        loss="mse", optimizer=keras.optimizers.SGD(0.01), metrics=["accuracy"]
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
        return {"loss": np.float32(0.5), "accuracy": np.float32(1)}

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
    """As Keras calls it; a hook that a new Keras adds shows up here."""
    parameters = inspect.signature(getattr(keras.callbacks.Callback(), hook)).parameters
    required = [p for p in parameters.values() if p.default is inspect.Parameter.empty]
    assert getattr(kvt.Callback(), hook)(*range(len(required))) is None
    if "logs" in parameters:
        assert getattr(kvt.Callback(), hook)(*range(len(required)), logs={}) is None


def test_kvt_calls_its_hooks_as_keras_does() -> None:
    in_keras, in_numpy = Log(), Log()
    train_in_keras(in_keras)
    train_in_numpy(in_numpy)
    known = {name for name, _, _ in in_numpy.calls}
    assert known == {
        "set_params",
        "on_train_begin",
        "on_train_end",
        "on_epoch_begin",
        "on_epoch_end",
        "on_train_batch_end",
    }
    begin_and_end = {"on_train_begin", "on_train_end"}
    expected = [
        # At the end Keras passes the last epoch's figures on.
        (name, numbers, [] if name in begin_and_end else figures)
        for name, numbers, figures in in_keras.calls
        if name in known
    ]
    assert in_numpy.calls == expected


def test_the_same_observers_work_in_keras_and_in_kvt(
    capsys: pytest.CaptureFixture[str],
) -> None:
    recorder = kvt.Recorder(lambda: [np.zeros(1)])
    observers = (recorder, kvt.ProgressBar(), kvt.Callback())
    train_in_keras(*observers)
    in_keras = capsys.readouterr()
    train_in_numpy(*observers)
    in_numpy = capsys.readouterr()
    assert len(recorder.weights) == len(recorder.epoch_seconds) == 4
    shapes = [
        [line.split()[0::2] for line in run.out.splitlines()]
        for run in (in_keras, in_numpy)
    ]
    assert shapes[0] == shapes[1]
    assert in_keras.err == in_numpy.err == ""


# The recorder


def test_recorder_holds_keras_weights_of_every_epoch() -> None:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(loss="mse", optimizer=keras.optimizers.SGD(0.01))
    recorder = kvt.Recorder(model.get_weights)
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[recorder])
    assert [len(weights) for weights in recorder.weights] == [2, 2]
    for ours, theirs in zip(recorder.weights[-1], model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not np.array_equal(recorder.weights[0][0], recorder.weights[1][0])


def test_later_updates_leave_recorded_weights_alone() -> None:
    weight = np.zeros(2)
    recorder = kvt.Recorder(lambda: [weight])
    for epoch in range(3):
        recorder.on_epoch_begin(epoch)
        weight += 1
        recorder.on_epoch_end(epoch)
    weight += 100
    assert [w.tolist() for (w,) in recorder.weights] == [[1, 1], [2, 2], [3, 3]]


def test_recorder_times_epochs_and_not_its_own_copying(
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
