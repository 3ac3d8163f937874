"""MNIST: where it comes from, and whether it is MNIST.

It is the file that KVT_MNIST names, else the one in Keras's cache, else Keras's
download. Each is told by its arrays' hashes, not by the archive's: any zip writer's
will do.
"""

import hashlib
import io
import os
import queue
import stat
import threading
import time
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Arrays = tuple[Array, Array, Array, Array]  # x_train, y_train, x_test, y_test

URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
ARRAYS = {  # name: shape, SHA-256 of the bytes in C order
    "x_train": (
        (60_000, 28, 28),
        "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
    ),
    "y_train": (
        (60_000,),
        "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
    ),
    "x_test": (
        (10_000, 28, 28),
        "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
    ),
    "y_test": (
        (10_000,),
        "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
    ),
}

PATIENCE = 10.0  # seconds that a network which does not answer may cost
SLOWEST = 8 * 1024  # bytes a second; what is slower does not count as an answer
LARGEST = 64 * 1024**2  # bytes; MNIST's archive has 11.5 million


class UnavailableError(FileNotFoundError):
    """MNIST is neither in Keras's cache nor to be downloaded.

    `reason` says why in words that name no path of this machine.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


def find(patience: float = PATIENCE) -> tuple[Arrays, str]:
    """Return MNIST's arrays, and in words, without a path, where they came from.

    A file that KVT_MNIST names must be MNIST: ValueError or FileNotFoundError. A
    damaged one in Keras's cache is replaced. UnavailableError where all fails, after
    `patience` seconds at most without an answer from the network.
    """
    if named := os.environ.get("KVT_MNIST"):
        mend = "unset KVT_MNIST, or point it to an mnist.npz as Keras has it"
        try:
            if not (file := _expanded(named)).is_absolute():
                raise ValueError(
                    f"{named} is no absolute path, and kernels start elsewhere"
                )
            arrays = read(file)
        except FileNotFoundError as problem:
            raise FileNotFoundError(f"KVT_MNIST: {problem}; {mend}") from problem
        except ValueError as problem:
            raise ValueError(f"KVT_MNIST: {problem}; {mend}") from problem
        return arrays, "MNIST from the file that KVT_MNIST names"

    keras_home = _expanded(os.environ.get("KERAS_HOME") or "~/.keras").absolute()
    cache = keras_home / "datasets" / "mnist.npz"
    try:
        return read(cache), "MNIST from Keras's cache"
    except (FileNotFoundError, ValueError) as problem:
        unusable = problem
    absent = isinstance(unusable, FileNotFoundError)
    try:
        arrays = _download(cache, patience)
    except _DownloadError as failure:
        cause = " ".join(str(failure.__cause__ or "").split())  # one line
        detail = f" ({cause})" if cause else ""
        raise UnavailableError(
            f"{unusable}; its download from {URL} {failure}{detail}; "
            "set KVT_MNIST to an mnist.npz, or use the dataset 'digits'",
            f"MNIST is {'not' if absent else 'damaged'} in Keras's cache, "
            f"and its download {failure}",
        ) from failure
    replaced = "" if absent else ", in place of a damaged file"
    return arrays, f"MNIST, downloaded to Keras's cache{replaced}"


def _expanded(path: str) -> Path:
    # Not Path.expanduser, which raises where the home directory is unknown.
    return Path(os.path.expanduser(path))  # noqa: PTH111


def read(file: Path | io.BytesIO) -> Arrays:
    """Read MNIST from a NumPy archive, and check its arrays by shape and SHA-256.

    Nothing is unpickled, and nothing larger than MNIST's arrays is allocated. Raises
    FileNotFoundError, or ValueError saying what is wrong with the file.
    """
    name = str(file) if isinstance(file, Path) else "what came"
    try:
        if isinstance(file, Path) and not stat.S_ISREG(file.stat().st_mode):
            raise ValueError("it is not a file")  # opening a pipe would wait for ever
        with zipfile.ZipFile(file) as archive:
            x_train, y_train, x_test, y_test = (
                _read_array(archive, array) for array in ARRAYS
            )
    except (FileNotFoundError, NotADirectoryError) as problem:
        raise FileNotFoundError(f"{name} does not exist") from problem
    except _WrongArrayError as problem:
        raise ValueError(f"{name} is not MNIST: {problem}") from problem
    except Exception as problem:
        # A damaged archive makes zipfile, zlib and NumPy raise a dozen types.
        detail = str(problem) or type(problem).__name__
        raise ValueError(f"{name} cannot be read as .npz: {detail}") from problem
    return x_train, y_train, x_test, y_test


class _WrongArrayError(Exception):
    """An array that is not MNIST's."""


