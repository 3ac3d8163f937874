"""The claim: all dialects hold the same bits after every epoch."""

import math
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kvt.compare import parity
from tests.notebooks import sections

# Drawn by hypothesis, besides those of ODD. A convolution takes longest.
EXAMPLES = dict(zip(sections.MODELS, (2, 2, 3, 1), strict=True))
LARGEST = {**dict.fromkeys(sections.MODELS, 60), "04_convolutional_network": 30}

# Drawn examples cluster. With these, most pairs of dtype, steps per call, epochs,
# shuffling, validation and size of the last batch are tried, by two models each.
NAMES = ("train_size", "batch_size", "epochs", "validation_split")
NAMES += ("dtype", "steps_per_execution")
OTHERS = {"learning_rate": 0.05, "seed": 7}
ODD = [
    (dict(zip(NAMES, values, strict=True)), shuffle)
    for *values, shuffle in (
        (40, 12, 2, 0.2, "float64", 2, True),
        (36, 9, 3, 0.25, "float64", 5, False),
        (29, 29, 1, 0.0, "float64", 1000, True),
        (33, 8, 3, 0.0, "float32", 2, False),
        (24, 5, 2, 0.5, "float64", 1, False),
    )
]


@st.composite
def trainings(draw: st.DrawFn, largest: int) -> dict[str, Any]:
    """Draw valid parameters of a model notebook, with partial last batches."""
    train_size = draw(st.integers(2, largest))
    n_validation = draw(st.integers(0, train_size // 2))
    return {
        "train_size": train_size,
        "batch_size": draw(st.integers(1, train_size + 8)),
        "epochs": draw(st.integers(1, 3)),
        "learning_rate": draw(st.floats(0.001, 0.5)),
        "validation_split": n_validation / train_size,
        "seed": draw(st.integers(0, 2**32 - 1)),
        "dtype": draw(st.sampled_from(["float32", "float64"])),
        "steps_per_execution": draw(st.sampled_from([1, 2, 5, 1000])),
    }


def check(notebook: str, parameters: dict[str, Any], shuffle: bool) -> None:
    """Train all dialects and compare bits; if one diverges, Keras must diverge too."""
    section = sections.define(notebook, **parameters)
    try:
        runs = sections.train(section, shuffle=shuffle)
    except FloatingPointError:
        weights = section["model"].get_weights()
        assert not all(math.isfinite(abs(w).max()) for w in weights)
        return
    finally:
        section["session"].close()
    for dialect in ("tf2", "tf1"):
        distance = sections.apart(runs, dialect)
        assert distance.bit_for_bit, (dialect, distance)
        assert parity.same_bits(runs["keras"].weights[-1], runs[dialect].weights[-1])
    assert {w.dtype.name for w in runs["keras"].weights[-1]} == {parameters["dtype"]}


@pytest.mark.parametrize("notebook", sections.MODELS)
def test_every_dialect_trains_to_the_same_bits(notebook: str) -> None:
    @settings(max_examples=EXAMPLES[notebook])
    @given(parameters=trainings(LARGEST[notebook]), shuffle=st.booleans())
    def property_holds(parameters: dict[str, Any], shuffle: bool) -> None:
        check(notebook, parameters, shuffle)

    for parameters, shuffle in ODD[sections.MODELS.index(notebook) % 2 :: 2]:
        property_holds = example(parameters | OTHERS, shuffle)(property_holds)
    property_holds()


@pytest.mark.wide
@pytest.mark.parametrize("notebook", sections.MODELS)
def test_every_dialect_trains_to_the_same_bits_for_all_odd_sizes(notebook: str) -> None:
    for parameters, shuffle in ODD:
        check(notebook, parameters | OTHERS, shuffle)


@pytest.mark.parametrize("notebook", sections.MODELS)
def test_one_changed_bit_is_noticed(notebook: str) -> None:
    section = sections.define(notebook, train_size=20, epochs=1, batch_size=8)
    runs = sections.train(section)
    section["session"].close()
    weight = runs["tf2"].weights[0][0]
    weight.view("int32").reshape(-1)[0] ^= 1

    distance = sections.apart(runs, "tf2")

    assert distance.weights_max_ulp == [1]
    assert distance.history_equal
    assert not distance.bit_for_bit
