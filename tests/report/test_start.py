"""The first screen: what becomes of the cells that are tagged `start`."""

import re
from typing import Any

import pytest

from kvt.report.merge import RenderError, merge
from kvt.report.parameters import Parameter
from kvt.report.plan import Chapter
from kvt.report.start import APART, BOTTOM, TOP, gather
from kvt.show.opening import mimetype
from tests.report.pages import book, code, executed, markdown

DIRECTORY = {"results_dir": Parameter("results_dir", str, "", "where")}
PROOF = {
    "weights": 1_234,
    "identical": 1_234,
    "keras": ["aaa111", "bbb222"],
    "tf2": ["aaa111", "bbb222"],
}
CAUSE = {
    "name": "Sum instead of mean",
    "line": "loss = mean(a < b)",
    "instead": "loss = total(a < b)",
    "finding": "A sum is `n` times as large.",
    "weights": 100,
    "identical": [100, 50, 0],
    "keras_loss": [0.5, 0.25],
    "keras_accuracy": [0.5, 0.9],
    "changed_loss": [300.0, None],
    "changed_accuracy": [0.1, 0.1],
}
KERAS = "# Keras · In short\nlayer()  # (1)\nmodel.fit()  # (2)"
TF2 = """# TensorFlow 2 · In short
for x in y:
    loss = mean(a < b)  # (1)
    u()  # (2)"""


def chapters(*causes: dict[str, Any], keras: str = KERAS) -> list[Chapter]:
    """Return a model with the pair, and a comparison with the causes."""
    shown = [
        markdown("## One network\n\nThe *same* one.", "start"),
        markdown("The same:\n\n1. the layer\n2. the update", "start", "legend"),
        code("order = range(3)", "start", "setup"),
        code(keras, "start", "keras"),
        code(TF2, "start", "tf2"),
        code("proof()", "start", "hide-input", **{mimetype("proof"): PROOF}),
        markdown("## The model\n\nOf the section."),
    ]
    rest = [
        markdown("### Break it\n\nChange a line.\n\nSome stay.", "start"),
        code("broken()", "start", **{mimetype("broken"): list(causes)}),
        markdown("### Where to?\n\n1. [There](03_net.ipynb#The-model) it is.", "start"),
    ]
    return [
        executed(*shown, name="03_net"),
        executed(*rest, name="13_comparison", parameters=DIRECTORY),
    ]


def causes(*measured: dict[str, Any]) -> list[dict[str, Any]]:
    found = gather(merge(chapters(*measured)))
    assert found is not None
    causes: list[dict[str, Any]] = found["causes"]
    return causes


def test_the_first_screen_has_the_pair_the_proof_and_the_ways_on() -> None:
    index = book(*chapters(CAUSE))["index.html"]
    opening, sections = index.split('<section class="notebook"', 1)
    assert '<h1 id="title">One network</h1>' in opening
    assert "<em>same</em>" in opening
    assert "1,234 of 1,234 weights identical" in opening
    assert opening.count("aaa111") == opening.count("bbb222") == 2
    assert 'href="#net-the-model"' in opening
    assert "Keras<span" in opening
    for idea in ("start-idea-1", "start-idea-2"):
        assert f'<li id="{idea}">' in opening
        assert (
            opening.count(f'<span class="line" id="{idea}'.replace("idea", "tf2")) == 1
        )
    for text in ("order", "aaa111", "Break it", "the layer", "Where to?"):
        assert text not in re.sub(r"<[^>]*>", "", sections)
    assert "Of the section." in sections


def test_a_report_without_such_cells_opens_with_its_title() -> None:
    index = book(executed(markdown("## The model"), name="03_net"))["index.html"]
    assert '<h1 id="title">Keras and TensorFlow, bit for bit</h1>' in index
    assert 'class="dialects migration pair"' not in index


def test_without_measured_causes_nothing_can_be_broken() -> None:
    index = book(*chapters())["index.html"]
    assert 'type="radio" name="broken"' not in index
    assert "1,234 of 1,234" in index
    assert "Where to?" in index


def test_what_a_cause_says_is_text() -> None:
    script = "<script>alert(1)</script>"
    texts = ("name", "line", "instead", "finding")
    index = book(*chapters({**CAUSE, **dict.fromkeys(texts, script)}))["index.html"]
    assert "<script>alert" not in index
    assert index.count("&lt;script&gt;alert") + index.count("&lt;</span>") >= 2


def test_marks_of_the_pair_are_checked() -> None:
    with pytest.raises(RenderError, match=r"03_net.ipynb: mark \(2\) has no count"):
        book(*chapters(CAUSE, keras=KERAS.replace("  # (2)", "")))


def test_each_line_of_a_pane_can_be_exchanged() -> None:
    index = book(*chapters())["index.html"]
    markup = index.split('<div class="dialect tf2">')[1]
    markup = markup.partition("<code>")[2].partition("</code>")[0]
    found = re.findall(r'<span class="line".*?\n</span>', markup, re.DOTALL)
    assert "".join(found) == markup
    texts = [re.sub(r"<[^>]*>", "", line).rstrip() for line in found]
    assert texts == ["for x in y:", "    loss = mean(a &lt; b)", "    u()"]


def test_before_the_causes_both_sides_are_equal() -> None:
    nothing, cause = causes(CAUSE)
    assert nothing["name"] == ""
    count, loss, accuracy = nothing["panels"]
    assert {point.split(",")[1] for point in count.lines["changed"].split()} == {"8.0"}
    for panel in (count, loss, accuracy):
        assert panel.lines["keras"] == panel.lines["changed"]
        assert list(panel.labels) == ["both"]
    assert cause["changes"] == [
        (
            "loss = mean(a &lt; b)",
            "loss = total(a &lt; b)",
        )
    ]


def test_a_panel_shows_counts_values_and_nan() -> None:
    count, loss, accuracy = causes(CAUSE)[1]["panels"]
    heights = [float(it.split(",")[1]) for it in count.lines["changed"].split()]
    assert heights == [TOP, (TOP + BOTTOM) / 2, BOTTOM]
    assert count.last == {"keras": "100", "changed": "0"}
    assert loss.lines["changed"].count(",") == 1  # NaN has no point
    assert loss.lines["keras"].count(",") == 2
    assert loss.last == {"keras": "0.250", "changed": "NaN"}
    index = book(*chapters(CAUSE))["index.html"]
    assert 'aria-label="Loss: Keras 0.250, changed NaN, after the last epoch"' in index
    assert accuracy.labels["changed"][1] == "0.100"


def test_losses_of_zero_are_drawn_at_the_bottom() -> None:
    zeros = {"keras_loss": [0.0], "changed_loss": [0.0]}
    _, loss, _ = causes({**CAUSE, **zeros})[1]["panels"]
    assert loss.labels == {"both": (BOTTOM, "0.000")}


@pytest.mark.parametrize("last", [0.25, 0.2501, 0.26, 0.2, 0.0, 0.5, 300.0])
def test_no_label_touches_another(last: float) -> None:
    _, loss, _ = causes({**CAUSE, "changed_loss": [0.5, last]})[1]["panels"]
    heights = [height for height, _ in loss.labels.values()]
    if len(heights) > 1:
        assert abs(heights[0] - heights[1]) >= APART - 0.1
    assert max(heights) <= BOTTOM
    higher = max(loss.labels, key=lambda side: -loss.labels[side][0])
    assert higher == "both" or (higher == "changed") == (last > 0.25)
