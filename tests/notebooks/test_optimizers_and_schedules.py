"""Optimizers and schedules, written out in raw TensorFlow, hold Keras's bits."""

import re
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kvt.compare import parity
from kvt.show.tables import DIALECTS
from tests.notebooks import recipes

NOTEBOOK = "05_optimizers_and_schedules"
OPTIMIZERS, SCHEDULES = "Optimizers", "Learning-rate schedules"
SMALL = {"train_size": 60, "batch_size": 7, "epochs": 2, "validation_split": 0.25}
ODD = (
    SMALL | {"learning_rate": 0.05, "seed": 3},
    {
        "train_size": 9,
        "batch_size": 20,
        "epochs": 1,
        "learning_rate": 1,
        "validation_split": 0,
        "seed": 2**32 - 1,
    },
)
CLIPPING = "Gradient clipping by global norm"
# Cells of earlier rows that a row needs.
USES = {
    "Nesterov": {"# TensorFlow 2 · Momentum"},
    "RMSprop": {"# TensorFlow 2 · Momentum"},
    "Adam": {"# TensorFlow 2 · Momentum"},
    "AdamW": {"# TensorFlow 2 · Momentum", "# TensorFlow 2 · Adam"},
    "Training with a schedule": {
        f"# {dialect} · Cosine with linear warm-up" for dialect in DIALECTS.values()
    },
}
Change = Callable[[str], str]


def title(cell: dict[str, Any]) -> str:
    """Return the cell's first line, which names its dialect and row."""
    line: str = cell["source"].split("\n")[0]
    return line


def row_of(cell: dict[str, Any]) -> str:
    return title(cell).partition(" · ")[2]


def without_others(chapter: str, rows: set[str]) -> set[str]:
    """Return the sources of the chapter's cells that none of the rows needs.

    The cells before the first row are needed. So are, after a row's own cells, its
    first check and the count of clipped steps.
    """
    used = {line for row in rows for line in USES.get(row, ())}
    others: set[str] = set()
    row, checked = "", False
    for cell in recipes.chapters(NOTEBOOK)[chapter]:
        if row_of(cell):
            row, checked = row_of(cell), False
            keep = row in rows or title(cell) in used
        elif row:
            check = "parity" in cell["metadata"].get("tags", ()) and not checked
            keep = row in rows and (check or "nothing was clipped" in cell["source"])
            checked |= check
        else:
            keep = True
        if not keep:
            others.add(cell["source"])
    return others


def run_rows(
    chapter: str, *rows: str, change: Change = lambda source: source, **values: object
) -> recipes.Namespace:
    """Run some rows of a chapter; `change` rewrites the source of each cell."""
    others = without_others(chapter, set(rows))

    def change_all(source: str) -> str:
        """Leave out other rows, and the trainings of rows that are only used."""
        if source in others:
            return ""
        if source.split("\n")[0].partition(" · ")[2] in {*USES, "Momentum"} - {*rows}:
            source = re.sub(r"\n\w+ = train_tf2\(\w+\)$", "", source)
        return change(source)

    return recipes.run(NOTEBOOK, chapter, change=change_all, **(SMALL | values))


@pytest.fixture(scope="module")
def notebook() -> recipes.Namespace:
    return recipes.run(NOTEBOOK, OPTIMIZERS, SCHEDULES, **ODD[0])


def check_optimizers(namespace: recipes.Namespace) -> None:
    """Check the rows' trainings, whatever their own checks say."""
    for row, ((weights, history), found) in namespace["optimizer_runs"].items():
        assert found["tf2"].bit_for_bit, row
        assert len(weights) == len(history["loss"]) == namespace["epochs"]
        if "tf1" in found:  # the same operations in another order
            assert max(found["tf1"].weights_max_abs) < 1e-5, row
    assert namespace["longer"].numpy() > 0


def check_schedules(namespace: recipes.Namespace) -> None:
    for name, found in namespace["schedule_rates"].items():
        assert list(found) == list(DIALECTS.values())
        reference = found["Keras"]
        assert reference.shape == (namespace["total_steps"],)
        assert reference.dtype == "float32"
        for other in found.values():
            assert parity.same_bits([reference], [other]), name
    assert len(namespace["schedule_rates"]) == 3
    assert all(one.bit_for_bit for one in namespace["scheduled_distances"].values())


def test_every_optimizer_written_out_holds_keras_bits(
    notebook: recipes.Namespace,
) -> None:
    check_optimizers(notebook)
    assert len(notebook["optimizer_runs"]) == 7
    assert notebook["optimizer_runs"]["SGD"][1]["tf1"].bit_for_bit


def test_every_schedule_written_out_holds_keras_bits(
    notebook: recipes.Namespace,
) -> None:
    check_schedules(notebook)


def test_one_step_of_fewer_examples_than_a_batch_holds_keras_bits() -> None:
    check_optimizers(run_rows(OPTIMIZERS, "Momentum", "Adam", CLIPPING, **ODD[1]))
    check_schedules(recipes.run(NOTEBOOK, SCHEDULES, **ODD[1]))