def _read_array(archive: zipfile.ZipFile, name: str) -> Array:
    shape, sha256 = ARRAYS[name]
    member = f"{name}.npy"
    if member not in archive.namelist():
        raise _WrongArrayError(f"it has no array {name}")
    # The header is looked at first: read_array allocates whatever a header claims.
    with archive.open(member) as stream:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise _WrongArrayError(f"{name} is not in NumPy's format 1.0")
        found, _, dtype = np.lib.format.read_array_header_1_0(stream)
    if found != shape or dtype != np.uint8:
        raise _WrongArrayError(
            f"{name} has shape {found} and type {dtype}, not {shape} and uint8"
        )
    with archive.open(member) as stream:
        array: Array = np.lib.format.read_array(stream, allow_pickle=False)
    array = np.ascontiguousarray(array)
    if hashlib.sha256(array.data).hexdigest() != sha256:
        raise _WrongArrayError(f"{name} has other values (by its SHA-256)")
    return array


class _DownloadError(Exception):
    """Why a download came to nothing; reads on from "its download"."""


def _download(cache: Path, patience: float) -> Arrays:
    """Download MNIST, check it, and put it in Keras's cache: whole, or not at all."""
    partial = cache.with_name(f"{cache.name}.{os.getpid()}.part")
    try:
        # First, so that a cache that cannot be written costs no time.
        cache.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(cache.parent, os.W_OK):
            raise PermissionError(f"{cache.parent} cannot be written")
        content = _receive(URL, patience)
        arrays = read(io.BytesIO(content))
        try:
            partial.write_bytes(content)
            partial.replace(cache)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as problem:
        raise _DownloadError("could not be stored there") from problem
    except ValueError as problem:
        raise _DownloadError("was not MNIST") from problem
    return arrays


def _receive(url: str, patience: float) -> bytes:
    """Receive what `url` holds, waiting `patience` seconds at most for an answer.

    Whoever keeps sending, at SLOWEST or faster, is heard out. The waiting is a
    thread's, because a name server's silence cannot be interrupted, only left behind.
    """
    chunks: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()
    over = threading.Event()

    def receive() -> None:
        try:
            with urllib.request.urlopen(url, timeout=2 * patience) as response:
                while not over.is_set() and (chunk := response.read1(2**16)):
                    chunks.put(chunk)
                if response.length:
                    raise ConnectionError(
                        f"it broke off, {response.length} bytes short"
                    )
            chunks.put(b"")
        except Exception as problem:
            chunks.put(problem)

    threading.Thread(target=receive, daemon=True).start()
    content = bytearray()
    start = heard = time.monotonic()
    try:
        while len(content) < LARGEST:
            slowest = start + len(content) / SLOWEST
            deadline = min(heard, slowest) + patience
            chunk = chunks.get(timeout=max(0, deadline - time.monotonic()))
            heard = time.monotonic()
            if isinstance(chunk, Exception):
                raise _DownloadError("failed") from chunk
            if not chunk:
                return bytes(content)
            content += chunk
    except queue.Empty:
        raise _DownloadError(f"did not answer within {patience:g} s") from None
    finally:
        over.set()
    raise _DownloadError("was not MNIST: it did not end")
