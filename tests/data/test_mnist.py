"""Where MNIST comes from, and what is done about wrong files and bad networks."""

import contextlib
import io
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kvt import data
from kvt.data import mnist

REAL_MNIST = os.environ.get("KVT_MNIST", "")
needs_mnist = pytest.mark.skipif(not REAL_MNIST, reason="KVT_MNIST names no file")

PATIENCE = 0.3


@pytest.fixture(autouse=True)
def no_mnist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without MNIST, without a cache and without a network."""
    for name in ("KVT_MNIST", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(mnist, "URL", "http://127.0.0.1:9/mnist.npz")
    return tmp_path / "keras" / "datasets" / "mnist.npz"


# A file


def archive(path: Path, **arrays: object) -> Path:
    """Write the members of an archive: arrays as .npy, bytes unchanged."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, array in arrays.items():
            content = array
            if not isinstance(array, bytes):
                buffer = io.BytesIO()
                np.save(buffer, np.asanyarray(array), allow_pickle=True)
                content = buffer.getvalue()
            file.writestr(f"{name}.npy", content)  # type: ignore[arg-type]
    return path


def header(shape: tuple[int, ...], dtype: str, version: bytes = b"\x01\x00") -> bytes:
    """Return the start of an .npy file that claims this shape and type."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}}}\n"
    size = len(text).to_bytes(2 if version[0] == 1 else 4, "little")
    return b"\x93NUMPY" + version + size + text.encode()


ZEROS = np.zeros((60_000, 28, 28), np.uint8)
UNUSABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda p: p.write_bytes(b""), "cannot be read as .npz"),
    "text": (lambda p: p.write_text("<html>"), "cannot be read as .npz"),
    "folder": (lambda p: p.mkdir(), "is not a file"),
    "fifo": (os.mkfifo, "is not a file"),
    "no array": (lambda p: archive(p), "it has no array x_train"),
    "small": (
        lambda p: archive(p, x_train=ZEROS[:2]),
        r"x_train has shape \(2, 28, 28\) and type uint8, not \(60000, 28, 28\)",
    ),
    "floats": (
        lambda p: archive(p, x_train=header(ZEROS.shape, "<f8")),
        "x_train has shape .* and type float64, not .* and uint8",
    ),
    "other values": (
        lambda p: archive(p, x_train=ZEROS),
        "x_train has other values than MNIST",
    ),
    "not .npy": (lambda p: archive(p, x_train=b"x" * 99), "cannot be read as .npz"),
    "short array": (
        lambda p: archive(p, x_train=header(ZEROS.shape, "|u1") + b"few"),
        "cannot be read as .npz",
    ),
    "giant": (
        lambda p: archive(p, x_train=header((2**40, 2**10), "|u1")),
        "x_train has shape",
    ),
    "other format": (
        lambda p: archive(p, x_train=header(ZEROS.shape, "|u1", b"\x02\x00")),
        "x_train is not in NumPy's format 1.0",
    ),
    "bad header": (
        lambda p: archive(p, x_train=b"\x93NUMPY\x01\x00\x05\x00((((("),
        "cannot be read as .npz",
    ),
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_an_unusable_file_is_rejected_with_value_rule_and_fix(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mnist.npz"
    make, wrong = UNUSABLE[kind]
    make(path)
    monkeypatch.setenv("KVT_MNIST", str(path))
    message = f"^KVT_MNIST: {path} .*{wrong}.*; unset KVT_MNIST, or set it to"
    for use in (data.load, data.resolve):
        with pytest.raises(ValueError, match=message):
            use("mnist")
    with pytest.raises(ValueError, match=message):
        data.resolve("auto")


def test_a_missing_file_is_rejected_with_a_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KVT_MNIST", str(tmp_path / "none.npz"))
    with pytest.raises(FileNotFoundError, match="npz does not exist; unset KVT_MNIST"):
        data.resolve("auto")


def test_a_relative_path_in_kvt_mnist_is_rejected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KVT_MNIST", "mnist.npz")
    with pytest.raises(ValueError, match=r"mnist\.npz is a relative path; it must be"):
        data.resolve("auto")


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("exploded",)


def test_pickled_objects_are_never_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pickled = header(ZEROS.shape, "|O") + pickle.dumps(Bomb())
    for x_train in (np.array([Bomb()], object), pickled):
        monkeypatch.setenv(
            "KVT_MNIST", str(archive(tmp_path / "a.npz", x_train=x_train))
        )
        with pytest.raises(ValueError, match=r"x_train has shape .* and type object"):
            data.load("mnist")
    assert not Path("exploded").exists()


@needs_mnist
@pytest.mark.parametrize("kept", [0.01, 0.5, 0.999])
def test_a_truncated_file_is_rejected(
    kept: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = Path(REAL_MNIST).read_bytes()
    path = tmp_path / "mnist.npz"
    path.write_bytes(content[: int(kept * len(content))])
    monkeypatch.setenv("KVT_MNIST", str(path))
    with pytest.raises(ValueError, match=r"cannot be read as \.npz"):
        data.load("mnist")


@needs_mnist
@settings(deadline=None, max_examples=10)
@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
def test_one_wrong_byte_is_rejected_or_changes_no_array(
    place: float, value: int
) -> None:
    content = bytearray(Path(REAL_MNIST).read_bytes())
    position = int(place * len(content))
    assume(content[position] != value)
    content[position] = value
    with contextlib.suppress(ValueError):  # read checks what it returns
        mnist.read(io.BytesIO(content))


@needs_mnist
def test_mnist_comes_from_the_file_that_kvt_mnist_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KVT_MNIST", REAL_MNIST)
    reason = "MNIST from the file that KVT_MNIST names"
    assert data.resolve("auto") == data.resolve("mnist") == ("mnist", reason)
    digits = data.load("mnist", train_size=1000, image_shape=(28, 28, 1))
    assert digits.x_train.shape == (1000, 28, 28, 1)
    assert digits.x_test.shape == (10_000, 28, 28, 1)
    assert list(digits.y_train[:5].argmax(axis=1)) == [5, 0, 4, 1, 9]
    assert digits.summary(0.2) == {
        "name": "mnist",
        "sha256": "31ca189320ce511d314d85ee5cc02082b343a328bec028418f911405d558d666",
        "train": 800,
        "validation": 200,
        "test": 10_000,
    }


# The cache and the download

Answer = Callable[[socket.socket], None]


@contextlib.contextmanager
def server(answer: Answer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Serve one connection on loopback at MNIST's address."""

    connections: list[socket.socket] = []
    over = threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        connections.append(connection)
        with connection, contextlib.suppress(OSError):
            connection.recv(4096)
            answer(connection)
            over.wait(5)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        monkeypatch.setattr(mnist, "URL", f"http://127.0.0.1:{port}/mnist.npz")
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            for connection in connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def ok(size: int) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode()


