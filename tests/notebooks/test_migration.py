"""What holds for the rows that lead from TensorFlow 1 to 2, and for their notes."""

import ast
import contextlib
import functools
import inspect
import io
import linecache
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow.compat.v1 as tf1
from hypothesis import given, settings
from tensorflow.tools.compatibility import ast_edits, tf_upgrade_v2

from kvt.compare.parity import same_bits
from tests.notebooks import sections

NOTEBOOK = "11_tensorflow_1_to_2"
CELLS = sections.cells(NOTEBOOK)
TEXTS = [cell["source"] for cell in CELLS if cell["cell_type"] == "markdown"]
NAMES, MESSAGES = (
    re.findall(r"^\| (.+?) \| (.+?) \|(?: .+ \|)?$", text, re.MULTILINE)[2:]
    for text in TEXTS
    if text.startswith(("## Old names", "## Error messages"))
)
LINK = re.compile(r"\[([^]]+)\]\((\S+)\)")
THREAD = r"https://github\.com/[\w-]+/([\w-]+)/(?:issues|pull)/(\d+)"
EQUAL = "equal, bit for bit"
Namespace = dict[str, Any]

# A graph flushes subnormal numbers to 0, unless it finds that it need not compute.
float32 = st.floats(-3, 3, width=32, allow_subnormal=False)
vectors = st.lists(float32, min_size=1, max_size=20)


@dataclass
class Row:
    """A heading with all that is under it."""

    heading: str
    cells: list[dict[str, Any]] = field(default_factory=list)

    @property
    def key(self) -> str:
        """The id of its first cell, with which the ids of the others begin."""
        return str(self.cells[0]["id"])

    def source(self, kind: str) -> str:
        """Return the text of its cell of one kind: tf1, tf2, notes or errors."""
        (found,) = (c for c in self.cells if c["id"] == f"{self.key}-{kind}")
        return str(found["source"])

    def printed(self, kind: str) -> list[str]:
        """Return the lines that the notebook stores under a cell."""
        (found,) = (c for c in self.cells if c["id"] == f"{self.key}-{kind}")
        return "".join(found["outputs"][0]["text"]).splitlines()


def _rows() -> list[Row]:
    found: list[Row] = []
    for cell in CELLS:
        heading = cell["source"].split("\n")[0]
        if heading.startswith("### ") and ", now " in heading:
            found.append(Row(heading.removeprefix("### ")))
        if found and not heading.startswith("## "):
            found[-1].cells.append(cell)
    return found


ROWS = _rows()
KEYS = [row.key for row in ROWS]
FAILING = [row for row in ROWS if f"{row.key}-errors" in str(row.cells[-1]["id"])]
each_row = pytest.mark.parametrize("row", ROWS, ids=KEYS)


def anchor(heading: str) -> str:
    return heading.replace("`", "").replace(" ", "-")


def text_of(span: str) -> str:
    """Return what a code span of Markdown shows."""
    found = re.fullmatch(r"(`+) ?(.+?) ?\1", span)
    assert found
    return found[2]


def run(name: str, source: str, namespace: Namespace) -> str:
    """Run a cell and return what it prints. Like Jupyter, tell linecache its source."""
    lines = source.splitlines(keepends=True)
    linecache.cache[name] = (len(source), None, lines, name)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(source, name, "exec"), namespace)
    return printed.getvalue()


@pytest.fixture(autouse=True, scope="module")
def quiet_as_in_the_notebook() -> Iterator[None]:
    """Restore what the notebook sets for its own kernel."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")
    keras.config.set_floatx("float32")  # whatever another test has left
    keras.config.set_dtype_policy("float32")
    yield
    logger.setLevel(level)


@functools.cache
def _setup() -> Namespace:
    namespace: Namespace = {"__name__": NOTEBOOK}
    for cell in CELLS:
        tags = set(cell["metadata"].get("tags", ()))
        if tags & {"parameters", "setup"}:
            run(f"<{cell['id']}>", cell["source"], namespace)
    return namespace


@functools.cache
def _row(key: str) -> Namespace:
    namespace = _setup().copy()
    (row,) = (row for row in ROWS if row.key == key)
    for kind in ("tf1", "tf2"):
        run(f"<{key}-{kind}>", row.source(kind), namespace)
    return namespace


def old_and_new(key: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the two functions that a row compares; run the row alone for them."""
    namespace = _row(key)
    return namespace[f"{key}_tf1"], namespace[f"{key}_tf2"]


