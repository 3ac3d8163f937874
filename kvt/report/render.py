"""Executed notebooks → the report's HTML pages, which load nothing.

Nothing that a notebook contains can run in a page: HTML in Markdown is shown as text,
outputs are cleaned, and the page's policy allows only its own script.
"""

import base64
import functools
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, TypedDict, Unpack
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
from kvt.report import book, helpers, search, start, svg
from kvt.report.book import Page
from kvt.report.markdown import Outline, highlight_python, to_html
from kvt.report.marks import link_lines
from kvt.report.merge import RenderError, merge, packed
from kvt.report.notebooks import NotebookNode
from kvt.report.plan import Chapter
from kvt.report.provenance import Provenance

TEMPLATES = Path(__file__).parent / "templates"

# The forms of an output that the page can show, the preferred one first.
SHOWN = [
    *("image/svg+xml", "text/html", "text/markdown", "text/latex"),
    *("image/png", "image/jpeg", "text/plain"),
]
# Links within the report: to a page, to a place in it, or to a place in the same page.
_LINK = re.compile(r' href="(?!")([\w-]+\.html)?(#([^"]*))?"')
# What an output's HTML may contain; the rest is shown as text or dropped.
TAGS = {
    *("a", "abbr", "b", "br", "code", "div", "em", "i", "p", "pre", "small", "span"),
    *("strong", "sub", "sup", "dd", "dl", "dt", "li", "ol", "ul", "caption", "col"),
    *("colgroup", "table", "tbody", "td", "tfoot", "th", "thead", "tr"),
}
ATTRIBUTES = {"*": ["class", "title"], "a": ["href"]}
ATTRIBUTES |= {cell: ["colspan", "rowspan", "scope"] for cell in ("td", "th")}


class Facts(TypedDict):
    """Where a report comes from; `reason`: which data set it uses, and why."""

    reason: str
    provenance: Provenance


def pages(chapters: Sequence[Chapter], **facts: Unpack[Facts]) -> dict[str, str]:
    """Return the report's HTML files, by name; equal input gives equal bytes.

    Raises RenderError for notebooks that cannot become pages: see `merge`, and links to
    missing headings.
    """
    return _render(book.divide(merge(chapters)), facts)


def single(chapters: Sequence[Chapter], **facts: Unpack[Facts]) -> str:
    """Return the whole report as one HTML file; see `pages`."""
    return _render(book.bind(merge(chapters)), facts)[book.INDEX]


def pages_of(index: str) -> list[str]:
    """Return the files of a report, as its first page lists them; [] for other HTML."""
    listed = re.search(r'<meta name="kvt-pages" content="([^"]*)">', index[:4096])
    return re.findall(r"[\w-]+\.html", listed[1]) if listed else []


def _render(parts: Sequence[Page], facts: Facts) -> dict[str, str]:
    """Return a report of these pages, each with the index of all words for the search.

    The index is known only when all pages are: until then its place is empty.
    """
    exporter = _exporter(parts)
    rendered = {}
    for page in parts:
        resources = {**facts, **_assets(page.opens), "dialects": DIALECTS}
        resources |= {"page": page, "pages": parts}
        cells = [it.chapter.notebook.cells for it in page.sections]
        resources["helpers"] = helpers.used([cell for own in cells for cell in own])
        if page.opens:
            resources["start"] = start.gather(page.sections)
        # HTMLExporter's own method would parse the whole page again, for nothing.
        empty = NotebookNode(metadata={})  # type: ignore[no-untyped-call]
        text, _ = TemplateExporter.from_notebook_node(exporter, empty, resources)
        rendered[page.file] = f"{text.rstrip()}\n"
    _reject_dead_links(rendered)
    index = packed(search.index(rendered)).partition(",")[2]
    filled = f"{search.PLACE[0]}{index}{search.PLACE[1]}"
    return {
        file: text.replace("".join(search.PLACE), filled)
        for file, text in rendered.items()
    }


