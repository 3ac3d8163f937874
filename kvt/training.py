"""One loop that drives any dialect's steps: `fit`, `evaluate`, `predict`, `History`.

A step is a callable `(x_batch, y_batch) -> {"loss": scalar, "accuracy": …}`: a
`tf.function` of TensorFlow 2, a `Session.run` of TensorFlow 1, plain NumPy. The loop
cannot tell which, and it imports no TensorFlow. The names mean what they mean in
`keras.Model.fit`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvt import data, parameters
from kvt.callbacks import Callback
from kvt.progress import ProgressBar

Array = NDArray[Any]
Step = Callable[[Array, Array], Mapping[str, Any]]


@dataclass
class History:
    """What `fit` saw, under the names of `keras.callbacks.History`.

    Attributes:
        epoch: the epochs' numbers, from 0.
        history: a list by epoch for `loss`, `accuracy`, `val_loss`, `val_accuracy`
            or whatever else the steps return.
    """

    epoch: list[int] = field(default_factory=list)
    history: dict[str, list[float]] = field(default_factory=dict)

    def append(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Add one epoch's figures."""
        self.epoch.append(epoch)
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)


class Mean:
    """Means weighted by examples, held in the steps' own dtype.

    Keras's `Mean` holds its sums in the dtype of the run, float32 by default, so a
    sum in float64 would be nearer to the truth and further from Keras.
    """

    def __init__(self) -> None:
        self._totals: dict[str, Any] = {}
        self._count = 0

    @np.errstate(over="ignore", invalid="ignore")  # `fit` tells it, and where
    def update(self, logs: Mapping[str, Any], examples: int) -> None:
        """Add a batch of `examples`: a scalar is its mean, an array has one each."""
        for name, value in logs.items():
            value = np.asarray(value)
            number = value.dtype.type
            total = value.sum() if value.ndim else value[()] * number(examples)
            self._totals[name] = self._totals.get(name, number(0)) + total
        self._count += examples

    def result(self) -> dict[str, float]:
        """Return the means so far as Python floats."""
        return {
            name: float(total / total.dtype.type(self._count))
            for name, total in self._totals.items()
        }


def fit(
    train_step: Step,
    test_step: Step,
    x: Array,
    y: Array,
    *,
    batch_size: int = 32,
    epochs: int = 1,
    verbose: int = 1,
    callbacks: Sequence[Callback] = (),
    validation_split: float = 0.0,
    validation_data: tuple[Array, Array] | None = None,
    shuffle: bool = True,
    seed: int = 0,
) -> History:
    """Train as `keras.Model.fit` does, with steps of your own.

    `x` (n, …) and `y` (n, …) hold one example a row. `validation_split` cuts that
    share off the end, before any shuffling; `validation_data` (x, y) overrides it.
    `shuffle` visits the examples as Keras does after `keras.utils.set_random_seed(
    seed)`: in one random order, the same in every epoch. The last batch of an epoch
    may be smaller than `batch_size`. `verbose` is 1 for a progress bar, 0 for none.
    The returned `History` holds each epoch's means over its examples.

    Raises TypeError or ValueError for a bad argument, ValueError for `x` and `y` of
    different length and for NaN or infinity in them, FloatingPointError when the loss
    stops being finite.
    """
    parameters.check({"batch_size": batch_size, "epochs": epochs, "seed": seed})
    x, y, validation_data = _split(x, y, validation_split, validation_data)
    order = data.example_order(len(x), seed) if shuffle else np.arange(len(x))
    batches = _batches(order, batch_size)
    history = History()
    observers = [*([ProgressBar()] if verbose else []), *callbacks]
    _tell(observers, "set_params", {"epochs": epochs, "steps": len(batches)})
    _tell(observers, "on_train_begin")
    try:
        for epoch in range(epochs):
            _tell(observers, "on_epoch_begin", epoch)
            logs = _train_epoch(train_step, x, y, batches, epoch, observers)
            if validation_data is not None:
                figures = _evaluate(test_step, *validation_data, batch_size)
                _check_loss(figures["loss"], "val_loss", f"epoch {epoch + 1}")
                logs = logs | {f"val_{name}": value for name, value in figures.items()}
            history.append(epoch, logs)
            _tell(observers, "on_epoch_end", epoch, logs)
    finally:
        _tell(observers, "on_train_end")
    return history


