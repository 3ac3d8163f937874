"""A checkout that was moved or copied, or whose path has spaces; kvt without one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.places import KVT, LIMIT

pytestmark = [pytest.mark.faults, pytest.mark.long, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
# Stands for .venv/bin/python: notes how it is called.
PYTHON = """#!/bin/sh
echo "$*" >>calls
case "$*" in *"kvt run"*) mkdir -p build; echo executed >build/executed.ipynb ;; esac
"""
SCRIPT = "#!{place}/.venv/bin/python\n"


def make(place: Path, *goals: str) -> list[str]:
    """Make goals in a checkout; return how they have called Python."""
    (place / "calls").unlink(missing_ok=True)
    inherited = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}
    ended = subprocess.run(
        ["make", *goals],
        cwd=place,
        env={k: v for k, v in os.environ.items() if k not in inherited},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    calls = place / "calls"
    return calls.read_text().splitlines() if calls.exists() else []


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose path has spaces, with an environment that does nothing."""
    if not shutil.which("make"):
        pytest.skip("make is not installed")
    place = tmp_path / "my own checkout"
    (place / ".venv" / "bin").mkdir(parents=True)
    for name in ("pyproject.toml", "requirements.lock", "environment.yml", "Makefile"):
        shutil.copy(ROOT / name, place)
    (place / "notebooks").mkdir()
    source = '{\n    "results_path: str = ..."\n}'
    (place / "notebooks" / "01_line.ipynb").write_text(source)
    (place / "benchmarks").mkdir()
    (place / "benchmarks" / "speed.py").write_text("def main(): ...\n")
    python = place / ".venv" / "bin" / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    (place / ".venv" / "bin" / "jupyter").write_text(SCRIPT.format(place=place))
    (place / ".venv" / "locked").touch()
    (place / ".venv" / "installed").write_text(f"{place}\n")
    return place


GOALS = {
    "report": "kvt report",
    "test": "-m pytest",
    "check": "-m pytest",
    "lint": "ruff format --check",
    "format": "ruff check --fix",
    "types": "mypy",
    "spell": "codespell",
    "benchmark": "-m benchmarks.speed",
    "lab": "jupyter lab notebooks",
    "lock": "uv pip compile",
}


@pytest.mark.parametrize("goal", GOALS)
def test_a_target_works_where_the_path_has_spaces(goal: str, checkout: Path) -> None:
    (checkout / ".venv" / "bin" / "uv").touch()
    assert any(GOALS[goal] in call for call in make(checkout, goal))


def test_notebooks_are_stored_where_the_path_has_spaces(checkout: Path) -> None:
    first, second = make(checkout, "notebooks")
    assert f"results_path {checkout}/notebooks/results/01_line.json" in first
    assert "results_path" not in second
    assert (checkout / "notebooks" / "01_line.ipynb").read_text() == "executed\n"
    make(checkout, "clean")
    assert not (checkout / ".venv").exists()


def test_a_copied_checkout_runs_its_own_code(checkout: Path) -> None:
    assert make(checkout, "lint") == ["-P -m ruff check", "-P -m ruff format --check"]
    copy = checkout.with_name("copy")
    subprocess.run(["cp", "-a", checkout, copy], check=True)
    script = copy / ".venv" / "bin" / "jupyter"
    for calls in (3, 2):  # installed once
        assert len(make(copy, "lint")) == calls
        assert script.read_text() == SCRIPT.format(place=copy)
    assert {path.name for path in script.parent.iterdir()} == {"python", "jupyter"}
    moved = checkout.with_name("moved")
    copy.rename(moved)
    assert "--editable ." in make(moved, "lint")[0]


def test_without_a_checkout_kvt_says_what_to_do(tmp_path: Path) -> None:
    # As a wheel would install it: without notebooks and lock.
    shutil.copytree(ROOT / "kvt", tmp_path / "site" / "kvt")
    (tmp_path / "work").mkdir()
    paths = os.pathsep.join([str(tmp_path / "site"), *sys.path])

    def kvt(*words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-P", "-c", KVT, *words],
            cwd=tmp_path / "work",
            env=os.environ | {"PYTHONPATH": paths, "HOME": str(tmp_path / "home")},
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )

    ended = kvt("report")
    assert ended.returncode == 2
    assert "name their directory with --notebooks" in ended.stderr
    assert "clone kvt's repository" in ended.stderr
    fixtures = str(ROOT / "tests" / "fixtures" / "sections")
    ended = kvt("report", "--dataset", "digits", "--notebooks", fixtures)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "work" / "reports" / "index.html").exists()
    assert [path.name for path in (tmp_path / "site").iterdir()] == ["kvt"]
    assert (tmp_path / "home" / ".cache" / "kvt" / "CACHEDIR.TAG").exists()
