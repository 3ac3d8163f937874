"""Two commands at once: into one output, the second is rejected; a cache is shared."""

import signal
import subprocess

import pytest

from tests.faults.places import LIMIT, Place, until
from tests.report.sweeps import quick

pytestmark = [pytest.mark.faults, pytest.mark.long, pytest.mark.timeout(300)]


def rejected(running: "subprocess.Popen[str]") -> None:
    _, said = running.communicate(timeout=LIMIT)
    assert running.returncode == 2
    assert said.startswith("kvt: another kvt command is writing ")
    assert said.count("\n") == 1


def test_the_second_report_into_one_output_is_rejected(place: Place) -> None:
    log = place.hangs()
    first = place.report()
    until(log.exists)
    rejected(place.report())
    rejected(place.start("report", *place.words("notebooks/../reports")))
    place.tried = 2
    assert first.poll() is None
    place.keeps_the_old_report()
    first.terminate()
    first.communicate(timeout=LIMIT)
    assert not place.left()


def test_the_second_run_into_one_file_is_rejected(place: Place) -> None:
    log = place.hangs()
    first = place.start("run", "notebooks/03_hangs.ipynb", "-o", "out.ipynb")
    until(log.exists)
    rejected(place.start("run", "notebooks/01_tiny.ipynb", "-o", "out.ipynb"))
    # Another file in the same directory is no obstacle, and nor is a killed command.
    place.made("run", "notebooks/01_tiny.ipynb", "-o", "other.ipynb")
    first.kill()
    first.communicate()
    place.made("run", "notebooks/01_tiny.ipynb", "-o", "out.ipynb")
    assert not place.left()


def test_the_second_sweep_into_one_output_is_rejected(place: Place) -> None:
    quick(place.root)
    words = ["sweep", "01_quick.ipynb", "-p", "fails", "waits", "-o", "sweep"]
    first = place.start(*words)
    until((place.root / "log").exists)
    rejected(place.start(*words))
    first.send_signal(signal.SIGTERM)
    _, said = first.communicate(timeout=LIMIT)
    assert said == "kvt: interrupted; the same command goes on from here\n"
    assert not place.family()


def test_two_reports_share_a_cache(place: Place) -> None:
    outputs = ("a", "b")
    running = [place.start("report", *place.words(name)) for name in outputs]
    for each in running:
        _, said = each.communicate(timeout=LIMIT)
        assert (each.returncode, said) == (0, "")
    place.tried = len(outputs)
    assert place.files("a") == place.files("b")
    kept = {name.rpartition("-")[0] for name in place.files("cache")}
    assert kept == {"", "01_tiny"}
    assert len(place.files("cache")) == 2  # with its mark
