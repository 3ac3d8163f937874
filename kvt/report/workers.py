"""Workers: several notebooks at once, each in a process of its own.

A worker is a Python process. It reads tasks from its stdin, one line of JSON each, and
writes how each notebook goes to its stdout. It ends when its stdin ends, and so does
not outlive `kvt report`.
"""

import json
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeAlias

import psutil

from kvt.report.machine import threads
from kvt.report.notebooks import ExecutionError
from kvt.report.parameters import Value

_Process: TypeAlias = subprocess.Popen[str]

WORKER = "from kvt.report.workers import work; work()"


@dataclass(frozen=True)
class Task:
    """One notebook to run: the arguments of `execute`."""

    notebook: Path
    output: Path
    parameters: dict[str, Value]
    cwd: Path
    failed: Path


@dataclass(frozen=True)
class Event:
    """What happens to a notebook: it "starts", begins a "cell", is "done", "failed"."""

    name: str
    kind: str
    problem: str = ""


class Workers:
    """Worker processes: started when needed, used again, ended on leaving.

    Args:
        jobs: how many notebooks run at the same time, at least 1.
    """

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._idle: list[_Process] = []
        self._busy: dict[_Process, Task] = {}
        self._lines: queue.SimpleQueue[tuple[_Process, str]] = queue.SimpleQueue()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        _end([*self._idle, *self._busy])

    def run(self, tasks: Sequence[Task]) -> Iterator[Event]:
        """Run the tasks, started in their order; yield what happens to them.

        A notebook that fails does not stop the others.
        """
        waiting = deque(tasks)
        while waiting or self._busy:
            while waiting and len(self._busy) < self._jobs:
                yield self._give(waiting.popleft())
            worker, line = self._lines.get()
            if worker in self._busy:
                yield self._event(worker, line)
            else:
                self._idle.remove(worker)  # it died while idle

    def _give(self, task: Task) -> Event:
        """Hand a task to a worker."""
        worker = self._idle.pop() if self._idle else _start(self._jobs, self._lines)
        self._busy[worker] = task
        assert worker.stdin is not None
        with suppress(BrokenPipeError):  # it has died; `run` will get its end
            worker.stdin.write(f"{json.dumps(vars(task), default=str)}\n")
            worker.stdin.flush()
        return Event(task.notebook.name, "starts")

    def _event(self, worker: _Process, line: str) -> Event:
        """Turn a busy worker's line into an event; "" is the worker's end."""
        task = self._busy[worker]
        if not line:
            del self._busy[worker]
            code = worker.wait()
            _close(worker)
            problem = f"{task.notebook.name} lost its worker process (exit code {code})"
            return Event(task.notebook.name, "failed", problem)
        found = json.loads(line)
        if found["kind"] != "cell":
            del self._busy[worker]
            self._idle.append(worker)
        return Event(task.notebook.name, **found)


def _start(jobs: int, lines: queue.SimpleQueue[tuple[_Process, str]]) -> _Process:
    """Start a worker, and put each line that it writes into `lines`; "" is its end.

    A kernel keeps as many threads within one operation as it would have alone: their
    number decides the order of a convolution's sums, and so the last bits. The number
    of operations that run at once changes no bit, and there each kernel gets a share:
    at least two, because a loop in a graph can wait for an operation on the second.
    """
    share = {"TF_NUM_INTEROP_THREADS": str(max(2, threads() // jobs))}
    worker = subprocess.Popen(
        [sys.executable, "-P", "-c", WORKER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=share | os.environ,
        start_new_session=True,  # a terminal's Ctrl-C reaches `kvt report` alone
    )

    def listen() -> None:
        assert worker.stdout is not None
        with worker.stdout:
            for line in worker.stdout:
                lines.put((worker, line))
        lines.put((worker, ""))

    threading.Thread(target=listen, daemon=True).start()
    return worker


def _end(workers: Iterable[_Process]) -> None:
    """End workers, their kernels, and the kernels' own processes; wait for all."""
    family: list[psutil.Process] = []
    for worker in workers:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(worker.pid)
            process.suspend()  # so that it starts no kernel meanwhile
            family += [process, *process.children(recursive=True)]
    _kill(family)
    psutil.wait_procs(family, timeout=10)
    for worker in workers:
        worker.wait()
        _close(worker)


def _kill(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _close(worker: _Process) -> None:
    """Close our end of an ended worker's stdin."""
    assert worker.stdin is not None
    with suppress(BrokenPipeError):  # its last task was not read
        worker.stdin.close()


def work() -> None:
    """Be a worker: run the tasks from stdin, and write to stdout how they go."""
    from kvt.report.execute import execute  # here: papermill, which only workers need

    # Kernels get stderr as their stdout: what they print past Python is no event.
    stdout = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    tasks: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(tasks,), daemon=True).start()

    def tell(kind: str, problem: str = "") -> None:
        stdout.write(f"{json.dumps({'kind': kind, 'problem': problem})}\n")

    while True:
        task = tasks.get()
        try:
            execute(**task, on_cell=lambda: tell("cell"))
        except (ExecutionError, OSError, ValueError) as problem:
            tell("failed", str(problem))
        else:
            tell("done")


def _receive(tasks: queue.SimpleQueue[dict[str, Any]]) -> None:
    """Read tasks; when `kvt report` is gone, kill the kernel and end."""
    for line in sys.stdin:
        told = json.loads(line)
        tasks.put({k: v if k == "parameters" else Path(v) for k, v in told.items()})
    _kill(psutil.Process().children(recursive=True))
    os._exit(1)
