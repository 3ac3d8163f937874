"""Guard: ends all that a notebook started, whatever becomes of who runs it.

A process of its own waits until the run is over or its parent is gone, even by SIGKILL.
Then it kills every process that carries the run's mark in its environment, which a
process inherits from the one that starts it. No signal and no library reaches as far:
PR_SET_PDEATHSIG stops at the kernel, process groups at a process that leaves its group.
"""

import contextlib
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil

MARK = "KVT_RUN"  # the variable that marks a run's processes
SECONDS = 5.0  # for marked processes to end


class Guard:
    """Guards the processes whose environment has `environment` in it."""

    def __init__(self) -> None:
        mark = uuid.uuid4().hex
        self.environment = {MARK: mark}
        self.ended = False
        self._watcher = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__)), mark],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a terminal's signals do not reach it
        )

    def end(self) -> None:
        """End all marked processes now; wait until they are gone."""
        self.ended = True
        assert self._watcher.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._watcher.stdin.close()
        self._watcher.wait()


@contextlib.contextmanager
def guarded() -> Iterator[Guard]:
    """Give a guard, and end on leaving whatever the marked processes left behind."""
    guard = Guard()
    try:
        yield guard
    finally:
        guard.end()


def watch(mark: str) -> None:
    """Wait for the end of stdin; then kill every process with this mark."""
    with contextlib.suppress(KeyboardInterrupt):
        sys.stdin.buffer.read()
    end = time.monotonic() + SECONDS
    while found := [*_marked(mark)]:
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.kill()
        if time.monotonic() > end:
            break
        time.sleep(0.005)


def alive(process: psutil.Process) -> bool:
    """Whether a process still runs: one that nobody waits for stays as a zombie."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _marked(mark: str) -> Iterator[psutil.Process]:
    """Find the marked processes that run, and those that they started without it."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == mark and alive(process):
                yield process
                yield from filter(alive, process.children(recursive=True))


if __name__ == "__main__":
    watch(sys.argv[1])
