"""Trainings that stop early, are killed, or resume end with the same bits."""

import gc
import hashlib
import itertools
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import kvt
from kvt.compare import parity
from tests.notebooks import recipes

NOTEBOOK = "06_stopping_and_checkpoints"
STOPPING, SAVING = "Early stopping", "Save and resume"
SMALL = {"train_size": 60, "batch_size": 9, "epochs": 3}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the notebook's files a directory of the test's own."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "parameters",
    [
        {"batch_size": 7, "epochs": 1, "validation_split": 0.0, "seed": 4},
        pytest.param(
            {"batch_size": 500, "train_size": 90, "epochs": 2, "validation_split": 0.5},
            marks=pytest.mark.wide,
        ),
    ],
)
def test_all_chapters_hold_under_other_parameters(parameters: dict[str, Any]) -> None:
    """Whatever the parameters, each of the notebook's own checks passes."""
    namespace = recipes.run(
        NOTEBOOK, STOPPING, SAVING, "Error messages", **(SMALL | parameters)
    )
    best_epoch = namespace["keras_stopping"].best_epoch
    assert namespace["tf2_stopping"].best_epoch == best_epoch
    assert namespace["best_epoch"] == best_epoch  # without kvt
    assert list(namespace["resumed_equal"].values()) == [True] * 3
    assert namespace["tf2_ended"] == namespace["last_epoch"]
    again = namespace["tf2_stopping_training"]("tf2_stopping")  # after it has stopped
    assert again[0] == namespace["tf2_ended"]
    assert parity.same_bits(again[1], namespace["tf2_restored"])
    assert len(namespace["messages"]) == 6


def test_early_stopping_ends_a_training_before_its_last_epoch() -> None:
    namespace = recipes.run(NOTEBOOK, STOPPING, train_size=200)
    stopped = namespace["tf2_stopping"].stopped_epoch
    assert stopped == namespace["keras_stopping"].stopped_epoch
    assert namespace["tf1_stopping"].stopped_epoch == stopped
    assert namespace["tf2_stopping"].best_epoch <= stopped < 39
    assert len(namespace["tf2_history"]["loss"]) == stopped + 1
    assert len(namespace["losses"]) == stopped + 1


def test_weights_that_are_not_restored_stop_the_notebook() -> None:
    with pytest.raises(AssertionError):
        recipes.run(
            NOTEBOOK,
            STOPPING,
            change=lambda source: source.replace(
                "tf2_stopping = kvt.EarlyStopping(  # (3)\n    **rules,",
                "tf2_stopping = kvt.EarlyStopping(\n"
                "    **rules | {'restore_best_weights': False},",
            ),
            **SMALL,
        )


# Early stopping without kvt

WHOLE = "fit_until_it_stops"


def whole_loop(**parameters: Any) -> recipes.Namespace:
    """Define the loop without kvt, in a namespace that has nothing else."""
    namespace = recipes.run(NOTEBOOK, **(SMALL | parameters))
    (cell,) = (
        cell
        for cell in recipes.chapters(NOTEBOOK)[STOPPING]
        if f"def {WHOLE}(" in cell["source"]
    )
    assert "kvt" not in cell["source"]
    alone: dict[str, Any] = {}
    exec(cell["source"], alone)
    return namespace | {WHOLE: alone[WHOLE]}


FIRST = ((0.0, 1, 0.05), (0.25, 0, 0.05), (0.25, 3, 0.0))


