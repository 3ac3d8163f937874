"""Executed notebooks → one HTML page that asks nothing of anybody else.

One nbconvert pass over one merged notebook. Nothing in it may run: markdown's HTML is
shown as text, outputs are cleaned, and the page's policy allows no script but its own.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import bleach  # type: ignore[import-untyped]
from jinja2 import pass_context
from jinja2.runtime import Context
from nbconvert import HTMLExporter
from nbconvert.exporters import TemplateExporter
from nbformat import NotebookNode
from traitlets.config import Config

from kvt.compare.results import DIALECTS
from kvt.report import svg
from kvt.report.markdown import Outline, highlight_python, legend_to_html, to_html
from kvt.report.marks import link_lines
from kvt.report.merge import Executed, RenderError, merge
from kvt.report.provenance import Provenance
from kvt.report.style import TEMPLATES, policy, script, style

TITLE = "Keras and TensorFlow, bit for bit"
CLAIM = (
    "The same models in Keras and in raw TensorFlow, side by side: from the same "
    "initial weights they hold the same float32 weights and the same history after "
    "every epoch, to the last bit."
)
# The forms of an output that the page can show, best first.
SHOWN = [
    "image/svg+xml",
    "text/html",
    "text/markdown",
    "text/latex",
    "image/png",
    "image/jpeg",
    "text/plain",
]
# What an output's HTML may consist of; all else in it is shown as text or dropped.
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


def render(executed: Sequence[Executed], *, reason: str, provenance: Provenance) -> str:
    """Return the report as one HTML file; equal input gives equal bytes.

    `reason` says which data set it is on, and why. Raises RenderError where a notebook
    left an error or a line on stderr, holds a formula that MathML cannot take, a mark
    without a counterpart, or a link to a heading that is not there.
    """
    merged, sections = merge(executed)
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
    page, _ = _ReportExporter().from_notebook_node(merged, resources)
    _refuse_dead_links(page)
    return f"{page.rstrip()}\n"


@dataclass(frozen=True)
class Figure:
    """A figure's number in the page, its section's first, and what it shows."""

    number: str
    text: str

    @property
    def id(self) -> str:
        """What links to it, and what the ids within it begin with."""
        return f"figure-{self.number.replace('.', '-')}"


class _ReportExporter(HTMLExporter):
    """nbconvert's HTML with this project's template and filters."""

    def __init__(self) -> None:
        config = Config()
        config.NbConvertBase.display_data_priority = SHOWN
        # Each would copy and check the notebook, and none has anything to change.
        config.HTMLExporter.default_preprocessors = []
        super().__init__(  # type: ignore[no-untyped-call]
            template_name="report",
            extra_template_basedirs=[str(TEMPLATES)],
            config=config,
        )

    def from_notebook_node(  # type: ignore[override]
        self, nb: NotebookNode, resources: dict[str, Any] | None = None, **kw: Any
    ) -> tuple[str, dict[str, Any]]:
        sections = resources["sections"] if resources else []
        outline = Outline({section.id: section.number for section in sections})
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
        def numbered(context: Context, output: NotebookNode) -> Figure:
            number = context["cell"].metadata.number
            figures[number] += 1
            return Figure(
                ".".join(filter(None, (number, str(figures[number])))),
                alternative(output),
            )

        filters = {
            "markdown2html": markdown2html,
            "highlight_cell": highlight,
            "clean_output": clean_output,
            "numbered": numbered,
            "inline_svg": svg.inline,
            "headings": lambda section: outline.headings[section],
            "without_links": lambda markup: re.sub(r"</?a\b[^>]*>", "", markup),
        }
        for name, function in filters.items():
            self.register_filter(name, function)  # type: ignore[no-untyped-call]
        # HTMLExporter's own would parse the whole page again, to add what ours has.
        return TemplateExporter.from_notebook_node(self, nb, resources, **kw)


def _refuse_dead_links(page: str) -> None:
    """Raise RenderError where a link within the page leads nowhere."""
    there = set(re.findall(r' id="([^"]+)"', page))
    for target in map(unquote, re.findall(r' href="#([^"]+)"', page)):
        if target not in there:
            raise RenderError(
                f"a link leads to '#{target}', a heading that is not there"
            )


def clean_output(markup: str) -> str:
    """Keep of an output's HTML what tables and text need: no script, style or form."""
    cleaned: str = bleach.clean(
        re.sub(r"(?is)<(style|script)\b.*?</\1\s*>", "", markup),
        tags=TAGS,
        attributes=ATTRIBUTES,
        protocols=["https"],
        strip_comments=True,
    )
    return cleaned


def alternative(output: NotebookNode) -> str:
    """What a figure shows, in words: its metadata's alt, else its plain text."""
    for kind in ("image/svg+xml", "image/png", "image/jpeg"):
        if output.metadata.get(kind, {}).get("alt"):
            return str(output.metadata[kind]["alt"])
    return str(output.data.get("text/plain", ""))