def agree(key: str, *arguments: Any) -> bool:
    old, new = old_and_new(key)
    return same_bits(old(*arguments), new(*arguments))


def rows_of(numbers: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Matrices with two columns."""
    return st.lists(st.tuples(numbers, numbers), min_size=1, max_size=6)


# --- the rows


@each_row
def test_a_row_runs_alone_given_the_imports_and_is_equal(row: Row) -> None:
    namespace = _setup().copy()
    for kind in ("tf1", "tf2"):
        printed = run(f"<{row.key} {kind}>", row.source(kind), namespace)
        assert printed.splitlines() == row.printed(kind)
    assert row.printed("tf2") == [*row.printed("tf1"), EQUAL]


@each_row
def test_a_row_whose_sides_differ_by_one_bit_fails(row: Row) -> None:
    namespace = _row(row.key).copy()
    old, _ = old_and_new(row.key)
    namespace[f"{row.key}_tf1"] = lambda *arguments: changed(old(*arguments))
    with pytest.raises(ValueError, match="bits must be equal"):
        run(f"<{row.key} changed>", row.source("tf2"), namespace)


def changed(result: Any) -> Any:
    """Change the last bit of a result's first number, or its first text."""
    if isinstance(result, list | tuple):
        return type(result)([changed(result[0]), *result[1:]])
    if isinstance(result, str):
        return f"{result}'"
    array = np.array(result)
    bytes_ = bytearray(array.tobytes())
    bytes_[0] ^= 1  # the lowest bit: numbers are stored with the lowest byte first
    other = np.frombuffer(bytes_, array.dtype).reshape(array.shape)
    return other[()] if isinstance(result, np.generic) else other


def test_a_row_is_a_heading_an_old_cell_a_new_cell_and_notes() -> None:
    assert len(ROWS) >= 20
    assert len({row.heading for row in ROWS}) == len(ROWS)
    for row in ROWS:
        kinds = [str(cell["id"]).removeprefix(row.key) for cell in row.cells]
        errors = ["-errors"] if row in FAILING else []
        assert kinds == ["", "-tf1", "-tf2", "-notes", *errors]
        assert [cell["cell_type"] for cell in row.cells] == [
            "markdown",
            "code",
            "code",
            "markdown",
            *("code" for _ in errors),
        ]
        assert [cell["metadata"] for cell in row.cells] == [
            {},
            {"tags": ["tf1"]},
            {"tags": ["tf2"]},
            {},
            *({} for _ in errors),
        ]
        old, new = (row.source(kind).split("\n")[0] for kind in ("tf1", "tf2"))
        assert old.startswith("# TensorFlow 1 · ")
        assert new == old.replace("TensorFlow 1", "TensorFlow 2")


@each_row
def test_each_side_keeps_to_its_dialect(row: Row) -> None:
    assert "tf1." in row.source("tf1")
    code = row.source("tf1").partition("\n")[2]  # the title names what is gone
    assert not re.search(r"\b(tf|keras)\.", code)
    assert "tf1." not in row.source("tf2")
    assert re.search(r"\b(tf|keras)\.", row.source("tf2"))


@each_row
def test_code_is_short_and_narrow_enough_for_two_columns(row: Row) -> None:
    for kind in ("tf1", "tf2"):
        source = row.source(kind)
        assert max(map(len, source.splitlines())) <= 68
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef):
                code = ast.unparse(node).splitlines()
                assert len([line for line in code if line.strip()]) <= 12


@pytest.mark.parametrize(
    "name",
    [
        *("placeholder", "Session", "feed_dict", "placeholder_with_default"),
        *("global_variables_initializer", "eval()", "get_variable", "variable_scope"),
        *("Variable", "GraphKeys", "get_collection", "cond", "while_loop"),
        *("control_dependencies", "minimize", "softmax_cross_entropy_with_logits"),
        *("exponential_decay", "global_step", "metrics", "random_normal"),
        *("local_variables_initializer", "set_random_seed", "py_func", "get_next"),
        *("make_one_shot_iterator", "FileWriter", "sess.graph", "Saver"),
        *("checkpoint", "log", "to_float", "reduction_indices", "np_utils"),
        *("layers.core", "tf.layers", "tf.contrib"),
    ],
)
def test_what_people_search_for_is_in_a_heading_and_in_the_table(name: str) -> None:
    headings = [row.heading.partition(", now ")[0] for row in ROWS]
    assert any(name in heading for heading in headings)
    assert any(name in old for old, _ in NAMES)


