"""What every committed notebook must be, so that nbval has something to compare."""

import ast
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
from tests.notebooks.sections import tags

NOTEBOOKS = sorted(path.stem for path in sections.NOTEBOOKS.glob("*.ipynb"))
TITLES = {"keras": "# Keras · ", "tf2": "# TensorFlow 2 · ", "tf1": "# TensorFlow 1 · "}
ROWS = [
    "Imports",
    "Model",
    "Initial weights",
    "Loss and optimizer",
    "TensorBoard",
    "Training",
    "Evaluation and prediction",
]
DIALECTS_OF_A_ROW = (["keras", "tf2", "tf1"], ["keras", "tf2"], ["tf1", "tf2"])
# Limits per notebook: lines of code, as `results.count_lines` counts, without a program
# to copy, and code cells; per cell: lines, blank ones and comments included.
LINES, CELLS, CELL_LINES, PROGRAM_LINES = 700, 80, 40, 80


def code(notebook: str) -> list[dict[str, Any]]:
    return [cell for cell in sections.cells(notebook) if cell["cell_type"] == "code"]


def dialect_cells(notebook: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Visit the cells of the rows; those tagged start repeat them in short."""
    for cell in code(notebook):
        if "start" not in tags(cell):
            for dialect in tags(cell) & TITLES.keys():
                yield dialect, cell


SECTIONS = [one for one in NOTEBOOKS if any(dialect_cells(one))]  # those with rows
WITH_KERAS = [one for one in SECTIONS if "keras" in dict(dialect_cells(one))]


def bindings(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Visit the names that code binds at its top level, each with the kind of thing.

    A literal's kind is its type; what else a value is, its code does not say.
    """
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            kind = "function" if isinstance(child, ast.FunctionDef) else "class"
            yield child.name, kind
        elif isinstance(child, ast.Import | ast.ImportFrom):
            for one in child.names:
                yield (one.asname or one.name).partition(".")[0], "import"
        elif isinstance(child, ast.Assign) and isinstance(child.targets[0], ast.Name):
            literals = (ast.Constant, ast.List, ast.Dict, ast.Tuple, ast.Set)
            kind = "value"
            if isinstance(child.value, ast.Constant):
                kind = type(child.value.value).__name__
            elif isinstance(child.value, literals):
                kind = type(child.value).__name__.lower()
            yield child.targets[0].id, kind
        elif isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
            yield child.id, "value"
        elif not isinstance(child, ast.Lambda | ast.comprehension):
            yield from bindings(child)


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
def test_a_cell_that_is_not_compared_says_why_and_is_rare(notebook: str) -> None:
    ignored = [cell for cell in code(notebook) if "nbval-ignore-output" in tags(cell)]
    for cell in ignored:
        assert re.match(r"# not compared: \w+", cell["source"])
    assert len(ignored) < 0.1 * len(code(notebook))
    assert not any("nbval-skip" in tags(cell) for cell in code(notebook))


@pytest.mark.parametrize("notebook", sections.MODELS)
def test_every_row_has_one_cell_per_dialect_in_one_order(notebook: str) -> None:
    cells = [(dialect, cell["source"]) for dialect, cell in dialect_cells(notebook)]
    titles = [(dialect, source.split("\n")[0]) for dialect, source in cells]
    assert titles == [
        (dialect, f"{start}{row}") for row in ROWS for dialect, start in TITLES.items()
    ]


@pytest.mark.parametrize("notebook", SECTIONS)
def test_a_dialects_cell_names_its_dialect_and_row(notebook: str) -> None:
    rows: dict[str, list[str]] = {}
    for dialect, cell in dialect_cells(notebook):
        start, row = cell["source"].split("\n")[0].split("· ")
        assert f"{start}· " == TITLES[dialect]
        rows.setdefault(row, []).append(dialect)
    for row, dialects in rows.items():
        assert dialects in DIALECTS_OF_A_ROW, row


@pytest.mark.parametrize("notebook", SECTIONS)
def test_dialect_lines_fit_two_columns(notebook: str) -> None:
    for _, cell in dialect_cells(notebook):
        for line in cell["source"].splitlines():
            assert len(line) <= 68, line


@pytest.mark.parametrize("notebook", SECTIONS)
def test_every_mark_is_in_each_dialect(notebook: str) -> None:
    marks: dict[str, set[int]] = {}
    for dialect, cell in dialect_cells(notebook):
        marks.setdefault(dialect, set()).update(by_line(cell["source"]).values())
    assert len(set(map(frozenset, marks.values()))) == 1
    assert marks.get("keras", True)


@pytest.mark.parametrize("notebook", sections.MODELS)
def test_parameters_are_typed_explained_in_range_and_complete(notebook: str) -> None:
    lines = sections.tagged(notebook, "parameters")["source"].splitlines()[1:]
    names = {re.match(r"(\w+): (str|int|float) = .+  # .+", line)[1] for line in lines}
    of_others = {"seeds", "results_dir", "steps", "steps_per_epoch", "budget"}
    of_others |= {"shuffle", "verbose", "return_dict"}
    of_others |= {f"validation_{name}" for name in ("steps", "batch_size", "freq")}
    if notebook == "01_linear_regression":
        of_others.add("dataset")
    assert names == parameters.RULES.keys() - of_others


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_the_second_code_cell_checks_the_parameters(notebook: str) -> None:
    first, second = code(notebook)[:2]
    assert "parameters" in tags(first)
    assert "parameters.checked(globals())" in second["source"]


@pytest.mark.parametrize("notebook", WITH_KERAS)
def test_raw_dialects_use_no_keras(notebook: str) -> None:
    for dialect, cell in dialect_cells(notebook):
        if dialect != "keras":
            assert not re.search(r"\bkeras\.", cell["source"])


@pytest.mark.parametrize("notebook", sections.MODELS)
def test_the_whole_program_imports_only_numpy_and_tensorflow(notebook: str) -> None:
    source = sections.tagged(notebook, "program")["source"]
    imported = [
        name.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
    ]
    assert imported == ["numpy", "tensorflow"]
    assert not re.search(r"keras\.|\bkvt\b|compat", source)
    assert max(map(len, source.splitlines())) <= 68


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_a_notebook_is_small_and_no_name_changes_its_meaning(notebook: str) -> None:
    cells = code(notebook)
    assert len(cells) <= CELLS
    count = 0
    kinds: dict[str, list[str]] = {}
    for cell in cells:
        lines = cell["source"].splitlines()
        limit = PROGRAM_LINES if "program" in tags(cell) else CELL_LINES
        assert len(lines) <= limit, lines[:2]
        if "program" not in tags(cell):
            count += sum(bool(re.match(r"\s*[^\s#]", line)) for line in lines)
        for name, kind in bindings(ast.parse(cell["source"])):
            kinds.setdefault(name, []).append(kind)
    assert count <= LINES
    for name, found in kinds.items():
        if {"function", "class"} & {*found}:
            assert len(found) == 1, f"{name} is defined as {found}"
        known = {*found} - {"value"}
        assert len(known) <= 1, f"{name} is {found}"
        assert "import" not in known or "value" not in found, f"{name} is {found}"


def in_folds(notebook: str) -> Iterator[tuple[dict[str, Any], bool]]:
    """Yield each cell, and whether the report folds the part that it is in."""
    levels: list[int] = []
    for cell in sections.cells(notebook):
        heading = re.match("(#+) ", "".join(cell["source"]))
        if cell["cell_type"] == "markdown" and heading:
            level = len(heading[1])
            levels = [each for each in levels if each < level]
            if "folded" in tags(cell):
                levels.append(level)
        yield cell, bool(levels)


@pytest.mark.parametrize("notebook", ["03", "01", "02", "04"])
def test_one_model_is_shown_in_full_and_of_the_others_what_differs(
    notebook: str,
) -> None:
    (name,) = (each for each in NOTEBOOKS if each.startswith(notebook))
    rows: dict[str, bool] = {}
    for cell, is_folded in in_folds(name):
        if tags(cell) & TITLES.keys() and "setup" not in tags(cell):
            title = "".join(cell["source"]).splitlines()[0].partition(" · ")[2]
            rows[title] = is_folded
    if notebook == "03":
        assert not any(rows.values())
    else:
        assert not rows["Model"]
        assert rows["Training"]
        assert rows["TensorBoard"]


def test_committed_results_are_those_of_the_committed_notebooks() -> None:
    runs = {run["notebook"]: run for run in results.read_all("")}
    assert list(runs) == list(sections.MODELS)
    for notebook, run in runs.items():
        lines = {name: one["lines"] for name, one in run["dialects"].items()}
        lines["program"] = run["dialects"]["tf2"]["program_lines"]
        assert results.count_lines(notebook) == lines
        namespace: dict[str, Any] = {}
        exec(sections.tagged(notebook, "parameters")["source"], namespace)
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


COMPARISON = "13_comparison"  # it imports no TensorFlow
CHANGES = (change_text, change_table, change_result, drop)


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What pytest prints about notebooks that each have one changed output."""
    folder = tmp_path_factory.mktemp("changed")
    root = sections.NOTEBOOKS.parent
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy(root / name, folder)
    for change in CHANGES:
        content = json.loads((sections.NOTEBOOKS / f"{COMPARISON}.ipynb").read_text())
        cells = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
        first, second, table = cells[:3]
        cell = table
        if change is change_text:
            text = {"output_type": "stream", "name": "stdout", "text": ["text\n"]}
            cell = {**table, "source": ["print('text')"], "outputs": [text]}
        content["cells"] = [first, second, cell]
        (output,) = cell["outputs"]
        change(output)
        cell["outputs"] = [output] if output else []
        path = folder / f"{change.__name__}.ipynb"
        path.write_text(json.dumps(content))
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *folder.glob("*.ipynb")],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert tests.returncode == 1, tests.stdout
    passed = 2 * len(CHANGES)
    assert f"{len(CHANGES)} failed, {passed} passed" in tests.stdout
    return tests.stdout


@pytest.mark.parametrize("change", CHANGES)
def test_nbval_notices_a_changed_output(
    change: Callable[[dict[str, Any]], None], changed: str
) -> None:
    name = f"{change.__name__}.ipynb"
    report = re.search(rf"_ {name}::Cell 2 _+\n(.+?)\n(__|==)", changed, re.DOTALL)
    assert "Cell outputs differ" in report[1]
    assert changed.count(f"_ {name}::Cell ") == 1
