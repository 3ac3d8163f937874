import base64
import dataclasses
import gzip
import html
import json
import re
from collections import Counter
from pathlib import Path

import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_output

from kvt.report import provenance, render, search
from kvt.report.markdown import highlight_python, to_mathml
from kvt.report.merge import RenderError, command
from kvt.report.parameters import Parameter
from kvt.report.plan import read
from kvt.show import sources
from tests.report.pages import (
    ANSI,
    PROVENANCE,
    REASON,
    SCRIPT,
    SVG,
    body,
    book,
    code,
    executed,
    markdown,
    page,
)

EPOCHS = {"epochs": Parameter("epochs", int, 2, "passes")}


def test_equal_notebooks_give_equal_bytes() -> None:
    cells = (markdown("$x$"), code("x", "keras", stdout="1"))
    assert page(executed(*cells)) == page(executed(*cells))


@pytest.mark.long
def test_committed_notebooks_become_small_pages() -> None:
    chapters = read(Path(__file__).parents[2] / "notebooks")
    pages = book(*chapters)
    sizes = {file: len(text.encode()) for file, text in pages.items()}
    assert max(sizes.values()) <= 1.2e6, sizes
    assert sum(sizes.values()) <= 4e6, sizes
    index = pages["index.html"]
    assert index.index("<h1") < index.index('<h2 id="comparison"')
    assert re.search(r'<a href="#[\w-]+-do-they-agree">0</a>', index)
    programs = re.findall(r'download="(\w+)\.py\.gz"', index)
    assert programs == [
        "03_feedforward_network",
        "01_linear_regression",
        "02_logistic_regression",
        "04_convolutional_network",
    ]
    assert book(*chapters) == pages


def test_index_has_comparison_and_models_and_other_chapters_a_page_each() -> None:
    directory = Parameter("results_dir", str, "", "where")
    pages = book(
        executed(name="00_inside_fit"),
        executed(name="01_linear"),
        executed(markdown("## Why"), name="03_feedforward"),
        executed(name="05_optimizers_and_schedules"),
        executed(name="13_comparison", parameters={"results_dir": directory}),
    )
    assert list(pages) == [
        "index.html",
        "inside-fit.html",
        "optimizers-and-schedules.html",
        "provenance.html",
    ]
    sections = re.findall(r'<h2 id="([\w-]+)"', pages["index.html"])
    assert sections[1:4] == ["comparison", "feedforward", "linear"]
    for file, text in pages.items():
        contents = text.partition('<nav class="contents"')[2].partition("</nav>")[0]
        links = re.findall(r'href="([^"]+)" data-section', contents)
        here = "" if file == "index.html" else "index.html"
        assert links[:3] == [
            f"{here}#comparison",
            f"{here}#feedforward",
            f"{here}#linear",
        ]
        headings = contents.count("feedforward-why")
        assert headings == (file == "index.html")  # only of its own sections
        turn = text.partition('<nav class="turn"')[2]
        at = list(pages).index(file)
        around = [list(pages)[i] for i in (at - 1, at + 1) if 0 <= i < len(pages)]
        assert re.findall(r'href="([\w.-]+)"', turn) == around
        assert text.count("<h1") == 1
        assert text.count("<title>") == 1


def test_links_between_notebooks_lead_from_page_to_page() -> None:
    pages = book(
        executed(
            markdown("[a](05_other.ipynb#Why-so?) [b](05_other.ipynb)"), name="03_model"
        ),
        executed(markdown("## Why so?\n\n[c](03_model.ipynb)"), name="05_other"),
    )
    assert 'href="other.html#other-why-so">a</a>' in pages["index.html"]
    assert 'href="other.html#other">b</a>' in pages["index.html"]
    assert 'href="index.html#model">c</a>' in pages["other.html"]
    with pytest.raises(
        RenderError, match=r"index\.html leads to 'other\.html#other-x'"
    ):
        book(
            executed(markdown("[a](05_other.ipynb#X)"), name="03_model"),
            executed(name="05_other"),
        )


