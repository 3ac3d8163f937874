"""A cluster of Dask's: gives runs of notebooks to its workers, one to each at a time.

Dask starts, connects, watches and restarts the workers. This module decides which
worker gets which run: Dask takes all runs that are assigned to a worker that dies for
the cause of its death, and assigns runs that have not started (benchmarks/scale.md).
"""

import asyncio
import json
import logging
import multiprocessing.resource_tracker
import os
import queue
import re
import signal
import socket
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import dask
import psutil
from distributed import CancelledError, Client, Future, KilledWorker, LocalCluster
from distributed.core import rpc
from distributed.security import Security

from kvt.data.quietly import quiet
from kvt.report import worker
from kvt.report.guard import SIGNALS, alive
from kvt.report.worker import Ended, Prepared, Task

LOCAL: dict[str, Any] = {
    # No page, and no code of the user's in the workers.
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    "distributed.scheduler.preload": [],
    "distributed.nanny.preload": [],
    "distributed.worker.preload": [],
    # Not one thread for OpenMP and OpenBLAS, which a kernel would inherit.
    "distributed.nanny.pre-spawn-environ": {},
    "distributed.scheduler.allowed-failures": 0,
    # Dask would give up a worker that takes longer to come back.
    "distributed.deploy.lost-worker-timeout": "1 day",
    "distributed.worker.profile.enabled": False,
    "distributed.worker.multiprocessing-method": "spawn",
    "distributed.worker.daemon": True,
}
LOGGERS = ("distributed", "distributed.client", "distributed.gc", "tornado")
LOST = "lost its worker process"
SECONDS = 5.0  # for processes to end
PATIENCE = 60.0  # seconds for a worker of this machine to start


@dataclass(frozen=True)
class Event:
    """What happens to a run: it "starts", begins a "cell", is "done", or "failed"."""

    name: str
    kind: str
    problem: str = ""
    ended: Ended | None = None
    worker: dict[str, Any] = field(default_factory=dict)  # what it told, for an end


@dataclass(frozen=True)
class Workplace:
    """Where the runs of a report or a sweep are run."""

    jobs: int  # workers on this machine
    directory: Path  # for temporary files
    address: str = ""  # a scheduler's address or file, instead of workers here
    retries: int = 0  # times that a run goes to another worker if its worker dies
    dataset: str = ""  # which other machines must have
    allow_different: bool = False


Facts = dict[str, Any]  # what a worker tells of itself
Run = Callable[[Iterable[Task]], Iterator[Event]]


@contextmanager
def pool(settings: Workplace) -> Iterator[Run]:
    """Give a function that runs tasks, started in their order, and tells how they go.

    A run that fails does not stop the others. Workers of this machine are started
    first, and ended on leaving, whatever they do.
    """
    deaths = _listen_to_logs()
    with ExitStack() as stack:
        if settings.address:
            client = stack.enter_context(_client(settings.address))
        else:
            # Dask sets variables, on which a run's results would depend. And a signal
            # that arrives meanwhile waits until all can be ended.
            with patch.dict(os.environ), _signals_blocked():
                client = _local(settings, stack)
        fleet = Fleet(client, settings, deaths)
        stack.callback(fleet.leave)
        fleet.prepare()
        yield fleet.run


def _client(address: str) -> Client:
    """Connect to a scheduler, by its address or its file."""
    try:
        if (file := Path(address)).is_file():
            address = str(json.loads(file.read_text())["address"])
        place = urlsplit(address if "://" in address else f"tcp://{address}")
        if not place.hostname or not place.port:
            raise ValueError("it is neither a file nor an address with a port")
        # Dask's client itself would try for minutes.
        socket.create_connection((place.hostname, place.port), PATIENCE / 6).close()
        asyncio.run(_greet(address))
        return Client(address, set_as_default=False)
    except (OSError, ValueError, TypeError, KeyError) as problem:
        why = str(problem) or type(problem).__name__
        raise ConnectionError(
            f"no Dask scheduler answers at {address!r}: {why}; start one with `dask "
            "scheduler`, and give --cluster its address (tcp://…) or scheduler file"
        ) from None


async def _greet(address: str) -> None:
    """Raise OSError if it is no scheduler that answers."""
    arguments = Security().get_connection_args("client")
    async with rpc(address, connection_args=arguments) as scheduler:
        await asyncio.wait_for(scheduler.identity(), PATIENCE / 6)


