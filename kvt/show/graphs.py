"""The forward part of a TensorFlow graph, as data and as a table.

It imports no TensorFlow: a tensor has an operation, a shape and a type, and an
operation has a name, a type and input tensors.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from kvt.show.tables import Table

Shape = tuple[int | None, ...]  # None for a length that only a run knows: the batch's


@dataclass(frozen=True)
class Node:
    """An operation of the forward part, or a leaf: a value from outside."""

    name: str  # the operation's, unique in its graph
    kind: str  # its type, such as "MatMul"; "input", "variable", "constant" for a leaf
    shape: Shape  # of the value that is read from it
    inputs: tuple[str, ...] = ()  # the names of the nodes that it reads, in order


Graph = tuple[Node, ...]  # each node stands after those that it reads


def forward(output: Any) -> Graph:
    """Walk back from a tensor to everything that it is computed from.

    A read or a copy of a value counts as the value. A value that a function captures is
    a variable. Integer constants, which are axes and shapes, are left out. Raises
    ValueError for an unknown rank, RecursionError for a loop or hundreds of operations.
    """
    nodes: dict[str, Node] = {}

    def visit(tensor: Any) -> str:
        source = _source(tensor)
        name: str = source.op.name
        if name not in nodes:
            inputs = [visit(one) for one in source.op.inputs if not _is_argument(one)]
            shape = tuple(tensor.shape.as_list())
            nodes[name] = Node(name, _kind(source), shape, tuple(inputs))
        return name

    visit(output)
    return tuple(nodes.values())


def structure(graph: Graph) -> list[tuple[str, Shape, tuple[int, ...]]]:
    """Return the graph without its names: kinds, shapes, and places of the inputs."""
    place = {node.name: i for i, node in enumerate(graph)}
    return [(n.kind, n.shape, tuple(place[i] for i in n.inputs)) for n in graph]


def table(graphs: Mapping[str, Graph]) -> Table:
    """Show graphs side by side, and whether they are equal: one node per row.

    graphs: label -> what `forward` returns. `MatMul(1, 2): b×32` reads rows 1 and 2,
    and its value has the shape b×32, b for the batch. If all rows are equal, the
    graphs have the same structure.
    """
    columns = [[_text(*row) for row in structure(g)] for g in graphs.values()]
    rows = [
        [str(row), *texts, "yes" if len(set(texts)) == 1 else "no"]
        for row, texts in enumerate(zip_longest(*columns, fillvalue="–"), start=1)
    ]
    return Table(["", *graphs, "equal"], rows, names=len(graphs) + 2)


def _text(kind: str, shape: Shape, inputs: tuple[int, ...]) -> str:
    """Return "input: b×784" or "MatMul(1, 2): b×32"; a scalar is a number."""
    reads = f"({', '.join(str(i + 1) for i in inputs)})" if inputs else ""
    lengths = "×".join("b" if length is None else str(length) for length in shape)
    return f"{kind}{reads}: {lengths or 'number'}"


def _source(tensor: Any) -> Any:
    """Return the tensor behind reads and copies."""
    while tensor.op.type in ("Identity", "ReadVariableOp"):
        tensor = tensor.op.inputs[0]
    return tensor


def _is_argument(tensor: Any) -> bool:
    return _source(tensor).op.type == "Const" and not tensor.dtype.is_floating


def _kind(tensor: Any) -> str:
    kind: str = tensor.op.type
    is_captured = kind == "Placeholder" and tensor.dtype.name == "resource"
    if is_captured or kind in ("VarHandleOp", "VariableV2", "Variable"):
        return "variable"
    return {"Placeholder": "input", "Const": "constant"}.get(kind, kind)
