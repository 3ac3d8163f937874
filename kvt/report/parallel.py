"""Several notebooks at once, each in a worker process, and the overview of them all.

A worker is a Python of its own that gets notebooks from its stdin, one a line of JSON,
and tells on its stdout how they go. It ends when its stdin does: with `kvt report`.
"""

import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Self, TypeAlias

import psutil

from kvt.report.notebooks import ExecutionError
from kvt.report.parameters import Value
from kvt.report.provenance import threads

_Worker: TypeAlias = subprocess.Popen[str]

WORKER = "from kvt.report.parallel import work; work()"
INTERVAL = 0.2  # seconds between two drawings of the overview


@dataclass(frozen=True)
class Task:
    """One notebook to run: what `execute` is told."""

    notebook: str
    output: str
    parameters: dict[str, Value]
    cwd: str
    failed: str

    @property
    def name(self) -> str:
        """The file's name, by which everything else calls the notebook."""
        return Path(self.notebook).name


@dataclass
class Line:
    """A notebook's line in the overview; seconds run until it has ended."""

    name: str
    cells: int
    cell: int = 0
    state: str = "waits"
    started: float | None = None
    seconds: float | None = None

    def text(self, width: int, now: float) -> str:
        """Return name, state and seconds: `03_network  cell 12 of 37   8.3 s`."""
        state, seconds = self.state, self.seconds
        if seconds is None and self.started is not None:
            seconds = now - self.started
            if self.cell:
                state = f"cell {self.cell} of {self.cells}"
        time = "" if seconds is None else f"{seconds:7.1f} s"
        return f"{self.name:{width}}  {state:14}  {time}".rstrip()


