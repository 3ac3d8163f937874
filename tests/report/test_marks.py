import re

import pytest
from nbformat import NotebookNode

from kvt.report import marks
from kvt.report.merge import RenderError
from tests.report.pages import body, code, executed, markdown, page

NAMES = "Numbers mark what corresponds:\n\n1. the `Dense` layer\n2. loss"
KERAS = (
    "# Keras · Model\nlayer = 1  # (b, 10)  # (1)\nloss = 2  # (2)\nagain = 3  # (2)"
)
TF2 = "# TensorFlow 2 · Model\ndoc = '''\nof two lines'''  # (1)\nloss = 2  # (2)\nend"


def legend(source: str = NAMES) -> NotebookNode:
    return markdown(source, "legend")


def plain(markup: str) -> str:
    return re.sub(r"<[^>]*>", "", markup)


def pane(text: str, dialect: str) -> str:
    found = re.search(
        rf'<div class="dialect {dialect}">.*?<code>(.*?)</code>', text, re.S
    )
    assert found is not None
    return found[1]


def test_marks_become_badges_and_leave_the_code_as_it_runs() -> None:
    text = body(legend(), code(KERAS, "keras"), code(TF2, "tf2"))
    keras, tf2 = pane(text, "keras"), pane(text, "tf2")
    assert plain(keras) == "layer = 1  # (b, 10)\nloss = 2\nagain = 3\n"
    assert plain(tf2) == "doc = '''\nof two lines'''\nloss = 2\nend\n"
    assert re.findall(r'class="mark"[^>]* data-number="(\d)"', keras) == ["1", "2", "2"]
    assert re.findall(r'class="mark"[^>]* data-number="(\d)"', tf2) == ["1", "2"]
    assert 'aria-label="1: the Dense layer"' in keras


def test_legend_names_each_idea_and_links_to_its_line() -> None:
    text = body(legend(), code(KERAS, "keras"), code(TF2, "tf2"))
    assert "<code>Dense</code> layer</a></li>" in text
    for number in (1, 2):
        assert f'<li id="digits-idea-{number}"><a class="idea" ' in text
        assert f'href="#digits-keras-{number}"' in text
        assert text.count(f'id="digits-keras-{number}"') == 1
        assert f'href="#digits-idea-{number}"' in pane(text, "tf2")


def test_lines_of_one_idea_share_a_key_of_their_section() -> None:
    cells = (legend(), code(KERAS, "keras"), code(TF2, "tf2"))
    text = page(executed(*cells), executed(*cells, name="03_again"))
    assert text.count('data-idea="digits-idea-2"') == 1 + 2 + 1
    assert text.count('data-idea="again-idea-2"') == 1 + 2 + 1


@pytest.mark.parametrize(
    ("names", "keras", "tf2", "message"),
    [
        (
            NAMES,
            KERAS,
            "x = 1  # (1)",
            r"mark \(2\) has no counterpart in TensorFlow 2",
        ),
        (NAMES, "x = 1  # (1)", TF2, r"mark \(2\) has no counterpart in Keras"),
        ("1. layer", KERAS, TF2, r"mark \(2\) has no name: add '2\. …'"),
        (f"{NAMES}\n3. update", KERAS, TF2, r"mark \(3\) of the legend is on no line"),
        ("1. layer\n3. loss", KERAS, TF2, r"numbered from 1, not \[1, 3\]"),
        ("no list", KERAS, TF2, r"numbered from 1, not \[\]"),
    ],
)
def test_mark_without_counterpart_or_name_fails(
    names: str, keras: str, tf2: str, message: str
) -> None:
    with pytest.raises(RenderError, match=rf"02_digits\.ipynb: .*{message}"):
        body(legend(names), code(keras, "keras"), code(tf2, "tf2"))


def test_mark_in_a_section_without_a_legend_fails() -> None:
    with pytest.raises(RenderError, match="no name"):
        body(code("x  # (1)", "keras"), code("y  # (1)", "tf2"))


def test_only_the_end_of_a_line_is_a_mark() -> None:
    source = "a = f(1)  # (1) is no mark\nb = '# (2)'\nc = 3  # (3)"
    assert marks.by_line(source) == {2: 3}
    assert marks.without(source).endswith("c = 3")


def test_name_adds_no_markup_to_the_page() -> None:
    name = '<img src=x onerror=alert(1)> "quoted"'
    text = body(
        legend(f"1. {name}"), code("x  # (1)", "keras"), code("y  # (1)", "tf2")
    )
    assert "<img" not in text
    assert "&lt;img src=x onerror=alert(1)&gt; &#34;quoted&#34;" in text


def test_check_accepts_marks_in_any_order_and_no_marks() -> None:
    marks.check({"Keras": {1, 2}, "TensorFlow 2": {2, 1}}, {1: "a", 2: "b"})
    marks.check({}, {})
    with pytest.raises(ValueError, match="no counterpart"):
        marks.check({"Keras": {1}, "TensorFlow 2": set()}, {1: "a"})
