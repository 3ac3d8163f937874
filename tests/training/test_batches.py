"""The batches of an epoch: cut from arrays, or taken from a source of batches."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow.compat.v1 as tf1
from hypothesis import given, settings
from hypothesis import strategies as st

import kvt
from kvt.training import checks, progress
from kvt.training.batches import BatchedRows, BatchStream

counts = st.integers(1, 12)
few = settings(max_examples=15)  # where tf.data is slow to begin


def pairs(n: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return n batches of one example, which is the batch's number."""
    return [(np.full((1, 1), i, np.float32),) * 2 for i in range(n)]


def dataset(n: int) -> tf.data.Dataset:
    x = np.arange(n, dtype=np.float32).reshape(-1, 1)
    return tf.data.Dataset.from_tensor_slices((x, x)).batch(1)


def of_unknown_length(n: int) -> tf.data.Dataset:
    return dataset(n).filter(lambda x, y: True)


SOURCES: dict[str, Callable[[int], Any]] = {
    "list": pairs,
    "Dataset": dataset,
    "Dataset of unknown length": of_unknown_length,
    "generator": lambda n: (pair for pair in pairs(n)),
    "NumPy iterator": lambda n: dataset(n).as_numpy_iterator(),
}
again = pytest.mark.parametrize("kind", [*SOURCES][:3])
once = pytest.mark.parametrize("kind", [*SOURCES][3:])
any_source = pytest.mark.parametrize("kind", SOURCES)


def stream_of(source: Any, steps: int, epochs: int) -> BatchStream:
    return BatchStream(source, "x", epochs, steps)


def numbers(epoch: Any) -> list[int]:
    return [int(x[0, 0]) for x, *_ in epoch]


class Recording:
    """A step that records its batches."""

    def __init__(self) -> None:
        self.batches: list[tuple[Any, ...]] = []

    def __call__(self, *batch: Any) -> dict[str, Any]:
        self.batches.append(batch)
        return {"loss": np.float32(np.mean(batch[0]))}

    @property
    def numbers(self) -> list[int]:
        return numbers(self.batches)


def fit(
    x: Any, y: Any = None, **arguments: Any
) -> tuple[Recording, Recording, kvt.History]:
    train, test = Recording(), Recording()
    history = kvt.fit(train, test, x, y, **{"verbose": 0} | arguments)
    return train, test, history


@given(st.integers(1, 40), st.integers(1, 45), st.randoms(use_true_random=False))
def test_batched_rows_contain_every_row_once_in_the_given_order(
    n: int, batch_size: int, random: Any
) -> None:
    order = np.array(random.sample(range(n), n))
    x = np.arange(n)
    cut = BatchedRows((x, -x), order, batch_size)
    found = list(cut)
    assert np.array_equal(np.concatenate([x for x, _ in found]), order)
    assert all(np.array_equal(a, -b) for a, b in found)
    assert cut.steps == len(found)
    assert {len(x) for x, _ in found[:-1]} <= {batch_size}
    assert 1 <= len(found[-1][0]) <= batch_size


def test_batched_rows_can_be_iterated_over_again() -> None:
    cut = BatchedRows((np.arange(5),), np.arange(5), 2)
    assert [x.tolist() for (x,) in cut] == [x.tolist() for (x,) in cut]


@again
@few
@given(counts, st.integers(1, 3))
def test_an_epoch_is_the_whole_source_without_steps_per_epoch(
    kind: str, n: int, epochs: int
) -> None:
    stream = BatchStream(SOURCES[kind](n), "x", epochs)
    for _ in range(epochs):
        assert numbers(stream) == list(range(n))


@any_source
@few
@given(counts, counts)
def test_each_epoch_continues_where_the_last_one_ended(
    kind: str, steps: int, epochs: int
) -> None:
    stream = stream_of(SOURCES[kind](steps * epochs), steps, epochs)
    found = [number for _ in range(epochs) for number in numbers(stream)]
    assert found == list(range(steps * epochs))


