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
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from kvt.report.notebooks import ExecutionError
from kvt.report.provenance import threads

Task = dict[str, Any]  # the arguments of `execute`
Process = subprocess.Popen[str]
Lines = queue.SimpleQueue[tuple[Process, str]]  # what workers write; "" is an end

PATHS = {"notebook", "output", "cwd", "failed"}  # which JSON holds as text

WORKER = "from kvt.report.workers import work; work()"


@dataclass(frozen=True)
class Event:
    """What happens to a notebook: it "starts", begins a "cell", is "done", "failed"."""

    name: str
    kind: str
    problem: str = ""


@contextmanager
def pool(jobs: int) -> Iterator[Callable[[Sequence[Task]], Iterator[Event]]]:
    """Give a function that runs tasks in at most `jobs` workers, ended on leaving.

    It starts the tasks in their order and yields what happens to them. A notebook that
    fails does not stop the others. Workers are started when needed and used again.
    """
    idle: list[Process] = []
    busy: dict[Process, Task] = {}
    lines: Lines = queue.SimpleQueue()

    def run(tasks: Sequence[Task]) -> Iterator[Event]:
        waiting = deque(tasks)
        while waiting or busy:
            while waiting and len(busy) < jobs:
                worker = idle.pop() if idle else _start(jobs, lines)
                busy[worker] = task = waiting.popleft()
                with suppress(BrokenPipeError, ValueError):  # it died: its end follows
                    print(json.dumps(task, default=str), file=worker.stdin, flush=True)
                yield Event(task["notebook"].name, "starts")
            worker, line = lines.get()
            if worker in idle:
                idle.remove(worker)  # it died while idle
                continue
            name = busy[worker]["notebook"].name
            lost = f"{name} lost its worker process (exit code {worker.returncode})"
            told = json.loads(line) if line else {"kind": "failed", "problem": lost}
            if told["kind"] != "cell":
                del busy[worker]
                if line:
                    idle.append(worker)
            yield Event(name, **told)

    try:
        yield run
    finally:
        _end([*idle, *busy])


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
            tasks.put({k: Path(v) if k in PATHS else v for k, v in told.items()})
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
