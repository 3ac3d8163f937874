"""Modes of execution: how fast a dialect trains in each one, and which one to use.

The modes are eager (Python calls every operation), graph (one call per step), epoch
(one call per epoch) and XLA (compiled for the processor).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any, Literal

from kvt.data import Array
from kvt.training import loop
from kvt.training.callbacks import Recorder, SetWeights, Weights

Fit = Callable[..., object]
# "examples" per epoch, and "epoch_seconds": the first include tracing and compiling.
Timed = dict[str, Any]
Speed = Mapping[str, Mapping[str, Mapping[str, Any]]]  # by dialect and mode

MODES = ("eager", "graph", "epoch", "XLA")  # from the simplest to write on
EPOCHS = 4
GAIN = 1.2  # a mode must be this many times as fast as a simpler one to be worth it


@dataclass(frozen=True)
class Stopwatch:
    """Times one training in a dialect's modes.

    Every mode trains four epochs, each from the initial weights, and validates nothing.
    An epoch is the first whole batches, as many as the limit says or as there are.
    """

    x: Array  # the examples to train on, (n, …)
    y: Array  # their targets, (n, …)
    _: KW_ONLY
    batch_size: int
    initial_weights: Weights  # in the model's order
    batches: int = 100  # the limit for graph and epoch
    slow_batches: int = 100  # the limit for eager and XLA
    xla_steps: int | Literal["epoch"] = "epoch"  # steps per call under XLA

    def keras(self, model: Any) -> dict[str, Timed]:
        """Time a copy of a compiled Keras model in every mode."""
        import keras

        twin = keras.models.clone_model(model)
        compiled = model.get_compile_config() | {"jit_compile": False}

        def timed(limit: int, per_call: int | str = 1, **mode: Any) -> Timed:
            steps = self._steps(limit)
            mode["steps_per_execution"] = steps if per_call == "epoch" else per_call
            twin.compile_from_config(compiled | mode)
            return self.time(twin.fit, twin.set_weights, steps)

        return {
            "eager": timed(self.slow_batches, run_eagerly=True),
            "graph": timed(self.batches),
            "epoch": timed(self.batches, "epoch"),
            "XLA": timed(self.slow_batches, self.xla_steps, jit_compile=True),
        }

    def tf2(
        self, train_step: Any, test_step: Any, variables: Sequence[Any]
    ) -> dict[str, Timed]:
        """Time a `tf.function` step, which has an input signature, in every mode."""
        import tensorflow as tf

        eager, signature = train_step.python_function, train_step.input_signature
        graph = tf.function(eager, input_signature=signature)  # not traced yet

        def set_weights(values: Weights) -> None:
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)

        def timed(step: Any, limit: int, **mode: Any) -> Timed:
            fit = partial(loop.fit, step, test_step, **mode)
            return self.time(fit, set_weights, self._steps(limit))

        xla: Any = {"steps_per_execution": self.xla_steps, "jit_compile": True}
        return {
            "eager": timed(eager, self.slow_batches),
            "graph": timed(graph, self.batches),
            "epoch": timed(graph, self.batches, steps_per_execution="epoch"),
            "XLA": timed(graph, self.slow_batches, **xla),
        }

    def tf1(
        self, train_step: Any, test_step: Any, set_weights: SetWeights
    ) -> dict[str, Timed]:
        """Time a step that runs in a session, which has the mode graph only."""
        fit = partial(loop.fit, train_step, test_step)
        return {"graph": self.time(fit, set_weights, self._steps(self.batches))}

    def time(self, fit: Fit, set_weights: SetWeights, steps: int) -> Timed:
        """Train by `fit`, Keras's or that of `kvt` with its steps; return its speed."""

        def restart() -> Weights:  # several epochs could diverge where one does not
            set_weights([*self.initial_weights])
            return []

        x, y = (rows[: steps * self.batch_size] for rows in (self.x, self.y))
        clock = Recorder(restart)
        restart()
        options = {"batch_size": self.batch_size, "epochs": EPOCHS, "verbose": 0}
        fit(x, y, callbacks=[clock], **options)
        return {"examples": len(x), "epoch_seconds": clock.epoch_seconds}

    def _steps(self, limit: int) -> int:
        """Count an epoch's batches; fewer examples than a batch are one step."""
        return min(limit, max(1, len(self.x) // self.batch_size))


def quickest(timed: Mapping[str, Any]) -> float:
    """Return the seconds of a mode's fastest epoch after the first.

    The fastest, because background load can only slow an epoch down.
    """
    return float(min(timed["epoch_seconds"][1:]))


def microseconds(speed: Speed) -> dict[str, dict[str, float]]:
    """Return microseconds per example by dialect and mode, the first epoch left out."""
    return {
        name: {mode: 1e6 * quickest(one) / one["examples"] for mode, one in of.items()}
        for name, of in speed.items()
    }


def advised(times: Mapping[str, float]) -> str:
    """Return the mode to use: graph, unless epoch or then XLA is `GAIN` times as fast.

    `times` is by mode. Eager mode is for debugging, and never advised.
    """
    chosen = "graph"
    for mode in ("epoch", "XLA"):
        if mode in times and times[chosen] / times[mode] >= GAIN:
            chosen = mode
    return chosen


def saved(run: Mapping[str, Any], name: str, mode: str) -> tuple[float, float]:
    """Return the seconds per epoch that a mode saves over graph, and its start costs.

    `run` is a notebook's results, `name` a dialect. An epoch is one of the run's own.
    """
    speed, times = run["speed"][name], microseconds(run["speed"])[name]
    first, graph = (
        speed[each]["epoch_seconds"][0] - quickest(speed[each])
        for each in (mode, "graph")
    )
    per_epoch = (times["graph"] - times[mode]) * run["data"]["train"] / 1e6
    return per_epoch, max(0.0, first - graph)
