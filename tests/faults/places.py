"""A place in which commands are killed, filled up, locked and fed with broken files."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from kvt.report.files import PREFIX
from kvt.report.guard import SIGNALS, alive
from tests.report.pages import code, markdown, written

KVT = "import sys; from kvt.cli import main; sys.exit(main())"
LIMIT = 60  # seconds for a process to get somewhere; it takes a few
SECONDS = 5  # for everything to be gone
MARK = "KVT_FAULT"  # marks all processes of a test, however they are started
FOREIGN = {"thesis.docx": b"mine", "reports/notes.html": b"mine, too"}
# The first page of an older report, which had another page.
OLDER = b'<meta name="kvt-pages" content="index.html gone.html">'
TINY = 'value = 1 + 1\nPath("results").mkdir(exist_ok=True)\nvalue'
# Writes the ids of its worker, its kernel, a child and a daemon of its, then waits.
HANGS = """
import os
import subprocess
import time
from pathlib import Path

child = subprocess.Popen(["sleep", "600"])
command = "sleep 600 >/dev/null & echo $!"
daemon = subprocess.check_output(["sh", "-c", command], start_new_session=True)
ids = os.getppid(), os.getpid(), child.pid, int(daemon)
Path({log!r}).write_text(" ".join(map(str, ids)))
{then}
time.sleep(600)
"""


class Place:
    """Notebooks, an older report, and files of others, which have to survive."""

    def __init__(self, root: Path) -> None:
        self.root, self.mark = root, uuid.uuid4().hex
        self.tried = 1  # faults
        self.own: dict[str, str] = {}  # variables of the commands
        self.output = root / "reports"
        self.started: list[subprocess.Popen[str]] = []
        for name in ("notebooks", "reports", "tmp"):
            (root / name).mkdir()
        for name, content in FOREIGN.items():
            (root / name).write_bytes(content)
        self.notebook("01_tiny", "from pathlib import Path\n" + TINY)
        (self.output / "index.html").write_bytes(OLDER)
        (self.output / "gone.html").write_bytes(b"older")

    def notebook(self, name: str, source: str) -> Path:
        path = self.root / "notebooks" / f"{name}.ipynb"
        written(path, markdown(f"# The {name[3:]}"), code(source))
        return path

    def hangs(self, name: str = "03_hangs", then: str = "") -> Path:
        """Add a notebook that hangs; return the file to which it writes its ids."""
        log = self.root / f"{name}.ids"
        self.notebook(name, HANGS.format(log=str(log), then=then))
        return log

    def start(
        self, *words: object, ignored: Sequence[int] = (), before: Sequence[str] = ()
    ) -> "subprocess.Popen[str]":
        """Start a command of kvt in the place, with signals that its parent ignores.

        All others have their default effect, also if the tests run under `nohup`.
        """
        own = {MARK: self.mark, "TMPDIR": str(self.root / "tmp")}
        own |= {"PYTHONPATH": os.pathsep.join(sys.path), **self.own}
        effects = dict.fromkeys(SIGNALS, signal.SIG_DFL)
        effects |= dict.fromkeys(ignored, signal.SIG_IGN)
        old = {each: signal.signal(each, effect) for each, effect in effects.items()}
        try:
            running = subprocess.Popen(
                [*before, sys.executable, "-c", KVT, *map(str, words)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
                cwd=self.root,
                env=os.environ | own,
            )
        finally:
            for each, handler in old.items():
                signal.signal(each, handler)
        self.started.append(running)
        return running

    def report(self, **options: Any) -> "subprocess.Popen[str]":
        """Start `kvt report` on the place's notebooks."""
        return self.start("report", *self.words(), **options)

    def words(self, output: str = "reports") -> list[str]:
        return [
            *("--dataset", "digits", "--jobs", "1", "--notebooks", "notebooks"),
            *("--output", output, "--cache", "cache"),
        ]

    def made(self, *words: object) -> None:
        """Run a command to its end, which has to be good."""
        running = self.start(*(words or ("report", *self.words())))
        said = running.communicate(timeout=LIMIT)
        assert running.returncode == 0, said

    def files(self, directory: str = "reports") -> dict[str, bytes]:
        root = self.root / directory
        return {
            path.relative_to(root).as_posix(): path.read_bytes()
            for path in root.rglob("*")
            if path.is_file()
        }

    def family(self) -> list[psutil.Process]:
        """Return the processes of the place that still run."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark and alive(process):
                    found.append(process)
            except (psutil.Error, OSError):
                pass
        return found

    def keeps_the_old_report(self) -> None:
        wanted = {
            "index.html": OLDER,
            "gone.html": b"older",
            "notes.html": b"mine, too",
        }
        assert self.files() == wanted
        assert {it.name for it in self.output.iterdir()} == wanted.keys()

    def left(self) -> list[str]:
        """Return what should not be there: rooms and temporary files."""
        rooms = (*self.root.glob(f"{PREFIX}*"), *self.output.glob(f"{PREFIX}*"))
        return [str(path) for path in (*rooms, *(self.root / "tmp").iterdir())]

    def lost(self) -> list[str]:
        """Return the files of others that are gone or changed."""
        return [
            name
            for name, content in FOREIGN.items()
            if not (path := self.root / name).is_file() or path.read_bytes() != content
        ]


def until(holds: Any) -> None:
    """Wait until something holds; fail after the limit."""
    end = time.monotonic() + LIMIT
    while not holds():
        assert time.monotonic() < end, f"it did not happen within {LIMIT} s"
        time.sleep(0.02)
