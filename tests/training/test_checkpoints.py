"""Checkpoints are complete or absent, and training continues from them bit for bit."""

import contextlib
import hashlib
import io
import json
import math
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import kvt
from kvt.compare import parity
from kvt.training import checkpoints

X = np.arange(7, dtype=np.float32).reshape(7, 1)
State = list[np.ndarray]


class PowerCut(kvt.Callback):
    """Stops a training in a given step, counted from 0 over all epochs."""

    def __init__(self, step: int) -> None:
        self.left = step

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        if not self.left:
            raise InterruptedError
        self.left -= 1


class Training:
    """A weight with momentum, trained on three batches per epoch."""

    def __init__(self, directory: Path) -> None:
        self.state: State = [np.zeros(1, "float32"), np.zeros(1), np.array([0])]
        self.checkpoint = kvt.Checkpoint(
            directory, lambda: self.state, self.set_state, monitor="loss"
        )

    def set_state(self, state: State) -> None:
        self.state = [array.copy() for array in state]

    def step(self, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
        weight, momentum, count = self.state
        gradient = np.sin(x.sum() + weight + count)
        momentum = momentum * 0.9 - 0.1 * gradient
        self.state = [(weight + momentum).astype("float32"), momentum, count + 1]
        return {"loss": np.float32(abs(gradient[0]))}

    def run(self, epochs: int, *callbacks: kvt.Callback) -> "Training":
        kvt.fit(
            self.step,
            self.step,
            X,
            X,
            batch_size=3,
            epochs=epochs,
            verbose=0,
            initial_epoch=self.checkpoint.restore(),
            callbacks=[self.checkpoint, *callbacks],
        )
        return self


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def damage(path: Path, place: float = 0.5, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 1 << bit
    path.write_bytes(content)


@pytest.mark.long
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(epochs=st.integers(1, 5), cuts=st.lists(st.integers(0, 8), max_size=3))
def test_a_training_killed_anywhere_ends_with_the_same_bits_and_history(
    tmp_path_factory: pytest.TempPathFactory, epochs: int, cuts: list[int]
) -> None:
    whole = Training(tmp_path_factory.mktemp("whole")).run(epochs)
    directory = tmp_path_factory.mktemp("cut")
    for cut in cuts:
        with contextlib.suppress(InterruptedError):
            Training(directory).run(epochs, PowerCut(cut))
    resumed = Training(directory).run(epochs)
    assert parity.same_bits(resumed.state, whole.state)
    assert resumed.checkpoint.history == whole.checkpoint.history
    assert resumed.checkpoint.restore_best() == whole.checkpoint.restore_best()
    assert parity.same_bits(resumed.state, whole.state)


def test_a_finished_training_can_be_extended(tmp_path: Path) -> None:
    Training(tmp_path / "a").run(2)
    longer = Training(tmp_path / "a").run(5)
    assert parity.same_bits(longer.state, Training(tmp_path / "b").run(5).state)
    assert Training(tmp_path / "a").run(5).checkpoint.history == (
        longer.checkpoint.history
    )


def test_the_last_two_and_the_best_are_kept(tmp_path: Path) -> None:
    Training(tmp_path).run(4)
    assert files(tmp_path) == [
        "best.checkpoint",
        "epoch-00003.checkpoint",
        "epoch-00004.checkpoint",
    ]


def test_best_is_the_epoch_with_the_best_metric(tmp_path: Path) -> None:
    training = Training(tmp_path).run(5)
    losses = training.checkpoint.history["loss"]
    assert training.checkpoint.restore_best() == 1 + losses.index(min(losses))


@pytest.mark.parametrize("how", ["bit", "cut", "empty", "digest", "longer"])
def test_a_damaged_checkpoint_causes_a_warning_and_the_one_before_it_is_used(
    tmp_path: Path, how: str
) -> None:
    whole = Training(tmp_path).run(3)
    newest = tmp_path / "epoch-00003.checkpoint"
    content = newest.read_bytes()
    match how:
        case "bit":
            damage(newest)
        case "digest":
            damage(newest, 0)
        case "cut":
            newest.write_bytes(content[:-1])
        case "longer":
            newest.write_bytes(content + b"\0")
        case "empty":
            newest.write_bytes(b"")
    again = Training(tmp_path)
    with pytest.warns(UserWarning, match=r"epoch-00003.* is damaged: .*before"):
        assert again.checkpoint.restore() == 2
    with pytest.warns(UserWarning, match="epoch-00003"):
        again.run(3)
    assert parity.same_bits(again.state, whole.state)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Training(tmp_path).checkpoint.restore() == 3  # written anew


@settings(max_examples=25)
@given(place=st.floats(0, 1), bit=st.integers(0, 7))
def test_every_flipped_bit_is_detected(
    tmp_path_factory: pytest.TempPathFactory, place: float, bit: int
) -> None:
    directory = tmp_path_factory.mktemp("bits")
    Training(directory).run(1)
    path = directory / "epoch-00001.checkpoint"
    damage(path, place, bit)
    with pytest.raises(checkpoints.DamagedError, match=r"epoch-00001.* is damaged"):
        checkpoints.read(path)


def test_nothing_is_restored_if_all_checkpoints_are_damaged(tmp_path: Path) -> None:
    Training(tmp_path).run(3)
    for path in tmp_path.glob("epoch-*"):
        damage(path)
    training = Training(tmp_path)
    before = training.state
    with (
        pytest.warns(UserWarning, match="damaged"),
        pytest.raises(ValueError, match=r"all checkpoints in .* intact; delete"),
    ):
        training.run(3)
    assert training.state is before


def test_a_damaged_best_checkpoint_is_rejected(tmp_path: Path) -> None:
    training = Training(tmp_path).run(2)
    damage(tmp_path / "best.checkpoint")
    with pytest.raises(ValueError, match=r"best.checkpoint is damaged"):
        training.checkpoint.restore_best()


def test_there_is_no_best_checkpoint_before_an_epoch_ends(
    tmp_path: Path,
) -> None:
    with pytest.raises(FileNotFoundError, match=r"best.checkpoint"):
        Training(tmp_path).checkpoint.restore_best()


OTHERS = {
    "shape": [np.zeros(2, "float32"), np.zeros(1), np.array([0])],
    "dtype": [np.zeros(1, "float32"), np.zeros(1, "float32"), np.array([0])],
    "fewer": [np.zeros(1, "float32"), np.zeros(1)],
    "more": [np.zeros(1, "float32"), np.zeros(1), np.array([0]), np.zeros(3)],
}


@pytest.mark.parametrize("case", OTHERS)
def test_a_checkpoint_of_another_model_is_rejected(tmp_path: Path, case: str) -> None:
    Training(tmp_path).run(1)
    other = Training(tmp_path)
    other.state = before = OTHERS[case]
    message = r"epoch-00001.checkpoint belongs to another model .* match; use another"
    for restore in (other.checkpoint.restore, other.checkpoint.restore_best):
        with pytest.raises(ValueError, match=message.replace("epoch-00001", r"[\w-]+")):
            restore()
    assert other.state is before


def test_a_crash_while_writing_does_not_change_earlier_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Training(tmp_path / "whole").run(3)
    directory = tmp_path / "cut"
    Training(directory).run(2)
    before = {name: (directory / name).read_bytes() for name in files(directory)}

    def crash(*_: object) -> None:
        raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", crash)
        with pytest.raises(InterruptedError):
            Training(directory).run(3)
    for name, content in before.items():
        assert (directory / name).read_bytes() == content
    assert parity.same_bits(Training(directory).run(3).state, whole.state)


def test_a_directory_that_is_not_writable_is_rejected_at_once(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("")
    message = r"cannot save checkpoints in .*file: .*; it must be .*; use another"
    for directory in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match=message.replace("file:", r"file[/\w]*:")):
            kvt.Checkpoint(directory, list, list)


def test_an_unknown_metric_is_rejected_after_one_step(tmp_path: Path) -> None:
    training = Training(tmp_path)
    training.checkpoint = kvt.Checkpoint(
        tmp_path, lambda: training.state, training.set_state, monitor="los", mode="min"
    )
    with pytest.raises(
        ValueError, match=r"monitor is 'los'; it must be a metric of .*: loss"
    ):
        training.run(1)
    assert training.state[2] == 1


def test_a_checkpoint_preserves_all_bits(tmp_path: Path) -> None:
    state = [
        np.array([math.nan, -math.nan, -0.0, 1e-45, math.inf], "float32"),
        np.zeros((0, 3)),
        np.array(7, "int64"),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    ]
    kept: list[State] = []
    checkpoint = kvt.Checkpoint(tmp_path, lambda: state, kept.append, monitor="loss")
    checkpoint.on_epoch_end(0, {"loss": math.nan})
    assert checkpoint.restore() == 1
    assert parity.same_bits(
        kept[0],
        [np.ascontiguousarray(a) for a in state[:2]]
        + [state[2], np.ascontiguousarray(state[3])],
    )
    assert math.isnan(checkpoint.history["loss"][0])


# A directory of another training


def test_a_directory_of_another_training_is_rejected_before_the_first_step(
    tmp_path: Path,
) -> None:
    first = Training(tmp_path).run(4)
    before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}
    other = Training(tmp_path)
    fit = {"batch_size": 3, "epochs": 3, "verbose": 0, "callbacks": [other.checkpoint]}
    message = r"has epoch-00004.checkpoint, and .* with epoch {}; .*restore\(\), or"
    for start in 0, 2:
        with pytest.raises(ValueError, match=message.format(start + 1)):
            kvt.fit(other.step, None, X, X, **fit, initial_epoch=start)
    other.checkpoint.restore()  # but then starts anew
    with pytest.raises(ValueError, match=message.format(1)):
        kvt.fit(other.step, None, X, X, **fit)
    assert other.state[2] == 12  # steps: restored, and not trained
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert first.checkpoint.restore_best() == 1 + np.argmin(
        first.checkpoint.history["loss"]
    )
    for path in tmp_path.glob("epoch-*"):
        path.unlink()
    with pytest.raises(
        ValueError, match=message.format(1).replace("epoch-00004", "best")
    ):
        kvt.fit(other.step, None, X, X, **fit)


def test_one_object_can_go_on_in_a_second_fit(tmp_path: Path) -> None:
    whole, twice = Training(tmp_path / "whole").run(4), Training(tmp_path / "twice")
    for start, end in (0, 2), (2, 4):
        kvt.fit(
            twice.step,
            None,
            X,
            X,
            batch_size=3,
            verbose=0,
            initial_epoch=start,
            epochs=end,
            callbacks=[twice.checkpoint],
        )
    assert parity.same_bits(twice.state, whole.state)
    assert twice.checkpoint.history == whole.checkpoint.history


@pytest.mark.parametrize("start", [99_998, 9_999_999])
def test_the_newest_checkpoint_is_that_of_the_highest_epoch(
    tmp_path: Path, start: int
) -> None:
    training = Training(tmp_path)
    for epoch in range(start, start + 4):
        training.state[2][0] = epoch + 1
        training.checkpoint.on_epoch_end(epoch, {"loss": 1.0})
    assert len(files(tmp_path)) == 3
    again = Training(tmp_path)
    assert again.checkpoint.restore() == start + 4
    assert again.state[2] == start + 4


def test_an_empty_directory_name_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"directory is ''; it must name .*; pass a"):
        kvt.Checkpoint("", list, list)


