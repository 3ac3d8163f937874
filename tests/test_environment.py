"""The pins agree wherever they are written, and they install."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
# Both are listed as `name==version`, the lock's with ` ; marker` where one applies.
RUNTIME_PINS = PYPROJECT["project"]["dependencies"]
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
PINS = sum(EXTRAS.values(), RUNTIME_PINS)
LOCKED_PINS = set(PINS) - set(EXTRAS["benchmark"])
# What `import kvt` computes with: ranges in pyproject.toml, exact in the lock.
RANGES = {"numpy", "tensorflow", "keras", "tensorboard"}
# A locked package is one line with its pin, then its hashes, then who asked for it.
LOCKED = {
    block.split("\\\n")[0].strip(): block
    for block in re.split(r"^(?=\w)", LOCK, flags=re.MULTILINE)
    if block
}


def pip_section() -> list[str]:
    """What environment.yml has pip install."""
    return next(x["pip"] for x in CONDA["dependencies"] if isinstance(x, dict))


def supported_minors() -> range:
    """The N of every Python 3.N that pyproject.toml supports."""
    first, end = re.fullmatch(
        r">=3\.(\d+),<3\.(\d+)", PYPROJECT["project"]["requires-python"]
    ).groups()
    return range(int(first), int(end))


def test_every_dependency_is_pinned_and_explained() -> None:
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    before = dict(zip((line.strip() for line in lines[1:]), lines, strict=False))
    assert {Requirement(pin).name for pin in RUNTIME_PINS} > RANGES
    for pin in PINS:
        version = (
            ">=[0-9.]+,<=[0-9.]+" if Requirement(pin).name in RANGES else "==[0-9.]+"
        )
        assert re.fullmatch(rf"[a-z0-9-]+{version}", pin)
        assert re.fullmatch(r"  # [A-Z].+\.", before[f'"{pin}",'])


def test_lock_answers_to_pyproject() -> None:
    asked_for = {
        Requirement(pin)
        for pin, block in LOCKED.items()
        if "kvt (pyproject.toml)" in block
    }
    declared = {Requirement(pin).name: Requirement(pin) for pin in LOCKED_PINS}
    assert {locked.name for locked in asked_for} == declared.keys()
    for locked in asked_for:
        (exact,) = locked.specifier
        assert exact.operator == "=="
        assert declared[locked.name].specifier.contains(exact.version)


def test_the_ranges_are_those_that_the_table_of_versions_shows() -> None:
    table = (ROOT / "benchmarks/versions.md").read_text(encoding="utf-8")
    row = r"^\| ([\w.]+) \| ([\w.]+) \| ([\w.]+) \| 0 \|"
    rows = re.findall(row, table, re.MULTILINE)
    released = [pair for pair in rows if not any("dev" in release for release in pair)]
    shown = {
        name: sorted({Version(release) for release in releases})
        for name, releases in zip(
            ("tensorflow", "keras", "numpy"), zip(*released, strict=True), strict=True
        )
    }
    for pin in map(Requirement, RUNTIME_PINS):
        if found := shown.get(pin.name):
            assert pin.specifier == SpecifierSet(f">={found[0]},<={found[-1]}")


def test_lock_has_a_hash_for_every_package_and_no_address() -> None:
    for pin, block in LOCKED.items():
        assert re.fullmatch(r"[a-z0-9-]+==[\w.]+( ; .+)?", pin)
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", block)
    assert not re.search(r"://|@|--(?!hash=)|(^|\s)[./]", LOCK)


def test_build_backend_is_the_locked_one() -> None:
    (backend,) = PYPROJECT["build-system"]["requires"]
    assert backend in PINS


def test_environment_yml_lists_the_lock() -> None:
    assert pip_section() == [*LOCKED, "-e ."]


def test_environment_yml_names_a_supported_python() -> None:
    python = next(x for x in CONDA["dependencies"] if x.startswith("python="))
    assert python in [f"python=3.{minor}" for minor in supported_minors()]


def test_kvt_imports_only_what_pyproject_names() -> None:
    providers = packages_distributions()
    declared = {Requirement(pin).name for pin in RUNTIME_PINS}
    for path in (ROOT / "kvt").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                modules = [str(node.module)]
            for module in {name.split(".")[0] for name in modules}:
                if module == "kvt" or module in sys.stdlib_module_names:
                    continue
                names = {x.lower().replace("_", "-") for x in providers[module]}
                assert names & declared, f"{path.name} imports {module}: not declared"


class Checkout:
    """What `make` needs, and a Python whose venv module fails halfway."""

    def __init__(self, root: Path) -> None:
        self.venv = root / ".venv"
        self.calls = root / "calls"
        self.python = root / "python"
        for name in ("Makefile", "pyproject.toml", "requirements.lock"):
            shutil.copy(ROOT / name, root)

    def make(self, goal: str, version: str) -> str:
        """What `make` says, which fails, when `PYTHON` is of this version."""
        self.python.write_text(
            '#!/bin/sh\ncase "$1" in\n'
            f"-c) echo {version} ;;\n"
            f"*) echo >>{self.calls}; mkdir -p .venv/bin; touch .venv/bin/python\n"
            "exit 1 ;; esac\n"
        )
        self.python.chmod(0o755)
        # A make that runs these tests must not show through.
        inherited = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}
        run = subprocess.run(
            ["make", goal, f"PYTHON={self.python}"],
            cwd=self.python.parent,
            env={k: v for k, v in os.environ.items() if k not in inherited},
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode
        return run.stdout + run.stderr


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    if not shutil.which("make"):
        pytest.skip("make is not installed")
    return Checkout(tmp_path)


def test_make_refuses_an_unsupported_python_in_one_line(checkout: Checkout) -> None:
    supported = supported_minors()
    versions = ["2.7.18", f"3.{supported[0] - 1}.13", f"3.{supported[-1] + 1}.0"]
    for version in versions:
        (line,) = checkout.make("report", version).splitlines()
        assert f"is {version}:" in line
        assert all(f"3.{minor}" in line for minor in supported)
        assert "make report PYTHON=python3." in line
    assert not checkout.venv.exists()


def test_make_says_when_there_is_no_python(checkout: Checkout) -> None:
    (line,) = checkout.make("test", "").splitlines()
    assert "not installed" in line
    assert "make test PYTHON=python3." in line


def test_make_accepts_every_supported_python(checkout: Checkout) -> None:
    for minor in supported_minors():
        assert "kvt needs" not in checkout.make("report", f"3.{minor}.0")


def test_make_begins_a_half_made_environment_again(checkout: Checkout) -> None:
    for attempt in (1, 2):
        checkout.make("report", "3.12.1")
        assert checkout.venv.exists()
        assert len(checkout.calls.read_text().splitlines()) == attempt


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_environment_yml_installs_into_an_empty_environment(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    pip = [tmp_path / "venv/bin/python", "-m", "pip"]
    # As conda does it: the whole section in one call, beside environment.yml.
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("\n".join(pip_section()), encoding="utf-8")
    subprocess.run([*pip, "install", "-qq", "-r", requirements], cwd=ROOT, check=True)
    subprocess.run([*pip, "check"], check=True)
    freeze = [*pip, "list", "--format=freeze", "--exclude", "pip", "--exclude-editable"]
    listed = subprocess.run(
        freeze, check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    installed = {pin.lower().replace("_", "-") for pin in listed.split()}
    # Nothing that is not pinned, and all that every platform needs.
    assert installed <= {pin.split(" ;")[0] for pin in LOCKED}
    assert installed >= {pin for pin in LOCKED if " ;" not in pin}
