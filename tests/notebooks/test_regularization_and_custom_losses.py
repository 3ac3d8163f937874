"""Notebook 07: modes, masks, moving averages; weights, custom losses and metrics."""

import itertools
from collections import UserDict
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow.compat.v1 as tf1
from hypothesis import given, settings
from hypothesis import strategies as st
from keras.src.losses.losses import LossFunctionWrapper
from keras.src.trainers.data_adapters import data_adapter_utils

import kvt
from kvt.compare import parity
from tests.notebooks import recipes

NOTEBOOK = "07_regularization_and_custom_losses"
MODES = "Regularization"
CUSTOM = "Custom losses and metrics"
EQUAL = {
    "l2": ("tf2", "tf1"),
    "dropout": ("tf2",),
    "norm": ("tf2", "tf1"),
    "class": ("tf2", "tf1"),
    "sample": ("tf2", "tf1"),
    "loss": ("tf2", "tf1"),
    "metric": ("tf2", "tf1"),
}
FEW = {
    "train_size": 39,
    "batch_size": 2,
    "epochs": 1,
    "learning_rate": 0.1,
    "validation_split": 0.5,
    "seed": 92,
}

# Cells that measure what the prose says about a recipe; they train no recipe.
ASIDE = (
    *("l2-reported", "dropout-masks", "dropout-evaluation", "norm-order", "forgotten"),
    *("class-weights-effect", "custom-precision"),
)


class Namespace(UserDict[str, Any]):
    """The names that the cells define, kept short in a failing test's message."""

    def __init__(self, left: dict[str, Any]) -> None:
        self.data = left  # the same dict in which the cells' functions look up names

    def __repr__(self) -> str:
        return "the notebook's names"


@pytest.fixture(scope="module")
def notebook() -> Namespace:
    """Run both chapters on few examples, with a short last batch."""
    left = recipes.run(
        NOTEBOOK,
        MODES,
        CUSTOM,
        train_size=61,
        batch_size=7,
        epochs=2,
        learning_rate=0.1,
        validation_split=0.3,
        seed=5,
    )
    return Namespace(left)


def check(left: Mapping[str, Any]) -> None:
    """Compare every recipe with Keras, without the notebook's own `agree`."""
    for row, dialects in EQUAL.items():
        weights, history = left[f"{row}_keras"]
        assert len(weights) == left["epochs"]
        for dialect in dialects:
            ours, our_history = left[f"{row}_{dialect}"]
            assert our_history == history, (row, dialect)
            assert all(map(parity.same_bits, weights, ours)), (row, dialect)


def test_recipes_hold_keras_bits_with_short_batches(notebook: Namespace) -> None:
    check(notebook)
    assert "val_top_2" in notebook["metric_tf1"][1]


@pytest.mark.parametrize(
    "odd",
    [
        {"train_size": 9, "batch_size": 20, "validation_split": 0, "seed": 2**32 - 1},
        pytest.param(
            {"train_size": 6, "batch_size": 1, "validation_split": 0.5, "seed": 1},
            marks=pytest.mark.wide,
        ),
    ],
    ids=["one batch for all examples, no validation", "batches of one"],
)
def test_recipes_hold_keras_bits_with(odd: dict[str, Any]) -> None:
    left = recipes.run(
        NOTEBOOK, MODES, CUSTOM, without=ASIDE, epochs=1, learning_rate=0.1, **odd
    )
    check(left)
    validated = any(name.startswith("val_") for name in left["class_tf2"][1])
    assert validated == (odd["validation_split"] > 0)


def test_moving_averages_are_compared_too(notebook: Namespace) -> None:
    weights, _ = notebook["norm_tf1"]
    names = list(notebook["norm_start"])
    for name in ("moving_mean", "moving_variance"):
        place = names.index(name)
        moved = [epoch[place] for epoch in weights]
        assert not np.array_equal(moved[0], notebook["norm_start"][name])
        assert not np.array_equal(moved[0], moved[1])


# --- errors that the notebook's own checks must find ----------------------------------