def test_2017s_renamed_names_are_all_there() -> None:
    text = "\n".join(str(cell["source"]) for row in ROWS for cell in row.cells)
    for name in (
        "tf1.placeholder",
        "tf1.log",
        "reduction_indices",
        "tf1.random_normal",
        "FileWriter",
        "np_utils",
        "`layers.core`",
    ):
        assert name in text


def test_another_process_prints_the_same_and_nothing_remains(tmp_path: Path) -> None:
    cells = [cell for cell in CELLS if cell["cell_type"] == "code"]
    program, temporary = tmp_path / "program.py", tmp_path / "temporary"
    temporary.mkdir()
    program.write_text("\n\n".join(str(cell["source"]) for cell in cells))
    ran = subprocess.run(
        [sys.executable, str(program)],
        capture_output=True,
        text=True,
        env=os.environ | {"TMPDIR": str(temporary)},
        check=True,
    )
    stored = [output for cell in cells for output in cell["outputs"]]
    printed = ["".join(output["text"]) for output in stored if "text" in output]
    assert ran.stdout == "".join(printed)
    assert ran.stderr == ""
    assert list(temporary.iterdir()) == []


@given(x=vectors)
@settings(max_examples=15)
def test_any_vector_gives_the_same(x: list[float]) -> None:
    for key in ("feed", "default", "python", "save"):
        assert agree(key, x)


@given(x=vectors, data=st.data())
@settings(max_examples=10)
def test_any_training_set_gives_the_same(x: list[float], data: st.DataObject) -> None:
    y = data.draw(st.lists(float32, min_size=len(x), max_size=len(x)))
    assert agree("minimize", x, y)


@given(y=rows_of(st.floats(0, 1, width=32)), data=st.data())
@settings(max_examples=10)
def test_any_labels_and_logits_give_the_same(
    y: list[tuple[float, float]], data: st.DataObject
) -> None:
    pairs = st.tuples(float32, float32)
    logits = data.draw(st.lists(pairs, min_size=len(y), max_size=len(y)))
    assert agree("labels", y, logits)


@given(
    x=rows_of(float32),
    n=rows_of(st.integers(1, 10**6)),
    seed=st.integers(0, 2**31 - 1),
)
@settings(max_examples=15)
def test_any_matrix_and_any_seed_give_the_same(x: Any, n: Any, seed: int) -> None:
    assert agree("reuse", x)
    assert agree("rename", n)
    assert agree("dense", x)
    assert agree("draw", seed)


@given(n=st.integers(1, 100))
@settings(max_examples=10)
def test_any_count_gives_the_same(n: int) -> None:
    assert agree("branch", n)
    assert agree("iterate", n)


# --- comparing and showing


def test_unequal_results_are_rejected_with_both_values() -> None:
    with pytest.raises(ValueError, match=r"1 returns .*\(1\.0\), .*2 .*\(2\.0\)"):
        _setup()["check"](np.float32(1), np.float32(2))


@pytest.mark.parametrize(
    ("result", "shown"),
    [
        (np.float32(1 / 3), 0.333),
        (np.array([[1, 2]]), [[1, 2]]),
        ((np.float64(2 / 3), None), (0.667, None)),
        ([np.float32([0.1, 1]), 3, "w:0"], [[0.1, 1.0], 3, "w:0"]),
    ],
    ids=repr,
)
def test_results_are_shown_as_lists_with_three_decimals(
    result: Any, shown: Any
) -> None:
    assert same_bits(_setup()["shown"](result), shown)


@pytest.mark.parametrize("row", FAILING, ids=[row.key for row in FAILING])
def test_old_habits_raise_what_people_ask_about(row: Row) -> None:
    namespace = _row(row.key).copy()
    printed = run(f"<{row.key}-errors>", row.source("errors"), namespace).splitlines()
    assert printed == row.printed("errors")
    assert "**Errors.** " in row.source("notes")
    link = f"{NOTEBOOK}.ipynb#{anchor(row.heading)}"
    listed = [text_of(message) for message, to in MESSAGES if to.endswith(f"({link})")]
    assert [line.partition(": ")[2] for line in printed] == listed


