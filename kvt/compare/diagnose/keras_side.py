"""Keras's training of the user's model, step by step, in parts that can be changed.

A part is what one cause changes. With no part changed, weights and metrics have the
bits of `keras.Model.fit`; the user's model is left as it was.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kvt.compare.diagnose.order import split
from kvt.compare.diagnose.record import Epoch, Record, Rows, Setup, Weights
from kvt.compare.parts import cut, example_order
from kvt.data import Array
from kvt.data.quietly import quiet, without_warnings

with quiet():
    import keras
    import tensorflow as tf
    from keras.src.trainers.compile_utils import CompileLoss, CompileMetrics

Tensor = Any
Part = Callable[..., Any]


def as_is(value: Any) -> Any:
    """Change nothing."""
    return value


def keras_order(setup: Setup, n: int, epoch: int) -> list[Rows]:
    """Visit every row once, in the same order in every epoch."""
    return cut(example_order(n, setup.seed), setup.batch_size)


def compiled_loss(side: "KerasSide", y: Tensor, y_pred: Tensor, weight: Tensor) -> Any:
    """Compute the loss that the model was compiled with: a mean over the batch."""
    return side.loss(y, y_pred, weight)


def call(model: Any, x: Tensor, training: bool) -> Tensor:
    """Call the model as `fit` and `evaluate` do."""
    return model(x, training=training)


@dataclass(frozen=True)
class KerasParts:
    """What a cause can change on Keras's side; each default is what Keras does."""

    start: Part = as_is  # (weights) -> weights
    inputs: Part = as_is  # (x) -> x
    targets: Part = as_is  # (y) -> y
    split: Part = split  # (setup) -> training and held-back rows
    batches: Part = keras_order  # (setup, n, epoch) -> rows of each batch
    forward: Part = call  # (model, x, training) -> outputs
    training: bool = True  # the argument of the train step
    testing: bool = False  # that of the test step
    loss: Part = compiled_loss  # (side, y, outputs, weights) -> loss
    penalties: Part = as_is  # (list of the layers' own losses) -> list
    optimizer: Part = as_is  # (a copy of the user's optimizer) -> optimizer
    gradients: Part = as_is  # (gradients) -> gradients
    patched: Part = contextlib.nullcontext  # () -> context in which steps are traced
    model: Part = as_is  # (model) -> model
    accuracy: Part | None = None  # (y, outputs) -> hits; None: the compiled metrics
    metrics: Part | None = None  # (epoch, evaluate) -> logs; None: Keras's means
    weighted: bool = True  # whether the user's class_weight is used
    validation: str = ""  # "trains": it updates the weights, unseen, or as "steps"
    xla: bool | None = None  # None: as compiled
    declared: int | None = None  # rows of a batch, where Keras declares their number
    dtype: str | None = None  # of the whole training; None: as compiled


@dataclass
class KerasSide:
    """The user's compiled model, with what it started from."""

    compiled: Any
    setup: Setup
    trainings: int = 0  # how many were begun
    _state: list[Array] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._state = [v.numpy() for v in self.compiled.variables]
        self.weights = self.compiled.get_weights()

    def train(self, parts: KerasParts, other: Record | None = None) -> Record:
        """Train from the start, with these parts; return what happened.

        With the `other` side's record, stop after the first step that differs from it.
        """
        self.trainings += 1
        keras.utils.set_random_seed(self.setup.seed)
        floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
        self._restore()
        try:
            if parts.dtype:  # of inputs, losses and metrics
                keras.config.set_floatx(parts.dtype)
                keras.config.set_dtype_policy(parts.dtype)
            with without_warnings():
                return _KerasTraining(self, parts).record(other)
        finally:
            keras.config.set_floatx(floatx)
            keras.config.set_dtype_policy(policy)
            self._restore()

    def loss(self, y: Tensor, y_pred: Tensor, weight: Tensor) -> Tensor:
        """Compute the compiled loss, from a copy of what `compile` was given."""
        model = self.compiled
        names = getattr(model, "output_names", None)
        given = model._compile_config.config
        loss = _copy(model.loss)
        weights = given.get("loss_weights")
        return CompileLoss(loss, weights, output_names=names)(y, y_pred, weight)

    def metrics(self) -> Any:
        """Return a copy of the compiled metrics, not built; None if there are none."""
        given = self.compiled._compile_config.config
        metrics, weighted = (
            _copy(given.get(k)) for k in ("metrics", "weighted_metrics")
        )
        if not metrics and not weighted:
            return None
        names = getattr(self.compiled, "output_names", None)
        return CompileMetrics(metrics, weighted, output_names=names)

    def optimizer(self) -> Any:
        """Return a copy of the user's optimizer, in the state in which it was given."""
        own = self.compiled.optimizer
        copied = _copy(own)
        if own.built:
            copied.build(self.compiled.trainable_variables)
            for new, old in zip(copied.variables, own.variables, strict=True):
                new.assign(old)
        return copied

    def _restore(self) -> None:
        for variable, value in zip(self.compiled.variables, self._state, strict=True):
            variable.assign(value)


