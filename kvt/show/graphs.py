"""The forward part of a TensorFlow graph, as data and as a figure.

It imports no TensorFlow. An operation of a session's graph, or of a function's, has a
name, a type and input tensors; that is all that is asked for here.
"""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.textpath import TextPath

from kvt.show.canvas import (
    LOOK,
    STYLES,
    WIDTH,
    join_names,
    nonempty,
)
from kvt.show.picture import FONT, INK, Picture, picture

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


def draw(graphs: Mapping[str, Graph]) -> Picture:
    """Draw graphs side by side, one operation per row, so that equal graphs look equal.

    graphs: label -> what `forward` returns; at most 3. Variables and
    constants appear beside the operation that reads them, with their shapes; a frame
    surrounds the operations of one scope, such as one Keras layer. Raises ValueError
    for no graph, or more than 3.
    """
    if len(nonempty("graphs", graphs)) > 3:
        raise ValueError(
            f"graphs has {len(graphs)} entries; it must be at most 3; draw two"
        )
    columns = {k: _rows(nonempty(f"{k}'s graph", g)) for k, g in graphs.items()}
    tops = _tops(list(columns.values()))
    share = (WIDTH + 8) / len(columns)
    with style.context(LOOK):
        figure = Figure(figsize=(WIDTH / 72, tops[-1] / 72))
        ax = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(tops[-1], 0))
        ax.axis("off")
        for i, (label, rows) in enumerate(columns.items()):
            box = (i * share + 1, (i + 1) * share - 9)
            _graph_column(ax, label, rows, tops, box)
        return picture(figure, _graph_alt(graphs))


_BOX, _GAP, _LEAF = 24, 16, 15  # CSS px: a box's height, between boxes, a line beside


@dataclass(frozen=True)
class _Row:
    """An operation or input, the rows that it reads, and the labels beside it."""

    node: Node
    reads: list[int]
    leaves: list[str]
    starts: bool  # a frame begins here

    @property
    def height(self) -> float:
        return _BOX + _LEAF * max(0, len(self.leaves) - 1)


def _rows(nodes: Graph) -> list[_Row]:
    """Return a row per node; variables and constants become labels beside a row."""
    beside = {n.name: n for n in nodes if n.kind in ("variable", "constant")}
    chain = [n for n in nodes if n.name not in beside] or list(nodes)
    place = {node.name: i for i, node in enumerate(chain)}
    rows = []
    for node, before in zip(chain, ["", *(n.scope for n in chain)], strict=False):
        reads = sorted({place[i] for i in node.inputs if i in place})
        leaves = [_times(beside[i].shape) for i in node.inputs if i in beside]
        own = [] if node.inputs else [_times(node.shape)]
        rows.append(_Row(node, reads, leaves or own, node.scope not in ("", before)))
    return rows


def _tops(columns: Sequence[Sequence[_Row]]) -> list[float]:
    """Return where each row begins, and the last one ends, in every column."""
    tops = [28.0]
    for i in range(max(map(len, columns))):
        rows = [column[i] for column in columns if i < len(column)]
        tops[i] += 18 * any(row.starts for row in rows)  # the frame's name
        tops.append(tops[i] + max(row.height for row in rows) + _GAP)
    return tops


def _graph_column(
    ax: Axes, label: str, rows: Sequence[_Row], tops: Sequence[float], box: Any
) -> None:
    left, right = box
    ax.text(left, 14, label, va="center_baseline", fontweight="bold")
    skips = [(j, i) for i, row in enumerate(rows) for j in row.reads if j < i - 1]
    x = left + 6 + 5 * min(len(skips), 4)
    beside = max(_length(leaf) for row in rows for leaf in ["", *row.leaves])
    room = right - 4 - x - (beside and 18)
    width = min(
        max(_length(row.node.kind) for row in rows) + 10, max(room - beside, room * 0.5)
    )
    middle, end = x + width / 2, x + width
    color = STYLES.get(label, {"color": INK})["color"]
    for i, (row, y) in enumerate(zip(rows, tops, strict=False)):
        name, is_input = _cut(row.node.kind, width - 6), row.node.kind == "input"
        _box(ax, (x, y, end, y + row.height), INK if is_input else color, 2)
        ax.text(middle, y + row.height / 2, name, ha="center", va="center_baseline")
        for k, leaf in enumerate(row.leaves):
            at = y + _BOX / 2 + _LEAF * k
            ax.text(end + 18, at, _cut(leaf, room - width), va="center_baseline")
            if row.node.inputs:
                _arrow(ax, [(end + 16, at), (end + 1, at)])
        if i - 1 in row.reads:
            bottom = tops[i - 1] + rows[i - 1].height
            _arrow(ax, [(middle, bottom + 1), (middle, y - 1)])
        if row.starts:
            _frame(ax, rows[i:], tops[i:], box)
    for lane, (j, i) in enumerate(skips):
        ys = [tops[k] + rows[k].height / 2 + (3 if k == j else -3) for k in (j, i)]
        out = x - 6 - 5 * (lane % 4)
        _arrow(ax, [(x - 1, ys[0]), (out, ys[0]), (out, ys[1]), (x - 1, ys[1])])