@pytest.mark.parametrize("kind", [*SOURCES][:2])
@few
@given(counts, counts, counts)
def test_a_source_that_ends_with_an_epoch_starts_again(
    kind: str, steps: int, parts: int, epochs: int
) -> None:
    n = steps * parts
    stream = stream_of(SOURCES[kind](n), steps, epochs)
    found = [number for _ in range(epochs) for number in numbers(stream)]
    assert found == [i % n for i in range(steps * epochs)]


@pytest.mark.parametrize("kind", [*SOURCES][:2])
def test_a_source_known_to_end_within_an_epoch_is_an_error_at_once(kind: str) -> None:
    train = Recording()
    with pytest.raises(ValueError, match="ended after 2 batches of an epoch that n"):
        kvt.fit(train, train, SOURCES[kind](6), steps_per_epoch=4, epochs=3, verbose=0)
    assert train.batches == []
    assert fit(SOURCES[kind](6), steps_per_epoch=4)[0].numbers == [0, 1, 2, 3]


def test_a_source_that_ends_within_an_epoch_is_an_error() -> None:
    stream = stream_of(SOURCES["Dataset of unknown length"](6), 4, 3)
    assert numbers(stream) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="ended after 2 batches of an epoch that n"):
        numbers(stream)


@pytest.mark.parametrize("kind", [*SOURCES][2:])
def test_a_source_of_unknown_length_that_ends_with_an_epoch_is_not_started_again(
    kind: str,
) -> None:
    train, test, ended = Recording(), Recording(), Ended()
    with pytest.raises(ValueError, match=r"ended after 0 .* needs 3; pass 9 or more"):
        kvt.fit(
            train,
            test,
            SOURCES[kind](6),
            steps_per_epoch=3,
            epochs=3,
            verbose=0,
            callbacks=[ended],
        )
    assert train.numbers == [0, 1, 2, 3, 4, 5]
    assert ended.epochs == [0, 1]


class Ended(kvt.Callback):
    """Records which epochs ended, and the parameters passed before the first."""

    def __init__(self) -> None:
        self.epochs: list[int] = []
        self.params: dict[str, Any] = {}

    def set_params(self, params: Any) -> None:
        self.params = params

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.epochs.append(epoch)


