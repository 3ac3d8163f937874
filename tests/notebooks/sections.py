"""Run the model notebooks' own cells, so that the tests try what the reader reads."""

import contextlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

import kvt
from kvt.compare import parity

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
MODELS = (
    "01_linear_regression",
    "02_logistic_regression",
    "03_feedforward_network",
    "04_convolutional_network",
)
DEFINING = {"parameters", "setup", "keras", "tf2", "tf1"}


def cells(notebook: str) -> list[dict[str, Any]]:
    """Return the notebook's cells, each with its source as one text."""
    content = json.loads((NOTEBOOKS / f"{notebook}.ipynb").read_text())
    return [{**cell, "source": "".join(cell["source"])} for cell in content["cells"]]


def tags(cell: dict[str, Any]) -> set[str]:
    """Return a cell's tags."""
    return set(cell["metadata"].get("tags", ()))


def tagged(notebook: str, tag: str) -> dict[str, Any]:
    """Return the only cell with this tag."""
    (cell,) = (cell for cell in cells(notebook) if tag in tags(cell))
    return cell


def define(notebook: str, **parameters: object) -> dict[str, Any]:
    """Run the cells that define models, weights, losses and steps in each dialect.

    Training and everything after it is left to the caller, and so is TensorBoard.
    """
    keras.backend.clear_session(free_memory=False)  # True would collect garbage
    keras.config.set_dtype_policy(str(parameters.get("dtype", "float32")))
    namespace: dict[str, Any] = {"__name__": notebook}
    with contextlib.redirect_stdout(io.StringIO()):
        for cell in cells(notebook):
            if "· Training" in cell["source"]:
                break
            if cell["cell_type"] == "code" and tags(cell) & DEFINING:
                if "· TensorBoard" not in cell["source"]:
                    exec(compile(cell["source"], notebook, "exec"), namespace)
                if "parameters" in tags(cell):
                    namespace |= parameters
    return namespace


@dataclass
class Run:
    """The result of one dialect's training: weights by epoch, and history."""

    weights: list[list[Any]]
    history: dict[str, list[float]]


def train(section: dict[str, Any], *, shuffle: bool = True) -> dict[str, Run]:
    """Train all three dialects of a defined notebook alike; Keras comes first."""
    x, y = section["x_train"], section["y_train"]
    names = ("batch_size", "epochs", "validation_split")
    arguments = {name: section[name] for name in names} | {"shuffle": shuffle}
    model, session = section["model"], section["session"]
    recorder = kvt.Recorder(model.get_weights)
    history = model.fit(x, y, verbose=0, callbacks=[recorder], **arguments)
    runs = {"keras": Run(recorder.weights, history.history)}
    for name, train_step, test_step, get_weights in (
        (
            "tf2",
            section["train_step"],
            section["test_step"],
            lambda: [w.numpy() for w in section["weights"]],
        ),
        (
            "tf1",
            section["session_train_step"],
            section["session_test_step"],
            lambda: session.run(section["variables"]),
        ),
    ):
        recorder = kvt.Recorder(get_weights)
        history = kvt.fit(
            train_step,
            test_step,
            x,
            y,
            seed=section["seed"],
            verbose=0,
            callbacks=[recorder],
            **arguments,
        )
        runs[name] = Run(recorder.weights, history.history)
    return runs


def apart(runs: dict[str, Run], name: str) -> parity.Parity:
    """Compare a dialect's run with Keras's."""
    reference, run = runs["keras"], runs[name]
    return parity.compare(
        reference.weights, run.weights, reference.history, run.history
    )
