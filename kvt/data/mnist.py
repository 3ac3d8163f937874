"""Find MNIST, and check that it is MNIST.

Files are identified by their arrays' hashes, not by their own, because two zip writers
turn the same arrays into different bytes.
"""

import hashlib
import io
import os
import stat
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from kvt.data.arrays import Array

Arrays = tuple[Array, Array, Array, Array]  # x_train, y_train, x_test, y_test

URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
HASHES = {  # by array, SHA-256 of the bytes in C order
    "x_train": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
    "y_train": "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
    "x_test": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
    "y_test": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
}

PATIENCE = 10.0  # seconds of waiting for a network that does not answer
SLOWEST = 8 * 1024  # bytes per second; a slower server counts as not answering
LARGEST = 64 * 1024**2  # bytes; MNIST's archive has 11.5 million


class UnavailableError(FileNotFoundError):
    """MNIST can be neither found nor downloaded; `reason` says why, without a path."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


def find(patience: float = PATIENCE) -> tuple[Arrays, str]:
    """Return MNIST's arrays, and where they came from: words, without a path.

    The file that KVT_MNIST names comes first (ValueError or FileNotFoundError), then
    Keras's cache, then a download into it. Raises UnavailableError if all fail; an
    unresponsive network costs at most `patience` seconds.
    """
    if named := os.environ.get("KVT_MNIST"):
        return _read_named(named), "MNIST from the file that KVT_MNIST names"
    # Not Path.expanduser, which raises if the home directory is unknown.
    keras_home = os.path.expanduser(os.environ.get("KERAS_HOME") or "~/.keras")  # noqa: PTH111
    cache = Path(keras_home).absolute() / "datasets" / "mnist.npz"
    try:
        return read(cache), "MNIST from Keras's cache"
    except (FileNotFoundError, ValueError) as problem:
        unusable = problem
    absent = isinstance(unusable, FileNotFoundError)
    try:
        arrays = _download(cache, patience)
    except _DownloadError as failure:
        cause = " ".join(str(failure.__cause__ or "").split())  # in one line
        detail = f" ({cause})" if cause else ""
        raise UnavailableError(
            f"{unusable}; its download from {URL} {failure}{detail}; "
            "set KVT_MNIST to an mnist.npz, or use the dataset 'digits'",
            f"MNIST is {'not' if absent else 'damaged'} in Keras's cache, "
            f"and its download {failure}",
        ) from failure
    replaced = "" if absent else ", replacing a damaged file"
    return arrays, f"MNIST, downloaded to Keras's cache{replaced}"


def _read_named(named: str) -> Arrays:
    """Read the file that KVT_MNIST names; each error names the variable and a fix."""
    file = Path(os.path.expanduser(named))  # noqa: PTH111
    try:
        if not file.is_absolute():  # and notebooks run in other directories
            raise ValueError(f"{named} is a relative path; it must be absolute")
        return read(file)
    except (FileNotFoundError, ValueError) as problem:
        fix = "unset KVT_MNIST, or set it to the path of Keras's mnist.npz"
        raise type(problem)(f"KVT_MNIST: {problem}; {fix}") from problem


def read(file: Path | io.BytesIO) -> Arrays:
    """Read MNIST from a NumPy archive; check its arrays by shape and SHA-256.

    Unpickles nothing, and allocates nothing larger. Raises FileNotFoundError, or
    ValueError, which names the fault.
    """
    name = str(file) if isinstance(file, Path) else "the downloaded file"
    try:
        if isinstance(file, Path) and not stat.S_ISREG(file.stat().st_mode):
            raise ValueError("it is not a file")  # opening a named pipe would block
        with zipfile.ZipFile(file) as archive:
            x_train, y_train, x_test, y_test = (_member(archive, a) for a in HASHES)
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


def _member(archive: zipfile.ZipFile, name: str) -> Array:
    n = 60_000 if name.endswith("train") else 10_000
    shape = (n, 28, 28) if name.startswith("x") else (n,)
    member = f"{name}.npy"
    if member not in archive.namelist():
        raise _WrongArrayError(f"it has no array {name}")
    # Check the header first: read_array allocates whatever size a header claims.
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
    if hashlib.sha256(array.data).hexdigest() != HASHES[name]:
        raise _WrongArrayError(f"{name} has other values than MNIST's (by SHA-256)")
    return array


class _DownloadError(Exception):
    """Why a download failed: completes "its download …"."""


def _download(cache: Path, patience: float) -> Arrays:
    """Download MNIST, check it, and store it in Keras's cache: whole or not at all."""
    partial = cache.with_name(f"{cache.name}.{os.getpid()}.part")
    try:
        # First, so that a cache that cannot be written to costs no download.
        cache.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(cache.parent, os.W_OK):
            raise PermissionError(f"{cache.parent} cannot be written to")
        content = _receive(URL, patience)
        arrays = read(content)
        try:
            partial.write_bytes(content.getbuffer())
            partial.replace(cache)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as problem:
        raise _DownloadError("could not be stored there") from problem
    except ValueError as problem:
        raise _DownloadError("was not MNIST") from problem
    return arrays


class _Content(io.BytesIO):
    """What has been received so far, up to a limit."""

    def write(self, chunk: bytes) -> int:  # type: ignore[override]
        if self.tell() > LARGEST:
            raise _DownloadError(f"was not MNIST: it has more than {LARGEST:,} bytes")
        return super().write(chunk)


def _receive(url: str, patience: float) -> _Content:
    """Download `url` by pooch; give up on a server that is silent or too slow.

    pooch limits the silence between two packets. It limits neither a name server's
    silence nor a server that drips bytes, so a thread downloads and this one waits.
    """
    import pooch  # late: it takes 0.15 s and is seldom needed

    content, failures, responses = _Content(), list[BaseException](), list[Any]()
    get = pooch.HTTPDownloader(
        chunk_size=1024,
        timeout=patience,
        hooks={"response": lambda response, **_: responses.append(response)},
    )

    def download() -> None:
        try:
            get(url, content, pooch=None)
        except Exception as error:
            problem: BaseException = error
            while deeper := problem.__cause__ or problem.__context__:
                problem = deeper  # the first cause, which requests wraps several times
            failures.append(problem)
        finally:
            for response in responses:  # pooch leaves them open after an error
                response.close()

    thread = threading.Thread(target=download, daemon=True)
    start = time.monotonic()
    thread.start()
    while thread.is_alive():
        allowed = patience + content.tell() / SLOWEST
        if (left := start + allowed - time.monotonic()) < 0:
            content.close()  # the next `write` raises, and so ends the thread
            raise _DownloadError(f"did not answer within {patience:g} s")
        thread.join(left)
    for failure in failures:
        if isinstance(failure, _DownloadError):
            raise failure
        if isinstance(failure, TimeoutError):
            raise _DownloadError(f"did not answer within {patience:g} s")
        raise _DownloadError("failed") from failure
    return content
