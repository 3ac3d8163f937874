"""Replicas hold Keras's bits; workers are always ended; no socket, no failure."""

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.notebooks import on_replicas, sections

NOTEBOOK = on_replicas.CHAPTER
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("listed", "drawn"), [(4, 0), pytest.param(99, 20, marks=pytest.mark.wide)]
)
@pytest.mark.timeout(600)
def test_one_to_four_replicas_of_all_models_hold_kerass_bits(
    listed: int, drawn: int
) -> None:
    command = [sys.executable, "-m", "tests.notebooks.on_replicas"]
    command += [str(listed), str(drawn)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    verdict = done.stdout.splitlines()[-1]
    number = int(verdict.partition(" ")[0])
    assert number >= min(listed, len(on_replicas.CASES)) + drawn
    assert verdict.endswith("trainings, 1 2 3 4 replicas: Keras's bits")


def defined(*functions: str) -> dict[str, Any]:
    """Return what the chapter's cells define that define one of these functions."""
    namespace: dict[str, Any] = {
        "Path": Path,
        "json": json,
        "kvt": SimpleNamespace(__file__=str(ROOT / "kvt" / "__init__.py")),
        "os": os,
        "subprocess": subprocess,
        "sys": sys,
        "time": time,
    }
    with contextlib.redirect_stdout(io.StringIO()):
        for cell in sections.cells(NOTEBOOK):
            if any(f"def {name}(" in cell["source"] for name in functions):
                exec(compile(cell["source"], NOTEBOOK, "exec"), namespace)
    assert {*functions} <= namespace.keys()
    return namespace


@pytest.fixture
def launcher(tmp_path: Path) -> tuple[dict[str, Any], Path]:
    """The chapter's launcher, and a folder whose workers write down who they are."""
    (tmp_path / "worker.py").write_text(
        "import json, os, pathlib, sys, time\n"
        "folder, how = pathlib.Path(sys.argv[1]), sys.argv[2]\n"
        "config = json.loads(os.environ['TF_CONFIG'])\n"
        "number = config['task']['index']\n"
        "(folder / f'pid-{number}').write_text(str(os.getpid()))\n"
        "(folder / f'config-{number}').write_text(json.dumps(config))\n"
        "while not (folder / 'pid-0').exists() or not (folder / 'pid-1').exists():\n"
        "    time.sleep(0.01)\n"
        "if how == 'fails' and number:\n"
        "    sys.exit(3)\n"
        "if how != 'ends':\n"
        "    time.sleep(100)\n"
    )
    return defined("free_addresses", "launch"), tmp_path


def running(folder: Path) -> list[int]:
    """Return the workers that still run, by number."""
    found = []
    for number in (0, 1):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int((folder / f"pid-{number}").read_text()), 0)
            found.append(number)
    return found


def test_workers_get_one_cluster_and_their_own_place(launcher: Any) -> None:
    functions, folder = launcher
    assert functions["launch"](folder, "ends") == [0, 0]
    configs = [json.loads((folder / f"config-{n}").read_text()) for n in (0, 1)]
    assert configs[0]["cluster"] == configs[1]["cluster"]
    addresses = configs[0]["cluster"]["worker"]
    assert len({*addresses}) == 2
    assert all(address.startswith("127.0.0.1:") for address in addresses)
    tasks = [config["task"] for config in configs]
    assert tasks == [{"type": "worker", "index": n} for n in (0, 1)]


def test_the_other_worker_is_ended_when_one_fails(launcher: Any) -> None:
    functions, folder = launcher
    assert functions["launch"](folder, "fails") == [None, 3]
    assert running(folder) == []


@pytest.mark.parametrize("other", [None, 1], ids=["still waits", "fails at once"])
def test_a_killed_worker_may_take_the_other_with_it(
    other: int | None, tmp_path: Path
) -> None:
    functions = defined("run_workers")
    killed = -signal.SIGKILL
    functions["launch"] = lambda folder, *options: [other, killed]
    assert functions["run_workers"](tmp_path, codes=(None, killed)) == []
    with pytest.raises(RuntimeError, match="the workers ended with"):
        functions["run_workers"](tmp_path)


def test_both_workers_are_ended_when_time_is_up(launcher: Any) -> None:
    functions, folder = launcher
    functions["launch"](folder, "hangs", seconds=3)
    assert running(folder) == []


def test_both_workers_are_ended_when_the_notebook_is_interrupted(
    launcher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    functions, folder = launcher

    def interrupt(seconds: float) -> None:
        assert seconds > 0
        if len(list(folder.glob("config-*"))) == 2:  # both have started
            raise KeyboardInterrupt

    clock = SimpleNamespace(sleep=interrupt, monotonic=time.monotonic)
    monkeypatch.setitem(functions, "time", clock)
    with pytest.raises(KeyboardInterrupt):
        functions["launch"](folder, "hangs")
    assert running(folder) == []


def test_a_worker_ends_when_the_notebook_is_killed() -> None:
    (cell,) = (
        cell["source"]
        for cell in sections.cells(NOTEBOOK)
        if "def end_with_parent(" in cell["source"]
    )
    source = cell[cell.index("def end_with_parent(") :]
    program = f"import os, sys, threading, time\n{source}\nend_with_parent()\n"
    program += "print('ready', flush=True)\ntime.sleep(100)"
    # A parent that starts the worker as the launcher does, and is killed.
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import subprocess, sys, time\n"
            "worker = subprocess.Popen([sys.executable, '-c', sys.argv[1]], "
            "stdin=subprocess.PIPE)\n"
            "print(worker.pid, flush=True)\n"
            "time.sleep(100)",
            program,
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    lines = {parent.stdout.readline().strip() for _ in range(2)}
    (pid,) = (int(line) for line in lines - {"ready"})
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert parent.stdout.read() == ""  # closed at its other end: the worker has ended
    parent.stdout.close()
    assert not Path(f"/proc/{pid}/fd/0").exists()


def test_a_machine_that_forbids_sockets_skips_two_processes_by_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Forbidden(socket.socket):
        def bind(self, address: Any) -> None:
            raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(socket, "socket", Forbidden)
    namespace = defined("free_addresses")
    reason = "skipped: two processes need sockets on 127.0.0.1, "
    reason += "which this machine forbids (Operation not permitted)"
    assert namespace["skipped"] == reason
    dependent = [
        cell["source"]
        for cell in sections.cells(NOTEBOOK)
        if cell["source"].startswith("if skipped:")
    ]
    assert len(dependent) == 3
    for source in dependent:
        exec(source, namespace)
    assert capsys.readouterr().out == f"{reason}\n" * 3
