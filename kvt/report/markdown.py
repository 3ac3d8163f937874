"""Prose: the notebooks' Markdown, and its formulas, as HTML for a page."""

import functools
import html
import itertools
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from latex2mathml.converter import convert
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from pygments.lexers import PythonLexer  # type: ignore[import-untyped]
from pygments.token import Token  # type: ignore[import-untyped]

from kvt.compare.results import DIALECTS
from kvt.report.notebooks import one_line

# A browser would break the line between a formula and the comma after it.
_FORMULA_AND_POINT = re.compile(
    r'<math [^>]*display="inline">(?:(?!</math>).)*</math>[.,;:!?)]+'
)
_CLASSES = {name: dialect for dialect, name in DIALECTS.items()}
# Consecutive blocks of code, each with a title.
_TITLED = re.compile(r'(?:<div class="source titled.*?</pre></div>\s*){2,}', re.DOTALL)
# The classes of Python's tokens: see code.css. Names, operators, punctuation and space
# have the text's own color, and need no element: half of a page's code would be markup.
_COLORS = {
    **{Token: "", Token.Keyword: "k", Token.Keyword.Constant: "c", Token.Error: "e"},
    **{Token.Operator.Word: "o", Token.Name.Exception: "o", Token.Comment: "r"},
    **{Token.Name.Builtin: "n", Token.Name.Decorator: "n", Token.Literal.Number: "n"},
    **{Token.Name.Variable.Magic: "n", Token.Literal.String: "s"},
    **{Token.Name.Function: "f", Token.Name.Class: "f"},
}

# The page's own ids: a section's may not be one, nor the beginning of one.
_PAGE = {
    *("title", "main", "contents", "search", "found", "fold", "theme", "beside"),
    *("start", "figure", "helpers", "break", "jobs"),
}
_MARK = re.compile(r"run-again|(?:idea|keras|tf2|tf1)-\d+")

# What a formula may become in MathML, which browsers draw without a script or font.
_UNKNOWN_MACRO = re.compile(r"\\[A-Za-z]+")
_MARKUP = {"href", "style", "class", "id"}  # attributes
_HUGE = re.compile(r"(?<![.\d])(\d{2,}[.\d]*(em|ex|pc|in|cm)|\d{3,}[.\d]*[a-z])")
_LONG = 80  # characters of a formula; a longer one scrolls
_ELEMENTS = {
    *("math", "menclose", "mfrac", "mi", "mmultiscripts", "mn", "mo", "mover", "mrow"),
    *("mpadded", "mphantom", "mroot", "mspace", "msqrt", "mstyle", "msub", "msubsup"),
    *("msup", "mtable", "mtd", "mtext", "mtr", "munder", "munderover"),
}


@dataclass(frozen=True)
class Heading:
    """A heading: its level in the notebook and in the page, its id, its HTML."""

    wanted: int
    level: int
    id: str
    text: str


@dataclass
class Outline:
    """The report's headings so far, by section; each section's number and file."""

    numbers: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    headings: dict[str, list[Heading]] = field(default_factory=dict)

    def add(self, section: str, wanted: int, text: str) -> Heading:
        """Add a heading, with an id of its own and a level one below its parent's.

        The first heading of a section is its title. No level is skipped, even if the
        notebook skips one.
        """
        there = self.headings.setdefault(section, [])
        above = [each for each in there if each.wanted < wanted] or there[:1]
        level = min(above[-1].level + 1, 6) if above else 2
        name = _heading_id(section, text) if there else section
        taken = {heading.id for all_ in self.headings.values() for heading in all_}
        more = (f"{name}-{count}" for count in itertools.count(2))
        own = next(it for it in itertools.chain([name], more) if it not in taken)
        there.append(Heading(wanted, level, own, text))
        return there[-1]

    def address(self, section: str, fragment: str, seen_from: str) -> str:
        """Return the link to a section, or to its heading, from a page's file."""
        file = self.files[section]
        target = _heading_id(section, fragment) if fragment else section
        return f"#{target}" if file == seen_from else f"{file}#{target}"