def test_other_coefficients_hold_keras_bits() -> None:
    """A coefficient that changes in every dialect alike changes no verdict."""
    rows = ("Momentum", "Nesterov", "RMSprop", "Adam", "AdamW")
    namespace = run_rows(
        OPTIMIZERS,
        *rows,
        CLIPPING,
        change=lambda source: (
            source.replace("0.9", "0.8")  # and 0.999, to 0.899
            .replace("1e-7", "1e-3")
            .replace("0.001", "0.003")
            .replace("0.004", "0.1")
            .replace("0.5", "0.7")
        ),
    )
    assert len(namespace["optimizer_runs"]) == 6
    for row, (_, found) in namespace["optimizer_runs"].items():
        assert found["tf2"].bit_for_bit, row


RULES: dict[str, Callable[[float], Any]] = {
    "sgd": lambda rate: keras.optimizers.SGD(rate),
    "with_momentum": lambda rate: keras.optimizers.SGD(rate, momentum=0.9),
    "with_nesterov": lambda rate: keras.optimizers.SGD(
        rate, momentum=0.9, nesterov=True
    ),
    "rmsprop": lambda rate: keras.optimizers.RMSprop(0.001),
    "adam": lambda rate: keras.optimizers.Adam(0.001),
    "adamw": lambda rate: keras.optimizers.AdamW(0.001),
    "clipped_sgd": lambda rate: keras.optimizers.SGD(rate, global_clipnorm=0.5),
}


def in_graph(update: Callable[[Any], None], shapes: list[tuple[int, ...]]) -> Any:
    """Make a graph of an update; like a step, it returns something.

    A graph that returns nothing is not rewritten as thoroughly before it runs.
    """

    def step(gradients: Any) -> Any:
        update(gradients)
        return tf.reduce_sum(gradients[0])

    signature = [[tf.TensorSpec(shape, "float32") for shape in shapes]]
    return tf.function(step, input_signature=signature).get_concrete_function()


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=1)
@given(
    shapes=st.lists(
        st.lists(st.integers(1, 12), min_size=1, max_size=3).map(tuple),
        min_size=1,
        max_size=3,
    ),
    steps=st.integers(1, 6),
    rate=st.floats(1e-4, 1),
    size=st.sampled_from([1e-8, 1e-3, 0.1, 10.0]),
    seed=st.integers(0, 2**32 - 1),
)
@example(shapes=[(1,), (1, 1)], steps=3, rate=0.1, size=0.1, seed=0)
@example(shapes=[(300, 7), (7,)], steps=12, rate=0.3, size=0.1, seed=1)
def test_a_rule_equals_kerass_on_any_gradients(
    notebook: recipes.Namespace,
    rule: str,
    shapes: list[tuple[int, ...]],
    steps: int,
    rate: float,
    size: float,
    seed: int,
) -> None:
    random = np.random.default_rng(seed)

    def draw(scale: float) -> list[Any]:
        return [random.normal(scale=scale, size=s).astype("float32") for s in shapes]

    start, gradients = draw(1), [draw(size) for _ in range(steps)]
    theirs = [keras.Variable(w) for w in start]
    optimizer = RULES[rule](rate)
    optimizer.build(theirs)
    ours = [tf.Variable(w) for w in start]
    before = notebook["learning_rate"]
    notebook["learning_rate"] = rate
    try:
        step = in_graph(notebook[rule](ours), shapes)
        keras_step = in_graph(lambda g: optimizer.apply(g, theirs), shapes)
    finally:
        notebook["learning_rate"] = before
    for g in gradients:
        step(*map(tf.constant, g))
        keras_step(*map(tf.constant, g))
        same = parity.same_bits([w.numpy() for w in ours], [w.numpy() for w in theirs])
        assert same


@settings(max_examples=3)
@given(steps_per_epoch=st.integers(1, 400), epochs=st.integers(1, 12))
@example(steps_per_epoch=1, epochs=1)
@example(steps_per_epoch=1, epochs=2)
def test_a_schedule_equals_kerass_at_every_step_and_after_the_last(
    notebook: recipes.Namespace, steps_per_epoch: int, epochs: int
) -> None:
    total = epochs * steps_per_epoch
    values = {
        "steps_per_epoch": steps_per_epoch,
        "half": total // 2,
        "three_quarters": total * 3 // 4,
        "warmup_steps": steps_per_epoch,
        "decay_steps": max(1, total - steps_per_epoch),
    }
    schedules = keras.optimizers.schedules
    theirs = {
        "exponential": schedules.ExponentialDecay(0.1, steps_per_epoch, 0.8),
        "piecewise": schedules.PiecewiseConstantDecay(
            [values["half"], values["three_quarters"]], [0.1, 0.05, 0.01]
        ),
        "cosine": schedules.CosineDecay(
            0.0,
            values["decay_steps"],
            warmup_target=0.1,
            warmup_steps=steps_per_epoch,
        ),
    }
    names = [*values, "total_steps"]
    before = {name: notebook[name] for name in names}
    notebook |= values | {"total_steps": min(total + 3, 90)}
    try:
        for name, schedule in theirs.items():
            reference = notebook["rates_in_graph"](schedule)
            tf2 = notebook["rates_in_graph"](notebook[f"{name}_tf2"])
            tf1 = notebook["rates_in_session"](notebook[f"{name}_tf1"])
            assert parity.same_bits([reference, reference], [tf2, tf1]), name
    finally:
        notebook |= before


