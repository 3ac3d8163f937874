"""Several notebooks at once: what they leave, how they go, how they end."""

import io
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from kvt.report import notebooks
from kvt.report.build import build
from kvt.report.notebooks import ExecutionError
from kvt.report.parallel import Overview
from tests.report.pages import code, markdown, written

SECTIONS = Path(__file__).parents[1] / "fixtures" / "sections"
NAMES = ("01_line", "02_digits", "08_comparison")
KVT = "import sys; from kvt.cli import main; sys.exit(main())"
# Says where its kernel and what that has started are, and waits for the end.
HANGS = """
import os
import subprocess
import time
from pathlib import Path

child = subprocess.Popen(["sleep", "600"])
Path({mark!r}).write_text(f"{{os.getppid()}} {{os.getpid()}} {{child.pid}}")
time.sleep(600)
"""
# How many threads share a convolution's gradient decides in which order it is summed.
CONVOLUTION = """
import hashlib
import numpy as np
import kvt
with kvt.quiet():
    import tensorflow as tf
random = np.random.default_rng(0)
x = tf.constant(random.standard_normal((32, 28, 28, 8)), tf.float32)
w = tf.Variable(random.standard_normal((5, 5, 8, 16)), dtype=tf.float32)
@tf.function
def gradient():
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.nn.relu(tf.nn.conv2d(x, w, 1, "SAME")) ** 2)
    return tape.gradient(loss, w)
print(hashlib.sha256(gradient().numpy().data).hexdigest())
"""


class Clock:
    """Seconds that pass when told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def files(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The tiny sections in a directory of their own, beside an old report."""
    shutil.copytree(SECTIONS, tmp_path / "notebooks")
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "index.html").write_text("old")
    return tmp_path


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """The cache that a report on the tiny sections left, and that report."""
    place = tmp_path_factory.mktemp("first")
    shutil.copytree(SECTIONS, place / "notebooks")
    return place / "cache", report(place)


@pytest.fixture
def again(place: Path, first: tuple[Path, object]) -> Path:
    """The tiny sections with the cache of their first report."""
    shutil.copytree(first[0], place / "cache")
    return place


def report(place: Path, **options: object) -> dict[str, bytes]:
    """Everything that the report on the place's notebooks consists of."""
    output = place / "reports"
    settings = {"dataset": "digits", "parameters": {}, "cache": place / "cache"}
    build(place / "notebooks", output, **(settings | options))
    return files(output)


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """What was said of each notebook; that it took seconds counts as `ran`."""
    lines = [
        line for line in capsys.readouterr().out.splitlines() if ".ipynb: " in line
    ]
    said = dict(line.split(".ipynb: ") for line in lines)
    return {k: v if v == "from the cache" else "ran" for k, v in said.items()}


def test_results_are_the_same_bits_for_every_number_of_jobs(tmp_path: Path) -> None:
    output = tmp_path / "executed.ipynb"
    digests = set()
    for names in (["01_alone"], ["02_one", "03_other"]):
        shutil.rmtree(tmp_path / "notebooks", ignore_errors=True)
        (tmp_path / "notebooks").mkdir()
        for name in names:
            path = tmp_path / "notebooks" / f"{name}.ipynb"
            written(path, markdown("# Convolution"), code(CONVOLUTION))
        made = report(tmp_path, jobs=len(names), cache=None)
        for name in names:
            output.write_bytes(made[f"notebooks/{name}.ipynb"])
            digests.add(notebooks.read(output).cells[-1].outputs[0].text)
    (digest,) = digests
    assert len(digest) == 65


def test_report_is_the_same_bytes_for_every_number_of_jobs(
    place: Path, first: tuple[object, dict[str, bytes]]
) -> None:
    assert report(place, jobs=1) == first[1]
    assert "results/01_line.json" in first[1]


