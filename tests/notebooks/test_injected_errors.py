"""Each error of 2017, put into the raw code of a model's notebook, is reported.

A check does what the notebooks and their tests do. It returns what is wrong, or "" if
nothing is. An error that the notebook on 2017 shows fails here if it has no injection,
and an injection fails if no check reports it.
"""

import contextlib
import functools
import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import kvt
from kvt.compare import parity
from kvt.training import hooks
from kvt.training import loop as training
from kvt.training.batches import BatchedRows
from tests.notebooks import errors, sections
from tests.notebooks import test_committed as test_notebooks

Section = dict[str, Any]
Patch = pytest.MonkeyPatch

LINE, NETWORK = "01_linear_regression", "03_feedforward_network"
# 37 examples to train on, 16, 16 and 5, and 13 held back: every count differs.
SETTINGS = {
    "train_size": 50,
    "validation_split": 0.26,
    "batch_size": 16,
    "epochs": 2,
    "learning_rate": 0.05,
    "seed": 3,
}


# --- the section ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def defined() -> Iterator[Section]:
    section = sections.define(NETWORK, **SETTINGS)
    yield section
    section["session"].close()


@pytest.fixture
def section(defined: Section) -> Section:
    """The section in the state in which its cells ended."""
    section = dict(defined)
    reset(section)
    return section


def reset(section: Section) -> None:
    """Go back to the initial weights, and to the seed, which other sections set too."""
    keras.utils.set_random_seed(section["seed"])
    section["model"].set_weights(section["initial_weights"])
    start_raw(section, section["initial_weights"])


def start_raw(section: Section, values: list[Any]) -> None:
    """Start both raw dialects from these weights."""
    for weight, value in zip(section["weights"], values, strict=True):
        weight.assign(value)
    feed = dict(zip(section["values"], values, strict=True))
    section["session"].run(section["start"], feed)


def change_source(patch: Patch, old: str, new: str) -> None:
    """Change the source that the notebooks' cells are run from."""
    cells, found = sections.cells, []

    def changed(notebook: str) -> list[dict[str, Any]]:
        original = cells(notebook)
        found.extend(cell for cell in original if old in cell["source"])
        assert found, f"no cell of {notebook} holds {old!r}"
        return [
            {**cell, "source": cell["source"].replace(old, new)} for cell in original
        ]

    patch.setattr(sections, "cells", changed)


def defined_anew(**parameters: Any) -> Section:
    return sections.define(NETWORK, **{**SETTINGS, **parameters})


# --- the checks -----------------------------------------------------------------------


def same_bits(section: Section) -> str:
    """Weights and history are equal after every epoch, as `Do they agree?` checks."""
    runs = sections.train(section)
    for dialect in ("tf2", "tf1"):
        apart = sections.apart(runs, dialect)
        if not apart.bit_for_bit:
            return f"{dialect}: {apart}"
    return ""


def same_test_metrics(section: Section) -> str:
    """The metrics of the test set are equal, as `Do they agree?` checks."""
    x, y, size = section["x_test"], section["y_test"], section["batch_size"]
    keras_x = section.get("keras_x_test", x)
    expected = section["model"].evaluate(
        keras_x, y, batch_size=size, return_dict=True, verbose=0
    )
    for step in (section["test_step"], section["session_test_step"]):
        found = kvt.evaluate(step, x, y, batch_size=size)
        if found != expected:
            return f"{found} is not {expected}"
    return ""


def same_bar(section: Section) -> str:
    """The progress bars of Keras and of the raw loop count the steps that are done."""
    told = []
    for fit in (section["model"].fit, functools.partial(raw_fit, section)):
        bar = Bar()
        names = ("batch_size", "epochs", "validation_split")
        arguments = {name: section[name] for name in names}
        fit(
            section["x_train"],
            section["y_train"],
            verbose=0,
            callbacks=[bar],
            **arguments,
        )
        if bar.done != bar.counted:
            return f"counts {bar.counted}, works {bar.done}"
        told.append(bar.counted)
    return "" if told[0] == told[1] else f"Keras counts {told[0]}, raw {told[1]}"


class Bar(kvt.Callback):
    """Counts the steps that a bar is told of, and the steps of an epoch."""

    def set_params(self, params: Any) -> None:
        self.counted = params["steps"]

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.done = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.done += 1


def raw_fit(section: Section, x: Any, y: Any, **arguments: Any) -> Any:
    return kvt.fit(section["train_step"], section["test_step"], x, y, **arguments)


