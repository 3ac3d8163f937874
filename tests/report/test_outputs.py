"""What a page shows of outputs that it cannot, or should not, show as they are."""

import re
from pathlib import Path
from typing import Any

import pytest

from kvt.report import notebooks, outputs
from kvt.report.merge import RenderError, preview
from tests.report.pages import body, book, code, executed, markdown, page

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAA"
    "AABJRU5ErkJggg=="
)
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="90"><text>{}</text></svg>'
BOMB = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
BOMB = f'<!ENTITY a0 "boom">{BOMB}'


def shown(data: dict[str, Any], metadata: object = None) -> str:
    """Return the markup of an output with this data."""
    run = executed(code("1", text__plain="x"))
    output = run.notebook.cells[1].outputs[0]
    output["data"] = data
    if metadata is not None:
        output["metadata"] = metadata
    _, box, rest = page(run).partition('<div class="output">')
    return box + rest.partition("<footer")[0]


@pytest.mark.parametrize(
    "kind",
    [
        "application/vnd.plotly.v1+json",
        "application/vnd.vegalite.v5+json",
        "application/vnd.jupyter.widget-view+json",
        "application/javascript",
    ],
)
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"text/plain": "IntSlider(value=0)"},
        {"text/html": "<div><script>draw()</script>&nbsp;</div>"},
    ],
    ids=["alone", "with text", "with a script"],
)
def test_an_output_that_needs_a_script_is_named(
    kind: str, more: dict[str, str]
) -> None:
    markup = shown({kind: {"a": 1}} | more)
    assert f"cannot show an output of type <code>{kind}</code>" in markup
    assert ("IntSlider" in markup) == ("text/plain" in more)
    assert 'class="table"' not in markup


@pytest.mark.parametrize(
    "data",
    [{"text/plain": ""}, {"image/svg+xml": " "}, {"application/vnd.kvt.proof+json": 1}],
)
def test_an_output_with_nothing_to_show_has_no_box(data: dict[str, Any]) -> None:
    assert shown(data) == ""


@pytest.mark.parametrize("kind", ["text/html", "image/svg+xml", "image/png"])
@pytest.mark.parametrize("value", [None, {"a": 1}, ["<b>1</b>"], 5])
def test_what_is_no_text_is_passed_over(kind: str, value: object) -> None:
    assert ">plain</pre>" in shown({kind: value, "text/plain": "plain"})


def test_pictures_in_html_are_shown_if_the_page_contains_them() -> None:
    inside = f'<img src="data:image/png;base64,{PNG}" width="30" onload="x()">'
    markup = shown({"text/html": f"<p>{inside}</p>"})
    expected = f'<img alt="Picture" src="data:image/png;base64,{PNG}" width="30">'
    assert expected in markup
    for address in ("https://example.org/a.png", "data:image/svg+xml;base64,PHN2Zz4="):
        assert "<img" not in shown({"text/html": f'<img src="{address}">there'})


@pytest.mark.parametrize(
    "address",
    [
        "data:text/html,<b>",
        "java\tscript:alert(1)",
        "//example.org",
        "file:///etc/passwd",
        " javascript:alert(1)",
    ],
)
def test_links_in_html_lead_to_the_web(address: str) -> None:
    assert "href" not in outputs.clean(f'<a href="{address}">a</a>')
    # An output's ids are dropped, so that a link to one would be dead.
    assert "href" not in outputs.clean('<a href="#part">a</a><p id="part">b</p>')
    assert 'href="https://keras.io/api"' in outputs.clean(
        '<a href="https://keras.io/api">a</a>'
    )


def test_an_svg_may_name_characters_as_html_does() -> None:
    assert "<text>a\xa0b é &amp;</text>" in shown(
        {"image/svg+xml": SVG.format("a&nbsp;b &eacute; &amp;")}
    )


@pytest.mark.parametrize(
    ("svg", "problem"),
    [
        ("<svg><g></svg>", "mismatched tag"),
        ("<p>a</p>", "must be an <svg>, not a <p>"),
        ("no markup", "syntax error"),
        (SVG.format("&nosuch;"), "undefined entity"),
        (f"<!DOCTYPE svg [{BOMB}]>{SVG.format('&a9;')}", "entit"),
        (f'<!DOCTYPE svg [<!ENTITY f SYSTEM "file:///x">]>{SVG.format("&f;")}', "&f;"),
    ],
)
def test_an_svg_that_is_none_fails_with_the_notebooks_name(
    svg: str, problem: str
) -> None:
    with pytest.raises(RenderError, match=rf"02_digits\.ipynb: cell '1': .*{problem}"):
        shown({"image/svg+xml": svg})


