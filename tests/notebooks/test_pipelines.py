"""Notebook 08, input pipelines: the same batches give the same bits."""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from kvt import data
from kvt.compare import parity
from tests.notebooks import recipes

NOTEBOOK = "08_pipelines_and_tensorboard"
CHAPTER = "Input pipelines"
DIALECTS = ("keras", "tf2", "tf1")
Namespace = dict[str, Any]
Run = tuple[list[Any], dict[str, list[float]]]

sizes = st.integers(1, 30)
# Each example trains several networks, so few are drawn, and none is made smaller.
few = settings(max_examples=2, phases=[Phase.explicit, Phase.generate])


@pytest.fixture(scope="module")
def chapter() -> Namespace:
    """Run the chapter on few examples, with short last batches."""
    values = {"train_size": 60, "batch_size": 7, "epochs": 2, "seed": 3}
    return recipes.run(NOTEBOOK, CHAPTER, **values)


def check_same(reference: Run, other: Run, epochs: int) -> None:
    """Compare weights by epoch and history, without the notebook's own `agree`."""
    weights, history = reference
    its_weights, its_history = other
    assert len(weights) == len(its_weights) == epochs
    assert its_history == history
    for ours, theirs in zip(weights, its_weights, strict=True):
        assert parity.same_bits(ours, theirs)


def differ(one: Run, other: Run) -> bool:
    return not parity.same_bits(one[0][-1], other[0][-1])


def check_chapter(left: Namespace) -> None:
    assert set(left["input_runs"]) == {
        (kind, dialect)
        for kind in ("arrays", "tf.data", "generator")
        for dialect in DIALECTS
    }
    for run in left["input_runs"].values():
        check_same(left["input_runs"]["arrays", "keras"], run, left["epochs"])
    for run in (left["reshuffled_tf2"], left["reshuffled_tf1"]):
        check_same(left["reshuffled_keras"], run, left["epochs"])


def test_nine_trainings_end_in_the_same_bits(chapter: Namespace) -> None:
    check_chapter(chapter)


@pytest.mark.parametrize(
    "values",
    [
        {"train_size": 23, "batch_size": 40, "epochs": 1, "validation_split": 0.5},
        pytest.param(
            {
                "train_size": 9,
                "batch_size": 1,
                "epochs": 3,
                "validation_split": 0.0,
                "learning_rate": 0.2,
                "seed": 11,
            },
            marks=pytest.mark.wide,
        ),
    ],
    ids=["one batch, one epoch", "batches of one, no validation"],
)
def test_chapter_holds_for_other_parameters(values: dict[str, Any]) -> None:
    aside = ("notes", "order", "short", "validation", "buffer")  # train no recipe
    without = tuple(f"pipes-{name}" for name in aside)
    check_chapter(recipes.run(NOTEBOOK, CHAPTER, without=without, **values))


def test_a_new_order_in_each_epoch_changes_the_training(chapter: Namespace) -> None:
    assert differ(chapter["input_runs"]["arrays", "keras"], chapter["reshuffled_keras"])


def test_two_batches_swapped_fail_the_check(chapter: Namespace) -> None:
    ordered = list(chapter["ordered"].as_numpy_iterator())
    swapped = [ordered[1], ordered[0], *ordered[2:]]
    run = chapter["train_tf2"](swapped, **chapter["held_back"])
    with pytest.raises(AssertionError):
        chapter["agree"](chapter["input_runs"]["arrays", "keras"], {"tf2": run})


@contextlib.contextmanager
def changed(namespace: Namespace, **values: Any) -> Iterator[None]:
    """Give the chapter's functions other parameters inside the `with` block."""
    before = {name: namespace[name] for name in values}
    namespace.update(values)
    try:
        yield
    finally:
        namespace.update(before)


def pipeline(
    rows: tuple[np.ndarray, np.ndarray], batch_size: int, shuffle: str, seed: int
) -> tf.data.Dataset:
    """Return a Dataset of batches that has drawn no order yet."""
    keras.utils.set_random_seed(seed)
    dataset = tf.data.Dataset.from_tensor_slices(rows)
    if shuffle != "none":
        each = shuffle == "each epoch"
        dataset = dataset.shuffle(
            len(rows[0]), seed=seed, reshuffle_each_iteration=each
        )
    return dataset.batch(batch_size).prefetch(tf.data.AUTOTUNE)


