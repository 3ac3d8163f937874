"""The notebooks themselves reject invalid parameters, however they are started."""

from pathlib import Path

import pytest

from kvt.compare import results
from tests.notebooks import sections


@pytest.mark.parametrize("notebook", sections.MODELS)
@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("epochs", -1, ValueError, "epochs is -1; it must be an integer of at least 1"),
        ("batch_size", 0, ValueError, "batch_size is 0; it must be an integer"),
        ("batch_size", "32", TypeError, "batch_size is '32'; it must be an integer"),
        ("learning_rate", 0.0, ValueError, "learning_rate is 0.0; it must be a finite"),
        ("validation_split", 1.0, ValueError, "validation_split is 1.0; it must be in"),
        ("dtype", "float16", ValueError, "dtype is 'float16'; it must be 'float32' or"),
        ("steps_per_execution", 0, ValueError, "steps_per_execution is 0; it must be"),
        ("seed", -5, ValueError, "seed is -5; it must be an integer from 0"),
        ("train_size", -1, ValueError, "train_size is -1; it must be an integer"),
    ],
)
def test_notebooks_reject_a_value_out_of_range(
    notebook: str, name: str, value: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        sections.define(notebook, **{name: value})


@pytest.mark.parametrize("notebook", sections.MODELS[1:])
def test_notebooks_reject_more_examples_than_there_are(notebook: str) -> None:
    with pytest.raises(ValueError, match=r"train_size 1501.*1,500 training examples"):
        sections.define(notebook, train_size=1501)


@pytest.mark.parametrize("notebook", sections.MODELS[1:])
def test_notebooks_reject_an_unknown_dataset(notebook: str) -> None:
    with pytest.raises(ValueError, match="dataset is 'cifar'; it must be 'digits' or"):
        sections.define(notebook, dataset="cifar")


def test_notebooks_reject_a_file_that_is_not_mnist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mnist.npz").write_bytes(b"not an archive")
    monkeypatch.setenv("KVT_MNIST", str(tmp_path / "mnist.npz"))
    with pytest.raises(ValueError, match=r"mnist\.npz"):
        sections.define("02_logistic_regression", dataset="mnist")


def test_the_comparison_rejects_a_folder_without_results(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no results in"):
        results.read_all(str(tmp_path))
