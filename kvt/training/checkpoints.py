"""Saving a training after every epoch, and going on from what is saved.

One file is one checkpoint: the SHA-256 of what follows, then an npz of the arrays and
of the history. It is complete or not there: written beside, flushed, renamed.
"""

import hashlib
import io
import itertools
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvt.training.callbacks import Callback, GetWeights, Logs, Monitor, SetWeights

KEPT = 2  # the last one, and the one before it in case the last one is damaged
BEST = "best.checkpoint"
_DIGEST = 64  # hexadecimal digits


class DamagedError(ValueError):
    """A checkpoint whose bytes are not those that were written."""


@dataclass(frozen=True)
class Saved:
    """What a checkpoint holds: the arrays, and the figures of all epochs until then."""

    state: list[NDArray[Any]]
    history: dict[str, list[float]]
    epochs: int


class Checkpoint(Callback):
    """Save after every epoch what the next one starts from: the last and the best.

    `kvt.fit(…, initial_epoch=checkpoint.restore(), callbacks=[checkpoint])` begins a
    training and goes on with one that was killed, in the same line.

    Args:
        directory: where the files go, `epoch-00001.checkpoint`, … and
            `best.checkpoint`; made if need be. It belongs to one training.
        get_state: returns all arrays that decide the next step: the weights, and what
            the optimizer keeps. What a later step draws at random belongs to it too.
        set_state: takes such a list and sets it.
        monitor: the figure that decides which epoch is the best.
        mode: as for `Monitor`.

    Attributes:
        history: by name, the figures of all epochs so far, those before a restart
            included.

    Raises OSError where the directory cannot be written to.
    """

    def __init__(
        self,
        directory: str | Path,
        get_state: GetWeights,
        set_state: SetWeights,
        *,
        monitor: str = "val_loss",
        mode: str = "auto",
    ) -> None:
        self._monitor = Monitor(monitor, mode)
        self._arguments = monitor, mode
        self._directory = Path(directory)
        self._get_state, self._set_state = get_state, set_state
        self.history: dict[str, list[float]] = {}
        _try_to_write(self._directory)

    def restore(self) -> int:
        """Set the state of the newest intact checkpoint; return how many epochs it has.

        Without a checkpoint nothing is set and 0 returned. A damaged one is named in a
        warning and the one before it taken. Raises ValueError where all are damaged, or
        where one is of another model.
        """
        paths = self._epochs()
        for path in reversed(paths):
            try:
                saved = read(path)
            except DamagedError as problem:
                warnings.warn(f"{problem}; trying the one before it", stacklevel=2)
                continue
            self._set(saved, path)
            self._recall(saved.history)
            return saved.epochs
        if paths:
            raise ValueError(
                f"all checkpoints in {self._directory} are damaged; at least one must "
                "be whole; remove them to begin anew"
            )
        return 0

    def restore_best(self) -> int:
        """Set the state of the best epoch; return which one it is, counted from 1.

        Raises FileNotFoundError before the first epoch's end, and ValueError for a
        checkpoint that is damaged or of another model.
        """
        path = self._directory / BEST
        saved = read(path)
        self._set(saved, path)
        return saved.epochs

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Refuse to wait for what will not be measured."""
        self._monitor.set_params(params)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Refuse an unknown figure after one step."""
        self._monitor.on_train_batch_end(batch, logs or {})

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Save, the best first: killed in between, the epoch is done again."""
        logs = logs or {}
        improves = self._monitor.improves(logs)
        for name, value in logs.items():
            self.history.setdefault(name, []).append(float(value))
        saved = Saved(list(self._get_state()), self.history, epoch + 1)
        if improves:
            _write(saved, self._directory / BEST)
        _write(saved, self._directory / f"epoch-{epoch + 1:05}.checkpoint")
        for path in self._epochs()[:-KEPT]:
            path.unlink()

    def _epochs(self) -> list[Path]:
        """Return the checkpoints of epochs, the newest last."""
        return sorted(self._directory.glob("epoch-[0-9]*.checkpoint"))

    def _set(self, saved: Saved, path: Path) -> None:
        """Set a state that fits what is trained here."""
        ours, theirs = map(_kinds, (self._get_state(), saved.state))
        pairs = itertools.zip_longest(theirs, ours, fillvalue="missing")
        for number, (one, other) in enumerate(pairs):
            if one != other:
                raise ValueError(
                    f"{path} is of another model or optimizer: its array {number} is "
                    f"{one}, and here it is {other}; they must be alike; name another "
                    "directory"
                )
        self._set_state(saved.state)

    def _recall(self, history: dict[str, list[float]]) -> None:
        """Know again what the epochs before a restart have reported."""
        self.history = history
        self._monitor = Monitor(*self._arguments)
        for figure in history.get(self._monitor.name, []):
            self._monitor.improves({self._monitor.name: figure})


def read(path: Path) -> Saved:
    """Return what a checkpoint holds; DamagedError names one whose bytes have changed.

    Raises OSError where the file cannot be read.
    """
    written = path.read_bytes()
    digest, content = written[:_DIGEST], written[_DIGEST:]
    if hashlib.sha256(content).hexdigest().encode() != digest:
        raise DamagedError(f"{path} is damaged: its bytes do not have their SHA-256")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        about = json.loads(str(arrays["about"]))
        state = [arrays[f"state_{n}"] for n in range(about["arrays"])]
    return Saved(state, about["history"], about["epochs"])


def _kinds(state: Sequence[NDArray[Any]]) -> list[str]:
    """Return what the arrays are: `float32 (784, 32)`."""
    return [f"{array.dtype} {array.shape}" for array in map(np.asarray, state)]


def _write(saved: Saved, path: Path) -> None:
    """Write a checkpoint, whole or not at all."""
    about = {
        "arrays": len(saved.state),
        "epochs": saved.epochs,
        "history": saved.history,
    }
    content = io.BytesIO()
    arrays: dict[str, Any] = {f"state_{n}": a for n, a in enumerate(saved.state)}
    np.savez(content, about=np.array(json.dumps(about)), **arrays)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        file.write(hashlib.sha256(content.getbuffer()).hexdigest().encode())
        file.write(content.getbuffer())
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _try_to_write(directory: Path) -> None:
    """Make the directory, and a file in it, before anything long is begun."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / ".probe"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as problem:
        raise OSError(
            f"cannot save checkpoints in {directory}: {problem.strerror}; it must be a "
            "directory to write to; name another"
        ) from problem