def top_to_bottom(section: Section) -> str:
    """The notebook on linear regression runs, up to and including `Do they agree?`."""
    namespace: Section = {"__name__": LINE}
    with contextlib.redirect_stdout(io.StringIO()):
        for cell in sections.cells(LINE):
            if cell["cell_type"] == "code":
                try:
                    exec(compile(cell["source"], LINE, "exec"), namespace)
                except (AssertionError, NameError, ValueError) as problem:
                    return f"{type(problem).__name__}: {problem}"
                if "parity" in cell["metadata"].get("tags", ()):
                    return ""
    return "no cell asked whether the dialects agree"


def run_in_order(section: Section) -> str:
    """The committed notebook was run from top to bottom."""
    try:
        test_notebooks.test_every_cell_was_run_once_from_top_to_bottom(LINE)
    except AssertionError as problem:
        return str(problem)
    return ""


def same_again(section: Section) -> str:
    """A notebook that is run again starts from the same weights."""
    starts = []
    for _ in range(2):
        again = defined_anew()
        again["session"].close()
        starts.append(again["initial_weights"])
    return "" if parity.same_bits(*starts) else "the second run starts elsewhere"


def commands_start(section: Section) -> str:
    """TensorBoard takes the arguments that the notebooks give it.

    The notebook on the errors of 2017 has the function that asks TensorBoard.
    """
    (source,) = (
        cell["source"]
        for cell in sections.cells(errors.NOTEBOOK)
        if cell.get("id") == "command-measured"
    )
    asked: Section = {"compared": lambda before, after: None}
    exec(compile(source, errors.NOTEBOOK, "exec"), asked)
    commands = [
        line
        for cell in sections.cells(LINE)
        for line in cell["source"].splitlines()
        if line.startswith("tensorboard ")
    ]
    assert commands
    return "; ".join(
        command
        for command in commands
        if asked["accepts"](command.split()[1:]) != "yes"
    )


# --- the injections -------------------------------------------------------------------


@dataclass(frozen=True)
class Injection:
    """How an error is put into a section, and the check that must report it."""

    inject: Callable[[Section, Patch], Section]
    check: Callable[[Section], str] = same_bits


AGAIN = -1  # in place of a step's number: the epoch goes on after its last step


def update_in_validation(section: Section, patch: Patch) -> Section:
    return section | {
        "test_step": section["train_step"],
        "session_test_step": section["session_train_step"],
    }


def validate_once_per_example(section: Section, patch: Patch) -> Section:
    runner, test_steps = training.runner, steps_of(section, "test_step")

    def changed(step: Any, name: str, batches: BatchedRows, *mode: Any) -> Any:
        def once_per_example() -> Any:
            mean = training.Mean()
            random = np.random.default_rng(0)
            x, y = batches.rows
            size = min(batches.batch_size, len(x)) // 2
            for _ in x:
                batch = random.choice(len(x), size, replace=False)
                mean.update(step(x[batch], y[batch]), len(batch))
                yield AGAIN, mean.result()

        if step in test_steps:
            return once_per_example
        return runner(step, name, batches, *mode)

    patch.setattr(training, "runner", changed)
    return section


def steps_of(section: Section, name: str) -> tuple[Any, Any]:
    """Return the steps of both TensorFlow dialects."""
    return section[name], section[f"session_{name}"]


def report_the_last_batch(section: Section, patch: Patch) -> Section:
    class Last(training.Mean):
        def update(self, logs: Any, examples: int) -> None:
            training.Mean.__init__(self)
            super().update(logs, examples)

    patch.setattr(training, "Mean", Last)
    return section


def change_batches(change: Callable[[list[Any]], list[Any]]) -> Any:
    """Return an injection that changes the batches of an epoch."""

    def inject(section: Section, patch: Patch) -> Section:
        runner, train_steps = training.runner, steps_of(section, "train_step")

        def changed(step: Any, name: str, batches: BatchedRows, *mode: Any) -> Any:
            def run() -> Any:
                order, size = batches.order, batches.batch_size
                starts = range(0, len(order), size)
                rows = change([order[start : start + size] for start in starts])
                others = [tuple(a[r] for a in batches.rows) for r in rows]
                for _, logs in training.run_steps(step, name, others):
                    yield AGAIN, logs

            return run if step in train_steps else runner(step, name, batches, *mode)

        patch.setattr(training, "runner", changed)
        return section

    return inject


def one_more(batches: list[Any]) -> list[Any]:
    return [*batches, batches[0]]


def as_many_as_round_says(batches: list[Any]) -> list[Any]:
    n, size = sum(map(len, batches)), len(batches[0])
    assert round(n / size) < math.ceil(n / size)
    return batches[: round(n / size)]


def drawn_anew(batches: list[Any]) -> list[Any]:
    random = np.random.default_rng(0)
    n = sum(map(len, batches))
    return [random.choice(n, len(batch), replace=False) for batch in batches]


