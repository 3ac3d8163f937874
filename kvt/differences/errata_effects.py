"""What an error of 2017 did: each function measures one against its correction.

Each is called as `effect(erratum, replays)` and returns rows: what was measured ->
(in 2017, corrected), as texts. A row whose two texts are equal is left out.
"""

import ast
import builtins
import contextlib
import importlib.util
import io
import itertools
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf1

from kvt.compare import replay
from kvt.compare.replay import MODELS, Parts, Replays, Run

Rows = dict[str, tuple[str, str]]


def alone(erratum: Any, replays: Replays, **settings: Any) -> Rows:
    """Put one error into the corrected training, and return what differs."""
    model = erratum.models[0]
    parts = corrected(model, full=erratum.part == "rows")
    wrong = measures(replays.run(model, erratum.put_into(parts), **settings))
    right = measures(replays.run(model, parts, **settings))
    return {what: (wrong[what], right[what]) for what in wrong}


def corrected(model: str, *, full: bool = False) -> Parts:
    """Return a training without an error; on 2017's 1,000 rows unless it is `full`."""
    parts = MODELS[model].parts
    return parts if full else replace(parts, rows=replay.first_rows)


def measures(run: Run) -> dict[str, str]:
    """Return what a run did, and the figures of its last epoch."""
    epochs, printed, true = len(run.printed), run.printed[-1], run.true[-1]
    rows = {
        "weights": f"{sum(w.size for w in run.weights):,}",
        "training examples": f"{len(run.training.x):,}",
        "seen in the last epoch": f"{run.training.seen:,}",
        "training steps an epoch": f"{run.training.batches // epochs:,}",
        "validation batches an epoch": f"{run.validation.batches // epochs:,}",
        "updates by validation, an epoch": f"{run.validation.updates // epochs:,}",
        **{f"{name}, printed": figure(printed[name]) for name in printed},
    }
    if "accuracy" in true:
        rows["val_accuracy, all examples"] = figure(true["accuracy"])
        rows["test accuracy"] = figure(run.test["accuracy"])
    return rows


def figure(value: float) -> str:
    """Return three decimals, of a small figure two digits."""
    return f"{value:.3f}" if abs(value) >= 0.01 else f"{value:.2g}"


def asked_for_a_tenth(erratum: Any, replays: Replays) -> Rows:
    """Measure an error alone, where an epoch at a learning rate of 0.1 is asked for."""
    return alone(erratum, replays, learning_rate=0.1, epochs=1)


def over_five_seeds(erratum: Any, replays: Replays) -> Rows:
    """Measure an error alone, and the true validation accuracy over five seeds."""
    model = erratum.models[0]
    right = corrected(model)
    ranges = []
    for parts in (erratum.put_into(right), right):
        runs = [replays.run(model, parts, seed=seed) for seed in range(5)]
        true = [run.true[-1]["accuracy"] for run in runs]
        ranges.append(f"{figure(min(true))} to {figure(max(true))}")
    spread = {"val_accuracy, all examples, five seeds": (ranges[0], ranges[1])}
    return alone(erratum, replays) | spread


def of_far_logits(erratum: Any, replays: Replays) -> Rows:
    """Return loss and gradient where the right class is far ahead or far behind."""
    right, wrong = np.eye(2, dtype=np.float32)[:, None]  # the first class, the second
    columns = []
    for loss in (erratum.in_2017, erratum.corrected):
        with tf1.Graph().as_default(), tf1.Session() as session:
            z = tf1.constant([[200.0, 0.0]])
            ahead, behind = loss(right, z), loss(wrong, z)
            gradient = tf1.reduce_max(tf1.abs(tf1.gradients(ahead, z)[0]))
            values = session.run([loss(right, z * 0.3), ahead, gradient, behind])
        columns.append(tuple(f"{value + 0.0:.0f}" for value in values))  # no -0
    names = ("loss, right class ahead by 60", "loss, right class ahead by 200")
    further = ("largest gradient there", "loss, right class behind by 200")
    return _by_row((*names, *further), columns)


def of_the_line(erratum: Any, replays: Replays) -> Rows:
    """Return the cost of the trained line, and the points that it is a cost of."""
    run = replays.run("line", corrected("line"))
    w, b = run.weights
    columns = []
    for rows in (erratum.in_2017, erratum.corrected):
        x, y = rows(run.training, run.validation)
        held_back = int(np.isin(x, run.validation.x).sum())
        cost = float(np.mean(np.square(y - (w * x + b))))
        columns.append((str(len(x)), str(held_back), f"{cost:.2e}"))
    return _by_row(("points", "of them held back", "cost"), columns)


def of_the_test_set(erratum: Any, replays: Replays) -> Rows:
    """Give a trained convolutional network the test set, prepared either way."""
    data, parts = replays.data["convolutional"], corrected("convolutional")
    weights = replays.run("convolutional", parts).weights
    tested = data.x_test[: replay.TESTED]
    y = data.y_test[: replay.TESTED]
    gray = np.rint(tested[..., 0] * 255).astype(np.uint8)  # as MNIST's file has it
    columns = []
    for prepare in (erratum.in_2017, erratum.corrected):
        x = prepare(gray)
        try:
            replay.measure(parts, data, weights, x, y)
            accepted = "yes"
        except ValueError:  # a placeholder refuses another shape
            accepted = "no"
        x = x.reshape(tested.shape).astype(np.float32)
        figures = replay.measure(parts, data, weights, x, y)
        loss, accuracy = figure(figures["loss"]), figure(figures["accuracy"])
        columns.append((accepted, f"{x.max():.0f}", loss, accuracy))
    names = ("the network takes it", "largest value", "test loss, once reshaped")
    return _by_row((*names, "test accuracy, once reshaped"), columns)


