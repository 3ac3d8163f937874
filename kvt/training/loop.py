"""One loop that drives any dialect's steps: `fit`, `evaluate`, `predict`, `History`.

A step is a callable `(x_batch, y_batch) -> {"loss": scalar, "accuracy": …}`: a
`tf.function` of TensorFlow 2, a `Session.run` of TensorFlow 1, plain NumPy. Where there
are sample weights, they are its third argument. The loop cannot tell which dialect
it drives, and it imports no TensorFlow. The names mean what they mean in
`keras.Model.fit`.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvt.data import parameters
from kvt.training import batches
from kvt.training.batches import Batch, Batches
from kvt.training.callbacks import Callback, Loop
from kvt.training.means import Mean, Pass, Step
from kvt.training.progress import ProgressBar

Array = NDArray[Any]


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


def fit(
    train_step: Step,
    test_step: Step,
    x: Array | Iterable[Batch],
    y: Array | None = None,
    *,
    batch_size: int = 32,
    epochs: int = 1,
    verbose: int = 1,
    callbacks: Sequence[Callback] = (),
    validation_split: float = 0.0,
    validation_data: tuple[Array, ...] | Iterable[Batch] | None = None,
    shuffle: bool = True,
    sample_weight: Array | None = None,
    initial_epoch: int = 0,
    steps_per_epoch: int | None = None,
    steps_per_execution: int | str = 1,
    jit_compile: bool = False,
    seed: int = 0,
) -> History:
    """Train as `keras.Model.fit` does, with steps of your own.

    `x` (n, …) and `y` (n, …) hold one example a row, `sample_weight` (n,) its weight.
    `validation_split` cuts that share off the end, before any shuffling;
    `validation_data` (x, y) or (x, y, sample_weight) overrides it. `shuffle` visits the
    examples as Keras does after `keras.utils.set_random_seed(seed)`: in one random
    order, the same in every epoch. The last batch of an epoch may be smaller than
    `batch_size`.

    Without `y`, `x` and `validation_data` may give batches themselves: a
    `tf.data.Dataset`, a list, a generator. Then `batch_size`, `shuffle` and `seed` have
    no effect. With `steps_per_epoch` an epoch takes so many of them and the next goes
    on from there; where they end too early, Keras warns and this raises ValueError.

    `steps_per_execution` steps are run as one graph, "epoch" for all of an epoch: the
    same numbers sooner, where the steps are each a `tf.function`. Callbacks hear of
    them together, a loss that is not finite is noticed after them. `jit_compile`
    compiles the graph by XLA, which may round differently.

    `verbose` is 1 for a progress bar, 0 for none. A callback ends the training after
    the running epoch by `self.model.stop_training = True`; `initial_epoch` goes on
    where an earlier training stopped. The returned `History` holds each epoch's means
    over its examples.

    Raises TypeError or ValueError for a bad argument or a step that cannot be compiled,
    ValueError for arrays of different length and for NaN or infinity in them,
    FloatingPointError when the loss stops being finite.
    """
    parameters.check({"batch_size": batch_size, "epochs": epochs, "seed": seed})
    _check_counts(epochs, initial_epoch, steps_per_epoch)
    left = epochs - initial_epoch
    training: Batches
    validation: Batches | None = None
    if y is None:
        _refuse_rows(validation_split, sample_weight)
        training = batches.Stream(x, steps=steps_per_epoch, epochs=left, name="x")
    else:
        training, validation = batches.to_train_on(
            x,
            y,
            sample_weight,
            batch_size=batch_size,
            validation_split=validation_split if validation_data is None else 0,
            seed=seed if shuffle else None,
        )
    if validation_data is not None:
        validation = batches.to_validate_on(
            validation_data, batch_size=batch_size, epochs=left
        )
    observers = [*([ProgressBar()] if verbose else []), *callbacks]
    mode = steps_per_execution, jit_compile
    return _run(
        _passes("train_step", train_step, training, *mode),
        None
        if validation is None
        else _passes("test_step", test_step, validation, *mode),
        _count(training),
        range(initial_epoch, epochs),
        observers,
    )


def evaluate(
    test_step: Step,
    x: Array | Iterable[Batch],
    y: Array | None = None,
    *,
    batch_size: int = 32,
    sample_weight: Array | None = None,
    steps_per_execution: int | str = 1,
    jit_compile: bool = False,
) -> dict[str, float]:
    """Return the step's figures as means over all examples, updating nothing.

    `x` (n, …) and `y` (n, …) are visited in order, `batch_size` examples a step;
    without `y`, `x` gives batches itself. `steps_per_execution` and `jit_compile` are
    those of `fit`. Raises TypeError and ValueError as `fit` does.
    """
    parameters.check({"batch_size": batch_size})
    examples = batches.in_order(x, y, sample_weight, batch_size)
    mode = steps_per_execution, jit_compile
    return _last(_passes("test_step", test_step, examples, *mode)())


def predict(
    predict_step: Callable[[Array], Any], x: Array, *, batch_size: int = 32
) -> Array:
    """Return `predict_step`'s outputs for `x` (n, …), batch by batch, as one array.

    Raises TypeError and ValueError as `fit` does.
    """
    parameters.check({"batch_size": batch_size})
    x = np.asarray(x)
    batches.check({"x": x})
    cut = batches.Cut((x,), np.arange(len(x)), batch_size)
    return np.concatenate([np.asarray(predict_step(*batch)) for batch in cut])


def _run(
    train: Callable[[], Pass],
    test: Callable[[], Pass] | None,
    steps: int | None,
    epochs: range,
    observers: Sequence[Callback],
) -> History:
    """Train epoch by epoch, validate after each, and tell the observers of it."""
    history, loop = History(), Loop()
    _tell(observers, "set_model", loop)
    params = {"epochs": epochs.stop, "steps": steps, "validation": test is not None}
    _tell(observers, "set_params", params)
    _tell(observers, "on_train_begin")
    try:
        for epoch in epochs:
            _tell(observers, "on_epoch_begin", epoch)
            logs = _train_epoch(train(), steps, epoch, observers)
            if test is not None:
                figures = _last(test())
                _check_loss(figures["loss"], "val_loss", f"epoch {epoch + 1}")
                logs = logs | {f"val_{name}": value for name, value in figures.items()}
            history.append(epoch, logs)
            _tell(observers, "on_epoch_end", epoch, logs)
            if loop.stop_training:
                break
    finally:
        _tell(observers, "on_train_end")
    return history


def _train_epoch(
    updates: Pass, steps: int | None, epoch: int, observers: Sequence[Callback]
) -> dict[str, float]:
    """Update batch by batch and return the epoch's means.

    They are means over moving weights: an early batch was measured on weights that
    later batches improved. Keras's are the same.
    """
    of = f" of {steps}" if steps else ""
    for step, logs in updates:
        number = min(step + 1, steps or step + 1)
        _check_loss(logs["loss"], "loss", f"epoch {epoch + 1}, step {number}{of}")
        _tell(observers, "on_train_batch_end", step, logs)
    return logs


def _passes(
    name: str,
    step: Step,
    examples: Batches,
    steps_per_execution: int | str,
    jit_compile: bool,
) -> Callable[[], Pass]:
    """Return a function that goes once through the examples, whenever it is called."""
    if steps_per_execution != "epoch":
        parameters.check({"steps_per_execution": steps_per_execution})
    if steps_per_execution == 1 and not jit_compile:
        return partial(_step_by_step, step, examples)
    from kvt.training import compiled  # not at the top: it imports TensorFlow

    compiled.check(name, step)
    return compiled.passes(step, examples, steps_per_execution, jit_compile)


def _step_by_step(step: Step, examples: Batches) -> Pass:
    """Call the step once a batch; yield its number and the means so far."""
    mean = Mean()
    for number, batch in enumerate(examples):
        mean.update(step(*batch), len(batch[0]))
        yield number, mean.result()


def _last(measured: Pass) -> dict[str, float]:
    """Go through all batches and return the means over them."""
    *_, (_, logs) = measured
    return logs


def _check_loss(loss: float, name: str, place: str) -> None:
    """Stop a training that has diverged."""
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"{name} became {loss} in {place}; it has to stay finite; "
            "try a smaller learning_rate"
        )


def _check_counts(epochs: int, initial_epoch: int, steps_per_epoch: int | None) -> None:
    """Refuse an epoch to begin with that is none, and epochs without steps."""
    if not 0 <= initial_epoch <= epochs:
        raise ValueError(
            f"initial_epoch is {initial_epoch!r}; it must be from 0 to epochs, "
            f"{epochs}; 0 begins anew"
        )
    if steps_per_epoch is not None and steps_per_epoch < 1:
        raise ValueError(
            f"steps_per_epoch is {steps_per_epoch!r}; it must be at least 1; "
            "None goes through all of x"
        )


def _refuse_rows(validation_split: float, sample_weight: Array | None) -> None:
    """Refuse what needs rows where x gives batches."""
    if validation_split or sample_weight is not None:
        name = "validation_split" if validation_split else "sample_weight"
        raise ValueError(
            f"{name} needs rows of x, and without y x gives batches; "
            "pass validation_data, or weights as the third part of each batch"
        )


def _count(training: Batches) -> int | None:
    """Count an epoch's batches; None where nobody knows before its end."""
    try:
        return len(training)
    except TypeError:
        return None


def _tell(observers: Sequence[Callback], hook: str, *args: object) -> None:
    """Call one hook of every observer, in order."""
    for observer in observers:
        getattr(observer, hook)(*args)