@given(counts, counts, st.integers(1, 3))
def test_the_error_of_an_early_end_gives_count_and_fix(
    n: int, steps: int, epochs: int
) -> None:
    if n >= steps * epochs:
        n = steps * epochs - 1
    ended, train = Ended(), Recording()
    with pytest.raises(ValueError, match="x ended after") as caught:
        kvt.fit(
            train,
            Recording(),
            SOURCES["generator"](n),
            steps_per_epoch=steps,
            epochs=epochs,
            verbose=0,
            validation_data=pairs(1),
            callbacks=[ended],
        )
    assert f"x ended after {n % steps} batches" in str(caught.value)
    assert f"needs {steps}; pass {steps * epochs} or more batches" in str(caught.value)
    assert train.numbers == list(range(n))
    assert ended.epochs == list(range(n // steps))


@any_source
def test_a_source_without_batches_is_rejected(kind: str) -> None:
    with pytest.raises(ValueError, match=r"x ended after 0 batches .* at least 1"):
        fit(SOURCES[kind](0))


@given(counts, st.integers(1, 3), st.integers(0, 5))
def test_no_more_batches_are_taken_from_a_generator_than_needed(
    steps: int, epochs: int, extra: int
) -> None:
    given_ = SOURCES["generator"](steps * epochs + extra)
    train, _, _ = fit(given_, steps_per_epoch=steps, epochs=epochs)
    assert train.numbers == list(range(steps * epochs))
    assert numbers(given_) == list(range(steps * epochs, steps * epochs + extra))


@once
@pytest.mark.parametrize("name", ["x", "validation_data"])
def test_an_iterator_for_several_epochs_is_rejected_before_any_step(
    kind: str, name: str
) -> None:
    sources = {"x": dataset(3)} | {name: SOURCES[kind](3)}
    train = Recording()
    with pytest.raises(ValueError, match=f"{name} is a .* only once; 2 epochs need"):
        kvt.fit(train, Recording(), epochs=2, verbose=0, **sources)
    assert train.batches == []
    if name == "x":  # nor was a batch of it used up
        assert numbers(sources["x"]) == [0, 1, 2]


@once
def test_an_iterator_is_enough_for_one_epoch(kind: str) -> None:
    train, test, _ = fit(SOURCES[kind](3), validation_data=SOURCES[kind](2))
    assert (train.numbers, test.numbers) == ([0, 1, 2], [0, 1])


@once
def test_an_iterator_is_enough_if_one_epoch_remains(kind: str) -> None:
    train, _, history = fit(SOURCES[kind](3), epochs=7, initial_epoch=6)
    assert train.numbers == [0, 1, 2]
    assert history.epoch == [6]


@pytest.mark.parametrize("name", ["x", "validation_data"])
def test_an_endless_dataset_is_rejected_before_any_step(name: str) -> None:
    train = Recording()
    sources = {"x": dataset(3)} | {name: dataset(3).repeat()}
    with pytest.raises(ValueError, match=f"{name} is a .* that never ends.*take"):
        kvt.fit(train, Recording(), verbose=0, **sources)
    assert train.batches == []


def test_an_endless_dataset_works_with_steps_per_epoch() -> None:
    train, _, _ = fit(dataset(3).repeat(), steps_per_epoch=2, epochs=2)
    assert train.numbers == [0, 1, 2, 0]


@pytest.mark.long
@few
@given(st.integers(1, 4), st.integers(0, 9), st.booleans())
def test_each_epoch_gets_the_order_of_a_shuffled_dataset_that_keras_gets(
    epochs: int, seed: int, count: bool
) -> None:
    def shuffled() -> tf.data.Dataset:
        keras.utils.set_random_seed(seed)
        x = np.arange(9, dtype=np.float32).reshape(-1, 1)
        return tf.data.Dataset.from_tensor_slices((x, x)).shuffle(9, seed=seed).batch(1)

    alone = shuffled()
    orders = [numbers(alone) for _ in range(2 * epochs)]
    # Keras begins each epoch with a new iterator, and makes one at its end.
    used = orders[:epochs] if count else orders[::2]
    expected = [number for order in used for number in order]
    steps = {"steps_per_epoch": 9} if count else {}
    train, _, _ = fit(shuffled(), epochs=epochs, **steps)
    assert train.numbers == expected


@pytest.mark.parametrize("given_", [pairs(2)[0], tuple(map(tf.constant, pairs(2)[0]))])
def test_validation_data_may_be_a_tuple_of_arrays_or_of_tensors(given_: Any) -> None:
    _, test, _ = fit(dataset(3), validation_data=given_, epochs=2)
    assert test.numbers == [0, 0]


def test_tensors_work_like_arrays() -> None:
    x = np.arange(7, dtype=np.float32).reshape(-1, 1)
    arguments: dict[str, Any] = {"batch_size": 2, "epochs": 2, "validation_split": 0.3}
    by_array = fit(x, x, **arguments)
    by_tensor = fit(tf.constant(x), tf.constant(x), **arguments)
    for ours, theirs in zip(by_tensor[:2], by_array[:2], strict=True):
        assert ours.numbers == theirs.numbers
    assert by_tensor[2] == by_array[2]


@pytest.mark.parametrize("parts", [0, 1, 4])
def test_a_validation_tuple_of_another_length_is_rejected(parts: int) -> None:
    train = Recording()
    with pytest.raises(ValueError, match=f"a tuple of {parts}; it must be"):
        kvt.fit(train, Recording(), dataset(2), validation_data=pairs(1)[0][:1] * parts)
    assert train.batches == []


@pytest.mark.parametrize("bad", [5, None, inspect.isgenerator])
def test_an_x_that_gives_no_batches_is_rejected(bad: Any) -> None:
    with pytest.raises(TypeError, match=f"x is a {type(bad).__name__}; it must give"):
        fit(bad)


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((3, 2), np.float32),
        tf.data.Dataset.from_tensor_slices(np.zeros((3, 2))).batch(1),
        {"x": 1},
    ],
    ids=["array without y", "Dataset of inputs alone", "dict"],
)
def test_a_batch_that_is_not_a_tuple_is_rejected_before_its_step(bad: Any) -> None:
    train = Recording()
    with pytest.raises(TypeError, match=r"x gave a .* as a batch; it must be a tuple"):
        kvt.fit(train, Recording(), bad, verbose=0)
    assert train.batches == []