class Overview:
    """What each notebook is doing: drawn in place where a terminal watches.

    Anything else, such as a file or a pipe, gets a line as each notebook ends.

    Args:
        cells: notebook's name -> how many of its code cells will run.
        stream: where it goes; standard output.
        clock: a function that returns seconds.
    """

    def __init__(
        self,
        cells: Mapping[str, int],
        *,
        stream: IO[str] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._lines = {name: Line(name, count) for name, count in cells.items()}
        self._stream = stream or sys.stdout
        self._clock = clock
        self._live = self._stream.isatty()
        self._drawn = 0

    def starts(self, name: str) -> None:
        """Start a notebook's clock."""
        line = self._lines[name]
        line.state, line.started = "starts", self._clock()
        self.draw()

    def cell(self, name: str) -> None:
        """Count a cell that begins."""
        self._lines[name].cell += 1
        self.draw()

    def ends(self, name: str, state: str) -> float:
        """Stop a notebook's clock, and say how it ended; return its seconds."""
        line = self._lines[name]
        line.state = state
        if line.started is not None:
            line.seconds = self._clock() - line.started
        if self._live:
            self.draw()
        else:
            took = "" if line.seconds is None else f"{line.seconds:.1f} s"
            words = [took] if state == "done" else [state, took]
            told = " after ".join(filter(None, words))
            print(f"{name}: {told}", file=self._stream, flush=True)
        return line.seconds or 0.0

    def draw(self) -> None:
        """Draw all lines over the last drawing, cut to the terminal's size.

        Only a terminal is drawn in.
        """
        if not self._live:
            return
        columns, rows = shutil.get_terminal_size()
        width = max(map(len, self._lines))
        now = self._clock()
        texts = [line.text(width, now) for line in self._lines.values()][: rows - 1]
        up = f"\x1b[{self._drawn}A" if self._drawn else ""
        drawn = "".join(f"\r\x1b[K{text[: columns - 1]}\n" for text in texts)
        self._stream.write(up + drawn)
        self._stream.flush()
        self._drawn = len(texts)


@dataclass(frozen=True)
class Event:
    """What a notebook's worker tells: it starts, begins a cell, is done or failed."""

    name: str
    kind: str
    problem: str = ""


class Workers:
    """Worker processes, started as they are needed and used again; ended on leaving.

    Args:
        jobs: how many notebooks run at the same time, at least 1.
    """

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._idle: list[_Worker] = []
        self._busy: dict[_Worker, Task] = {}
        self._told: queue.SimpleQueue[tuple[_Worker, str]] = queue.SimpleQueue()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        _end([*self._idle, *self._busy])

    def run(self, tasks: Sequence[Task]) -> Iterator[Event | None]:
        """Run the tasks, begun in their order; yield how they go, and None meanwhile.

        A notebook that fails does not keep the others from their end.
        """
        waiting = deque(tasks)
        while waiting or self._busy:
            while waiting and len(self._busy) < self._jobs:
                yield self._give(waiting.popleft())
            try:
                yield self._hear(*self._told.get(timeout=INTERVAL))
            except queue.Empty:
                yield None

    def _give(self, task: Task) -> Event:
        """Hand a task to a worker."""
        worker = self._idle.pop() if self._idle else _start(self._jobs, self._told)
        self._busy[worker] = task
        assert worker.stdin is not None
        with suppress(BrokenPipeError):  # it has died, and its end will be heard
            worker.stdin.write(f"{json.dumps(asdict(task))}\n")
            worker.stdin.flush()
        return Event(task.name, "starts")

    def _hear(self, worker: _Worker, line: str) -> Event | None:
        """Make an event of a worker's line; "" is its end."""
        task = self._busy.get(worker)
        if task is None:  # it died while idle
            self._idle.remove(worker)
            return None
        if not line:
            del self._busy[worker]
            code = worker.wait()
            _close(worker)
            problem = f"{task.name} lost its worker process (exit code {code})"
            return Event(task.name, "failed", problem)
        told = json.loads(line)
        if told["kind"] != "cell":
            del self._busy[worker]
            self._idle.append(worker)
        return Event(task.name, **told)


def _start(jobs: int, told: queue.SimpleQueue[tuple[_Worker, str]]) -> _Worker:
    """Start a worker, and put each line that it says into `told`.

    The kernels keep the threads that one of them alone would have for one operation:
    their number decides in which order a convolution adds up, and so the last bits.
    How many operations run at once changes no bit; there each gets its share, and two
    at least: a loop in a graph can wait for an operation that needs the second.
    """
    share = {"TF_NUM_INTEROP_THREADS": str(max(2, threads() // jobs))}
    worker = subprocess.Popen(
        [sys.executable, "-P", "-c", WORKER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=share | os.environ,
        start_new_session=True,  # a terminal's Ctrl-C is for `kvt report` alone
    )
    threading.Thread(target=_listen, args=(worker, told), daemon=True).start()
    return worker


def _listen(worker: _Worker, told: queue.SimpleQueue[tuple[_Worker, str]]) -> None:
    """Put what a worker says into `told`, and "" at its end."""
    assert worker.stdout is not None
    with worker.stdout:
        for line in worker.stdout:
            told.put((worker, line))
    told.put((worker, ""))


def _end(workers: Iterable[_Worker]) -> None:
    """End workers, their kernels, and what those have started; wait until all are."""
    family: list[psutil.Process] = []
    for worker in workers:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(worker.pid)
            process.suspend()  # so that no kernel is started meanwhile
            family += [process, *process.children(recursive=True)]
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(family, timeout=10)
    for worker in workers:
        worker.wait()
        _close(worker)


def _close(worker: _Worker) -> None:
    """Close our end of what a worker that has ended reads from."""
    if worker.stdin:
        with suppress(BrokenPipeError):  # its last task was not read
            worker.stdin.close()


def work() -> None:
    """Be a worker: run what stdin names, and tell how it goes on stdout."""
    from kvt.report.execute import execute

    # Kernels get stderr for their stdout: what they print past Python is no event.
    stdout = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    tasks: queue.SimpleQueue[Task] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(tasks,), daemon=True).start()

    def tell(kind: str, problem: str = "") -> None:
        stdout.write(f"{json.dumps({'kind': kind, 'problem': problem})}\n")

    while True:
        task = tasks.get()
        try:
            execute(
                Path(task.notebook),
                Path(task.output),
                task.parameters,
                cwd=Path(task.cwd),
                failed=Path(task.failed),
                on_cell=lambda: tell("cell"),
            )
        except (ExecutionError, OSError, ValueError) as problem:
            tell("failed", str(problem))
        else:
            tell("done")


def _receive(tasks: queue.SimpleQueue[Task]) -> None:
    """Read tasks; where `kvt report` is gone, go too, with the kernel."""
    for line in sys.stdin:
        tasks.put(Task(**json.loads(line)))
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            child.kill()
    os._exit(1)
