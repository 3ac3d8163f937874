"""Keras's own `fit` on the user's model, with the parts of it that a cause can change.

The model is called inside another one, which has copies of its optimizer, loss and
metrics. With no part changed, that is the user's `fit`; the model is left as it was.
"""

import contextlib
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from kvt.compare.diagnose.record import Record, Setup
from kvt.compare.pairs import in_dtype
from kvt.compare.parts import Rows, Weights, cut, keras_order
from kvt.data import Array
from kvt.data.quietly import quiet, without_warnings

with quiet():
    import keras
    import tensorflow as tf

Tensor = Any
Part = Callable[..., Any]
Batches = list[tuple[Array, Array]]
Chain = tuple[Part, ...]  # functions that are called one after the other


@dataclass(frozen=True)
class KerasParts:
    """What a cause can change on Keras's side; each default is what Keras does."""

    start: Chain = ()  # (weights) -> weights
    inputs: Chain = ()  # (x) -> x
    split: Part = Setup.split  # (setup) -> training and held-back rows
    batches: Part = keras_order  # (n, batch_size, seed, epoch) -> rows by batch
    around: Chain = ()  # (model) -> a context in which the model is called
    training: bool = True  # the argument of the train step
    testing: bool = False  # that of the test step
    loss: Chain = ()  # (what compile was given as loss) -> loss
    penalty: float = 1  # factor of the layers' own losses
    optimizer: Chain = ()  # (a copy of the user's optimizer, model) -> optimizer
    compile: Mapping[str, Any] = field(default_factory=dict)  # its other arguments
    report: Chain = ()  # (logs, losses of the batches, evaluate) -> logs of an epoch
    weighted: bool = True  # whether the user's class_weight is used
    validation: str = ""  # "trains": it updates the weights, unseen, or as "steps"
    declared: bool = True  # whether the size of full batches is known to the steps
    dtype: str | None = None  # of model and training; None: as compiled
    told: tuple[str, ...] = ()  # what a change is, in words

    def changed(self, **change: Any) -> "KerasParts":
        """Change parts; functions and arguments come after those that are there."""
        for name, value in change.items():
            given = getattr(self, name)
            if isinstance(given, tuple):
                change[name] = (*given, value)
            elif isinstance(given, dict):
                change[name] = given | value
        return replace(self, **change)


def _in_turn(chain: Chain, value: Any, *others: Any) -> Any:
    return functools.reduce(lambda result, part: part(result, *others), chain, value)


class _Model(keras.Model):  # type: ignore[misc]
    """The user's model, called with changed parts."""

    def __init__(self, inner: Any, parts: KerasParts, detailed: bool) -> None:
        super().__init__(name="model")
        self.inner, self.parts, self.detailed = inner, parts, detailed
        self.output_names = getattr(inner, "output_names", None)
        self.built = True
        self.noted: Any = None  # what the step being traced computes

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        with contextlib.ExitStack() as contexts:
            for context in self.parts.around:
                contexts.enter_context(context(self.inner))
            acts = self.parts.training if training else self.parts.testing
            takes_it = self.inner._call_has_training_arg
            return self.inner(x, training=acts) if takes_it else self.inner(x)

    @property
    def losses(self) -> Any:
        factor = self.parts.penalty
        return [factor * each for each in super().losses] if factor else []

    def compute_loss(self, x: Any, y: Any, y_pred: Any, *others: Any) -> Any:
        loss = super().compute_loss(x, y, y_pred, *others)
        self.noted = {"batch_loss": loss}
        if self.detailed:
            self.noted["outputs"] = y_pred
        return loss

    def train_step(self, data: Any) -> Any:
        return super().train_step(data) | dict(self.noted)

    def test_step(self, data: Any) -> Any:
        if self.parts.validation:
            return self.train_step(data)
        return super().test_step(data)


class _PartedError(Exception):
    """Ends a training after the first step that differs from the other side's."""


def _notes(
    record: Record, other: Record | None, values: Part, phase: str, given: Batches
) -> Any:
    """Note what each step of a phase, "train" or "test", receives and leaves."""

    def begin(batch: int, logs: Any) -> None:
        record.begin(*given[batch], values())

    def end(batch: int, logs: Any) -> None:
        record.end(logs | {"loss": logs["batch_loss"]}, values())
        if other is not None and not record.agrees(other):
            raise _PartedError

    hooks = {f"on_{phase}_batch_begin": begin, f"on_{phase}_batch_end": end}
    return keras.callbacks.LambdaCallback(**hooks)


