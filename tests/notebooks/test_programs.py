"""The whole programs train as Keras does, to the last bit, and need nothing of kvt."""

import contextlib
import io
from functools import partial
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kvt import data
from kvt.compare import parity
from tests.notebooks import sections

EXAMPLES = dict(zip(sections.MODELS, (6, 6, 6, 2), strict=True))
LARGEST = {**dict.fromkeys(sections.MODELS, 60), "04_convolutional_network": 30}
every_program = pytest.mark.parametrize("notebook", sections.MODELS)


def program(notebook: str) -> type:
    """Run the program's source on its own; return the class that it defines."""
    namespace: dict[str, Any] = {"__name__": "program"}
    source = sections.tagged(notebook, "program")["source"]
    exec(compile(source, f"{notebook}.py", "exec"), namespace)
    if not data.keras_before("3.16"):  # as in the cell after the program
        shuffle = partial(tf.random.experimental.stateless_shuffle, seed=[0, 0])
        namespace |= {"shuffle": shuffle, "add": tf.nn.bias_add}
    (found,) = (one for one in namespace.values() if isinstance(one, type))
    return found


def keras_model(notebook: str, dtype: str, seed: int, learning_rate: float) -> Any:
    """Run the notebook's own cells that define and compile the Keras model."""
    keras.backend.clear_session(free_memory=False)
    keras.config.set_dtype_policy(dtype)
    keras.config.set_floatx(dtype)
    keras.utils.set_random_seed(seed)
    namespace = {"keras": keras, "learning_rate": learning_rate}
    namespace["steps_per_execution"] = 1
    with contextlib.redirect_stdout(io.StringIO()):
        for cell in sections.cells(notebook):
            if cell["id"] in ("keras-model", "keras-loss-and-optimizer"):
                exec(cell["source"], namespace)
    return namespace["model"]


def arrays(model: Any, n: int, dtype: str) -> tuple[Any, Any]:
    """Return n random examples and targets for a model: x (n, …), y (n, …)."""
    generator = np.random.default_rng(n)
    x = generator.uniform(size=(n, *model.input_shape[1:])).astype(dtype)
    if model.output_shape[1] == 1:
        return x, (0.5 * x + 1).astype(dtype)
    return x, np.eye(10, dtype=dtype)[generator.integers(10, size=n)]


@st.composite
def trainings(draw: st.DrawFn, largest: int) -> dict[str, Any]:
    """Draw what can be passed to a program, with partial last batches."""
    n = draw(st.integers(2, largest))
    return {
        "n": n,
        "batch_size": draw(st.integers(1, n + 8)),
        "epochs": draw(st.integers(1, 3)),
        "learning_rate": draw(st.floats(0.001, 0.5)),
        "validation_split": draw(st.integers(0, n // 2)) / n,
        "seed": draw(st.integers(0, 2**32 - 1)),
        "dtype": draw(st.sampled_from(["float32", "float64"])),
    }


def check(
    notebook: str,
    *,
    n: int,
    batch_size: int,
    epochs: int,
    learning_rate: float,
    validation_split: float,
    seed: int,
    dtype: str,
) -> None:
    """Train Keras's model and the program; compare weights, history, test metrics."""
    model = keras_model(notebook, dtype, seed, learning_rate)
    x, y = arrays(model, n, dtype)
    trained = program(notebook)(model.get_weights(), learning_rate)
    expected = model.fit(
        x,
        y,
        batch_size=batch_size,
        epochs=epochs,
        validation_split=validation_split,
        verbose=0,
    )

    history = trained.fit(x, y, batch_size, epochs, validation_split, seed)

    weights = [w.numpy() for w in trained.weights]
    assert parity.same_bits(weights, model.get_weights())
    assert parity.same_history(history, expected.history)
    assert {w.dtype.name for w in weights} == {dtype}
    test = model.evaluate(x, y, batch_size=batch_size, return_dict=True, verbose=0)
    assert parity.same_history(trained.evaluate(x, y, batch_size), test)
    assert parity.same_bits([w.numpy() for w in trained.weights], weights)


@every_program
def test_the_program_trains_to_the_bits_of_keras(notebook: str) -> None:
    @settings(max_examples=EXAMPLES[notebook])
    @given(parameters=trainings(LARGEST[notebook]))
    @example({"n": 24, "batch_size": 5, "epochs": 3, "validation_split": 0.5})
    @example({"n": 21, "batch_size": 21, "epochs": 2, "validation_split": 0.0})
    @example({"n": 25, "batch_size": 8, "epochs": 2, "dtype": "float64"})
    def property_holds(parameters: dict[str, Any]) -> None:
        others = {"learning_rate": 0.05, "seed": 7, "dtype": "float32"}
        others["validation_split"] = 0.2
        check(notebook, **others | parameters)

    property_holds()


@every_program
def test_the_program_does_not_depend_on_the_callers_random_state(notebook: str) -> None:
    trained = program(notebook)
    model = keras_model(notebook, "float32", 3, 0.1)
    x, y = arrays(model, 12, "float32")
    histories = []
    for seed in (0, 99):
        keras.utils.set_random_seed(seed)
        keras.random.normal((seed + 1,))
        one = trained(model.get_weights(), 0.1)
        histories.append(one.fit(x, y, 5, 2, 0.25, seed=3))
    assert histories[0] == histories[1]


@every_program
def test_the_seed_decides_the_order_as_in_keras(notebook: str) -> None:
    trained = program(notebook)
    model = keras_model(notebook, "float32", 3, 0.1)
    x, y = arrays(model, 12, "float32")
    one, other = (
        trained(model.get_weights(), 0.1).fit(x, y, 5, 1, 0.0, seed=seed)
        for seed in (0, 1)
    )
    assert (one != other) == data.keras_before("3.16")
