"""A worker of Dask's: is checked, then runs one notebook at a time for its client.

A run takes and returns content, not paths, so that no file system need be shared.
"""

import asyncio
import ctypes
import os
import platform
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from distributed import Status, Worker, WorkerPlugin, get_worker

from kvt import data
from kvt.report import cache, provenance
from kvt.report.guard import Guard, guarded
from kvt.report.parameters import Value

# Variables that belong to a worker's machine, although they match `cache.VARIABLES`.
OWN = {"PYTHONPATH", "PYTHONHOME", "MPLCONFIGDIR", "CUDA_VISIBLE_DEVICES"}
PDEATHSIG = 1  # prctl's number for the signal that a process gets if its parent dies
SMALLEST = """{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [
    {"cell_type": "code", "id": "one", "source": "1", "metadata": {}, "outputs": [],
    "execution_count": null}]}"""
POLL = 0.5  # seconds between two looks whether the run is still wanted


@dataclass(frozen=True)
class Task:
    """A run of a notebook: all that a worker needs to know."""

    name: str  # by which its client knows it
    notebook: str  # the text of the notebook's file
    values: dict[str, Value]
    reads: dict[str, bytes] = field(default_factory=dict)  # files, by relative path
    timeout: int | None = None  # seconds for a cell


@dataclass(frozen=True)
class Ended:
    """What a run left: its notebook, complete or up to the problem, and its files."""

    notebook: str
    files: dict[str, bytes]
    problem: str
    machine: list[Any]  # as in the cache's key
    seconds: float


def environment() -> dict[str, str]:
    """Return the variables of this process that decide what a kernel computes."""
    return {k: v for k, v in os.environ.items() if _decides(k)}


def perform(
    task: Task, topic: str, variables: Mapping[str, str], kernels: int
) -> Ended:
    """Run a notebook in this worker, on whose machine `kernels` run at once.

    Tells under the topic when a cell begins. Ends the kernel if the run is cancelled or
    its client is gone.
    """
    from kvt.report.execute import run_cells  # here: papermill, which no client needs

    worker = get_worker()
    key, started = worker.get_current_task(), time.perf_counter()

    def wanted() -> bool:
        state = worker.state.tasks.get(key)
        runs = worker.status in (Status.running, Status.paused)
        return bool(runs and state and state.state == "executing")

    def watch(guard: Guard) -> None:
        while not guard.over.wait(POLL):
            if not wanted():
                guard.end()

    with guarded() as guard:
        threading.Thread(target=watch, args=[guard], daemon=True).start()
        room = guard.directory / "room"
        for part in cache.WRITTEN:
            (room / part).mkdir(parents=True)
        cache.write_files(task.reads, room)
        notebook, problem = run_cells(
            task.notebook,
            task.values,
            guard,
            cwd=room,
            timeout=task.timeout,
            environment=_kernel_environment(variables, kernels),
            on_cell=lambda: worker.log_event(topic, {"kind": "cell", "key": key}),
        )
        wrote = cache.read_files(room, cache.WRITTEN)
    left = {name: it for name, it in wrote.items() if name not in task.reads}
    seconds = time.perf_counter() - started
    return Ended(notebook, left, problem, cache.machine(), seconds)


def _kernel_environment(variables: Mapping[str, str], kernels: int) -> dict[str, str]:
    """Return a kernel's variables: the client's where they decide what it computes.

    A kernel keeps all threads within one operation: their number decides the order of
    a convolution's sums, and so the last bits. The number of operations that run at
    once changes no bit, so each kernel gets a share of these threads: at least two,
    because a loop in a graph can wait for an operation on the second. Dask would set
    one thread for OpenMP and OpenBLAS, and a seed for hashes.
    """
    share = {"TF_NUM_INTEROP_THREADS": str(max(2, provenance.threads() // kernels))}
    own = {k: v for k, v in os.environ.items() if not _decides(k)}
    return own | share | dict(variables)


def _decides(variable: str) -> bool:
    return bool(cache.VARIABLES.match(variable)) and variable not in OWN


class Prepared(WorkerPlugin):  # type: ignore[misc]
    """Makes each worker ready, those too that come later, and tells the client.

    `client` is the process to which workers of this machine are tied; 0 for workers
    elsewhere, which have to be as `expected`.
    """

    def __init__(self, topic: str, client: int, expected: Mapping[str, Any]) -> None:
        self.name, self.topic = topic, topic
        self.client, self.expected = client, expected

    async def setup(self, worker: Worker) -> None:
        """Tie the worker to its client, or compare it with what the client expects."""
        differs = []
        if self.client:
            _tie(self.client)
        else:
            differs = await asyncio.to_thread(differences, self.expected)
        told = {"kind": "worker", "address": worker.address, "differs": differs}
        worker.log_event(self.topic, told | facts())


def _tie(client: int) -> None:
    """Make this process end with its client, and deaf to the client's terminal.

    Its client starts it with these signals blocked: a Ctrl-C in the terminal during the
    start would otherwise print a traceback.
    """
    if sys.platform == "linux":
        # Dask ends a worker whose client is gone by a thread of Python, which cannot
        # run while the interpreter is stuck in C.
        ctypes.CDLL(None).prctl(PDEATHSIG, signal.SIGKILL)
    if os.getppid() != client:
        os._exit(1)
    with suppress(PermissionError):  # it leads a session already
        os.setsid()
    signal.signal(signal.SIGINT, lambda *_: None)  # and kernels get the default
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def facts() -> dict[str, Any]:
    """Return what to tell about this worker: process, host, processor, versions."""
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "processor": provenance.processor(),
        "threads": str(provenance.threads()),
        "python": platform.python_version(),
        "system": platform.platform(),
    }


def fingerprint(dataset: str) -> dict[str, str]:
    """Return what has to be the same on a worker: kvt, lock, Python, packages, data."""
    lock = cache.LOCK.read_bytes() if cache.LOCK.exists() else b""
    return {
        "kvt": cache.sha256(repr(cache.source()).encode()),
        "lock": cache.sha256(lock),
        "Python": platform.python_version(),
        "packages": cache.sha256(repr(cache.installed()).encode()),
        "data": data.load(dataset).sha256 if dataset else "",
    }


def differences(expected: Mapping[str, Any]) -> list[str]:
    """Compare this worker with what its client expects; start a kernel to see it run.

    `expected` is the client's fingerprint, and under "dataset" the data to look at.
    """
    from kvt.report.execute import run_cells

    try:
        own = fingerprint(expected["dataset"])
    except (OSError, ValueError) as problem:
        return [f"data: {problem}"]
    found = [
        f"{name} is {own[name][:12]}, here {expected[name][:12]}"
        for name in own
        if own[name] != expected[name]
    ]
    with guarded() as guard:
        _, fails = run_cells(SMALLEST, {}, guard, cwd=guard.directory, timeout=60)
    return [*found, f"its kernel stops {fails}"] if fails else found
