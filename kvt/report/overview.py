"""The overview: what each notebook of a running report is doing."""

import sys
import time
from collections.abc import Callable, Mapping
from typing import IO

from rich import progress
from rich.console import Console
from rich.text import Text


class _Seconds(progress.ProgressColumn):
    def render(self, task: progress.Task) -> Text:
        seconds = "" if task.elapsed is None else f"{task.elapsed:7.1f} s"
        return Text(seconds, justify="right")


class Overview(progress.Progress):
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
        console = Console(file=file or sys.stdout)
        super().__init__(
            progress.TextColumn("{task.description}", markup=False),
            progress.TextColumn("{task.fields[state]:14}"),
            _Seconds(),
            console=console,
            get_time=clock,
            disable=not console.file.isatty(),
        )
        for name, count in cells.items():
            self.add_task(name, start=False, total=count, state="waits")

    def tell(self, name: str, state: str) -> None:
        """Show that a notebook "starts", begins a "cell", or has ended in a state."""
        task = next(task for task in self.tasks if task.description == name)
        if state == "starts":
            self.start_task(task.id)
        elif state == "cell":
            self.advance(task.id)
            state = f"cell {task.completed:.0f} of {task.total:.0f}"
        else:
            if task.started:
                self.stop_task(task.id)
            if self.disable:
                took = f"{task.elapsed or 0:.1f} s"
                told = {"done": took, "failed": f"failed after {took}"}
                line = f"{name}: {told.get(state, state)}"
                print(line, file=self.console.file, flush=True)
        self.update(task.id, state=state)