WRONG = {
    "half of L2": (
        MODES,
        "l2",
        "tf.reduce_sum(tf.square(w))",
        "tf.nn.l2_loss(w)",
    ),
    "no penalty in TensorFlow 1": (
        MODES,
        "l2",
        'tf1.add_n([logs["loss"], *penalties(variables)])',
        'logs["loss"]',
    ),
    "flag forgotten in training": (
        MODES,
        "dropout",
        "measured(x, y, training=True)",
        "measured(x, y, training=False)",
    ),
    "flag forgotten in evaluation": (
        MODES,
        "dropout",
        "measured(x, y, training=False)",
        "measured(x, y, training=True)",
    ),
    "the same mask in each batch": (MODES, "dropout", "assign_add([0, 1])", "value()"),
    "kept units not scaled up": (MODES, "dropout", "0.0, h * grow)", "0.0, h)"),
    "momentum swapped": (
        MODES,
        "norm",
        "return moving * m + value * (1 - m)",
        "return value * m + moving * (1 - m)",
    ),
    "moving averages never run": (MODES, "norm", "UPDATE_OPS) + [", "LOSSES) + ["),
    "gradients whose sum sorts behind the scope": (
        MODES,
        "norm",
        'trained, name="a"',
        'trained, name="gradients"',
    ),
    "momentum swapped in TensorFlow 1": (
        MODES,
        "norm",
        "new = moving * m + value * (1 - m)",
        "new = value * m + moving * (1 - m)",
    ),
    "weights forgotten in the loss": (
        CUSTOM,
        "class-weights",
        "tf.reduce_mean(losses * weight)",
        "tf.reduce_mean(losses)",
    ),
    "divided by the weights' sum": (
        CUSTOM,
        "class-weights",
        "tf1.reduce_mean(losses * weight)",
        "tf1.reduce_sum(losses * weight) / tf1.reduce_sum(weight)",
    ),
    "loss not focal": (CUSTOM, "custom-loss", "tf1.square(1 - p) * losses", "losses"),
    "top 3 for top 2": (
        CUSTOM,
        "custom-metric",
        "y_pred, right, k=2",
        "y_pred, right, k=3",
    ),
}
# Another order of factors changes the last bit of γ's updates. A small update loses
# that bit when it is added to 1. Half of the updates here are large enough to keep it.
OTHER_VALUES = {
    "gradients whose sum sorts behind the scope": {"learning_rate": 3, "batch_size": 5},
}


FIRST = {row: wrong for wrong, (_, row, *_) in reversed(WRONG.items())}


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(wrong, marks=[] if wrong in FIRST.values() else pytest.mark.wide)
        for wrong in WRONG
    ],
)
def test_the_notebook_finds(wrong: str) -> None:
    chapter, row, right, error = WRONG[wrong]
    needed = {"custom-metric": ("class-weights", row)}.get(row, (row,))
    parts = [f"{name}-{part}" for name in needed for part in ("keras", "tf2", "tf1")]
    kept = {*parts, f"{row}-agree"}
    sources = {
        cell["source"]: cell["id"] in kept
        or "-flag-" in cell["id"]
        or "-steps-" in cell["id"]
        for cell in recipes.chapters(NOTEBOOK)[chapter]
    }
    found = []

    def change(source: str) -> str:
        """Skip the other recipes, and put the error into this one."""
        if not sources.get(source, True):
            return ""
        found.append(source.count(right))
        return source.replace(right, error)

    values = FEW | OTHER_VALUES.get(wrong, {})
    with pytest.raises(AssertionError, match=r"'tf[12]', Parity"):
        recipes.run(NOTEBOOK, chapter, change=change, **values)
    assert sum(found) == 1


# --- parts compared with Keras's own --------------------------------------------------


