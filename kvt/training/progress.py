"""The progress bar: live in a terminal or notebook, one line per epoch elsewhere.

The live line (rate, time left, running metrics) is redrawn in place and removed at the
end. What stays is the same on every run.
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
    """Show epoch, steps done, rate, time left, and the metrics so far.

    `kvt.fit` creates one itself; for Keras, use `fit(verbose=0, callbacks=[…])`. A
    terminal shows a line that is redrawn in place, Jupyter a display that is updated.
    A file or a pipe gets only the final line of each epoch.

    `interval` is the number of seconds between two drawings, which cost training time;
    `clock` returns seconds. `draw` shows a text as the live line, "" for none; it is
    None if nobody is watching.
    """

    draw: Draw | None

    def __init__(
        self, *, interval: float = 0.1, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._interval = interval
        self._clock = clock

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Store the numbers of epochs and steps."""
        self._epochs = params["epochs"]
        self._steps = params["steps"]  # None if unknown, as for a generator
        self._live = params.get("verbose") != 2  # Keras: one line per epoch

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Find out where to draw, if anywhere."""
        steps = f" of {self._steps} steps" if self._steps else ""
        self.draw = live_line(f"{self._epochs} epochs{steps}") if self._live else None

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Start the epoch's clock."""
        self._epoch = epoch
        self._start = self._drawn = self._clock()

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Draw, unless the last drawing is recent or nobody is watching."""
        now = self._clock()
        if self.draw is not None and now - self._drawn > self._interval:
            self._drawn = now
            self.draw(self._running(batch + 1, now - self._start, logs or {}))

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Replace the live line by the final line of the epoch."""
        self.on_train_end()
        print(f"{self._title(epoch)}  {format_metrics(logs or {})}", flush=True)

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Remove the live line, even before a traceback."""
        if self.draw is not None:
            self.draw("")

    def _title(self, epoch: int) -> str:
        """Return `Epoch  3/10`, with the numbers of all epochs aligned."""
        return f"Epoch {epoch + 1:{len(str(self._epochs))}}/{self._epochs}"

    def _running(self, done: int, seconds: float, logs: Logs) -> str:
        """Return the live line after `done` steps, `seconds` into the epoch."""
        title = self._title(self._epoch)
        # Keras counts whole executions, even beyond the last step of the epoch.
        done = min(done, self._steps or done)
        rate = f"{done / seconds:,.0f}/s"
        if not self._steps:
            return f"{title}  {done} steps  {rate}  {format_metrics(logs)}"
        left = f"{seconds / done * (self._steps - done):.0f} s left"
        numbers = f"{done}/{self._steps} steps  {rate}  {left}  {format_metrics(logs)}"
        # 80 columns have no room for both, so the bar shrinks and the numbers stay.
        columns = shutil.get_terminal_size((120, 24)).columns
        width = max(0, min(WIDTH, columns - len(title) - len(numbers) - 5))
        filled = width * done // self._steps
        bar = "━" * filled + "╌" * (width - filled)
        return f"{title}  {bar}  {numbers}"


def format_metrics(logs: Mapping[str, float]) -> str:
    """Return `loss 0.412  accuracy 0.887  val_loss …`, in this order.

    Three decimals, because further ones can differ between processors.
    """
    names = sorted(logs, key=metric_order)
    return "  ".join(f"{name} {logs[name]:.3f}" for name in names)


def metric_order(name: str) -> tuple[bool, bool]:
    """Sort training before validation, and the loss first."""
    return name.startswith("val_"), not name.endswith("loss")


def live_line(header: str) -> Draw | None:
    """Return a function that redraws a line in place; None if nobody is watching.

    In Jupyter, the line replaces `header`, and "" brings it back, so that a saved
    notebook has the same output on every run.
    """
    ipython = sys.modules.get("IPython")  # imported already, if this is a notebook
    if ipython and hasattr(ipython.get_ipython(), "kernel"):
        from IPython.display import display

        handle = display(  # type: ignore[no-untyped-call]
            {"text/plain": header}, raw=True, display_id=True
        )
        return lambda text: handle.update({"text/plain": text or header}, raw=True)
    if getattr(sys.stdout, "isatty", bool)():  # some replacements have none
        return _draw_in_terminal
    return None


def _draw_in_terminal(text: str) -> None:
    """Overwrite the current line of the terminal, cut to its width."""
    columns = shutil.get_terminal_size().columns
    print(f"\r\x1b[K{text[: columns - 1]}", end="", flush=True)
