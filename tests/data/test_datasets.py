"""What holds for the data, the validation split and the order of examples."""

import contextlib
import io
import math
import os
import pickle
import random
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


# The line


def test_line_is_half_x_plus_one() -> None:
    points = data.line(seed=3)
    for x, y in ((points.x_train, points.y_train), (points.x_test, points.y_test)):
        assert x.shape == y.shape == (100, 1)
        assert x.dtype == y.dtype == np.float32
        np.testing.assert_array_equal(y, np.float32(0.5) * x + np.float32(1))


def test_line_tests_on_other_points_than_it_trains_on() -> None:
    points = data.line(seed=3)
    assert not np.isin(points.x_test, points.x_train).any()


def test_line_is_the_same_for_a_seed_and_another_for_another() -> None:
    one, again, other = (data.line(5, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.x_train, again.x_train)
    assert not np.array_equal(one.x_train, other.x_train)
    assert one.sha256 == again.sha256 != other.sha256


def test_line_keeps_float64() -> None:
    points = data.line(seed=0, dtype="float64")
    arrays = (points.x_train, points.y_train, points.x_test, points.y_test)
    assert {array.dtype.name for array in arrays} == {"float64"}


def test_line_of_size_0_has_the_points_of_2017() -> None:
    assert len(data.line(0, seed=0).x_train) == 100


def test_line_of_a_negative_size_is_refused() -> None:
    with pytest.raises(ValueError, match="train_size is -1; it must be"):
        data.line(-1, seed=0)


def test_relative_path_in_kvt_mnist_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVT_MNIST", "mnist.npz")
    with pytest.raises(ValueError, match=r"mnist\.npz is no absolute path"):
        data.resolve("auto")


def test_summary_of_the_line_counts_its_points() -> None:
    summary = data.line(seed=0).summary(0.2)
    assert len(str(summary.pop("sha256"))) == 64
    assert summary == {"name": "line", "train": 80, "validation": 20, "test": 100}


# The digits


def test_digits_have_mnists_shapes_and_range() -> None:
    digits = data.load("digits")
    assert digits.x_train.shape == (1500, 784)
    assert digits.y_train.shape == (1500, 10)
    assert digits.x_test.shape == (297, 784)
    assert digits.y_test.shape == (297, 10)
    for array in (digits.x_train, digits.y_train, digits.x_test, digits.y_test):
        assert array.dtype == np.float32
        assert (array.min(), array.max()) == (0, 1)


def test_digits_are_scikit_learns_pixel_by_pixel() -> None:
    from sklearn.datasets import load_digits

    theirs = load_digits()
    ours = data.load("digits", image_shape=(28, 28))
    images = np.concatenate([ours.x_train, ours.x_test])
    for i, j in np.ndindex(3, 3):  # each pixel became 3 by 3
        np.testing.assert_array_equal(
            images[:, 2 + i : 26 : 3, 2 + j : 26 : 3],
            (theirs.images * 255 // 16).astype("float32") / np.float32(255),
        )
    images[:, 2:26, 2:26] = 0
    assert not images.any()
    labels = np.concatenate([ours.y_train, ours.y_test])
    np.testing.assert_array_equal(labels.argmax(axis=1), theirs.target)
    np.testing.assert_array_equal(labels.sum(axis=1), 1)


def test_digits_are_these_digits_on_every_machine() -> None:
    assert data.load("digits").summary(0.2) == {
        "name": "digits",
        "sha256": "99893c392f54493cc2c25401e07b145b66e2e247d9004b9727b3ef6f081f3cf7",
        "train": 1200,
        "validation": 300,
        "test": 297,
    }


def test_float64_images_are_divided_in_float64() -> None:
    images = data.load("digits", dtype="float64").x_train
    assert images.dtype == np.float64
    np.testing.assert_array_equal(images, np.rint(images * 255) / 255)


def test_train_size_keeps_the_first_and_leaves_hash_and_test_alone() -> None:
    whole = data.load("digits")
    part = data.load("digits", train_size=7, image_shape=(28, 28, 1))
    assert part.x_train.shape == (7, 28, 28, 1)
    np.testing.assert_array_equal(part.x_train.reshape(7, 784), whole.x_train[:7])
    np.testing.assert_array_equal(part.y_train, whole.y_train[:7])
    np.testing.assert_array_equal(part.x_test.reshape(297, 784), whole.x_test)
    assert part.sha256 == whole.sha256


@pytest.mark.parametrize(
    ("dataset", "train_size"),
    [("digits", 1501), ("digits", -1), ("mnist", 60001), ("mnist", -1)],
)
def test_train_size_beyond_the_data_is_refused(dataset: str, train_size: int) -> None:
    largest = {"digits": "1500", "mnist": "60000"}[dataset]
    with pytest.raises(
        ValueError, match=f"train_size {train_size}.*use 1 to {largest}"
    ):
        data.load(dataset, train_size=train_size)


def test_unknown_dataset_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'cifar'; use one of: digits, mnist"):
        data.load("cifar")
    with pytest.raises(ValueError, match="'auto'; use one of: digits, mnist"):
        data.load("auto")
    with pytest.raises(ValueError, match="'cifar'; use one of: auto, digits, mnist"):
        data.resolve("cifar")


# The validation split


@settings(deadline=None)
@given(
    n=st.integers(1, 100_000),
    validation_split=st.floats(0, 1, exclude_min=True, exclude_max=True)
    | st.sampled_from([0.1, 0.2, 0.25, 0.3, 0.5, 0.7, 0.9]),
)
def test_split_is_keras_split(n: int, validation_split: float) -> None:
    from keras.src.trainers.data_adapters.array_slicing import train_validation_split

    try:
        train, validation = train_validation_split(np.zeros(n, "u1"), validation_split)
    except ValueError:
        with pytest.raises(ValueError, match="each needs at least one"):
            data.split(n, validation_split)
    else:
        n_train = data.split(n, validation_split)
        assert (n_train, n - n_train) == (len(train), len(validation))


@given(n=st.integers(0, 10**9))
def test_split_of_zero_keeps_all_for_training(n: int) -> None:
    assert data.split(n, 0) == data.split(n, 0.0) == n


@pytest.mark.parametrize("validation_split", [-0.1, 1, 1.0, 1.5, math.nan, math.inf])
def test_split_outside_zero_to_one_is_refused(validation_split: float) -> None:
    with pytest.raises(ValueError, match="must be a number from 0 up to, but not"):
        data.split(100, validation_split)


# The order of examples


@pytest.mark.parametrize("validation_split", [0.0, 0.25])
@pytest.mark.parametrize(("n", "batch_size"), [(1, 1), (10, 3), (37, 64), (300, 32)])
@pytest.mark.parametrize("seed", [0, 7, 2**31 + 5])
def test_example_order_is_that_of_keras_fit_in_every_epoch(
    n: int, batch_size: int, seed: int, validation_split: float
) -> None:
    import keras

    if n == 1:
        validation_split = 0.0
    visited: list[int] = []

    class Witness(keras.Model):  # type: ignore[misc]
        def train_step(self, batch: tuple[object, ...]) -> dict[str, float]:
            visited.extend(np.asarray(batch[0])[:, 0].astype(int))
            return {"loss": 0.0}

        def test_step(self, batch: tuple[object, ...]) -> dict[str, float]:
            return {"loss": 0.0}

    x = np.arange(n, dtype="float32").reshape(n, 1)
    keras.utils.set_random_seed(seed)
    model = Witness()
    model.compile(run_eagerly=True, jit_compile=False)
    model.fit(
        x,
        x,
        batch_size=batch_size,
        epochs=2,
        validation_split=validation_split,
        verbose=0,
    )
    n_train = data.split(n, validation_split)
    order = data.example_order(n_train, seed)
    assert order.dtype == np.int64
    assert visited == [*order, *order]


def test_example_order_is_a_permutation_that_depends_on_the_seed() -> None:
    one, two = data.example_order(50, 1), data.example_order(50, 2)
    assert sorted(one) == sorted(two) == list(range(50))
    assert list(one) != list(two)
    assert list(one) == list(data.example_order(50, 1))


def test_example_order_leaves_the_callers_random_numbers_alone() -> None:
    import keras
    import tensorflow as tf

    def draw(between: Callable[[], object]) -> list[float]:
        keras.utils.set_random_seed(11)
        generator = keras.random.SeedGenerator()
        numbers = []
        for _ in range(2):
            numbers += [random.random(), np.random.random()]
            numbers += [float(tf.random.uniform([]))]
            numbers += [float(keras.random.uniform([], seed=generator))]
            between()
        shuffled = tf.data.Dataset.range(9).shuffle(9)
        return numbers + list(shuffled.as_numpy_iterator())

    assert draw(lambda: None) == draw(lambda: data.example_order(20, seed=5))


# MNIST: a file


def archive(path: Path, **arrays: object) -> Path:
    """Write members as they are given: arrays as .npy, bytes unchanged."""
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
    """The start of an .npy file, as a forger would write it."""
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
    "other values": (lambda p: archive(p, x_train=ZEROS), "x_train has other values"),
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
def test_an_unusable_file_is_a_clear_error(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mnist.npz"
    make, wrong = UNUSABLE[kind]
    make(path)
    monkeypatch.setenv("KVT_MNIST", str(path))
    message = f"^KVT_MNIST: {path} .*{wrong}.*; unset KVT_MNIST, or point it to"
    for use in (data.load, data.resolve):
        with pytest.raises(ValueError, match=message):
            use("mnist")
    with pytest.raises(ValueError, match=message):
        data.resolve("auto")


def test_a_missing_file_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KVT_MNIST", str(tmp_path / "none.npz"))
    with pytest.raises(FileNotFoundError, match="npz does not exist; unset KVT_MNIST"):
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
def test_a_truncated_file_is_a_clear_error(
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
def test_one_wrong_byte_is_an_error_or_makes_no_difference(
    place: float, value: int
) -> None:
    content = bytearray(Path(REAL_MNIST).read_bytes())
    position = int(place * len(content))
    assume(content[position] != value)
    content[position] = value
    with contextlib.suppress(ValueError):  # read checks what it returns
        mnist.read(io.BytesIO(content))


@needs_mnist
def test_mnist_is_loaded_from_the_file_that_kvt_mnist_names(
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


# MNIST: the cache and the download

Answer = Callable[[socket.socket], None]


@contextlib.contextmanager
def server(answer: Answer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A web server on loopback that is MNIST's address, for one connection."""

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(4096)
            answer(connection)
            over.wait(5)

    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        monkeypatch.setattr(mnist, "URL", f"http://127.0.0.1:{port}/mnist.npz")
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
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
def test_a_server_that_does_not_answer_costs_no_more_than_the_patience(
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


def test_a_name_server_that_hangs_costs_no_more_than_the_patience(
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


def refuses(connection: socket.socket) -> None:
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
        (refuses, r"failed \(HTTP Error 404: Not Found\)"),
        (breaks_off, r"failed \(it broke off, 998 bytes short\)"),
        (is_no_web_server, r"failed \(220 mail ready\)"),
        (sends_a_login_page, r"was not MNIST \(what came cannot be read as .npz"),
        (never_ends, "was not MNIST: it did not end"),
    ],
)
def test_a_wrong_answer_is_reported_and_leaves_nothing_behind(
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


def test_without_a_network_auto_is_digits_and_mnist_an_error() -> None:
    assert data.resolve("auto") == (
        "digits",
        "scikit-learn's digits: MNIST is not in Keras's cache, and its download failed",
    )
    assert data.resolve("digits") == ("digits", "scikit-learn's digits, as asked for")
    for use in (data.load, data.resolve):
        with pytest.raises(FileNotFoundError, match="or use the dataset 'digits'"):
            use("mnist")


def test_a_damaged_cache_without_a_network_is_told_with_both_reasons(
    no_mnist: Path,
) -> None:
    archive(no_mnist, x_train=ZEROS[:2])
    with pytest.raises(FileNotFoundError, match=r"x_train has shape.*download.*failed"):
        data.load("mnist")
    reason = data.resolve("auto")[1]
    assert "MNIST is damaged in Keras's cache, and its download failed" in reason
    assert no_mnist.exists()


def test_a_cache_that_cannot_be_written_is_told_before_downloading(
    tmp_path: Path,
) -> None:
    (tmp_path / "keras").write_text("a file where the folder should be")
    reason = data.resolve("auto")[1]
    assert "its download could not be stored there" in reason
    assert str(tmp_path) not in reason


@needs_mnist
def test_a_slow_but_steady_download_fills_the_cache_and_is_used_again(
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
    assert reason == "MNIST, downloaded to Keras's cache, in place of a damaged file"
    assert no_mnist.read_bytes() == content


def test_resolving_imports_neither_tensorflow_nor_keras_nor_scikit_learn() -> None:
    code = (
        "import sys; from kvt.data import mnist, resolve; "
        "mnist.URL = 'http://127.0.0.1:9'; print(resolve('auto')[0]); "
        "print({'tensorflow', 'keras', 'sklearn'} & set(sys.modules))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout.split("\n") == ["digits", "set()", ""]
