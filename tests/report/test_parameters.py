from pathlib import Path, PurePosixPath

import nbformat
import numpy as np
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

from kvt.report import notebooks
from kvt.report.parameters import Parameter, ParameterError, check, read

LINE = Path(__file__).parents[1] / "fixtures" / "sections" / "01_line.ipynb"


def notebook(source: str, tag: str = "parameters") -> NotebookNode:
    return new_notebook(cells=[new_code_cell(source, metadata={"tags": [tag]})])


def test_names_types_defaults_and_comments_are_read_without_running() -> None:
    assert read(notebooks.read(LINE)) == {
        "dataset": Parameter("dataset", str, "digits", "digits or mnist"),
        "epochs": Parameter("epochs", int, 2, "passes over the training set"),
        "learning_rate": Parameter("learning_rate", float, 0.1, "step length"),
        "shuffle": Parameter(
            "shuffle", bool, True, "visit the examples in a random order"
        ),
        "results_path": Parameter(
            "results_path", str, "", 'where to write the results; "" writes nothing'
        ),
    }


def test_type_comes_from_the_annotation_or_else_the_default() -> None:
    found = read(notebook("a: float = 1\nb = 2\nc = '#'  # why # so\nd = -1e-3"))
    assert [(p.type, p.default) for p in found.values()] == [
        (float, 1.0),
        (int, 2),
        (str, "#"),
        (float, -0.001),
    ]
    assert found["c"].comment == "why # so"


def test_notebook_without_parameters_has_none() -> None:
    assert read(notebook("epochs = 1", "setup")) == {}


@pytest.mark.parametrize("line", ["a: int = 1.5", "a = [1]", "a = f()", "a: list = 1"])
def test_parameters_cell_with_another_type_is_rejected(line: str) -> None:
    with pytest.raises(ParameterError, match="in the parameters cell"):
        read(notebook(line))


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("epochs", "3", 3),
        ("epochs", np.int64(3), 3),
        ("learning_rate", "1e-3", 0.001),
        ("learning_rate", "1", 1.0),
        ("learning_rate", 1, 1.0),
        ("learning_rate", np.float64(0.5), 0.5),
        ("shuffle", "false", False),
        ("shuffle", "True", True),
        ("shuffle", "0", False),
        ("shuffle", np.bool_(True), True),
        ("dataset", "mnist", "mnist"),
        ("dataset", np.str_("mnist"), "mnist"),
        ("results_path", PurePosixPath("a/b.json"), "a/b.json"),
        ("results_path", "true", "true"),
    ],
    ids=repr,
)
def test_value_takes_the_type_of_its_parameter(
    name: str, value: object, expected: object
) -> None:
    checked = check({name: value}, read(notebooks.read(LINE)))[name]
    assert checked == expected
    assert type(checked) is type(expected)  # papermill injects the repr of others


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("epochs", "3.5", "must be an integer"),
        ("epochs", 3.0, "must be an integer"),
        ("epochs", "true", "must be an integer"),
        ("epochs", True, "must be an integer"),
        ("epochs", "", "must be an integer"),
        ("epochs", PurePosixPath("3"), "must be an integer"),
        ("epochs", np.array([3]), "must be an integer"),
        ("learning_rate", "nan", "must be a finite number"),
        ("learning_rate", "-inf", "must be a finite number"),
        ("learning_rate", 10**400, "must be a finite number"),
        ("learning_rate", "fast", "must be a finite number"),
        ("shuffle", "yes", "must be true or false"),
        ("shuffle", 2, "must be true or false"),
        ("dataset", 5, "must be a string"),
        ("dataset", ("mnist",), "must be a string"),
        ("dataset", None, "must be a string"),
    ],
    ids=repr,
)
def test_wrong_type_is_rejected_with_value_rule_and_fix(
    name: str, value: object, wanted: str
) -> None:
    with pytest.raises(ParameterError) as failure:
        check({name: value}, read(notebooks.read(LINE)))
    message = str(failure.value)
    assert repr(value) in message
    assert wanted in message
    assert f"try {name} " in message


@pytest.mark.parametrize(
    ("name", "value"), [("epochs", "-1"), ("learning_rate", "0"), ("dataset", "cifar")]
)
def test_value_out_of_range_is_rejected(name: str, value: str) -> None:
    with pytest.raises(ParameterError, match=f"{name} is .*; it must be .*; .+"):
        check({name: value}, read(notebooks.read(LINE)))


def test_unknown_name_is_rejected_with_the_known_ones_and_a_guess() -> None:
    with pytest.raises(ParameterError) as failure:
        check({"epohcs": "3"}, read(notebooks.read(LINE)))
    assert str(failure.value) == (
        "unknown parameter 'epohcs'; this notebook has: dataset, epochs, "
        "learning_rate, results_path, shuffle (did you mean 'epochs'?)"
    )


def test_file_that_is_not_a_notebook_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.ipynb").write_text("{}")
    (tmp_path / "b.ipynb").write_text("not JSON")
    for name in ("a", "b"):
        with pytest.raises(ValueError, match=rf"{name}\.ipynb is not a notebook"):
            notebooks.read(tmp_path / f"{name}.ipynb")
    with pytest.raises(FileNotFoundError, match=r"there is no notebook .*c\.ipynb"):
        notebooks.read(tmp_path / "c.ipynb")


def test_written_notebook_is_read_back(tmp_path: Path) -> None:
    original = notebook("a = 'é'")
    notebooks.write(original, tmp_path / "a.ipynb")
    assert notebooks.read(tmp_path / "a.ipynb") == original
    assert nbformat.read(tmp_path / "a.ipynb", as_version=4) == original


def test_parameters_cell_that_is_not_python_is_rejected() -> None:
    with pytest.raises(
        ParameterError, match="not Python: invalid syntax in its line 1"
    ):
        read(notebook("epochs: int = = 3"))
