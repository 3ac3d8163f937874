"""The workflows of .github are valid, and run what the Makefile and README promise."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / ".github/workflows").glob("*.yml"))
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text("utf-8")) for path in FILES}
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
every_workflow = pytest.mark.parametrize("name", WORKFLOWS)


def steps(name: str) -> list[dict[str, Any]]:
    return [step for job in WORKFLOWS[name]["jobs"].values() for step in job["steps"]]


def test_there_is_one_for_tests_pages_and_nightlies() -> None:
    assert {*WORKFLOWS} == {"tests", "pages", "nightlies"}


@every_workflow
def test_a_workflow_has_what_github_requires(name: str) -> None:
    workflow = WORKFLOWS[name]
    assert workflow["name"] == name
    assert True in workflow  # YAML reads the key `on` as true
    assert workflow["permissions"]["contents"] == "read"  # no write access by default
    for job in workflow["jobs"].values():
        assert job["runs-on"] == "ubuntu-latest"
        assert 0 < job["timeout-minutes"] <= 90
    for step in steps(name):
        assert ("run" in step) != ("uses" in step)
        assert re.fullmatch(r"actions/[\w-]+@v\d+", step.get("uses", "actions/x@v1"))


@every_workflow
def test_a_workflow_calls_only_targets_and_modules_that_exist(name: str) -> None:
    for step in steps(name):
        command = step.get("run", "")
        for words in re.findall(r"^make ([\w ]+)", command, re.MULTILINE):
            for target in words.split():
                assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE)
        for module in re.findall(r"-m (benchmarks\.\w+)", command):
            assert (ROOT / f"{module.replace('.', '/')}.py").exists()


@every_workflow
def test_expressions_name_steps_and_matrices_that_exist(name: str) -> None:
    text = (ROOT / f".github/workflows/{name}.yml").read_text("utf-8")
    ids = {step["id"] for step in steps(name) if "id" in step}
    assert {*re.findall(r"\bsteps\.(\w+)", text)} == ids
    keys = {
        key
        for job in WORKFLOWS[name]["jobs"].values()
        for key in job.get("strategy", {}).get("matrix", {})
    }
    assert {*re.findall(r"\bmatrix\.(\w+)", text)} == keys
    assert "://" not in text


def test_every_supported_python_is_tested() -> None:
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    first, end = map(int, re.findall(r"3\.(\d+)", requires["requires-python"]))
    matrix = WORKFLOWS["tests"]["jobs"]["tests"]["strategy"]["matrix"]
    assert matrix["python"] == [f"3.{minor}" for minor in range(first, end)]
