"""The data sets: the line and the digits."""

import numpy as np
import pytest

from kvt import data

# The line


def test_line_points_are_half_x_plus_one() -> None:
    points = data.line(seed=3)
    for x, y in ((points.x_train, points.y_train), (points.x_test, points.y_test)):
        assert x.shape == y.shape == (100, 1)
        assert x.dtype == y.dtype == np.float32
        np.testing.assert_array_equal(y, np.float32(0.5) * x + np.float32(1))


def test_line_shares_no_points_between_training_and_testing() -> None:
    points = data.line(seed=3)
    assert not np.isin(points.x_test, points.x_train).any()


def test_line_depends_on_the_seed_alone() -> None:
    one, again, other = (data.line(5, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.x_train, again.x_train)
    assert not np.array_equal(one.x_train, other.x_train)
    assert one.sha256 == again.sha256 != other.sha256


def test_line_computes_in_float64_if_asked() -> None:
    points = data.line(seed=0, dtype="float64")
    arrays = (points.x_train, points.y_train, points.x_test, points.y_test)
    assert {array.dtype.name for array in arrays} == {"float64"}


def test_line_of_size_0_has_100_points_as_in_2017() -> None:
    assert len(data.line(0, seed=0).x_train) == 100


def test_a_negative_number_of_points_is_rejected() -> None:
    with pytest.raises(ValueError, match="train_size is -1; it must be"):
        data.line(-1, seed=0)


def test_summary_counts_the_points_of_each_part() -> None:
    summary = data.line(seed=0).summary(0.2)
    assert len(str(summary.pop("sha256"))) == 64
    assert summary == {"name": "line", "train": 80, "validation": 20, "test": 100}


# The digits


def test_digits_have_the_shapes_and_range_of_mnist() -> None:
    digits = data.load("digits")
    assert digits.x_train.shape == (1500, 784)
    assert digits.y_train.shape == (1500, 10)
    assert digits.x_test.shape == (297, 784)
    assert digits.y_test.shape == (297, 10)
    for array in (digits.x_train, digits.y_train, digits.x_test, digits.y_test):
        assert array.dtype == np.float32
        assert (array.min(), array.max()) == (0, 1)


def test_digits_are_those_of_scikit_learn_pixel_by_pixel() -> None:
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


def test_digits_are_the_same_on_every_machine() -> None:
    assert data.load("digits").summary(0.2) == {
        "name": "digits",
        "sha256": "99893c392f54493cc2c25401e07b145b66e2e247d9004b9727b3ef6f081f3cf7",
        "train": 1200,
        "validation": 300,
        "test": 297,
    }


def test_float64_images_are_scaled_in_float64() -> None:
    images = data.load("digits", dtype="float64").x_train
    assert images.dtype == np.float64
    np.testing.assert_array_equal(images, np.rint(images * 255) / 255)


def test_train_size_keeps_the_first_images_and_changes_nothing_else() -> None:
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
def test_a_train_size_beyond_the_data_is_rejected(
    dataset: str, train_size: int
) -> None:
    largest = {"digits": "1500", "mnist": "60000"}[dataset]
    with pytest.raises(
        ValueError, match=f"train_size {train_size}.*use 1 to {largest}"
    ):
        data.load(dataset, train_size=train_size)


def test_an_unknown_dataset_is_rejected_with_a_list_of_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'cifar'; use one of: digits, mnist"):
        data.load("cifar")
    with pytest.raises(ValueError, match="'auto'; use one of: digits, mnist"):
        data.load("auto")
    with pytest.raises(ValueError, match="'cifar'; use one of: auto, digits, mnist"):
        data.resolve("cifar")
