"""How chapter 09 shows causes: sizes as text, sources without types."""

import math
import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from kvt.compare.effects import Cause, Effect
from kvt.show import causes as show

NOTHING = Effect(0, 0, 0, 0, 0, 0, 0)


def cause(
    *effects: Effect, of_the_machine: bool = False, seeds: tuple[float, ...] = ()
) -> Cause:
    """A cause; `seeds` are the last accuracies of the pair that it is measured on."""
    trained = {
        seed: SimpleNamespace(history={"accuracy": [0.1, last], "loss": [1.0, last]})
        for seed, last in enumerate(seeds)
    }
    equal: Any = SimpleNamespace(trained=trained)
    training: Any = None
    return Cause(
        "A cause", "a", equal, "start", print, training, [*effects], of_the_machine
    )


def sizes(effect: Effect, *, of_the_machine: bool = False) -> dict[str, str]:
    one = cause(effect, effect, effect, of_the_machine=of_the_machine)
    return {
        name: show._size(one, name)[0]
        for name in ("step", "end", "loss", "accuracy", "predictions")
    }


def sample(value: int, other: dict[str, int]) -> list[int]:  # of a test
    """Do nothing of note."""
    # a reason
    return [value, *other.values()]


def test_types_are_left_out_and_nothing_else() -> None:
    assert show.untyped(sample) == (
        "def sample(value, other):\n"
        '    """Do nothing of note."""\n'
        "    # a reason\n"
        "    return [value, *other.values()]"
    )


def test_two_digits_are_shown_and_one_decimal_of_an_accuracy() -> None:
    assert sizes(Effect(0, 0, 0.01234, 1.987, 296.1, 28.27, 128)) == {
        "step": "0.012",
        "end": "2",
        "loss": "300",
        "accuracy": "28.3",
        "predictions": "130",
    }


def test_rounding_and_zero_differ_only_where_they_do_on_every_processor() -> None:
    rounding = Effect(0, 0, 0, 3e-8, 0, 0.0, 0)
    assert sizes(rounding)["end"] == sizes(rounding)["loss"] == "< 1e-5"
    metrics = Effect(0, 0, 0, 0, 3e-8, 0.0, 0)
    assert sizes(metrics)["end"] == "0"
    assert sizes(metrics, of_the_machine=True)["end"] == "< 1e-5"
    later = Effect(0, 0, 0, 0.2, 0.1, 3.0, 5)
    assert sizes(later)["step"] == "0"


def test_infinity_reads_nan_and_an_absent_accuracy_is_blank() -> None:
    assert sizes(Effect(0, 0, math.inf, 1, 1, None, None)) == {
        "step": "NaN",
        "end": "1",
        "loss": "1",
        "accuracy": "",
        "predictions": "",
    }


def test_a_range_of_one_text_is_that_text() -> None:
    spread = [replace(NOTHING, loss=loss) for loss in (0.3, 0.1, 0.2)]
    assert show._size(cause(*spread), "loss") == ("0.2", "0.1 to 0.3")
    assert show._size(cause(spread[0], spread[0]), "loss") == ("0.3", "0.3")


def test_a_card_marks_what_changes_no_more_than_another_seed() -> None:
    effect = Effect(0, 0.1, 0.1, 1, 0.025, 3.0, 5)
    link = "- [A cause](09_why_results_differ.ipynb#A-cause) a"
    size = "*loss 0.025, accuracy 3.0 points*"
    for seeds, mark in (
        ((0.80, 0.84), " **seeds differ by 4.0 points**"),
        ((0.80, 0.82), ""),
    ):
        text = show.cards([cause(effect, seeds=seeds)]).text
        assert text == f"**Seen in the first batch's loss**\n\n{link} {size}{mark}"


def test_rounding_is_not_marked_and_comes_last() -> None:
    rounding = Effect(0, 0, 1e-8, 1e-7, 1e-7, 0.0, 0)
    first = Effect(1, 1, 1, 1, 0.1, 30.0, 9)
    seeds = (0.5, 0.9)
    text = show.cards([cause(rounding, seeds=seeds), cause(first, seeds=seeds)]).text
    start, rounded = text.split("**Seen as rounding only**")
    assert start.startswith("**Seen before the first step**")
    assert "seeds differ by 40.0 points" in start
    assert "seeds" not in rounded


def test_a_loss_that_changes_more_than_with_another_seed_is_not_marked() -> None:
    effect = Effect(0, 0.1, 0.1, 1, 62.0, 3.0, 5)
    assert "seeds" not in show.cards([cause(effect, seeds=(0.80, 0.84))]).text


def named(name: str, *effects: Effect) -> Cause:
    return replace(cause(*effects), name=name)


def test_causes_are_ranked_by_the_loss_then_by_the_weights() -> None:
    causes = [
        named("Report", Effect(0, 0, 0, 0, 0, 9.0, 0)),
        named("Rounding", Effect(0, 0, 1e-8, 1e-7, 3e-8, 0, 0)),
        named("Order", Effect(0, 0, 0.1, 0.2, 0.02, 1.0, 3)),
        named("Sum", Effect(0, 0, 7, math.inf, math.inf, 80.0, 9)),
        named("Weights", Effect(0, 0, 0.1, 0.2, 0, 0, 0)),
    ]
    rows = show.ranking(causes).rows
    names = [re.match(r"\[(\w+)\]", row[0])[1] for row in rows]
    assert names == ["Sum", "Order", "Weights", "Report", "Rounding"]
    assert rows[0][1:] == ["NaN", "NaN", "NaN", "80.0"]
    assert rows[-1][1] == rows[-1][3] == "< 1e-5"


def test_near_ties_keep_their_order_in_the_ranking() -> None:
    one, other = (Effect(0, 0, 0, size, 0.5, 0, 0) for size in (0.2101, 0.2102))
    rows = show.ranking([named("One", one), named("Two", other)]).rows
    assert [row[0][:4] for row in rows] == ["[One", "[Two"]
