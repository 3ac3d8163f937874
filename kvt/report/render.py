"""Executed notebooks → one HTML page that loads nothing.

One nbconvert pass renders one merged notebook. Nothing that a notebook contains can
run in the page: HTML in Markdown is shown as text, outputs are cleaned, and the page's
policy allows only its own script.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import bleach  # type: ignore[import-untyped]
from jinja2 import pass_context
from jinja2.runtime import Context
from nbconvert import HTMLExporter
from nbconvert.exporters import TemplateExporter
from traitlets.config import Config

from kvt.compare.results import DIALECTS
from kvt.report import svg
from kvt.report.markdown import Outline, highlight_python, legend_to_html, to_html
from kvt.report.marks import link_lines
from kvt.report.merge import RenderError, Section, merge
from kvt.report.notebooks import NotebookNode
from kvt.report.plan import Chapter
from kvt.report.provenance import Provenance
from kvt.report.style import TEMPLATES, policy, script, style

TITLE = "Keras and TensorFlow, bit for bit"
CLAIM = (
    "The same models in Keras and in raw TensorFlow, side by side. They start from the "
    "same weights, and after every epoch their float32 weights and their histories are "
    "equal to the last bit."
)
# The forms of an output that the page can show, the preferred one first.
SHOWN = [
    "image/svg+xml",
    "text/html",
    "text/markdown",
    "text/latex",
    "image/png",
    "image/jpeg",
    "text/plain",
]
# What an output's HTML may contain; the rest is shown as text or dropped.
TAGS = {
    *("a", "abbr", "b", "br", "code", "div", "em", "i", "p", "pre", "small", "span"),
    *("strong", "sub", "sup", "dd", "dl", "dt", "li", "ol", "ul", "caption", "col"),
    *("colgroup", "table", "tbody", "td", "tfoot", "th", "thead", "tr"),
}
ATTRIBUTES = {
    "*": ["class", "title"],
    "a": ["href"],
    "abbr": ["title"],
    "td": ["colspan", "rowspan"],
    "th": ["colspan", "rowspan", "scope"],
}


def render(chapters: Sequence[Chapter], *, reason: str, provenance: Provenance) -> str:
    """Return the report as one HTML file; equal input gives equal bytes.

    `reason` says which data set the report uses, and why. Raises RenderError for an
    error or output on stderr, a formula that MathML cannot express, a mark without a
    counterpart, or a link to a missing heading.
    """
    merged, sections = merge(chapters)
    look, behavior = style(), script()
    resources = {
        "title": TITLE,
        "claim": CLAIM,
        "reason": reason,
        "style": look,
        "script": behavior,
        "policy": policy(look, behavior),
        "sections": sections,
        "dialects": DIALECTS,
        "provenance": provenance,
    }
    config = Config()
    config.NbConvertBase.display_data_priority = SHOWN
    # Each would copy and check the notebook, and none would change it.
    config.HTMLExporter.default_preprocessors = []
    exporter = HTMLExporter(  # type: ignore[no-untyped-call]
        template_name="report",
        extra_template_basedirs=[str(TEMPLATES)],
        filters=_filters(sections),
        config=config,
    )
    # HTMLExporter's own method would parse the whole page again, for nothing.
    page, _ = TemplateExporter.from_notebook_node(exporter, merged, resources)
    _reject_dead_links(page)
    return f"{page.rstrip()}\n"


@dataclass(frozen=True)
class Caption:
    """A figure's number in the page, as in 2.1 for section 2, and what it shows."""

    number: str
    text: str

    @property
    def id(self) -> str:
        """The figure's id, with which the ids inside it begin."""
        return f"figure-{self.number.replace('.', '-')}"


def _filters(sections: Sequence[Section]) -> dict[str, Callable[..., Any]]:
    """Return the template's filters; they count the page's headings and figures."""
    outline = Outline({each.id: each.chapter.number for each in sections})
    figures: Counter[str] = Counter()
    lines: set[str] = set()

    @pass_context
    def markdown2html(context: Context, source: str) -> str:
        cell = context["cell"]
        try:
            if cell.cell_type == "markdown" and "ideas" in cell.metadata:
                return legend_to_html(source, cell.metadata.ideas, outline)
            return to_html(source, cell.metadata.section, outline)
        except ValueError as problem:
            raise RenderError(f"{cell.metadata.notebook}: {problem}") from problem

    def highlight(cell: NotebookNode) -> str:
        code = highlight_python(cell.source)
        dialect, ideas = cell.metadata.get("dialect"), cell.metadata.get("ideas")
        return link_lines(code, ideas, dialect, lines) if ideas else code

    @pass_context
    def captioned(context: Context, output: NotebookNode) -> Caption:
        number = context["cell"].metadata.number
        figures[number] += 1
        whole = ".".join(filter(None, (number, str(figures[number]))))
        return Caption(whole, alternative(output))

    return {
        "markdown2html": markdown2html,
        "highlight_cell": highlight,
        "clean_output": clean_output,
        "captioned": captioned,
        "inline_svg": svg.inline,
        "headings": lambda section: outline.headings[section],
        "without_links": lambda markup: re.sub(r"</?a\b[^>]*>", "", markup),
    }


def _reject_dead_links(page: str) -> None:
    """Raise RenderError if a link within the page leads nowhere."""
    there = set(re.findall(r' id="([^"]+)"', page))
    for target in map(unquote, re.findall(r' href="#([^"]+)"', page)):
        if target not in there:
            raise RenderError(
                f"a link leads to '#{target}', and the page has no such heading"
            )


def clean_output(markup: str) -> str:
    """Keep what tables and text need of an output's HTML: no script, style or form."""
    cleaned: str = bleach.clean(
        re.sub(r"(?is)<(style|script)\b.*?</\1\s*>", "", markup),
        tags=TAGS,
        attributes=ATTRIBUTES,
        protocols=["https"],
        strip_comments=True,
    )
    return cleaned


def alternative(output: NotebookNode) -> str:
    """Return what a figure shows, in words: its alt text, else its plain text."""
    for kind in ("image/svg+xml", "image/png", "image/jpeg"):
        if output.metadata.get(kind, {}).get("alt"):
            return str(output.metadata[kind]["alt"])
    return str(output.data.get("text/plain", ""))