def section_id(name: str) -> str:
    """Return the id of a notebook's section: 03_some_network → some-network."""
    own = slug(re.sub(r"^\d+[_\W]", "", name).replace("_", " "))
    return f"{own}-chapter" if own in _PAGE else own


def _heading_id(section: str, text: str) -> str:
    """Return the id of a heading, which is none of those that the page itself gives."""
    own = slug(text)
    return f"{section}-{own}-heading" if _MARK.fullmatch(own) else f"{section}-{own}"


def slug(text: str) -> str:
    """Return the words of a heading's HTML, joined by hyphens, for an id."""
    return "-".join(re.findall(r"\w+", plain(text).lower())) or "part"


def plain(markup: str) -> str:
    """Return markup's text."""
    return html.unescape(re.sub(r"<[^>]*>", "", markup))


def breakable(markup: str) -> str:
    """Allow lines to end within long words, which paper would cut."""
    word = re.compile(r"[\w./:+=-]{60,}(?=[^<>]*(?:<|$))")
    return word.sub(lambda it: "<wbr>".join(re.findall(".{1,20}", it[0])), markup)


@functools.cache  # the same code is shown in several places
def highlight_python(source: str) -> str:
    """Return Python code as HTML, for the page's colors; no element spans two lines."""
    colored = ((_color(kind), text) for kind, text in PythonLexer().get_tokens(source))
    shown = ""
    for color, tokens in itertools.groupby(colored, key=lambda it: it[0]):
        text = html.escape("".join(text for _, text in tokens), quote=False)
        shown += re.sub(".+", rf"<i class={color}>\g<0></i>", text) if color else text
    # On a phone, a long line may end after an opening parenthesis.
    return re.sub("(?m)^.{40,}$", lambda it: it[0].replace("(", "(<wbr>"), shown)


def highlight_lines(source: str) -> list[str]:
    """Return the lines of Python code as HTML, without their ends."""
    return highlight_python(source).removesuffix("\n").split("\n")


def _color(kind: Any) -> str:
    """Return the class of a token: its kind's, or that of the kind above it."""
    return _COLORS[kind] if kind in _COLORS else _color(kind.parent)


@functools.cache
def to_mathml(formula: str, *, display: bool) -> str:
    """Convert a TeX formula. Raises ValueError for markup and for an unknown macro."""
    try:
        markup = convert(formula, display="block" if display else "inline")
        tree = ET.fromstring(markup)
    except Exception as error:  # its exceptions share no base class
        raise ValueError(f"{formula!r} cannot become MathML: {error!r}") from error
    for element in tree.iter():
        name = element.tag.rpartition("}")[2]
        huge = any(map(_HUGE.search, element.attrib.values()))
        if huge or name not in _ELEMENTS or _MARKUP & set(element.attrib):
            what = "a length of 10em or 100px or more" if huge else "markup"
            raise ValueError(f"{formula!r} cannot become MathML: it contains {what}")
        if unknown := _UNKNOWN_MACRO.search(element.text or ""):
            raise ValueError(
                f"{formula!r} cannot become MathML: {unknown[0]} is not supported; "
                f"use macros that latex2mathml knows"
            )
    return markup


def to_html(source: str, section: str, outline: Outline) -> str:
    """Render one Markdown cell. Raises ValueError for what no page can have."""
    renderer = _PageRenderer(section, outline)
    try:
        rendered = str(MarkdownWithMath(renderer=renderer).render(source))
    except (ValueError, RecursionError) as problem:
        raise ValueError(f"cell {one_line(source)!r}: {problem}") from None
    rendered = _TITLED.sub(r'<div class="abreast">\n\g<0></div>\n', rendered)
    return _FORMULA_AND_POINT.sub(r'<span class="together">\g<0></span>', rendered)