@pytest.mark.parametrize("link", ["elsewhere.html", "elsewhere.html#x", "#nowhere"])
def test_dead_link_is_rejected_on_every_page(link: str) -> None:
    with pytest.raises(RenderError, match="which is no heading"):
        book(executed(markdown(f"[there]({link})"), name="05_other"))


FOLDED = (
    markdown("## First"),
    markdown("### Imports\n\nwhy"),
    code("import a", "setup"),
    markdown("more"),
    markdown("### Data", "folded"),
    code("load()"),
    markdown("#### Inner", "folded"),
    code("inner()"),
    markdown("### Model"),
    code("model()"),
    code("check()", "folded"),
    markdown("## Last", "folded"),
    code("last()"),
)


def test_tagged_parts_and_code_start_closed_and_close_where_they_should() -> None:
    text = body(*FOLDED)
    marks = re.finditer(
        r'(?P<part><details class="part">)|<details class="source"(?P<open> open)?>'
        r'|(?P<end></details>)|<h\d id="digits-(?P<id>[\w-]+)',
        text,
    )
    outline: list[str] = []
    depth = 0
    for mark in marks:
        if mark["part"]:
            depth += 1
        elif mark["end"]:
            depth -= 1
        elif mark["id"]:
            outline.append(f"{depth} {mark['id']}")
        else:
            depth += 1
            outline.append(f"{depth} {'open' if mark['open'] else 'closed'}")
    assert outline == [
        "0 first",
        *("1 imports", "2 closed"),
        *("1 data", "2 open", "2 inner", "3 open"),
        *("0 model", "1 open", "1 closed"),
        *("1 last", "2 open"),
        "1 run-again",
    ]
    assert depth == 0


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([markdown("text", "folded")], r"cell 'text' is tagged 'folded' without one"),
        (
            [markdown("### A", "folded"), markdown("text\n\n## B")],
            r"heading '## B' ends a folded part in the middle of a cell",
        ),
        ([markdown("### A\n\n### B", "folded")], None),
        ([markdown("### A", "folded"), markdown("```\n# no heading\n```")], None),
    ],
)
def test_fold_that_cannot_be_is_rejected(
    cells: list[NotebookNode], message: str | None
) -> None:
    if message:
        with pytest.raises(RenderError, match=message):
            body(*cells)
    else:
        assert '<details class="part">' in body(*cells)


def test_every_page_has_the_same_index_of_all_words() -> None:
    pages = book(
        executed(
            markdown("## Why so?\n\nA <b> über `bias_add`,\nreduce\u00a0mean 42."),
            code("# twice\nfeed_dict = 1", "keras"),
            name="03_model",
        ),
        executed(markdown("## The “loop”"), name="05_other"),
    )
    indices = {
        re.search(r'<template id="search-index">(\S+)</template>', text)[1]  # type: ignore[index]
        for text in pages.values()
    }
    document = json.loads(gzip.decompress(base64.b64decode(indices.pop())))
    assert not indices
    assert document["files"] == list(pages)
    parts = {own: number for number, (_, _, own, _) in enumerate(document["parts"])}
    assert document["parts"][parts["other-the-loop"]] == [
        1,
        3,
        "other-the-loop",
        "The “loop”",
    ]
    places = dict(zip(document["words"], document["places"], strict=True))
    for word in ("über", "bias_add", "reduce", "mean", "feed_dict", "twice"):
        assert places[word] == [parts["model-why-so"]], word
    assert "42" not in places


def test_index_counts_from_one_place_of_a_word_to_the_next() -> None:
    cells = [markdown(f"## {word}") for word in ("Rare", "a", "b", "Rare", "Rare")]
    index = json.loads(search.index(book(executed(*cells, name="05_other"))))
    places = dict(zip(index["words"], index["places"], strict=True))
    first = [own for _, _, own, _ in index["parts"]].index("other-rare")
    assert places["rare"] == [first, 3, 1]


def test_page_loads_nothing() -> None:
    text = page(executed(markdown("[a link](https://keras.io)"), code("1")))
    assert "default-src 'none'" in text.replace("&#39;", "'")
    assert text.count("<script") == 1
    assert not re.search(r"(src|href)=\"(?!data:|#|https://keras\.io)", text)
    assert "@import" not in text
    assert "url(" not in text


