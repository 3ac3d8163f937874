"""Section 05, TensorBoard: what its reader finds, and the graphs that are drawn."""

import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow.compat.v1 as tf1
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tensorboard.backend.event_processing import event_accumulator

from kvt.show import graphs, plots
from kvt.show.graphs import Node
from tests.notebooks import recipes

CHAPTER = "TensorBoard"
DIALECTS = ("keras", "tf2", "tf1")


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Let the notebook write its logs there, not into the checkout."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def run(folder: Path, **values: object) -> dict[str, Any]:
    with inside(folder):
        return recipes.run(CHAPTER, **values)


def accumulate(folder: Path) -> event_accumulator.EventAccumulator:
    """Read with the older of TensorBoard's readers; the notebook takes the newer."""
    every = {"scalars": 0, "histograms": 0, "tensors": 0}
    return event_accumulator.EventAccumulator(str(folder), every).Reload()


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return step and value by tag, from records of either format."""
    if not folder.exists():
        return {}
    events = accumulate(folder)
    found = {
        tag: [(e.step, float(e.value)) for e in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }
    for tag in events.Tags()["tensors"]:
        if events.SummaryMetadata(tag).plugin_data.plugin_name == "scalars":
            found[tag] = [
                (e.step, float(tf.make_ndarray(e.tensor_proto)))
                for e in events.Tensors(tag)
            ]
    return found


PARAMETERS = st.fixed_dictionaries(
    {
        "train_size": st.integers(9, 60),
        "batch_size": st.integers(1, 70),
        "epochs": st.integers(1, 3),
        "learning_rate": st.floats(0.001, 0.5),
        "validation_split": st.sampled_from([0, 0.1, 0.5]),
        "seed": st.integers(0, 2**32 - 1),
    }
)


@settings(max_examples=3)
@given(values=PARAMETERS)
@example(
    values={
        "train_size": 25,
        "batch_size": 7,
        "epochs": 12,  # more than the 10 that TensorBoard's reader keeps unasked
        "learning_rate": 1,
        "validation_split": 0,
        "seed": 2**32 - 1,
    }
)
def test_every_dialect_files_the_history_under_the_same_tags(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]
) -> None:
    folder = tmp_path_factory.mktemp("board")
    left = run(folder, **values)
    _, history = left["board_runs"]["keras"]
    assert len(history["loss"]) == values["epochs"]
    by_place: dict[str, dict[str, list[tuple[int, float]]]]
    by_place = {"train": {}, "validation": {}}
    for name, figures in history.items():
        place = "validation" if name.startswith("val_") else "train"
        tag = f"epoch_{name.removeprefix('val_')}"
        by_place[place][tag] = list(enumerate(figures))
    assert bool(by_place["validation"]) == bool(values["validation_split"])
    for dialect in DIALECTS:
        for place, expected in by_place.items():
            found = scalars(folder / left["log_dir"] / dialect / place)
            figures = {
                tag: events
                for tag, events in found.items()
                if tag in ("epoch_loss", "epoch_accuracy")
            }
            assert figures == expected, (dialect, place)


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Run the chapter on few examples, a short last batch, and a large rate."""
    folder = tmp_path_factory.mktemp("board")
    left = run(folder, train_size=50, batch_size=7, epochs=3, learning_rate=0.3)
    return folder / left["log_dir"], left


def counted(logged: tuple[Path, dict[str, Any]], dialect: str) -> list[list[Any]]:
    """Return the histograms by weight and by epoch, as (left, right, count) rows."""
    _, left = logged
    reader, folder = left["reader"], f"{dialect}/train"
    tags = reader.PluginRunToTagToContent("histograms")[folder]
    return [
        [tf.make_ndarray(e.tensor_proto) for e in reader.Tensors(folder, tag)]
        for tag in tags
    ]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_buckets_count_the_weights_that_lie_in_them(
    logged: tuple[Path, dict[str, Any]], dialect: str
) -> None:
    weights = logged[1]["board_runs"][dialect][0]
    found = counted(logged, dialect)
    assert len(found) == 4
    for i, by_epoch in enumerate(found):
        assert len(by_epoch) == 3
        for epoch, buckets in enumerate(by_epoch):
            values = weights[epoch][i].ravel()
            edges = [*buckets[:, 0], buckets[-1, 1]]
            # Away from the edges, where rounding decides, the counts up to an edge.
            for edge, below in zip(edges, [0, *buckets[:, 2].cumsum()], strict=True):
                slack = 1e-6 * max(1e-3, abs(edge))
                least = np.sum(values < edge - slack)
                most = np.sum(values <= edge + slack)
                assert least <= below <= most, (i, epoch, edge)