@pytest.mark.parametrize(
    "shuffle", ["none", pytest.param("once", marks=pytest.mark.wide), "each epoch"]
)
@few
@given(sizes, sizes, st.integers(1, 3), st.integers(0, 99))
def test_keras_and_raw_agree_on_a_dataset(
    chapter: Namespace, shuffle: str, n: int, batch_size: int, epochs: int, seed: int
) -> None:
    rows = chapter["x_train"][:n], chapter["y_train"][:n]
    runs = {}
    for dialect in ("keras", "tf2"):
        given_ = pipeline(rows, batch_size, shuffle, seed)
        with changed(chapter, epochs=epochs):
            runs[dialect] = chapter[f"train_{dialect}"](
                given_,
                validation_data=pipeline(rows, 4, "none", seed),
                # Without it, Keras's epochs get every second order.
                steps_per_epoch=len(given_) if shuffle == "each epoch" else None,
            )
    check_same(runs["keras"], runs["tf2"], epochs)


@few
@given(sizes, sizes, st.integers(1, 3), st.booleans())
def test_keras_and_raw_agree_on_a_generator_and_on_arrays(
    chapter: Namespace, n: int, batch_size: int, epochs: int, shuffle: bool
) -> None:
    x, y = chapter["x_train"][:n], chapter["y_train"][:n]
    order = data.example_order(n, chapter["seed"]) if shuffle else np.arange(n)
    starts = range(0, n, batch_size)

    def cut() -> Any:
        for _ in range(epochs):
            for start in starts:
                some = order[start : start + batch_size]
                yield x[some], y[some]

    with changed(chapter, epochs=epochs):
        runs = [
            chapter[f"train_{dialect}"](cut(), steps_per_epoch=len(starts))
            for dialect in DIALECTS
        ]
        if shuffle:  # as fit does with arrays
            arrays = chapter["train_keras"](x, y, batch_size=batch_size)
        else:
            arrays = chapter["train_keras"](pipeline((x, y), batch_size, "none", 0))
    for run in runs:
        check_same(arrays, run, epochs)


def test_keras_skips_every_second_order_without_steps_per_epoch(
    chapter: Namespace,
) -> None:
    orders, seen = chapter["orders"], chapter["seen"]
    assert len({tuple(order) for order in orders}) == len(orders)
    for name in ("Keras", "kvt.fit"):
        assert seen[name] == [orders[0], orders[2], orders[4]], name
        assert seen[f"{name}, steps"] == orders[:3], name


def test_prefetch_changes_no_bit(chapter: Namespace) -> None:
    run = chapter["train_tf2"](chapter["ordered"], **chapter["held_back"])
    check_same(chapter["input_runs"]["tf.data", "tf2"], run, chapter["epochs"])


def test_orders_by_epoch_are_the_same_in_every_iterator(chapter: Namespace) -> None:
    first, second = (
        [order.tolist() for order in chapter["indices"].as_numpy_iterator()]
        for _ in range(2)
    )
    assert first == second
    n, steps = chapter["n_train"], chapter["steps"]
    epochs = [
        [row for order in first[start : start + steps] for row in order]
        for start in range(0, len(first), steps)
    ]
    assert len(epochs) == chapter["epochs"]
    assert all(sorted(order) == list(range(n)) for order in epochs)
    assert epochs[0] != epochs[1]


def test_resumed_training_finds_its_place_by_skip(chapter: Namespace) -> None:
    def train(model: Any, reshuffled: Any, **more: Any) -> None:
        model.fit(
            reshuffled,
            steps_per_epoch=chapter["steps"],
            verbose=0,
            shuffle=False,
            **more,
        )

    models = []
    for _ in range(2):
        model = chapter["build"]()
        model.compile("sgd", "categorical_crossentropy", jit_compile=False)
        models.append(model)
    at_once, resumed = models
    train(at_once, chapter["reshuffled"], epochs=2)
    train(resumed, chapter["reshuffled"], epochs=1)
    rest = chapter["reshuffled"].skip(chapter["steps"])
    train(resumed, rest, epochs=2, initial_epoch=1)
    assert parity.same_bits(at_once.get_weights(), resumed.get_weights())


