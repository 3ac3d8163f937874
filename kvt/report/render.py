"""Executed notebooks → one HTML page that loads nothing.

Nothing that a notebook contains can run in the page: HTML in Markdown is shown as text,
outputs are cleaned, and the page's policy allows only its own script.
"""

import base64
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import bleach  # type: ignore[import-untyped]
from jinja2 import pass_context
from jinja2.runtime import Context
from nbconvert import HTMLExporter
from nbconvert.exporters import TemplateExporter
from pygments.styles import get_style_by_name  # type: ignore[import-untyped]
from pygments.token import STANDARD_TYPES  # type: ignore[import-untyped]
from traitlets.config import Config

from kvt.compare.results import DIALECTS
from kvt.report import svg
from kvt.report.markdown import Outline, highlight_python, to_html
from kvt.report.marks import link_lines
from kvt.report.merge import RenderError, Section, merge
from kvt.report.notebooks import NotebookNode
from kvt.report.plan import Chapter
from kvt.report.provenance import Provenance

TEMPLATES = Path(__file__).parent / "templates"

# The forms of an output that the page can show, the preferred one first.
SHOWN = [
    *("image/svg+xml", "text/html", "text/markdown", "text/latex"),
    *("image/png", "image/jpeg", "text/plain"),
]
# What an output's HTML may contain; the rest is shown as text or dropped.
TAGS = {
    *("a", "abbr", "b", "br", "code", "div", "em", "i", "p", "pre", "small", "span"),
    *("strong", "sub", "sup", "dd", "dl", "dt", "li", "ol", "ul", "caption", "col"),
    *("colgroup", "table", "tbody", "td", "tfoot", "th", "thead", "tr"),
}
ATTRIBUTES = {"*": ["class", "title"], "a": ["href"]}
ATTRIBUTES |= {cell: ["colspan", "rowspan", "scope"] for cell in ("td", "th")}


def render(chapters: Sequence[Chapter], *, reason: str, provenance: Provenance) -> str:
    """Return the report as one HTML file; equal input gives equal bytes.

    `reason` says which data set the report uses, and why. Raises RenderError for
    notebooks that cannot become a page: see `merge`, and links to missing headings.
    """
    sections = merge(chapters)
    own = TEMPLATES / "report"
    colors = _code_colors("a11y-light", "github-dark-high-contrast")
    resources = {
        "style": f"\n{colors}\n{(own / 'report.css').read_text('utf-8')}",
        "script": "\n" + (own / "report.js").read_text("utf-8"),
        "reason": reason,
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
    empty = NotebookNode(metadata={})  # type: ignore[no-untyped-call]
    page, _ = TemplateExporter.from_notebook_node(exporter, empty, resources)
    _reject_dead_links(page)
    return f"{page.rstrip()}\n"


def _digest(text: str) -> str:
    """Return what the page's policy calls an allowed style or script."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _code_colors(light: str, dark: str) -> str:
    """Return CSS for two of Pygments's styles at once, one rule per pair of colors."""
    selectors = defaultdict(list)
    styles = [get_style_by_name(style) for style in (light, dark)]
    for token, name in STANDARD_TYPES.items():
        pair = [style.style_for_token(token)["color"] for style in styles]
        if name and any(pair):
            colors = [f"#{color}" if color else "currentcolor" for color in pair]
            selectors[", ".join(colors)].append(f".code .{name}")
    return "\n".join(
        f"{', '.join(names)} {{ color: light-dark({colors}); }}"
        for colors, names in selectors.items()
    )


def _filters(sections: Sequence[Section]) -> dict[str, Callable[..., Any]]:
    """Return the template's filters; they count the page's headings and figures."""
    outline = Outline({each.id: each.chapter.number for each in sections})
    figures: Counter[str] = Counter()
    lines: set[str] = set()

    @pass_context
    def markdown2html(context: Context, source: str) -> str:
        section = context["section"]
        try:
            return to_html(source, section.id, outline)
        except ValueError as problem:
            raise RenderError(f"{section.chapter.path.name}: {problem}") from problem

    def highlight(cell: NotebookNode) -> str:
        code = highlight_python(cell.source)
        dialect, ideas = cell.metadata.get("dialect"), cell.metadata.get("ideas")
        return link_lines(code, ideas, dialect, lines) if ideas else code

    @pass_context
    def figure_number(context: Context, _: NotebookNode) -> str:
        number = context["section"].chapter.number
        figures[number] += 1
        return f"{number}.{figures[number]}".lstrip(".")  # the comparison has none

    return {
        "markdown2html": markdown2html,
        "highlight_cell": highlight,
        "clean_output": clean_output,
        "figure_number": figure_number,
        "alternative": alternative,
        "digest": _digest,
        "inline_svg": svg.inline,
        "headings": lambda section: outline.headings[section],
        "without_links": lambda markup: re.sub(r"</?a\b[^>]*>", "", markup),
    }


def _reject_dead_links(page: str) -> None:
    """Raise RenderError if a link within the page leads nowhere."""
    there = set(re.findall(r' id="([^"]+)"', page))
    for target in map(unquote, re.findall(r' href="#([^"]+)"', page)):
        if target not in there:
            raise RenderError(f"a link leads to '#{target}', which is no heading")


def clean_output(markup: str) -> str:
    """Keep what tables and text need of an output's HTML: no script, style or form."""
    shown = re.sub(r"(?is)<(style|script)\b.*?</\1\s*>", "", markup)
    return str(bleach.clean(shown, TAGS, ATTRIBUTES, protocols=["https"]))


def alternative(output: NotebookNode) -> str:
    """Return what a figure shows, in words: its alt text, else its plain text."""
    for kind in ("image/svg+xml", "image/png", "image/jpeg"):
        if output.metadata.get(kind, {}).get("alt"):
            return str(output.metadata[kind]["alt"])
    return str(output.data.get("text/plain", ""))
