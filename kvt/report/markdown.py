"""Prose: the notebooks' Markdown as HTML for one page."""

import functools
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from pygments import highlight  # type: ignore[import-untyped]
from pygments.formatters import HtmlFormatter  # type: ignore[import-untyped]
from pygments.lexers import PythonLexer  # type: ignore[import-untyped]

from kvt.compare.results import DIALECTS
from kvt.report.marks import Idea
from kvt.report.maths import to_mathml

# A browser would break the line between a formula and the comma after it.
_FORMULA_AND_POINT = re.compile(
    r'<math [^>]*display="inline">(?:(?!</math>).)*</math>[.,;:!?)]+'
)
# Consecutive blocks of code, each with a title.
_TITLED = re.compile(r'(?:<div class="source titled.*?</pre></div>\s*){2,}', re.DOTALL)
# Names, punctuation and space have the text's own color, and need no element.
_PLAIN = re.compile(r'<span class="[npw]">(.*?)</span>', re.DOTALL)
_PYTHON, _NO_WRAP = PythonLexer(), HtmlFormatter(nowrap=True)


@dataclass(frozen=True)
class Heading:
    """A heading: its level in the notebook and in the page, its id, its HTML."""

    wanted: int
    level: int
    id: str
    text: str


@dataclass
class Outline:
    """The page's headings so far, by section; and the number of each section."""

    numbers: dict[str, str] = field(default_factory=dict)
    headings: dict[str, list[Heading]] = field(default_factory=dict)

    def add(self, section: str, wanted: int, text: str) -> Heading:
        """Add a heading, with an id of its own and a level one below its parent's.

        The first heading of a section is its title. No level is skipped, even if the
        notebook skips one.
        """
        there = self.headings.setdefault(section, [])
        above = [each for each in there if each.wanted < wanted] or there[:1]
        level = min(above[-1].level + 1, 6) if above else 2
        name = f"{section}-{slug(text)}" if there else section
        taken = {heading.id for all_ in self.headings.values() for heading in all_}
        identity, count = name, 1
        while identity in taken:
            count += 1
            identity = f"{name}-{count}"
        there.append(Heading(wanted, level, identity, text))
        return there[-1]


def section_id(name: str) -> str:
    """Return the id of a notebook's section: 03_some_network → some-network."""
    return slug(re.sub(r"^\d+_", "", name).replace("_", " "))


def slug(text: str) -> str:
    """Return the words of a heading's HTML, joined by hyphens, for an id."""
    plain = html.unescape(re.sub(r"<[^>]*>", "", text))
    return "-".join(re.findall(r"\w+", plain.lower())) or "part"


@functools.cache  # the same code is shown in several places
def highlight_python(source: str) -> str:
    """Return Python code as HTML, for the page's colors; without a wrapping element."""
    marked = highlight(source, _PYTHON, _NO_WRAP)
    return _PLAIN.sub(r"\1", marked)


def to_html(source: str, section: str, outline: Outline) -> str:
    """Render one Markdown cell. Raises FormulaError if a formula cannot be MathML."""
    renderer = _PageRenderer(section, outline)
    rendered = str(MarkdownWithMath(renderer=renderer).render(source))
    rendered = _TITLED.sub(r'<div class="abreast">\n\g<0></div>\n', rendered)
    return _FORMULA_AND_POINT.sub(r'<span class="together">\g<0></span>', rendered)


def legend_to_html(source: str, ideas: Sequence[Idea], outline: Outline) -> str:
    """Render a legend: its prose, and each idea as a link to Keras's line."""
    section = ideas[0].section
    prose = to_html(source.partition(f"{ideas[0].number}. ")[0], section, outline)
    items = []
    for idea in ideas:
        name = to_html(idea.name, section, outline).strip()
        name = name.removeprefix("<p>").removesuffix("</p>")
        items.append(
            f'<li id="{idea.key}"><a class="idea" href="#{idea.line()}" '
            f'data-idea="{idea.key}" data-number="{idea.number}">{name}</a></li>\n'
        )
    return f'{prose}<ol class="ideas">\n{"".join(items)}</ol>\n'


class _PageRenderer(IPythonRenderer):
    """Demotes headings, converts formulas and links, and shows HTML as text."""

    def __init__(self, section: str, outline: Outline) -> None:
        super().__init__(escape=True, allow_harmful_protocols=False)
        self.section, self.outline = section, outline

    def heading(self, text: str, level: int, **attributes: Any) -> str:
        found = self.outline.add(self.section, level, text)
        tag = f"h{found.level}"
        anchor = (
            f'<a class="anchor" href="#{found.id}" '
            f'aria-label="Link to this heading">#</a>'
        )
        number = self.outline.numbers.get(self.section)
        if number and found.level == 2:
            text = f'<span class="number">{number}</span> {text}'
        return f'<{tag} id="{found.id}">{text} {anchor}</{tag}>\n'

    def link(self, text: str, url: str, title: str | None = None) -> str:
        notebook = re.fullmatch(r"(?:\./)?(\w+)\.ipynb(?:#(.*))?", url)
        if notebook:  # in the page, notebooks are sections
            section = section_id(notebook[1])
            if section not in self.outline.numbers:
                return text  # this report does not have that notebook
            url = f"#{section}"
            url += f"-{slug(notebook[2])}" if notebook[2] else ""
        return str(super().link(text, url, title))

    def image(self, text: str, url: str, title: str | None = None) -> str:
        raise ValueError(
            f"image {url!r}: the page loads no file; draw the image in a code cell"
        )

    def block_code(self, code: str, info: str | None = None) -> str:
        language, _, title = (info or "").partition(" ")
        inner = highlight_python(code) if language == "python" else html.escape(code)
        source = f'<pre class="code" tabindex="0"><code>{inner}</code></pre>'
        if not title:
            return f'<div class="source">{source}</div>\n'
        dialect = next((f" {key}" for key, it in DIALECTS.items() if it == title), "")
        return (
            f'<div class="source titled{dialect}">'
            f'<p class="name">{html.escape(title)}</p>{source}</div>\n'
        )

    def table(self, text: str) -> str:
        return f'<div class="table" tabindex="0"><table>\n{text}</table></div>\n'

    def table_cell(
        self, text: str, align: str | None = None, head: bool = False
    ) -> str:
        # mistune would write a style attribute, which the page's policy blocks.
        side = f' class="{align}"' if align else ""
        if head and text:  # an empty corner is no header
            return f'<th scope="col"{side}>{text}</th>\n'
        for dialect, name in DIALECTS.items():
            if text == name:
                return f'<td class="of {dialect}">{text}</td>\n'
        return f"<td{side}>{text}</td>\n"

    def inline_math(self, body: str) -> str:
        return to_mathml(body, display=False)

    def block_math(self, body: str) -> str:
        formula = to_mathml(body, display=True)
        return f'<div class="formula" tabindex="0">{formula}</div>\n'

    def latex_environment(self, name: str, body: str) -> str:
        return self.block_math(f"\\begin{{{name}}}{body}\\end{{{name}}}")
