"""Notebook 00: equal rungs, correct gradients, and the whole source code of fit."""

import ast
import contextlib
import inspect
import io
import linecache
import re
import tokenize
from collections.abc import Callable
from types import ModuleType
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kvt.compare import parity
from kvt.data import order
from kvt.training import batches, epochs, loop, means
from tests.notebooks import sections

NOTEBOOK = "00_inside_fit"
RUNGS = (
    "fit",
    "train_on_batch",
    "train_step",
    "GradientTape",
    "raw variables",
    "TensorFlow 1",
    "NumPy",
)
SHARED = {"train_on_batch", "train_step"}  # they use the cell that defines same_model
Namespace = dict[str, Any]
KINDS: dict[str, set[type]] = {}


def code() -> list[str]:
    cells = sections.cells(NOTEBOOK)
    return [cell["source"] for cell in cells if cell["cell_type"] == "code"]


def rung(name: str) -> list[str]:
    """Return the sources of a rung's own cells."""
    title = f"# Rung {RUNGS.index(name) + 1}: {name}"
    found = [s for s in code() if s.split("\n")[0].split(",")[0] == title]
    assert found
    return found


def run(
    change: Callable[[str], str] = lambda source: source, **parameters: object
) -> Namespace:
    """Run all code cells, each changed by `change`; return their names and values.

    As in Jupyter, linecache knows the sources of the cells: the notebook reads them.
    `KINDS` collects the types that each name has had, cell by cell.
    """
    KINDS.clear()
    keras.backend.clear_session(free_memory=False)  # no collection each time
    namespace: Namespace = {"__name__": NOTEBOOK}
    for number, original in enumerate(code()):
        source, name = change(original), f"<{NOTEBOOK} {number}>"
        lines = source.splitlines(keepends=True)
        linecache.cache[name] = (len(source), None, lines, name)
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(source, name, "exec"), namespace)
        if source.startswith("# parameters"):
            namespace |= parameters
        for key, value in namespace.items():
            KINDS.setdefault(key, set()).add(type(value))
    return namespace


@pytest.fixture(scope="module")
def notebook() -> Namespace:
    """Run the notebook on a few examples, with a short last batch."""
    namespace = run(train_size=60, batch_size=7, epochs=2, learning_rate=0.1)
    return namespace | {"kinds": dict(KINDS)}


def check_rungs(left: Namespace) -> None:
    """Compare all rungs with fit, without the notebook's own `compare`."""
    weights, history = left["runs"]["fit"]
    assert list(left["runs"]) == list(RUNGS)
    assert len(weights) == left["epochs"]
    for name in list(RUNGS)[1:-1]:
        its_weights, its_history = left["runs"][name]
        assert its_history == history, name
        for epoch, ours in enumerate(its_weights):
            assert parity.same_bits(weights[epoch], ours), (name, epoch)
    numpy_weights, numpy_history = left["runs"]["NumPy"]
    assert numpy_history.keys() == history.keys()
    assert {w.dtype.name for w in numpy_weights[-1]} == {"float32"}
    assert max(left["distance64"].weights_max_abs) <= 1e-12
    assert keras.config.floatx() == keras.config.dtype_policy().name == "float32"


def test_every_rung_down_to_tensorflow_1_has_the_bits_of_fit(
    notebook: Namespace,
) -> None:
    check_rungs(notebook)