def _frame(ax: Axes, rows: Sequence[_Row], tops: Sequence[float], box: Any) -> None:
    """Frame the rows that share the first one's scope, under the scope's name."""
    left, right = box
    scope = rows[0].node.scope
    inside = list(itertools.takewhile(lambda row: row.node.scope == scope, rows))
    bottom = tops[len(inside) - 1] + inside[-1].height
    _box(ax, (left, tops[0] - 20, right, bottom + 6), INK, 1, alpha=0.4)
    place: dict[str, Any] = {"ha": "right", "va": "center_baseline"}
    name = _cut(_layer(scope), right - left - 12)
    ax.text(right - 6, tops[0] - 10, name, **place)


def _box(ax: Axes, box: Any, color: str, width: float, alpha: float = 1) -> None:
    left, top, right, bottom = box
    shape: Any = {"boxstyle": "round,pad=0,rounding_size=4", "fill": False}
    look: Any = {"edgecolor": color, "linewidth": width, "alpha": alpha, **shape}
    ax.add_patch(FancyBboxPatch((left, top), right - left, bottom - top, **look))


def _arrow(ax: Axes, points: Sequence[tuple[float, float]]) -> None:
    ax.plot(*zip(*points, strict=True), color=INK, linewidth=1.2)
    style: Any = {"arrowstyle": "-|>,head_length=4,head_width=2.4", "color": INK}
    ends: Any = {"shrinkA": 0, "shrinkB": 0, "linewidth": 1.2}
    start, end = points[-2:]
    ax.add_patch(FancyArrowPatch(start, end, **style, **ends))


def _layer(scope: str) -> str:
    """The last name of a scope, without the counters that keep names apart."""
    return re.sub(r"(_\d+)+$", "", scope.rpartition("/")[2])


def _times(shape: Shape) -> str:
    """Name a shape: "784×32", "b×784" for a batch, "number" for a scalar."""
    if shape is None:
        return "any shape"
    lengths = ["?" if n is None else str(n) for n in shape]
    if lengths[:1] == ["?"]:
        lengths[0] = "b"
    return "×".join(lengths) or "number"


def _length(text: str) -> float:
    """A text's length in CSS px, in a font that is wider than what readers will see."""
    if not text:
        return 0
    font = FontProperties(family="DejaVu Sans")
    return float(TextPath((0, 0), text, FONT, prop=font).get_extents().x1)


def _cut(text: str, room: float) -> str:
    while len(text) > 2 and _length(text) > room:
        text = text.rstrip("…")[:-1] + "…"
    return text


def _graph_alt(graphs: Mapping[str, Graph]) -> str:
    told = {label: _graph_told(_rows(nodes)) for label, nodes in graphs.items()}
    names, shapes = list(graphs), [structure(nodes) for nodes in graphs.values()]
    if len(names) > 1 and all(shape == shapes[0] for shape in shapes):
        parts = [f"The graphs of {join_names(names)} are the same: {told[names[0]]}."]
    else:
        parts = [f"{label}: {chain}." for label, chain in told.items()]
    for label, nodes in graphs.items():
        scopes = dict.fromkeys(row.node.scope for row in _rows(nodes))
        if names := [_layer(scope) for scope in scopes if scope]:
            parts.append(f"{label} frames {join_names(names)}.")
    return " ".join(parts)


def _graph_told(rows: Sequence[_Row]) -> str:
    """Describe a chain in words; a row that skips the previous one names its inputs."""
    words = []
    for i, row in enumerate(rows):
        own = row.reads not in ([], [i - 1])
        of = [f"{rows[j].node.kind} ({j + 1})" for j in row.reads] if own else []
        link = {"input": ""}.get(row.node.kind, "with ")
        parts = [row.node.kind, f"of {join_names(of)}" if of else ""]
        parts += [f"{link}{join_names(row.leaves)}" if row.leaves else ""]
        words.append(" ".join(part for part in parts if part))
    return ", then ".join(words)
