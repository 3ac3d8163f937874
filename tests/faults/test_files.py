"""Broken, odd and foreign files: right, or one line that names the file."""

import os
import random
import stat
import tempfile
from pathlib import Path

import pytest

from kvt.cli import main
from kvt.report import cache, notebooks
from kvt.report.cache import Cached
from tests.faults.places import LIMIT, Place
from tests.report.pages import code, markdown, written

pytestmark = [pytest.mark.faults, pytest.mark.long, pytest.mark.timeout(300)]

KEY = "a" * 64


def test_a_cache_entry_broken_anywhere_counts_as_missing(place: Place) -> None:
    notebook = notebooks.read(place.notebook("05_any", "1"))
    entry = Cached(notebook, {"logs/a": bytes(range(256))}, 1.0)
    where = place.root / "entries"
    cache.store(where, "05_any", KEY, entry)
    path = where / f"05_any-{KEY}"
    whole = path.read_bytes()
    chance = random.Random(0)
    place.tried = 200
    for _ in range(100):
        broken = bytearray(whole)
        broken[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        for content in (bytes(broken), whole[: chance.randrange(len(whole))]):
            path.write_bytes(content)
            assert cache.load(where, "05_any", KEY) is None
            assert not path.exists()
    path.write_bytes(whole)
    assert cache.load(where, "05_any", KEY) == entry


def test_a_broken_entry_and_a_stale_room_do_not_reach_the_report(place: Place) -> None:
    place.made()
    first = place.files()
    for path in (place.root / "cache").glob("0*"):
        path.write_bytes(path.read_bytes()[:-7])
    for stale in (place.root / ".kvt-reports", place.output / ".kvt-abc"):
        (stale / "new" / "notebooks").mkdir(parents=True)
    place.made()
    assert place.files() == first
    assert not place.left()


def test_a_notebook_that_failed_before_is_no_longer_kept(place: Place) -> None:
    for name in ("03_bad", "04_worse"):
        place.notebook(name, "1 / 0")
    for kept in (["03_bad.ipynb", "04_worse.ipynb"], ["04_worse.ipynb"]):
        running = place.report()
        _, said = running.communicate(timeout=LIMIT)
        assert "04_worse.ipynb stopped in cell [1], '1 / 0': ZeroDivisionError" in said
        assert sorted(it.name for it in (place.output / "failed").iterdir()) == kept
        place.notebook("03_bad", "'good'")


def test_modules_beside_a_notebook_are_part_of_its_run(place: Place) -> None:
    place.notebook("03_imports", "import helpers\nhelpers.VALUE")
    module = place.root / "notebooks" / "helpers.py"
    shown = []
    for value in ("'one'", "'two'"):
        module.write_text(f"VALUE = {value}\n")
        place.made()
        made = notebooks.read(place.output / "notebooks" / "03_imports.ipynb")
        shown.append(made.cells[-1].outputs[0].data["text/plain"])
    assert shown == ["'one'", "'two'"]


def test_jupyters_and_ipythons_files_of_the_user_change_no_page(place: Place) -> None:
    place.made()
    first = place.files()
    home = place.root / "home"
    base = home / ".local" / "share" / "jupyter" / "nbconvert" / "templates" / "base"
    profile = home / ".ipython" / "profile_default" / "startup"
    custom = home / ".jupyter" / "custom"
    for directory in (base, profile, custom):
        directory.mkdir(parents=True)
    (base / "display_priority.j2").write_text("garbage")
    (base / "conf.json").write_text("{")
    (custom / "custom.css").write_text("body { color: red }")
    (home / ".jupyter" / "jupyter_nbconvert_config.py").write_text("1 / 0")
    (home / ".jupyter" / "jupyter_config.json").write_text("{")
    (profile / "00.py").write_text("print('surprise')")
    place.own["HOME"] = str(home)
    place.made("report", *place.words(), "--force")
    assert place.files() == first


ODD = {
    "an unclosed bracket": (code("a = (1", "parameters"), "parameters cell is not"),
    "no value": (code("a: int", "parameters"), ""),
    "a magic": (code("%matplotlib inline\na = 1", "parameters"), ""),
    "a null": (code("a = 1\0", "parameters"), "parameters cell is not Python"),
    "a surrogate": (code("a = '\\ud800'", "parameters"), ""),
    "a skipped cell": (code("1", "skip-execution"), "delete the cell"),
    "an expected error": (code("1 / 0", "raises-exception"), "catch the exception"),
    "a missing module": (code("import nowhere"), "cell [1], 'import nowhere': Module"),
    "another language": (code("%%bash\necho $((1+1))"), ""),
    "an exit": (code("exit()"), ""),
    "input": (code("input('name?')"), "StdinNotImplementedError"),
    "an escape": (code("raise ValueError('\\x1b]0;title\\x07')"), "\\x1b]0;title\\x07"),
    "no cell": (markdown("nothing"), ""),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_notebook_is_right_or_told_in_a_line(
    name: str,
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cell, message = ODD[name]
    written(place.root / "odd name (1).ipynb", cell)
    monkeypatch.chdir(place.root)
    monkeypatch.setattr(tempfile, "tempdir", str(place.root / "tmp"))
    ended = main(["run", "odd name (1).ipynb", "-o", "out.ipynb"])
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert message in said
    assert ended == (2 if message else 0), said
    assert (place.root / "out.ipynb").exists() != bool(message)
    assert not place.left()


def test_an_output_that_is_no_file_is_rejected(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(place.root / "fifo")
    words = ["run", "notebooks/01_tiny.ipynb", "-o"]
    monkeypatch.chdir(place.root)
    for name in ("fifo", "/dev/null", "reports"):
        ended = main([*words, name])
        said = capsys.readouterr().err
        assert (ended, said.count("\n")) == (2, 1)
        assert f"{name} is not a file; name a file with -o" in said
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    (place.root / "link.ipynb").symlink_to("target.ipynb")
    place.made(*words, "link.ipynb")  # is written through, as by any other program
    assert (place.root / "target.ipynb").is_file()
    assert (place.root / "link.ipynb").is_symlink()