def _local(settings: Workplace, stack: ExitStack) -> Client:
    """Start a cluster on this machine, reachable through loopback only.

    The stack ends it.
    """
    place = {"temporary-directory": str(settings.directory)}
    stack.enter_context(dask.config.set({**LOCAL, **place}))
    cluster = stack.enter_context(
        LocalCluster(
            n_workers=settings.jobs,
            threads_per_worker=1,
            memory_limit=0,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
            silence_logs=logging.CRITICAL,
            security=True,  # or any user of this machine could run code
        )
    )
    client = stack.enter_context(Client(cluster, set_as_default=False))
    stack.enter_context(_ended(cluster))
    for nanny in cluster.workers.values():
        # It would be set here, too, when a worker is replaced.
        nanny.pre_spawn_env = nanny.process.pre_spawn_env = {}
    return client


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Start threads and processes that leave signals to the main thread."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    # A process of Python's, which would print what Dask's processes leave if they are
    # killed. Starting it unblocks two of the signals, so it is started now.
    with quiet():
        multiprocessing.resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _ended(cluster: LocalCluster) -> Iterator[None]:
    """Kill the workers on leaving, and wait until all that they started is gone.

    Dask would wait for running tasks, and start workers again.
    """
    try:
        yield
    finally:
        workers, family = [], []
        for nanny in cluster.workers.values():
            nanny.close_gracefully()  # it starts no other worker
            with suppress(psutil.Error, TypeError):  # it has none now
                workers.append(psutil.Process(int(nanny.pid)))
                family += workers[-1].children(recursive=True)
        for process in workers:
            with suppress(psutil.Error):
                process.kill()
        # The guards of their runs end the kernels, and then themselves.
        end = time.monotonic() + SECONDS
        while any(map(alive, [*workers, *family])) and time.monotonic() < end:
            time.sleep(0.01)


def _listen_to_logs() -> dict[int, str]:
    """Keep Dask's logs from the terminal; return how workers died, by process."""
    deaths: dict[int, str] = {}

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = record.getMessage()
            if found := re.match(r"Worker process (\d+) (.*)", text):
                deaths[int(found[1])] = found[2]

    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers[:] = [Listener()]
        logger.propagate = False
    return deaths