@pytest.mark.parametrize(
    ("validation_split", "patience", "min_delta"),
    [
        pytest.param(*rules, marks=[] if rules in FIRST else pytest.mark.wide)
        for rules in itertools.product((0.0, 0.25), (0, 1, 3), (0.0, 0.05))
    ],
)
def test_the_loop_without_kvt_stops_as_keras_does(
    validation_split: float, patience: int, min_delta: float
) -> None:
    namespace = whole_loop(validation_split=validation_split, seed=5)
    stopping = keras.callbacks.EarlyStopping(
        namespace["watched"], min_delta, patience, restore_best_weights=True
    )
    model = namespace["build"]()
    history = namespace["train_keras"](model, keras.optimizers.SGD(0.3), 12, [stopping])
    shared = ("batch_size", "validation_split", "seed")
    losses, best_epoch, best_weights = namespace[WHOLE](
        *(namespace[name] for name in ("initial_weights", "x_train", "y_train")),
        0.3,
        epochs=12,
        min_delta=min_delta,
        patience=patience,
        **{name: namespace[name] for name in shared},
    )
    assert losses == history[namespace["watched"]]
    assert best_epoch == stopping.best_epoch
    assert parity.same_bits(best_weights, model.get_weights())


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("epoch - best_epoch >= patience", "epoch - best_epoch > patience"),
        ("loss + min_delta", "loss"),
        ("total += len(i) * step", "total += step"),
        ("train_step, x, y, order", "train_step, x, y, np.arange(n)"),
    ],
)
def test_a_wrong_rule_or_mean_in_the_loop_without_kvt_stops_the_notebook(
    right: str, wrong: str
) -> None:
    changed = []

    def change(source: str) -> str:
        if WHOLE in source and right in source:
            changed.append(source)
        return source.replace(right, wrong) if WHOLE in source else source

    with pytest.raises((AssertionError, ValueError)):
        recipes.run(NOTEBOOK, STOPPING, change=change)
    assert len(changed) == 1


# Killed processes

DIALECTS = (
    "tf2",
    "kvt",
    *(pytest.param(name, marks=pytest.mark.wide) for name in ("keras", "tf1")),
)


class Kill(kvt.Callback):
    """Kills the process at the end of an epoch."""

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        kill()


def kill(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_during(death: str) -> None:
    """Arrange for the process to be killed at some point of its next save."""
    from tensorflow.python.checkpoint import checkpoint, checkpoint_management

    if death == "fsync":
        os.fsync = kill
    elif death == "before the values":
        checkpoint.TrackableSaver.save = kill
    elif death == "before the list":
        checkpoint_management.update_checkpoint_state_internal = kill
    elif death == "before old files go":
        checkpoint_management._delete_file_if_exists = kill


def definitions(source: str) -> str:
    """Keep the saved files, and leave out what the cells do with their functions."""
    for begin in ("\n\n\nkeras_resumed, ", "\n\n\nkvt_resumed, "):
        source = source.partition(begin)[0]
    lines = source.splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith("shutil.rmtree(folder")]
    return "".join(kept).replace("mkdir(parents=True)", "mkdir(0o777, True, True)")


def train(dialect: str, run: str, death: str, bits: Path) -> None:
    """Train a dialect from what run's directory holds; write the bits it ends with.

    `death` says when to kill the process: "epoch" at the end of an epoch, else see
    `kill_during`; "" never.
    """
    gc.freeze()  # what the parent process has imported is never garbage
    kill_during(death)
    cells = ("best-", "resume-agree", "kept", "matching", "untracked", "python-values")
    namespace = recipes.run(
        NOTEBOOK,
        SAVING,
        change=definitions,
        before="damage",
        without=(*cells, "crash", "starts", "newest-intact"),
        **SMALL,
    )
    killer = [Kill()] if death == "epoch" else []
    weights, _ = namespace[f"{dialect}_training"](run, *killer)
    digest = hashlib.sha256(b"".join(w.tobytes() for w in weights))
    bits.write_text(digest.hexdigest())


@pytest.fixture(scope="module")
def processes() -> Any:
    """Processes that have imported TensorFlow, and have computed nothing yet."""
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
def test_killed_after_every_epoch_a_training_ends_with_the_same_bits(
    processes: Any, dialect: str, tmp_path: Path
) -> None:
    whole, resumed = tmp_path / "whole.txt", tmp_path / "resumed.txt"
    assert run_in(processes, dialect, "whole", "", whole) == 0
    for _ in range(SMALL["epochs"]):
        assert run_in(processes, dialect, "cut", "epoch", resumed) == -signal.SIGKILL
    assert not resumed.exists()
    assert run_in(processes, dialect, "cut", "", resumed) == 0
    assert resumed.read_text() == whole.read_text()