@st.composite
def hidden(draw: st.DrawFn) -> list[Any]:
    """Draw batches of what a hidden relu layer may return."""
    units = draw(st.integers(1, 6))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = draw(st.sampled_from([1e-3, 1.0, 100.0]))
    counts = draw(st.lists(st.integers(1, 12), min_size=1, max_size=4))
    return [
        np.float32(size * np.maximum(random.normal(0.5, 1, (n, units)), 0))
        for n in counts
    ]


@settings(max_examples=25, deadline=None)
@given(
    batches=hidden(),
    momentum=st.floats(0, 1),
    epsilon=st.sampled_from([1e-7, 1e-3, 0.1]),
)
def test_written_out_batch_normalization_equals_the_keras_layer(
    notebook: Namespace, batches: list[Any], momentum: float, epsilon: float
) -> None:
    units = batches[0].shape[1]
    random = np.random.default_rng(units)
    layer = keras.layers.BatchNormalization(momentum=momentum, epsilon=epsilon)
    layer.build((None, units))
    layer.set_weights([*random.normal(size=(3, units)), random.uniform(size=units)])
    eye, zero = np.eye(units, dtype="float32"), np.zeros(units, "float32")
    middle = [tf.Variable(w) for w in layer.get_weights()]
    around = [tf.constant(w) for w in (eye, zero)]
    weights = [*around, *middle, *around]  # the dense layers change nothing
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(notebook, "norm_momentum", momentum)
        patch.setitem(notebook, "norm_epsilon", epsilon)
        for x, training in itertools.product(batches, (True, False)):
            ours = notebook["normalizing"](weights, x, training)
            theirs = layer(x, training=training)
            assert parity.same_bits([ours.numpy()], [theirs.numpy()])
            moved = [w.numpy() for w in middle]
            assert parity.same_bits(moved, layer.get_weights())


@settings(max_examples=8, deadline=None)
@given(batches=hidden())
def test_batch_normalization_in_tensorflow_1_equals_the_keras_layer(
    notebook: Namespace, batches: list[Any]
) -> None:
    units = batches[0].shape[1]
    layer = keras.layers.BatchNormalization()
    layer.build((None, units))
    start = [np.eye(units, dtype="float32"), np.zeros(units, "float32")]
    between = layer.get_weights()
    asked = list(itertools.product(batches, (True, False)))
    with tf1.Graph().as_default(), tf1.Session() as session:
        x = tf1.placeholder("float32", (None, units))
        middle = [tf1.Variable(w) for w in between]
        around = [tf1.Variable(w) for w in start]
        weights = [*around, *middle, *around]
        forward = notebook["normalizing_tf1"]
        outputs = {on: forward(weights, x, on) for on in (True, False)}
        updates = tf1.get_collection(tf1.GraphKeys.UPDATE_OPS)
        session.run(tf1.global_variables_initializer())
        ours = [
            session.run([outputs[on], *(updates if on else [])], {x: each})[0]
            for each, on in asked
        ]
        moved = session.run(middle)
    theirs = [layer(each, training=on).numpy() for each, on in asked]
    assert parity.same_bits(ours, theirs)
    assert parity.same_bits(moved, layer.get_weights())


@settings(max_examples=30, deadline=None)
@given(
    rate=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32 - 1),
    shapes=st.lists(
        st.tuples(st.integers(1, 9), st.integers(1, 40)), min_size=1, max_size=4
    ),
)
def test_written_out_masks_equal_those_of_the_keras_layer(
    notebook: Namespace, rate: float, seed: int, shapes: list[tuple[int, int]]
) -> None:
    layer = keras.layers.Dropout(rate, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "dropout_rate": rate,
            "grow": 1 / (1 - rate),
            "seed": seed,
        }.items():
            patch.setitem(notebook, name, value)
        state = notebook["first_mask"]()
        for shape in shapes:
            h = np.random.default_rng(seed).normal(size=shape).astype("float32")
            ours = notebook["drop"](h, state, True)
            theirs = layer(h, training=True)
            assert np.array_equal(ours, theirs)
    assert state.numpy()[1] == len(shapes)


