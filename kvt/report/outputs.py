"""Outputs: what a page shows of them. Nothing runs, and no box is empty."""

import functools
import html
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from typing import Any

import bleach  # type: ignore[import-untyped]

from kvt.report.markdown import breakable
from kvt.report.notebooks import NotebookNode

# The forms of an output that the page can show, the preferred one first.
SHOWN = [
    *("image/svg+xml", "text/html", "text/markdown", "text/latex"),
    *("image/png", "image/jpeg", "text/plain"),
]
# What an output's HTML may contain; of the rest, only the text is shown.
_TAGS = {
    *("a", "abbr", "b", "br", "code", "div", "em", "i", "img", "p", "pre", "small"),
    *("span", "strong", "sub", "sup", "dd", "dl", "dt", "li", "ol", "ul", "caption"),
    *("col", "colgroup", "table", "tbody", "td", "tfoot", "th", "thead", "tr"),
}
# No class: it could be one of the page's own.
_ATTRIBUTES = {"title", "alt", "width", "height", "colspan", "rowspan", "scope"}
_BASE64 = re.compile(r"[A-Za-z0-9+/=\s]+")
_PICTURE = re.compile(rf"data:image/(png|jpeg|gif|webp);base64,{_BASE64.pattern}")
_ADDRESSES = {("a", "href"): re.compile(r"https://\S+"), ("img", "src"): _PICTURE}
# The forms that may have content which the page cannot show.
_CHECKED = ("text/html", "image/png", "image/jpeg")
# The elements of a drawing. At others an HTML parser might leave the SVG.
_DRAWN = {
    *("svg", "g", "defs", "symbol", "use", "marker", "clipPath", "mask", "pattern"),
    *("path", "rect", "circle", "ellipse", "line", "polyline", "polygon", "image"),
    *("text", "tspan", "linearGradient", "radialGradient", "stop", "desc"),
}
_REFERENCE = re.compile(r"""url\(\s*["']?#""", re.IGNORECASE)
# Functions in an attribute's value, except a reference to a part of the same SVG, and
# the backslash, which can spell any name in CSS.
_FUNCTION = re.compile(r"""(?<![\w-])(?!url\(\s*["']?#)[\w-]+(?=\()|\\""")
# Others, such as image-set(), could load a file. var: the dialects' colors
_FUNCTIONS = {"var", "rgb", "rgba", "hsl", "matrix", "translate", "scale", "rotate"}
_NUMBER = r"(\d{1,4}(?:\.\d+)?)"
_LENGTH = re.compile(rf"{_NUMBER}(?:px|pt)?")
_EMPTY = re.compile(r"<svg\b[^>]*(/>|>\s*</svg>)")
_NAMED = re.compile(r"&(?!(?:amp|lt|gt|quot|apos);)\w+;")  # known to HTML, not to XML
# A terminal's commands: links, titles and drawings, which end with the line if nothing
# else ends them; colors and moves, character sets, others.
_COMMAND = re.compile(
    r"(?:\x1b[]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|\x1b[ -/]+[0-~]|\x1b[0-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)


def kind(data: Mapping[str, Any]) -> str:
    """Return the form in which the page shows an output; "" if it can show none."""
    texts = [it for it in SHOWN if isinstance(data.get(it), str) and data[it].strip()]
    return next((it for it in texts if _shows_anything(it, data[it])), "")


def lacking(data: Mapping[str, Any]) -> str:
    """Return the form of an output that the page can show only as text, if at all."""
    if kind(data) not in ("", "text/plain"):
        return ""
    foreign = (it for it in data if it not in SHOWN or it in _CHECKED)
    return next((it for it in foreign if not it.startswith("application/vnd.kvt.")), "")


def _shows_anything(form: str, text: str) -> bool:
    if form in ("image/png", "image/jpeg"):
        return bool(_BASE64.fullmatch(text))
    if form == "image/svg+xml" and _EMPTY.fullmatch(text.strip()):
        return False
    markup = clean(text) if form == "text/html" else "<img"
    return "<img" in markup or bool(re.sub(r"<[^>]*>|&nbsp;|\s", "", markup))


def plain(text: str) -> str:
    """Return what a terminal shows: no commands, nothing that a line overwrites."""
    lines = [it.rstrip("\r").rpartition("\r")[2] for it in text.split("\n")]
    return _COMMAND.sub("", "\n".join(lines))


@functools.cache  # each output is cleaned to see whether it shows anything
def clean(markup: str) -> str:
    """Keep what tables and text need of an output's HTML: no script, style or form."""
    shown = re.sub(
        r"(?is)<(style|script)\b.*?(</\1\s*>|\Z)", "", _COMMAND.sub("", markup)
    )
    kept = bleach.clean(shown, _TAGS, _is_allowed, ["https", "data"], strip=True)
    kept = re.sub(r"<img(?![^>]* src=)[^>]*>", "", kept)
    return breakable(re.sub(r"<img(?![^>]* alt=)", '<img alt="Picture"', kept))


def _is_allowed(tag: str, name: str, value: str) -> bool:
    form = _ADDRESSES.get((tag, name))
    return bool(form.fullmatch(value)) if form else name in _ATTRIBUTES


def alternative(output: NotebookNode) -> str:
    """Return what a figure shows, in words: its alt text, else its plain text."""
    given = output.metadata.get(kind(output.data))
    alt = given.get("alt") if isinstance(given, dict) else None
    said = alt if isinstance(alt, str) else output.data.get("text/plain", "")
    words = plain(str(said)).strip()
    nameless = not words or re.fullmatch("<.*>", words, re.DOTALL)
    return "without a description" if nameless else words


def width(output: NotebookNode) -> float:
    """Return a figure's width in pixels, as its SVG or metadata say; else 0."""
    given = output.metadata.get(kind(output.data))
    said = given.get("width") if isinstance(given, dict) else None
    drawn = re.search(
        rf'<svg\b[^>]* width="{_NUMBER}(?:px)?"', output.data[kind(output.data)]
    )
    found = re.fullmatch(_NUMBER, str(said)) or drawn
    return float(found[1]) if found else 0


def inline(svg: str, prefix: str, caption: str) -> str:
    """Return an SVG as an element for an HTML page.

    Ids get the prefix, because every figure uses the same ones; `caption` is the id of
    the caption. Drops what is not a drawing, styles, and references to the outside.
    Raises ValueError for broken XML, and for XML that is not an SVG.
    """
    try:
        root = ET.fromstring(_NAMED.sub(lambda it: html.unescape(it[0]), svg.strip()))
    except ET.ParseError as problem:
        raise ValueError(f"an image/svg+xml output is not XML: {problem}") from None
    if _local(root.tag) != "svg":
        raise ValueError(f"a figure must be an <svg>, not a <{_local(root.tag)}>")
    for element in list(root.iter()):
        element[:] = [child for child in element if _local(child.tag) in _DRAWN]
        element.tag = _local(element.tag)
        element.attrib = dict(_attributes(element, prefix))
    for name in ("width", "height", "overflow", "transform"):  # it fills its place
        if not _LENGTH.fullmatch(root.get(name, "")):
            root.attrib.pop(name, None)
    root.attrib.update({"role": "img", "aria-labelledby": caption})
    return ET.tostring(root, encoding="unicode")


def _attributes(element: ET.Element, prefix: str) -> Iterator[tuple[str, str]]:
    """Yield the attributes that run nothing and refer only to this SVG."""
    for name, value in element.attrib.items():
        local = _local(name)
        attribute = local.lower()
        if attribute == "id":
            yield local, prefix + value
        elif attribute == "href":
            if value.startswith("#") or _PICTURE.fullmatch(value):
                yield local, re.sub("^#", f"#{prefix}", value)
        elif attribute.startswith(("aria-", "data-")):
            yield local, value
        elif attribute.startswith(("on", "style", "class")):
            pass  # the page's policy blocks scripts and styles
        elif _FUNCTIONS.issuperset(_FUNCTION.findall(value.lower())):
            yield local, _REFERENCE.sub(rf"\g<0>{prefix}", value)


def _local(name: str) -> str:
    return name.rpartition("}")[2]  # without its namespace
