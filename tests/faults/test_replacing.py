"""The report is replaced whole: whatever stops it, at any step, old or new is there."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.places import LIMIT, Place

pytestmark = [pytest.mark.faults, pytest.mark.long, pytest.mark.timeout(300)]

# Makes a report of stubs again and again, each time in a process of its own in which
# another step of the file system fails, or is the last one. Prints what was tried.
STEPS = r'''
import json, os, shutil, signal, sys
from pathlib import Path
from types import SimpleNamespace
from kvt.report import build

place, kind, foreign = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
output = place / "reports"
STEPS = {"os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir", "ctypes.dlsym"}
PAGES = [dict.fromkeys(("index.html", name), name) for name in ("gone.html", "b.html")]

def pages(version):
    own = PAGES[version]
    mark = f'<meta name="kvt-pages" content="{" ".join(own)}">'
    return {name: mark + text for name, text in own.items()}

def files():
    every = {p.relative_to(output).as_posix(): p.read_text()
             for p in output.rglob("*") if p.is_file()}
    return {name: it for name, it in every.items() if not name.startswith(".kvt-")}

# What takes long, and has nothing to do with the steps.
chapters = build.read(place / "notebooks")
build.read = lambda _: chapters
build.psutil.process_iter = lambda _: []

def make(version):
    def run(chapters, stage, *_):
        for part in build.PARTS:
            (stage.new / part / "x").write_text(str(version))
        return chapters
    build.run = run
    build.gather = lambda *_: None
    build.divide = lambda *_, **__: [SimpleNamespace(file=it) for it in PAGES[version]]
    build.pages = lambda *_, **__: pages(version)
    build.build(place / "notebooks", output, dataset="digits", parameters={},
                cache=place / "cache")

def child(version, at):
    """Make a report whose step `at` goes wrong; return how the process ended."""
    if not (pid := os.fork()):
        sys.stdout = open(os.devnull, "w")
        count = 0
        def audit(event, arguments):
            nonlocal count
            if event in STEPS:
                count += 1
                if count == at and kind == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                if count == at and event != "ctypes.dlsym":
                    raise OSError(5, "Input/output error", str(arguments[0]))
        sys.addaudithook(audit)
        code = 0
        try:
            make(version)
        except OSError:
            code = 1
        if at == 0:
            Path(place / "count").write_text(str(count))
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

if foreign == "directory":
    (output / "site").mkdir()
    (output / "site" / "page.html").write_text("foreign")
assert child(0, 0) == 0
old = files()
shutil.copytree(output, place / "saved")
assert child(1, 0) == 0
states = [old, files()]
steps = int((place / "count").read_text())
tried = mixed = 0
for at in range(1, steps + 1):
    shutil.rmtree(output)
    shutil.copytree(place / "saved", output)
    for stale in place.glob(".kvt-*"):
        shutil.rmtree(stale)
    ended = child(1, at)
    found = files()
    tried += 1
    if found not in states:
        mixed += 1
        print(f"step {at}, ended {ended}: {sorted(found)}", file=sys.stderr)
    if kind == "kill" and at % 3 == 0:
        child(1, at // 2)  # the next report is killed, too
    if kind == "kill" and at % 3 != 1 or at == steps:
        assert child(1, 0) == 0  # finds nothing in its way
        assert files() == states[1]
rooms = [str(p) for p in (*place.glob(".kvt-*"), *output.glob(".kvt-*"))]
print(json.dumps({"tried": tried, "mixed": mixed, "rooms": rooms}))
'''


def steps(place: Place, kind: str, foreign: str) -> dict[str, object]:
    ended = subprocess.run(
        [sys.executable, "-c", STEPS, str(place.root), kind, foreign],
        capture_output=True,
        text=True,
        timeout=4 * LIMIT,
        check=False,
        cwd=place.root,
        env={"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin"},
    )
    assert ended.returncode == 0, ended.stderr
    found: dict[str, object] = json.loads(ended.stdout.splitlines()[-1])
    print(ended.stderr)
    place.tried = int(str(found["tried"]))
    return found


@pytest.mark.parametrize(
    ("kind", "foreign"),
    [("kill", "file"), ("error", "file"), ("error", "directory")],
)
def test_old_or_new_is_complete_at_every_step(
    kind: str, foreign: str, place: Place
) -> None:
    found = steps(place, kind, foreign)
    assert place.tried >= 20
    assert (found["mixed"], found["rooms"]) == (0, [])


def test_a_kill_loses_nothing_beside_directories_of_others(place: Place) -> None:
    # There, the parts are moved one by one; the next report puts all of them right.
    found = steps(place, "kill", "directory")
    assert place.tried >= 20
    assert found["rooms"] == []
    page = place.output / "site" / "page.html"
    assert page.read_text() == "foreign"


def test_a_mounted_part_is_rejected_before_the_runs(place: Place) -> None:
    logs = place.output / "logs"
    place.made()
    words = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(logs)]
    logs.mkdir(exist_ok=True)
    if subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("no file system may be mounted here")
    try:
        (logs / "mine").write_text("mine")
        running = place.report()
        _, said = running.communicate(timeout=LIMIT)
        assert running.returncode == 2
        assert "has logs, " in said
        assert (logs / "mine").read_text() == "mine"
    finally:
        subprocess.run(["umount", str(logs)], check=True)
    place.made()


def test_a_report_replaces_what_another_user_of_the_directory_sees(
    place: Place,
) -> None:
    # A shell, or a server, whose working directory is the report.
    with subprocess.Popen(["sleep", "60"], cwd=place.output) as shell:
        place.made()
        seen = Path(f"/proc/{shell.pid}/cwd")
        if seen.exists():
            assert (seen / "index.html").read_bytes() != b""
            assert (seen / "provenance.html").exists()
        shell.kill()
    assert not place.left()
