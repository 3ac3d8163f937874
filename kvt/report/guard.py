"""Guard: ends all that a notebook started, even if the process that runs it is killed.

A process of its own waits until the run is over or its parent is gone, even by SIGKILL.
Then it kills every process that carries the run's mark in its environment, which a
process inherits from the one that starts it, and deletes the run's directory. No signal
and no library reaches as far: PR_SET_PDEATHSIG stops at the kernel, process groups at a
process that leaves its group.
"""

import contextlib
import errno
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

MARK = "KVT_RUN"  # the variable that marks a run's processes: its directory
SECONDS = 5.0  # for marked processes to end
FEWEST_FILES, FILES = 256, 4096  # that must, and that may be open in a process at once
# That ask to end.
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT]


class Guard:
    """Guards a run: its directory, and the processes that have its `environment`."""

    def __init__(self) -> None:
        # Short, because the path of a socket may have only 100 characters.
        self.directory = Path(tempfile.mkdtemp(prefix="kvt-")).resolve()
        (self.directory / "tmp").mkdir()
        self.environment = {
            MARK: str(self.directory),
            "TMPDIR": str(self.directory / "tmp"),
        }
        self.over = threading.Event()

    def end(self) -> None:
        """End all marked processes now; wait until they are gone."""
        self.over.set()
        _end(self.environment[MARK])


@contextlib.contextmanager
def guarded() -> Iterator[Guard]:
    """Give a guard; on leaving, end what is left of its run, with its directory."""
    guard = Guard()
    watcher = subprocess.Popen(
        [sys.executable, "-P", str(Path(__file__)), str(guard.directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a terminal's signals do not reach it
    )
    assert watcher.stdin is not None
    try:
        yield guard
    finally:
        guard.over.set()
        with contextlib.suppress(BrokenPipeError):
            watcher.stdin.close()
        watcher.wait()


def allow_open_files() -> None:
    """Raise this process's limit of open files, which those that it starts inherit.

    A kernel that meets the limit halfway waits for a minute, or fails in words of
    ZeroMQ. OSError (EMFILE) if no more than a few are allowed.
    """
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = FILES if most == resource.RLIM_INFINITY else min(most, FILES)
    if allowed < FEWEST_FILES:
        why = f"{allowed} open files are allowed, {FEWEST_FILES} are needed"
        raise OSError(errno.EMFILE, why, "the limit of this shell")
    if limit != resource.RLIM_INFINITY and limit < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, most))


@contextlib.contextmanager
def on_signals(handler: Callable[[int, Any], Any] | signal.Handlers) -> Iterator[None]:
    """Handle the signals that ask to end in another way.

    A shell starts a script's background jobs with SIGINT and SIGQUIT ignored, and they
    are handled here. An ignored SIGHUP stays ignored: that is what `nohup` is for.
    """
    before = {
        each: signal.signal(each, handler)
        for each in SIGNALS
        if each != signal.SIGHUP or signal.getsignal(each) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for each, old in before.items():
            signal.signal(each, old or signal.SIG_DFL)


def watch(directory: str) -> None:
    """Wait for the end of stdin; then end the run of this directory."""
    for each in SIGNALS:  # a service that is stopped sends them to all its processes
        signal.signal(each, signal.SIG_IGN)
    sys.stdin.buffer.read()
    _end(directory)
    shutil.rmtree(directory, ignore_errors=True)


def alive(process: psutil.Process) -> bool:
    """Whether a process still runs: one that nobody waits for stays as a zombie."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _end(mark: str) -> None:
    """Kill every process with this mark; wait until all are gone."""
    end = time.monotonic() + SECONDS
    while (found := [*_marked(mark)]) and time.monotonic() < end:
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.kill()
        time.sleep(0.005)


def _marked(mark: str) -> Iterator[psutil.Process]:
    """Find the marked processes that run, and those that they started without it."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == mark and alive(process):
                yield process
                yield from filter(alive, process.children(recursive=True))


if __name__ == "__main__":
    watch(sys.argv[1])