def test_killed_during_its_save_kvt_ends_with_the_same_bits(
    processes: Any, tmp_path: Path
) -> None:
    whole, resumed = tmp_path / "whole.txt", tmp_path / "resumed.txt"
    assert run_in(processes, "kvt", "whole", "", whole) == 0
    for death in ("fsync", "epoch", "fsync"):
        assert run_in(processes, "kvt", "cut", death, resumed) == -signal.SIGKILL
    folder = tmp_path / "logs/06_checkpoints/cut"
    assert [path.name for path in folder.glob("epoch*")] == ["epoch-00001.checkpoint"]
    assert run_in(processes, "kvt", "cut", "", resumed) == 0
    assert resumed.read_text() == whole.read_text()


def test_killed_during_its_save_tensorflow_ends_with_the_same_bits(
    processes: Any, tmp_path: Path
) -> None:
    """Before the values, before the list of checkpoints, and before old files go."""
    whole, resumed = tmp_path / "whole.txt", tmp_path / "resumed.txt"
    assert run_in(processes, "tf2", "whole", "", whole) == 0
    for death in (
        "before the values",
        "epoch",
        "before the list",
        "epoch",
        "before old files go",
    ):
        assert run_in(processes, "tf2", "cut", death, resumed) == -signal.SIGKILL
    assert run_in(processes, "tf2", "cut", "", resumed) == 0
    assert resumed.read_text() == whole.read_text()


# What the prose says of tf.train.Checkpoint


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, tf.train.CheckpointManager]:
    """A directory with checkpoints 1 and 2 of a variable."""
    variable = tf.Variable(np.arange(40, dtype="float32"))
    checkpoint = tf.train.Checkpoint(w=variable)
    manager = tf.train.CheckpointManager(checkpoint, str(tmp_path / "ckpts"), 2)
    for _ in range(2):
        variable.assign_add(tf.ones(40))
        manager.save()
    return tmp_path / "ckpts", manager


def reader() -> tf.train.Checkpoint:
    return tf.train.Checkpoint(w=tf.Variable(np.zeros(40, "float32")))


def test_tensorflow_notices_a_flipped_bit_in_every_byte_of_the_values(
    saved: tuple[Path, tf.train.CheckpointManager],
) -> None:
    folder, manager = saved
    path = folder / "ckpt-2.data-00000-of-00001"
    content = path.read_bytes()
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises((tf.errors.OpError, IndexError)):
            reader().restore(manager.latest_checkpoint)


def test_an_error_of_restore_can_leave_variables_set(
    saved: tuple[Path, tf.train.CheckpointManager],
) -> None:
    folder, manager = saved
    path = folder / "ckpt-2.data-00000-of-00001"
    content = path.read_bytes()
    damaged = content.replace(np.int64(2).tobytes(), np.int64(3).tobytes())
    assert damaged != content  # the save counter, which is read last
    path.write_bytes(damaged)
    to = reader()
    with pytest.raises(tf.errors.OpError):
        to.restore(manager.latest_checkpoint)
    assert to.w.numpy().any()


def test_a_damaged_index_is_an_error_or_harmless(
    saved: tuple[Path, tf.train.CheckpointManager],
) -> None:
    folder, manager = saved
    path = folder / "ckpt-2.index"
    content = path.read_bytes()
    errors = 0
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        to = reader()
        try:
            to.restore(manager.latest_checkpoint)
        except tf.errors.OpError:
            errors += 1
        else:
            assert to.w.numpy().tolist() == [n + 2 for n in range(40)]
    assert errors > len(content) // 2


def test_a_lost_list_starts_from_nothing_and_overwrites_old_checkpoints(
    saved: tuple[Path, tf.train.CheckpointManager],
) -> None:
    folder, _ = saved
    (folder / "checkpoint").unlink()
    old = (folder / "ckpt-1.data-00000-of-00001").read_bytes()
    to = reader()
    manager = tf.train.CheckpointManager(to, str(folder), 2)
    assert manager.restore_or_initialize() is None
    manager.save()
    assert (folder / "ckpt-1.data-00000-of-00001").read_bytes() != old
    assert not tf.train.load_variable(
        str(folder / "ckpt-1"), "w/.ATTRIBUTES/VARIABLE_VALUE"
    ).any()


