"""Full and read-only disks: a line with file and fix, and the old report stays."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.places import LIMIT, OLDER, Place

pytestmark = [pytest.mark.faults, pytest.mark.long, pytest.mark.timeout(300)]


@pytest.fixture
def mount() -> Iterator[Callable[..., Path]]:
    """Mount a small file system; skip where that is forbidden."""
    mounted = []

    def mount(path: Path, options: str) -> Path:
        path.mkdir(exist_ok=True)
        words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)]
        if subprocess.run(words, capture_output=True, check=False).returncode:
            pytest.skip("no file system may be mounted here")
        mounted.append(path)
        return path

    yield mount
    for path in mounted:
        subprocess.run(["umount", "-l", str(path)], check=True)


def told(running: "subprocess.Popen[str]", *parts: str) -> None:
    """Assert that a command fails with one line that has these parts."""
    _, said = running.communicate(timeout=LIMIT)
    assert running.returncode == 2, said
    assert "Traceback" not in said
    for part in parts:
        assert part in said, said


def test_a_full_disk_keeps_the_old_report(
    place: Place, mount: Callable[..., Path]
) -> None:
    place.made("report", *place.words("warm"))  # later reports need no runs
    sizes = (16, 96, 160, 256)
    place.tried = len(sizes)
    ended = set()
    for size in sizes:
        disk = mount(place.root / f"disk{size}", f"size={size}k")
        (disk / "index.html").write_bytes(OLDER)
        running = place.start("report", *place.words(disk.name))
        _, said = running.communicate(timeout=LIMIT)
        ended.add(running.returncode)
        if running.returncode:
            assert "No space left on device; free some space" in said
            assert f"kvt: {disk}" in said
            assert [it.name for it in disk.iterdir()] == ["index.html"]
            assert (disk / "index.html").read_bytes() == OLDER
    assert 2 in ended


def test_a_file_that_may_not_be_so_large(place: Place) -> None:
    place.made("report", *place.words("warm"))
    running = place.start(
        "report",
        *place.words(),
        before=["prlimit", "--fsize=20000"],
    )
    told(running, "File too large; allow larger files", str(place.root))
    place.keeps_the_old_report()
    assert not place.left()


def test_a_full_directory_for_temporary_files(
    place: Place, mount: Callable[..., Path]
) -> None:
    mount(place.root / "tmp", "size=4k")
    (place.root / "out.ipynb").write_text("old")
    running = place.start("run", "notebooks/01_tiny.ipynb", "-o", "out.ipynb")
    told(running, "No space left on device; free some space", "/tmp/kvt-")
    assert (place.root / "out.ipynb").read_text() == "old"


def test_a_disk_that_is_read_only(place: Place, mount: Callable[..., Path]) -> None:
    disk = mount(place.root / "disk", "ro,size=1m")
    running = place.start("report", *place.words("disk/new"))
    told(running, "Read-only file system; name a place that can be written to", "disk")
    running = place.start("run", "notebooks/01_tiny.ipynb", "-o", "disk/x.ipynb")
    told(running, "Read-only file system; name a place", str(disk.name))
    running = place.start("sweep", "notebooks/01_tiny.ipynb", "-o", "disk/sweep")
    told(running, "has no parameter results_path")
    place.tried = 3


def test_a_cache_that_cannot_be_written_does_not_stop_a_report(
    place: Place, mount: Callable[..., Path]
) -> None:
    mount(place.root / "cache", "ro,size=1m")
    running = place.report()
    said, problem = running.communicate(timeout=LIMIT)
    assert (running.returncode, problem) == (0, "")
    assert "01_tiny.ipynb is not cached: " in said
    assert not place.left()


@pytest.mark.parametrize(
    "limit", [40, *(pytest.param(each, marks=pytest.mark.wide) for each in (12, 53))]
)
def test_too_few_open_files_are_more_where_that_is_allowed(
    limit: int, place: Place
) -> None:
    running = place.report(before=["prlimit", f"--nofile={limit}:4096"])
    assert running.communicate(timeout=LIMIT)[1] == ""
    assert running.returncode == 0


@pytest.mark.parametrize("limit", [12, 255])
def test_too_few_open_files_are_told_first(limit: int, place: Place) -> None:
    few = ["prlimit", f"--nofile={limit}:{limit}"]
    for words in (["report", *place.words()], ["run", "notebooks/01_tiny.ipynb"]):
        running = place.start(*words, before=few)
        told(running, f"{limit} open files are allowed, 256 are needed; allow more")
    place.keeps_the_old_report()
    place.tried = 2


def test_a_file_system_of_its_own_is_no_obstacle(
    place: Place, mount: Callable[..., Path]
) -> None:
    disk = mount(place.root / "disk", "size=9m")
    for _ in range(2):
        place.made("report", *place.words("disk"))
    assert (disk / "index.html").exists()
    assert not [*disk.glob(".*")]
