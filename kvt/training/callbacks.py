"""What a training loop tells its observers, and what they do: Keras's hooks and names.

An object of this module can be given to `keras.Model.fit` and to `kvt.fit` alike, so
that the dialects are watched, stopped and saved by the same code.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Logs = Mapping[str, float]
Weights = Sequence[NDArray[Any]]
GetWeights = Callable[[], Weights]
SetWeights = Callable[[list[NDArray[Any]]], object]


@dataclass
class Loop:
    """What `kvt.fit` hands its callbacks where Keras hands its model.

    Attributes:
        stop_training: set it, as Keras's own, to end with the running epoch.
    """

    stop_training: bool = False


class Callback:
    """An observer that does nothing: override the hooks you need.

    The hooks are those that `keras.callbacks.CallbackList` calls; `kvt.fit` calls
    the ones that it has a use for. `epoch` and `batch` count from 0, and `logs`
    holds the running figures (`loss`, `accuracy`, and after validation `val_…`).
    """

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Receive `epochs` and `steps` (batches an epoch) before training."""

    def set_model(self, model: Any) -> None:
        """Receive what is trained: Keras's model, or the `Loop` of `kvt.fit`."""
        self.model = model

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

    def __init__(self, get_weights: GetWeights) -> None:
        self._get_weights = get_weights
        self.weights: list[list[NDArray[Any]]] = []
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


class Monitor:
    """Follow one figure of the epochs and tell whether it improves, as Keras does.

    Args:
        name: the figure, as in the logs: `loss`, `val_loss`, `val_accuracy`, ….
        mode: "min" or "max"; "auto" knows that a loss falls and an accuracy rises.
        min_delta: by how much a figure must be better to count, 0 or more.

    Attributes:
        best: the best figure so far. A NaN that comes first stays the best, for
            nothing is better than NaN; a later one never becomes it.
    """

    def __init__(self, name: str, mode: str = "auto", min_delta: float = 0.0) -> None:
        known = {"loss": "min", "accuracy": "max"}
        if mode == "auto":
            mode = known.get(name.removeprefix("val_"), mode)
        if mode not in ("min", "max"):
            raise ValueError(
                f"mode is {mode!r} for {name}; it must be 'min' or 'max', or 'auto' "
                "for loss and accuracy; say whether lower or higher is better"
            )
        if not 0 <= min_delta < math.inf:
            raise ValueError(
                f"min_delta is {min_delta!r}; it must be a finite number of at least "
                "0; 0 takes any improvement"
            )
        self.name = name
        self.best: float | None = None
        self._sign, self._delta = (1 if mode == "min" else -1), min_delta

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Refuse to wait for validation where there will be none."""
        if self.name.startswith("val_") and not params.get("validation", True):
            raise ValueError(
                f"monitor is {self.name!r}, and nothing is validated; pass "
                "validation_split or validation_data, or monitor 'loss'"
            )

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        """Refuse after the first step a name that its figures do not have."""
        if batch == 0 and not self.name.startswith("val_"):
            self._figure(logs)

    @np.errstate(over="ignore")  # beyond float32 all is equally far away, as in Keras
    def improves(self, logs: Logs) -> bool:
        """Take in an epoch's figures. ValueError if the name is not among them."""
        figure = self._figure(logs)
        # Keras subtracts in float64 and compares in float32, whatever the run's dtype.
        better = np.float32(self._sign * figure + self._delta)
        if self.best is None or better < np.float32(self._sign * self.best):
            self.best = figure
            return True
        return False

    def _figure(self, logs: Logs) -> float:
        if self.name not in logs:
            raise ValueError(
                f"monitor is {self.name!r}; it must be one of this training's figures: "
                f"{', '.join(logs)}; name one of them"
            )
        return logs[self.name]


class EarlyStopping(Callback):
    """Stop when a figure has not improved for some epochs: Keras's EarlyStopping.

    Args:
        monitor: the figure's name.
        min_delta: as for `Monitor`.
        patience: how many epochs in a row may fail to improve; the last of them ends
            the training. 0 stops at the first, 1 does so too.
        mode: as for `Monitor`.
        restore_best_weights: whether to give the weights of the best epoch back in the
            end, also when training ran through or failed.
        get_weights: returns the current weights; needed to restore them.
        set_weights: takes such a list and sets it; needed to restore them.

    Attributes:
        stopped_epoch: the epoch that ended the training, from 0; 0 if none did.
        best_epoch: the epoch with the best figure, from 0.
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
        if patience < 0:
            raise ValueError(
                f"patience is {patience!r}; it must be an integer of at least 0; "
                "0 stops at the first epoch that is no better"
            )
        if restore_best_weights and (get_weights is None or set_weights is None):
            raise ValueError(
                "restore_best_weights needs get_weights and set_weights; pass both, "
                "in Keras model.get_weights and model.set_weights"
            )
        self._arguments = monitor, mode, min_delta
        self._monitor = Monitor(*self._arguments)
        self._patience = patience
        self._restore = restore_best_weights
        self._get_weights, self._set_weights = get_weights, set_weights

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Refuse to wait for what will not be measured."""
        self._monitor.set_params(params)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Begin anew, so that one object can watch several trainings."""
        self._monitor = Monitor(*self._arguments)
        self._best_weights: list[NDArray[Any]] | None = None
        self._wait = 0
        self.stopped_epoch = self.best_epoch = 0

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Refuse an unknown figure after one step."""
        self._monitor.on_train_batch_end(batch, logs or {})

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Count the epochs since the last improvement; stop when they are too many."""
        self._wait += 1
        if self._monitor.improves(logs or {}):
            self._wait = 0
            self.best_epoch = epoch
            if self._restore and self._get_weights:
                self._best_weights = [np.array(w) for w in self._get_weights()]
        elif self._wait >= self._patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Give the best weights back."""
        if self._best_weights is not None and self._set_weights:
            self._set_weights(self._best_weights)
