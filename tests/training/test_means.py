"""A metric's mean has the bits of Keras's `Mean`, whatever its shape and dtype."""

import re
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import kvt
from kvt.training.means import Mean, batch_totals, examples_in, summed

B = 7  # examples per batch
MODES = [1, 3, "epoch"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sums_have_the_bits_of_tensorflow(dtype: str) -> None:
    random = np.random.default_rng(0)
    for n in [*range(1, 140), 1000, 4096, 4097, 8192, 8193, 9001, 20_011]:
        values = random.standard_normal(n).astype(dtype)
        assert summed(values) == tf.reduce_sum(values).numpy(), n
    for n in (1, 2, 5, 8, 31, 32, 33, 100):
        rows = random.standard_normal((9, n)).astype(dtype)
        np.testing.assert_array_equal(summed(rows), tf.reduce_sum(rows, 1), str(n))


def test_sums_of_numpy_would_have_other_bits() -> None:
    """Without this, the test above could not distinguish the orders."""
    values = np.random.default_rng(0).standard_normal((50, 33)).astype("float32")
    assert (values.sum(axis=1) != summed(values)).any()


SHAPES = [(), (1,), (B,), (B, 1), (B, 5), (B, 3, 4)]
DTYPES = ["float16", "bfloat16", "float32", "bool", "int8", "uint8", "int64"]


def batches(shape: tuple[int, ...], dtype: str) -> list[Any]:
    random = np.random.default_rng(1)
    drawn = [random.uniform(0, 20, shape) for _ in range(25)]
    return [tf.cast(tf.cast(values, "int32") % 2 if dtype == "bool" else values, dtype)
            for values in drawn]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_mean_has_the_bits_of_keras(shape: tuple[int, ...], dtype: str) -> None:
    ours, theirs = Mean(), keras.metrics.Mean(dtype="float32")
    for values in batches(shape, dtype):
        ours.update({"loss": values}, B)
        # Keras weights a loss, the mean of its batch, by the number of examples.
        theirs.update_state(values, sample_weight=B if shape in ((), (1,)) else None)
        assert ours.result()["loss"] == float(theirs.result())


def test_totals_are_held_in_float64_if_the_loss_is_and_else_in_float32() -> None:
    third = 1 / 3
    for loss in (np.float32(third), np.float16(third), tf.constant(True)):
        totals = batch_totals({"accuracy": third, "loss": loss}, 3)
        assert {total.dtype for total in totals.values()} == {np.dtype("float32")}
    for loss in (third, np.float64(third), tf.constant(third, tf.float64)):
        totals = batch_totals({"hits": np.array([True, False]), "loss": loss}, 2)
        assert {total.dtype for total in totals.values()} == {np.dtype("float64")}


def test_a_long_training_in_half_precision_does_not_overflow() -> None:
    mean = Mean()
    for _ in range(2000):
        mean.update({"loss": np.float16(0.7)}, 50)
    assert mean.result()["loss"] == pytest.approx(0.7, rel=1e-3)


def test_examples_are_counted_in_the_first_array() -> None:
    assert examples_in(np.zeros((3, 4))) == 3
    assert examples_in({"b": np.zeros((5, 1)), "a": np.zeros((5, 2))}) == 5
    assert examples_in((np.zeros((5, 1)), np.zeros((5, 2)), np.zeros(5))) == 5
    assert examples_in([{"a": None, "b": (np.zeros(6),)}]) == 6
    assert examples_in([1.0, 2.0]) == 2
    assert examples_in(tf.zeros((4, 2))) == 4
    assert examples_in(tf.sparse.from_dense(tf.eye(3))) == 3
    assert examples_in(tf.ragged.constant([[1], [2, 3]])) == 2


# In every mode


def evaluated(metric: Callable[[Any], Any], mode: Any, **options: Any) -> Any:
    """Return the mean of a metric of x, over ten examples of four numbers."""
    x = np.arange(40, dtype="float32").reshape(10, 4) / 7

    @tf.function(autograph=False)
    def step(x: Any, y: Any) -> dict[str, Any]:
        return {"loss": tf.reduce_mean(x), "metric": metric(x)}

    options = {"batch_size": 4, "steps_per_execution": mode} | options
    return kvt.evaluate(step, x, x[:, :1], **options)["metric"]


METRICS: dict[str, tuple[Callable[[Any], Any], float]] = {
    "shape (1,)": (lambda x: tf.reduce_mean(x)[None], 39 / 14),
    "four per example": (lambda x: x, 39 / 14),
    "shape (b, 1)": (lambda x: x[:, :1], 36 / 14),
    "bool per example": (lambda x: x[:, 0] > 1, 0.8),
    "bool": (lambda x: tf.constant(True), 1),
    "int8": (lambda x: tf.constant(100, tf.int8), 100),
    "uint8": (lambda x: tf.constant(200, tf.uint8), 200),
    "bfloat16": (lambda x: tf.constant(1.5, tf.bfloat16), 1.5),
    "float16 per example": (lambda x: tf.cast(x[:, 0] > 1, tf.float16), 0.8),
}


@pytest.mark.parametrize("name", METRICS)
def test_all_modes_have_one_mean(name: str) -> None:
    metric, mean = METRICS[name]
    results = {evaluated(metric, mode) for mode in MODES}
    assert len(results) == 1
    assert results.pop() == pytest.approx(mean, rel=1e-6)


WRONG: dict[str, tuple[Callable[[Any], Any], type[Exception]]] = {
    "has shape (3,)": (lambda x: tf.ones(3), ValueError),
    "has shape (3,) in": (lambda x: x[1:, 0], ValueError),
    "has shape (1, 2)": (lambda x: tf.ones((1, 2)), ValueError),
    "has dtype": (lambda x: tf.constant("a"), TypeError),
    "has dtype complex128": (lambda x: tf.constant(1j), TypeError),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("message", WRONG)
def test_other_metrics_are_rejected_by_name(message: str, mode: Any) -> None:
    metric, error = WRONG[message]
    with pytest.raises(error, match=re.escape(f"metric 'metric' {message}")):
        evaluated(metric, mode)


def test_a_metric_of_unknown_shape_is_rejected_if_many_steps_run_per_call() -> None:
    def unknown(x: Any) -> Any:
        return tf.py_function(lambda: 1.0, [], tf.float32)

    assert evaluated(unknown, 1) == 1
    with pytest.raises(ValueError, match="metric 'metric' has an unknown shape"):
        evaluated(unknown, 2)
