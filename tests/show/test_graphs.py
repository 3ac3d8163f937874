"""The forward part of a TensorFlow graph, and its figure."""

import re
import xml.etree.ElementTree as ET
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow.compat.v1 as tf1
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kvt.show import graphs
from kvt.show.graphs import Node
from kvt.show.picture import Picture

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
    """Build a graph step by step; describe it without its copies.

    Returns the last tensor and its description: None for the input, a variable's
    place, or (kind, the descriptions of the values that it reads).
    """
    values: list[Any] = [x]
    described: list[Any] = [None]
    for kind, i, j in steps:
        one, other = values[i % len(values)], j % (len(values) + len(variables))
        meant = described[i % len(values)]
        if kind == "Identity":
            values.append(tf.identity(one))
            described.append(meant)
            continue
        if kind == "Reshape":  # the new shape is an argument, not a value
            values.append(tf.reshape(one, (-1, 3)))
            described.append((kind, [meant]))
            continue
        if kind in UNARY:
            values.append(UNARY[kind](one))
            described.append((kind, [meant]))
            continue
        if kind == "BiasAdd":
            values.append(BINARY[kind](one, variables[j % len(variables)]))
            described.append((kind, [meant, j % len(variables)]))
            continue
        if other < len(values):
            operand, what = values[other], described[other]
        else:
            what = other - len(values)
            operand = variables[what]
        values.append(BINARY[kind](one, operand))
        described.append((kind, [meant, what]))
    return values[-1], described[-1]


def describe(nodes: graphs.Graph, names: list[str]) -> Any:
    """Describe a graph as `wire` does, from its nodes; `names` are the variables'."""
    by_name = {node.name: node for node in nodes}

    def described(name: str) -> Any:
        node = by_name[name]
        if node.kind == "variable":
            return names.index(name)
        if node.kind == "input":
            return None
        return node.kind, [described(i) for i in node.inputs]

    return described(nodes[-1].name)


def check(nodes: graphs.Graph) -> None:
    """Check that nodes are unique, follow their inputs, and are read or the output."""
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
        y, described = wire(steps, x, variables)
        tf1.gradients(y, variables)  # and more that is not forward
        nodes = graphs.forward(y)
    check(nodes)
    assert describe(nodes, ["a", "b"]) == described


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


def test_a_loop_is_rejected_by_name() -> None:
    tf1.disable_control_flow_v2()
    try:
        with tf1.Graph().as_default():
            y = tf1.while_loop(lambda i: i < 3.0, lambda i: i + 1.0, [tf1.zeros(())])
        with pytest.raises(ValueError, match=r"while/\w+ reads .* without tf1.while"):
            graphs.forward(y)
    finally:
        tf1.enable_control_flow_v2()


def test_each_keras_layer_is_a_scope() -> None:
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


def texts(picture: Picture) -> list[str]:
    return [e.text or "" for e in ET.fromstring(picture.svg).iter() if e.text]


def test_equal_graphs_are_described_once_with_their_frames() -> None:
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


def test_different_graphs_are_described_one_by_one() -> None:
    other = (*PLAIN[:-1], Node("relu", "Tanh", (None, 32), ("sum",)))
    alt = graphs.draw({"Keras": PLAIN, "TensorFlow 1": other}).alt
    assert "same" not in alt
    assert "Relu. TensorFlow 1: input" in alt
    assert alt.endswith("then Tanh.")


def test_inputs_from_farther_above_are_named() -> None:
    alt = graphs.draw({"Keras": SKIP}).alt
    assert alt.endswith("then AddV2 of input (1) and Relu (4) with number.")


def test_rows_of_equal_graphs_have_equal_heights() -> None:
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
def test_graphs_that_cannot_be_drawn_are_rejected(draw: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw()
