"""Checkpoints: save a training after every epoch, and continue from the saved state.

A checkpoint is one file: the SHA-256 of the rest, then an npz of arrays and history.
It is complete or absent, because it is written under another name and then renamed.
"""

import hashlib
import importlib
import io
import itertools
import json
import os
import tempfile
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from kvt.data import Array
from kvt.training.callbacks import EarlyStopping, GetWeights, Logs, Monitor, SetWeights

KEPT = 2  # the last one, and the one before it in case the last one is damaged
BEST = "best.checkpoint"
_DIGEST = 64  # hexadecimal digits


class DamagedError(ValueError):
    """A checkpoint whose bytes have changed since it was written."""


@dataclass(frozen=True)
class Saved:
    """The content of a checkpoint: arrays, and the metrics of all epochs so far.

    With early stopping, also its state and its best weights.
    """

    state: list[Array]
    history: dict[str, list[float]]
    epochs: int
    stopping: dict[str, Any] | None = None
    best_weights: list[Array] = field(default_factory=list)


class Checkpoint(Monitor):
    """Save the newest and the best epoch, so that a training can continue.

    `kvt.fit(…, initial_epoch=checkpoint.restore(), callbacks=[checkpoint])` starts a
    training, and continues it after it was killed.

    `directory` receives `epoch-00001.checkpoint`, … and `best.checkpoint`. Use one
    directory per training; it is created if needed. `get_state` returns all arrays that
    the next step depends on: the weights, the variables of the optimizer, the state of
    any random generator; `set_state` sets such a list. The metric `monitor` decides
    which epoch is the best; `mode` is that of `Monitor`. `stopping`, an EarlyStopping
    that comes before this callback, is saved and restored, too. `history` holds, by
    name, the metrics of all epochs so far, including those before a restart.

    Raises OSError if the directory cannot be written to. A training raises ValueError
    before its first step if the directory has checkpoints that it does not continue,
    and TypeError for a state of Python objects.
    """

    def __init__(
        self,
        directory: str | Path,
        get_state: GetWeights,
        set_state: SetWeights,
        *,
        monitor: str = "val_loss",
        mode: str = "auto",
        stopping: EarlyStopping | None = None,
    ) -> None:
        super().__init__(monitor, mode)
        if not str(directory):
            raise ValueError(
                "directory is ''; it must name a directory of its own; "
                "pass a path such as 'checkpoints/first'"
            )
        self._directory = Path(directory)
        self._get_state, self._set_state = get_state, set_state
        self._stopping = stopping
        self._done: int | None = None  # epochs in the checkpoint to continue from
        self.history: dict[str, list[float]] = {}
        _try_to_write(self._directory)

    def restore(self) -> int:
        """Restore the newest intact checkpoint; return the number of its epochs.

        Without a checkpoint, return 0. A damaged one causes a warning, and the one
        before it is used. Raises ValueError if none is intact or fits the model.
        """
        paths = self._paths()
        for path in reversed(paths):
            try:
                saved = read(path)
            except DamagedError as problem:
                warnings.warn(f"{problem}; using the one before it", stacklevel=2)
                continue
            self._set(saved, path)
            self.history = saved.history
            self.best = None
            for value in self.history.get(self.name, []):
                self.improves({self.name: value})
            self._done = saved.epochs
            return saved.epochs
        if paths:
            raise ValueError(
                f"all checkpoints in {self._directory} are damaged; at least one must "
                "be intact; delete them to start again"
            )
        self._done = 0
        return 0

    def restore_best(self) -> int:
        """Restore the best epoch; return its number, counted from 1.

        Raises FileNotFoundError before the end of the first epoch, and ValueError if
        the checkpoint is damaged or belongs to another model.
        """
        path = self._directory / BEST
        saved = read(path)
        self._set(saved, path)
        return saved.epochs

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Reject a state that could not be saved, before the first step."""
        for number, array in enumerate(self._get_state()):
            _storable(np.asarray(array), f"array {number} of the state")

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Raise if this would overwrite another training, or if stopping is later."""
        paths = [self._directory / BEST, *self._paths()]
        if epoch != self._done and paths[-1].exists():
            raise ValueError(
                f"{self._directory} has {paths[-1].name}, and this training starts "
                f"with epoch {epoch + 1}; it must continue the training that is there; "
                "pass initial_epoch=checkpoint.restore(), or use another directory"
            )
        if self._stopping is not None and self._stopping.begun != epoch:
            raise ValueError(
                "stopping is not called before the Checkpoint that saves it; it must "
                "come first among the callbacks; pass callbacks=[stopping, checkpoint]"
            )

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Save the best, then the last: if killed in between, the epoch is repeated."""
        logs = logs or {}
        improves = not self._absent(logs) and self.improves(logs)
        for name, value in logs.items():
            self.history.setdefault(name, []).append(float(value))
        saved = Saved(list(self._get_state()), self.history, epoch + 1)
        if self._stopping is not None:
            stopping, best = self._stopping.get_state(), self._stopping.best_weights
            saved = replace(saved, stopping=stopping, best_weights=best)
        self._done = epoch + 1
        if improves:
            _write(saved, self._directory / BEST)
        _write(saved, self._directory / f"epoch-{epoch + 1:05}.checkpoint")
        for path in self._paths()[:-KEPT]:
            path.unlink()

    def _paths(self) -> list[Path]:
        """Return the checkpoints of epochs, the newest last."""
        paths = self._directory.glob("epoch-[0-9]*.checkpoint")
        return sorted(paths, key=lambda path: int(path.stem.removeprefix("epoch-")))

    def _set(self, saved: Saved, path: Path) -> None:
        """Set a saved state, if its arrays fit the model."""
        ours, theirs = (
            [f"{array.dtype} {array.shape}" for array in map(np.asarray, state)]
            for state in (self._get_state(), saved.state)
        )
        pairs = itertools.zip_longest(theirs, ours, fillvalue="missing")
        for number, (one, other) in enumerate(pairs):
            if one != other:
                raise ValueError(
                    f"{path} belongs to another model or optimizer: its array {number} "
                    f"is {one}, but here it is {other}; the arrays must match; use "
                    "another directory"
                )
        if self._stopping is not None:
            if saved.stopping is None:
                raise ValueError(
                    f"{path} was saved without the state of EarlyStopping; a training "
                    "must continue with the callbacks it started with; leave out "
                    "stopping, or use another directory"
                )
            self._stopping.set_state(saved.stopping, saved.best_weights)
        self._set_state(saved.state)


def read(path: Path) -> Saved:
    """Return the content of a checkpoint.

    Raises DamagedError if its bytes have changed, OSError if it cannot be read.
    """
    written = path.read_bytes()
    digest, content = written[:_DIGEST], written[_DIGEST:]
    if hashlib.sha256(content).hexdigest().encode() != digest:
        raise DamagedError(f"{path} is damaged: its bytes do not match their SHA-256")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        about = json.loads(str(arrays["about"]))
        of_0_1_0 = {"state": [""] * about.get("arrays", 0), "best": []}
        state, best = (
            [_as(arrays[f"{part}_{n}"], dtype) for n, dtype in enumerate(dtypes)]
            for part, dtypes in about.get("dtypes", of_0_1_0).items()
        )
    return Saved(state, about["history"], about["epochs"], about.get("stopping"), best)


def _write(saved: Saved, path: Path) -> None:
    """Write a checkpoint, completely or not at all."""
    parts = {"state": saved.state, "best": saved.best_weights}
    about = {
        "epochs": saved.epochs,
        "history": saved.history,
        "stopping": saved.stopping,
        "dtypes": {
            part: [np.asarray(array).dtype.name for array in arrays]
            for part, arrays in parts.items()
        },
    }
    stored: dict[str, Any] = {
        f"{part}_{n}": _storable(np.asarray(array), f"array {n} of the {part}")
        for part, arrays in parts.items()
        for n, array in enumerate(arrays)
    }
    content = io.BytesIO()
    np.savez(content, about=np.array(json.dumps(about)), **stored)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        file.write(hashlib.sha256(content.getbuffer()).hexdigest().encode())
        file.write(content.getbuffer())
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _storable(array: Array, name: str) -> Array:
    """Return an array that npz keeps: bfloat16 and its like as unsigned integers.

    npz would keep their bytes without their dtype. Raises TypeError for objects.
    """
    dtype = array.dtype
    if dtype.hasobject:
        raise TypeError(
            f"{name} has dtype {dtype}; a checkpoint can hold numbers only; "
            "let get_state return arrays of numbers"
        )
    if dtype.isbuiltin != 2:  # not an addition to NumPy's dtypes
        return array
    return np.ascontiguousarray(array).view(f"u{dtype.itemsize}").reshape(array.shape)


def _as(array: Array, dtype: str) -> Array:
    """Return an array of `_storable` in its own dtype."""
    if dtype in (array.dtype.name, ""):
        return array
    return array.view(getattr(importlib.import_module("ml_dtypes"), dtype))


def _try_to_write(directory: Path) -> None:
    """Create the directory and a file in it, before a long training starts."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as problem:
        raise OSError(
            f"cannot save checkpoints in {directory}: {problem.strerror}; it must be a "
            "writable directory; use another one"
        ) from problem
