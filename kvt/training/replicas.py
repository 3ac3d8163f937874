"""Data parallelism: one step for `kvt.fit`, made of a step that every replica runs.

A replica is a copy of the model on one device, of this process or of another one. Each
replica gets its part of every batch. What it does with the others, such as adding up
the gradients, is in its own step.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from kvt.data import Array
from kvt.training.means import Mean, Step, per_example


class MeanOfReplicas(Mean):
    """Means over the examples of all replicas, with the bits of Keras's `Mean`.

    Like Keras under a strategy, it adds up each replica's batches first, and then the
    replicas.
    """

    def update(self, logs: Mapping[str, Array], examples: int) -> None:
        """Add a batch: by metric, the total of each replica's examples, (replicas,)."""
        for name, totals in logs.items():
            self.totals[name] = self.totals.get(name, totals.dtype.type(0)) + totals
        self.examples += examples

    def result(self) -> dict[str, float]:
        """Return the means over all examples so far as Python floats."""
        return {
            name: float(np.add.accumulate(t)[-1] / t.dtype.type(self.examples))
            for name, t in self.totals.items()
        }


class ReplicatedStep:
    """A step that runs `step` on every replica of `strategy`, each on its part.

    Of b examples, each of n replicas gets ceil(b / n), in order, and the last ones get
    fewer, or none, as in Keras. `step` runs in a replica's context and returns the
    metrics of its part: scalars, which are means, or values per example. Every process
    of a strategy must call this step with the same whole batch. `fit` runs it with
    `steps_per_execution=1` only.
    """

    mean = MeanOfReplicas

    def __init__(self, strategy: tf.distribute.Strategy, step: Step) -> None:
        self._strategy, self._step = strategy, step
        self._run: Callable[..., Mapping[str, tf.Tensor]] | None = None

    def __call__(self, *batch: Any) -> dict[str, Array]:
        """Run all replicas of this process; return each metric's total by replica.

        The totals are those of all processes, (replicas,).
        """
        if self._run is None:
            specs = tf.nest.map_structure(
                lambda part: tf.TensorSpec((None, *part.shape[1:]), part.dtype), batch
            )
            self._run = tf.function(self._on_all_replicas, input_signature=specs)
        return {name: totals.numpy() for name, totals in self._run(*batch).items()}

    def _on_all_replicas(self, *batch: Any) -> Mapping[str, tf.Tensor]:
        by_replica = self._strategy.run(self._on_a_replica, batch)
        first = self._strategy.experimental_local_results(by_replica)[0]
        return dict(first)  # all replicas have gathered the same totals

    def _on_a_replica(self, *batch: Any) -> dict[str, tf.Tensor]:
        replica = tf.distribute.get_replica_context()
        number, n = replica.replica_id_in_sync_group, replica.num_replicas_in_sync
        size = -(-tf.shape(tf.nest.flatten(batch)[0])[0] // n)
        part = tf.nest.map_structure(
            lambda rows: rows[number * size : (number + 1) * size], batch
        )
        logs = self._step(*part)
        totals = totals_of(logs, tf.shape(tf.nest.flatten(part)[0])[0])
        # One row for each replica; the others add zeros to it.
        rows = tf.one_hot(number, n, dtype=totals.dtype)[:, None] * totals
        gathered = replica.all_reduce("SUM", rows)  # (replicas, metrics)
        return {name: gathered[:, place] for place, name in enumerate(logs)}


def totals_of(logs: Mapping[str, Any], examples: tf.Tensor) -> tf.Tensor:
    """Return the metrics' totals over a replica's examples, (metrics,), in a graph.

    A value per example may have further axes, which are averaged first. Raises
    ValueError for a metric of another shape, as `means.per_example` does.
    """
    values = {name: tf.convert_to_tensor(value) for name, value in logs.items()}
    dtype = values["loss"].dtype if "loss" in values else tf.float32
    totals = []
    for name, value in values.items():
        value = tf.cast(value, dtype)
        if per_example(name, tuple(value.shape), None):
            others = [*range(1, value.shape.rank)]
            totals.append(tf.reduce_sum(tf.reduce_mean(value, others)))
        else:  # the mean of no examples is NaN, their total is 0
            mean = tf.reshape(value, ())
            totals.append(tf.math.multiply_no_nan(mean, tf.cast(examples, dtype)))
    return tf.stack(totals)