def test_comparison_opens_the_report_with_its_code_folded() -> None:
    directory = Parameter("results_dir", str, "", "where")
    comparison = executed(
        code("a_table()", text__plain="as one"),
        name="08_comparison",
        parameters={"results_dir": directory},
        values={"results_dir": "results"},
    )
    text = page(executed(code("the_model()"), name="01_line"), comparison)
    assert text.index("as one") < text.index("the_model")
    shown, _, aside = text.partition("as one")[2].partition(
        '<details class="source aside">'
    )
    assert "a_table" not in shown
    assert "a_table" in aside
    assert "-r results_dir reports/results" in text


def test_row_puts_each_dialect_with_its_outputs_under_its_name() -> None:
    text = body(
        markdown("## Model"),
        code("# Keras · Model\nsequential = 1", "keras", stdout="from keras"),
        code("# TensorFlow 2 · Model\nforward = 2", "tf2", stdout="from two"),
        code("# TensorFlow 1 · Model\nplaceholder = 3", "tf1", stdout="from one"),
        code("after = 4"),
    )
    row = re.search(
        r'<div class="dialects either">(.*?)<pre[^>]*><code>[^\n]*after', text, re.S
    )
    assert row is not None
    parts = re.split(r'<div class="dialect (\w+)">', row[1])
    assert parts[1::2] == ["keras", "tf2", "tf1"]
    for part, expected in zip(
        parts[2::2],
        (
            ("Keras", "sequential", "from keras"),
            ("TensorFlow 2", "forward", "from two"),
            ("TensorFlow 1", "placeholder", "from one"),
        ),
        strict=True,
    ):
        for words in expected:
            assert words in part
    assert "·" not in row[1]  # the caption replaces the first line


def test_only_code_with_a_color_of_its_own_is_marked_up() -> None:
    source = "def f(a):  # <why>\n\treturn a[0] + 'b' @ c\n\n\nx = f\n"
    marked = highlight_python(source)
    assert html.unescape(re.sub("<[^>]*>", "", marked)) == source
    assert "<i class=k>return</i> a[" in marked
    assert set(re.findall(r"<i class=(\w)>", marked)) == set("kfrns")
    assert all(line.count("<i ") == line.count("</i>") for line in marked.split("\n"))


def test_second_row_without_prose_is_a_separate_row() -> None:
    dialects = [code("1", "keras"), code("2", "tf2")]
    assert (
        body(*dialects, *(code("3", "keras"), code("4", "tf2"))).count(
            '<div class="dialects">'
        )
        == 2
    )


def test_cell_with_hidden_input_has_its_code_folded_below_its_output() -> None:
    text = body(code("plot()", "hide-input", text__plain="a curve"))
    output, _, aside = text.partition("a curve")
    assert "plot" not in output
    assert aside.index('<details class="source aside">') < aside.index("plot()")


def test_hidden_check_without_output_is_shown_where_the_parameters_are() -> None:
    text = body(code("check(seed)", "hide-input"), markdown("## Model"))
    assert text.index("digits-model") < text.index("digits-run-again")
    assert "check(seed)" in text.partition("digits-run-again")[2]
    assert text.count("check(seed)") == 1


def test_parameters_are_a_table_and_the_command_repeats_the_run() -> None:
    seed = Parameter("seed", int, 7, "of the <weights>")
    run = executed(
        code("epochs: int = 2", "parameters"),
        code("epochs = 5", "injected-parameters"),
        parameters=EPOCHS | {"seed": seed},
        values={"epochs": 5},
    )
    text = page(run)
    assert "papermill notebooks/02_digits.ipynb out.ipynb -p epochs 5</code>" in text
    assert "of the &lt;weights&gt;" in text
    assert "<code>epochs = 5</code>, <code>seed = 7</code>" in text
    assert '<pre class="code" tabindex="0"><code><span' not in text  # no code cell
    assert 'download="02_digits.ipynb.gz"' in text


