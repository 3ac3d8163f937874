"""The forward part of a TensorFlow graph: what computes the output, and nothing else.

It imports no TensorFlow. An operation of a session's graph, or of a function's, has a
name, a type and input tensors; that is all that is asked for here.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Shape = tuple[int | None, ...] | None  # None for a length, or a rank, that is not known


class Operation(Protocol):
    """What is used of a `tf.Operation`: control inputs are not among `inputs`."""

    name: str
    type: str
    inputs: Sequence["Tensor"]


class Tensor(Protocol):
    """What is used of a `tf.Tensor` of a graph."""

    op: Operation
    shape: Any
    dtype: Any


@dataclass(frozen=True)
class Node:
    """An operation of the forward part, or a leaf: what comes into it from outside.

    Attributes:
        name: the operation's name, unique in its graph.
        kind: its type, such as "MatMul"; "input", "variable" or "constant" for a leaf.
        shape: of the value that is read from it.
        inputs: the names of the nodes that it reads, in order.
    """

    name: str
    kind: str
    shape: Shape = None
    inputs: tuple[str, ...] = ()

    @property
    def scope(self) -> str:
        """The name up to its last slash: in Keras's graphs, model and layer."""
        return self.name.rpartition("/")[0]


Graph = tuple[Node, ...]  # each node stands after those that it reads

_COPIES = ("Identity", "ReadVariableOp")  # the value goes through them unchanged
_VARIABLES = ("VarHandleOp", "VariableV2", "Variable")


def forward(output: Tensor) -> Graph:
    """Walk back from a tensor to all that it is computed from.

    A read or a copy of a value is the value itself. What a function captures is a
    variable. Constants that are not floating-point numbers are left out: they are axes
    and shapes, arguments of an operation. Raises ValueError where the graph has a loop.
    """
    nodes: dict[str, Node] = {}
    opened: set[str] = set()
    waiting = [_source(output)]
    while waiting:
        tensor, shape = waiting[-1]
        name = tensor.op.name
        sources = [s for s in map(_source, tensor.op.inputs) if not _is_argument(s[0])]
        missing = [s for s in sources if s[0].op.name not in nodes]
        if not missing:
            waiting.pop()
            inputs = tuple(source.op.name for source, _ in sources)
            nodes.setdefault(name, Node(name, _kind(tensor), shape, inputs))
        elif name in opened:
            raise ValueError(
                f"{name} reads what is computed from it; the forward part must have no "
                "loop: pass a tensor of a graph without tf1.while_loop"
            )
        else:
            opened.add(name)
            waiting += reversed(missing)
    return tuple(nodes.values())


def structure(graph: Iterable[Node]) -> list[tuple[str, Shape, tuple[int, ...]]]:
    """Return the graph without its names: kinds, shapes, and places of the inputs."""
    nodes = tuple(graph)
    place = {node.name: i for i, node in enumerate(nodes)}
    return [(n.kind, n.shape, tuple(place[i] for i in n.inputs)) for n in nodes]


def _source(tensor: Tensor) -> tuple[Tensor, Shape]:
    """Return the tensor behind reads and copies, and the shape that is read."""
    rank = tensor.shape.rank
    shape = None if rank is None else tuple(tensor.shape.as_list())
    while tensor.op.type in _COPIES:
        tensor = tensor.op.inputs[0]
    return tensor, shape


def _is_argument(tensor: Tensor) -> bool:
    return tensor.op.type == "Const" and not tensor.dtype.is_floating


def _kind(tensor: Tensor) -> str:
    kind = tensor.op.type
    is_captured = kind == "Placeholder" and tensor.dtype.name == "resource"
    if kind in _VARIABLES or is_captured:
        return "variable"
    return {"Placeholder": "input", "Const": "constant"}.get(kind, kind)
