"""Many steps per call have the results of the loop, bit for bit."""

import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import kvt
from kvt import data
from kvt.compare import parity
from kvt.training import compiled
from kvt.training.means import Mean, batch_totals
from tests.notebooks import sections
from tests.training.test_loop import Log, in_numpy, in_tensorflow_1

pytestmark = pytest.mark.long

Section = dict[str, Any]
wide = pytest.mark.wide
LARGEST = {**dict.fromkeys(sections.MODELS, 60), "04_convolutional_network": 30}
FEW = {"batch_size": 8, "epochs": 2, "validation_split": 0.2}
MODES = [1, 2, 3, 5, 1000, "epoch"]
# Two have all parts of a graph: unrolled steps, a loop, and a smaller last batch.
SOME_MODES = [
    pytest.param(m, marks=() if m in (3, "epoch") else wide) for m in MODES[1:]
]


def train(section: Section, **options: Any) -> sections.Run:
    """Train a section's TensorFlow 2 from its initial weights."""
    for w, value in zip(section["weights"], section["initial_weights"], strict=True):
        w.assign(value)
    recorder = kvt.Recorder(lambda: [w.numpy() for w in section["weights"]])
    history = kvt.fit(
        section["train_step"],
        section["test_step"],
        section["x_train"],
        section["y_train"],
        verbose=0,
        callbacks=[recorder],
        **{"seed": section["seed"], **options},
    )
    return sections.Run(recorder.weights, history.history)


def assert_same(one: sections.Run, other: sections.Run) -> None:
    assert one.history == other.history
    assert len(one.weights) == len(other.weights) > 0
    for ours, theirs in zip(one.weights, other.weights, strict=True):
        assert parity.same_bits(ours, theirs)


