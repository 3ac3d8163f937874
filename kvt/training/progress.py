"""The progress bar: live where someone watches, one steady line an epoch elsewhere.

What is live (rate, time left, running figures) is drawn over and over in one place
and wiped in the end; what stays is the same on every run.
"""

import shutil
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from kvt.training.callbacks import Callback, Logs

WIDTH = 24
Draw = Callable[[str], None]


class ProgressBar(Callback):
    """Show epoch, steps done, rate, time left, running loss and accuracy.

    Works in `keras.Model.fit(verbose=0, callbacks=[…])` as in `kvt.fit`, which makes
    one itself. A terminal gets a line that is drawn in place, Jupyter a display that
    is updated; anything else, such as a file or a pipe, gets the finished lines
    alone.

    Args:
        interval: seconds between two drawings; drawing more often costs training
            time and shows nothing more.
        clock: a function that returns seconds.
    """

    def __init__(
        self, *, interval: float = 0.1, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._interval = interval
        self._clock = clock

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Learn how many epochs and steps there will be."""
        self._epochs = params["epochs"]
        self._steps = params["steps"]  # None when Keras is fed by a generator

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Find out who is watching."""
        steps = f" of {self._steps} steps" if self._steps else ""
        self._draw = _live_line(f"{self._epochs} epochs{steps}")

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Start the epoch's clock."""
        self._epoch = epoch
        self._start = self._drawn = self._clock()

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Draw, unless the last drawing is fresh or nobody watches."""
        now = self._clock()
        if self._draw is not None and now - self._drawn > self._interval:
            self._drawn = now
            self._draw(self._running(batch + 1, now - self._start, logs or {}))

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Replace the live line by the epoch's final one."""
        self._wipe()
        print(f"{self._title(epoch)}  {format_metrics(logs or {})}", flush=True)

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Leave a clean line to whatever comes next, be it a traceback."""
        self._wipe()

    def _wipe(self) -> None:
        """Take the live line away."""
        if self._draw is not None:
            self._draw("")

    def _title(self, epoch: int) -> str:
        """Return `Epoch  3/10`, numbers aligned from epoch to epoch."""
        return f"Epoch {epoch + 1:{len(str(self._epochs))}}/{self._epochs}"

    def _running(self, done: int, seconds: float, logs: Logs) -> str:
        """Return the live line after `done` steps and `seconds` of the epoch."""
        title = self._title(self._epoch)
        # Keras counts whole executions, beyond the last step if those do not fit.
        done = min(done, self._steps or done)
        rate = f"{done / seconds:,.0f}/s"
        if not self._steps:
            return f"{title}  {done} steps  {rate}  {format_metrics(logs)}"
        left = f"{seconds / done * (self._steps - done):.0f} s left"
        numbers = f"{done}/{self._steps} steps  {rate}  {left}  {format_metrics(logs)}"
        # The bar gives way to the numbers: in 80 columns there is not room for all.
        columns = shutil.get_terminal_size((120, 24)).columns
        width = max(0, min(WIDTH, columns - len(title) - len(numbers) - 5))
        filled = width * done // self._steps
        bar = "━" * filled + "╌" * (width - filled)
        return f"{title}  {bar}  {numbers}"


def format_metrics(logs: Mapping[str, float]) -> str:
    """Return `loss 0.412  accuracy 0.887  val_loss …`, in that order.

    Three decimals: the further ones may differ between processors.
    """
    names = sorted(logs, key=metric_order)
    return "  ".join(f"{name} {logs[name]:.3f}" for name in names)


def metric_order(name: str) -> tuple[bool, bool]:
    """Put training before validation, and the loss first."""
    return name.startswith("val_"), not name.endswith("loss")


def _live_line(header: str) -> Draw | None:
    """Return a function that draws one line in place, or None if nobody watches.

    In Jupyter the line takes the place of `header` and gives it back in the end, so
    that a saved notebook holds the same output however it was run.
    """
    if "ipykernel" in sys.modules and _in_kernel():
        from IPython.display import display

        handle = display(  # type: ignore[no-untyped-call]
            {"text/plain": header}, raw=True, display_id=True
        )
        return lambda text: handle.update({"text/plain": text or header}, raw=True)
    if sys.stdout.isatty():
        return _draw_in_terminal
    return None


def _in_kernel() -> bool:
    """Whether this process is a Jupyter kernel."""
    from IPython import get_ipython

    return hasattr(get_ipython(), "kernel")


def _draw_in_terminal(text: str) -> None:
    """Overwrite the terminal's current line, cut to its width."""
    columns = shutil.get_terminal_size().columns
    sys.stdout.write(f"\r\x1b[K{text[: columns - 1]}")
    sys.stdout.flush()
