"""The data sets: points of a line, scikit-learn's handwritten digits, and MNIST.

scikit-learn is imported only when its digits are loaded.
"""

import hashlib
from dataclasses import dataclass

import numpy as np

from kvt.data import mnist, parameters
from kvt.data.arrays import Array, empty
from kvt.data.order import split

DATASETS = {"digits": 1_500, "mnist": 60_000}  # name: number of training examples


@dataclass(frozen=True, eq=False)
class Data:
    """Examples for training and for testing: x (n, …) and y (n, …) of one dtype.

    `sha256` identifies the whole data set, before `train_size` shortened it. It is the
    SHA-256 of the SHA-256s of its raw arrays (x_train, y_train, x_test, y_test).
    """

    name: str
    sha256: str
    x_train: Array
    y_train: Array
    x_test: Array
    y_test: Array

    def summary(self, validation_split: float = 0.0) -> dict[str, str | int]:
        """Return the `data` entry of a results JSON. Raises ValueError as `split`."""
        n = len(self.x_train)
        n_train = split(n, validation_split)
        return {
            "name": self.name,
            "sha256": self.sha256,
            "train": n_train,
            "validation": n - n_train,
            "test": len(self.x_test),
        }


def line(train_size: int = 100, *, seed: int, dtype: str = "float32") -> Data:
    """Draw points of the line y = 0.5 x + 1: `train_size`, and 100 more for testing.

    x comes from the standard normal distribution; y is computed in `dtype`. Both have
    the shape (n, 1). A `train_size` of 0 draws 100 points, as the 2017 notebook did.
    Raises ValueError for a negative one.
    """
    parameters.check({"train_size": train_size})
    random = np.random.default_rng(seed)
    x_train = random.standard_normal((train_size or 100, 1)).astype(dtype)
    x_test = random.standard_normal((100, 1)).astype(dtype)
    arrays = x_train, 0.5 * x_train + 1, x_test, 0.5 * x_test + 1
    return Data("line", _sha256(*arrays), *arrays)


def load(
    dataset: str,
    *,
    train_size: int = 0,
    image_shape: tuple[int, ...] = (784,),
    dtype: str = "float32",
) -> Data:
    """Load handwritten digits: gray images, 28 by 28, and their classes.

    `dataset` is "digits" (1,500 + 297 images that come with scikit-learn) or "mnist"
    (60,000 + 10,000 images, see `mnist.find`). `train_size` keeps only the first
    training examples; 0 keeps all. Images are (n, *image_shape) in [0, 1], labels
    one-hot (n, 10), both of `dtype`. Raises ValueError for an unknown data set, a
    train_size beyond the data or an unusable MNIST file, and FileNotFoundError if MNIST
    cannot be found.
    """
    _check_name(dataset, *DATASETS)
    largest = DATASETS[dataset]
    if not 0 <= train_size <= largest:
        raise ValueError(
            f"train_size {train_size}: {dataset} has {largest:,} training examples; "
            f"use 1 to {largest}, or 0 for all of them"
        )
    arrays = _digits() if dataset == "digits" else mnist.find()[0]
    x_train, y_train, x_test, y_test = arrays
    n, one_hot = train_size or largest, np.eye(10, dtype=dtype)
    return Data(
        dataset,
        _sha256(*arrays),
        _images(x_train[:n], image_shape, dtype),
        one_hot[y_train[:n]],
        _images(x_test, image_shape, dtype),
        one_hot[y_test],
    )


def resolve(dataset: str, *, patience: float = mnist.PATIENCE) -> tuple[str, str]:
    """Choose the data set to load; return its name, and the reason as text.

    "auto" chooses MNIST if it can be loaded, else "digits". MNIST is downloaded and
    checked here, so that a later `load` finds it in the cache. Raises as `load` does; a
    file that KVT_MNIST names must be MNIST under "auto" too.
    """
    _check_name(dataset, "auto", *DATASETS)
    if dataset == "digits":
        return "digits", "scikit-learn's digits, as requested"
    try:
        return "mnist", mnist.find(patience)[1]
    except mnist.UnavailableError as problem:
        if dataset == "mnist":
            raise
        return "digits", f"scikit-learn's digits: {problem.reason}"


def _check_name(dataset: str, *known: str) -> None:
    if dataset not in known:
        raise ValueError(f"unknown dataset {dataset!r}; use one of: {', '.join(known)}")


def _sha256(*arrays: Array) -> str:
    digests = (hashlib.sha256(np.ascontiguousarray(a).data).digest() for a in arrays)
    return hashlib.sha256(b"".join(digests)).hexdigest()


def _images(x: Array, image_shape: tuple[int, ...], dtype: str) -> Array:
    images = empty((len(x), *image_shape), dtype)
    images[...] = x.reshape(images.shape)
    images /= 255  # in place: MNIST in float64 takes 376 MB
    return images


def _digits() -> mnist.Arrays:
    """Enlarge scikit-learn's digits: 8 by 8 pixels, 0 to 16, to 28 by 28, 0 to 255."""
    from sklearn.datasets import load_digits

    pixels, y = load_digits(return_X_y=True)
    x = (pixels.astype(np.int64) * 255 // 16).astype(np.uint8).reshape(-1, 8, 8)
    x = x.repeat(3, axis=1).repeat(3, axis=2)  # (1797, 24, 24)
    x = np.pad(x, ((0, 0), (2, 2), (2, 2)))  # (1797, 28, 28)
    y = y.astype(np.uint8)
    n = DATASETS["digits"]
    return x[:n], y[:n], x[n:], y[n:]
