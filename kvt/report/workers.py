"""Workers: several notebooks at once, each in a process of its own.

A worker reads tasks from its stdin, one line of JSON each, and writes how each notebook
goes to its stdout. It ends when its stdin does, and so does not outlive `kvt report`.
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
from typing import Any, Self

import psutil

from kvt.report.machine import threads
from kvt.report.notebooks import ExecutionError

Task = dict[str, Any]  # the arguments of `execute`
Process = subprocess.Popen[str]
Lines = queue.SimpleQueue[tuple[Process, str]]  # what workers write; "" is an end

WORKER = "from kvt.report.workers import work; work()"


@dataclass(frozen=True)
class Event:
    """What happens to a notebook: it "starts", begins a "cell", is "done", "failed"."""

    name: str
    kind: str
    problem: str = ""


class Workers:
    """Worker processes, at most `jobs`: started when needed, used again, then ended."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._idle: list[Process] = []
        self._busy: dict[Process, Task] = {}
        self._lines: Lines = queue.SimpleQueue()

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
                task = waiting.popleft()
                self._give(task)
                yield Event(task["notebook"].name, "starts")
            worker, line = self._lines.get()
            if worker in self._busy:
                yield self._event(worker, line)
            else:
                self._idle.remove(worker)  # it died while idle

    def _give(self, task: Task) -> None:
        worker = self._idle.pop() if self._idle else _start(self._jobs, self._lines)
        self._busy[worker] = task
        assert worker.stdin is not None
        with suppress(BrokenPipeError, ValueError):  # it has died; `run` gets its end
            worker.stdin.write(f"{json.dumps(task, default=str)}\n")
            worker.stdin.flush()

    def _event(self, worker: Process, line: str) -> Event:
        """Turn a busy worker's line into an event."""
        name = self._busy[worker]["notebook"].name
        if not line:
            del self._busy[worker]
            lost = f"{name} lost its worker process (exit code {worker.returncode})"
            return Event(name, "failed", lost)
        event = Event(name, **json.loads(line))
        if event.kind != "cell":
            del self._busy[worker]
            self._idle.append(worker)
        return event


def _start(jobs: int, lines: Lines) -> Process:
    """Start a worker, whose lines go into `lines`."""
    # A kernel keeps all threads within one operation: their number decides the order
    # of a convolution's sums, and so the last bits. The number of operations that run
    # at once changes no bit, so each kernel gets a share of these threads: at least
    # two, because a loop in a graph can wait for an operation on the second.
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
        with suppress(BrokenPipeError), worker:  # its last task may not have been read
            for line in worker.stdout:
                lines.put((worker, line))
        lines.put((worker, ""))

    threading.Thread(target=listen, daemon=True).start()
    return worker


def _end(workers: Iterable[Process]) -> None:
    """End workers, their kernels, and the kernels' own processes; wait for all."""
    family: list[psutil.Process] = []
    for worker in workers:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(worker.pid)
            process.suspend()  # so that it starts no kernel meanwhile
            family += [process, *process.children(recursive=True)]
    _kill(family)
    psutil.wait_procs(family, timeout=10)


def _kill(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def work() -> None:
    """Be a worker: run the tasks from stdin, and write to stdout how they go."""
    from kvt.report.execute import execute  # here: papermill, which only workers need

    # Kernels get stderr as their stdout: what they print past Python is no event.
    stdout = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    tasks: queue.SimpleQueue[Task] = queue.SimpleQueue()

    def receive() -> None:
        for line in sys.stdin:
            told = json.loads(line)
            tasks.put({k: v if k == "parameters" else Path(v) for k, v in told.items()})
        _kill(psutil.Process().children(recursive=True))  # `kvt report` is gone
        os._exit(1)

    def tell(kind: str, problem: str = "") -> None:
        stdout.write(f"{json.dumps({'kind': kind, 'problem': problem})}\n")

    threading.Thread(target=receive, daemon=True).start()
    while True:
        try:
            execute(**tasks.get(), on_cell=lambda: tell("cell"))
        except (ExecutionError, OSError, ValueError) as problem:
            tell("failed", str(problem))
        else:
            tell("done")
