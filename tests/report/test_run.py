"""A report's notebooks: run at once, taken from the cache, failed, interrupted."""

import errno
import math
import shutil
from pathlib import Path
from unittest.mock import Mock

import psutil
import pytest

from kvt.report import cache, notebooks
from kvt.report.build import build
from kvt.report.notebooks import ExecutionError
from tests.report.pages import code, markdown, written

pytestmark = pytest.mark.long

SECTIONS = Path(__file__).parents[1] / "fixtures" / "sections"
OLDER = '<meta name="kvt-pages" content="index.html">'
NAMES = ("01_line", "02_digits", "08_comparison")
# The number of threads decides the order in which a convolution's gradient is summed.
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


def files(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with the tiny notebooks and an old report."""
    shutil.copytree(SECTIONS, tmp_path / "notebooks")
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "index.html").write_text(OLDER)
    return tmp_path


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """The cache and the files of a report on the tiny notebooks."""
    place = tmp_path_factory.mktemp("first")
    shutil.copytree(SECTIONS, place / "notebooks")
    return place / "cache", report(place)


@pytest.fixture
def again(place: Path, first: tuple[Path, object]) -> Path:
    """A directory with the tiny notebooks and the cache of their first report."""
    shutil.copytree(first[0], place / "cache")
    return place


def report(place: Path, **options: object) -> dict[str, bytes]:
    """Make the report on the place's notebooks; return its files."""
    output = place / "reports"
    settings = {"dataset": "digits", "parameters": {}, "cache": place / "cache"}
    build(place / "notebooks", output, **(settings | options))
    return files(output)


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Return each notebook's last state: "from the cache", or "ran" in some seconds."""
    lines = [
        line for line in capsys.readouterr().out.splitlines() if ".ipynb: " in line
    ]
    said = dict(line.split(".ipynb: ") for line in lines)
    return {k: v if v == "from the cache" else "ran" for k, v in said.items()}


def test_results_are_the_same_bits_for_any_number_of_jobs(tmp_path: Path) -> None:
    output = tmp_path / "executed.ipynb"
    digests = set()
    for names in (["01_alone"], ["02_one", "03_other"]):
        shutil.rmtree(tmp_path / "notebooks", ignore_errors=True)
        (tmp_path / "notebooks").mkdir()
        for name in names:
            path = tmp_path / "notebooks" / f"{name}.ipynb"
            written(path, markdown("# Convolution"), code(CONVOLUTION))
        made = report(tmp_path, jobs=len(names), force=True)
        for name in names:
            output.write_bytes(made[f"notebooks/{name}.ipynb"])
            digests.add(notebooks.read(output).cells[-1].outputs[0].text)
    (digest,) = digests
    assert len(digest) == 65


def test_report_is_the_same_bytes_for_any_number_of_jobs(
    place: Path, first: tuple[object, dict[str, bytes]]
) -> None:
    assert report(place, jobs=1) == first[1]
    assert "results/01_line.json" in first[1]


def test_unchanged_notebooks_come_from_the_cache_with_the_same_bytes(
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


def test_changed_prose_is_rendered_without_a_run(
    again: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = again / "notebooks" / "02_digits.ipynb"
    path.write_text(path.read_text().replace("Which digit is it?", "Which, again?"))
    made = report(again)
    assert told(capsys) == dict.fromkeys(NAMES, "from the cache")
    for name in ("index.html", "notebooks/02_digits.ipynb"):
        assert b"Which, again?" in made[name]
        assert b"Which digit is it?" not in made[name]


def test_changed_notebook_runs_again_and_so_does_the_comparison(
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


def test_parameter_runs_the_notebooks_that_have_it(
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


def test_changed_tag_changes_the_page(
    again: Path, first: tuple[object, dict[str, bytes]]
) -> None:
    path = again / "notebooks" / "02_digits.ipynb"
    notebook = notebooks.read(path)
    notebook.cells[-1].metadata["tags"] = ["hide-input"]
    notebooks.write(notebook, path)
    assert report(again)["index.html"] != first[1]["index.html"]


def test_notebook_with_a_damaged_cache_entry_runs_again(
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


def test_cache_that_cannot_be_written_does_not_stop_the_report(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(cache, "store", Mock(side_effect=full))
    assert "index.html" in report(place)
    said = capsys.readouterr().out
    assert "02_digits.ipynb is not cached: " in said


def test_run_that_the_report_rejects_is_not_cached(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noisy = code("import sys\nprint('a warning', file=sys.stderr)")
    written(place / "notebooks" / "03_noisy.ipynb", markdown("# Noisy"), noisy)
    for _ in range(2):
        with pytest.raises(ValueError, match="stderr: a warning"):
            report(place)
        assert told(capsys)["03_noisy"] == "ran"
    assert (place / "reports" / "index.html").read_text() == OLDER


def test_run_whose_inputs_changed_meanwhile_is_not_cached(place: Path) -> None:
    # The cell does what someone does who saves a module while the notebook runs.
    lock = place / "requirements.lock"
    changes = code(f"from pathlib import Path\nPath({str(lock)!r}).write_text('new')")
    written(place / "notebooks" / "03_late.ipynb", markdown("# Late"), changes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kvt.report.cache.LOCK", lock)
        report(place, jobs=1)
    assert not list((place / "cache").glob("03_late-*"))


def test_failed_notebook_is_named_and_the_others_are_cached(
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
    assert (place / "reports" / "index.html").read_text() == OLDER
    for name in ("00_bad", "03_worse"):
        (place / "notebooks" / f"{name}.ipynb").unlink()
    assert not [name for name in report(place) if name.startswith("failed")]
    assert told(capsys) == {
        "01_line": "from the cache",
        "02_digits": "from the cache",
        "08_comparison": "ran",
    }


def alive(process: int) -> bool:
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_longest_notebook_of_the_last_run_starts_first(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = {"01_line": 1.0, "02_digits": 2.0, "03_new": math.inf}
    seconds["08_comparison"] = 0.0
    monkeypatch.setattr("kvt.report.cache.seconds", lambda _, name: seconds[name])
    written(place / "notebooks" / "03_new.ipynb", markdown("# New"), code("1"))
    report(place, jobs=1)
    assert list(told(capsys)) == ["03_new", "02_digits", "01_line", "08_comparison"]