def test_keras_and_tensorflow_2_share_30_buckets_of_one_width(
    logged: tuple[Path, dict[str, Any]],
) -> None:
    for theirs, ours in zip(
        counted(logged, "keras"), counted(logged, "tf2"), strict=True
    ):
        np.testing.assert_array_equal(theirs, ours, strict=True)
        for buckets in ours:
            assert len(buckets) == 30
            widths = buckets[:, 1] - buckets[:, 0]
            np.testing.assert_allclose(widths, widths[0], rtol=1e-6)


def test_the_edges_of_tensorflow_1_grow_by_a_tenth(
    logged: tuple[Path, dict[str, Any]],
) -> None:
    seen = 0
    for by_epoch in counted(logged, "tf1"):
        for buckets in by_epoch:
            inner = np.abs(np.float64(buckets[1:, 0]))
            powers = np.log(inner[inner > 1e-11] / 1e-12) / np.log(1.1)
            np.testing.assert_allclose(powers, powers.round(), atol=1e-4)
            seen += powers.size
    assert seen > 100


def test_keras_writes_its_layers_and_no_graph_of_operations(
    logged: tuple[Path, dict[str, Any]],
) -> None:
    folder, left = logged
    for place in ("train", "validation"):
        assert not accumulate(folder / "keras" / place).Tags()["graph"]
    names = [layer["config"]["name"] for layer in left["board_layers"]]
    assert names[1:] == [layer.name for layer in left["board_model"].layers]


@pytest.mark.parametrize("place", ["keras/traced", "tf2/train", "tf1/train"])
def test_the_graph_on_disk_holds_the_operations_that_are_drawn(
    logged: tuple[Path, dict[str, Any]], place: str
) -> None:
    folder, left = logged
    filed = {node.name: node for node in accumulate(folder / place).Graph().node}
    drawn = dict(zip(left["board_graphs"], left["board_drawn"].values(), strict=True))
    for node in drawn[place]:
        kinds = {"input": "Placeholder"}
        if node.kind == "variable":
            assert filed[node.name].op in ("Placeholder", "VarHandleOp")
        else:
            assert filed[node.name].op == kinds.get(node.kind, node.kind)


def test_the_three_forward_parts_are_one_structure(
    logged: tuple[Path, dict[str, Any]],
) -> None:
    _, left = logged
    keras_graph, *others = left["board_drawn"].values()
    kinds = [node.kind for node in keras_graph if node.inputs]
    assert kinds == ["MatMul", "BiasAdd", "Relu", "MatMul", "BiasAdd", "Softmax"]
    for other in others:
        assert graphs.structure(other) == graphs.structure(keras_graph)


# --- the forward part of any graph ----------------------------------------------------

UNARY = {"Relu": tf.nn.relu, "Tanh": tf.tanh, "Neg": tf.negative}
BINARY = {"AddV2": tf.add, "Mul": tf.multiply, "BiasAdd": tf.nn.bias_add}
STEPS = st.lists(
    st.tuples(
        st.sampled_from([*UNARY, *BINARY, "Identity", "Reshape"]),
        st.integers(0, 99),
        st.integers(0, 99),
    ),
    min_size=1,
    max_size=9,
)
Step = tuple[str, int, int]


def wire(steps: list[Step], x: Any, variables: list[Any]) -> tuple[Any, list[Any]]:
    """Build a graph step by step; say what was built, without copies.

    Returns the last tensor and, for each value, None for the input, a variable's
    place, or (kind, the values that it reads).
    """
    values: list[Any] = [x]
    told: list[Any] = [None]
    for kind, i, j in steps:
        one, other = values[i % len(values)], j % (len(values) + len(variables))
        meant = told[i % len(values)]
        if kind == "Identity":
            values.append(tf.identity(one))
            told.append(meant)
            continue
        if kind == "Reshape":  # the new shape is an argument, not a value
            values.append(tf.reshape(one, (-1, 3)))
            told.append((kind, [meant]))
            continue
        if kind in UNARY:
            values.append(UNARY[kind](one))
            told.append((kind, [meant]))
            continue
        if kind == "BiasAdd":
            values.append(BINARY[kind](one, variables[j % len(variables)]))
            told.append((kind, [meant, j % len(variables)]))
            continue
        if other < len(values):
            operand, what = values[other], told[other]
        else:
            what = other - len(values)
            operand = variables[what]
        values.append(BINARY[kind](one, operand))
        told.append((kind, [meant, what]))
    return values[-1], told[-1]