def test_rates_are_those_computed_by_hand() -> None:
    """The first and last rates, and the ends of pieces, as a reader computes them."""
    namespace = run_rows(
        SCHEDULES,
        "Exponential decay",
        "Piecewise constant",
        "Cosine with linear warm-up",
        batch_size=9,
        epochs=3,
        train_size=40,
        validation_split=0.1,
    )
    assert namespace["total_steps"] == 12
    rates = {
        name: found["Keras"] for name, found in namespace["schedule_rates"].items()
    }
    falling = rates["exponential decay"]
    np.testing.assert_allclose(falling[[0, 4, 8]], [0.1, 0.08, 0.064], rtol=1e-6)
    pieces = [0.1] * 7 + [0.05] * 3 + [0.01] * 2
    np.testing.assert_allclose(rates["piecewise constant"], pieces, rtol=1e-6)
    there_and_back = [0, 0.025, 0.05, 0.075, 0.1]
    cosine = rates["cosine with warm-up"]
    np.testing.assert_allclose(cosine[:5], there_and_back, rtol=1e-6)
    assert (np.diff(cosine[4:]) < 0).all()
    np.testing.assert_allclose(cosine[8], 0.05, rtol=1e-6)


WRONG = {
    "rate outside the velocity": (
        "Momentum",
        "m.assign(0.9 * m - learning_rate * g)\n            w.assign_add(m)",
        "m.assign(0.9 * m - g)\n            w.assign_add(learning_rate * m)",
    ),
    "no look-ahead": (
        "Nesterov",
        "w.assign_add(0.9 * m - learning_rate * g)",
        "w.assign_add(m)",
    ),
    "epsilon outside the root": (
        "RMSprop",
        "root = tf.sqrt(v + 1e-7)",
        "root = tf.sqrt(v) + 1e-7",
    ),
    "epsilon under the root": ("Adam", "(tf.sqrt(v) + 1e-7)", "tf.sqrt(v + 1e-7)"),
    "epsilon of TensorFlow 1": ("Adam", "1e-7)", "1e-8)"),
    "steps from 0": ("Adam", "steps.assign_add(1)", "steps.assign_add(1) + 1"),
    "decay after Adam": (
        "AdamW",
        "        for w in weights:\n"
        "            w.assign_sub(w * 0.004 * 0.001)  # decay, rate\n"
        "        update_by_adam(gradients)\n",
        "        update_by_adam(gradients)\n"
        "        for w in weights:\n"
        "            w.assign_sub(w * 0.004 * 0.001)  # decay, rate\n",
    ),
    "decay without the rate": ("AdamW", "w * 0.004 * 0.001", "w * 0.004"),
    "each variable clipped by itself": (
        CLIPPING,
        "rate * (g * scale)",
        "rate * tf.clip_by_norm(g, 0.5)",
    ),
    "the step counted first": (
        "Training with a schedule",
        "rate = cosine_tf2(step)",
        "rate = cosine_tf2(step + 1)",
    ),
    "boundary to the next piece": ("Piecewise constant", "step <= half", "step < half"),
    "constants in the branch": (
        "Cosine with linear warm-up",
        "return top * (t / w)",
        "return 0.1 * (t / warmup_steps)",
    ),
}


FIRST = {row: wrong for wrong, (row, *_) in reversed(WRONG.items())}


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(wrong, marks=[] if wrong in FIRST.values() else pytest.mark.wide)
        for wrong in WRONG
    ],
)
def test_a_wrong_update_or_schedule_stops_the_notebook(wrong: str) -> None:
    row, right, error = WRONG[wrong]
    changed = []

    def change(source: str) -> str:
        if source.startswith(f"# TensorFlow 2 · {row}\n") and right in source:
            changed.append(source)
            return source.replace(right, error)
        return source

    chapter = OPTIMIZERS
    if row in map(row_of, recipes.chapters(NOTEBOOK)[SCHEDULES]):
        chapter = SCHEDULES
    with pytest.raises(AssertionError):
        run_rows(chapter, row, change=change, batch_size=4)
    assert len(changed) == 1


def test_a_norm_that_clips_nothing_stops_the_notebook() -> None:
    """If no gradient exceeds the norm, the row would show plain SGD as clipping."""

    def change(source: str) -> str:
        return (
            source.replace("global_clipnorm=0.5", "global_clipnorm=5e9")
            .replace("scale = 0.5 * tf.minimum(1 / norm, 1 / 0.5)", "scale = 1.0")
            .replace("norm > 0.5", "norm > 5e9")
        )

    with pytest.raises(AssertionError, match="nothing was clipped"):
        run_rows(OPTIMIZERS, CLIPPING, change=change)