@dataclass
class KerasSide:
    """The user's compiled model, with what it started from."""

    compiled: Any
    setup: Setup
    listed: list[int] = field(default_factory=list)  # the weights that the port has
    trainings: int = 0  # how many were begun

    def __post_init__(self) -> None:
        self._state = [v.numpy() for v in self.compiled.variables]
        self.weights = self.compiled.get_weights()

    @property
    def loss(self) -> Any:
        """What was compiled as the loss of the model's one output."""
        return tf.nest.flatten(self.compiled.loss)[0]

    def train(
        self, parts: KerasParts, other: Record | None = None, detailed: bool = False
    ) -> Record:
        """Train from the start, with these parts; return what happened.

        With the `other` side's record, stop after the first step that differs from it.
        A detailed record has the first step's outputs and gradients.
        """
        self.trainings += 1
        self._restore()
        with_dtype = in_dtype(parts.dtype) if parts.dtype else contextlib.nullcontext()
        try:
            with with_dtype, without_warnings():
                return self._fit(parts, other, detailed)
        finally:
            self._restore()

    def _restore(self) -> None:
        for variable, value in zip(self.compiled.variables, self._state, strict=True):
            variable.assign(value)

    def _fit(self, parts: KerasParts, other: Record | None, detailed: bool) -> Record:
        setup, inner = self.setup, self.compiled
        if parts.dtype:
            same = inner.to_json().replace('"float32"', f'"{parts.dtype}"')
            inner = keras.models.model_from_json(same)
        start = _in_turn(parts.start, self.weights)
        for variable, value in zip(inner.weights, start, strict=True):
            variable.assign(value)
        model = self._compiled(inner, parts, detailed)
        dtype = keras.config.floatx()
        data = _cast(_in_turn(parts.inputs, setup.x), dtype), _cast(setup.y, dtype)
        rows, held_back = parts.split(setup)

        def batches(order: list[Rows]) -> Batches:
            return [(data[0][at], data[1][at]) for at in order]

        def values() -> Weights:
            return [inner.weights[at].numpy() for at in self.listed]

        def measure() -> dict[str, float]:
            examples = _dataset(batches(cut(rows, setup.batch_size)))
            return _means(model.evaluate(examples, verbose=0, return_dict=True))

        record, also = Record(values(), data[0]), []
        noting = functools.partial(_notes, record, other, values)
        options: dict[str, Any] = {"verbose": 0, "shuffle": False}
        if len(held_back):
            validation = batches(cut(held_back, setup.batch_size))
            options["validation_data"] = _dataset(validation)
            if parts.validation == "steps":
                also = [noting("test", validation)]
        if parts.weighted:
            options["class_weight"] = setup.class_weight
        keras.utils.set_random_seed(setup.seed)
        for epoch in range(setup.epochs):
            order = parts.batches(len(rows), setup.batch_size, setup.seed, epoch)
            training = batches([rows[at] for at in order])
            options["callbacks"] = [noting("train", training), *also]
            done = len(record.losses)
            try:
                fitted = model.fit(_dataset(training, parts.declared), **options)
            except _PartedError:
                return record
            logs = _means({name: own[0] for name, own in fitted.history.items()})
            losses = [float(loss) for loss in record.losses[done:][: len(order)]]
            record.history.append(_in_turn(parts.report, logs, losses, measure))
        return record

    def _compiled(self, inner: Any, parts: KerasParts, detailed: bool) -> Any:
        """Compile a model around the user's, as the user's was compiled."""
        own, config = self.compiled, self.compiled._compile_config.config
        optimizer = _copy(own.optimizer)
        if own.optimizer.built:
            optimizer.build(inner.trainable_variables)
            pairs = zip(optimizer.variables, own.optimizer.variables, strict=True)
            for new, old in pairs:
                new.assign(old)
        kept = {n: config[n] for n in ("loss_weights", "metrics", "weighted_metrics")}
        options = keras.tree.map_structure(_copy, kept)
        options |= {"jit_compile": own.jit_compile, "auto_scale_loss": False}
        model = _Model(inner, parts, detailed)
        model.compile(
            optimizer=_in_turn(parts.optimizer, optimizer, inner),
            loss=_in_turn(parts.loss, _copy(self.loss)),
            **options | parts.compile,
        )
        if detailed:
            apply = model.optimizer.apply

            def noting(gradients: Any, variables: Any = None) -> None:
                model.noted["gradients"] = tuple(gradients)
                apply(gradients, variables)

            model.optimizer.apply = noting
        return model


def _copy(given: Any) -> Any:
    """Copy a loss, metric or optimizer; keep functions, names and numbers."""
    if hasattr(given, "get_config") and not isinstance(given, type):
        return type(given).from_config(given.get_config())
    return given


def _means(logs: dict[str, Any]) -> dict[str, float]:
    """Return the metrics among what the steps returned."""
    others = ("batch_loss", "outputs", "gradients")
    return {
        name: float(number)
        for name, number in logs.items()
        if not name.endswith(others) and np.ndim(number) == 0
    }


def _cast(array: Array, dtype: str) -> Array:
    """Cast as Keras's data adapters do: floating-point numbers only."""
    return array.astype(dtype) if array.dtype.kind == "f" else array


def _dataset(batches: Batches, declared: bool = False) -> Any:
    """Give batches to `fit` as it gives them to its steps.

    Keras declares the size of its batches to TensorFlow if all of them are full.
    """
    sizes = [len(x) for x, _ in batches]
    size = sizes[0] if declared and len({*sizes}) == 1 else None
    parts = [tf.constant(np.concatenate(part)) for part in zip(*batches, strict=True)]
    ends = np.cumsum(sizes)

    def batch(start: Tensor, end: Tensor) -> tuple[Tensor, ...]:
        return tuple(tf.ensure_shape(a[start:end], (size, *a.shape[1:])) for a in parts)

    return tf.data.Dataset.from_tensor_slices((ends - sizes, ends)).map(batch)
