"""Callbacks, with Keras's hooks and names.

`keras.Model.fit` and `kvt.fit` accept the same callbacks, so the same code watches and
stops the training in every dialect.
"""

import math
import re
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

    It has all hooks of Keras, and `kvt.fit` calls them when Keras does, such as
    `on_epoch_end(epoch, logs)` after an epoch and its validation. `epoch` and `batch`
    count from 0; `logs` holds the metrics so far, such as `val_loss`. All callbacks
    share one dict: the history gets what a callback adds in `on_epoch_end`.
    `set_params` gets `verbose`, `epochs` and `steps`, the number of batches per epoch.
    """

    def set_model(self, model: Any) -> None:
        """Receive the model from Keras; from `kvt.fit`, its argument `model`."""
        self.model = model

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Run before each step, or each `steps_per_execution` steps."""
        self.on_batch_begin(batch, logs=logs)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Run after each step, or each `steps_per_execution` steps."""
        self.on_batch_end(batch, logs=logs)

    def on_train_failure(self) -> None:
        """Run if training fails, in `kvt.fit` only; by default, as at its end."""
        self.on_train_end()

    def _ignore(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing."""

    set_params = on_train_begin = on_train_end = on_epoch_begin = on_epoch_end = _ignore
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
        """Start the epoch's timer."""
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Stop the timer before copying the weights, so that copying is not counted."""
        self.epoch_seconds.append(time.perf_counter() - self._start)
        self.seconds = sum(self.epoch_seconds)
        self.weights.append([np.array(weight) for weight in self._get_weights()])


# Keras's metrics, by name. Keras knows no direction for others.
MAXIMIZED = """acc accuracy binary_accuracy categorical_accuracy
    sparse_categorical_accuracy top_k_categorical_accuracy
    sparse_top_k_categorical_accuracy auc precision recall precision_at_recall
    recall_at_precision sensitivity_at_specificity specificity_at_sensitivity f1_score
    fbeta_score io_u binary_io_u mean_io_u one_hot_io_u one_hot_mean_io_u r2_score
    cosine_similarity concordance_correlation pearson_correlation"""
MINIMIZED = """loss mse mae mape msle bce ce crossentropy mean_squared_error
    root_mean_squared_error mean_absolute_error mean_absolute_percentage_error
    mean_squared_logarithmic_error logcosh binary_crossentropy categorical_crossentropy
    sparse_categorical_crossentropy kl_divergence poisson hinge squared_hinge
    categorical_hinge"""


def direction(metric: str) -> str | None:
    """Return "min" or "max", as Keras infers it from the name; None if it cannot."""
    name = re.sub(r"_\d+$", "", metric.removeprefix("val_"))  # Keras numbers: auc_1
    if name in MINIMIZED.split():
        return "min"
    return "max" if name in MAXIMIZED.split() else None


class Monitor(Callback):
    """Follow a metric from epoch to epoch; decide whether it improves, as Keras does.

    `name` is the metric: `loss`, `val_loss`, `val_accuracy`, …. `mode` is "min" or
    "max": whether lower or higher values are better; "auto" is what Keras takes for
    its own metrics: "min" for a loss, "max" for an accuracy, …. `min_delta` is the
    smallest difference that counts as an improvement, 0 or more. `best` is the best
    value so far. If the first value is NaN, it stays the best, because no value
    compares as better.
    """

    def __init__(self, name: str, mode: str = "auto", min_delta: float = 0.0) -> None:
        if mode == "auto":
            mode = direction(name) or mode
        if mode not in ("min", "max"):
            raise ValueError(
                f"mode is {mode!r} for {name}; it must be 'min' or 'max', or 'auto' "
                "for loss, accuracy and Keras's other metrics; use 'min' if lower "
                "values are better"
            )
        if not 0 <= min_delta < math.inf:
            raise ValueError(
                f"min_delta is {min_delta!r}; it must be a finite number of at least "
                "0; use 0 to count every improvement"
            )
        self.name = name
        self.best: float | None = None
        self._sign, self._delta = (1 if mode == "min" else -1), min_delta
        self._known = False

    def reject_without_validation(self) -> None:
        """Reject a metric of validation: there is no validation."""
        if self.name.startswith("val_"):
            raise ValueError(
                f"monitor is {self.name!r}; it needs validation, and there is none; "
                "pass validation_split or validation_data, or monitor 'loss'"
            )

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Reject an unknown metric after the first step."""
        if not self._known and not self.name.startswith("val_"):
            self._value(logs or {})
        self._known = True

    def improves(self, logs: Logs) -> bool:
        """Take an epoch's metrics; return whether the value is the best so far.

        Raises ValueError if the metric is not among them.
        """
        value = self._value(logs)
        better = self.best is None or self._better(value, self.best)
        if better:
            self.best = value
        return better

    def _absent(self, logs: Logs) -> bool:
        """Whether this epoch ended without validation, as `validation_freq` allows."""
        return self.name.startswith("val_") and not any(
            name.startswith("val_") for name in logs
        )

    @np.errstate(over="ignore")  # values beyond float32 are infinite, as in Keras
    def _better(self, value: float, reference: float) -> bool:
        # Keras subtracts in float64 and compares in float32, whatever the dtype.
        better = np.float32(self._sign * value + self._delta)
        return bool(better < np.float32(self._sign * reference))

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
    the first. With a `baseline`, only improvements on it count. The first
    `start_from_epoch` epochs are ignored. `restore_best_weights` restores the weights
    of the best epoch at the end, even if training was not stopped or failed. It needs
    `get_weights`, which returns the current weights, and `set_weights`, which sets such
    a list. To go on after a restart, pass the callback to `Checkpoint(stopping=…)`.

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
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
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
        self._patience, self._baseline = patience, baseline
        self._restore, self._start = restore_best_weights, start_from_epoch
        self._get_weights, self._set_weights = get_weights, set_weights
        self.begun: int | None = None  # the epoch that is running
        self._resumed = False
        self._reset()

    def _reset(self) -> None:
        self.best = None
        self.best_weights: list[Array] = []
        self.wait = self.best_epoch = self.stopped_epoch = 0

    def get_state(self) -> dict[str, Any]:
        """Return what decides when to stop, without `best_weights`."""
        names = "best", "wait", "best_epoch", "stopped_epoch"
        return {name: getattr(self, name) for name in names}

    def set_state(self, state: Mapping[str, Any], best_weights: list[Array]) -> None:
        """Continue the next training from this state; `patience` may have changed."""
        vars(self).update(state, best_weights=best_weights, _resumed=True)

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Store the number of epochs."""
        self._epochs = params.get("epochs")

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Reset everything, unless a state was set: one object can watch several.

        If that training has stopped already, leave no epoch to train.
        """
        if not self._resumed:
            self._reset()
        elif self.stopped_epoch and self.wait >= self._patience:
            self.model._initial_epoch = self._epochs  # as BackupAndRestore does
        else:
            self.stopped_epoch = 0
        self.begun = None

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Note the epoch, for a `Checkpoint` that saves this state."""
        self.begun = epoch

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Count the epochs since the last improvement; stop when there are too many."""
        if epoch < self._start or self._absent(logs or {}):
            return
        self.wait += 1
        if self.improves(logs or {}):
            self.best_epoch = epoch
            if self._restore and self._get_weights:
                self.best_weights = [np.array(w) for w in self._get_weights()]
            value = self._value(logs or {})
            if self._baseline is None or self._better(value, self._baseline):
                self.wait = 0
        elif self.wait >= self._patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Restore the best weights."""
        if self._resumed and self.stopped_epoch:
            self.model._initial_epoch = None
        self._resumed = False
        if self.best_weights and self._set_weights:
            self._set_weights(self.best_weights)