@st.composite
def trainings(draw: st.DrawFn, largest: int) -> tuple[Section, Section]:
    """Draw a section's parameters, and how to train it."""
    train_size = draw(st.integers(2, largest))
    parameters = {
        "train_size": train_size,
        "learning_rate": draw(st.floats(0.001, 0.1)),
        "seed": draw(st.integers(0, 2**32 - 1)),
        "dtype": draw(st.sampled_from(["float32", "float64"])),
    }
    options = {
        "batch_size": draw(st.integers(1, train_size + 8)),
        "epochs": draw(st.integers(1, 3)),
        "validation_split": draw(st.integers(0, train_size // 2)) / train_size,
        "shuffle": draw(st.booleans()),
    }
    return parameters, options


@pytest.mark.parametrize("notebook", sections.MODELS)
def test_many_steps_per_call_have_the_bits_of_single_steps(notebook: str) -> None:
    @settings(max_examples=2 if notebook.startswith("04") else 4)
    @given(training=trainings(LARGEST[notebook]), mode=st.sampled_from(MODES[1:]))
    def property_holds(training: tuple[Section, Section], mode: int | str) -> None:
        parameters, options = training
        section = sections.define(notebook, **parameters)
        section["session"].close()
        try:
            expected = train(section, **options)
        except FloatingPointError:
            with pytest.raises(FloatingPointError, match="loss became"):
                train(section, **options, steps_per_execution=mode)
            return
        assert_same(train(section, **options, steps_per_execution=mode), expected)

    property_holds()


@pytest.fixture(scope="module", params=(sections.MODELS[0], sections.MODELS[2]))
def under_xla(request: pytest.FixtureRequest) -> tuple[Section, sections.Run]:
    """A section, and its training by XLA in single steps."""
    section = sections.define(request.param, train_size=50)
    section["session"].close()
    return section, train(section, **FEW, jit_compile=True)


@pytest.mark.parametrize("mode", SOME_MODES)
def test_xla_has_the_same_bits_for_any_number_of_steps_per_call(
    under_xla: tuple[Section, sections.Run], mode: int | str
) -> None:
    section, single = under_xla
    options = {**FEW, "steps_per_execution": mode}
    assert_same(train(section, **options, jit_compile=True), single)


# Callbacks and metrics


def line(rate: float = 0.1) -> tuple[Any, Any, Callable[[], np.ndarray]]:
    """Return train step, test step and weight of a line; one metric is per example."""
    w = tf.Variable([[3.0]])

    @tf.function
    def test_step(x: Any, y: Any, weight: Any = 1.0) -> dict[str, Any]:
        squares = tf.square(y - x @ w)[:, 0]
        return {"loss": tf.reduce_mean(weight * squares), "squares": squares}

    @tf.function
    def train_step(x: Any, y: Any, weight: Any = 1.0) -> dict[str, Any]:
        with tf.GradientTape() as tape:
            logs = test_step(x, y, weight)
        w.assign_sub(rate * tape.gradient(logs["loss"], w))
        return logs

    return train_step, test_step, w.numpy


def points(n: int) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(n).standard_normal((n, 1)).astype(np.float32)
    return x, np.float32(0.5) * x


def fit_line(n: int, **options: Any) -> tuple[dict[str, list[float]], bytes, Log]:
    """Return history, weight and calls of a training on n points."""
    train_step, test_step, weight = line()
    log = Log()
    history = kvt.fit(
        train_step, test_step, *points(n), verbose=0, callbacks=[log], **options
    )
    return history.history, weight().tobytes(), log


@pytest.mark.parametrize(
    ("mode", "numbers"),
    [(1, [0, 1, 2, 3, 4]), (2, [1, 3, 5]), (5, [4]), (7, [6]), ("epoch", [4])],
)
def test_callbacks_are_called_once_per_execution_with_the_number_of_keras(
    mode: int | str, numbers: list[int]
) -> None:
    _, _, log = fit_line(9, batch_size=2, epochs=2, steps_per_execution=mode)
    numbers_called = [call[1] for call in log.calls if call[0] == "on_train_batch_end"]
    assert numbers_called == numbers * 2
    assert log.calls[1] == (
        "set_params",
        {"verbose": 0, "epochs": 2, "steps": 5},
    )
    if mode != "epoch":
        assert in_keras(9, int(mode)) == (numbers, 5)


def in_keras(n: int, steps_per_execution: int, **more: int) -> tuple[list[int], int]:
    """Train on n examples, 2 per batch: return the numbers passed, and the updates."""
    import keras

    heard = []

    class Hear(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: object = None) -> None:
            heard.append(batch)

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(
        "sgd", "mse", steps_per_execution=steps_per_execution, jit_compile=False
    )
    model.fit(*points(n), batch_size=2, verbose=0, callbacks=[Hear()], **more)
    return heard, int(model.optimizer.iterations)


@pytest.mark.parametrize("mode", SOME_MODES)
def test_running_metrics_are_those_after_the_last_step_of_the_execution(
    mode: int | str,
) -> None:
    _, _, single = fit_line(23, batch_size=2)
    _, _, log = fit_line(23, batch_size=2, steps_per_execution=mode)

    def metrics(log: Log) -> dict[int, Any]:
        return {
            min(call[1], 11): call[2]
            for call in log.calls
            if call[0] == "on_train_batch_end"
        }

    assert metrics(log).items() <= metrics(single).items()


@pytest.mark.parametrize("mode", SOME_MODES)
def test_sample_weights_resuming_and_validation_data_have_the_same_results(
    mode: int | str,
) -> None:
    n = 23
    options = {
        "batch_size": 4,
        "epochs": 3,
        "initial_epoch": 1,
        "sample_weight": np.linspace(0, 1, n, dtype=np.float32),
        "validation_data": points(7),
    }
    *single, _ = fit_line(n, **options)
    *many, _ = fit_line(n, **options, steps_per_execution=mode)
    assert many == single
    assert len(single[0]["val_squares"]) == 2


def test_a_callback_can_stop_the_training() -> None:
    class Stop(kvt.Callback):
        def on_epoch_end(self, epoch: int, logs: object = None) -> None:
            self.model.stop_training = epoch == 1

    train_step, test_step, _ = line()
    history = kvt.fit(
        train_step,
        test_step,
        *points(9),
        epochs=5,
        callbacks=[Stop()],
        verbose=0,
        steps_per_execution="epoch",
    )
    assert history.epoch == [0, 1]


@given(
    n=st.integers(1, 60),
    batch_size=st.integers(1, 70),
    mode=st.sampled_from(MODES),
)
@settings(max_examples=8)
def test_evaluation_has_the_same_results_and_updates_nothing(
    n: int, batch_size: int, mode: int | str
) -> None:
    _, test_step, weight = line()
    before = weight()
    expected = kvt.evaluate(test_step, *points(n), batch_size=batch_size)
    metrics = kvt.evaluate(
        test_step, *points(n), batch_size=batch_size, steps_per_execution=mode
    )
    assert metrics == expected
    assert weight() == before


def test_xla_compiles_single_steps() -> None:
    history, weight, _ = fit_line(23, batch_size=4, jit_compile=True)
    single, expected, _ = fit_line(23, batch_size=4)
    np.testing.assert_allclose(history["loss"], single["loss"], rtol=1e-5)
    np.testing.assert_allclose(
        np.frombuffer(weight, "f4"), np.frombuffer(expected, "f4"), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("mode", "place"),
    [(1, "step 3 of 6"), (4, "step 4 of 6"), ("epoch", "step 6 of 6")],
)
def test_a_loss_that_is_not_finite_is_reported_after_its_execution(
    mode: int | str, place: str
) -> None:
    x, y = points(6)
    y[2] = 3e38
    train_step, test_step, _ = line()
    with pytest.raises(FloatingPointError, match=f"loss became .* epoch 1, {place};"):
        kvt.fit(
            train_step,
            test_step,
            x,
            y,
            batch_size=1,
            shuffle=False,
            verbose=0,
            steps_per_execution=mode,
        )


numbers = st.floats(-1e6, 1e6, width=32)


@given(
    values=st.lists(
        st.lists(numbers, min_size=17, max_size=17), min_size=1, max_size=40
    ),
    dtype=st.sampled_from(["float32", "float64"]),
    size=st.integers(1, 17),
)
def test_adding_many_batches_has_the_bits_of_adding_one_after_the_other(
    values: list[list[float]], dtype: str, size: int
) -> None:
    rows = np.array(values, dtype)
    one, all_at_once = Mean(), Mean()
    for _ in range(2):  # the second time starts from the first
        batches = [{"loss": row[0], "accuracy": row[:size]} for row in rows]
        for logs in batches:
            one.update(logs, size)
        totals = [batch_totals(logs, size) for logs in batches]
        stacked = {name: np.array([t[name] for t in totals]) for name in totals[0]}
        all_at_once.add(stacked, size * len(rows))
        assert all_at_once.result() == one.result()


def test_an_epoch_reads_the_loaded_images_in_place() -> None:
    x = data.load("digits").x_train
    before = compiled._in_place(x)
    x[0, 0] = 0.5
    assert before[0, 0] == 0.5


@pytest.mark.parametrize("how", ["elsewhere", "backwards", "read only"])
def test_an_epoch_copies_what_it_cannot_read_in_place(how: str) -> None:
    values = np.arange(33, dtype=np.float32).reshape(11, 3)
    x = data.empty((11, 3), "float32")
    if how == "elsewhere":
        x = data.empty((34,), "float32")[1:].reshape(11, 3)
    if how == "backwards":
        x = x[::-1]
    x[...] = values
    x.flags.writeable = how != "read only"
    rows = tf.gather(compiled._in_place(x), range(11))  # crashes if unaligned
    np.testing.assert_array_equal(rows, values)


def test_a_step_may_cast_images_of_bytes_batch_by_batch() -> None:
    section = sections.define("02_logistic_regression", train_size=40)
    section["session"].close()
    step = section["train_step"]
    section["x_train"] = np.rint(section["x_train"] * 255).astype(np.uint8)

    @tf.function(input_signature=[tf.TensorSpec((None, 784), tf.uint8), step_y()])
    def from_bytes(x: Any, y: Any) -> Mapping[str, Any]:
        return step(tf.cast(x, "float32") / 255, y)

    section["train_step"] = from_bytes
    single = train(section, batch_size=16)
    for mode in MODES[1:]:
        assert_same(train(section, batch_size=16, steps_per_execution=mode), single)


def step_y() -> Any:
    return tf.TensorSpec((None, 10), tf.float32)


# Invalid arguments


@pytest.mark.parametrize("dialect", [in_tensorflow_1, in_numpy])
@pytest.mark.parametrize(
    "mode",
    [
        {"steps_per_execution": 2},
        {"steps_per_execution": "epoch"},
        {"jit_compile": True},
    ],
)
def test_session_and_numpy_steps_are_rejected_before_anything_runs(
    dialect: Callable[[float], tuple[Any, Any, Any]], mode: dict[str, Any]
) -> None:
    train_step, test_step, weight = dialect(0.1)
    log, before = Log(), weight().copy()
    message = (
        r"train_step is a function; it must be a tf\.function .*; decorate it with"
    )
    with pytest.raises(TypeError, match=message):
        kvt.fit(train_step, test_step, *points(9), callbacks=[log], **mode)
    assert log.calls == []
    assert weight() == before
    with pytest.raises(TypeError, match="test_step is a function"):
        kvt.evaluate(test_step, *points(9), **mode)


def test_an_invalid_test_step_is_rejected_before_the_first_update() -> None:
    train_step, test_step, weight = line()
    with pytest.raises(TypeError, match="test_step is a function"):
        kvt.fit(
            train_step,
            lambda x, y: test_step(x, y),
            *points(9),
            validation_split=0.5,
            steps_per_execution=2,
        )
    assert weight() == 3


@pytest.mark.parametrize(
    ("value", "error"),
    [(0, ValueError), (2.0, TypeError), ("all", TypeError), (True, TypeError)],
)
def test_an_invalid_step_count_is_rejected(value: Any, error: type[Exception]) -> None:
    train_step, test_step, _ = line()
    message = f"steps_per_execution is {value!r}; it must be an integer of at least 1"
    with pytest.raises(error, match=message):
        kvt.fit(train_step, test_step, *points(9), steps_per_execution=value)


@pytest.mark.parametrize("argument", ["steps_per_epoch", "validation_steps", "steps"])
def test_steps_that_keras_would_round_up_are_rejected(argument: str) -> None:
    train_step, test_step, weight = line()
    message = rf"{argument}.* is 3; it must be a multiple of steps_per_execution, 2.*; "
    run: Any = partial(kvt.fit, train_step, test_step)
    if argument == "validation_steps":
        run = partial(run, validation_data=points(20))
    elif argument == "steps":
        run = partial(kvt.evaluate, test_step)
    more: dict[str, Any] = {argument: 3, "batch_size": 2, "steps_per_execution": 2}
    with pytest.raises(ValueError, match=message + "use 4"):
        run(*points(20), **more)
    assert weight() == 3
    assert in_keras(20, 2, steps_per_epoch=3) == ([1, 3], 4)


def test_steps_that_end_with_the_data_need_not_be_a_multiple() -> None:
    _, _, log = fit_line(20, batch_size=2, steps_per_epoch=10, steps_per_execution=3)
    numbers = [call[1] for call in log.calls if call[0] == "on_train_batch_end"]
    assert in_keras(20, 3, steps_per_epoch=10) == (numbers, 10)


def test_single_steps_do_not_import_tensorflow() -> None:
    code = (
        "import sys, kvt, numpy as np; x = np.zeros((4, 1)); "
        "step = lambda x, y: {'loss': 0.0}; "
        "kvt.fit(step, step, x, x, shuffle=False, verbose=0); "
        "print('tensorflow' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout == "False\n"


@pytest.mark.parametrize("kind", ["ragged", "sparse", "of two widths"])
def test_batches_that_cannot_be_joined_are_rejected_before_the_first_step(
    kind: str,
) -> None:
    total = tf.Variable(0.0)

    @tf.function(autograph=False)
    def step(x: Any, y: Any) -> dict[str, Any]:
        return {"loss": total.assign_add(1.0)}

    x, y = np.eye(3, dtype=np.float32), np.ones(3, np.float32)
    made: Any = {"ragged": tf.RaggedTensor.from_tensor, "sparse": tf.sparse.from_dense}
    other = made[kind](x) if kind in made else x[:, :2]
    with pytest.raises(ValueError, match="dense arrays of one shape; convert or pad"):
        kvt.fit(step, step, [(x, y), (other, y)], steps_per_execution=2, verbose=0)
    assert total.numpy() == 0
