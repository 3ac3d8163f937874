"""The forward part of a TensorFlow graph, and its table."""

import re
from dataclasses import replace
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
    scopes = [node.name.split("/")[-2] for node in nodes if node.inputs]
    # Keras counts every use of a layer's name.
    assert [re.sub(r"_1$", "", s) for s in scopes] == ["first"] * 3 + ["second_2"] * 2


# --- the table ------------------------------------------------------------------------

CHAIN = (
    Node("x", "input", (None, 784)),
    Node("w", "variable", (784, 32)),
    Node("first/dot", "MatMul", (None, 32), ("x", "w")),
    Node("second/relu", "Relu", (None, 32), ("first/dot",)),
    Node("s", "constant", ()),
    Node("again", "AddV2", (None, 784), ("second/relu", "first/dot", "s")),
)
TEXTS = [
    "input: b×784",
    "variable: 784×32",
    "MatMul(1, 2): b×32",
    "Relu(3): b×32",
    "constant: number",
    "AddV2(4, 3, 5): b×784",
]


def renamed(graph: graphs.Graph) -> graphs.Graph:
    return tuple(
        replace(n, name=f"_{n.name}", inputs=tuple(f"_{i}" for i in n.inputs))
        for n in graph
    )


def test_equal_graphs_have_equal_rows_whatever_their_names_are() -> None:
    table = graphs.table({"Keras": CHAIN, "TensorFlow 2": renamed(CHAIN)})
    assert table.header == ["", "Keras", "TensorFlow 2", "equal"]
    assert table.rows == [
        [str(row), text, text, "yes"] for row, text in enumerate(TEXTS, start=1)
    ]


DIFFERENT = {
    "kind": (*CHAIN[:3], replace(CHAIN[3], kind="Tanh"), *CHAIN[4:]),
    "shape": (*CHAIN[:3], replace(CHAIN[3], shape=(None, 31)), *CHAIN[4:]),
    "unknown length": (CHAIN[0], replace(CHAIN[1], shape=(None, 32)), *CHAIN[2:]),
    "input": (*CHAIN[:3], replace(CHAIN[3], inputs=("x",)), *CHAIN[4:]),
    "order of inputs": (*CHAIN[:2], replace(CHAIN[2], inputs=("w", "x")), *CHAIN[3:]),
    "end": CHAIN[:-1],
}


@pytest.mark.parametrize("other", DIFFERENT.values(), ids=DIFFERENT)
@pytest.mark.parametrize("is_first", [True, False])
def test_the_row_that_differs_says_so_and_no_other(
    other: graphs.Graph, is_first: bool
) -> None:
    pair = [other, CHAIN] if is_first else [CHAIN, other]
    rows = graphs.table(dict(zip("ab", pair, strict=True))).rows
    assert [row[-1] for row in rows].count("no") == 1
    assert all((row[1] == row[2]) == (row[3] == "yes") for row in rows)


@settings(max_examples=25)
@given(one=STEPS, other=STEPS)
def test_all_rows_are_equal_only_if_the_structures_are(
    one: list[Step], other: list[Step]
) -> None:
    found = []
    for steps in (one, other):
        with tf1.Graph().as_default():
            x = tf1.placeholder("float32", (None, 3))
            variables = [tf1.get_variable(n, (3,)) for n in "ab"]
            found.append(graphs.forward(wire(steps, x, variables)[0]))
    rows = graphs.table(dict(zip("ab", found, strict=True))).rows
    same = graphs.structure(found[0]) == graphs.structure(found[1])
    assert all(row[-1] == "yes" for row in rows) == same
