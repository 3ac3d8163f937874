"""What the committed notebooks must be, so that nbval has something to hold on to."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kvt.compare import results
from kvt.data import parameters
from kvt.report.marks import by_line
from tests.notebooks import sections

NOTEBOOKS = sorted(path.stem for path in sections.NOTEBOOKS.glob("*.ipynb"))
TITLES = {"keras": "# Keras · ", "tf2": "# TensorFlow 2 · ", "tf1": "# TensorFlow 1 · "}
SECTIONS = [*sections.MODELS, "05_training_recipes"]  # those with dialects abreast
ROWS = [
    "Imports",
    "Model",
    "Initial weights",
    "Loss and optimizer",
    "TensorBoard",
    "Training",
    "Evaluation and prediction",
]


def code(notebook: str) -> list[dict[str, Any]]:
    return [cell for cell in sections.cells(notebook) if cell["cell_type"] == "code"]


def tags(cell: dict[str, Any]) -> set[str]:
    return set(cell["metadata"].get("tags", ()))


def dialect_cells(notebook: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for cell in code(notebook):
        for dialect in tags(cell) & TITLES.keys():
            yield dialect, cell


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_every_cell_was_run_once_from_top_to_bottom(notebook: str) -> None:
    counts = [cell["execution_count"] for cell in code(notebook)]
    assert counts == list(range(1, len(counts) + 1))


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_outputs_are_stored_and_none_is_stderr_or_an_error(notebook: str) -> None:
    outputs = [output for cell in code(notebook) for output in cell["outputs"]]
    assert len(outputs) >= len(code(notebook)) // 2
    assert {output["output_type"] for output in outputs} <= {
        "stream",
        "display_data",
        "execute_result",
    }
    assert {output.get("name", "stdout") for output in outputs} == {"stdout"}


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_nothing_that_differs_from_run_to_run_is_stored(notebook: str) -> None:
    content = json.loads((sections.NOTEBOOKS / f"{notebook}.ipynb").read_text())
    assert set(content["metadata"]) <= {"kernelspec", "language_info"}
    assert "version" not in content["metadata"]["language_info"]
    assert content["metadata"]["kernelspec"]["name"] == "python3"
    for cell in content["cells"]:
        assert set(cell["metadata"]) <= {"tags"}
    assert str(Path.home()) not in json.dumps(content)


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_what_is_not_compared_says_why_and_is_rare(notebook: str) -> None:
    ignored = [cell for cell in code(notebook) if "nbval-ignore-output" in tags(cell)]
    for cell in ignored:
        assert re.match(r"# not compared: \w+", cell["source"])
    assert len(ignored) < 0.1 * len(code(notebook))
    assert not any("nbval-skip" in tags(cell) for cell in code(notebook))


@pytest.mark.parametrize("notebook", sections.MODELS)
def test_every_row_has_one_cell_a_dialect_in_one_order(notebook: str) -> None:
    cells = [(dialect, cell["source"]) for dialect, cell in dialect_cells(notebook)]
    titles = [(dialect, source.split("\n")[0]) for dialect, source in cells]
    assert titles == [
        (dialect, f"{start}{row}") for row in ROWS for dialect, start in TITLES.items()
    ]


@pytest.mark.parametrize("notebook", SECTIONS)
def test_a_dialects_cell_says_whose_it_is_and_which_row(notebook: str) -> None:
    rows: dict[str, list[str]] = {}
    for dialect, cell in dialect_cells(notebook):
        start, row = cell["source"].split("\n")[0].split("· ")
        assert f"{start}· " == TITLES[dialect]
        rows.setdefault(row, []).append(dialect)
    for row, dialects in rows.items():
        assert dialects in (["keras", "tf2", "tf1"], ["keras", "tf2"]), row


@pytest.mark.parametrize("notebook", SECTIONS)
def test_dialect_lines_fit_two_columns(notebook: str) -> None:
    for _, cell in dialect_cells(notebook):
        for line in cell["source"].splitlines():
            assert len(line) <= 68, line


@pytest.mark.parametrize("notebook", SECTIONS)
def test_every_mark_stands_in_each_dialect(notebook: str) -> None:
    marks: dict[str, set[int]] = {dialect: set() for dialect in TITLES}
    for dialect, cell in dialect_cells(notebook):
        marks[dialect] |= set(by_line(cell["source"]).values())
    assert marks["keras"]
    assert marks["keras"] == marks["tf2"] == marks["tf1"]


@pytest.mark.parametrize("notebook", sections.MODELS)
def test_parameters_are_typed_explained_in_range_and_complete(notebook: str) -> None:
    (cell,) = (cell for cell in code(notebook) if "parameters" in tags(cell))
    lines = cell["source"].splitlines()[1:]
    names = {re.match(r"(\w+): (str|int|float) = .+  # .+", line)[1] for line in lines}
    assert names == parameters.RULES.keys() - {"seeds", "results_dir"} - (
        {"dataset"} if notebook == "01_linear_regression" else set()
    )
    check = code(notebook)[1]["source"]
    for name in names:
        assert f'"{name}": {name},' in check


@pytest.mark.parametrize("notebook", SECTIONS)
def test_raw_dialects_use_no_keras(notebook: str) -> None:
    for dialect, cell in dialect_cells(notebook):
        if dialect != "keras":
            assert not re.search(r"\bkeras\.", cell["source"])


def test_committed_results_are_those_of_the_committed_notebooks() -> None:
    runs = {run["notebook"]: run for run in results.read_all("")}
    assert list(runs) == list(sections.MODELS)
    for notebook, run in runs.items():
        assert results.count_lines(notebook) == {
            name: one["lines"] for name, one in run["dialects"].items()
        }
        (cell,) = (cell for cell in code(notebook) if "parameters" in tags(cell))
        namespace: dict[str, Any] = {}
        exec(cell["source"], namespace)
        assert run["parameters"] == {
            name: namespace[name] for name in run["parameters"]
        }
        for parity in run["parity"].values():
            assert parity["history_equal"]
            assert not any(parity["weights_max_ulp"])


def change_text(output: dict[str, Any]) -> None:
    output["text"] = ["changed\n"]


def change_table(output: dict[str, Any]) -> None:
    output["data"]["text/markdown"][-1] += " changed"


def change_result(output: dict[str, Any]) -> None:
    output["data"]["text/plain"][-1] += " changed"


def drop(output: dict[str, Any]) -> None:
    output.clear()


CHANGES = (
    ("01_linear_regression", change_text),
    ("01_linear_regression", drop),
    ("08_comparison", change_table),
    ("08_comparison", change_result),
    ("08_comparison", drop),
)


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What pytest says of all changed notebooks, of which each is a file by itself."""
    folder = tmp_path_factory.mktemp("changed")
    root = sections.NOTEBOOKS.parent
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy(root / name, folder)
    for notebook, change in CHANGES:
        content = json.loads((sections.NOTEBOOKS / f"{notebook}.ipynb").read_text())
        cells = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
        content["cells"] = cells[:2]  # up to here no TensorFlow is imported
        (output,) = cells[1]["outputs"]
        change(output)
        cells[1]["outputs"] = [output] if output else []
        path = folder / f"{notebook}-{change.__name__}.ipynb"
        path.write_text(json.dumps(content))
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *folder.glob("*.ipynb")],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert tests.returncode == 1, tests.stdout
    assert f"{len(CHANGES)} failed, {len(CHANGES)} passed" in tests.stdout
    return tests.stdout


@pytest.mark.parametrize(("notebook", "change"), CHANGES)
def test_nbval_notices_a_changed_output(
    notebook: str, change: Callable[[dict[str, Any]], None], changed: str
) -> None:
    name = f"{notebook}-{change.__name__}.ipynb"
    report = re.search(rf"_ {name}::Cell 1 _+\n(.+?)\n(__|==)", changed, re.DOTALL)
    assert "Cell outputs differ" in report[1]
    assert changed.count(f"_ {name}::Cell ") == 1
