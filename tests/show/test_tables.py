"""The tables that the notebooks show."""

from typing import Any

import pytest

from kvt.compare.parity import Parity
from kvt.show import tables
from kvt.training import format_metrics


def run(notebook: str, **test: float) -> dict[str, Any]:
    """Return what a results JSON holds, as far as a table shows it."""
    results = {
        "notebook": notebook,
        "dialects": {
            name: {
                "history": {
                    "accuracy": [0.1, 0.7504],
                    "val_accuracy": [0.2, 0.5],
                    "val_loss": [9.0, 0.3],
                    "loss": [8.0, 0.24951],
                },
                "test": test,
                "parameters": 7850,
                "seconds": 1.239,
                "epoch_seconds": [0.9, 0.1, 0.3, 0.2],
                "lines": lines,
            }
            for name, lines in (("keras", 20), ("tf2", 30), ("tf1", 45))
        },
        "parity": {
            "tf2": {"weights_max_ulp": [0, 0], "history_equal": True},
            "tf1": {"weights_max_ulp": [1, 12345], "history_equal": False},
        },
    }
    results["dialects"]["tf2"]["program_lines"] = 25
    return results


def markdown(table: tables.Table) -> list[str]:
    return table._repr_markdown_().split("\n")


# Metrics


def test_loss_comes_first_and_validation_last() -> None:
    logs = {"val_accuracy": 4.0, "accuracy": 2.0, "val_loss": 3.0, "loss": 1.0}
    assert format_metrics(logs) == (
        "loss 1.000  accuracy 2.000  val_loss 3.000  val_accuracy 4.000"
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.12349, "0.123"), (0.9996, "1.000"), (1234.5, "1234.500"), (1e-9, "0.000")],
)
def test_metrics_have_three_decimals(value: float, text: str) -> None:
    assert format_metrics({"loss": value}) == f"loss {text}"


def test_no_metrics_are_no_text() -> None:
    assert format_metrics({}) == ""


# The table itself


def test_markdown_has_a_rule_and_numbers_to_the_right() -> None:
    table = tables.Table(["name", "a", "b"], [["x", "1", "2"], ["y", "3", "4"]])
    assert markdown(table) == [
        "| name | a | b |",
        "| --- | ---: | ---: |",
        "| x | 1 | 2 |",
        "| y | 3 | 4 |",
    ]


def test_plain_text_is_aligned() -> None:
    table = tables.Table(["name", "n"], [["x", "1,000"], ["longer", "2"]])
    assert repr(table).split("\n") == [
        "name        n",
        "x       1,000",
        "longer      2",
    ]


def test_columns_of_names_are_aligned_to_the_left() -> None:
    table = tables.Table(["a", "long", "n"], [["x", "y", "100"]], names=2)
    assert markdown(table)[1] == "| --- | --- | ---: |"
    assert repr(table).split("\n") == ["a  long    n", "x  y     100"]


def test_a_row_of_another_length_is_rejected_in_plain_text() -> None:
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        repr(tables.Table(["a", "b"], [["1"]]))


# What the notebooks show


def test_agreement_says_yes_only_to_equal_bits_and_histories() -> None:
    table = tables.agreement(
        {
            "tf2": Parity([0.0, 0.0], [0, 0], history_equal=True),
            "tf1": Parity([0.0, 1e-8], [0, 1234], history_equal=False),
        }
    )
    assert markdown(table)[2:] == [
        "| TensorFlow 2 | yes | yes | 0 |",
        "| TensorFlow 1 | no | no | 1,234 |",
    ]


def test_agreement_distinguishes_weights_from_history() -> None:
    table = tables.agreement(
        {
            "tf2": Parity([0.0], [0], history_equal=False),
            "tf1": Parity([1e-8], [1], history_equal=True),
        }
    )
    assert [row[1:3] for row in table.rows] == [["yes", "no"], ["no", "yes"]]


def test_glance_has_a_row_per_model_and_dialect_and_links_to_the_evidence() -> None:
    table = tables.at_a_glance([run("02_logistic_regression", loss=9, accuracy=0.8766)])
    link = "[Logistic regression](02_logistic_regression.ipynb)"
    there = "(02_logistic_regression.ipynb#Do-they-agree?)"
    worst = f"[12,345, history differs]{there}"
    assert markdown(table) == [
        "| model | dialect | distance from Keras, ulp | test accuracy | lines of code "
        "| whole program | seconds |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
        f"| {link} | Keras | [reference]{there} | 0.877 | 20 | – | 1.24 |",
        f"|  | TensorFlow 2 | [0]{there} | 0.877 | 30 | 25 | 1.24 |",
        f"|  | TensorFlow 1 | {worst} | 0.877 | 45 | – | 1.24 |",
    ]


def test_glance_shows_the_loss_of_a_model_without_accuracy() -> None:
    table = tables.at_a_glance([run("01_linear_regression", loss=0.0249)])
    assert {row[3] for row in table.rows} == {"loss 0.025"}


def test_lines_are_multiples_of_keras_with_kvt_fit_and_as_a_whole_program() -> None:
    table = tables.lines([run("01_linear_regression"), run("02_logistic_regression")])
    assert table.header[1:] == [
        "Keras",
        "TensorFlow 2 with kvt.fit",
        "TensorFlow 1 with kvt.fit",
        "TensorFlow 2, whole program",
    ]
    assert markdown(table)[2:] == [
        "| Linear regression | 20 | 30 (×1.5) | 45 (×2.2) | 25 (×1.2) |",
        "| Logistic regression | 20 | 30 (×1.5) | 45 (×2.2) | 25 (×1.2) |",
    ]


