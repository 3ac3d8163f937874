"""Runs on a cluster: a real scheduler and real workers, each a process of its own."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from kvt.report import cluster
from tests.faults.places import KVT, LIMIT, until
from tests.report.sweeps import quick
from tests.report.test_run import SECTIONS, alive, report
from tests.report.test_sweep import swept, table, times

pytestmark = pytest.mark.long

KVT_ROOT = Path(cluster.__file__).parents[2]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    quick(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def scheduler(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Path, list["subprocess.Popen[bytes]"]]]:
    """A scheduler's file and its three workers; the last has another kvt."""
    place = tmp_path_factory.mktemp("cluster")
    shutil.copytree(KVT_ROOT / "kvt", place / "other" / "kvt")
    shutil.copy(KVT_ROOT / "requirements.lock", place / "other")
    with (place / "other" / "kvt" / "training" / "loop.py").open("a") as file:
        file.write("# another line\n")
    file = place / "scheduler.json"
    options = ["--scheduler-file", str(file), "--host", "127.0.0.1", "--no-dashboard"]

    def start(root: Path, *words: str) -> "subprocess.Popen[bytes]":
        paths = os.pathsep.join([str(root), *sys.path])
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "dask", *words, *options],
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": paths},
            cwd=place,
        )

    started = [start(KVT_ROOT, "scheduler", "--port", "0")]
    try:
        until(file.exists)
        for root in (KVT_ROOT, KVT_ROOT, place / "other"):
            started.append(start(root, "worker", "--nthreads", "1", "--no-nanny"))
        yield file, started[1:]
    finally:
        for process in reversed(started):
            process.kill()
            process.wait(LIMIT)


def test_differing_worker_is_left_out_and_a_lost_one_replaced(
    place: Path,
    scheduler: tuple[Path, list["subprocess.Popen[bytes]"]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    file, workers = scheduler
    runs = [{"learning_rate": 0.1 * number} for number in (1, 2, 3)]
    where = json.loads(file.read_text())["address"]
    assert swept(place, [*runs, {"fails": "kills once"}], cluster=where)
    said = capsys.readouterr().out
    assert said.count("is left out: kvt is ") == 1
    assert times(place)[0.1, 0] == 3  # the first run, the lost one, and it again
    ids = {int(line.split()[2]) for line in (place / "log").read_text().splitlines()}
    assert ids <= {worker.pid for worker in workers[:2]}
    assert sorted(worker.poll() or 0 for worker in workers) == [-9, 0, 0]
    assert not any(row["worker_differs"] for row in table(place))
    # The other worker is taken if the user says so, and its runs are marked.
    more = [{"seed": seed} for seed in range(1, 5)]
    assert swept(place, more, cluster=str(file), allow_different=True)
    differs = {row["worker_differs"][:6] for row in table(place)}
    assert differs == {"", "kvt is"}
    assert capsys.readouterr().out.count("is left out") == 0


def test_runs_end_when_their_client_is_killed_and_workers_stay(
    place: Path, scheduler: tuple[Path, list["subprocess.Popen[bytes]"]]
) -> None:
    file, workers = scheduler
    words = ["sweep", str(place / "01_quick.ipynb"), "-p", "fails", "waits"]
    words += ["--cluster", str(file), "-o", str(place / "out")]
    running = subprocess.Popen(
        [sys.executable, "-c", KVT, *words],
        stdout=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    log = place / "log"
    try:
        until(lambda: log.exists() or running.poll() is not None)
        at = int(log.read_text().split()[2])
        kernels = psutil.Process(at).children(recursive=True)
        assert kernels
    finally:
        os.kill(running.pid, signal.SIGKILL)
        running.wait(LIMIT)
    until(lambda: not any(alive(it.pid) for it in kernels))
    assert alive(at)
    assert at in {worker.pid for worker in workers}


def test_report_on_a_cluster_has_the_same_bytes_as_here(
    tmp_path: Path, scheduler: tuple[Path, list["subprocess.Popen[bytes]"]]
) -> None:
    shutil.copytree(SECTIONS, tmp_path / "notebooks")
    here = report(tmp_path, jobs=2)
    there = report(tmp_path, cluster=str(scheduler[0]), force=True)
    assert there == here
    assert "results/01_line.json" in there


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("tcp://127.0.0.1:1", "Connection refused"),
        ("127.0.0.1:1", "Connection refused"),
        ("nowhere.json", "neither a file nor an address"),
        ("tcp://127.0.0.1", "neither a file nor an address"),
        ("tcp://127.0.0.1:99999", "Port out of range"),
    ],
)
def test_scheduler_that_does_not_answer_is_told(
    address: str, why: str, place: Path
) -> None:
    with pytest.raises(ConnectionError, match=f"no Dask scheduler answers at .*{why}"):
        swept(place, [{"seed": 1}], cluster=address)
    assert not (place / "log").exists()
