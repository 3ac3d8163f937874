"""A step of several replicas, as far as one device can show it."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import kvt
from kvt.training.replicas import MeanOfReplicas, ReplicatedStep, totals_of

X = np.linspace(-1, 1, 22, dtype="float32").reshape(11, 2)
Y = (X @ np.array([[0.5], [2.0]], "float32") + 1).astype("float32")


def steps(weights: list[Any]) -> list[Any]:
    def measure(x: Any, y: Any) -> dict[str, Any]:
        errors = tf.reduce_mean(tf.square(y - x @ weights[0] - weights[1]), axis=1)
        return {"loss": tf.reduce_mean(errors), "error": errors}

    def train_step(x: Any, y: Any) -> dict[str, Any]:
        with tf.GradientTape() as tape:
            logs = measure(x, y)
        for w, gradient in zip(
            weights, tape.gradient(logs["loss"], weights), strict=True
        ):
            w.assign_sub(0.1 * gradient)
        return logs

    return [train_step, measure]


def train(replicated: bool, **options: Any) -> tuple[list[Any], dict[str, Any]]:
    weights = [tf.Variable([[0.1], [0.2]]), tf.Variable([0.0])]
    strategy = tf.distribute.get_strategy()
    both = [
        ReplicatedStep(strategy, step) if replicated else tf.function(step)
        for step in steps(weights)
    ]
    history = kvt.fit(*both, X, Y, epochs=3, verbose=0, **options).history
    return [w.numpy() for w in weights], history


@pytest.mark.long
@pytest.mark.parametrize("options", [{"batch_size": 4}, {"validation_split": 0.3}])
def test_one_replica_is_no_replica(options: dict[str, Any]) -> None:
    weights, history = train(True, **options)
    expected, expected_history = train(False, **options)
    for one, other in zip(weights, expected, strict=True):
        assert one.tobytes() == other.tobytes()
    assert history == expected_history


def test_totals_of_replicas_are_added_up_before_the_replicas() -> None:
    # In float32, 1 disappears beside 2**24, and 1 + 1 does not.
    large = np.float32(2**24)
    mean = MeanOfReplicas()
    for totals in ([large, 1], [0, 1]):
        mean.update({"loss": np.array(totals, "float32")}, 2)
    assert mean.result() == {"loss": (2**24 + 2) / 4}
    mean.update({"loss": np.array([1, 0], "float32")}, 1)  # beside the large total
    assert mean.result()["loss"] == float(np.float32(2**24 + 2) / np.float32(5))


def totals(losses: Any, **others: Any) -> Any:
    """Return the totals of a mean and of values per example, from an open graph."""
    values = [np.asarray(value) for value in (losses, *others.values())]
    specs = [tf.TensorSpec((None, *v.shape[1:]), v.dtype) for v in values]

    @tf.function(input_signature=specs)
    def add_up(losses: Any, *values: Any) -> Any:
        logs = {"loss": tf.reduce_mean(losses)} | dict(zip(others, values, strict=True))
        return totals_of(logs, tf.shape(losses)[0])

    return add_up(*values).numpy()


def test_a_part_without_examples_has_totals_of_zero() -> None:
    assert np.isnan(tf.reduce_mean(np.zeros(0)))
    none = np.zeros(0, "float32")
    assert totals(none, accuracy=none, masks=np.zeros((0, 3), bool)).tolist() == [0] * 3


def test_metrics_have_the_dtype_of_the_loss_and_further_axes_are_averaged() -> None:
    masks = [[True, False], [True, True], [False, True]]
    found = totals(np.array([0.5, 1, 3]), hits=[True, False, True], masks=masks)
    assert found.dtype == np.float64
    assert found.tolist() == [4.5, 2.0, 2.0]


def test_a_metric_of_another_shape_is_rejected() -> None:
    step = ReplicatedStep(tf.distribute.get_strategy(), lambda x, y: {"loss": x[0]})
    with pytest.raises(ValueError, match=r"'loss' has shape \(2,\)") as caught:
        kvt.fit(step, step, X, Y, verbose=0)
    assert "one number, the mean of the batch" in str(caught.value)


def test_many_steps_per_call_are_rejected() -> None:
    step = ReplicatedStep(tf.distribute.get_strategy(), steps([])[1])
    with pytest.raises(TypeError, match=r"must be a tf\.function"):
        kvt.fit(step, step, X, Y, steps_per_execution=2, verbose=0)


def test_two_processes_can_open_one_directory_of_checkpoints(tmp_path: Path) -> None:
    def restored(_: int) -> int:
        return kvt.Checkpoint(tmp_path / "new", list, print).restore()

    with ThreadPoolExecutor(8) as threads:
        assert {*threads.map(restored, range(200))} == {0}
    assert not list((tmp_path / "new").iterdir())