def test_side_by_side_shows_the_last_epoch_in_three_decimals() -> None:
    dialects = run("02_x", accuracy=0.9, loss=0.1234)["dialects"]
    three = "{0} | {0} | {0} |".format
    assert markdown(tables.side_by_side(dialects)) == [
        "|  | Keras | TensorFlow 2 | TensorFlow 1 |",
        "| --- | ---: | ---: | ---: |",
        f"| loss | {three('0.250')}",
        f"| accuracy | {three('0.750')}",
        f"| val_loss | {three('0.300')}",
        f"| val_accuracy | {three('0.500')}",
        f"| test loss | {three('0.123')}",
        f"| test accuracy | {three('0.900')}",
        f"| parameters | {three('7,850')}",
        "| lines of code | 20 | 30 | 45 |",
        "| lines of code, whole program | – | 25 | – |",
    ]


def test_seconds_are_those_of_the_whole_the_first_and_the_median_epoch() -> None:
    rows = tables.seconds(run("02_x")["dialects"]).rows
    assert [row[:2] for row in rows] == [
        ["whole training", "1.24"],
        ["first epoch", "0.900"],
        ["median epoch", "0.300"],
    ]


# Modes of execution

Modes = dict[str, dict[str, tuple[float, float]]]


def timed(modes: Modes, *, epochs: int = 10, train: int = 1_000) -> dict[str, Any]:
    """Return a run from the start-up seconds and µs per example of its modes."""
    return {
        "notebook": "01_linear_regression",
        "data": {"train": train},
        "dialects": {name: {"epoch_seconds": [1.0] * epochs} for name in modes},
        "speed": {
            name: {
                mode: {
                    "examples": 100,
                    "epoch_seconds": [start + time / 1e4, *[time / 1e4] * 3],
                }
                for mode, (start, time) in of.items()
            }
            for name, of in modes.items()
        },
    }


def same_start(**modes: dict[str, float]) -> dict[str, Any]:
    """Return a run whose modes have no start-up costs."""
    return timed(
        {
            name: {mode: (0.0, time) for mode, time in of.items()}
            for name, of in modes.items()
        }
    )


def test_the_first_epoch_has_a_column_and_the_fastest_of_the_others_counts() -> None:
    speed = {
        "keras": {"graph": {"examples": 10, "epoch_seconds": [2.5, 0.3, 0.1, 0.2]}},
        "tf2": {"epoch": {"examples": 10, "epoch_seconds": [0.02, 0.001]}},
        "tf1": {"graph": {"examples": 20, "epoch_seconds": [0.05, 0.1, 0.1, 9.0]}},
    }
    assert markdown(tables.speed(speed))[2:] == [
        "| Keras | graph | 2.50 | 10,000 | ×1.00 |",
        "| TensorFlow 2 | epoch | 0.02 | 100 | ×100 |",
        "| TensorFlow 1 | graph | 0.05 | 5,000 | ×2.00 |",
    ]


def test_modes_have_a_fixed_order() -> None:
    run = same_start(
        tf2={"XLA": 1, "eager": 9, "graph": 3, "epoch": 2}, keras={"graph": 4}
    )
    rows = tables.speed(run["speed"]).rows
    assert [row[:2] for row in rows] == [
        ["Keras", "graph"],
        ["TensorFlow 2", "eager"],
        ["TensorFlow 2", "graph"],
        ["TensorFlow 2", "epoch"],
        ["TensorFlow 2", "XLA"],
    ]
    assert [row[4] for row in rows] == ["×1.00", "×0.44", "×1.33", "×2.00", "×4.00"]


def test_the_least_time_of_each_model_is_bold_and_a_missing_one_a_dash() -> None:
    one = same_start(keras={"graph": 1234, "epoch": 98.7}, tf1={"graph": 100})
    two = same_start(keras={"graph": 9.87}, tf1={"graph": 0.123})
    assert markdown(tables.speeds([one, two]))[2:] == [
        "| Keras | graph | 1,234 | 9.9 |",
        "| Keras | epoch | **99** | – |",
        "| TensorFlow 1 | graph | 100 | **0.12** |",
    ]


def test_advice_is_the_simplest_mode_unless_another_gains_a_fifth() -> None:
    run = same_start(
        keras={"graph": 120.0, "epoch": 101.0, "XLA": 200.0},
        tf2={"graph": 100.0, "epoch": 50.0, "XLA": 4.0},
    )
    assert markdown(tables.advice([run]))[2:] == [
        "| Linear regression | Keras | graph | 120 | ×1.00 | 0 |",
        "| Linear regression | TensorFlow 2 | XLA | 4.0 | ×25 | 0 |",
    ]


def test_advice_says_after_how_many_epochs_a_mode_repays_its_start() -> None:
    # It saves 10 ms per epoch of 1,000 examples, and starts 0.5 s later.
    run = timed({"keras": {"graph": (0.1, 20.0), "epoch": (0.6, 10.0)}})
    assert tables.advice([run]).rows[0][2:] == ["epoch", "10", "×2.00", "50"]
    sooner = timed({"keras": {"graph": (0.6, 20.0), "epoch": (0.1, 10.0)}})
    assert tables.advice([sooner]).rows[0][-1] == "0"


def test_advice_leaves_out_a_dialect_without_graph_and_sessions() -> None:
    run = same_start(keras={"graph": 9.0}, tf2={"eager": 1.0}, tf1={"graph": 1.0})
    assert [row[1] for row in tables.advice([run]).rows] == ["Keras"]
