"""A cluster whose scheduler is restarted: the sweep goes on, no finished run again."""

import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.places import LIMIT, MARK, Place, until
from tests.report.sweeps import quick

pytestmark = [pytest.mark.faults, pytest.mark.long, pytest.mark.timeout(300)]

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def dask(place: Place) -> Iterator[Start]:
    """Start a process of Dask's; all of them are killed at the end."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*words: object) -> "subprocess.Popen[bytes]":
        own = {"PYTHONPATH": os.pathsep.join(sys.path), MARK: place.mark}
        command = [sys.executable, "-P", "-m", "dask", *map(str, words)]
        quiet = subprocess.DEVNULL
        where = {"cwd": place.root, "env": os.environ | own}
        started.append(
            subprocess.Popen(command, stdout=quiet, stderr=quiet, **where)  # type: ignore
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait(LIMIT)


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def times(log: Path) -> Counter[str]:
    return Counter(line.split()[0] for line in log.read_text().splitlines())


def test_a_sweep_goes_on_after_a_restart_of_the_scheduler(
    place: Place, dask: Start
) -> None:
    quick(place.root)
    table = "learning_rate,fails\n0.1,\n0.2,waits\n0.3,\n"
    (place.root / "grid.csv").write_text(table)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address, log = f"tcp://127.0.0.1:{port}", place.root / "log"
    words = ["sweep", "01_quick.ipynb", "--file", "grid.csv", "-o", "out"]
    ended = []
    for final in (False, True):
        scheduler = dask("scheduler", "--host", "127.0.0.1", "--port", port)
        until(lambda: listens(port))
        dask("worker", address, "--nthreads", 1, "--no-nanny", "--no-dashboard")
        running = place.start(*words, "--cluster", address)
        if not final:
            until(lambda: log.exists() and times(log)["0.2"])
            scheduler.kill()
            scheduler.wait(LIMIT)
        ended.append((*running.communicate(timeout=LIMIT), running.returncode))
        Path(f"{log}.go").touch()
    (_, said, code), (_, nothing, again) = ended
    assert (code, again, nothing) == (2, 0, ""), ended
    assert said == (
        "kvt: the connection to Dask's scheduler is lost; start it again, then this "
        "command\n"
    )
    assert times(log) == {"0.1": 1, "0.2": 2, "0.3": 1}