@pytest.mark.parametrize(
    ("metadata", "size"),
    [
        ({"image/png": {"width": 321, "height": 9}}, ' width="321"'),
        ({"image/png": {"width": "10%", "alt": ["a"]}}, ""),
        ({"image/png": {"width": "300"}}, ' width="300"'),
        *(({"image/png": {"width": odd}}, "") for odd in (-3, True, 10**30, "3em")),
        ({"image/png": "odd"}, ""),
    ],
)
def test_a_png_has_the_width_that_its_notebook_gives_it(
    metadata: object, size: str
) -> None:
    plot = {"image/png": PNG, "text/plain": "<Figure size 640x480 with 1 Axes>"}
    assert f'<img alt="without a description"{size} src="data:' in shown(plot, metadata)


def test_a_picture_that_is_no_base64_is_named() -> None:
    markup = shown({"image/png": 'x" onerror="alert(1)', "text/plain": "a plot"})
    assert "cannot show an output of type <code>image/png</code>" in markup
    assert "<img" not in markup
    assert "a plot" in markup


@pytest.mark.parametrize(
    "attribute",
    [
        r'fill="u\72l(https://example.org/a)"',  # CSS's own way to write url()
        r'mask="\75rl(https://example.org/a#b)"',
        """cursor="image-set('https://example.org/a' 1x)" """,
        'href="data:image/png,https://example.org"',
        'class="bar"',
    ],
)
def test_no_attribute_of_an_svg_loads_a_file_or_takes_a_class(attribute: str) -> None:
    drawing = f'<rect {attribute} transform="scale(2)" fill-opacity="0.5"/>'
    svg = SVG.replace('width="90"', 'width="1.2.3" overflow="visible"').format("")
    markup = shown({"image/svg+xml": svg.replace("<text>", f"{drawing}<text>")})
    assert '<rect transform="scale(2)" fill-opacity="0.5" />' in markup
    assert not {"overflow", "1.2.3"} & set(re.findall(r"[\w.]+", markup))


def test_an_svg_that_is_too_deep_fails_with_the_notebooks_name() -> None:
    deep = SVG.format("").replace("<text>", "<g opacity='1'>" * 3000 + "<text>")
    deep = deep.replace("</text>", "</text>" + "</g>" * 3000)
    with pytest.raises(RenderError, match=r"02_digits\.ipynb: "):
        shown({"image/svg+xml": deep})


def test_no_output_takes_a_class_of_the_page() -> None:
    assert outputs.clean('<div class="bar" title="a">x</div>') == (
        '<div title="a">x</div>'
    )


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (r"$\class{bar}{x}$", "contains markup"),
        (r"$\rule{9999em}{1em}$", "a length of 10em"),
        ("[a](javascript:alert(1))", "runs something; link to a page"),
    ],
)
def test_markdown_that_no_page_can_have_names_notebook_and_cell(
    source: str, problem: str
) -> None:
    run = executed(markdown(f"Here\n\n{source}"))
    for judge in (page, lambda it: preview([it])):
        with pytest.raises(
            RenderError, match=rf"02_digits\.ipynb: cell 'Here': .*{problem}"
        ):
            judge(run)


def test_a_link_to_a_heading_of_its_own_notebook_works_as_in_jupyter() -> None:
    markup = body(markdown("[a](#Why-so?)"), markdown("## Why so?"))
    assert 'href="#digits-why-so">a</a>' in markup


def test_text_has_no_command_for_a_terminal() -> None:
    commands = (
        "\x1b]8;;https://keras.io\x1b\\a link\x1b]8;;\x1b\\ \x1b]0;title\x07"
        "\x1b[38;5;208mred\x1b[0m\x9b31m \x1b(Bset \x00\x07nul x\x08y\x1bM."
    )
    # An unended command ends with its line; a carriage return begins the line again.
    commands += "\x1bPq#0;2\x1b\\\x1b_apc\x07\x9d0;t\x9c\n10%\r99%\r\n\x1b]0;open\nend"
    wanted = ">a link red set nul xy.\n99%\n\nend</pre>"
    assert wanted in body(code("1", stdout=commands))
    assert wanted in body(code("1", text__plain=commands))


