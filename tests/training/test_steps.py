"""How steps are traced: sizes, dtypes, random operations, sources of batches."""

import gc
import sys
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import kvt
from kvt.training import compiled

pytestmark = pytest.mark.long

MODES = [1, 2, 3, "epoch"]
OPEN = [tf.TensorSpec((None, 4)), tf.TensorSpec((None, 3)), tf.TensorSpec((None,))]
QUIET = {"shuffle": False, "verbose": 0}


def rows(n: int) -> list[np.ndarray]:
    """Return x, y and sample weights."""
    random = np.random.default_rng(0)
    x, y = (random.standard_normal((n, k)).astype("float32") for k in (4, 3))
    return [x, y, random.uniform(0, 2, n).astype("float32")]


def weighted(signature: Any = None) -> tuple[Any, Any]:
    """Return a step whose last bit depends on how the size is known; its weights."""
    w = tf.Variable(tf.ones((4, 3)) / 3)

    @tf.function(input_signature=signature, autograph=False)
    def step(x: Any, y: Any, sample_weight: Any) -> dict[str, Any]:
        with tf.GradientTape() as tape:
            losses = tf.reduce_mean(tf.square(x @ w - y), -1)
            total = tf.reduce_sum(losses * sample_weight)
            size = tf.cast(tf.shape(losses)[0], "float32")
            # As Keras divides: TensorFlow would turn `/` into a product.
            loss = tf.math.divide_no_nan(total, size)
        w.assign_sub(0.1 * tape.gradient(loss, w))
        return {"loss": loss}

    return step, w


