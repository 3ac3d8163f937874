"""Steps, prepared before the first update: traced with an open batch size, as in Keras.

A `tf.function` without an `input_signature` is traced for each batch size that it
meets. TensorFlow takes a known size for a constant and regroups products with it, so
that some models lose Keras's last bit. Here such a step is traced once, for batches of
any size. TensorFlow is imported only for steps that are a `tf.function`.
"""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kvt.training import checks, means
from kvt.training.batches import Batch, BatchedRows, Batches
from kvt.training.means import Step

# Dtypes to try on a step that fails on its batches: for floats, and for the others.
CASTS = (("float32", None), ("float32", "float32"), ("float64", "float64"))


def prepare(
    step: Step, name: str, batches: Batches, steps_per_execution: int | str, jit: bool
) -> Step:
    """Return a `tf.function` as an `OpenStep`, and any other callable as it is.

    The step is traced at once if the shapes of its batches are known, else at its first
    call. `name` is the argument's name, for messages. Raises as `OpenStep` does.
    """
    if isinstance(step, OpenStep) or not hasattr(step, "get_concrete_function"):
        return step
    import tensorflow as tf

    if tf.config.functions_run_eagerly() and steps_per_execution == 1 and not jit:
        return step
    opened = OpenStep(step, name, steps_per_execution, jit)
    if isinstance(batches, BatchedRows):
        opened.only = opened.trace(next(iter(batches)))
    elif isinstance(spec := getattr(batches.source, "element_spec", None), tuple):
        opened.only = opened.trace(spec)  # it may state a size; Keras keeps it too
    return opened


@dataclass(frozen=True)
class Traced:
    """A step, traced for batches of certain dtypes and shapes."""

    call: Any
    specs: Batch = ()  # the specification of its batches
    cast: bool = False  # whether batches have other dtypes
    outputs: Any = None  # the metrics, as symbolic tensors
    defaults: tuple[Any, ...] = ()  # of further arguments
    draws: bool = True  # whether operations may draw random numbers from a state

    def __call__(self, *batch: Any) -> Mapping[str, Any]:
        """Run the step on a batch."""
        if self.cast:
            import tensorflow as tf

            batch = tf.nest.map_structure(
                lambda part, spec: tf.cast(part, spec.dtype), batch, self.specs
            )
        logs: Mapping[str, Any] = self.call(*batch, *self.defaults)
        return logs

    def metrics(self, examples: int | None) -> tuple[dict[str, bool], np.dtype[Any]]:
        """Return by name whether a metric has a value per example; the totals' dtype.

        `examples` is the size of the batch, None if it is open. Raises as
        `means.per_example` and `means.total_dtype` do.
        """
        each = {}
        for name, value in self.outputs.items():
            shape = value.shape
            sizes = ("unknown",) if shape.rank is None else tuple(shape)
            each[name] = means.per_example(name, sizes, examples)
        dtypes = {n: np.dtype(v.dtype.as_numpy_dtype) for n, v in self.outputs.items()}
        return each, means.total_dtype(dtypes)