@st.composite
def trainings(draw: st.DrawFn) -> dict[str, Any]:
    """Draw parameters of the notebook, including partial last batches."""
    train_size = draw(st.integers(2, 60))
    n_validation = draw(st.integers(0, train_size // 2))
    return {
        "train_size": train_size,
        "batch_size": draw(st.integers(1, train_size + 8)),
        "epochs": draw(st.integers(1, 2)),
        "learning_rate": draw(st.floats(0.001, 0.5)),
        "validation_split": n_validation / train_size,
        "seed": draw(st.integers(0, 2**32 - 1)),
    }


@settings(max_examples=1)
@given(parameters=trainings())
@example(
    parameters={
        "train_size": 9,
        "batch_size": 20,
        "epochs": 1,
        "learning_rate": 1,
        "validation_split": 0,
        "seed": 2**32 - 1,
    }
)
def test_rungs_agree_whatever_the_parameters(parameters: dict[str, Any]) -> None:
    check_rungs(run(**parameters))


def test_a_rung_that_computes_something_else_stops_the_notebook() -> None:
    others = {
        cell
        for name in ("train_on_batch", "train_step", "GradientTape")
        for cell in rung(name)
    }
    changed = []

    def change(source: str) -> str:
        if source in rung("raw variables"):
            wrong = source.replace("learning_rate * gradient", "0.1000001 * gradient")
            changed.append(wrong != source)
            return wrong
        return "" if source in others else source

    with pytest.raises(AssertionError):
        run(change, train_size=20, batch_size=7, epochs=1, learning_rate=0.1)
    assert changed == [True, False]


@given(
    shape=st.tuples(*(st.integers(1, 9) for _ in range(4))),
    seed=st.integers(0, 2**32 - 1),
)
def test_numpy_gradients_equal_those_of_the_tape(
    notebook: Namespace, shape: tuple[int, int, int, int], seed: int
) -> None:
    inputs, units, classes, examples = shape
    random = np.random.default_rng(seed)
    shapes = (inputs, units), (units,), (units, classes), (classes,)
    arrays = [random.normal(size=size) for size in shapes]
    x = random.normal(size=(examples, inputs))
    y = np.eye(classes)[random.integers(0, classes, examples)]
    weights = [tf.Variable(array) for array in arrays]
    with tf.GradientTape() as tape:
        h = tf.nn.relu(x @ weights[0] + weights[1])
        logits = h @ weights[2] + weights[3]
        losses = tf.nn.softmax_cross_entropy_with_logits(y, logits)
        loss = tf.reduce_mean(losses)

    notebook["arrays"][:] = arrays
    forward = notebook["numpy_forward"](x)
    gradients = notebook["numpy_gradients"](x, y, *forward)
    logs = notebook["numpy_measure"](y, forward[1])

    np.testing.assert_allclose(logs["loss"], loss, rtol=1e-13, atol=1e-14)
    for ours, theirs in zip(gradients, tape.gradient(loss, weights), strict=True):
        limit = 1e-13 * max(1, abs(theirs.numpy()).max())
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=limit)


def test_formulas_are_shown_beside_code_of_the_rung() -> None:
    (prose,) = (
        cell["source"]
        for cell in sections.cells(NOTEBOOK)
        if cell["source"].startswith("### Rung 7: NumPy")
    )
    beside = re.findall(r"^\| \$.*\$ \| `(.*)` \| \(", prose, flags=re.MULTILINE)
    assert len(beside) == 6
    for line in beside:
        assert line in "\n".join(rung("NumPy"))


def code_lines(source: str) -> int:
    """Count the lines that contain a token of the language."""
    layout = {
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    }
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return len({token.start[0] for token in tokens if token.type not in layout})


def rung_lines(name: str) -> int:
    """Count the lines of code of a rung, and of the model that it takes from rung 1."""
    cells = rung(name)
    if name in SHARED:
        cells = [*cells, *(s for s in code() if s.startswith("def same_model"))]
        assert len(cells) == 2
    return sum(map(code_lines, cells))


def test_lines_are_those_of_the_cells_of_the_rung(notebook: Namespace) -> None:
    assert notebook["lines"] == {name: rung_lines(name) for name in RUNGS}


def test_the_stored_table_has_the_lines_of_the_stored_code() -> None:
    (table,) = (
        "".join(cell["outputs"][0]["data"]["text/plain"])
        for cell in sections.cells(NOTEBOOK)
        if cell["id"] == "ladder"
    )
    rows = [re.split(" {2,}", line) for line in table.splitlines()[1:]]
    assert [(row[0], row[2]) for row in rows] == [
        (f"{number}. {name}", str(rung_lines(name)))
        for number, name in enumerate(RUNGS, 1)
    ]


def definitions(*modules: ModuleType) -> dict[str, ast.AST]:
    """Return the functions and classes of modules by name."""
    kinds = ast.FunctionDef | ast.ClassDef
    bodies = (ast.parse(inspect.getsource(module)).body for module in modules)
    return {n.name: n for body in bodies for n in body if isinstance(n, kinds)}


def names_in(node: ast.AST) -> set[str]:
    """Return the names that a piece of code uses, as `split` for `data.split`."""
    names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    return names | {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}


def shown() -> set[str]:
    """Return the arguments of the notebook's calls of `sources.code`."""
    calls = (
        node
        for source in code()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "sources.code"
    )
    return {ast.unparse(argument) for call in calls for argument in call.args}


# Of what fit uses, the notebook leaves out other data than arrays, and helpers.
LEFT_OUT = {
    "BatchStream",
    "as_array",
    "batch_totals",
    "examples_in",
    "finish",
    "has_several_inputs",
    "is_due",
    "known_length",
    "per_example",
    "read_training",
    "read_validation",
    "runner",
    "size_of",
    "stops_early",
    "summed",
    "total_dtype",
}


def test_the_notebook_shows_all_that_decides_the_numbers_of_fit() -> None:
    known = definitions(loop, epochs, batches, means, order)
    used, new = set[str](), {"fit"}
    while new:
        used |= new
        new = {n for each in new for n in names_in(known[each]) & known.keys()} - used
    used = {name for name in used if not name.startswith("check")}
    names = {name.split(".")[-1] for name in shown()}
    assert used - names == LEFT_OUT
    assert names - used == {"History"}  # which the callbacks define


def test_the_source_code_that_is_shown_has_no_private_names(
    notebook: Namespace,
) -> None:
    for name in shown():
        source = inspect.getsource(eval(name, notebook))
        tokens = tokenize.generate_tokens(io.StringIO(source).readline)
        names = {token.string for token in tokens if token.type == tokenize.NAME}
        assert {n for n in names if re.match(r"_[^_]", n)} == set(), name


def test_no_name_changes_its_meaning_within_the_notebook(notebook: Namespace) -> None:
    changed = {n: kinds for n, kinds in notebook["kinds"].items() if len(kinds) > 1}
    assert changed.keys() <= {"_", "kinds"}, changed


def test_the_bar_of_2017_counted_to_80_during_17_batches(notebook: Namespace) -> None:
    drawn = [(worked, done, of) for worked, _, done, of in notebook["shown"]["2017"]]
    assert drawn == [(min(i, 17), i, 80) for i in range(81)]


def test_the_bar_of_today_shows_every_step(notebook: Namespace) -> None:
    drawn = [(worked, done, of) for worked, _, done, of in notebook["shown"]["kvt"]]
    assert drawn == [(step, step, 16) for step in range(1, 17)]


def parameter_lines(notebook: str) -> list[str]:
    (source,) = (
        cell["source"]
        for cell in sections.cells(notebook)
        if "parameters" in cell["metadata"].get("tags", ())
    )
    return str(source).splitlines()[1:]


def test_parameters_are_those_of_the_feedforward_network(notebook: Namespace) -> None:
    lines = parameter_lines(NOTEBOOK)
    assert set(lines) < set(parameter_lines("03_feedforward_network"))
    assert notebook["settings"].keys() == {line.split(":")[0] for line in lines}


@pytest.mark.parametrize(
    ("name", "value"),
    [("epochs", 0), ("validation_split", 1.0), ("dataset", "imagenet")],
)
def test_a_parameter_out_of_range_stops_the_second_cell(
    name: str, value: object
) -> None:
    with pytest.raises(ValueError, match=name):
        run(**{name: value})