def of_keras_epochs(erratum: Any, replays: Replays) -> Rows:
    """Return how many epochs Keras trains when it is called either way."""
    import keras

    data = replays.data["line"]
    columns = []
    for fit in (erratum.in_2017, erratum.corrected):
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile(loss="mean_squared_error", optimizer="sgd")
        history = fit(model, data.x_train, data.y_train)
        columns.append((str(len(history.epoch)),))
    return _by_row(("epochs",), columns)


def of_keras_figures(erratum: Any, replays: Replays) -> Rows:
    """Return what Keras's history holds when it is compiled either way."""
    import keras

    data = replays.data["logistic"]
    columns = []
    for build in (erratum.in_2017, erratum.corrected):
        layer = keras.layers.Dense(10, activation="softmax")
        model = keras.Sequential([keras.Input((784,)), layer])
        build(model)
        history = model.fit(data.x_train[:20], data.y_train[:20], verbose=0)
        columns.append((", ".join(sorted(history.history, reverse=True)),))
    return _by_row(("figures of an epoch",), columns)


def of_a_bar(erratum: Any, replays: Replays) -> Rows:
    """Return what a bar over 80 points and 16 batches counts, and what is done."""
    columns = [
        tuple(map(str, count(n=80, steps=16)))
        for count in (erratum.in_2017, erratum.corrected)
    ]
    return _by_row(("counted", "worked"), columns)


def of_names(erratum: Any, replays: Replays) -> Rows:
    """Return the names that no cell above had bound, the first one first."""
    columns = [
        (", ".join(unbound(cells)) or "none",)
        for cells in (erratum.in_2017, erratum.corrected)
    ]
    return _by_row(("names not defined when they are used",), columns)


def unbound(cells: str) -> list[str]:
    """Return the names that code reads before a cell binds them, in order.

    `cells` is Python; a comment that begins `# In [` begins a cell. A name may be
    bound below its use in the same cell, as functions are.
    """
    known, missing = set(dir(builtins)), list[str]()
    for cell in cells.split("# In [")[1:]:
        nodes = list(ast.walk(ast.parse("# In [" + cell)))
        for node in nodes:
            match node:
                case ast.Import(names=names) | ast.ImportFrom(names=names):
                    known |= {(name.asname or name.name) for name in names}
                case ast.FunctionDef(name=name) | ast.arg(arg=name):
                    known.add(name)
                case ast.Name(id=name, ctx=ast.Store()):
                    known.add(name)
        loaded = [
            node.id
            for node in nodes
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
        ]
        missing += [name for name in loaded if name not in {*known, *missing}]
    return missing


def of_a_cell_run_twice(erratum: Any, replays: Replays) -> Rows:
    """Return how many examples a cell trains on when it is run again."""
    x = replays.data["logistic"].x_train
    columns = []
    for cell in (erratum.in_2017, erratum.corrected):
        kept, first = cell(x)
        _, second = cell(kept)
        columns.append((f"{len(first)}", f"{len(second)}"))
    return _by_row(("trained on, first run", "second run"), columns)


def of_order(erratum: Any, replays: Replays) -> Rows:
    """Return how a notebook's cells were run."""
    columns = []
    for cells in (erratum.in_2017, erratum.corrected):
        counts = cells()
        ran = [count for count in counts if count is not None]
        backwards = sum(after < before for before, after in itertools.pairwise(ran))
        never = len(counts) - len(ran)
        columns.append((f"{ran[0]}", f"{backwards}", f"{never}"))
    names = "first cell's number", "steps back in time", "cells never run"
    return _by_row(names, columns)


def of_two_starts(erratum: Any, replays: Replays) -> Rows:
    """Return whether a graph that is made twice starts from the same weights."""
    columns = []
    for set_seed in (erratum.in_2017, erratum.corrected):
        starts = []
        for _ in range(2):
            with tf1.Graph().as_default(), tf1.Session() as session:
                set_seed()
                starts.append(session.run(tf1.random_normal([])))
        columns.append(("yes" if starts[0] == starts[1] else "no",))
    return _by_row(("two runs start alike",), columns)


def of_a_command(erratum: Any, replays: Replays) -> Rows:
    """Return whether the module exists, and whether TensorBoard takes the arguments."""
    columns = []
    for command in (erratum.in_2017, erratum.corrected):
        module, *arguments = command()
        answers = _exists(module), tensorboard_takes(arguments)
        columns.append(tuple("yes" if answer else "no" for answer in answers))
    return _by_row(("the module exists", "TensorBoard takes the argument"), columns)


def tensorboard_takes(arguments: Sequence[str]) -> bool:
    """Whether TensorBoard would start with these arguments."""
    with warnings.catch_warnings(action="ignore"):  # it warns of a part of its own
        from tensorboard import program  # type: ignore[import-untyped]

        try:
            with contextlib.redirect_stderr(io.StringIO()):
                program.TensorBoard().configure(["tensorboard", *arguments])
        except SystemExit:  # argparse's way to refuse
            return False
    return True


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _by_row(names: Sequence[str], columns: Sequence[tuple[str, ...]]) -> Rows:
    """Return rows from the columns of 2017 and of today."""
    in_2017, today = columns
    return dict(zip(names, zip(in_2017, today, strict=True), strict=True))