def test_messages_are_those_that_people_ask_about() -> None:
    assert len(FAILING) >= 9
    messages = [text_of(message) for message, _ in MESSAGES]
    for text in (
        "module 'tensorflow' has no attribute 'placeholder'",
        "The Session graph is empty",
        "tf.placeholder() is not compatible with eager execution",
        "'SymbolicTensor' object has no attribute 'numpy'",
        "tf.function only supports singleton tf.Variables created on the first call",
        "'SGD' object has no attribute 'minimize'",
        "tf.gradients is not supported when eager execution is enabled",
        "module 'tensorflow' has no attribute 'log'",
        "module 'keras.utils' has no attribute 'np_utils'",
    ):
        assert text in messages
    for row in FAILING:
        for line in row.printed("errors"):
            assert re.match(r"\w+Error: \S", line)
            assert len(line) < 120


def test_a_block_without_an_error_or_with_another_one_stops_the_notebook() -> None:
    fails = _setup()["fails"]
    with pytest.raises(AssertionError, match="raises no KeyError"), fails(KeyError):
        pass
    with pytest.raises(ZeroDivisionError), fails(KeyError):
        raise ZeroDivisionError


# --- tables and links


def test_table_has_a_line_for_each_row_in_order_with_a_link_to_it() -> None:
    assert [f"{LINK.fullmatch(old)[1]}, now {new}" for old, new in NAMES] == [
        row.heading for row in ROWS
    ]


def test_links_lead_to_headings_that_exist() -> None:
    headings = {
        anchor(line.lstrip("# "))
        for text in TEXTS
        for line in text.splitlines()
        if line.startswith("#")
    }
    local = [url for text in TEXTS for _, url in LINK.findall(text)]
    local = [url for url in local if not url.startswith("https://")]
    assert len(local) > len(ROWS)
    for url in local:
        file, _, target = url.partition("#")
        assert (sections.NOTEBOOKS / file).is_file()
        assert file != f"{NOTEBOOK}.ipynb" or target in headings


@each_row
def test_every_row_names_threads_on_github(row: Row) -> None:
    (line,) = re.findall(r"^Threads: (.*)\.$", row.source("notes"), re.MULTILINE)
    links = LINK.findall(line)
    assert line == ", ".join(f"[{label}]({url})" for label, url in links)
    assert len({url for _, url in links}) == len(links) >= 1
    for label, url in links:
        assert "#".join(re.fullmatch(THREAD, url).groups()) == label


# --- what the notes claim


def traces(function: Any, *calls: Any) -> int:
    for call in calls:
        function(call)
    return function.experimental_get_tracing_count()


def test_shapes_and_python_numbers_are_traced_again_tensors_of_one_shape_are_not() -> (
    None
):
    signature = [tf.TensorSpec((None,), tf.float32)]
    one, two = tf.ones(1), tf.ones(2)
    assert traces(tf.function(lambda x: x + 1), one, two) == 2
    assert (
        traces(tf.function(lambda x: x + 1, input_signature=signature), one, two) == 1
    )
    assert traces(tf.function(lambda x: x + 1), 1.0, 2.0) == 2
    assert traces(tf.function(lambda x: x + 1), one, 2 * one) == 1


def test_get_variable_shares_nothing_when_it_is_called_eagerly() -> None:
    made = []
    for _ in range(2):
        with tf1.variable_scope("scope", reuse=tf1.AUTO_REUSE):
            made.append(tf1.get_variable("w", initializer=1.0))
    made[0].assign(2.0)
    assert made[0].name == made[1].name
    assert made[1].numpy() == 1


def test_variables_may_be_created_on_the_very_first_call() -> None:
    class Counter(tf.Module):
        calls: Any = None

        @tf.function
        def __call__(self) -> Any:
            if self.calls is None:
                self.calls = tf.Variable(0)
            return self.calls.assign_add(1)

    counter = Counter()
    assert [int(counter()) for _ in range(3)] == [1, 2, 3]


def test_keras_l2_is_twice_tensorflows_l2_loss() -> None:
    w = tf.constant([3.0, 4.0])
    assert keras.regularizers.L2(0.5)(w).numpy() == 12.5
    assert (0.5 * tf.nn.l2_loss(w)).numpy() == 6.25