def evaluate(
    test_step: Step, x: Array, y: Array, *, batch_size: int = 32
) -> dict[str, float]:
    """Return the step's figures as means over all examples, updating nothing.

    `x` (n, …) and `y` (n, …) are visited in order, `batch_size` examples a step.
    Raises TypeError and ValueError as `fit` does.
    """
    parameters.check({"batch_size": batch_size})
    _check_examples({"x": x, "y": y})
    return _evaluate(test_step, x, y, batch_size)


def predict(
    predict_step: Callable[[Array], Any], x: Array, *, batch_size: int = 32
) -> Array:
    """Return `predict_step`'s outputs for `x` (n, …), batch by batch, as one array.

    Raises TypeError and ValueError as `fit` does.
    """
    parameters.check({"batch_size": batch_size})
    _check_examples({"x": x})
    batches = _batches(np.arange(len(x)), batch_size)
    return np.concatenate([np.asarray(predict_step(x[batch])) for batch in batches])


def _split(
    x: Array,
    y: Array,
    validation_split: float,
    validation_data: tuple[Array, Array] | None,
) -> tuple[Array, Array, tuple[Array, Array] | None]:
    """Return what to train on, x and y, and what to validate on."""
    _check_examples({"x": x, "y": y})
    if validation_data is not None:
        x_val, y_val = validation_data
        _check_examples({"x of validation_data": x_val, "y of validation_data": y_val})
        return x, y, validation_data
    if validation_split == 0:
        return x, y, None
    n = data.split(len(x), validation_split)
    return x[:n], y[:n], (x[n:], y[n:])


def _batches(order: Array, batch_size: int) -> list[Array]:
    """Cut the examples' order into batches; the last one may be smaller."""
    starts = range(0, len(order), batch_size)
    return [order[start : start + batch_size] for start in starts]


def _train_epoch(
    train_step: Step,
    x: Array,
    y: Array,
    batches: Sequence[Array],
    epoch: int,
    observers: Sequence[Callback],
) -> dict[str, float]:
    """Update once a batch and return the epoch's means.

    They are means over moving weights: an early batch was measured on weights that
    later batches improved. Keras's are the same.
    """
    mean = Mean()
    for step, batch in enumerate(batches):
        mean.update(train_step(x[batch], y[batch]), len(batch))
        logs = mean.result()
        place = f"epoch {epoch + 1}, step {step + 1} of {len(batches)}"
        _check_loss(logs["loss"], "loss", place)
        _tell(observers, "on_train_batch_end", step, logs)
    return logs


def _evaluate(test_step: Step, x: Array, y: Array, batch_size: int) -> dict[str, float]:
    """Measure batch by batch, in order, and return the means."""
    mean = Mean()
    for batch in _batches(np.arange(len(x)), batch_size):
        mean.update(test_step(x[batch], y[batch]), len(batch))
    return mean.result()


def _check_loss(loss: float, name: str, place: str) -> None:
    """Stop a training that has diverged."""
    if not np.isfinite(loss):
        raise FloatingPointError(
            f"{name} became {loss} in {place}; it has to stay finite; "
            "try a smaller learning_rate"
        )


def _tell(observers: Sequence[Callback], hook: str, *args: object) -> None:
    """Call one hook of every observer, in order."""
    for observer in observers:
        getattr(observer, hook)(*args)


def _check_examples(arrays: Mapping[str, Array]) -> None:
    """Refuse examples that no loop could work on; the names are for the message."""
    if len({len(values) for values in arrays.values()}) > 1:
        counts = " and ".join(f"{name} has {len(v)}" for name, v in arrays.items())
        raise ValueError(
            f"{counts} examples; they must be as many; cut both from the same rows"
        )
    for name, values in arrays.items():
        if len(values) == 0:
            raise ValueError(
                f"{name} has 0 examples; at least 1 is needed; pass more data"
            )
        if not np.isfinite(values).all():
            row = int(np.argwhere(~np.isfinite(values))[0][0])
            raise ValueError(
                f"{name} holds NaN or infinity, first in example {row}; "
                "every value must be finite; clean or drop such examples"
            )
