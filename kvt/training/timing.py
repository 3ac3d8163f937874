"""How long an epoch takes."""

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from kvt.training.callbacks import Recorder, Weights


def time_epochs(
    fit: Callable[..., object],
    start: Callable[[], object],
    x: NDArray[Any],
    y: NDArray[Any],
    *,
    batch_size: int,
) -> dict[str, Any]:
    """Train four epochs by `fit`, each from where `start` sets the weights.

    `fit` is Keras's, or `kvt.fit` with its steps; x (n, …) and y (n, …) are what it
    trains on. Returns what the results hold of a mode: n as `examples`, and the wall
    seconds as `epoch_seconds`, of which the first have tracing and compiling in them.
    """

    def again() -> Weights:
        start()  # one epoch after the other could diverge where a single one does not
        return []

    clock = Recorder(again)
    start()
    fit(x, y, batch_size=batch_size, epochs=4, verbose=0, callbacks=[clock])
    return {"examples": len(x), "epoch_seconds": clock.epoch_seconds}