def test_program_is_offered_as_a_file_without_marks() -> None:
    source = "# TensorFlow 2 · Whole program\nimport tensorflow\n\nx = 'é'  # (1)\n\n"
    text = page(
        executed(
            markdown("1. what x is", "legend"),
            code("x = 1  # (1)", "keras"),
            code(source, "tf2", "program"),
        )
    )
    link = re.search(
        r'<a href="data:application/gzip;base64,([^"]+)" '
        r'download="02_digits\.py\.gz">Download this program</a> '
        r"<code>02_digits\.py</code>",
        text,
    )
    assert link is not None
    program = gzip.decompress(base64.b64decode(link[1])).decode()
    assert program == ("# TensorFlow 2 · Whole program\nimport tensorflow\n\nx = 'é'\n")
    pane = text.split('<div class="dialect tf2">')[1].split("</div>")[0]
    assert link[0] in pane


def test_program_with_hidden_input_can_still_be_downloaded() -> None:
    text = body(code("import hidden", "program", "hide-input"))
    offer, _, aside = text.partition('download="02_digits.py.gz"')
    assert "import" not in offer
    assert "hidden" in aside


def test_second_program_in_a_notebook_fails() -> None:
    with pytest.raises(RenderError, match=r"02_digits\.ipynb: more than one cell"):
        body(code("1", "program"), code("2", "program"))


def test_command_is_quoted_for_the_shell_and_for_papermill() -> None:
    known = {name: Parameter(name, str, "", "") for name in ("name", "number", "on")}
    values = {"name": "a b'c", "number": "1e5", "on": True}
    assert command(executed()) == "papermill notebooks/02_digits.ipynb out.ipynb"
    assert command(executed(parameters=known, values=values)).endswith(
        """ -r name 'a b'"'"'c' -r number 1e5 -p on True"""
    )


def test_results_path_is_not_a_changed_parameter() -> None:
    path = Parameter("results_path", str, "", "")
    run = executed(
        parameters={"results_path": path}, values={"results_path": "results/a.json"}
    )
    assert run.changed == {}


def test_page_has_one_h1_and_unique_ids() -> None:
    section = (markdown("## Model\n\n### Model"), markdown("## Model"))
    text = page(executed(*section), executed(*section, name="03_again"))
    ids = re.findall(r' id="([^"]+)"', text)
    assert [found for found, count in Counter(ids).items() if count > 1] == []
    assert text.count("<h1") == 1
    assert {"digits", "digits-model", "digits-model-2", "again-model"} <= set(ids)
    links = set(re.findall(r'href="#([^"]+)"', text))
    assert links <= set(ids)


def test_no_heading_skips_a_level_and_siblings_stay_siblings() -> None:
    text = body(markdown("### Imports\n\n### Data\n\n## Model\n\n#### Loss\n\n## End"))
    levels = re.findall(r"<h(\d) id=\"digits[^>]*>(?:<span.*?</span>)?\s*(\w+)", text)
    assert [(int(level), name) for level, name in levels[1:6]] == [
        (3, "Imports"),
        (3, "Data"),
        (3, "Model"),
        (4, "Loss"),
        (3, "End"),
    ]


def test_titled_blocks_of_code_are_shown_side_by_side() -> None:
    pair = sources.beside({"TensorFlow 1": "a < 1", "ours <b>": "b = 2"}).text
    alone = sources.beside({"alone": "c = 3"}).text

    for shown in (
        body(markdown(f"{pair}\n\nThen\n\n{alone}")),
        body(code("show()", text__markdown=f"{pair}\n\nThen\n\n{alone}")),
    ):
        abreast, _, rest = shown.split('<div class="abreast">')[1].partition("Then")
        assert abreast.count('<div class="source titled') == 2
        assert (
            '<div class="source titled tf1"><p class="name">TensorFlow 1</p>' in abreast
        )
        assert '<p class="name">ours &lt;b&gt;</p><pre class="code"' in abreast
        assert '<div class="source titled"><p class="name">alone</p>' in rest


def test_link_between_notebooks_becomes_a_link_between_sections() -> None:
    link = "[there](02_digits.ipynb#Do-they-agree?)"
    text = body(markdown(f"## Do they agree?\n\n{link}"))
    assert 'href="#digits-do-they-agree">there</a>' in text


