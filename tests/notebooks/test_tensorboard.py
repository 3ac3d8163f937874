"""Notebook 08, TensorBoard: the event files that each dialect writes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tensorboard.backend.event_processing import event_accumulator

from kvt.show import graphs
from tests.notebooks import recipes

NOTEBOOK = "08_pipelines_and_tensorboard"
CHAPTER = "TensorBoard"
DIALECTS = ("keras", "tf2", "tf1")


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Make the notebook write its logs there, not into the checkout."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def run(folder: Path, **values: object) -> dict[str, Any]:
    with inside(folder):
        return recipes.run(NOTEBOOK, CHAPTER, **values)


def accumulate(folder: Path) -> event_accumulator.EventAccumulator:
    """Read with the older of TensorBoard's readers; the notebook uses the newer."""
    every = {"scalars": 0, "histograms": 0, "tensors": 0}
    return event_accumulator.EventAccumulator(str(folder), every).Reload()


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return (step, value) pairs by tag, from records of either format."""
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
        "epochs": 12,  # more than the 10 that TensorBoard's reader keeps by default
        "learning_rate": 1,
        "validation_split": 0,
        "seed": 2**32 - 1,
    }
)
def test_every_dialect_writes_the_history_under_the_same_tags(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]
) -> None:
    folder = tmp_path_factory.mktemp("board")
    left = run(folder, **values)
    _, history = left["board_runs"]["keras"]
    assert len(history["loss"]) == values["epochs"]
    by_place: dict[str, dict[str, list[tuple[int, float]]]]
    by_place = {"train": {}, "validation": {}}
    for name, values_by_epoch in history.items():
        place = "validation" if name.startswith("val_") else "train"
        tag = f"epoch_{name.removeprefix('val_')}"
        by_place[place][tag] = list(enumerate(values_by_epoch))
    assert bool(by_place["validation"]) == bool(values["validation_split"])
    for dialect in DIALECTS:
        for place, expected in by_place.items():
            found = scalars(folder / left["log_dir"] / dialect / place)
            metrics = {
                tag: events
                for tag, events in found.items()
                if tag in ("epoch_loss", "epoch_accuracy")
            }
            assert metrics == expected, (dialect, place)


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Run the chapter on few examples, with a short last batch and a large rate."""
    folder = tmp_path_factory.mktemp("board")
    left = run(folder, train_size=50, batch_size=7, epochs=3, learning_rate=0.3)
    return folder / left["log_dir"], left


def counted(logged: tuple[Path, dict[str, Any]], dialect: str) -> list[list[Any]]:
    """Return histograms by weight and epoch, with rows (left, right, count)."""
    _, left = logged
    reader, folder = left["reader"], f"{dialect}/train"
    tags = reader.PluginRunToTagToContent("histograms")[folder]
    return [
        [tf.make_ndarray(e.tensor_proto) for e in reader.Tensors(folder, tag)]
        for tag in tags
    ]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_buckets_count_the_weights_between_their_edges(
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
            # Rounding decides about weights at an edge, so compare counts around it.
            for edge, below in zip(edges, [0, *buckets[:, 2].cumsum()], strict=True):
                slack = 1e-6 * max(1e-3, abs(edge))
                least = np.sum(values < edge - slack)
                most = np.sum(values <= edge + slack)
                assert least <= below <= most, (i, epoch, edge)


def test_keras_and_tensorflow_2_write_30_buckets_of_equal_width(
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


def test_bucket_edges_of_tensorflow_1_grow_by_a_tenth(
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


def test_keras_writes_layers_and_no_graph_of_operations(
    logged: tuple[Path, dict[str, Any]],
) -> None:
    folder, left = logged
    for place in ("train", "validation"):
        assert not accumulate(folder / "keras" / place).Tags()["graph"]
    names = [layer["config"]["name"] for layer in left["board_layers"]]
    assert names[1:] == [layer.name for layer in left["board_model"].layers]


@pytest.mark.parametrize("place", ["keras/traced", "tf2/train", "tf1/train"])
def test_the_graph_on_disk_has_the_operations_of_the_table(
    logged: tuple[Path, dict[str, Any]], place: str
) -> None:
    folder, left = logged
    filed = {node.name: node for node in accumulate(folder / place).Graph().node}
    shown = dict(zip(left["board_graphs"], left["board_forward"].values(), strict=True))
    for node in shown[place]:
        kinds = {"input": "Placeholder"}
        if node.kind == "variable":
            assert filed[node.name].op in ("Placeholder", "VarHandleOp")
        else:
            assert filed[node.name].op == kinds.get(node.kind, node.kind)


def test_the_three_forward_parts_have_the_same_structure(
    logged: tuple[Path, dict[str, Any]],
) -> None:
    _, left = logged
    keras_graph, *others = left["board_forward"].values()
    kinds = [node.kind for node in keras_graph if node.inputs]
    assert kinds == ["MatMul", "BiasAdd", "Relu", "MatMul", "BiasAdd", "Softmax"]
    for other in others:
        assert graphs.structure(other) == graphs.structure(keras_graph)
