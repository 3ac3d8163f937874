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

    A file or a pipe gets one line per notebook instead, when the notebook ends. `cells`
    has the number of code cells that will run, by the notebook's name.
    """

    def __init__(
        self,
        cells: Mapping[str, int],
        *,
        file: IO[str] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._file = file or sys.stdout
        self._progress = progress.Progress(
            progress.TextColumn("{task.description}", markup=False),
            progress.TextColumn("{task.fields[state]:14}"),
            _Seconds(),
            console=Console(file=self._file),
            get_time=clock,
            disable=not self._file.isatty(),
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

    def tell(self, name: str, state: str) -> float:
        """Show what a notebook does: it "starts", begins a "cell", or has ended.

        Any other state is its last one, which stops its clock. Returns its seconds.
        """
        task = self._progress.tasks[self._ids[name]]
        if state == "starts":
            self._progress.start_task(task.id)
        elif state == "cell":
            self._progress.advance(task.id)
            state = f"cell {task.completed:.0f} of {task.total:.0f}"
        else:
            if task.started:
                self._progress.stop_task(task.id)
            if self._progress.disable:
                took = f"{task.elapsed or 0:.1f} s"
                told = {"done": took, "failed": f"failed after {took}"}
                print(f"{name}: {told.get(state, state)}", file=self._file, flush=True)
        self._progress.update(task.id, state=state)
        return task.elapsed or 0.0