def test_link_to_a_missing_heading_fails() -> None:
    with pytest.raises(RenderError, match="leads to '#digits-nowhere'"):
        body(markdown("[there](02_digits.ipynb#Nowhere)"))


def test_link_to_a_notebook_outside_the_report_becomes_plain_text() -> None:
    text = body(
        markdown("See [the other](09_other.ipynb#Here) and [this](02_digits.ipynb)")
    )
    assert "See the other and " in text
    assert '<a href="#digits">this</a>' in text


def test_formula_becomes_mathml_and_keeps_its_comma() -> None:
    text = body(markdown("so $x_1$, and\n\n$$\\sum_i x_i$$"))
    assert text.count("<math") == 2
    assert "</math>,</span>" in text
    assert 'display="block"' in text


def test_only_a_formula_and_its_point_are_kept_together() -> None:
    text = body(markdown("If $a$ is small and far from it, then so is $b$."))
    _, _, together = text.partition('<span class="together">')
    assert together.startswith("<math")
    assert "</math>.</span>" in together
    assert "then so is" not in together


@pytest.mark.parametrize(
    "formula",
    [
        r"\nosuch x",
        r"\arg\max x",
        r"\frac{1}{",
        r"\begin{aligned}a&=b\end{aligned}",
        r"\text{<script>alert(1)</script>}",
        r"\text{<img src=x onerror=alert(1)>}",
        r"\href{javascript:alert(1)}{x}",
    ],
)
def test_formula_that_mathml_cannot_express_fails_by_name(formula: str) -> None:
    with pytest.raises(ValueError, match="cannot become MathML"):
        to_mathml(formula, display=False)
    with pytest.raises(RenderError) as failure:
        page(executed(markdown(f"## Loss\n\n${formula}$")))
    assert "02_digits.ipynb" in str(failure.value)
    assert repr(formula) in str(failure.value)


def test_known_macros_pass() -> None:
    for formula in (r"\hat{y}", r"a \backslash b", r"\operatorname{relu}(x)", "x<y"):
        assert to_mathml(formula, display=True).startswith("<math")


def test_markup_anywhere_in_a_notebook_cannot_run() -> None:
    text = page(
        executed(
            markdown(
                f"## {SCRIPT}\n\n{SCRIPT} [link](javascript:alert(3))\n\n{SCRIPT}"
            ),
            code(f"'{SCRIPT}'", stdout=f"{SCRIPT}{ANSI}"),
            code("1", text__html=f"<p style='x' onclick='y'>{SCRIPT}</p><form></form>"),
            code("2", text__markdown=SCRIPT),
            code("3", text__latex="$x$"),
            code("4", **{"application__javascript": "alert(4)", "text__plain": "5"}),
            code("6", **{"image__svg+xml": SVG}),
            parameters={"dataset": Parameter("dataset", str, SCRIPT, SCRIPT)},
            values={"dataset": f"{SCRIPT}'\""},
        )
    )
    markup = re.sub(
        r"base64,[\w+/=]+|<script>.*</script>\n</head>", "", text, flags=re.S
    )
    tags = re.findall(r"<[a-zA-Z][^>]*>", markup)
    forbidden = re.compile("(?i)<(script|form|iframe|object|meta|base|link)")
    own = [tag for tag in tags if not re.match(r"<(meta|link rel=\"icon\")", tag)]
    assert [tag for tag in own if forbidden.match(tag)] == []
    assert [tag for tag in tags if re.search(r"(?i)http-equiv=.?refresh", tag)] == []
    bare = [re.sub(r'"[^"]*"', '""', tag) for tag in tags]  # values are only text
    assert [tag for tag in bare if re.search(r"(?i)[\s\"'/]on\w+\s*=", tag)] == []
    assert [tag for tag in tags if "javascript:" in tag or " style=" in tag] == []
    assert "<img" not in markup
    assert "<meta" not in markup.split("<body>")[1].lower()
    assert "orange</pre>" in markup
    assert "\x1b" not in markup


