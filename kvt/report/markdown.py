"""Prose: a notebook's markdown as HTML for the one page that all of them share."""

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

# Browsers break lines between a formula and the comma after it.
_FORMULA_AND_POINT = re.compile(
    r'<math [^>]*display="inline">(?:(?!</math>).)*</math>[.,;:!?)]+'
)
# Blocks of code with a title each, and nothing between them.
_TITLED = re.compile(r'(?:<div class="source titled.*?</pre></div>\s*){2,}', re.DOTALL)
# Names, punctuation, space: most of a program, in the text's own color.
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
    """The page's headings so far, by section, in order; and the sections' numbers."""

    numbers: dict[str, str] = field(default_factory=dict)
    headings: dict[str, list[Heading]] = field(default_factory=dict)

    def add(self, section: str, wanted: int, text: str) -> Heading:
        """Give a heading a level below its parent's, and an id that no other has.

        The first is the section's own. None skips a level, whatever the notebook does.
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
    """Id of a notebook's section: 03_feedforward_network → feedforward-network."""
    return slug(re.sub(r"^\d+_", "", name).replace("_", " "))


def slug(text: str) -> str:
    """Turn a heading's HTML into the words of an id, joined by hyphens."""
    plain = html.unescape(re.sub(r"<[^>]*>", "", text))
    return "-".join(re.findall(r"\w+", plain.lower())) or "part"


@functools.cache  # one code is shown in several places
def highlight_python(source: str) -> str:
    """Mark up Python for the page's two color schemes; no wrapping element."""
    marked = highlight(source, _PYTHON, _NO_WRAP)
    return _PLAIN.sub(r"\1", marked)


def to_html(source: str, section: str, outline: Outline) -> str:
    """Render one markdown cell. Raises FormulaError for a formula beyond MathML."""
    renderer = _PageRenderer(section, outline)
    rendered = str(MarkdownWithMath(renderer=renderer).render(source))
    rendered = _TITLED.sub(r'<div class="abreast">\n\g<0></div>\n', rendered)
    return _FORMULA_AND_POINT.sub(r'<span class="together">\g<0></span>', rendered)


def legend_to_html(source: str, ideas: Sequence[Idea], outline: Outline) -> str:
    """Render a legend: its prose, and each idea linked to Keras's line."""
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
    """Demotes headings, makes maths MathML and links local; shows HTML as text."""

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
        if notebook:  # a link between notebooks is one between sections here
            section = section_id(notebook[1])
            if section not in self.outline.numbers:
                return text  # of a report of fewer notebooks
            url = f"#{section}"
            url += f"-{slug(notebook[2])}" if notebook[2] else ""
        return str(super().link(text, url, title))

    def image(self, text: str, url: str, title: str | None = None) -> str:
        raise ValueError(
            f"image {url!r}: draw it in a code cell; the page loads nothing"
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
        # mistune would align by a style, which the page's policy blocks.
        side = f' class="{align}"' if align else ""
        if head and text:  # an empty corner heads nothing
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
