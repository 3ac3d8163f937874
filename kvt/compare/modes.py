"""Modes of execution: how fast a dialect trains in each one, and which one to use.

The modes are eager (Python calls every operation), graph (one call per step), epoch
(one call per epoch) and XLA (compiled for the processor). The speed of a mode is what
the results hold of it: `examples` per epoch, and `epoch_seconds`, of which the first
include tracing and compiling.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from numpy.typing import NDArray

from kvt.training import loop
from kvt.training.callbacks import Recorder, Weights

Fit = Callable[..., object]
SetWeights = Callable[[Weights], object]
Speed = Mapping[str, Mapping[str, Mapping[str, Any]]]  # by dialect and mode

MODES = ("eager", "graph", "epoch", "XLA")  # from the simplest to write on
EPOCHS = 4
GAIN = 1.2  # a mode must be this many times as fast as a simpler one to be worth it


class Stopwatch:
    """Times one training in a dialect's modes.

    Every mode trains four epochs, each from the initial weights, and validates nothing.
    An epoch is the first whole batches, as many as the limit says or as there are.

    Args:
        x: the examples to train on, (n, …).
        y: their targets, (n, …).
        batch_size: examples per step.
        initial_weights: in the model's order.
        batches: the limit for graph and epoch.
        slow_batches: the limit for eager and XLA.
        xla_steps: steps per call under XLA.
    """

    def __init__(
        self,
        x: NDArray[Any],
        y: NDArray[Any],
        *,
        batch_size: int,
        initial_weights: Weights,
        batches: int = 100,
        slow_batches: int = 100,
        xla_steps: int | Literal["epoch"] = "epoch",
    ) -> None:
        self._x, self._y, self._batch_size = x, y, batch_size
        self._initial = [*initial_weights]
        whole = max(1, len(x) // batch_size)  # fewer examples than a batch are one step
        self._steps, self._slow_steps = min(batches, whole), min(slow_batches, whole)
        self._xla_steps = xla_steps

    def keras(self, model: Any) -> dict[str, dict[str, Any]]:
        """Time a copy of a compiled Keras model in every mode."""
        import keras

        twin = keras.models.clone_model(model)
        compiled = model.get_compile_config() | {"jit_compile": False}

        def timed(steps: int, per_call: int, **mode: Any) -> dict[str, Any]:
            mode |= {"steps_per_execution": per_call}
            twin.compile_from_config(compiled | mode)
            return self.time(twin.fit, twin.set_weights, steps)

        steps, slow = self._steps, self._slow_steps
        xla = slow if self._xla_steps == "epoch" else self._xla_steps
        return {
            "eager": timed(slow, 1, run_eagerly=True),
            "graph": timed(steps, 1),
            "epoch": timed(steps, steps),
            "XLA": timed(slow, xla, jit_compile=True),
        }

    def tf2(
        self,
        train_step: Any,
        test_step: Any,
        variables: Sequence[Any],
    ) -> dict[str, dict[str, Any]]:
        """Time a `tf.function` step, which has an input signature, in every mode."""
        import tensorflow as tf

        eager = train_step.python_function
        graph = tf.function(  # not traced yet
            eager, input_signature=train_step.input_signature
        )

        def timed(
            step: Any, steps: int, per_call: int | str = 1, jit_compile: bool = False
        ) -> dict[str, Any]:
            fit = partial(
                loop.fit,
                step,
                test_step,
                steps_per_execution=per_call,
                jit_compile=jit_compile,
            )
            return self.time(fit, partial(_assign, variables), steps)

        steps, slow = self._steps, self._slow_steps
        return {
            "eager": timed(eager, slow),
            "graph": timed(graph, steps),
            "epoch": timed(graph, steps, "epoch"),
            "XLA": timed(graph, slow, self._xla_steps, jit_compile=True),
        }

    def tf1(
        self, train_step: Any, test_step: Any, set_weights: SetWeights
    ) -> dict[str, dict[str, Any]]:
        """Time a step that runs in a session, which has the mode graph only."""
        fit = partial(loop.fit, train_step, test_step)
        return {"graph": self.time(fit, set_weights, self._steps)}

    def time(self, fit: Fit, set_weights: SetWeights, steps: int) -> dict[str, Any]:
        """Train by `fit`, Keras's or that of `kvt` with its steps; return its speed."""

        def restart() -> Weights:
            set_weights(
                self._initial
            )  # several epochs could diverge where one does not
            return []

        x, y = (rows[: steps * self._batch_size] for rows in (self._x, self._y))
        clock = Recorder(restart)
        restart()
        fit(
            x,
            y,
            batch_size=self._batch_size,
            epochs=EPOCHS,
            verbose=0,
            callbacks=[clock],
        )
        return {"examples": len(x), "epoch_seconds": clock.epoch_seconds}


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

    `times` is by mode. Eager mode is for looking inside, and never advised.
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
    speed = run["speed"][name]
    times = microseconds(run["speed"])[name]
    first, graph = (
        speed[each]["epoch_seconds"][0] - quickest(speed[each])
        for each in (mode, "graph")
    )
    per_epoch = (times["graph"] - times[mode]) * run["data"]["train"] / 1e6
    return per_epoch, max(0.0, first - graph)


def _assign(variables: Sequence[Any], values: Weights) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
