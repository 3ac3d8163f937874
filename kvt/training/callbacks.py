"""Callbacks, with Keras's hooks and names.

`keras.Model.fit` and `kvt.fit` accept the same callbacks, so the same code watches and
stops the training in every dialect.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kvt.data import Array

Logs = Mapping[str, float]
Weights = Sequence[Array]
GetWeights = Callable[[], Weights]
SetWeights = Callable[[list[Array]], object]


@dataclass
class TrainingState:
    """What callbacks get as `self.model` where Keras passes its model, by default."""

    stop_training: bool = False  # True stops the training after this step
    stop_evaluating: bool = False
    stop_predicting: bool = False
    optimizer: Any = None  # TensorBoard asks for both
    train_function: Any = None

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"a callback uses self.model.{name}, but there is no model; pass one that "
            "has it as model=…: the Keras model that your steps train, or an object"
        )


class Callback:
    """A callback that does nothing: override the hooks you need.

    It has all hooks of Keras, and `kvt.fit` calls them when Keras does. `epoch` and
    `batch` count from 0; `logs` holds the metrics so far, such as `val_loss`. All
    callbacks share one dict: the history gets what a callback adds in `on_epoch_end`.
    """

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Receive `verbose`, `epochs` and `steps`, the number of batches per epoch."""

    def set_model(self, model: Any) -> None:
        """Receive the model from Keras; from `kvt.fit`, its argument `model`."""
        self.model = model

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Run once, before the first epoch."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Run once, after the last epoch; `logs` has its metrics."""

    def on_train_failure(self) -> None:
        """Run if training fails, in `kvt.fit` only; by default, as at its end."""
        self.on_train_end()

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Run before the first batch of an epoch."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Run after an epoch and its validation."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Run before each step, or each `steps_per_execution` steps."""
        self.on_batch_begin(batch, logs=logs)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Run after each step, or each `steps_per_execution` steps."""
        self.on_batch_end(batch, logs=logs)

    def _ignore(self, *args: object, **kwargs: object) -> None:
        """Do nothing."""

    on_batch_begin = on_batch_end = _ignore  # the older names
    on_test_begin = on_test_end = on_test_batch_begin = on_test_batch_end = _ignore
    on_predict_begin = on_predict_end = _ignore
    on_predict_batch_begin = on_predict_batch_end = _ignore


@dataclass
class History(Callback):
    """The metrics of a training, under the names of `keras.callbacks.History`.

    `epoch` holds the numbers of the epochs, from 0. `history` holds for each metric
    (`loss`, `val_loss`, …) a list with one value per epoch. `params` holds `verbose`,
    `epochs` and `steps`.
    """

    epoch: list[int] = field(default_factory=list)
    history: dict[str, list[float]] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Store the parameters."""
        self.params = dict(params)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Number the epochs anew; an earlier training's metrics stay, as in Keras."""
        self.epoch = []

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Add the metrics of an epoch."""
        self.append(epoch, logs or {})

    def append(self, epoch: int, logs: Logs) -> None:
        """Add the metrics of an epoch."""
        self.epoch.append(epoch)
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)


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
