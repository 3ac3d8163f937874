"""The overview: what each notebook of a running report is doing."""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text


@dataclass
class Status:
    """What one notebook is doing; `seconds` is set when it has ended."""

    name: str
    cells: int
    cell: int = 0
    state: str = "waits"
    started: float | None = None
    seconds: float | None = None

    def line(self, width: int, now: float) -> str:
        """Return name, state and seconds: `03_network  cell 12 of 37   8.3 s`."""
        state, seconds = self.state, self.seconds
        if seconds is None and self.started is not None:
            seconds = now - self.started
            if self.cell:
                state = f"cell {self.cell} of {self.cells}"
        time = "" if seconds is None else f"{seconds:7.1f} s"
        return f"{self.name:{width}}  {state:14}  {time}".rstrip()


class Overview:
    """A line per notebook, redrawn in place while a terminal watches.

    A file or a pipe gets one line per notebook instead, when the notebook ends.

    Args:
        cells: for each notebook's name, how many of its code cells will run.
        stream: where to write; standard output by default.
        clock: returns the time in seconds.
    """

    def __init__(
        self,
        cells: Mapping[str, int],
        *,
        stream: IO[str] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._statuses = {name: Status(name, count) for name, count in cells.items()}
        self._stream = stream or sys.stdout
        self._clock = clock
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self._stream.isatty():
            console = Console(file=self._stream)
            self._live = Live(
                console=console, get_renderable=self._lines, vertical_overflow="crop"
            )
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def draw(self) -> None:
        """Draw all lines now; in between, they are drawn four times a second."""
        if self._live:
            self._live.refresh()

    def starts(self, name: str) -> None:
        """Start a notebook's clock."""
        status = self._statuses[name]
        status.state, status.started = "starts", self._clock()

    def cell(self, name: str) -> None:
        """Count a cell that begins."""
        self._statuses[name].cell += 1

    def ends(self, name: str, state: str) -> float:
        """Stop a notebook's clock and tell its last state; return its seconds."""
        status = self._statuses[name]
        status.state = state
        if status.started is not None:
            status.seconds = self._clock() - status.started
        if not self._live:
            took = "" if status.seconds is None else f"{status.seconds:.1f} s"
            words = [took] if state == "done" else [state, took]
            told = " after ".join(filter(None, words))
            print(f"{name}: {told}", file=self._stream, flush=True)
        return status.seconds or 0.0

    def _lines(self) -> Text:
        """Return all lines; the terminal's edge cuts them."""
        width, now = max(map(len, self._statuses)), self._clock()
        lines = [status.line(width, now) for status in self._statuses.values()]
        return Text("\n".join(lines), no_wrap=True, overflow="crop")
