"""Steps, prepared before the first update: traced as Keras traces its own.

TensorFlow takes a batch size that it knows for a constant and regroups products with
it, and it orders some sums by the names of operations. Both change last bits. So a
`tf.function` is traced as in Keras: inside another one, and for batches of any size,
unless all batches have the same. TensorFlow is imported only for a `tf.function`.
"""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from kvt.training import checks, means
from kvt.training.batches import Batch, BatchedRows
from kvt.training.means import Step

# Dtypes to try on a step that fails on its batches: for floats, and for the others.
CASTS = (("float32", None), ("float32", "float32"), ("float64", "float64"))


def prepare(
    step: Step, name: str, batches: Any, steps_per_execution: int | str, jit: bool
) -> Step:
    """Return a `tf.function` as an `OpenStep`, and any other callable as it is.

    The step is traced at once if the shapes of its batches are known, else (and without
    `batches`) at its first call. `name` is the argument's name. Raises as `OpenStep`.
    """
    if isinstance(step, OpenStep) or not hasattr(step, "get_concrete_function"):
        return step
    import tensorflow as tf

    if tf.config.functions_run_eagerly() and steps_per_execution == 1 and not jit:
        return step
    opened = OpenStep(step, name, steps_per_execution, jit)
    rows = getattr(batches, "source", batches)
    spec = getattr(rows, "element_spec", None)
    if isinstance(rows, BatchedRows):
        equal = len(rows.order) % rows.batch_size == 0
        opened.only = opened.trace(next(iter(rows)), known_size=equal)
    elif isinstance(spec, tuple) and batches.parts in (None, len(spec)):
        opened.only = opened.trace(spec)  # a Dataset may state a size
    return opened


@dataclass(frozen=True)
class Traced:
    """A step, traced for batches of certain dtypes and shapes."""

    call: Any
    specs: Batch = ()  # the specification of its batches
    cast: bool = False  # whether batches have other dtypes
    outputs: Any = None  # the metrics, as symbolic tensors
    draws: bool = True  # whether operations may draw random numbers from a state
    of_any_size: bool = False  # whether it also takes batches of other sizes

    def __call__(self, *batch: Any) -> Mapping[str, Any]:
        """Run the step on a batch."""
        if self.cast:
            import tensorflow as tf

            batch = tf.nest.map_structure(
                lambda part, spec: tf.cast(part, spec.dtype), batch, self.specs
            )
        logs: Mapping[str, Any] = self.call(*batch)
        return logs

    @property
    def size(self) -> int | None:
        """The size of all batches, if it is known."""
        import tensorflow as tf

        sizes = [spec.shape[:1].as_list() for spec in tf.nest.flatten(self.specs)]
        return next((size[0] for size in sizes if size), None)

    def metrics(self) -> tuple[dict[str, bool], np.dtype[Any]]:
        """Return by name whether a metric has a value per example; the totals' dtype.

        Raises as `means.per_example` and `means.total_dtype` do.
        """
        each = {}
        for name, value in self.outputs.items():
            if value.shape.rank is None:
                raise ValueError(
                    f"metric {name!r} has an unknown shape; a graph of many steps "
                    "needs it; name it with tf.ensure_shape"
                )
            each[name] = means.per_example(name, tuple(value.shape), self.size)
        dtypes = (
            (n, np.dtype(v.dtype.as_numpy_dtype)) for n, v in self.outputs.items()
        )
        return each, means.total_dtype(tuple(dtypes))


@dataclass
class OpenStep:
    """A `tf.function` that is traced for batches of any size, or of one size.

    It gets batches in the dtypes of its `input_signature`. Without one it gets them as
    they are; if it fails, with floats as float32, as Keras has them; if it fails again,
    with everything as float32, then float64.

    Raises the step's own error, with a note, if the step fails on all of them. A step
    that needs to know the size of batches that differ may miss Keras's last bit. It
    gets a warning, and a ValueError if many steps run in one call.
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

    def trace(self, batch: Batch, known_size: bool = False) -> Traced:
        """Trace the step for batches like this one, or of this specification.

        The step keeps it, so that random operations continue in the next training.
        """
        import tensorflow as tf

        errors = []
        traces: dict[Any, Traced]
        traces = vars(self.step).setdefault("kvt_traces", {})
        for known in (True,) if known_size else (False, True):
            for specs, cast in self.choices(batch, known):
                key = cast, *tf.nest.flatten(specs)
                try:
                    if key not in traces:
                        traces[key] = nested(self.step, specs, cast)
                except Exception as error:  # whatever a user's code raises
                    errors.append(error)
                    continue
                checks.metrics(traces[key].outputs, self.name)
                if known and not known_size:
                    self.complain(errors[0])
                    return replace(traces[key], call=self.step, of_any_size=True)
                return traces[key]
        checks.explain(errors[0], self.name, batch)
        raise errors[0]

    def choices(self, batch: Batch, known_size: bool) -> Iterator[tuple[Batch, bool]]:
        """Yield specifications to trace with, and whether a batch has other dtypes."""
        import tensorflow as tf

        parts = tf.nest.flatten(batch)
        given = [tf.as_dtype(part.dtype) for part in parts]
        signature = getattr(self.step, "input_signature", None) or ()
        signature = tf.nest.flatten(signature[: len(batch)])
        choices = [[spec.dtype for spec in signature]]
        if len(signature) != len(parts):
            choices = [given] + [
                [tf.as_dtype((floats if d.is_floating else others) or d) for d in given]
                for floats, others in CASTS
            ]
        for i, dtypes in enumerate(choices):
            if dtypes not in choices[:i]:
                specs = [
                    specification(part, dtype, known_size)
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


def nested(step: Any, specs: Batch, cast: bool) -> Traced:
    """Trace a step inside another `tf.function`, with names in the order of Keras's."""
    import tensorflow as tf

    def call(*batch: Any) -> Mapping[str, Any]:
        with tf.name_scope("step"):  # after "batch" in the alphabet
            logs: Mapping[str, Any] = step(*batch)
        return logs

    function = tf.function(call, autograph=False)
    traced = function.get_concrete_function(*specs)
    return Traced(traced, specs, cast, traced.structured_outputs, draws(traced))


def specification(part: Any, dtype: Any, known_size: bool) -> Any:
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
    return tf.TensorSpec([len(part) if known_size else None, *part.shape[1:]], dtype)


def draws(traced: Any) -> bool:
    """Return whether an operation of the graph draws random numbers from a state.

    Such an operation has a seed. The state belongs to its place in the graph: copies of
    the operation would all draw the same numbers.
    """
    graph = traced.graph.as_graph_def()
    bodies = [graph.node, *(f.node_def for f in graph.library.function)]
    return any("seed" in node.attr for body in bodies for node in body)
