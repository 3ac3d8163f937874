"""What holds for the tables and figures that the notebooks print."""

from typing import Any

import pytest

from kvt import tables
from kvt.parity import Parity


def run(notebook: str, **test: float) -> dict[str, Any]:
    """Return what a results JSON holds, as far as a table shows it."""
    return {
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


def markdown(table: tables.Table) -> list[str]:
    return table._repr_markdown_().split("\n")


# Figures


def test_loss_comes_first_and_validation_last() -> None:
    logs = {"val_accuracy": 4.0, "accuracy": 2.0, "val_loss": 3.0, "loss": 1.0}
    assert tables.figures(logs) == (
        "loss 1.000  accuracy 2.000  val_loss 3.000  val_accuracy 4.000"
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.12349, "0.123"), (0.9996, "1.000"), (1234.5, "1234.500"), (1e-9, "0.000")],
)
def test_figures_have_three_decimals(value: float, text: str) -> None:
    assert tables.figures({"loss": value}) == f"loss {text}"


def test_no_figures_are_no_text() -> None:
    assert tables.figures({}) == ""


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


def test_row_of_another_length_is_refused_in_plain_text() -> None:
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
        "| TensorFlow 2 | yes | yes | 0 ulp |",
        "| TensorFlow 1 | no | no | 1,234 ulp |",
    ]


def test_agreement_of_weights_and_of_history_are_told_apart() -> None:
    table = tables.agreement(
        {
            "tf2": Parity([0.0], [0], history_equal=False),
            "tf1": Parity([1e-8], [1], history_equal=True),
        }
    )
    assert [row[1:3] for row in table.rows] == [["yes", "no"], ["no", "yes"]]


def test_glance_has_a_row_a_model_and_dialect_and_links_to_the_evidence() -> None:
    table = tables.at_a_glance([run("02_logistic_regression", loss=9, accuracy=0.8766)])
    link = "[Logistic regression](02_logistic_regression.ipynb)"
    there = "(02_logistic_regression.ipynb#Do-they-agree?)"
    worst = f"[12,345 ulp, history differs]{there}"
    assert markdown(table) == [
        "| model | dialect | apart from Keras | test accuracy | lines | seconds |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
        f"| {link} | Keras | [reference]{there} | 0.877 | 20 | 1.24 |",
        f"|  | TensorFlow 2 | [0 ulp]{there} | 0.877 | 30 | 1.24 |",
        f"|  | TensorFlow 1 | {worst} | 0.877 | 45 | 1.24 |",
    ]


def test_glance_shows_the_loss_of_a_model_without_accuracy() -> None:
    table = tables.at_a_glance([run("01_linear_regression", loss=0.0249)])
    assert {row[3] for row in table.rows} == {"loss 0.025"}


def test_lines_are_told_as_multiples_of_keras() -> None:
    table = tables.lines([run("01_linear_regression"), run("02_logistic_regression")])
    assert markdown(table)[2:] == [
        "| Linear regression | 20 | 30 (×1.5) | 45 (×2.2) |",
        "| Logistic regression | 20 | 30 (×1.5) | 45 (×2.2) |",
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
        "| lines | 20 | 30 | 45 |",
    ]


def test_seconds_are_those_of_the_whole_the_first_and_the_median_epoch() -> None:
    rows = tables.seconds(run("02_x")["dialects"]).rows
    assert [row[:2] for row in rows] == [
        ["whole training", "1.24"],
        ["first epoch", "0.900"],
        ["median epoch", "0.300"],
    ]
