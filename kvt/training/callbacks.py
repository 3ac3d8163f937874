"""Callbacks, with Keras's hooks and names.

`keras.Model.fit` and `kvt.fit` accept the same callbacks, so the same code watches and
stops the training in every dialect.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kvt.data import Array

Logs = Mapping[str, float]
Weights = Sequence[Array]
GetWeights = Callable[[], Weights]
SetWeights = Callable[[list[Array]], object]


@dataclass
class TrainingState:
    """What `kvt.fit` passes to `set_model`, where Keras passes its model."""

    stop_training: bool = False  # True stops the training at the end of the epoch


class Callback:
    """A callback that does nothing: override the hooks you need.

    It has all hooks that Keras calls; `kvt.fit` calls those with a docstring. `epoch`
    and `batch` count from 0; `logs` holds the metrics so far, such as `val_loss`.
    """

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Receive `epochs` and `steps` (batches per epoch) before training."""

    def set_model(self, model: Any) -> None:
        """Receive the model from Keras, a `TrainingState` from `kvt.fit`."""
        self.model = model

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Run once, before the first epoch."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Run once, after the last epoch; in `kvt.fit` also if training fails."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Run before the first batch of an epoch."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Run after an epoch and its validation."""

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Run after each step, or each `steps_per_execution` steps."""

    def _ignore(self, *args: object, **kwargs: object) -> None:
        """Do nothing: a hook that only Keras calls."""

    on_batch_begin = on_batch_end = on_train_batch_begin = _ignore
    on_test_begin = on_test_end = on_test_batch_begin = on_test_batch_end = _ignore
    on_predict_begin = on_predict_end = _ignore
    on_predict_batch_begin = on_predict_batch_end = _ignore


class Recorder(Callback):
    """Record the weights after every epoch, and the seconds that each epoch took.

    `get_weights` returns a list of arrays; in Keras it is `model.get_weights`. By
    epoch, `weights` holds a copy of that list, and `epoch_seconds` the wall-clock
    seconds, including validation; `seconds` is their sum.
    """

    def __init__(self, get_weights: GetWeights) -> None:
        self._get_weights = get_weights
        self.weights: list[list[Array]] = []
        self.epoch_seconds: list[float] = []
        self.seconds = 0.0

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Start the epoch's clock."""
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Stop the clock, then copy the weights, so that copying is not counted."""
        self.epoch_seconds.append(time.perf_counter() - self._start)
        self.seconds = sum(self.epoch_seconds)
        self.weights.append([np.array(weight) for weight in self._get_weights()])


class Monitor(Callback):
    """Follow a metric from epoch to epoch; decide whether it improves, as Keras does.

    `name` is the metric: `loss`, `val_loss`, `val_accuracy`, …. `mode` is "min" or
    "max": whether lower or higher values are better; "auto" is "min" for a loss and
    "max" for an accuracy. `min_delta` is the smallest difference that counts as an
    improvement, 0 or more. `best` is the best value so far. If the first value is NaN,
    it stays the best, because no value compares as better.
    """

    def __init__(self, name: str, mode: str = "auto", min_delta: float = 0.0) -> None:
        known = {"loss": "min", "accuracy": "max"}
        if mode == "auto":
            mode = known.get(name.removeprefix("val_"), mode)
        if mode not in ("min", "max"):
            raise ValueError(
                f"mode is {mode!r} for {name}; it must be 'min' or 'max', or 'auto' "
                "for loss and accuracy; use 'min' if lower values are better"
            )
        if not 0 <= min_delta < math.inf:
            raise ValueError(
                f"min_delta is {min_delta!r}; it must be a finite number of at least "
                "0; use 0 to count every improvement"
            )
        self.name = name
        self.best: float | None = None
        self._sign, self._delta = (1 if mode == "min" else -1), min_delta

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Reject a metric of validation if there is no validation."""
        if self.name.startswith("val_") and not params.get("validation", True):
            raise ValueError(
                f"monitor is {self.name!r}; it needs validation, and there is none; "
                "pass validation_split or validation_data, or monitor 'loss'"
            )

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Reject an unknown metric after the first step."""
        if batch == 0 and not self.name.startswith("val_"):
            self._value(logs or {})

    @np.errstate(over="ignore")  # values beyond float32 are infinite, as in Keras
    def improves(self, logs: Logs) -> bool:
        """Take an epoch's metrics; return whether the value is the best so far.

        Raises ValueError if the metric is not among them.
        """
        value = self._value(logs)
        # Keras subtracts in float64 and compares in float32, whatever the dtype.
        better = np.float32(self._sign * value + self._delta)
        if self.best is None or better < np.float32(self._sign * self.best):
            self.best = value
            return True
        return False

    def _value(self, logs: Logs) -> float:
        if self.name not in logs:
            raise ValueError(
                f"monitor is {self.name!r}; it must be a metric of this training; "
                f"use one of: {', '.join(logs)}"
            )
        return logs[self.name]


class EarlyStopping(Monitor):
    """Stop when a metric has not improved for some epochs, as Keras's EarlyStopping.

    `monitor` is the metric; `mode` and `min_delta` are those of `Monitor`. Training
    stops after `patience` epochs in a row without improvement; 0 and 1 both stop after
    the first. `restore_best_weights` restores the weights of the best epoch at the end,
    even if training was not stopped or failed. It needs `get_weights`, which returns
    the current weights, and `set_weights`, which sets such a list.

    `stopped_epoch` is the epoch that stopped the training, from 0; 0 if none did.
    `best_epoch` is the epoch with the best value, from 0.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        *,
        min_delta: float = 0.0,
        patience: int = 0,
        mode: str = "auto",
        restore_best_weights: bool = False,
        get_weights: GetWeights | None = None,
        set_weights: SetWeights | None = None,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        if patience < 0:
            raise ValueError(
                f"patience is {patience!r}; it must be an integer of at least 0; "
                "use 0 to stop after the first epoch without improvement"
            )
        if restore_best_weights and (get_weights is None or set_weights is None):
            raise ValueError(
                "restore_best_weights is True; it needs get_weights and set_weights; "
                "pass both, in Keras model.get_weights and model.set_weights"
            )
        self._patience = patience
        self._restore = restore_best_weights
        self._get_weights, self._set_weights = get_weights, set_weights

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Reset everything, so that one object can watch several trainings."""
        self.best = None
        self._best_weights: list[Array] | None = None
        self._wait = 0
        self.stopped_epoch = self.best_epoch = 0

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Count the epochs since the last improvement; stop when there are too many."""
        self._wait += 1
        if self.improves(logs or {}):
            self._wait = 0
            self.best_epoch = epoch
            if self._restore and self._get_weights:
                self._best_weights = [np.array(w) for w in self._get_weights()]
        elif self._wait >= self._patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Restore the best weights."""
        if self._best_weights is not None and self._set_weights:
            self._set_weights(self._best_weights)
