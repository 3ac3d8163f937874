"""`fit`, `evaluate` and `predict`: one loop that drives the steps of every dialect.

A step is a callable `(x_batch, y_batch) -> {"loss": scalar, "accuracy": …}`: a
`tf.function` of TensorFlow 2, a `Session.run` of TensorFlow 1, or plain NumPy. Sample
weights, if given, are its third argument. The loop cannot tell the dialects apart, and
it imports no TensorFlow. Names mean what they mean in `keras.Model.fit`.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from kvt import data
from kvt.data import Array, parameters
from kvt.training import checks
from kvt.training.batches import (
    Batch,
    BatchedRows,
    Batches,
    BatchStream,
    as_rows,
    hold_back,
    in_order,
    validation_batches,
)
from kvt.training.callbacks import Callback, History
from kvt.training.epochs import train_epochs
from kvt.training.means import Mean, RunningMeans, Step


def fit(
    train_step: Step,
    test_step: Step,
    x: Array | Iterable[Batch],
    y: Array | None = None,
    *,
    batch_size: int = 32,
    epochs: int = 1,
    verbose: int = 1,
    callbacks: Callback | Sequence[Any] | None = None,
    validation_split: float = 0.0,
    validation_data: tuple[Array, ...] | Iterable[Batch] | None = None,
    shuffle: bool = True,
    sample_weight: Array | None = None,
    initial_epoch: int = 0,
    steps_per_epoch: int | None = None,
    steps_per_execution: int | str = 1,
    jit_compile: bool = False,
    model: Any = None,
    seed: int = 0,
) -> History:
    """Train as `keras.Model.fit` does, by calling your own steps.

    `x` (n, …) and `y` (n, …) hold one example per row, `sample_weight` (n,) its weight.
    `validation_split` holds back that share of the rows, from the end, before any
    shuffling; `validation_data` (x, y) or (x, y, sample_weight) overrides it. `shuffle`
    visits the examples in the order of Keras after `keras.utils.set_random_seed(seed)`:
    random, and the same in every epoch. The last batch of an epoch may be smaller.

    Without `y`, `x` gives batches: a `tf.data.Dataset`, a list, a generator. Then
    `batch_size`, `shuffle` and `seed` have no effect. `validation_data` may give
    batches, too. With `steps_per_epoch`, an epoch takes that many batches, and the next
    epoch continues there.

    `steps_per_execution` steps run in one call, as one graph; "epoch" runs a whole
    epoch. The results are the same; training is faster. Steps must be `tf.function`s.
    Callbacks and the check of the loss run once per call. `jit_compile` compiles the
    graph with XLA, which may round differently.

    `verbose` is 1 for a progress bar, 0 for none. `callbacks` may be Keras's; `model`
    is what they get as `self.model`: the Keras model that your steps train, or any
    object with the attributes that they use. A callback stops the training after a step
    with `self.model.stop_training = True`; `initial_epoch` continues an earlier
    training. Returns the means over the examples of each epoch.

    Raises TypeError or ValueError for an invalid argument, for arrays of different
    length, for NaN or infinity in them and for `x` that ends within an epoch, and
    FloatingPointError when the loss is no longer finite, unless a callback stops then.
    """
    parameters.check({"batch_size": batch_size, "seed": seed})
    checks.epochs(epochs, initial_epoch, steps_per_epoch)
    remaining = range(initial_epoch, epochs)
    training: Batches
    validation: Batches | None = None
    if y is None:
        checks.no_rows_needed(validation_split, sample_weight)
        training = BatchStream(x, "x", len(remaining), steps_per_epoch)
    else:
        rows = as_rows({"x": x, "y": y, "sample_weight": sample_weight})
        rows, tail = hold_back(rows, validation_split if validation_data is None else 0)
        n = len(rows[0])
        order = data.example_order(n, seed) if shuffle else np.arange(n)
        training = BatchedRows(rows, order, batch_size)
        validation = in_order(tail, batch_size) if tail else None
    if validation_data is not None:
        validation = validation_batches(validation_data, batch_size, len(remaining))
    mode = steps_per_execution, jit_compile
    checks.execution(*mode, train_step, test_step if validation else None)
    return train_epochs(
        remaining,
        runner(train_step, training, *mode),
        runner(test_step, validation, *mode) if validation else None,
        callbacks,
        training.steps,
        validation_steps=validation.steps if validation else None,
        verbose=verbose,
        model=model,
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
    """Return the step's metrics as means over all examples; update nothing.

    The arguments are those of `fit`; the examples are visited in their own order.
    Raises TypeError and ValueError as `fit` does.
    """
    parameters.check({"batch_size": batch_size})
    examples: Batches
    if y is None:
        examples = BatchStream(x, "x", epochs=1)
    else:
        rows = as_rows({"x": x, "y": y, "sample_weight": sample_weight})
        examples = in_order(rows, batch_size)
    mode = steps_per_execution, jit_compile
    checks.execution(*mode, None, test_step)
    return final_means(runner(test_step, examples, *mode)())


def predict(
    predict_step: Callable[[Array], Any], x: Array, *, batch_size: int = 32
) -> Array:
    """Return `predict_step`'s outputs for `x` (n, …), batch by batch, as one array.

    Raises TypeError and ValueError as `fit` does.
    """
    parameters.check({"batch_size": batch_size})
    examples = in_order(as_rows({"x": x}), batch_size)
    return np.concatenate([np.asarray(predict_step(*batch)) for batch in examples])


def runner(
    step: Step, batches: Batches, steps_per_execution: int | str, jit_compile: bool
) -> Callable[[], RunningMeans]:
    """Return a function that runs the step on all batches, each time it is called."""
    if steps_per_execution == 1 and not jit_compile:
        return partial(run_steps, step, batches)
    from kvt.training import compiled  # late: it imports TensorFlow

    return compiled.runner(step, batches, steps_per_execution, jit_compile)


def run_steps(step: Step, batches: Batches) -> RunningMeans:
    """Call the step on batch after batch; yield its number and the means so far."""
    mean = Mean()
    for number, batch in enumerate(batches):
        mean.update(step(*batch), len(batch[0]))
        yield number, mean.result()


def final_means(means: RunningMeans) -> dict[str, float]:
    """Run through all batches; return the means over them."""
    *_, (_, logs) = means
    return logs