def test_loop_over_a_python_number_leaves_its_operations_in_the_graph() -> None:
    @tf.function
    def power(x: Any, n: Any) -> Any:
        while n > 0:
            x, n = x * x, n - 1
        return x

    def multiplications(n: Any) -> int:
        graph = power.get_concrete_function(tf.constant(1.0), n).graph
        return [op.type for op in graph.get_operations()].count("Mul")

    assert multiplications(5) == 5
    assert multiplications(tf.constant(5)) == 0  # it is inside the one While


def test_if_on_a_tensor_fails_where_the_source_code_cannot_be_seen() -> None:
    namespace: Namespace = {}
    exec("def absolute(x): return x if x > 0 else -x", namespace)
    with pytest.raises(tf.errors.OperatorNotAllowedInGraphError):
        tf.function(namespace["absolute"])(tf.constant(-1.0))


def test_tensorflow_1_runs_no_assignment_that_the_fetch_does_not_depend_on() -> None:
    with tf1.Graph().as_default(), tf1.Session() as session:
        w = tf1.Variable(3.0)
        w.assign(2.0 * w)
        result = w.read_value()
        session.run(tf1.global_variables_initializer())
        assert session.run(result) == 3


def test_keras_optimizers_take_gradients_and_have_no_minimize() -> None:
    w = tf.Variable(2.0)
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.apply_gradients([(tf.constant(1.0), w)])
    assert w.numpy() == np.float32(1.9)
    assert not hasattr(optimizer, "minimize")


@pytest.mark.parametrize(("decay_steps", "differ"), [(8, False), (10, True)])
def test_rates_differ_eagerly_unless_the_reciprocal_is_exact(
    decay_steps: int, differ: bool
) -> None:
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, decay_steps, 0.7)
    in_graph = tf.function(lambda step: schedule(step))
    steps = [tf.constant(step) for step in range(100)]
    eager = [schedule(step).numpy() for step in steps]
    assert same_bits(eager, [in_graph(step).numpy() for step in steps]) is not differ


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            tf1.train.AdamOptimizer(0.1, epsilon=1e-7),
            lambda: keras.optimizers.Adam(0.1),
        ),
        (
            tf1.train.MomentumOptimizer(0.1, 0.9),
            lambda: keras.optimizers.SGD(0.1, momentum=0.9),
        ),
    ],
    ids=["Adam", "momentum"],
)
def test_other_optimizers_agree_up_to_rounding(
    old: Any, new: Callable[[], Any]
) -> None:
    with tf1.Graph().as_default(), tf1.Session() as session:
        w = tf1.Variable([1.0, -2.0, 3.0])
        train = old.minimize(tf1.reduce_sum(w * w))
        session.run(tf1.global_variables_initializer())
        for _ in range(10):
            session.run(train)
        expected = session.run(w)
    w, optimizer = tf.Variable([1.0, -2.0, 3.0]), new()
    for _ in range(10):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(w * w)
        optimizer.apply([tape.gradient(loss, w)], [w])
    np.testing.assert_allclose(w.numpy(), expected, rtol=1e-3)
    assert not same_bits(w.numpy(), expected)


def test_epsilon_of_adam_is_1e_8_in_tensorflow_1_and_1e_7_in_keras() -> None:
    signature = inspect.signature(tf1.train.AdamOptimizer)
    assert signature.parameters["epsilon"].default == 1e-8
    assert keras.optimizers.Adam().epsilon == 1e-7


def test_metric_without_update_is_0_and_reset_state_starts_again() -> None:
    old, new = old_and_new("metric")
    assert old(()) == new(()) == 0
    accuracy = keras.metrics.Accuracy()
    accuracy.update_state([1], [1])
    accuracy.reset_state()
    assert accuracy.result().numpy() == 0


def draw_tf1(before: int, **seed: int) -> Any:
    """Draw in a graph that already has some random operations."""
    with tf1.Graph().as_default(), tf1.Session() as session:
        tf1.set_random_seed(1)
        for _ in range(before):
            tf1.random_normal(())
        return session.run(tf1.random_normal((3,), **seed))


def draw_tf2(before: int) -> Any:
    """Draw after some other draws."""
    tf.random.set_seed(1)
    for _ in range(before):
        tf.random.normal(())
    return tf.random.normal((3,)).numpy()


def test_with_the_first_seed_alone_draws_depend_on_earlier_draws() -> None:
    assert not same_bits(draw_tf1(0), draw_tf2(0))
    assert not same_bits(draw_tf2(0), draw_tf2(1))
    assert same_bits(draw_tf2(1), draw_tf2(1))
    for before in range(3):
        assert same_bits(draw_tf1(before), draw_tf1(0, seed=before))


