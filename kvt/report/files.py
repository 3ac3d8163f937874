"""Files: written whole or not at all, in a room that one command has to itself."""

import contextlib
import ctypes
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

PREFIX = ".kvt-"
LOCK = "lock"
HERE, EXCHANGE = -100, 2  # renameat2's numbers for the current directory and for a swap


@contextlib.contextmanager
def room(
    home: Path,
    output: Path,
    *,
    waits: bool = False,
    rescue: Callable[[Path], None] = lambda _: None,
) -> Iterator[Path]:
    """Give an empty directory in `home`, for parts of an output, and delete it.

    Also deletes the rooms that killed commands left; `rescue` looks through that of the
    same output before. Raises FileExistsError while another command has it, or `waits`.
    """
    home.mkdir(parents=True, exist_ok=True)
    own = home / f"{PREFIX}{output.name}"
    sweep(home, other_than=own)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_entered(own, waits))
        except BlockingIOError:
            raise FileExistsError(
                f"another kvt command is writing {output}; wait for its end, or "
                "name another place with --output"
            ) from None
        stack.callback(shutil.rmtree, own, ignore_errors=True)
        rescue(own)
        for path in own.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != LOCK:
                path.unlink()
        yield own


def sweep(home: Path, other_than: Path | None = None) -> None:
    """Delete the rooms that killed commands left: what is locked is somebody's."""
    for left in home.glob(f"{PREFIX}*"):
        if left != other_than and left.is_dir() and not left.is_symlink():
            with contextlib.suppress(OSError), _entered(left):
                shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def _entered(place: Path, waits: bool = False) -> Iterator[None]:
    """Lock a room, which is made if it is not there; the lock ends with the process.

    Raises BlockingIOError if another process has the lock, unless it `waits`.
    """
    path = place / LOCK
    with contextlib.ExitStack() as stack:
        while True:
            place.mkdir(exist_ok=True)
            try:
                file = stack.enter_context(path.open("a"))
                fcntl.flock(file, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    break
            except FileNotFoundError:
                pass  # the room was deleted meanwhile
        yield


def write(path: Path, content: bytes) -> None:
    """Write a file. Python's own error for a full disk would not name it."""
    try:
        path.write_bytes(content)
    except OSError as problem:
        problem.filename = problem.filename or str(path)
        raise


def replace(path: Path, content: bytes, room: Path) -> None:
    """Write a file by way of a room: whole, or not at all."""
    part = room / "part"
    write(part, content)
    part.replace(path)


def exchange(a: Path, b: Path) -> None:
    """Exchange two directories in one step.

    Raises OSError or AttributeError where the system cannot.
    """
    paths = os.fsencode(a), os.fsencode(b)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(HERE, paths[0], HERE, paths[1], EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(b))