@settings(max_examples=8)
@given(st.integers(3, 12), st.integers(2, 9))
def test_keras_repeats_the_first_two_batches_of_a_generator_that_ended(
    chapter: Namespace, n: int, steps: int
) -> None:
    numbered = np.arange(n, dtype=np.float32).reshape(-1, 1)

    def some() -> Any:
        for i in range(n):
            yield (numbered[i : i + 1],) * 2

    by_keras, _, warned = chapter["arrivals_keras"](some(), steps_per_epoch=steps)
    by_kvt, problem = chapter["arrivals_kvt"](some(), steps_per_epoch=steps)
    in_turn = [list(range(e * steps, min(n, (e + 1) * steps))) for e in range(3)]
    short = n // steps  # the first epoch that does not get all of its batches
    assert by_keras == [*in_turn[: short + 1], *[[0, 1]] * (2 - short)]
    assert by_kvt == in_turn[: short + 1]
    assert warned == bool(problem) == (short < 3)


def test_kvt_rejects_a_generator_without_steps_per_epoch(
    chapter: Namespace,
) -> None:
    keras_saw, kvt_saw = chapter["arrived"]["generator of 6", None]
    assert keras_saw[0] == [[0, 1, 2, 3, 4, 5], [0, 1], [0, 1]]
    assert kvt_saw[0] == []
    assert "steps_per_epoch" in kvt_saw[1]


def test_keras_reports_a_loss_of_zero_for_an_empty_epoch(chapter: Namespace) -> None:
    keras_saw, kvt_saw = chapter["arrived"]["filtered Dataset of 6", 6]
    arrived, losses, warned = keras_saw
    assert [len(epoch) for epoch in arrived] == [6, 0, 6]
    assert losses[1] == 0 < min(losses[0], losses[2])
    assert warned
    assert kvt_saw[0][0] == list(range(6))
    assert sum(map(len, kvt_saw[0])) == 6
    assert "x ended" in kvt_saw[1]


def test_validation_dataset_gives_the_metrics_of_validation_arrays(
    chapter: Namespace,
) -> None:
    x, y = chapter["x_test"][:17], chapter["y_test"][:17]
    tail = tf.data.Dataset.from_tensor_slices((x, y)).batch(5)
    runs = [
        chapter[f"train_{dialect}"](
            chapter["prefetched"], validation_data=given_, batch_size=5
        )
        for dialect in ("keras", "tf2")
        for given_ in (tail, (x, y))
    ]
    for run in runs[1:]:
        check_same(runs[0], run, chapter["epochs"])


def test_keras_warns_if_batches_should_be_shuffled(chapter: Namespace) -> None:
    model = chapter["build"]()
    model.compile("sgd", "categorical_crossentropy", jit_compile=False)
    with pytest.warns(UserWarning, match="shuffle=True"):
        model.fit(chapter["prefetched"], verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(chapter["prefetched"], verbose=0, shuffle=False)


def test_session_rejects_tensors(chapter: Namespace) -> None:
    with pytest.raises(TypeError, match=r"cannot be a tf\.Tensor"):
        chapter["train_tf1"](chapter["prefetched"])


@settings(max_examples=15)
@given(st.integers(2, 60), st.data())
def test_small_buffer_keeps_an_example_near_its_place(n: int, draw: Any) -> None:
    buffer = draw.draw(st.integers(1, n))
    drawn = tf.data.Dataset.range(n).shuffle(buffer, seed=1)
    order = np.array([*drawn.as_numpy_iterator()])
    assert max(order - np.arange(n)) < buffer


def test_buffer_of_one_shuffles_nothing(chapter: Namespace) -> None:
    assert (chapter["buffers"][0], chapter["moves"][0]) == (1, 0)
    assert chapter["moves"] == sorted(chapter["moves"])
    assert chapter["moves"] == list(map(chapter["forward_by"], chapter["buffers"]))
