"""The epochs of a training: batches, validation, and callbacks at Keras's times."""

from collections.abc import Callable, Collection, Iterator
from typing import Any

from kvt.training import checks
from kvt.training.batches import Batches
from kvt.training.callbacks import History, Monitor
from kvt.training.hooks import CallbackList
from kvt.training.means import RunningMeans
from kvt.training.rows import joined

Run = Callable[[], RunningMeans]  # through all batches, once


def train_epochs(
    epochs: range,
    train: Run,
    validate: Run | None,
    callbacks: CallbackList,
    steps: tuple[int | None, int | None],
    validation_freq: int | Collection[int],
    verbose: int | str,
) -> History:
    """Train epoch by epoch, validate after each, and call the callbacks.

    `steps` are the numbers of batches to train and to validate on, None if unknown.
    """
    history, model = callbacks.add_history(), callbacks.model
    if verbose:
        callbacks.show_progress()
    for callback in callbacks.callbacks:
        if validate is None and isinstance(callback, Monitor):
            callback.reject_without_validation()
    callbacks.begin({"verbose": verbose, "epochs": epochs.stop, "steps": steps[0]})
    callbacks.start("train")
    callbacks("on_train_begin")
    first = getattr(model, "_initial_epoch", None) or epochs.start  # BackupAndRestore's
    logs: dict[str, float] = {}
    with callbacks.telling_of_failure():
        for epoch in range(first, epochs.stop):
            callbacks("on_epoch_begin", epoch)
            logs = train_epoch(epoch, train(), callbacks, steps[0])
            if validate is not None and is_due(epoch, validation_freq):
                metrics = measure_epoch(validate(), callbacks, steps[1])
                if not callbacks.stopped("train"):
                    checks.finite(metrics["loss"], "val_loss", f"epoch {epoch + 1}")
                logs = logs | {f"val_{name}": value for name, value in metrics.items()}
            callbacks("on_epoch_end", epoch, logs=logs)
            if callbacks.stopped("train"):
                break
        finish(model)
    callbacks("on_train_end", logs=logs)
    return history


def train_epoch(
    epoch: int, means: RunningMeans, callbacks: CallbackList, steps: int | None
) -> dict[str, float]:
    """Train on all batches, or until a callback stops; return the means over them.

    Each batch is measured before later steps update the weights, as in Keras. A loss
    that is not finite is an error, unless a callback stops the training for it.
    """
    logs: dict[str, float] = {}
    for step, logs in executions("train", means, callbacks, steps):
        if not callbacks.stopped("train"):
            number = min(step + 1, steps or step + 1)
            of = f" of {steps}" if steps else ""
            checks.finite(logs["loss"], "loss", f"epoch {epoch + 1}, step {number}{of}")
    return logs


def measure_epoch(
    means: RunningMeans, callbacks: CallbackList, steps: int | None
) -> dict[str, float]:
    """Measure all batches; return the means over them."""
    callbacks.start("test")
    callbacks("on_test_begin")
    *_, (_, logs) = executions("test", means, callbacks, steps)
    callbacks("on_test_end", logs=logs)
    return dict(sorted(logs.items()))


def predict_batches(
    predict_step: Callable[[Any], Any], batches: Batches, callbacks: CallbackList
) -> Any:
    """Return the outputs for all batches, joined."""
    callbacks.start("predict")
    callbacks("on_predict_begin")
    results = ((i, {"outputs": predict_step(*b)}) for i, b in enumerate(batches))
    done = executions("predict", results, callbacks, batches.steps)
    outputs = [logs["outputs"] for _, logs in done]
    callbacks("on_predict_end")
    return joined(outputs)


def executions(
    kind: str,
    results: Iterator[tuple[int, Any]],
    callbacks: CallbackList,
    steps: int | None,
) -> Iterator[tuple[int, Any]]:
    """Pass on each execution's last step and logs; call the callbacks before and after.

    An execution is one step, or `steps_per_execution` steps. If `steps` is unknown, the
    callbacks expect one more, as in Keras.
    """
    first = 0
    while not steps or first < steps:
        callbacks(f"on_{kind}_batch_begin", first)
        result = next(results, None)
        if result is None:
            return
        last, logs = result
        callbacks(f"on_{kind}_batch_end", last, logs=logs)
        yield last, logs
        if callbacks.stopped(kind):
            return
        first = last + 1
    next(results, None)  # ends the epoch of the batches


def is_due(epoch: int, validation_freq: int | Collection[int]) -> bool:
    """Whether to validate after an epoch, from 0: every n-th, or one of a list."""
    if isinstance(validation_freq, Collection):
        return epoch + 1 in validation_freq
    return (epoch + 1) % validation_freq == 0


def finish(model: Any) -> None:
    """Let an optimizer of Keras that averages weights set them, as `fit` does."""
    optimizer: Any = getattr(model, "optimizer", None)
    if hasattr(optimizer, "finalize_variable_values"):
        optimizer.finalize_variable_values(model.trainable_weights)
