"""`fit`, `evaluate` and `predict`: one loop that drives the steps of every dialect.

A step is a callable `(x_batch, y_batch) -> {"loss": scalar, "accuracy": …}`: a
`tf.function` of TensorFlow 2, a `Session.run` of TensorFlow 1, or plain NumPy. Sample
weights, if given, are its third argument. The loop cannot tell the dialects apart, and
it imports no TensorFlow. Names mean what they mean in `keras.Model.fit`.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any

from kvt.training import checks
from kvt.training.batches import (
    Batch,
    Batches,
    in_order,
    read_in_order,
    read_training,
    read_validation,
    stops_early,
)
from kvt.training.callbacks import History
from kvt.training.epochs import is_due, measure_epoch, predict_batches, train_epochs
from kvt.training.hooks import CallbackList
from kvt.training.means import Mean, RunningMeans, Step, examples_in
from kvt.training.progress import format_metrics
from kvt.training.steps import prepare

Part = Any  # an array with one row per example, or a tuple, list or dict of such parts


def fit(
    train_step: Step,
    test_step: Step,
    x: Part | Iterable[Batch],
    y: Part | None = None,
    *,
    batch_size: int | None = None,
    epochs: int = 1,
    verbose: int | str = "auto",
    callbacks: Any = None,
    validation_split: float = 0.0,
    validation_data: tuple[Part, ...] | list[Part] | Iterable[Batch] | None = None,
    shuffle: bool | str = True,
    class_weight: Mapping[int, float] | None = None,
    sample_weight: Part | None = None,
    initial_epoch: int = 0,
    steps_per_epoch: int | None = None,
    validation_steps: int | None = None,
    validation_batch_size: int | None = None,
    validation_freq: int | Collection[int] = 1,
    steps_per_execution: int | str = 1,
    jit_compile: bool = False,
    model: Any = None,
    seed: int = 0,
) -> History:
    """Train as `keras.Model.fit` does, by calling your own steps.

    `x` (n, …), `y` (n, …) and `sample_weight` (n,) hold one example per row; a tuple or
    dict of arrays is several inputs or outputs. Floats become Keras's `floatx`, or what
    the step's `input_signature` says. Without `y`, `x` gives batches: a
    `tf.data.Dataset`, a `PyDataset`, a list, a generator. `validation_data` is (x, y),
    (x, y, sample_weight) or batches. `shuffle` visits the examples in the order of
    Keras after `keras.utils.set_random_seed(seed)`. With `steps_per_epoch`, the next
    epoch continues where the last one ended.

    `steps_per_execution` steps run in one call, as one graph; "epoch" runs a whole
    epoch. The results are the same; training is faster. Steps must be `tf.function`s.
    Callbacks and the check of the loss run once per call. `jit_compile` compiles the
    graph with XLA, which may round differently. `verbose` is 1 or "auto" for a progress
    bar, 2 for a line per epoch, 0 for nothing. `callbacks` may be Keras's; `model` is
    what they get as `self.model`: the Keras model that your steps train, or any object
    with the attributes that they use. All other arguments are those of Keras. Returns
    the means over the examples of each epoch.

    Raises TypeError or ValueError for an invalid argument, for arrays of different
    length, for NaN or infinity in them and for `x` that ends within an epoch, and
    FloatingPointError when the loss is no longer finite, unless a callback stops then.
    """
    checks.arguments(locals())
    remaining = range(initial_epoch, epochs)
    split = validation_split if validation_data is None else 0.0
    parts, order = (x, y, sample_weight), (shuffle, seed)
    size = batch_size, steps_per_epoch, len(remaining)
    training, tail = read_training(train_step, parts, split, class_weight, size, order)
    val_size = validation_batch_size or batch_size, validation_steps
    validation: Batches | None = in_order(tail, *val_size) if tail else None
    if validation_data is not None:
        times = sum(is_due(epoch, validation_freq) for epoch in remaining)
        validation = read_validation(
            test_step, validation_data, val_size, times, training
        )
    mode = steps_per_execution, jit_compile
    train = runner(train_step, "train_step", training, *mode)
    validate = runner(test_step, "test_step", validation, *mode) if validation else None
    called = CallbackList(callbacks, model)
    steps = training.steps, validation.steps if validation else None
    return train_epochs(
        remaining, train, validate, called, steps, validation_freq, verbose
    )


def evaluate(
    test_step: Step,
    x: Part | Iterable[Batch],
    y: Part | None = None,
    *,
    batch_size: int | None = None,
    verbose: int | str = 0,
    sample_weight: Part | None = None,
    steps: int | None = None,
    callbacks: Any = None,
    return_dict: bool = True,
    steps_per_execution: int | str = 1,
    jit_compile: bool = False,
    model: Any = None,
) -> dict[str, float]:
    """Return the step's metrics as means over all examples; update nothing.

    The arguments are those of `fit`; the examples are visited in their own order.
    `steps` takes the first batches only. `verbose` prints the metrics.
    Raises TypeError and ValueError as `fit` does.
    """
    checks.choices(
        batch_size=batch_size, steps=steps, verbose=verbose, return_dict=return_dict
    )
    parts = x, y, sample_weight
    examples = read_in_order(test_step, parts, batch_size, steps)
    run = runner(test_step, "test_step", examples, steps_per_execution, jit_compile)
    called = CallbackList(callbacks, model)
    called.begin({"verbose": verbose, "epochs": 1, "steps": examples.steps})
    metrics = measure_epoch(run(), called, examples.steps)
    if verbose:
        print(format_metrics(metrics))
    return metrics


def predict(
    predict_step: Callable[[Any], Any],
    x: Part | Iterable[Any],
    *,
    batch_size: int | None = None,
    verbose: int | str = 0,
    steps: int | None = None,
    callbacks: Any = None,
    model: Any = None,
) -> Any:
    """Return `predict_step`'s outputs for `x` (n, …), batch by batch, as one array.

    Several outputs, as a tuple, list or dict, become one array each. `x` may give
    batches, whose first part is taken; the other arguments are those of `evaluate`.
    There is no progress to show. Raises TypeError and ValueError as `fit` does.
    """
    checks.choices(batch_size=batch_size, steps=steps, verbose=verbose)
    checks.step(predict_step, "predict_step", 1)
    examples = read_in_order(predict_step, (x, None, None), batch_size, steps, True)
    called = CallbackList(callbacks, model)
    called.begin({"verbose": verbose, "epochs": 1, "steps": examples.steps})
    return predict_batches(predict_step, examples, called)


def runner(
    step: Step,
    name: str,
    batches: Batches,
    steps_per_execution: int | str,
    jit_compile: bool,
) -> Callable[[], RunningMeans]:
    """Return a function that runs the step on all batches, each time it is called.

    The step is checked at once; none runs yet.
    """
    checks.step(step, name, batches.parts)
    checks.execution(steps_per_execution, jit_compile, step, name)
    if stops_early(batches):
        checks.whole_executions(batches.steps, steps_per_execution, name)
    step = prepare(step, name, batches, steps_per_execution, jit_compile)
    if steps_per_execution == 1 and not jit_compile:
        return partial(run_steps, step, name, batches)
    from kvt.training import compiled  # late: it imports TensorFlow

    return compiled.runner(step, batches, steps_per_execution, jit_compile)


def run_steps(step: Step, name: str, batches: Batches) -> RunningMeans:
    """Call the step on batch after batch; yield its number and the means so far."""
    mean = getattr(step, "mean", Mean)()  # several replicas have several totals
    for number, batch in enumerate(batches):
        try:
            logs = step(*batch)
        except Exception as error:
            checks.explain(error, name, batch)
            raise
        checks.metrics(logs, name)
        mean.update(logs, examples_in(batch[0]))
        yield number, mean.result()