def retell(nodes: graphs.Graph, names: list[str]) -> Any:
    """Tell a graph as `wire` does, from its nodes; `names` are the variables'."""
    by_name = {node.name: node for node in nodes}

    def told(name: str) -> Any:
        node = by_name[name]
        if node.kind == "variable":
            return names.index(name)
        if node.kind == "input":
            return None
        return node.kind, [told(i) for i in node.inputs]

    return told(nodes[-1].name)


def check(nodes: graphs.Graph) -> None:
    """Each node stands once, after what it reads, and is read but for the output."""
    seen: set[str] = set()
    for node in nodes:
        assert set(node.inputs) <= seen
        assert node.name not in seen
        seen.add(node.name)
        assert node.kind not in ("Identity", "ReadVariableOp", "Const", "Placeholder")
        assert bool(node.inputs) == (node.kind not in ("input", "variable"))
        if node.kind == "variable":
            assert node.shape == (3,)
    read = {name for node in nodes for name in node.inputs}
    assert read | {nodes[-1].name} == seen


@settings(max_examples=40)
@given(steps=STEPS)
@example(steps=[("AddV2", 0, 0), ("Mul", 1, 0), ("Identity", 2, 0), ("Mul", 3, 1)])
@example(steps=[("Identity", 0, 0), ("Identity", 1, 0)])
def test_the_forward_part_of_a_session_graph_is_what_was_built(
    steps: list[Step],
) -> None:
    with tf1.Graph().as_default():
        x = tf1.placeholder("float32", (None, 3))
        variables = [tf1.get_variable(n, (3,), use_resource=True) for n in "ab"]
        y, told = wire(steps, x, variables)
        tf1.gradients(y, variables)  # and more that is not forward
        nodes = graphs.forward(y)
    check(nodes)
    assert retell(nodes, ["a", "b"]) == told


@settings(max_examples=25)
@given(steps=STEPS)
def test_a_function_and_a_session_have_the_same_forward_structure(
    steps: list[Step],
) -> None:
    weights = [tf.Variable(tf.zeros(3)) for _ in range(2)]
    spec = tf.TensorSpec((None, 3), "float32")
    traced = tf.function(
        lambda x: wire(steps, x, weights)[0], autograph=False
    ).get_concrete_function(spec)
    nodes = graphs.forward(traced.graph.outputs[0])
    check(nodes)
    with tf1.Graph().as_default():
        x = tf1.placeholder("float32", (None, 3))
        old = [tf1.get_variable(n, (3,), use_resource=False) for n in "ab"]
        y, _ = wire(steps, x, old)
        assert graphs.structure(graphs.forward(y)) == graphs.structure(nodes)


def test_a_weight_that_is_a_constant_is_kept_and_an_axis_is_not() -> None:
    with tf1.Graph().as_default():
        x = tf1.placeholder("float32", (None, 3))
        y = tf1.reduce_sum(x * np.ones(3, "float32"), axis=1)
    kinds = [node.kind for node in graphs.forward(y)]
    assert kinds == ["input", "constant", "Mul", "Sum"]


def test_a_deep_graph_is_walked_without_recursion() -> None:
    with tf1.Graph().as_default():
        y = tf1.placeholder("float32", (None, 3))
        for _ in range(1500):
            y = tf1.negative(y)
    assert len(graphs.forward(y)) == 1501


def test_a_loop_is_refused_by_name() -> None:
    tf1.disable_control_flow_v2()
    try:
        with tf1.Graph().as_default():
            y = tf1.while_loop(lambda i: i < 3.0, lambda i: i + 1.0, [tf1.zeros(())])
        with pytest.raises(ValueError, match=r"while/\w+ reads .* without tf1.while"):
            graphs.forward(y)
    finally:
        tf1.enable_control_flow_v2()


def test_keras_layers_are_scopes_of_their_own() -> None:
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(3, activation="tanh", name="first"),
            keras.layers.Dense(2, name="second_2"),
        ]
    )
    spec = tf.TensorSpec((None, 4), "float32")
    traced = tf.function(model).get_concrete_function(spec)
    nodes = graphs.forward(traced.graph.outputs[0])
    alt = graphs.draw({"Keras": nodes}).alt
    assert alt.endswith("then BiasAdd with 2. Keras frames first and second.")


# --- the drawing ----------------------------------------------------------------------

