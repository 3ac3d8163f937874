"""What a training loop tells its observers: Keras's hooks, under Keras's names.

An object of this module can be given to `keras.Model.fit` and to `kvt.fit` alike,
so that the dialects are watched by the same code.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Logs = Mapping[str, float]


class Callback:
    """An observer that does nothing: override the hooks you need.

    The hooks are those that `keras.callbacks.CallbackList` calls; `kvt.fit` calls
    the ones that it has a use for. `epoch` and `batch` count from 0, and `logs`
    holds the running figures (`loss`, `accuracy`, and after validation `val_…`).
    """

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Receive `epochs` and `steps` (batches an epoch) before training."""

    def set_model(self, model: object) -> None:
        """Receive Keras's model; `kvt.fit` has none and does not call this."""

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Run once, before the first epoch."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Run once, after the last epoch; by `kvt.fit` also when training fails."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Run before an epoch's first batch."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Run after an epoch and its validation."""

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Run after each update."""

    def _ignore(self, *args: object, **kwargs: object) -> None:
        """Stand in for the hooks that only Keras calls."""

    on_batch_begin = on_batch_end = on_train_batch_begin = _ignore
    on_test_begin = on_test_end = on_test_batch_begin = on_test_batch_end = _ignore
    on_predict_begin = on_predict_end = _ignore
    on_predict_batch_begin = on_predict_batch_end = _ignore


class Recorder(Callback):
    """Keep the weights after every epoch, and how long each epoch took.

    Args:
        get_weights: returns the current weights, a list of NumPy arrays; in Keras
            `model.get_weights`, in raw TensorFlow a function of your own.

    Attributes:
        weights: by epoch, copies of what `get_weights` returned.
        epoch_seconds: by epoch, wall seconds, validation included.
        seconds: wall seconds of the whole training.
    """

    def __init__(self, get_weights: Callable[[], Sequence[np.ndarray]]) -> None:
        self._get_weights = get_weights
        self.weights: list[list[np.ndarray]] = []
        self.epoch_seconds: list[float] = []
        self.seconds = 0.0

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Start the epoch's clock."""
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Stop the clock, then copy the weights, so that copying is not timed."""
        self.epoch_seconds.append(time.perf_counter() - self._start)
        self.seconds = sum(self.epoch_seconds)
        self.weights.append([np.array(weight) for weight in self._get_weights()])