def silent(connection: socket.socket) -> None:
    pass


def half_a_header(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-")


def stalls_after_some_bytes(connection: socket.socket) -> None:
    connection.sendall(ok(10**7) + b"PK" * 100)


def drips(connection: socket.socket) -> None:
    connection.sendall(ok(10**7))
    while True:
        connection.sendall(b"x")
        time.sleep(0.05)


@pytest.mark.parametrize(
    "answer", [silent, half_a_header, stalls_after_some_bytes, drips]
)
def test_a_silent_or_slow_server_costs_at_most_the_patience(
    answer: Answer, no_mnist: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = time.monotonic()
    with server(answer, monkeypatch):
        name, reason = data.resolve("auto", patience=PATIENCE)
        assert time.monotonic() - start < PATIENCE + 1.5
    assert name == "digits"
    assert reason == (
        "scikit-learn's digits: MNIST is not in Keras's cache, "
        "and its download did not answer within 0.3 s"
    )
    assert not list(no_mnist.parent.iterdir())


def test_a_silent_name_server_costs_at_most_the_patience(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: over.wait(5) and [])
    start = time.monotonic()
    try:
        with pytest.raises(FileNotFoundError, match=r"did not answer within 0\.3 s"):
            data.resolve("mnist", patience=PATIENCE)
        assert time.monotonic() - start < PATIENCE + 1.5
    finally:
        over.set()


def not_found(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")


def breaks_off(connection: socket.socket) -> None:
    connection.sendall(ok(1000) + b"PK")
    connection.shutdown(socket.SHUT_RDWR)


def sends_a_login_page(connection: socket.socket) -> None:
    connection.sendall(ok(6) + b"<html>")


def is_no_web_server(connection: socket.socket) -> None:
    connection.sendall(b"220 mail ready\r\n")
    connection.shutdown(socket.SHUT_RDWR)


def never_ends(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(b"x" * 10**5)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (not_found, r"failed \(404 Client Error: Not Found for url: http.*\)"),
        (breaks_off, r"failed \(IncompleteRead\(2 bytes read, 998 more expected\)\)"),
        (is_no_web_server, r"failed \(220 mail ready\)"),
        (
            sends_a_login_page,
            r"was not MNIST \(the downloaded file cannot be read",
        ),
        (never_ends, r"was not MNIST: it has more than 1,000,000 bytes"),
    ],
)
def test_a_wrong_answer_is_reported_and_stores_no_file(
    answer: Answer, why: str, no_mnist: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mnist, "LARGEST", 10**6)
    message = f"{no_mnist} does not exist; its download from http.* {why}.*; set KVT_"
    with (
        server(answer, monkeypatch),
        pytest.raises(FileNotFoundError, match=message),
    ):
        data.load("mnist")
    assert not list(no_mnist.parent.iterdir())


def test_without_a_network_auto_means_digits_and_mnist_is_an_error() -> None:
    assert data.resolve("auto") == (
        "digits",
        "scikit-learn's digits: MNIST is not in Keras's cache, and its download failed",
    )
    assert data.resolve("digits") == ("digits", "scikit-learn's digits, as requested")
    for use in (data.load, data.resolve):
        with pytest.raises(FileNotFoundError, match="or use the dataset 'digits'"):
            use("mnist")


def test_a_damaged_cache_without_a_network_is_reported_with_both_reasons(
    no_mnist: Path,
) -> None:
    archive(no_mnist, x_train=ZEROS[:2])
    with pytest.raises(FileNotFoundError, match=r"x_train has shape.*download.*failed"):
        data.load("mnist")
    reason = data.resolve("auto")[1]
    assert "MNIST is damaged in Keras's cache, and its download failed" in reason
    assert no_mnist.exists()


def test_a_cache_that_cannot_be_written_to_is_reported_before_downloading(
    tmp_path: Path,
) -> None:
    (tmp_path / "keras").write_text("a file where the folder should be")
    reason = data.resolve("auto")[1]
    assert "its download could not be stored there" in reason
    assert str(tmp_path) not in reason


@needs_mnist
def test_a_slow_but_steady_download_is_stored_in_the_cache_and_used_again(
    no_mnist: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = Path(REAL_MNIST).read_bytes()

    def slow(connection: socket.socket) -> None:
        connection.sendall(ok(len(content)))
        for start in range(0, len(content), 2**20):
            time.sleep(0.05)
            connection.sendall(content[start : start + 2**20])

    start = time.monotonic()
    with server(slow, monkeypatch):
        downloaded = data.resolve("auto", patience=PATIENCE)
    assert time.monotonic() - start > PATIENCE
    assert downloaded == ("mnist", "MNIST, downloaded to Keras's cache")
    assert no_mnist.read_bytes() == content
    assert list(no_mnist.parent.iterdir()) == [no_mnist]
    assert data.resolve("auto") == ("mnist", "MNIST from Keras's cache")


@needs_mnist
def test_a_damaged_cache_is_replaced_by_a_download(
    no_mnist: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = Path(REAL_MNIST).read_bytes()
    archive(no_mnist, x_train=ZEROS[:2])
    with server(lambda c: c.sendall(ok(len(content)) + content), monkeypatch):
        reason = data.resolve("mnist")[1]
    assert reason == "MNIST, downloaded to Keras's cache, replacing a damaged file"
    assert no_mnist.read_bytes() == content


@pytest.mark.long
def test_resolve_imports_neither_tensorflow_nor_keras_nor_scikit_learn() -> None:
    code = (
        "import sys; from kvt.data import mnist, resolve; "
        "mnist.URL = 'http://127.0.0.1:9'; print(resolve('auto')[0]); "
        "print({'tensorflow', 'keras', 'sklearn'} & set(sys.modules))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout.split("\n") == ["digits", "set()", ""]
