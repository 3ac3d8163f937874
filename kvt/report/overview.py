"""The overview: what each notebook of a running report is doing."""

import sys
import time
from collections.abc import Callable, Mapping
from typing import IO, Self

from rich import progress
from rich.console import Console
from rich.text import Text


class _Seconds(progress.ProgressColumn):
    """How long a notebook has been running, or took."""

    def render(self, task: progress.Task) -> Text:
        seconds = "" if task.elapsed is None else f"{task.elapsed:7.1f} s"
        return Text(seconds, justify="right")


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
        self._stream = stream or sys.stdout
        self._progress = progress.Progress(
            progress.TextColumn("{task.description}", markup=False),
            progress.TextColumn("{task.fields[state]:14}"),
            _Seconds(),
            console=Console(file=self._stream),
            get_time=clock,
            disable=not self._stream.isatty(),
        )
        self._ids = {
            name: self._progress.add_task(name, start=False, total=count, state="waits")
            for name, count in cells.items()
        }

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def starts(self, name: str) -> None:
        """Start a notebook's clock."""
        self._progress.start_task(self._ids[name])
        self._progress.update(self._ids[name], state="starts")

    def cell(self, name: str) -> None:
        """Count a cell that begins."""
        task = self._progress.tasks[self._ids[name]]
        state = f"cell {task.completed + 1:.0f} of {task.total:.0f}"
        self._progress.update(task.id, advance=1, state=state)

    def ends(self, name: str, state: str) -> float:
        """Stop a notebook's clock and tell its last state; return its seconds."""
        task = self._progress.tasks[self._ids[name]]
        if task.started:
            self._progress.stop_task(task.id)
        self._progress.update(task.id, state=state)
        if self._progress.disable:
            took = "" if task.elapsed is None else f"{task.elapsed:.1f} s"
            words = [took] if state == "done" else [state, took]
            told = " after ".join(filter(None, words))
            print(f"{name}: {told}", file=self._stream, flush=True)
        return task.elapsed or 0.0
