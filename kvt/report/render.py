"""Executed notebooks → the report's HTML pages, which load nothing.

Nothing that a notebook contains can run in a page: HTML in Markdown is shown as text,
outputs are cleaned, and the page's policy allows only its own script.
"""

import base64
import functools
import gzip
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import distribution
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from jinja2 import pass_context
from jinja2.runtime import Context
from nbconvert.exporters import TemplateExporter

from kvt.compare.results import DIALECTS
from kvt.report import helpers, notebooks, outputs, search, start
from kvt.report.book import Page, divide
from kvt.report.markdown import Outline, highlight_lines, to_html
from kvt.report.merge import RenderError, command, merge
from kvt.report.notebooks import NotebookNode, one_line
from kvt.report.plan import Chapter
from kvt.report.provenance import Provenance

TEMPLATES = Path(__file__).parent / "templates"
# Links within the report: to a page, to a place in it, or to a place in the same page.
_LINK = re.compile(r'<a\b[^>]* href="(?!")([\w-]+\.html)?(#([^"]*))?"')

# HTML has none of them, nor halves of characters.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


def pages(
    chapters: Sequence[Chapter], provenance: Provenance, *, single_file: bool = False
) -> dict[str, str]:
    """Return the report's HTML files, by name; equal input gives equal bytes.

    Each page has the index of all words for the search. It is known only when all pages
    are: until then its place is empty.

    Raises RenderError for notebooks that cannot become pages: see `merge` and `divide`;
    and for links to missing headings.
    """
    parts = divide(merge(chapters), single_file=single_file)
    exporter = _Exporter(  # type: ignore[no-untyped-call]
        template_name="report",
        template_file="index.html.j2",
        template_data_paths=[],
        extra_template_basedirs=[str(TEMPLATES)],
        filters=_filters(parts),
        default_preprocessors=[],  # each would copy the notebook; none would change it
    )
    empty = NotebookNode(metadata={})  # type: ignore[no-untyped-call]
    rendered = {}
    for page in parts:
        resources: dict[str, Any] = {**_assets(page.opens), "dialects": DIALECTS}
        resources |= {"page": page, "pages": parts, "provenance": provenance}
        cells = [cell for it in page.sections for cell in it.chapter.notebook.cells]
        resources["helpers"] = helpers.used(cells)
        if page.opens:
            resources["start"] = start.gather(page.sections)
        text, _ = exporter.from_notebook_node(empty, resources)
        rendered[page.file] = f"{_CONTROL.sub('', text).rstrip()}\n"
    _reject_dead_links(rendered)
    index = _packed(search.index(rendered)).partition(",")[2]
    place = search.PLACE
    return {file: it.replace(place, place + index) for file, it in rendered.items()}


class _Exporter(TemplateExporter):
    """Uses nbconvert's own templates; JUPYTER_PATH may have others of their names."""

    def get_prefix_root_dirs(self) -> list[str]:
        """Return the directory that has nbconvert/templates."""
        known = distribution("nbconvert").files or []
        base = next(it for it in known if it.match("templates/base/null.j2"))
        return [str(Path(str(base.locate())).resolve().parents[3])]


@functools.cache
def _assets(opens: bool) -> dict[str, str]:
    """Return a page's style and script, without indentation and whole-line comments.

    The files named start.* are for the first page only. One of the others may need what
    an earlier one, by path, defines.
    """
    joined = {}
    for name, kind in (("style", "css"), ("script", "js")):
        files = (TEMPLATES / "report").rglob(f"*.{kind}")
        ordered = sorted(files, key=lambda it: (it.stem == "start", it))
        texts = [it.read_text("utf-8") for it in ordered if opens or it.stem != "start"]
        bare = re.sub(r"(?ms)^\s*(/\*[^!].*?\*/|//[^\n]*)$", "", "\n".join(texts))
        joined[name] = re.sub(r"(?m)^\s+", "", f"\n{bare}\n")
    joined["style"] = re.sub(r"\s*([{};,])\s*", r"\1", joined["style"])
    return joined


def _packed(text: str) -> str:
    """Return a link that contains a text; the page's script decompresses it."""
    data = text.encode(errors="backslashreplace")  # half a character, as in JSON
    content = base64.b64encode(gzip.compress(data, mtime=0)).decode()
    return f"data:application/gzip;base64,{content}"


def _digest(text: str) -> str:
    """Return what the page's policy calls an allowed style or script."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _filters(parts: Sequence[Page]) -> dict[str, Callable[..., Any]]:
    """Return the template's filters; they count the report's headings and figures."""
    numbers = {it.id: it.chapter.number for page in parts for it in page.sections}
    files = {it.id: page.file for page in parts for it in page.sections}
    outline = Outline(numbers, files)
    figures: Counter[str] = Counter()

    def named(convert: Callable[..., str]) -> Callable[..., str]:
        """Return a filter whose ValueError names the notebook, and a code cell."""

        @pass_context
        def filter_(context: Context, *words: str) -> str:
            section = context["section"]
            try:
                return convert(section, *words)
            except (ValueError, RecursionError) as problem:
                where, cell = section.chapter.path.name, context.get("cell")
                if cell and cell.cell_type == "code":
                    where += f": cell {one_line(cell.source)!r}"
                raise RenderError(f"{where}: {problem}") from None

        return filter_

    def figure_number(chapter: str) -> str:
        figures[chapter] += 1
        # The comparison has no number.
        return (
            f"{int(chapter)}.{figures[chapter]}" if chapter else str(figures[chapter])
        )

    return {
        "markdown2html": named(lambda it, text: to_html(text, it.id, outline)),
        "inline_svg": named(lambda _, *words: outputs.inline(*words)),
        "highlight_lines": highlight_lines,
        "figure_number": figure_number,
        "address": outline.address,
        "filter_data_type": lambda data: [outputs.kind(data)],
        "lacking": outputs.lacking,
        "alternative": outputs.alternative,
        "width": outputs.width,
        "clean": outputs.clean,
        "plain": outputs.plain,
        "digest": _digest,
        "packed": _packed,
        "command": command,
        "dumps": notebooks.dumps,
        "headings": lambda section: outline.headings[section],
        # What a summary contains is part of its button.
        "without_anchor": lambda it: re.sub(r" *<a class=.anchor.*?</a>", "", it),
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