CHAIN = (
    Node("x", "input", (None, 784)),
    Node("w", "variable", (784, 32)),
    Node("first/dot", "MatMul", (None, 32), ("x", "w")),
    Node("b", "variable", (32,)),
    Node("first/sum", "BiasAdd", (None, 32), ("first/dot", "b")),
    Node("second_1/relu", "Relu", (None, 32), ("first/sum",)),
)
PLAIN = tuple(
    Node(
        node.name.rpartition("/")[2],
        node.kind,
        node.shape,
        tuple(name.rpartition("/")[2] for name in node.inputs),
    )
    for node in CHAIN
)
SKIP = (
    *PLAIN,
    Node("s", "constant", ()),
    Node("again", "AddV2", (None, 784), ("relu", "x", "s")),
)


def texts(picture: plots.Picture) -> list[str]:
    return [e.text or "" for e in ET.fromstring(picture.svg).iter() if e.text]


def test_equal_graphs_are_told_once_and_frames_by_name() -> None:
    picture = graphs.draw({"Keras": CHAIN, "TensorFlow 2": PLAIN})
    assert picture.alt == (
        "The graphs of Keras and TensorFlow 2 are the same: input b×784, then MatMul "
        "with 784×32, then BiasAdd with 32, then Relu. Keras frames first and second."
    )
    shown = texts(picture)
    assert [shown.count(t) for t in ("MatMul", "784×32", "first", "second")] == [
        2,
        2,
        1,
        1,
    ]


def test_different_graphs_are_told_one_by_one() -> None:
    other = (*PLAIN[:-1], Node("relu", "Tanh", (None, 32), ("sum",)))
    alt = graphs.draw({"Keras": PLAIN, "TensorFlow 1": other}).alt
    assert "same" not in alt
    assert "Relu. TensorFlow 1: input" in alt
    assert alt.endswith("then Tanh.")


def test_what_a_row_reads_is_told_where_it_is_not_the_row_before() -> None:
    alt = graphs.draw({"Keras": SKIP}).alt
    assert alt.endswith("then AddV2 of input (1) and Relu (4) with number.")


def test_rows_of_equal_graphs_lie_side_by_side() -> None:
    svg = graphs.draw(dict.fromkeys(("Keras", "TensorFlow 2", "x"), CHAIN)).svg
    for kind in ("input", "MatMul", "BiasAdd", "Relu"):
        places = re.findall(rf"<text([^>]*)>{kind}</text>", svg)
        heights = {re.search(r' y="([\d.]+)"', place)[1] for place in places}
        assert (len(places), len(heights)) == (3, 1), places


LETTERS = st.text("aMW_1/.", min_size=1, max_size=30)  # of names and types


@st.composite
def drawn_graphs(draw: st.DrawFn) -> graphs.Graph:
    """Draw any small graph: skips, wide rows, odd names and shapes."""
    names = draw(st.lists(LETTERS, min_size=1, max_size=8, unique=True))
    length = st.none() | st.integers(0, 9999)
    shapes = st.none() | st.lists(length, max_size=5).map(tuple)
    nodes: list[Node] = []
    for name in names:
        before = [node.name for node in nodes]
        reads = draw(st.lists(st.sampled_from(before), max_size=5)) if before else []
        kinds = LETTERS if reads else st.just("input")
        kind = draw(kinds | st.sampled_from(["variable", "constant", "MatMul"]))
        is_leaf = kind in ("variable", "constant")
        inputs = () if is_leaf else tuple(reads)
        nodes.append(Node(name, kind, draw(shapes), inputs))
    return tuple(nodes)


@settings(max_examples=15)
@given(one=drawn_graphs(), other=drawn_graphs())
def test_any_graph_is_drawn_inside_the_picture(
    one: graphs.Graph, other: graphs.Graph
) -> None:
    picture = graphs.draw({"Keras": one, "b": other, "c": one})
    root = ET.fromstring(picture.svg)
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    assert width == 440
    for path in root.iter("{http://www.w3.org/2000/svg}path"):
        numbers = [float(n) for n in re.findall(r"-?\d+\.?\d*", path.attrib["d"])]
        assert all(-1 <= x <= width + 1 for x in numbers[::2])
        assert all(-1 <= y <= height + 1 for y in numbers[1::2])


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: graphs.draw({}), "graphs is empty"),
        (lambda: graphs.draw({"Keras": ()}), "Keras's graph is empty"),
        (
            lambda: graphs.draw(dict.fromkeys("abcd", PLAIN)),
            "graphs has 4 entries; it must be at most 3; ",
        ),
    ],
)
def test_graphs_that_cannot_be_drawn_are_refused_by_name(
    draw: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        draw()