def _labeled(table: str) -> str:
    """Note each value's column in it: on a phone, a row becomes a card."""
    head, end, body = table.partition("</thead>")
    columns = re.findall(r"<t[hd]\b[^>]*>(.*?)</t[hd]>", head, re.DOTALL)
    names = itertools.cycle([re.sub(r"<[^>]*>", "", column) for column in columns])
    return (
        head + end + re.sub(r"<td\b", lambda _: f'<td data-label="{next(names)}"', body)
    )


class _PageRenderer(IPythonRenderer):
    """Demotes headings, converts formulas and links, and shows HTML as text."""

    def __init__(self, section: str, outline: Outline) -> None:
        super().__init__(escape=True, allow_harmful_protocols=False)
        self.section, self.outline = section, outline

    def heading(self, text: str, level: int, **attributes: Any) -> str:
        found = self.outline.add(self.section, level, text)
        number = self.outline.numbers.get(self.section)
        if number and found.level == 2:
            text = f'<span class="number">{number}</span> {text}'
        # Without a label, the link's name would be part of the heading's.
        name = html.escape(" ".join(plain(text).split()))
        return (
            f'<h{found.level} id="{found.id}" aria-label="{name}">{text} '
            f'<a class="anchor" href="#{found.id}" aria-label="Link to this heading">#'
            f"</a></h{found.level}>\n"
        )

    def link(self, text: str, url: str, title: str | None = None) -> str:
        own = r"(?:(?:\./)?([^/#]+)\.ipynb)?(?:#(.*))?"
        if notebook := re.fullmatch(own, unquote(url)):  # here, notebooks are sections
            section = section_id(notebook[1]) if notebook[1] else self.section
            if section not in self.outline.files:
                return text  # this report does not have that notebook
            here = self.outline.files.get(self.section, "")
            url = self.outline.address(section, notebook[2] or "", here)
        elif self.sanitize_url(url) == "#harmful-link":
            raise ValueError(f"link {url!r} runs something; link to a page")
        return str(super().link(text, url, title))

    def image(self, text: str, url: str, title: str | None = None) -> str:
        raise ValueError(f"image {url!r}: draw it in a code cell; no file is loaded")

    def block_code(self, code: str, info: str | None = None) -> str:
        language, _, title = (info or "").partition(" ")
        inner = highlight_python(code) if language == "python" else html.escape(code)
        source = f'<pre class="code" tabindex="0"><code>{inner}</code></pre>'
        if not title:
            return f'<div class="source">{source}</div>\n'
        classes = f"source titled {_CLASSES.get(title, '')}".rstrip()
        name = f'<p class="name">{html.escape(title)}</p>'
        return f'<div class="{classes}">{name}{source}</div>\n'

    def table(self, text: str) -> str:
        rows = breakable(_labeled(text))
        table = f'<table class="labeled">\n{rows}</table>'
        return f'<div class="table" tabindex="0">{table}</div>\n'

    def table_cell(self, text: str, align: str = "", head: bool = False) -> str:
        # mistune would write a style attribute, which the page's policy blocks.
        side = f' class="{align}"' if align else ""
        if head and text:  # an empty corner is no header
            return f'<th scope="col"{side}>{text}</th>\n'
        if text in _CLASSES:
            side = f' class="of {_CLASSES[text]}"'
        return f"<td{side}>{text}</td>\n"

    def inline_math(self, body: str) -> str:
        formula = to_mathml(body, display=False)
        if len(body) <= _LONG:
            return formula
        return f'<span class="formula" tabindex="0">{formula}</span>'

    def block_math(self, body: str) -> str:
        formula = to_mathml(body, display=True)
        return f'<div class="formula" tabindex="0">{formula}</div>\n'

    def latex_environment(self, name: str, body: str) -> str:
        return self.block_math(f"\\begin{{{name}}}{body}\\end{{{name}}}")