def test_dropout_is_random_in_training_and_not_in_evaluation(
    notebook: Namespace,
) -> None:
    weights, x = notebook["dropout_tf2"][0][-1], notebook["x_test"]
    state = notebook["masks"].numpy()
    answers = [notebook["dropping"](weights, x, False).numpy() for _ in range(3)]
    assert parity.same_bits(answers[:1], answers[1:2])
    assert parity.same_bits(answers[:1], answers[2:])
    plain = notebook["forward"](weights, x).numpy()
    assert parity.same_bits(answers[:1], [plain])
    assert np.array_equal(notebook["masks"], state)
    trained = [notebook["dropping"](weights, x, True).numpy() for _ in range(2)]
    assert not np.array_equal(*trained)


def test_tensorflow_1_masks_are_the_same_in_every_run(notebook: Namespace) -> None:
    again = recipes.run(
        NOTEBOOK,
        MODES,
        before="dropout-agree",
        without=("l2-",),
        **{name: notebook[name] for name in ("train_size", "batch_size", "epochs")},
        **{name: notebook[name] for name in ("learning_rate", "validation_split")},
        seed=notebook["seed"],
    )
    (ours, history), (first, first_history) = (
        again["dropout_tf1"],
        notebook["dropout_tf1"],
    )
    assert history == first_history
    assert all(map(parity.same_bits, ours, first))


def test_only_the_arithmetic_optimizer_makes_names_change_bits(
    notebook: Namespace,
) -> None:
    def gradients() -> list[Any]:
        scopes = ("batchnorm", "a", "layer", "n", "scale")
        return [notebook["first_gradient"](scope).numpy() for scope in scopes]

    before, a, layer, *after = gradients()
    assert parity.same_bits([before, before], [a, layer])
    assert not any(np.array_equal(before, other) for other in after)
    option = "arithmetic_optimization"
    tf.config.optimizer.set_experimental_options({option: False})
    try:
        first, *others = gradients()
    finally:
        tf.config.optimizer.set_experimental_options({option: True})
    assert all(parity.same_bits([first], [other]) for other in others)


def test_class_weights_equal_the_sample_weights_of_keras(notebook: Namespace) -> None:
    y = notebook["y_train"][: notebook["n_train"]]
    theirs = data_adapter_utils.class_weight_to_sample_weights(y, {8: 2.0})
    assert parity.same_bits([notebook["class_given"]["sample_weight"]], [theirs])
    assert {1, 2} == set(theirs)


@st.composite
def weighted(draw: st.DrawFn) -> tuple[Any, Any, Any]:
    """Draw one-hot targets, logits and weights, zeros among them."""
    n = draw(st.integers(1, 40))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    y = np.eye(10, dtype="float32")[random.integers(10, size=n)]
    logits = np.float32(
        random.normal(scale=draw(st.sampled_from([1, 30])), size=(n, 10))
    )
    weight = random.choice([0, 0.2, 1, 7], size=n).astype("float32")
    return y, logits, weight


@settings(max_examples=30, deadline=None)
@given(drawn=weighted())
def test_weighted_losses_equal_those_of_keras(
    notebook: Namespace, drawn: tuple[Any, Any, Any]
) -> None:
    y, logits, weight = drawn
    entropy = keras.losses.CategoricalCrossentropy(from_logits=True)
    ours = notebook["weigh"](y, logits, weight)["loss"]
    assert float(ours) == float(entropy(y, logits, sample_weight=weight))
    ours = notebook["focal"](y, logits, 1.0)["loss"]
    theirs = LossFunctionWrapper(notebook["focal_keras"])
    assert float(ours) == float(theirs(y, logits))


@pytest.mark.parametrize("together", [1, 7, 1000])
def test_ratio_of_means_is_keras_precision_for_any_batch_size(
    notebook: Namespace, together: int
) -> None:
    x, y = notebook["x_test"], notebook["y_test"]
    counts = kvt.evaluate(notebook["count_zeros"], x, y, batch_size=together)
    assert counts["as_0"] > 0
    assert counts["right"] / counts["as_0"] == pytest.approx(notebook["precision"])