class Fleet:
    """The workers that a client may use, and what each is doing."""

    def __init__(
        self, client: Client, settings: Workplace, deaths: dict[int, str]
    ) -> None:
        self.client, self.settings, self.deaths = client, settings, deaths
        self.topic = f"kvt-{uuid.uuid4().hex}"
        self.told: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.workers: dict[str, Facts] = {}  # by address
        self.rejected: set[str] = set()  # addresses
        self.idle: deque[str] = deque()  # addresses
        self.busy: dict[str, tuple[Task, Facts, Future]] = {}  # by key
        self.lost: Counter[str] = Counter()  # workers, by run

    def prepare(self) -> None:
        """Have all workers prepared, and hear of those that come and go."""

        def hear(told: Any) -> None:
            self.told.put(told[1])

        for topic in ("all", self.topic):
            self.client.subscribe_topic(topic, hear)
        while self.told.empty():  # not subscribed yet
            self.client.log_event(self.topic, {})
            time.sleep(0.01)
        client, expected = os.getpid(), {}
        if self.settings.address:
            dataset = self.settings.dataset
            client, expected = 0, {**worker.fingerprint(dataset), "dataset": dataset}
        why = "it did not answer"
        try:
            self.client.register_plugin(Prepared(self.topic, client, expected))
        except Exception as problem:  # a worker without kvt cannot unpickle it
            why = f"{type(problem).__name__}: {problem}"
        silent = set(self.client.scheduler_info(n_workers=-1)["workers"])
        end = time.monotonic() + SECONDS
        while silent and time.monotonic() < end:
            with suppress(queue.Empty):
                told = self.told.get(timeout=0.1)
                self._hear(told)
                silent.discard(told.get("address"))
        for address in silent:
            self._reject(address, address, why)

    def leave(self) -> None:
        """Cancel what runs, and take back what was given to others' workers."""
        with suppress(Exception):  # the scheduler may be gone
            self.client.cancel([future for *_, future in self.busy.values()])
            if self.settings.address:
                self.client.unregister_worker_plugin(self.topic)

    def run(self, given: Iterable[Task]) -> Iterator[Event]:
        """Run the tasks; yield what happens to them."""
        tasks = iter(given)
        following = next(tasks, None)
        heard = time.monotonic()
        while self.busy or following:
            while self.idle and following:
                self._submit(following)
                yield Event(following.name, "starts")
                following = next(tasks, None)
            try:
                told = self.told.get(timeout=1)
            except queue.Empty:
                self._check(time.monotonic() - heard)
                continue
            heard = time.monotonic()
            key = told.get("done") or self._hear(told)
            if told.get("kind") == "cell" and told["key"] in self.busy:
                yield Event(self.busy[told["key"]][0].name, "cell")
            if key not in self.busy:
                continue
            task, facts, future = self.busy.pop(key)
            if event := self._outcome(task, facts, future):
                yield event
            else:
                tasks = chain([task], tasks)
                following = following or next(tasks)
            if facts["address"] in self.workers:
                self.idle.append(facts["address"])

    def _submit(self, task: Task) -> None:
        """Give a run to an idle worker."""
        facts = self.workers[self.idle.popleft()]
        kernels = sum(it["host"] == facts["host"] for it in self.workers.values())
        key = f"{self.topic}-{uuid.uuid4().hex}"
        arguments = task, self.topic, worker.environment(), kernels
        options = {"key": key, "workers": [facts["address"]], "pure": False}
        future = self.client.submit(worker.perform, *arguments, **options)
        self.busy[key] = task, facts, future
        future.add_done_callback(lambda _: self.told.put({"done": key}))

    def _hear(self, told: dict[str, Any]) -> str:
        """Note that a worker has come or gone; return the key of the run it lost."""
        if told.get("kind") == "worker":
            address = told["address"]
            if told["differs"] and not self.settings.allow_different:
                place = f"{address} on {told['host']}"
                self._reject(address, place, "; ".join(told["differs"]))
            elif address not in self.workers:
                self.workers[address] = told
                self.idle.append(address)
        elif told.get("action") == "remove-worker":
            address = told["worker"]
            self.rejected.discard(address)
            self.workers.pop(address, None)
            with suppress(ValueError):
                self.idle.remove(address)
            for key, (_, facts, _) in self.busy.items():
                if facts["address"] == address:
                    return key
        return ""

    def _reject(self, address: str, place: str, why: str) -> None:
        self.rejected.add(address)
        print(f"worker {place} is left out: {why}", flush=True)

    def _outcome(self, task: Task, facts: Facts, future: Future) -> Event | None:
        """Return how a run has ended; None if it has to be run again."""
        try:
            if future.status in ("finished", "error"):
                ended: Ended = future.result(timeout=SECONDS)
                kind = "failed" if ended.problem else "done"
                return Event(task.name, kind, ended.problem, ended, facts)
        except KilledWorker:  # told before the worker is told to be gone
            self.workers.pop(facts["address"], None)
        except (TimeoutError, CancelledError):
            pass  # its worker is gone with the result
        except Exception as problem:
            text = f"on worker {facts['address']}: {type(problem).__name__}: {problem}"
            return Event(task.name, "failed", text, worker=facts)
        self._check()
        self.client.cancel([future])
        self.lost[task.name] += 1
        if self.lost[task.name] <= self.settings.retries:
            return None
        return Event(task.name, "failed", self._loss(task, facts), worker=facts)

    def _loss(self, task: Task, facts: Facts) -> str:
        """Tell that a run's worker died, and how, if it was one of this machine."""
        end = time.monotonic() + SECONDS
        while not self.settings.address and time.monotonic() < end:
            if found := self.deaths.get(facts["pid"]):
                return f"{LOST}: it {found}"
            time.sleep(0.01)
        times = self.lost[task.name]
        place = f"{facts['address']} on {facts['host']}"
        return f"{LOST}: {place}" + (f", the last of {times}" if times > 1 else "")

    def _check(self, waited: float = 0.0) -> None:
        """Raise ConnectionError if no run can go on."""
        if self.client.status != "running":
            raise ConnectionError(
                "the connection to Dask's scheduler is lost; start it again, then this "
                "command"
            )
        if self.workers or self.busy:
            return
        if self.rejected:
            raise ConnectionError(
                "no worker of the cluster can be used; make them like this machine "
                "(kvt sweep --allow-different takes others, and marks their runs)"
            )
        if waited > PATIENCE and not self.settings.address:
            raise ConnectionError(f"no worker started within {PATIENCE:.0f} s")