def of_keras(*data: Any, **options: Any) -> tuple[list[float], bytes]:
    """Train the same model by Keras."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, use_bias=False)])
    model.set_weights([np.ones((4, 3), "float32") / np.float32(3)])
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    names = ("x", "y", "sample_weight")
    history = model.fit(
        **dict(zip(names, data, strict=False)), **QUIET, epochs=3, **options
    )
    return history.history["loss"], model.get_weights()[0].tobytes()


def of_kvt(step: Any, w: Any, *data: Any, **options: Any) -> tuple[list[float], bytes]:
    """Train a step from the same weights."""
    w.assign(tf.ones((4, 3)) / 3)
    x, y, weights = [*data, None, None][:3]
    options = QUIET | {"epochs": 3, "sample_weight": weights} | options
    history = kvt.fit(step, step, x, y, **options)
    return history.history["loss"], w.numpy().tobytes()


@pytest.mark.parametrize("n", [28, 30])
@pytest.mark.parametrize("signature", [None, OPEN], ids=["no signature", "open"])
def test_a_step_knows_the_size_of_batches_where_keras_does(
    n: int, signature: Any
) -> None:
    expected = of_keras(*rows(n), batch_size=7)
    step, w = weighted(signature)
    step(*rows(3))  # an earlier trace changes nothing
    for mode in MODES:
        ours = of_kvt(step, w, *rows(n), batch_size=7, steps_per_execution=mode)
        assert ours == expected, mode


# Sources of batches


def dataset(drop_remainder: bool) -> Any:
    data = tf.data.Dataset.from_tensor_slices(tuple(rows(30)))
    return data.batch(7, drop_remainder=drop_remainder)


SOURCES: dict[str, Callable[[], Any]] = {
    "Dataset": lambda: dataset(False),
    "Dataset of one size": lambda: dataset(True),
    "list": lambda: [
        tuple(a[i:j] for a in rows(30)) for i, j in ((0, 3), (3, 9), (9, 30))
    ],
}


@pytest.mark.parametrize("name", SOURCES)
def test_batches_one_by_one_have_the_bits_of_keras_in_every_mode(name: str) -> None:
    source = SOURCES[name]()
    step, w = weighted()
    results = [of_kvt(step, w, source, steps_per_execution=mode) for mode in MODES]
    assert results == [results[0]] * len(MODES)
    if name != "list":  # which Keras does not take
        assert results[0] == of_keras(source)


def test_a_generator_continues_in_the_next_epoch_in_every_mode() -> None:
    def batches() -> Iterator[Any]:
        for i in range(6):
            yield tuple(a[i * 5 : i * 5 + 5] for a in rows(30))

    step, w = weighted()
    options = {"steps_per_epoch": 2}
    results = [
        of_kvt(step, w, batches(), steps_per_execution=mode, **options)
        for mode in (1, 2, "epoch")
    ]
    assert results == [results[0]] * 3


# Random operations


def with_dropout() -> tuple[Any, list[bytes]]:
    """Return a step that drops inputs by an operation, and the masks that it drew."""
    tf.random.set_seed(1)
    masks: list[bytes] = []

    @tf.function
    def step(x: Any, y: Any) -> dict[str, Any]:
        kept = tf.nn.dropout(x, 0.5)
        draw = tf.random.normal(())
        tf.py_function(lambda t: masks.append(t.numpy().tobytes()), [kept], [])
        return {"loss": tf.reduce_mean(kept), "draw": draw}

    return step, masks


@pytest.mark.parametrize("batch_size", [2, 3])
def test_random_operations_draw_new_numbers_in_every_step_of_every_mode(
    batch_size: int,
) -> None:
    x = np.ones((32, 64), "float32")
    results = []
    for mode in MODES:
        step, masks = with_dropout()
        train = partial(kvt.fit, step, step, x, x, batch_size=batch_size, **QUIET)
        # The second training continues: it draws other masks than the first.
        histories = [train(steps_per_execution=mode, epochs=2).history for _ in "12"]
        assert len({*masks}) == len(masks) == 4 * -(-32 // batch_size)
        results.append((histories, masks))
    assert results == [results[0]] * len(MODES)


# Steps that need a size


def sized() -> Any:
    @tf.function(autograph=False)
    def step(x: Any, y: Any) -> dict[str, Any]:
        return {"loss": tf.reduce_sum(x) / float(x.shape[0])}

    return step


def test_a_step_that_needs_the_size_of_batches_is_named_if_the_sizes_differ() -> None:
    x = np.ones((10, 2), "float32")
    assert kvt.evaluate(sized(), x, x, batch_size=5)["loss"] == 2
    assert kvt.evaluate(sized(), x, x, batch_size=5, steps_per_execution=2)["loss"] == 2
    message = r"test_step needs to know the batch size; .*; use tf\.shape\(x\)\[0\]"
    with pytest.warns(UserWarning, match=message):
        assert kvt.evaluate(sized(), x, x, batch_size=4)["loss"] == 2
    with pytest.raises(ValueError, match=message):
        kvt.evaluate(sized(), x, x, batch_size=4, steps_per_execution=2)
    assert kvt.evaluate(sized(), x, x, batch_size=4, jit_compile=True)["loss"] == 2


# Dtypes


def mean_of(dtype: str, signature: Any = None) -> Any:
    w = tf.Variable(tf.ones((), dtype))

    @tf.function(input_signature=signature, autograph=False)
    def step(x: Any, y: Any) -> dict[str, Any]:
        return {"loss": tf.reduce_mean(x * w)}

    return step


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("given", ["float64", "int32", "bool", "float16", "float32"])
@pytest.mark.parametrize("wanted", ["float32", "float64"])
def test_rows_are_cast_to_what_the_step_takes(
    wanted: str, given: str, mode: Any
) -> None:
    x = np.arange(10).reshape(10, 1).astype(given)
    spec = tf.TensorSpec((None, 1), wanted)
    for signature in (None, [spec, spec]):
        step = mean_of(wanted, signature)
        result = kvt.evaluate(step, x, x, batch_size=4, steps_per_execution=mode)
        total = np.dtype(wanted).type(x.sum(dtype="float64"))
        assert result["loss"] == float(total / total.dtype.type(10))


@pytest.mark.parametrize("imported", [True, False])
@pytest.mark.parametrize("dtype", ["float64", "longdouble"])
def test_floats_are_cast_only_if_keras_is_imported(
    imported: bool, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not imported:
        monkeypatch.delitem(sys.modules, "keras")
    x, seen = np.ones((4, 1), dtype), set()

    def step(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
        seen.update({x.dtype, y.dtype})
        return {"loss": 0.0}

    kvt.fit(step, step, x, x, verbose=0)
    assert seen == {np.dtype("float32" if imported else dtype)}


def test_a_step_that_fails_says_what_it_was_traced_with() -> None:
    @tf.function(autograph=False)
    def step(x: Any, y: Any) -> dict[str, Any]:
        return {"loss": tf.reduce_mean(x @ tf.ones((3, 1)))}

    x = np.ones((10, 2))
    with pytest.raises(ValueError, match="Dimensions must be equal") as raised:
        kvt.evaluate(step, x, x, batch_size=4)
    assert "test_step was called with float32 (4, 2)" in raised.value.__notes__[0]


# Memory


@pytest.mark.parametrize("mode", ["epoch", 2])
def test_copies_are_freed_when_training_ends(
    mode: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = []
    original = compiled._in_place

    def in_place(array: Any) -> Any:
        tensor = original(array)
        copies.append(weakref.ref(tensor))
        return tensor

    monkeypatch.setattr(compiled, "_in_place", in_place)
    step, w = weighted()
    gc.collect()
    gc.disable()
    try:
        of_kvt(step, w, *rows(30), batch_size=7, steps_per_execution=mode)
        assert len(copies) == 3
        assert [copy() for copy in copies] == [None] * 3
    finally:
        gc.enable()