def test_unchanged_notebooks_are_not_run_again_and_leave_the_same_bytes(
    again: Path,
    first: tuple[object, dict[str, bytes]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert report(again) == first[1]
    assert told(capsys) == dict.fromkeys(NAMES, "from the cache")
    assert {"logs/02_digits/events", "results/01_line.json"} <= first[1].keys()


def test_force_runs_every_notebook_again(
    again: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report(again, force=True)
    assert told(capsys) == dict.fromkeys(NAMES, "ran")


def test_prose_is_rendered_anew_without_a_run(
    again: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = again / "notebooks" / "02_digits.ipynb"
    path.write_text(path.read_text().replace("Which digit is it?", "Which, again?"))
    made = report(again)
    assert told(capsys) == dict.fromkeys(NAMES, "from the cache")
    for name in ("index.html", "notebooks/02_digits.ipynb"):
        assert b"Which, again?" in made[name]
        assert b"Which digit is it?" not in made[name]


def test_changed_notebook_is_run_again_alone_with_the_comparison_after_it(
    again: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = again / "notebooks" / "02_digits.ipynb"
    path.write_text(path.read_text().replace("epochs + seed", "epochs - seed"))
    report(again)
    assert list(told(capsys).items()) == [
        ("01_line", "from the cache"),
        ("02_digits", "ran"),
        ("08_comparison", "ran"),
    ]


def test_parameter_runs_those_that_have_it(
    again: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report(again, parameters={"seed": 3})
    assert told(capsys) == {
        "01_line": "from the cache",
        "02_digits": "ran",
        "08_comparison": "ran",
    }
    report(again)
    assert told(capsys) == dict.fromkeys(NAMES, "from the cache")


def test_tag_that_changes_the_page_is_never_served_stale(
    again: Path, first: tuple[object, dict[str, bytes]]
) -> None:
    path = again / "notebooks" / "02_digits.ipynb"
    notebook = notebooks.read(path)
    notebook.cells[-1].metadata["tags"] = ["hide-input"]
    notebooks.write(notebook, path)
    code = b"mkdir("
    assert code in first[1]["index.html"]
    assert code not in report(again)["index.html"]


def test_damaged_entry_is_run_again(
    again: Path,
    first: tuple[object, dict[str, bytes]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    (entry,) = (again / "cache").glob("02_digits-*")
    entry.write_bytes(entry.read_bytes()[:-1])
    assert report(again) == first[1]
    assert told(capsys)["02_digits"] == "ran"
    report(again)
    assert told(capsys)["02_digits"] == "from the cache"


def test_cache_that_cannot_be_written_does_not_keep_the_report(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "cache").write_text("no directory")
    assert "index.html" in report(place)
    said = capsys.readouterr().out
    assert "02_digits.ipynb is not kept for the next time: " in said


def test_what_the_report_refuses_is_not_kept(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noisy = code("import sys\nprint('a warning', file=sys.stderr)")
    written(place / "notebooks" / "03_noisy.ipynb", markdown("# Noisy"), noisy)
    for _ in range(2):
        with pytest.raises(ValueError, match="stderr: a warning"):
            report(place)
        assert told(capsys)["03_noisy"] == "ran"
    assert (place / "reports" / "index.html").read_text() == "old"


def test_source_changed_during_a_run_keeps_nothing(place: Path) -> None:
    # The cell stands for someone who saves a module while the notebook runs.
    lock = place / "requirements.lock"
    changes = code(f"from pathlib import Path\nPath({str(lock)!r}).write_text('new')")
    written(place / "notebooks" / "03_late.ipynb", markdown("# Late"), changes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kvt.report.cache.LOCK", lock)
        report(place, jobs=1)
    assert not list((place / "cache").glob("03_late-*"))


def test_failed_notebook_is_named_while_the_others_end_and_are_kept(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("00_bad", "1 / 0"), ("03_worse", "int('x')")):
        path = place / "notebooks" / f"{name}.ipynb"
        written(path, markdown("# Bad"), code(f"# it fails\n{value}"))
    with pytest.raises(ExecutionError) as failure:
        report(place)
    for part in ("00_bad.ipynb stopped in cell [1]", "ZeroDivisionError", "03_worse"):
        assert part in str(failure.value)
    said = capsys.readouterr().out
    assert "00_bad.ipynb: failed after " in said
    assert "08_comparison" not in said
    assert sorted(files(place / "reports")) == [
        "failed/00_bad.ipynb",
        "failed/03_worse.ipynb",
        "index.html",
    ]
    assert (place / "reports" / "index.html").read_text() == "old"
    for name in ("00_bad", "03_worse"):
        (place / "notebooks" / f"{name}.ipynb").unlink()
    assert not [name for name in report(place) if name.startswith("failed")]
    assert told(capsys) == {
        "01_line": "from the cache",
        "02_digits": "from the cache",
        "08_comparison": "ran",
    }


def test_lost_worker_fails_its_notebook_alone(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kills = code("import os, signal\nos.kill(os.getppid(), signal.SIGKILL)")
    written(place / "notebooks" / "00_kills.ipynb", markdown("# Kills"), kills)
    with pytest.raises(ExecutionError, match=r"00_kills\.ipynb lost its worker .*-9"):
        report(place, jobs=1)
    assert told(capsys).keys() == {"00_kills", "01_line", "02_digits"}


@pytest.fixture
def hanging(place: Path) -> Iterator[tuple[Path, "subprocess.Popen[str]", list[int]]]:
    """`kvt report` while its notebooks hang, and the processes that it has started."""
    marks = [place / "a", place / "b"]
    for number, mark in enumerate(marks):
        path = place / "notebooks" / f"0{number + 3}_hangs.ipynb"
        written(path, markdown("# Hangs"), code(HANGS.format(mark=str(mark))))
    words = ["report", "--dataset", "digits", "--jobs", "4"]
    for option, name in (("notebooks",) * 2, ("output", "reports"), ("cache",) * 2):
        words += [f"--{option}", str(place / name)]
    running = subprocess.Popen(
        [sys.executable, "-c", KVT, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    while not all(mark.exists() and mark.read_text() for mark in marks):
        assert running.poll() is None, running.communicate()
        time.sleep(0.05)
    yield place, running, [int(x) for mark in marks for x in mark.read_text().split()]
    running.kill()
    running.communicate()


def alive(process: int) -> bool:
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_interrupt_ends_every_kernel_and_leaves_the_old_report(
    hanging: tuple[Path, "subprocess.Popen[str]", list[int]],
) -> None:
    place, running, processes = hanging
    assert all(map(alive, processes))
    os.killpg(running.pid, signal.SIGINT)
    _, said = running.communicate()
    assert (running.returncode, said) == (
        130,
        "kvt: interrupted; nothing was replaced\n",
    )
    assert not any(map(alive, processes))
    assert files(place / "reports") == {"index.html": b"old"}
    assert [path.name for path in (place / "reports").iterdir()] == ["index.html"]


def test_kernels_end_with_a_report_that_is_killed(
    hanging: tuple[Path, "subprocess.Popen[str]", list[int]],
) -> None:
    place, running, processes = hanging
    running.kill()
    running.wait()
    while any(map(alive, processes)):  # or the test's time is over
        time.sleep(0.05)
    assert (place / "reports" / "index.html").read_text() == "old"


def test_overview_says_of_each_notebook_what_it_is_doing() -> None:
    clock, terminal = Clock(), Terminal()
    cells = {"01_line.ipynb": 12, "02_digits.ipynb": 3, "08_comparison.ipynb": 4}
    overview = Overview(cells, stream=terminal, clock=clock)
    overview.starts("01_line.ipynb")
    clock.now = 1.25
    overview.cell("01_line.ipynb")
    overview.cell("01_line.ipynb")
    overview.ends("02_digits.ipynb", "from the cache")
    drawn = terminal.getvalue().split("\x1b[3A")[-1]
    assert drawn.replace("\x1b[K", "").replace("\r", "").splitlines() == [
        "01_line.ipynb        cell 2 of 12        1.2 s",
        "02_digits.ipynb      from the cache",
        "08_comparison.ipynb  waits",
    ]
    clock.now = 61.5
    overview.ends("01_line.ipynb", "done")
    overview.starts("08_comparison.ipynb")
    clock.now = 65.5
    overview.ends("08_comparison.ipynb", "failed")
    drawn = terminal.getvalue().split("\x1b[3A")[-1]
    assert drawn.replace("\x1b[K", "").replace("\r", "").splitlines() == [
        "01_line.ipynb        done               61.5 s",
        "02_digits.ipynb      from the cache",
        "08_comparison.ipynb  failed              4.0 s",
    ]


def test_overview_redraws_in_place_and_fits_the_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("LINES", "4")
    terminal = Terminal()
    cells = {f"{number:02}_notebook.ipynb": 5 for number in range(9)}
    overview = Overview(cells, stream=terminal, clock=Clock())
    overview.draw()
    first = terminal.getvalue()
    overview.draw()
    assert terminal.getvalue() == f"{first}\x1b[3A{first}"
    assert first.count("\n") == 3
    assert max(map(len, first.replace("\r\x1b[K", "").splitlines())) == 19


def test_where_no_terminal_watches_each_notebook_gets_one_plain_line() -> None:
    clock, stream = Clock(), io.StringIO()
    cells = {"01_line.ipynb": 12, "02_digits.ipynb": 3, "03_bad.ipynb": 2}
    overview = Overview(cells, stream=stream, clock=clock)
    for name in ("01_line.ipynb", "03_bad.ipynb"):
        overview.starts(name)
        overview.cell(name)
    overview.draw()
    clock.now = 2.0
    assert overview.ends("01_line.ipynb", "done") == 2.0
    overview.ends("02_digits.ipynb", "from the cache")
    overview.ends("03_bad.ipynb", "failed")
    assert stream.getvalue().splitlines() == [
        "01_line.ipynb: 2.0 s",
        "02_digits.ipynb: from the cache",
        "03_bad.ipynb: failed after 2.0 s",
    ]


def test_longest_notebook_of_the_last_run_begins_first(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = {"01_line": 1.0, "02_digits": 2.0}
    monkeypatch.setattr("kvt.report.cache.seconds", lambda _, name: seconds.get(name))
    written(place / "notebooks" / "03_new.ipynb", markdown("# New"), code("1"))
    report(place, jobs=1)
    assert list(told(capsys)) == ["03_new", "02_digits", "01_line", "08_comparison"]
