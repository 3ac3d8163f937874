"""Section 05: stopped, killed and resumed, each dialect ends with the same bits."""

import gc
import hashlib
import multiprocessing
import os
import re
import signal
from pathlib import Path
from typing import Any

import keras
import pytest

import kvt
from kvt.compare import parity
from tests.notebooks import recipes

STOPPING = "Early stopping"
CHECKPOINTS = "Checkpoints and resuming"
SMALL = {"train_size": 60, "batch_size": 9, "epochs": 3}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what the notebook writes go to a directory of the test's own."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "parameters",
    [
        {"batch_size": 7, "epochs": 1, "validation_split": 0.0, "seed": 4},
        {"batch_size": 500, "train_size": 90, "epochs": 2, "validation_split": 0.5},
    ],
)
def test_both_chapters_hold_under_other_parameters(parameters: dict[str, Any]) -> None:
    left = recipes.run(STOPPING, CHECKPOINTS, **(SMALL | parameters))
    assert left["keras_stopping"].best_epoch == left["tf2_stopping"].best_epoch
    assert list(left["equal"].values()) == [True] * 3
    assert len(left["refusals"]) == 4


def test_early_stopping_comes_in_the_run_and_before_its_last_epoch() -> None:
    left = recipes.run(STOPPING, train_size=200)
    stopped = left["tf2_stopping"].stopped_epoch
    assert stopped == left["keras_stopping"].stopped_epoch
    assert left["tf1_stopping"].stopped_epoch == stopped
    assert left["tf2_stopping"].best_epoch <= stopped < 39
    assert len(left["tf2_history"].epoch) == stopped + 1


def test_weights_that_are_not_given_back_stop_the_notebook() -> None:
    with pytest.raises(AssertionError):
        recipes.run(
            STOPPING,
            change=lambda source: source.replace(
                "    restore_best_weights=True,\n    get_weights=lambda: read(stopped)",
                "    get_weights=lambda: read(stopped)",
            ),
            **SMALL,
        )


# Killed

DIALECTS = ("keras", "tf2", "tf1")


class Kill(kvt.Callback):
    """Ends the process at the end of an epoch, as the system would: no goodbye."""

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        kill()


def kill(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def definitions(source: str) -> str:
    """Leave out of the chapter's cells what they do with their definitions."""
    return (
        re.split(r"\n\n\ntry:|\nshutil\.rmtree", source)[0]
        + "\n"
        + ("saved_epochs = max(epochs, 2)\n" if "\nshutil.rmtree" in source else "")
    )


def train(dialect: str, saves: bool, death: str, bits: Path) -> None:
    """Train a dialect, going on from what is saved; write down the bits it ends with.

    `death` is "epoch" to be killed at an epoch's end, "write" to be killed while a
    checkpoint is written, else nothing.
    """
    gc.freeze()  # what the parent has imported is never garbage
    if death == "write":
        os.fsync = kill
    left = recipes.run(CHECKPOINTS, change=definitions, before="resume-agree", **SMALL)
    killer = [Kill()] if death == "epoch" else []
    result = left[f"{dialect}_training"](saves, *killer)
    weights = (
        result.get_weights()
        if dialect == "keras"
        else [getattr(w, "numpy", lambda w=w: w)() for w in result[0]]
    )
    digest = hashlib.sha256(b"".join(w.tobytes() for w in weights))
    bits.write_text(digest.hexdigest())


@pytest.fixture(scope="module")
def processes() -> Any:
    """Processes that have TensorFlow imported, and nothing computed yet."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def run_in(processes: Any, *arguments: Any) -> int:
    process = processes.Process(target=train, args=arguments)
    process.start()
    process.join(120)
    assert process.exitcode is not None, "the training does not end"
    return int(process.exitcode)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_killed_after_every_epoch_the_training_ends_with_the_same_bits(
    processes: Any, dialect: str, tmp_path: Path
) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    assert run_in(processes, dialect, False, "", whole) == 0
    for _ in range(SMALL["epochs"]):
        assert run_in(processes, dialect, True, "epoch", resumed) == -signal.SIGKILL
    assert not resumed.exists()
    assert run_in(processes, dialect, True, "", resumed) == 0
    assert resumed.read_text() == whole.read_text()


def test_killed_while_it_writes_the_training_ends_with_the_same_bits(
    processes: Any, tmp_path: Path
) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    assert run_in(processes, "tf2", False, "", whole) == 0
    for death in ("write", "epoch", "write"):
        assert run_in(processes, "tf2", True, death, resumed) == -signal.SIGKILL
    folder = tmp_path / "logs/05_checkpoints/tf2"
    assert [path.name for path in folder.glob("epoch*")] == ["epoch-00001.checkpoint"]
    assert run_in(processes, "tf2", True, "", resumed) == 0
    assert resumed.read_text() == whole.read_text()


# What the prose says of Keras


def test_keras_checkpoint_forgets_the_best_figure_at_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "best.weights.h5"
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    saved = []
    for figures in ([0.5, 0.25], [0.75]):
        checkpoint = keras.callbacks.ModelCheckpoint(
            path, monitor="loss", save_best_only=True, save_weights_only=True
        )
        checkpoint.set_model(model)
        for epoch, loss in enumerate(figures):
            path.unlink(missing_ok=True)
            checkpoint.on_epoch_begin(epoch)
            checkpoint.on_epoch_end(epoch, {"loss": loss})
            saved.append(path.exists())
    assert saved == [True, True, True]


def test_a_restored_training_continues_in_keras_from_kvt_checkpoints(
    tmp_path: Path,
) -> None:
    left = recipes.run(**SMALL)

    def train(directory: Path, epochs: int) -> list[Any]:
        model = left["build"]()
        optimizer = keras.optimizers.Adam(0.01)
        model.compile(loss="categorical_crossentropy", optimizer=optimizer)
        optimizer.build(model.trainable_variables)
        state = [*model.variables, *optimizer.variables]

        def set_state(values: list[Any]) -> None:
            for variable, value in zip(state, values, strict=True):
                variable.assign(value)

        checkpoint = kvt.Checkpoint(
            directory, lambda: [v.numpy() for v in state], set_state
        )
        model.fit(
            left["x_train"],
            left["y_train"],
            **(left["arguments"] | {"epochs": epochs}),
            initial_epoch=checkpoint.restore(),
            callbacks=[checkpoint],
        )
        return list(model.get_weights())

    whole = train(tmp_path / "whole", 3)
    train(tmp_path / "cut", 1)
    assert parity.same_bits(train(tmp_path / "cut", 3), whole)