def test_figure_is_inline_with_a_caption_and_unique_ids() -> None:
    cell = code("plot()", **{"image__svg+xml": SVG, "text__plain": "a falling line"})
    first = body(cell)
    assert 'role="img" aria-labelledby="figure-2-1-caption"' in first
    assert 'href="#figure-2-1">Figure 2.1</a> a falling line</figcaption>' in first
    assert 'id="figure-2-1-p"' in first
    assert 'href="#figure-2-1-p"' in first
    assert 'stroke="#00f"' in first
    assert 'clip-path="url(#figure-2-1-p)"' in first
    assert "example.org" not in first.split("download=")[0].split("base64")[0]
    assert 'id="figure-2-2-p"' in body(cell, cell)
    cell.outputs[0].metadata["image/svg+xml"] = {"alt": 'a "rising" <line>'}
    assert "</a> a &#34;rising&#34; &lt;line&gt;</figcaption>" in body(cell)


@pytest.mark.parametrize(
    ("width", "place"),
    [("320", "small"), ("440", "medium"), ("680", "text"), ("1080.5", "large")],
)
def test_figures_have_a_place_by_their_width_and_keep_their_data_in_words(
    width: str, place: str
) -> None:
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="9">'
        "<desc>Keras: 2, &lt;1&gt;.<script>alert(1)</script></desc></svg>"
    )
    text = body(code("1", **{"image__svg+xml": svg, "text__plain": "It falls."}))
    assert f'<figure id="figure-2-1" class="{place}">' in text
    assert "<desc>Keras: 2, &lt;1&gt;.</desc>" in text


def test_figures_are_numbered_by_section() -> None:
    plot = code("plot()", **{"image__png": "iVBORw0KGgo=", "text__plain": "dots"})
    directory = Parameter("results_dir", str, "", "where")
    text = page(
        executed(plot, plot, name="01_line"),
        executed(plot, name="02_digits"),
        executed(plot, name="08_all", parameters={"results_dir": directory}),
    )
    numbers = re.findall(r">Figure ([\d.]+)</a>", text)
    assert numbers == ["1", "1.1", "1.2", "2.1"]  # the comparison opens the page
    assert text.count('<img alt="dots" src="data:image/png;base64,') == 4


def test_table_is_aligned_without_styles() -> None:
    text = body(code("1", text__markdown="| a | b |\n| --- | ---: |\n| 1 | 2 |"))
    assert '<th scope="col" class="right">b</th>' in text
    assert '<td data-label="b" class="right">2</td>' in text


@pytest.mark.parametrize(
    "output",
    [
        new_output("stream", name="stderr", text="a stray warning"),
        new_output("error", ename="ValueError", evalue="bad", traceback=[]),
    ],
    ids=["stderr", "error"],
)
def test_stderr_and_errors_fail_the_build(output: NotebookNode) -> None:
    cell = code("# the cell\n1")
    cell.outputs.append(output)
    with pytest.raises(RenderError, match=r"02_digits\.ipynb: cell '# the cell': "):
        page(executed(cell))


def test_notebook_without_a_title_fails() -> None:
    run = executed()
    del run.notebook.cells[0]
    with pytest.raises(RenderError, match=r"first cell must be its '# Title'"):
        page(run)


def test_image_from_a_file_or_the_web_fails() -> None:
    with pytest.raises(RenderError, match=r"image 'https://example\.org/a\.png'"):
        page(executed(markdown("![a](https://example.org/a.png)")))


def test_provenance_is_shown() -> None:
    text = page(executed())
    for fact in ("the digits, as asked for", "5eed", "Z80", "unknown"):
        assert fact in text


def test_provenance_shows_the_releases_of_the_committed_table() -> None:
    root = Path(render.__file__).parents[2]
    found = provenance.gather(root / "notebooks", root / "no results", REASON)
    assert all(len(row) == 5 and row[0].startswith("2.") for row in found.releases)
    assert ["2.21.0", "3.15.1", "2.4.6", "0", "seed"] in found.releases
    assert found.picture.startswith("<svg")
    assert "<script" not in found.picture
    facts = dataclasses.replace(PROVENANCE, releases=found.releases)
    text = render.pages([executed()], facts)["provenance.html"]
    assert "Other releases of TensorFlow and Keras" in text
    assert '<td data-label="Keras">3.15.1</td>' in text
    assert "Other releases of TensorFlow and Keras" not in page(executed())