def change_fit(**changed: Any) -> Any:
    """Return an injection that calls `kvt.fit` with other arguments; None drops one."""

    def inject(section: Section, patch: Patch) -> Section:
        fit = kvt.fit

        def other(*steps_and_data: Any, **arguments: Any) -> Any:
            arguments |= changed
            kept = {k: value for k, value in arguments.items() if value is not None}
            return fit(*steps_and_data, **kept)

        patch.setattr(kvt, "fit", other)
        return section

    return inject


def fewer_rows(section: Section, patch: Patch) -> Section:
    fit = kvt.fit

    def other(train: Any, test: Any, x: Any, y: Any, **arguments: Any) -> Any:
        return fit(train, test, x[:25], y[:25], **arguments)

    patch.setattr(kvt, "fit", other)
    return section


def split_at_random(section: Section, patch: Patch) -> Section:
    fit = kvt.fit

    def other(train: Any, test: Any, x: Any, y: Any, **arguments: Any) -> Any:
        order = np.random.default_rng(0).permutation(len(x))
        return fit(train, test, x[order], y[order], **arguments)

    patch.setattr(kvt, "fit", other)
    return section


def start_from(draw: Callable[[tuple[int, ...]], Any]) -> Any:
    """Return an injection that starts the raw dialects from other weights."""

    def inject(section: Section, patch: Patch) -> Section:
        starts = [draw(w.shape).astype("float32") for w in section["initial_weights"]]
        start_raw(section, starts)
        return section

    return inject


def normal(scale: float) -> Callable[[tuple[int, ...]], Any]:
    return lambda shape: np.random.default_rng(0).normal(scale=scale, size=shape)


def a_tenth_for_biases(shape: tuple[int, ...]) -> Any:
    return np.full(shape, 0.1) if len(shape) == 1 else normal(0.1)(shape)


def in_source(old: str, new: str, **parameters: Any) -> Any:
    """Return an injection that defines the section with other code."""

    def inject(section: Section, patch: Patch) -> Section:
        change_source(patch, old, new)
        return defined_anew(**parameters)

    return inject


def in_cells(old: str, new: str) -> Any:
    """Return an injection that changes the cells that the check runs."""

    def inject(section: Section, patch: Patch) -> Section:
        change_source(patch, old, new)
        return section

    return inject


def cost_of_all_points(section: Section, patch: Patch) -> Section:
    fit = kvt.fit

    def other(train: Any, test: Any, x: Any, y: Any, **arguments: Any) -> Any:
        history = fit(train, test, x, y, **arguments)
        history.history["loss"][-1] = kvt.evaluate(test, x, y)["loss"]
        return history

    patch.setattr(kvt, "fit", other)
    return section


def raw_test_set(section: Section, patch: Patch) -> Section:
    x = section["x_test"]
    return section | {"keras_x_test": x, "x_test": x * 255}


def no_accuracy(section: Section, patch: Patch) -> Section:
    def without(step: Any) -> Any:
        return lambda x, y: {"loss": step(x, y)["loss"]}

    steps = ("train_step", "test_step", "session_train_step", "session_test_step")
    return section | {name: without(section[name]) for name in steps}


def bar_of_examples(section: Section, patch: Patch) -> Section:
    begin = hooks.CallbackList.begin

    def other(self: hooks.CallbackList, params: Any) -> None:
        begin(self, {**params, "steps": 37})

    patch.setattr(hooks.CallbackList, "begin", other)
    return section


def cells_out_of_order(section: Section, patch: Patch) -> Section:
    cells = sections.cells

    def swapped(notebook: str) -> list[dict[str, Any]]:
        changed = cells(notebook)
        first, second = [c for c in changed if c["cell_type"] == "code"][:2]
        first["execution_count"], second["execution_count"] = 2, 1
        return changed

    patch.setattr(sections, "cells", swapped)
    return section


def shuffled(random: np.random.Generator, batches: list[Any]) -> list[Any]:
    order = random.permutation(np.concatenate(batches))
    return np.split(order, np.cumsum([len(batch) for batch in batches])[:-1])


def weigh_batches(weight: Callable[[int], int]) -> Any:
    """Return an injection that weighs a batch of n examples differently."""

    def inject(section: Section, patch: Patch) -> Section:
        update = training.Mean.update

        def weighted(self: Any, logs: Any, examples: int) -> None:
            means = {name: np.asarray(value).mean() for name, value in logs.items()}
            update(self, means, weight(examples))

        patch.setattr(training.Mean, "update", weighted)
        return section

    return inject