def test_no_control_character_reaches_the_page() -> None:
    odd = "a\x00\x1b\x0cb\ud83d"
    text = page(executed(markdown(odd), code("1", text__markdown=odd, stdout=odd)))
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]", text)


@pytest.mark.parametrize(
    "markup",
    ["<svg><path d='M0 0'/></svg>", "<iframe srcdoc='<p>a'></iframe>", "<style>td {}"],
)
def test_html_that_the_page_cannot_show_is_named_not_quoted(markup: str) -> None:
    made = shown({"text/html": markup, "text/plain": "a plot"})
    assert "cannot show an output of type <code>text/html</code>" in made
    assert "a plot" in made
    assert shown({"text/html": f"<details>text {markup}"}).count("&lt;") == 0


def test_figures_of_the_committed_notebooks_keep_every_color() -> None:
    count = 0
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        for cell in notebooks.read(path).cells:
            for data in (it.get("data", {}) for it in cell.get("outputs", [])):
                svg = data.get("image/svg+xml", "")
                drawn = outputs.inline(svg, "", "") if svg else ""
                for it in ("stroke", "fill", "transform"):
                    assert drawn.count(f' {it}="') == svg.count(f' {it}="'), path.name
                count += drawn.count('="var(--keras')
    assert count > 10


def test_a_reference_in_an_svg_is_no_link_of_the_page() -> None:
    drawn = "<path id='b' d='M0 0'/><use href='#b'/><use href='#no'/>"
    markup = shown({"image/svg+xml": SVG.format("").replace("<text></text>", drawn)})
    assert '<path id="figure-2-1-b" d="M0 0" /><use href="#figure-2-1-b" />' in markup


def test_links_reach_notebooks_with_hyphens_and_spaces() -> None:
    links = (
        "[a](05-other%20one.ipynb#Why-so%3F) [b](<05-other one.ipynb>) [c](05-o.ipynb)"
    )
    pages = book(
        executed(markdown(links), name="03_model"),
        executed(markdown("## Why so?"), name="05-other one"),
    )
    assert 'href="other-one.html#other-one-why-so">a</a>' in pages["index.html"]
    assert 'href="other-one.html#other-one">b</a> c</p>' in pages["index.html"]


@pytest.mark.parametrize(
    "name",
    [
        *("main", "title", "contents", "search", "found", "fold", "theme", "start"),
        *("figure", "helpers", "beside", "filter", "break", "jobs"),
    ],
)
def test_no_name_of_a_notebook_or_heading_is_an_id_of_the_page(name: str) -> None:
    headings = f"## Run again\n\n[x]({name}.ipynb#Run-again)\n\n## Idea 1\n\n## Keras 1"
    cells = [
        markdown(headings),
        markdown("1. one", "legend"),
        code("1  # (1)", "keras"),
        code("import kvt\nkvt.fit  # (1)", "tf2"),
    ]
    text = page(executed(*cells, name=name, title=name))
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    target = re.search(r'href="#([^"]+)">x</a>', text)
    assert target is not None
    assert re.search(rf'<h3 id="{target[1]}" aria-label="Run again">', text)


def test_lines_may_end_within_long_words_but_nowhere_in_markup() -> None:
    table = f"| a |\n| --- |\n| {'y' * 300} |"
    markup = body(code("1", text__markdown=table))
    assert re.sub("<wbr>", "", markup).count("y" * 300) == 1
    assert markup.count("<wbr>") == 14
    data = f'<p title="{"t" * 90}">{"z" * 90}</p>'
    assert outputs.clean(data).count("<wbr>") == 4
    assert "t" * 90 in outputs.clean(data)


def test_cells_with_commands_of_ipython_are_shown() -> None:
    text = body(code("%matplotlib inline\n!ls"), code("import kvt\nkvt.fit"))
    assert "matplotlib inline" in text
    assert "def fit(" in text


@pytest.mark.parametrize("svg", ["<svg/>", '<svg width="9"></svg>', "<svg>\n</svg>"])
def test_a_drawing_of_nothing_has_no_box(svg: str) -> None:
    assert shown({"image/svg+xml": svg}) == ""
    assert "&lt;SVG&gt;" in shown({"image/svg+xml": svg, "text/plain": "<SVG>"})