# What a state may be


def test_every_dtype_comes_back_with_its_bits(tmp_path: Path) -> None:
    import ml_dtypes

    narrow = ("bfloat16", "float8_e4m3fn", "float8_e5m2", "int4", "uint4")
    state = [np.arange(6).astype(getattr(ml_dtypes, name)) for name in narrow]
    state += [state[0].reshape(2, 3).T, state[0][3], np.zeros(0, ml_dtypes.bfloat16)]
    state += [np.array([1, 2], dtype) for dtype in (">f4", "c8", "?", "f2", "M8[s]")]
    state += [np.array([(1, 2.0)], [("a", "i4"), ("b", "f8")]), np.array(["é", "b"])]
    kept: list[State] = []
    checkpoint = kvt.Checkpoint(tmp_path, lambda: state, kept.append, monitor="loss")
    checkpoint.on_train_begin()
    checkpoint.on_epoch_end(0, {"loss": 0.5})
    assert checkpoint.restore() == 1
    assert [a.dtype for a in kept[0]] == [np.asarray(a).dtype for a in state]
    for ours, theirs in zip(kept[0], state, strict=True):
        assert ours.shape == np.shape(theirs)
        assert ours.tobytes() == np.asarray(theirs).tobytes()


@pytest.mark.parametrize(
    "state", [[np.array([{}])], [np.zeros(2), np.array([None, 1.0])]], ids=len
)
def test_a_state_of_objects_is_rejected_before_the_first_step(
    tmp_path: Path, state: State
) -> None:
    checkpoint = kvt.Checkpoint(tmp_path, lambda: state, print, monitor="loss")
    message = rf"array {len(state) - 1} of the state has dtype object; .*; let get_st"

    def step(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
        raise AssertionError("a step ran")

    with pytest.raises(TypeError, match=message):
        kvt.fit(step, None, X, X, verbose=0, callbacks=[checkpoint])


def test_a_checkpoint_of_version_0_1_0_can_be_read(tmp_path: Path) -> None:
    about = {"arrays": 1, "epochs": 3, "history": {"loss": [0.5, 0.4, 0.3]}}
    content = io.BytesIO()
    state = np.float32([1, 2])
    np.savez(content, about=np.array(json.dumps(about)), state_0=state)
    digest = hashlib.sha256(content.getvalue()).hexdigest().encode()
    (tmp_path / "epoch-00003.checkpoint").write_bytes(digest + content.getvalue())
    kept: list[State] = []
    checkpoint = kvt.Checkpoint(tmp_path, lambda: [state], kept.append, monitor="loss")
    assert checkpoint.restore() == 3
    assert parity.same_bits(kept[0], [state])
    assert checkpoint.best == 0.3


# Early stopping over a restart

LOSSES = [0.9, 0.5, 0.45, 0.6, 0.44, 0.43, 0.7, 0.7, 0.7, 0.1, 0.1]


class Stopped:
    """A training that early stopping ends; its weight is the number of its epochs."""

    def __init__(self, directory: Path, patience: int = 3) -> None:
        self.weight = np.zeros(1)
        self.trained = 0
        self.stopping = kvt.EarlyStopping(
            "loss",
            min_delta=0.1,
            patience=patience,
            restore_best_weights=True,
            get_weights=lambda: [self.weight],
            set_weights=self.set_weights,
        )
        self.checkpoint = kvt.Checkpoint(
            directory,
            lambda: [self.weight],
            self.set_weights,
            monitor="loss",
            stopping=self.stopping,
        )

    def set_weights(self, weights: State) -> None:
        self.weight = weights[0].copy()

    def step(self, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
        loss = LOSSES[int(self.weight[0])]
        self.weight += 1
        self.trained += 1
        return {"loss": np.float32(loss)}

    def run(self, *others: kvt.Callback) -> "Stopped":
        kvt.fit(
            self.step,
            None,
            X,
            X,
            epochs=len(LOSSES),
            verbose=0,
            initial_epoch=self.checkpoint.restore(),
            callbacks=[self.stopping, self.checkpoint, *others],
        )
        return self

    @property
    def outcome(self) -> tuple[Any, ...]:
        best = self.stopping
        return best.stopped_epoch, best.best_epoch, best.best, self.weight.tolist()


@pytest.mark.parametrize("cut", range(9))
def test_early_stopping_goes_on_after_a_restart(tmp_path: Path, cut: int) -> None:
    whole = Stopped(tmp_path / "whole").run()
    assert whole.outcome == (4, 1, 0.5, [2.0])
    for _ in range(2):  # killed twice in the same epoch; then run twice to the end
        with contextlib.suppress(InterruptedError):
            Stopped(tmp_path / "cut").run(PowerCut(cut))
    for _ in range(2):
        resumed = Stopped(tmp_path / "cut").run()
        assert resumed.outcome == whole.outcome
    assert resumed.trained == 0  # it had stopped already
    assert resumed.checkpoint.history == whole.checkpoint.history


def test_more_patience_goes_on_with_a_training_that_had_stopped(tmp_path: Path) -> None:
    Stopped(tmp_path).run()
    longer = Stopped(tmp_path, patience=5).run()
    assert longer.trained == 2
    assert longer.outcome == Stopped(tmp_path / "other", patience=5).run().outcome


def test_early_stopping_that_comes_too_late_is_rejected(tmp_path: Path) -> None:
    training = Stopped(tmp_path)
    message = r"stopping is not called before .*; pass callbacks=\[stopping, check"
    for callbacks in [training.checkpoint, training.stopping], [training.checkpoint]:
        with pytest.raises(ValueError, match=message):
            kvt.fit(training.step, None, X, X, verbose=0, callbacks=callbacks)
    assert training.trained == 0


def test_a_checkpoint_without_the_state_of_stopping_is_rejected(tmp_path: Path) -> None:
    plain = kvt.Checkpoint(tmp_path, lambda: [np.zeros(1)], print, monitor="loss")
    plain.on_epoch_end(0, {"loss": 1.0})
    with pytest.raises(ValueError, match=r"saved without the state of EarlyStopping"):
        Stopped(tmp_path).run()