def test_a_manager_deletes_old_files_of_the_run_before(
    saved: tuple[Path, tf.train.CheckpointManager],
) -> None:
    folder, _ = saved
    to = reader()
    manager = tf.train.CheckpointManager(to, str(folder), 2)
    manager.restore_or_initialize()
    manager.save()
    assert {path.stem for path in folder.glob("*.index")} == {"ckpt-2", "ckpt-3"}


def test_a_modules_python_number_is_left_out_in_silence(tmp_path: Path) -> None:
    module = tf.Module()
    module.epoch, module.w = 3, tf.Variable(0.0)
    path = tf.train.Checkpoint(module=module).save(str(tmp_path / "ckpt"))
    names = [name for name, _ in tf.train.list_variables(path)]
    assert any(name.startswith("module/w/") for name in names)
    assert not any("epoch" in name for name in names)


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_tensorflow_never_calls_fsync_and_kvt_does(tmp_path: Path) -> None:
    saving = {
        "tf": "import tensorflow as tf; tf.train.CheckpointManager(tf.train."
        f"Checkpoint(w=tf.Variable(0.0)), {str(tmp_path / 'tf')!r}, 2).save()",
        "kvt": f"import kvt; kvt.Checkpoint({str(tmp_path / 'kvt')!r}, list, print, "
        "monitor='loss').on_epoch_end(0, {'loss': 1.0})",
    }
    calls = {}
    for name, code in saving.items():
        log = tmp_path / f"{name}.strace"
        trace = ["strace", "-f", "--seccomp-bpf", "-o", log, "-e"]
        trace.append("trace=fsync,fdatasync,sync,syncfs,sync_file_range,msync,rename")
        subprocess.run(
            [*trace, sys.executable, "-c", code],
            check=True,
            capture_output=True,
            timeout=100,
        )
        lines = log.read_text().splitlines()
        assert any("rename(" in line for line in lines), "nothing was traced"
        calls[name] = sum("sync" in line for line in lines)
    assert calls["tf"] == 0
    assert calls["kvt"] > 0


# What the prose says of Keras


def test_keras_checkpoint_forgets_the_best_metric_at_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "best.weights.h5"
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    saves = []
    for losses in ([0.5, 0.25], [0.75]):
        checkpoint = keras.callbacks.ModelCheckpoint(
            path, monitor="loss", save_best_only=True, save_weights_only=True
        )
        checkpoint.set_model(model)
        for epoch, loss in enumerate(losses):
            path.unlink(missing_ok=True)
            checkpoint.on_epoch_begin(epoch)
            checkpoint.on_epoch_end(epoch, {"loss": loss})
            saves.append(path.exists())
    assert saves == [True, True, True]


def test_tensorflow_checkpoint_remembers_the_best_metric_at_a_restart() -> None:
    namespace = recipes.run(NOTEBOOK, SAVING, before="resume-agree", **SMALL)
    _, (_, state, best) = namespace["tf2_training"]("tf2_whole")  # nothing left to do
    assert float(state.best) < np.inf
    newest = best.latest_checkpoint
    state.best.assign(0.0)  # no epoch can be better
    tf.train.CheckpointManager(
        state, str(namespace["folder"] / "tf2_whole"), max_to_keep=2
    ).save(int(state.epoch))
    namespace["saved_epochs"] += 2
    _, (_, state, best) = namespace["tf2_training"]("tf2_whole")
    assert int(state.epoch) == namespace["saved_epochs"]
    assert best.latest_checkpoint == newest


def test_a_keras_training_resumes_from_kvt_checkpoints(tmp_path: Path) -> None:
    namespace = recipes.run(NOTEBOOK, **SMALL)

    def train_keras(directory: Path, epochs: int) -> list[Any]:
        model = namespace["build"]()
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
            **namespace["arguments"],
            epochs=epochs,
            initial_epoch=checkpoint.restore(),
            callbacks=[checkpoint],
        )
        return list(model.get_weights())

    whole = train_keras(tmp_path / "whole", 3)
    train_keras(tmp_path / "cut", 1)
    assert parity.same_bits(train_keras(tmp_path / "cut", 3), whole)