def _copy(given: Any) -> Any:
    """Copy a loss, metric, optimizer, or a list or dict of them; keep functions."""
    if isinstance(given, list | tuple):
        return [_copy(each) for each in given]
    if isinstance(given, dict):
        return {name: _copy(each) for name, each in given.items()}
    if hasattr(given, "get_config") and not isinstance(given, type):
        return type(given).from_config(given.get_config())
    return given


class _KerasTraining:
    """One training: the model with changed parts, and its compiled steps."""

    def __init__(self, side: KerasSide, parts: KerasParts) -> None:
        self.side, self.parts, self.setup = side, parts, side.setup
        self.model = parts.model(side.compiled)
        for variable, value in zip(
            self.model.weights, parts.start(side.weights), strict=True
        ):
            variable.assign(value)
        self.optimizer = parts.optimizer(side.optimizer())
        self.optimizer.build(self.model.trainable_variables)
        self.metrics = side.metrics()
        dtype = keras.config.floatx()
        self.x = _cast(parts.inputs(self.setup.x), dtype)
        self.y = parts.targets(_cast(self.setup.y, dtype))
        self.weight = self._weights_of_classes()
        signature = [
            tf.TensorSpec((parts.declared, *a.shape[1:]), a.dtype)
            for a in (self.x, self.y, *([] if self.weight is None else [self.weight]))
        ]
        jit = side.compiled.jit_compile if parts.xla is None else parts.xla
        options = {
            "input_signature": signature,
            "jit_compile": bool(jit),
            "autograph": False,
        }
        self.train_step = tf.function(self._train, **options)
        options["input_signature"] = [
            tf.TensorSpec((None, *spec.shape[1:]), spec.dtype) for spec in signature
        ]
        self.test_step = tf.function(self._measure, **options)

    def _weights_of_classes(self) -> Array | None:
        given = self.setup.class_weight if self.parts.weighted else None
        if given is None:
            return None
        labels = self.setup.y
        if labels.ndim > 1 and labels.shape[-1] > 1:
            labels = labels.argmax(axis=-1)
        weights = [given.get(int(label), 1.0) for label in labels.ravel()]
        return np.array(weights, keras.config.floatx())

    def _loss(self, y: Tensor, y_pred: Tensor, weight: Tensor) -> Tensor:
        loss = self.parts.loss(self.side, y, y_pred, weight)
        penalties = self.parts.penalties(list(self.model.losses))
        if not penalties:
            return loss
        own = [keras.ops.sum(keras.ops.cast(each, loss.dtype)) for each in penalties]
        return keras.ops.sum([loss, *own])

    def _train(self, x: Tensor, y: Tensor, weight: Tensor = None) -> dict[str, Tensor]:
        variables = self.model.trainable_variables
        with self.parts.patched(), tf.GradientTape() as tape:
            y_pred = self.parts.forward(self.model, x, self.parts.training)
            loss = self._loss(y, y_pred, weight)
            scaled = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, [v.value for v in variables])
        gradients = self.parts.gradients(gradients)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return self._logs(loss, y, y_pred, weight)

    def _measure(self, x: Tensor, y: Tensor, weight: Tensor = None) -> dict[str, Any]:
        y_pred = self.parts.forward(self.model, x, self.parts.testing)
        return self._logs(self._loss(y, y_pred, weight), y, y_pred, weight)

    def _logs(
        self, loss: Tensor, y: Tensor, y_pred: Tensor, weight: Tensor
    ) -> dict[str, Tensor]:
        """Update the metrics; return the batch's own loss, and its hits if asked."""
        if self.metrics is not None and self.parts.accuracy is None:
            self.metrics.update_state(y, y_pred, weight)
        logs = {"loss": loss}
        if self.parts.accuracy is not None:
            logs["accuracy"] = self.parts.accuracy(y, y_pred)
        return logs

    def record(self, other: Record | None) -> Record:
        setup, parts = self.setup, self.parts
        record = Record(self._values())
        rows, held_back = parts.split(setup)
        for number in range(setup.epochs):
            epoch, mean = Epoch(), keras.metrics.Mean("loss")
            self._reset()
            for batch in parts.batches(setup, len(rows), number):
                epoch.add(self._noted(record, rows[batch], mean), len(batch))
                if other and not record.agrees(other):
                    return record
            record.history.append(self._epoch_logs(epoch, mean, rows, held_back))
            for batch in cut(held_back, setup.batch_size) if parts.validation else ():
                if parts.validation == "trains":
                    self._step(self.train_step, batch, keras.metrics.Mean())
                else:
                    self._noted(record, batch, keras.metrics.Mean())
        return record

    def _noted(self, record: Record, rows: Rows, mean: Any) -> dict[str, Array]:
        """Train on a batch, and note what the step received and left."""
        record.begin(self.x[rows], self.y[rows], self._values())
        logs = self._step(self.train_step, rows, mean)
        record.end(logs["loss"], self._values())
        return logs

    def _epoch_logs(
        self, epoch: Epoch, mean: Any, rows: Rows, held_back: Rows
    ) -> dict[str, float]:
        logs = self._means(mean, epoch)
        if self.parts.metrics:
            logs = self.parts.metrics(epoch, logs, lambda: self._evaluate(rows))
        if len(held_back) and not self.parts.validation:
            found = self._evaluate(held_back)
            logs = logs | {f"val_{name}": value for name, value in found.items()}
        return logs

    def _step(self, step: Any, rows: Rows, mean: Any) -> dict[str, Array]:
        arrays = (self.x, self.y, *([] if self.weight is None else [self.weight]))
        logs = {k: v.numpy() for k, v in step(*(a[rows] for a in arrays)).items()}
        mean.update_state(logs["loss"], sample_weight=len(rows))
        return logs

    def _evaluate(self, rows: Rows) -> dict[str, float]:
        epoch, mean = Epoch(), keras.metrics.Mean("loss")
        self._reset()
        for batch in cut(rows, self.setup.batch_size):
            epoch.add(self._step(self.test_step, batch, mean), len(batch))
        return self._means(mean, epoch)

    def _means(self, mean: Any, epoch: Epoch) -> dict[str, float]:
        logs = {"loss": float(mean.result())}
        if self.parts.accuracy is not None:
            hits = np.concatenate([np.ravel(each["accuracy"]) for each in epoch.steps])
            logs["accuracy"] = float(hits.mean(dtype="float32"))
        elif self.metrics is not None and self.metrics.built:
            logs |= {k: float(v) for k, v in self.metrics.result().items()}
        return logs

    def _reset(self) -> None:
        if self.metrics is not None and self.metrics.built:
            self.metrics.reset_state()

    def _values(self) -> Weights:
        return [variable.numpy() for variable in self.model.weights]


def _cast(array: Array, dtype: str) -> Array:
    """Cast as Keras's data adapters do: floating-point numbers only."""
    return array.astype(dtype) if array.dtype.kind == "f" else array


@contextlib.contextmanager
def bias_by_plus() -> Iterator[None]:
    """Let Keras's layers add their bias with `+`, not with `tf.nn.bias_add`."""
    from keras.src.backend import tensorflow as backend

    numpy, before = backend.numpy, backend.numpy.add

    def plus(x1: Tensor, x2: Tensor) -> Tensor:
        return tf.add(x1, x2)

    numpy.add = plus
    try:
        yield
    finally:
        numpy.add = before
