"""Executed notebooks → one HTML page that asks nothing of anybody else.

One nbconvert pass over one merged notebook. Nothing in it may run: markdown's HTML is
shown as text, outputs are cleaned, and the page's own policy allows no script.
"""

import base64
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bleach  # type: ignore[import-untyped]
from jinja2 import pass_context
from jinja2.runtime import Context
from nbconvert import HTMLExporter
from nbconvert.exporters import TemplateExporter
from nbformat import NotebookNode
from pygments.formatters import HtmlFormatter  # type: ignore[import-untyped]
from traitlets.config import Config

from kvt.report import svg
from kvt.report.markdown import Outline, highlight_python, to_html
from kvt.report.merge import DIALECTS, Executed, RenderError, merge
from kvt.report.provenance import Provenance

TEMPLATES = Path(__file__).parent / "templates"
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
    left an error or a line on stderr, or holds a formula that MathML cannot take.
    """
    merged, sections = merge(executed)
    style = _style()
    resources = {
        "title": TITLE,
        "claim": CLAIM,
        "reason": reason,
        "style": style,
        "policy": _policy(style),
        "sections": sections,
        "dialects": DIALECTS,
        "provenance": provenance,
    }
    page, _ = _ReportExporter().from_notebook_node(merged, resources)
    return f"{page.rstrip()}\n"


class _ReportExporter(HTMLExporter):
    """nbconvert's HTML with this project's template and filters."""

    def __init__(self) -> None:
        priority = {"display_data_priority": SHOWN}
        super().__init__(  # type: ignore[no-untyped-call]
            template_name="report",
            extra_template_basedirs=[str(TEMPLATES)],
            config=Config({"NbConvertBase": priority}),
        )

    def from_notebook_node(  # type: ignore[override]
        self, nb: NotebookNode, resources: dict[str, Any] | None = None, **kw: Any
    ) -> tuple[str, dict[str, Any]]:
        outline = Outline()
        figures = iter(range(1, 1_000_000))

        @pass_context
        def markdown2html(context: Context, source: str) -> str:
            cell = context["cell"]
            try:
                return to_html(source, cell.metadata.section, outline)
            except ValueError as problem:
                raise RenderError(f"{cell.metadata.notebook}: {problem}") from problem

        def figure(output: NotebookNode) -> str:
            source = output.data["image/svg+xml"]
            return svg.inline(source, alternative(output), f"figure{next(figures)}-")

        filters = {
            "markdown2html": markdown2html,
            "highlight_code": highlight_python,
            "clean_output": clean_output,
            "figure": figure,
            "alternative": alternative,
            "title": lambda section: outline.headings[section][0],
            "without_links": lambda markup: re.sub(r"</?a\b[^>]*>", "", markup),
        }
        for name, function in filters.items():
            self.register_filter(name, function)  # type: ignore[no-untyped-call]
        # HTMLExporter's own would parse the whole page again, to add what ours has.
        return TemplateExporter.from_notebook_node(self, nb, resources, **kw)


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


def _style() -> str:
    """The page's stylesheet, with code in colors that keep their contrast."""
    light, dark = map(_code_style, ("a11y-light", "github-dark-high-contrast"))
    own = (TEMPLATES / "report" / "report.css").read_text("utf-8")
    dark = f"@media screen and (prefers-color-scheme: dark) {{\n{dark}\n}}"
    return f"\n{light}\n{dark}\n{own}"


def _code_style(name: str) -> str:
    """The rules of a Pygments style for its tokens; line numbers we have none."""
    rules = HtmlFormatter(style=name).get_style_defs(".code").splitlines()
    return "\n".join(rule for rule in rules if rule.startswith(".code ."))


def _policy(style: str) -> str:
    """A policy that allows this stylesheet and embedded images, and nothing else."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; "
        f"base-uri 'none'; form-action 'none'"
    )