@pytest.mark.parametrize("name", ["validation_split", "sample_weight"])
def test_an_argument_that_needs_rows_is_rejected_with_batches(name: str) -> None:
    value = {"validation_split": 0.5, "sample_weight": np.ones(3)}[name]
    with pytest.raises(ValueError, match=f"{name} needs x and y as arrays"):
        fit(dataset(3), **{name: value})


@pytest.mark.parametrize("steps", [0, -1])
def test_fewer_than_1_step_per_epoch_is_rejected(steps: int) -> None:
    with pytest.raises(ValueError, match=f"steps_per_epoch is {steps}"):
        fit(dataset(3), steps_per_epoch=steps)


@few
@given(st.integers(1, 20), st.integers(1, 22), st.integers(1, 3))
def test_sample_weights_are_the_third_part_of_a_batch(
    n: int, batch_size: int, epochs: int
) -> None:
    x = np.arange(n, dtype=np.float32).reshape(-1, 1)
    weight = np.linspace(0, 1, n, dtype=np.float32)
    arguments: dict[str, Any] = {"epochs": epochs, "shuffle": False}
    by_rows = fit(x, x, sample_weight=weight, batch_size=batch_size, **arguments)
    parts = tf.data.Dataset.from_tensor_slices((x, x, weight)).batch(batch_size)
    by_batches = fit(parts, **arguments)
    assert by_rows[2] == by_batches[2]
    for ours, theirs in zip(by_rows[0].batches, by_batches[0].batches, strict=True):
        assert len(ours) == len(theirs) == 3
        for a, b in zip(ours, theirs, strict=True):
            assert np.array_equal(a, b)


@any_source
def test_evaluate_accepts_every_source_of_batches(kind: str) -> None:
    test = Recording()
    assert kvt.evaluate(test, SOURCES[kind](4)) == {"loss": 1.5}
    assert test.numbers == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("kind", "steps", "told"),
    [
        ("list", None, 4),
        ("Dataset", None, 4),
        ("Dataset", 2, 2),
        ("Dataset of unknown length", None, None),
        ("Dataset of unknown length", 2, 2),
        ("generator", None, None),
        ("generator", 2, 2),
    ],
)
def test_callbacks_receive_the_number_of_steps_if_it_is_known(
    kind: str, steps: int | None, told: int | None
) -> None:
    ended = Ended()
    fit(SOURCES[kind](4), steps_per_epoch=steps, callbacks=[ended])
    assert ended.params["steps"] == told


def test_the_bar_counts_steps_if_their_number_is_unknown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn: list[str] = []
    monkeypatch.setattr(progress, "live_line", lambda header: drawn.append)
    ticks: Iterator[float] = iter(range(1000))
    bar = kvt.ProgressBar(interval=0, clock=lambda: next(ticks))
    fit(of_unknown_length(3), epochs=2, callbacks=[bar])
    steps = [line.split("  ")[:2] for line in drawn if line]
    assert steps == [
        [f"Epoch {epoch}/2", f"{done} steps"] for epoch in (1, 2) for done in (1, 2, 3)
    ]
    assert capsys.readouterr().out == "Epoch 1/2  loss 1.000\nEpoch 2/2  loss 1.000\n"


def test_the_bar_shows_progress_with_steps_per_epoch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[str] = []
    monkeypatch.setattr(progress, "live_line", lambda header: drawn.append)
    ticks: Iterator[float] = iter(range(1000))
    bar = kvt.ProgressBar(interval=0, clock=lambda: next(ticks))
    fit(SOURCES["generator"](4), steps_per_epoch=4, callbacks=[bar])
    assert "2/4 steps" in drawn[1]


def test_a_dataset_in_a_graph_raises_the_error_of_tensorflow() -> None:
    given_ = dataset(2)
    with tf1.Graph().as_default(), pytest.raises(RuntimeError, match="eager mode"):
        fit(given_)


def test_endless_is_the_value_of_tensorflow() -> None:
    assert checks.ENDLESS == tf.data.INFINITE_CARDINALITY