class _Exporter(HTMLExporter):
    """Uses nbconvert's own templates; JUPYTER_PATH may have others of their names."""

    def get_prefix_root_dirs(self) -> list[str]:
        """Return the directory that has nbconvert/templates."""
        known = distribution("nbconvert").files or []
        base = next(it for it in known if it.match("templates/base/null.j2"))
        return [str(Path(str(base.locate())).resolve().parents[3])]


def _exporter(parts: Sequence[Page]) -> HTMLExporter:
    config = Config()
    config.NbConvertBase.display_data_priority = SHOWN
    # Each would copy and check the notebook, and none would change it.
    config.HTMLExporter.default_preprocessors = []
    return _Exporter(  # type: ignore[no-untyped-call]
        template_name="report",
        template_data_paths=[],
        extra_template_basedirs=[str(TEMPLATES)],
        filters=_filters(parts),
        config=config,
    )


@functools.cache
def _assets(opens: bool) -> dict[str, str]:
    """Return a page's style and script, without indentation and whole-line comments.

    The files named start.* are for the first page only. One of the others may need what
    an earlier one, by name, defines.
    """
    own = TEMPLATES / "report"
    colors = _code_colors("a11y-light", "github-dark-high-contrast")
    joined = {}
    for kind, first in (("css", colors), ("js", _library(own))):
        files = sorted(own.glob(f"*.{kind}"), key=lambda it: (it.stem == "start", it))
        texts = [it.read_text("utf-8") for it in files if opens or it.stem != "start"]
        joined[kind] = "\n".join([first, *map(_compact, texts)])
    return {"style": f"\n{joined['css']}\n", "script": f"\n{joined['js']}\n"}


def _library(directory: Path) -> str:
    return (directory / "minisearch" / "minisearch.js").read_text("utf-8").rstrip()


def _compact(source: str) -> str:
    """Drop what a page need not carry: comments that fill lines, indentation."""
    source = re.sub(r"^\s*/\*.*?\*/\s*?$", "", source, flags=re.M | re.S)
    source = re.sub(r"^\s*//.*$", "", source, flags=re.M)
    return re.sub(r"^\s+", "", source, flags=re.M).rstrip()


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


def _filters(parts: Sequence[Page]) -> dict[str, Callable[..., Any]]:
    """Return the template's filters; they count the report's headings and figures."""
    files = {it.id: page.file for page in parts for it in page.sections}
    numbers = {it.id: it.chapter.number for page in parts for it in page.sections}
    outline = Outline(numbers, files)
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
        if not number:  # the comparison has none
            return str(figures[number])
        return f"{int(number)}.{figures[number]}"

    @pass_context
    def address(context: Context, section: str) -> str:
        return outline.address(section, "", context["resources"]["page"].file)

    return {
        "markdown2html": markdown2html,
        "highlight_cell": highlight,
        "clean_output": clean_output,
        "figure_number": figure_number,
        "lines": start.lines,
        "address": address,
        "alternative": alternative,
        "digest": _digest,
        "inline_svg": svg.inline,
        "headings": lambda section: outline.headings[section],
        # What a summary contains is part of its button.
        "without_anchor": lambda markup: re.sub(
            r" *<a class=.anchor.*?</a>", "", markup
        ),
        "without_links": lambda markup: re.sub(r"</?a\b[^>]*>", "", markup),
    }


def _reject_dead_links(rendered: Mapping[str, str]) -> None:
    """Raise RenderError if a link within the report leads nowhere."""
    there = {
        file: {"", *re.findall(r' id="([^"]+)"', text)}
        for file, text in rendered.items()
    }
    for here, text in rendered.items():
        for file, _, target in set(_LINK.findall(text)):
            if unquote(target) not in there.get(file or here, ()):
                raise RenderError(
                    f"a link in {here} leads to '{file}#{target}', which is no heading"
                )


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
