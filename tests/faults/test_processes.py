"""Kills: a signal to any process, at any time, leaves no process and the old report."""

import os
import signal
import subprocess
import time
from typing import Any

import psutil
import pytest

from kvt.report.guard import SIGNALS
from tests.faults.places import LIMIT, SECONDS, Place, until

pytestmark = [pytest.mark.faults, pytest.mark.long, pytest.mark.timeout(300)]

INTERRUPTED = "kvt: interrupted; nothing was replaced\n"
WIDE = pytest.mark.wide
UNSHARE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


def hanging(place: Place, **options: Any) -> tuple[Any, list[psutil.Process]]:
    """Start a report; return it, and worker, kernel, child and daemon of a notebook."""
    log = place.hangs()
    running = place.report(**options)
    until(lambda: running.poll() is not None or (log.exists() and log.read_text()))
    assert running.poll() is None, running.communicate()
    return running, [psutil.Process(int(it)) for it in log.read_text().split()]


# `kvt run`, which starts sooner, gets each of them.
REPEATED = [
    pytest.param(each, marks=[WIDE] * (each not in (signal.SIGINT, signal.SIGTERM)))
    for each in SIGNALS
]


@pytest.mark.parametrize("number", REPEATED)
def test_a_signal_even_twice_ends_everything_and_keeps_the_old_report(
    number: int, place: Place
) -> None:
    # As in a script's background job, where both are ignored.
    running, _ = hanging(place, ignored=[signal.SIGINT, signal.SIGQUIT])
    for _ in range(2):
        os.killpg(running.pid, number)
        time.sleep(0.005)
    _, said = running.communicate(timeout=LIMIT)
    assert (running.returncode, said) == (128 + number, INTERRUPTED)
    assert not place.family()
    place.keeps_the_old_report()
    assert not place.left()


def test_nohup_survives_the_end_of_its_terminal(place: Place) -> None:
    running, _ = hanging(place, ignored=[signal.SIGHUP])
    os.killpg(running.pid, signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        running.wait(1)
    os.kill(running.pid, signal.SIGTERM)
    assert running.wait(LIMIT) == 128 + signal.SIGTERM


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGKILL, marks=WIDE)]
)
def test_a_service_that_is_stopped_leaves_nothing(number: int, place: Place) -> None:
    # systemd and containers signal every process at once, the guards too.
    hanging(place)
    for process in place.family():
        process.send_signal(number)
    until(lambda: not place.family())
    place.keeps_the_old_report()


@pytest.mark.parametrize("stuck", [False, True], ids=["running", "stuck in C"])
def test_a_killed_client_takes_everything_along(stuck: bool, place: Place) -> None:
    running, processes = hanging(place)
    if stuck:
        for process in processes:
            process.suspend()  # neither runs any code of Python's
    running.kill()
    running.communicate()
    killed = time.monotonic()
    until(lambda: not place.family())
    assert time.monotonic() - killed < SECONDS
    place.keeps_the_old_report()
    assert not [*(place.root / "tmp").iterdir()]  # the guards have cleaned up
    if not stuck:
        (place.root / "notebooks" / "03_hangs.ipynb").unlink()
        place.made()
        assert not place.left()


@pytest.mark.parametrize("which", ["worker", "kernel"])
def test_a_killed_part_is_named_and_the_others_finish(which: str, place: Place) -> None:
    running, processes = hanging(place)
    processes[which == "kernel"].kill()
    said, problem = running.communicate(timeout=LIMIT)
    why = {"worker": "lost its worker process: it was killed by signal 9"}
    assert why.get(which, "the kernel died") in problem
    assert problem.startswith("kvt: 03_hangs.ipynb ")
    assert "01_tiny.ipynb: " in said
    assert running.returncode == 2
    assert not place.family()
    assert (place.output / "index.html").exists()
    assert not place.left()


@pytest.mark.parametrize(
    "delay", [0.3, 1.0, *(pytest.param(each, marks=WIDE) for each in (0.05, 0.6, 2.0))]
)
def test_a_signal_at_the_start_ends_the_command(delay: float, place: Place) -> None:
    place.hangs()
    running = place.report()
    time.sleep(delay)
    os.killpg(running.pid, signal.SIGINT)
    _, said = running.communicate(timeout=LIMIT)
    # Before any line of kvt's, Python itself is what is interrupted.
    assert (running.returncode, said) == (130, INTERRUPTED) or (
        delay < 0.5 and running.returncode in (-signal.SIGINT, 1, 130)
    ), said
    place.keeps_the_old_report()
    assert not place.left()


def test_as_the_first_process_of_a_container(place: Place) -> None:
    try:
        subprocess.run([*UNSHARE, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("unshare may not make a container here")
    log = place.hangs(then="print('ready')")
    running = place.report(before=UNSHARE)
    until(lambda: running.poll() is not None or (log.exists() and log.read_text()))
    (first,) = psutil.Process(running.pid).children()
    assert len(place.family()) >= 5
    first.terminate()
    _, said = running.communicate(timeout=LIMIT)
    assert (running.returncode, said) == (128 + signal.SIGTERM, INTERRUPTED)
    assert not place.family()
    place.keeps_the_old_report()
    assert not place.left()


@pytest.mark.parametrize("number", [0, *SIGNALS, signal.SIGKILL], ids=str)
def test_kvt_run_leaves_nothing(number: int, place: Place) -> None:
    log = place.hangs(then="" if number else "raise SystemExit")
    (place.root / "out.ipynb").write_text("old")
    running = place.start("run", "notebooks/03_hangs.ipynb", "-o", "out.ipynb")
    until(lambda: running.poll() is not None or (log.exists() and log.read_text()))
    if number:
        running.send_signal(number)
    running.communicate(timeout=LIMIT)
    assert running.returncode in (2, 128 + number, -signal.SIGKILL)
    until(lambda: not place.family())
    assert (place.root / "out.ipynb").read_text() == "old"
    assert not [*(place.root / "tmp").iterdir()]
    if number == signal.SIGKILL:  # the next run deletes what is left
        place.made("run", "notebooks/01_tiny.ipynb", "-o", "out.ipynb")
    assert not place.left()