# Of the 2017 notebook, by their headings.
INJECTIONS = {
    "The optimizer runs in validation": Injection(update_in_validation),
    "Validation once per example": Injection(validate_once_per_example),
    "Metrics of the last batch": Injection(report_the_last_batch),
    "One step too many": Injection(change_batches(one_more)),
    "Batches counted by rounding": Injection(change_batches(as_many_as_round_says)),
    "Batches drawn anew at every step": Injection(change_batches(drawn_anew)),
    "Batch size 10 instead of 5": Injection(change_fit(batch_size=32)),
    "1,000 rows instead of 60,000": Injection(fewer_rows),
    "A random split instead of the tail": Injection(split_at_random),
    "A normal start instead of Glorot's": Injection(start_from(normal(1.0))),
    "A start from zero instead of Glorot's": Injection(start_from(np.zeros)),
    "A narrow normal start instead of Glorot's": Injection(start_from(normal(0.1))),
    "A start from 0.1 instead of Glorot's": Injection(start_from(a_tenth_for_biases)),
    "Sigmoid without biases instead of relu with biases": Injection(
        in_source(
            "tf.nn.relu(tf.nn.bias_add(x @ w1, b1))", "tf.nn.sigmoid(x @ w1 + 0 * b1)"
        )
    ),
    "The logarithm of a softmax": Injection(
        in_source(
            "losses = tf.nn.softmax_cross_entropy_with_logits(y, logits)",
            "p = tf.nn.softmax(logits)\n"
            "    losses = -tf.reduce_sum(y * tf.math.log(p), axis=1)",
        )
    ),
    "A learning rate that nothing reads": Injection(
        in_source("assign_sub(learning_rate * gradient)", "assign_sub(0.01 * gradient)")
    ),
    "A training cost of all points": Injection(cost_of_all_points),
    "A test set left raw": Injection(raw_test_set, same_test_metrics),
    "Keras without accuracy": Injection(no_accuracy),
    "Epochs left to a default": Injection(change_fit(epochs=None)),
    "A progress bar of examples": Injection(bar_of_examples, same_bar),
    "Names before their definitions": Injection(
        in_cells("import shutil\n", ""), top_to_bottom
    ),
    "A training set overwritten": Injection(
        in_cells(
            "tf2_history = kvt.fit(",
            "x_train, y_train = x_train[:80], y_train[:80]\ntf2_history = kvt.fit(",
        ),
        top_to_bottom,
    ),
    "Cells out of order": Injection(cells_out_of_order, run_in_order),
    "No seed for TensorFlow": Injection(
        in_cells("keras.utils.set_random_seed(seed)\n", ""), same_again
    ),
    "A command that does not start": Injection(
        in_cells("tensorboard --logdir ", "tensorboard logs="), commands_start
    ),
}

# Further causes of different results that a loop or a step can have.
OTHERS = {
    "mean of batch means": Injection(weigh_batches(lambda n: 1)),
    "partial batch dropped": Injection(
        change_batches(lambda batches: [b for b in batches if len(b) == 16])
    ),
    "batches in the order of the data": Injection(change_fit(shuffle=False)),
    "another order in every epoch": Injection(
        change_batches(functools.partial(shuffled, np.random.default_rng(0)))
    ),
    "batched, then shuffled": Injection(change_batches(lambda batches: batches[::-1])),
    "sum of the losses": Injection(
        in_source('"loss": tf.reduce_mean(losses)', '"loss": tf.reduce_sum(losses)')
    ),
    "softmax twice": Injection(
        in_source(
            "softmax_cross_entropy_with_logits(y, logits)",
            "softmax_cross_entropy_with_logits(y, tf.nn.softmax(logits))",
        )
    ),
}


# --- the tests ------------------------------------------------------------------------


def test_every_error_of_2017_has_an_injection() -> None:
    assert list(INJECTIONS) == [error.heading for error in errors.shown()]


@pytest.mark.parametrize("name", [*INJECTIONS, *OTHERS])
def test_injected_error_is_reported(
    name: str, section: Section, monkeypatch: Patch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # where TensorBoard's files go
    injection = (INJECTIONS | OTHERS)[name]
    injected = injection.inject(section, monkeypatch)
    try:
        report = injection.check(injected)
    except ValueError as problem:  # the runs cannot be compared at all
        report = str(problem)
    if injected["session"] is not section["session"]:
        injected["session"].close()
    assert report


@pytest.mark.parametrize(
    "check",
    sorted({one.check for one in INJECTIONS.values()}, key=lambda one: one.__name__),
    ids=lambda check: check.__name__,
)
def test_where_nothing_is_injected_nothing_is_reported(
    check: Callable[[Section], str],
    section: Section,
    monkeypatch: Patch,
    tmp_path: Path,
) -> None:
    """This test is the last, so that it finds injections that were not undone."""
    monkeypatch.chdir(tmp_path)
    assert check(section) == ""