def test_stateless_draws_depend_on_their_seed_alone() -> None:
    with tf1.Graph().as_default(), tf1.Session() as session:
        tf1.constant(0)
        drawn = session.run(tf1.random.stateless_normal((3,), seed=(1, 2)))
    assert same_bits(drawn, tf.random.stateless_normal((3,), seed=(1, 2)).numpy())


def test_py_function_has_a_gradient_and_numpy_function_has_none() -> None:
    x = tf.Variable(3.0)
    with tf.GradientTape(persistent=True) as tape:
        seen = tf.py_function(lambda x: x * x, [x], tf.float32)
        unseen = tf.numpy_function(np.square, [x], tf.float32)
    assert tape.gradient(seen, x).numpy() == 6
    assert tape.gradient(unseen, x) is None


def test_loop_over_a_dataset_starts_again_and_can_be_part_of_the_graph() -> None:
    dataset = tf.data.Dataset.range(4)
    assert list(dataset) == list(dataset)

    @tf.function
    def total() -> Any:
        sum_ = tf.constant(0, tf.int64)
        for number in dataset:
            sum_ += number
        return sum_

    assert total().numpy() == 6


def test_trace_export_writes_the_graph_of_what_was_called(tmp_path: Path) -> None:
    forward = tf.function(lambda x: tf.nn.relu(x @ tf.ones((2, 1))))
    with tf.summary.create_file_writer(str(tmp_path)).as_default():
        tf.summary.trace_on(graph=True)
        forward(tf.ones((3, 2)))
        tf.summary.trace_export("forward", step=0)
    (file,) = tmp_path.iterdir()
    assert b"MatMul" in file.read_bytes()
    assert b"Relu" in file.read_bytes()


def test_saver_finds_names_and_checkpoint_finds_attributes(tmp_path: Path) -> None:
    old, new = str(tmp_path / "old"), str(tmp_path / "new")
    _row("restore")["write_tf1"](old)
    with tf1.Graph().as_default(), tf1.Session() as session:
        tf1.get_variable("renamed", initializer=[0.0, 0.0])
        with pytest.raises(tf1.errors.NotFoundError):
            tf1.train.Saver().restore(session, old)
    tf.train.Checkpoint(w=tf.Variable([1.0], name="w")).write(new)
    renamed = tf.Variable([0.0], name="renamed")
    tf.train.Checkpoint(w=renamed).read(new).assert_consumed()
    assert renamed.numpy() == [1]
    moved = tf.Variable([2.0])
    checkpoint = tf.train.Checkpoint(moved=moved)
    status = checkpoint.read(new)
    assert moved.numpy() == [2]
    with pytest.raises(AssertionError):
        status.assert_consumed()


def test_old_checkpoint_lists_its_variables(tmp_path: Path) -> None:
    _row("restore")["write_tf1"](str(tmp_path / "model"))
    assert tf.train.list_variables(str(tmp_path / "model")) == [("w", [2])]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # its parser's, on 3.12
def test_tf_upgrade_v2_renames_or_sends_to_compat(tmp_path: Path) -> None:
    old, new = tmp_path / "old.py", tmp_path / "new.py"
    old.write_text("tf.placeholder(tf.float32)\ntf.log(x)\ntf.to_float(x)\n")
    upgrade = ast_edits.ASTCodeUpgrader(tf_upgrade_v2.TFAPIChangeSpec())
    upgrade.process_file(str(old), str(new))
    assert new.read_text().splitlines() == [
        "tf.compat.v1.placeholder(tf.float32)",
        "tf.math.log(x)",
        "tf.cast(x, dtype=tf.float32)",
    ]


@pytest.mark.parametrize("name", ["contrib", "layers.dense"])
def test_removed_functions_are_not_in_compat_either(name: str) -> None:
    with pytest.raises(AttributeError):
        eval(f"tf1.{name}")


@given(values=vectors)
@settings(max_examples=5)
def test_any_values_of_an_old_checkpoint_are_restored(values: list[float]) -> None:
    namespace = _row("restore")
    with namespace["TemporaryDirectory"]() as folder:
        path = namespace["write_tf1"](f"{folder}/model", values)
        assert agree("restore", path)
        assert same_bits(namespace["restore_tf2"](path), np.float32(values))
