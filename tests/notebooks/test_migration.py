"""What holds for the pairs that lead from TensorFlow 1 to 2, and for their notes."""

import builtins
import dis
import inspect
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType
from typing import Any

import hypothesis.strategies as st
import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow.compat.v1 as tf1
from hypothesis import given, settings
from tensorflow.tools.compatibility import ast_edits, tf_upgrade_v2

from kvt.differences import migration
from kvt.differences.migration import PAIRS, Pair, check, same

NAMES = [pair.name for pair in PAIRS]
NOTEBOOK = "06_why_results_differ.ipynb"
SHOWN = {
    function.__name__: function
    for pair in PAIRS
    for function in (pair.tf1, pair.tf2, pair.mistake)
    if function
}
# What the notebook tells its readers to import.
IMPORTS = {"TemporaryDirectory", "event_accumulator", "keras", "np", "tf", "tf1"}
THREAD = r"https://github\.com/[\w-]+/[\w-]+/(issues|pull)/\d+"

# A graph flushes subnormal numbers to 0, unless it finds that it need not compute.
float32 = st.floats(-3, 3, width=32, allow_subnormal=False)
vectors = st.lists(float32, min_size=1, max_size=20)


def rows(numbers: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Matrices with two columns."""
    return st.lists(st.tuples(numbers, numbers), min_size=1, max_size=6)


def pair(**changes: Any) -> Pair:
    """A pair that is equal, but for the changes."""
    usual: dict[str, Any] = {
        "old": "`once`",
        "new": "twice",
        "tf1": lambda: np.float32(1),
        "tf2": lambda: np.float32(1),
        "note": "Look out.",
        "threads": ("https://github.com/tensorflow/tensorflow/issues/1",),
    }
    return Pair(**usual | changes)


# --- the pairs


@pytest.mark.parametrize("one", PAIRS, ids=NAMES)
def test_both_sides_return_the_same_bits(one: Pair) -> None:
    check(one)


def test_pairs_are_14_to_20_and_none_comes_twice() -> None:
    assert 14 <= len(PAIRS) <= 20
    assert len(set(NAMES)) == len({one.old for one in PAIRS}) == len(PAIRS)
    assert len({one.tf2 for one in PAIRS}) == len(PAIRS)


@pytest.mark.parametrize("one", PAIRS, ids=NAMES)
def test_every_field_is_filled(one: Pair) -> None:
    assert one.old
    assert one.new
    assert re.fullmatch(r"[A-Z`].*\.", one.note)
    assert one.note.count("`") % 2 == 0
    assert one.threads
    assert len(set(one.threads)) == len(one.threads)
    for thread in one.threads:
        assert re.fullmatch(THREAD, thread)


@pytest.mark.parametrize("one", PAIRS, ids=NAMES)
def test_each_side_keeps_to_its_dialect(one: Pair) -> None:
    assert "tf1." in inspect.getsource(one.tf1)
    assert not re.search(r"\btf\.", inspect.getsource(one.tf1))
    assert "tf1." not in inspect.getsource(one.tf2)


@pytest.mark.parametrize("function", SHOWN.values(), ids=SHOWN)
def test_code_is_short_and_narrow_enough_to_stand_abreast(
    function: Callable[[], object],
) -> None:
    lines = inspect.getsource(function).splitlines()
    assert len([line for line in lines if line.strip()]) <= 12
    assert max(map(len, lines)) <= 68


@pytest.mark.parametrize("function", SHOWN.values(), ids=SHOWN)
def test_code_needs_nothing_but_the_imports(function: Callable[[], object]) -> None:
    def globals_of(code: CodeType) -> set[str]:
        inner = [each for each in code.co_consts if isinstance(each, CodeType)]
        loads = dis.get_instructions(code)
        names = {each.argval for each in loads if each.opname == "LOAD_GLOBAL"}
        return names.union(*map(globals_of, inner)) - vars(builtins).keys()

    named = set(re.findall(r"save_tf1", inspect.getdoc(function) or ""))
    assert globals_of(function.__code__) <= IMPORTS | named


def test_2017s_renamed_names_are_all_there() -> None:
    text = "\n".join(map(inspect.getsource, SHOWN.values()))
    for name in (
        "tf1.placeholder",
        "tf1.log",
        "reduction_indices",
        "tf1.random_normal",
        "FileWriter",
        "np_utils",
    ):
        assert name in text
    assert "`layers.core`" in PAIRS[-1].old


def test_results_are_the_same_again_and_in_another_process_and_nothing_is_left(
    tmp_path: Path,
) -> None:
    code = """\
import kvt
with kvt.quiet():
    from kvt.differences import migration
for one in migration.PAIRS:
    print(migration.show(one))
"""
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        check=False,
    )
    assert run.stderr == ""
    assert run.stdout.splitlines() == [
        line for one in PAIRS for line in str(migration.show(one)).splitlines()
    ]
    assert list(tmp_path.iterdir()) == []


@given(x=vectors)
@settings(max_examples=15)
def test_any_vector_gives_the_same(x: list[float]) -> None:
    for old, new in (
        (migration.feed_tf1, migration.feed_tf2),
        (migration.default_tf1, migration.default_tf2),
        (migration.python_tf1, migration.python_tf2),
    ):
        assert same(old(x), new(x))


@given(x=vectors, data=st.data())
@settings(max_examples=10)
def test_any_training_set_gives_the_same(x: list[float], data: st.DataObject) -> None:
    y = data.draw(st.lists(float32, min_size=len(x), max_size=len(x)))
    assert same(migration.minimize_tf1(x, y), migration.minimize_tf2(x, y))


@given(y=rows(st.floats(0, 1, width=32)), data=st.data())
@settings(max_examples=10)
def test_any_labels_and_logits_give_the_same(
    y: list[tuple[float, float]], data: st.DataObject
) -> None:
    pairs = st.tuples(float32, float32)
    logits = data.draw(st.lists(pairs, min_size=len(y), max_size=len(y)))
    assert same(migration.labels_tf1(y, logits), migration.labels_tf2(y, logits))


@given(x=rows(float32), n=rows(st.integers(1, 10**6)), seed=st.integers(0, 2**31 - 1))
@settings(max_examples=15)
def test_any_matrix_and_any_seed_give_the_same(x: Any, n: Any, seed: int) -> None:
    assert same(migration.reuse_tf1(x), migration.reuse_tf2(x))
    assert same(migration.rename_tf1(n), migration.rename_tf2(n))
    assert same(migration.dense_tf1(x), migration.dense_tf2(x))
    assert same(migration.seed_tf1(seed), migration.seed_tf2(seed))


@given(n=st.integers(1, 100))
@settings(max_examples=10)
def test_any_count_gives_the_same(n: int) -> None:
    assert same(migration.branch_tf1(n), migration.branch_tf2(n))
    assert same(migration.iterate_tf1(n), migration.iterate_tf2(n))


# --- comparing and showing


@pytest.mark.parametrize(
    "other",
    [
        np.float32(1.0000001),  # value
        np.float64(1),  # dtype
        np.array([1], "float32"),  # shape
        np.array(1, "float32"),  # an array, not a number
        [np.float32(1)],  # structure
        1.0,
        1,
        "1",
        None,
    ],
    ids=repr,
)
def test_results_that_differ_are_told_apart(other: object) -> None:
    assert not same(np.float32(1), other)
    assert not same([np.float32(1)], [other])
    assert same(other, other)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (0.0, -0.0),
        ([1, 2], (1, 2)),
        ([1, 2], [1, 2, 3]),
        (np.zeros((2, 3)), np.zeros((3, 2))),
        ("a", "b"),
        (["Const"], ["Fill"]),
        (True, 1),
    ],
)
def test_neither_sign_nor_order_nor_type_is_overlooked(a: object, b: object) -> None:
    assert not same(a, b)


def test_nan_equals_itself() -> None:
    assert same(np.float32("nan"), np.float32("nan"))


def test_unequal_pair_is_refused_with_its_name_and_both_values() -> None:
    unequal = pair(tf2=lambda: np.float32(2))
    for refuse in (check, migration.show, lambda one: migration.summary([one], "")):
        with pytest.raises(
            ValueError, match=r"`once`, now twice: .*\(1\.0\).*\(2\.0\)"
        ):
            refuse(unequal)


def test_summary_has_a_row_a_pair_linked_to_where_it_is_shown() -> None:
    table = migration.summary(PAIRS, NOTEBOOK)
    assert [row[1:] for row in table.rows] == [[one.new, "yes"] for one in PAIRS]
    for one, row in zip(PAIRS, table.rows, strict=True):
        assert row[0].startswith(f"[{one.old}]({NOTEBOOK}#")
        assert " " not in row[0].rpartition("](")[2]


def test_pair_is_shown_with_code_result_note_error_and_threads() -> None:
    shown = str(migration.show(pair(tf1=one_third, tf2=one_third, mistake=divide)))
    assert shown.startswith("#### `once`, now twice\n")
    assert shown.count("return np.float32(1 / 3)") == 2
    assert "Both return `0.333`. Look out." in shown
    assert "ZeroDivisionError: division by zero" in shown
    assert shown.endswith(
        "Threads: [tensorflow#1](https://github.com/tensorflow/tensorflow/issues/1)."
    )


def one_third() -> Any:
    return np.float32(1 / 3)


def divide() -> float:
    return 1 / 0


def test_mistakes_raise_what_people_ask_about() -> None:
    errors = {
        one.tf2.__name__: migration.error(one.mistake) for one in PAIRS if one.mistake
    }
    assert errors["count_tf2"] == (
        "ValueError: tf.function only supports singleton tf.Variables "
        "created on the first call"
    )
    assert errors["initialize_tf2"].startswith("AttributeError: 'SymbolicTensor'")
    for text in errors.values():
        assert re.match(r"\w+Error: \S", text)
        assert str(Path.home()) not in text
        assert len(text) < 100


def test_mistake_that_raises_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="one_third raises nothing"):
        migration.error(one_third)


def test_log_level_of_tensorflow_is_restored_after_success_and_failure() -> None:
    logger = logging.getLogger("tensorflow")
    before = logger.level
    check(pair(tf1=lambda: logger.level, tf2=lambda: logging.ERROR))
    assert logger.level == before
    with pytest.raises(ZeroDivisionError):
        check(pair(tf1=divide))
    assert logger.level == before


# --- what the notes claim


def traces(function: Any, *calls: Any) -> int:
    for call in calls:
        function(call)
    return function.experimental_get_tracing_count()


def test_shapes_and_python_numbers_are_traced_anew_tensors_of_one_shape_are_not() -> (
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
    assert same(eager, [in_graph(step).numpy() for step in steps]) is not differ


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
def test_other_optimizers_agree_but_for_rounding(
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
    assert not same(w.numpy(), expected)


def test_epsilon_of_adam_is_1e_8_in_tensorflow_1_and_1e_7_in_keras() -> None:
    signature = inspect.signature(tf1.train.AdamOptimizer)
    assert signature.parameters["epsilon"].default == 1e-8
    assert keras.optimizers.Adam().epsilon == 1e-7


def test_metric_without_update_is_0_and_reset_state_begins_anew() -> None:
    assert migration.metric_tf1(()) == migration.metric_tf2(()) == 0
    accuracy = keras.metrics.Accuracy()
    accuracy.update_state([1], [1])
    accuracy.reset_state()
    assert accuracy.result().numpy() == 0


def draw_tf1(before: int, **seed: int) -> Any:
    """Draw in a graph that has some random operations already."""
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


def test_with_the_first_seed_alone_draws_depend_on_what_was_before() -> None:
    assert not same(draw_tf1(0), draw_tf2(0))
    assert not same(draw_tf2(0), draw_tf2(1))
    assert same(draw_tf2(1), draw_tf2(1))
    for before in range(3):
        assert same(draw_tf1(before), draw_tf1(0, seed=before))


def test_stateless_draws_depend_on_their_seed_alone() -> None:
    with tf1.Graph().as_default(), tf1.Session() as session:
        tf1.constant(0)
        drawn = session.run(tf1.random.stateless_normal((3,), seed=(1, 2)))
    assert same(drawn, tf.random.stateless_normal((3,), seed=(1, 2)).numpy())


def test_py_function_has_a_gradient_and_numpy_function_has_none() -> None:
    x = tf.Variable(3.0)
    with tf.GradientTape(persistent=True) as tape:
        seen = tf.py_function(lambda x: x * x, [x], tf.float32)
        unseen = tf.numpy_function(np.square, [x], tf.float32)
    assert tape.gradient(seen, x).numpy() == 6
    assert tape.gradient(unseen, x) is None


def test_loop_over_a_dataset_begins_anew_and_can_be_part_of_the_graph() -> None:
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


def test_saver_goes_by_names_and_checkpoint_by_attributes(tmp_path: Path) -> None:
    old, new = str(tmp_path / "old"), str(tmp_path / "new")
    migration.save_tf1(old)
    with tf1.Graph().as_default(), tf1.Session() as session:
        tf1.get_variable("renamed", initializer=[0.0, 0.0])
        with pytest.raises(tf1.errors.NotFoundError):
            tf1.train.Saver().restore(session, old)
    tf.train.Checkpoint(w=tf.Variable([1.0], name="w")).write(new)
    renamed = tf.Variable([0.0], name="renamed")
    tf.train.Checkpoint(w=renamed).read(new).assert_consumed()
    assert renamed.numpy() == [1]
    with pytest.raises(AssertionError):
        tf.train.Checkpoint(moved=renamed).read(new).assert_consumed()


def test_old_checkpoint_lists_its_variables(tmp_path: Path) -> None:
    migration.save_tf1(str(tmp_path / "model"))
    assert tf.train.list_variables(str(tmp_path / "model")) == [("w", [2])]


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
def test_what_is_gone_is_gone_from_compat_too(name: str) -> None:
    with pytest.raises(AttributeError):
        eval(f"tf1.{name}")
