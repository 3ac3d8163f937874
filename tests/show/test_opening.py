"""What the report opens with: the proof, and what breaks it."""

import json
from hashlib import sha256
from typing import Any

import numpy as np
import pytest

from kvt.compare.parity import ParityError
from kvt.show import opening
from kvt.show.opening import Opening

CAUSE = {
    "weights": 25_450,
    "identical": [25_450, 9_000],
    "keras_loss": [0.5],
    "keras_accuracy": [0.75],
    "changed_loss": [None],
    "changed_accuracy": [0.1],
}


def weights(value: float = 2.0) -> list[Any]:
    kernel = np.full((2, 3), value, "float32")
    return [kernel, np.zeros(3, "float32")]


def data(shown: Opening) -> Any:
    bundle = shown._repr_mimebundle_()
    assert bundle["text/markdown"].startswith("| ")
    (kind,) = (name for name in bundle if name.endswith("+json"))
    return json.loads(json.dumps(bundle[kind]))


def test_a_proof_counts_weights_and_hashes_each_epoch() -> None:
    epochs = [weights(), weights(3.0)]
    found = data(opening.proof(epochs, [weights(), weights(3.0)]))
    assert found["identical"] == found["weights"] == 9
    assert found["keras"] == found["tf2"]
    assert len(set(found["keras"])) == 2
    bits = b"".join(w.tobytes() for w in epochs[1])
    assert sha256(bits).hexdigest().startswith(found["tf2"][1])


def test_one_bit_that_differs_is_no_proof() -> None:
    other = weights()
    other[1][2] = -0.0  # equal as a number
    with pytest.raises(ParityError, match="epoch 2: the weights differ from Keras"):
        opening.proof([weights(), weights()], [weights(), other])


def test_a_proof_needs_as_many_epochs_on_both_sides() -> None:
    with pytest.raises(ValueError, match="shorter"):
        opening.proof([weights()] * 2, [weights()])


def test_causes_link_to_their_sections_and_keep_nan() -> None:
    shown = opening.broken({"Not shuffled": CAUSE})
    (row,) = shown.table.rows
    assert row == [
        "[Not shuffled](09_why_results_differ.ipynb#Not-shuffled)",
        "9,000 of 25,450",
        "0.500 → NaN",
        "0.750 → 0.100",
    ]
    assert data(shown) == [{"name": "Not shuffled", **CAUSE}]


def test_without_causes_the_table_is_empty() -> None:
    assert data(opening.broken({})) == []