@dataclass
class OpenStep:
    """A `tf.function` that is traced for batches of any size.

    It gets batches in the dtypes of its `input_signature`. Without one it gets them as
    they are; if it fails, with floats as float32, as Keras has them; if it fails again,
    with everything as float32, then float64.

    Raises the step's own error, with a note, if the step fails on all of them. A step
    that needs to know the batch size may miss Keras's last bit. It gets a warning, and
    a ValueError if many steps run in one call.
    """

    step: Any
    name: str
    steps_per_execution: int | str = 1
    jit: bool = False
    only: Traced | None = None  # if all batches are alike
    traces: dict[object, Traced] = field(default_factory=dict)

    def __call__(self, *batch: Any) -> Mapping[str, Any]:
        """Run the step on a batch, of arrays or of a graph's tensors."""
        return (self.only or self.traced(batch))(*batch)

    def traced(self, batch: Batch) -> Traced:
        """Return the step traced for batches like this one."""
        import tensorflow as tf

        parts = tf.nest.flatten(batch)
        if not all(isinstance(part, np.ndarray | tf.Tensor) for part in parts):
            return Traced(self.step)  # sparse, ragged or no arrays: as TensorFlow does
        key = tuple((tf.as_dtype(part.dtype), *part.shape[1:]) for part in parts)
        if key not in self.traces:
            self.traces[key] = self.trace(batch)
        return self.traces[key]

    def trace(self, batch: Batch) -> Traced:
        """Trace the step for batches like this one, or of this specification."""
        errors = []
        for open_size in (True, False):
            for specs, cast in self.choices(batch, open_size):
                try:
                    traced = self.step.get_concrete_function(*specs)
                except Exception as error:  # whatever a user's code raises
                    errors.append(error)
                    continue
                metrics = traced.structured_outputs
                checks.metrics(metrics, self.name)
                if not open_size:
                    self.complain(errors[0])
                    return Traced(self.step, specs, cast, metrics)
                defaults = traced.structured_input_signature[0][len(batch) :]
                return Traced(traced, specs, cast, metrics, defaults, draws(traced))
        errors[0].add_note(f"{self.name} was traced with {describe(batch)}")
        raise errors[0]

    def choices(self, batch: Batch, open_size: bool) -> Iterator[tuple[Batch, bool]]:
        """Yield specifications to trace with, and whether a batch has other dtypes."""
        import tensorflow as tf

        parts = tf.nest.flatten(batch)
        given = [tf.as_dtype(part.dtype) for part in parts]
        signature = tf.nest.flatten((self.step.input_signature or ())[: len(batch)])
        choices = [[spec.dtype for spec in signature]]
        if len(signature) != len(parts):
            choices = [given] + [
                [tf.as_dtype((floats if d.is_floating else others) or d) for d in given]
                for floats, others in CASTS
            ]
        for i, dtypes in enumerate(choices):
            if dtypes not in choices[:i]:
                specs = [
                    specification(part, dtype, open_size)
                    for part, dtype in zip(parts, dtypes, strict=True)
                ]
                cast = [spec.dtype for spec in specs] != given
                yield tf.nest.pack_sequence_as(batch, specs), cast

    def complain(self, error: Exception) -> None:
        """Say that the step needs to know the batch size. Raises ValueError."""
        rule = f"{self.name} needs to know the batch size"
        fix = "use tf.shape(x)[0], and None as the size in an input_signature"
        if self.jit:  # XLA knows it
            return
        if self.steps_per_execution == 1:
            warnings.warn(
                f"{rule}; its last bits may differ from Keras's; {fix}", stacklevel=6
            )
            return
        raise ValueError(
            f"{rule}; steps_per_execution={self.steps_per_execution!r} runs it on "
            f"batches of any size; {fix}"
        ) from error


def specification(part: Any, dtype: Any, open_size: bool) -> Any:
    """Return the specification of a part of a batch, cast to `dtype` if Keras would."""
    import tensorflow as tf

    given = tf.as_dtype(part.dtype)
    if not dtype.is_floating or not (
        given.is_floating or given.is_integer or given.is_bool
    ):
        dtype = given
    if isinstance(part, tf.TypeSpec):
        is_tensor = isinstance(part, tf.TensorSpec)
        return tf.TensorSpec(part.shape, dtype) if is_tensor else part
    return tf.TensorSpec([None if open_size else len(part), *part.shape[1:]], dtype)


def describe(batch: Batch) -> str:
    """Return the dtypes and shapes of a batch, such as `float64 (32, 4)`."""
    import tensorflow as tf

    parts = tf.nest.flatten(batch)
    return ", ".join(f"{tf.as_dtype(p.dtype).name} {tuple(p.shape)}" for p in parts)


def draws(traced: Any) -> bool:
    """Return whether an operation of the graph draws random numbers from a state.

    Such an operation has a seed. The state belongs to its place in the graph: copies of
    the operation would all draw the same numbers.
    """
    graph = traced.graph.as_graph_def()
    bodies = [graph.node, *(f.node_def for f in graph.library.function)]
    return any("seed" in node.attr for body in bodies for node in body)
