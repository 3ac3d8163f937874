"""Figures: a notebook's SVG output as an element of the page."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator

# The elements of a drawing. At others an HTML parser might leave the SVG.
_DRAWN = {
    *("svg", "g", "defs", "symbol", "use", "marker", "clipPath", "mask", "pattern"),
    *("path", "rect", "circle", "ellipse", "line", "polyline", "polygon", "image"),
    *("text", "tspan", "linearGradient", "radialGradient", "stop", "desc"),
}
_REFERENCE = re.compile(r"""url\(\s*["']?#""", re.IGNORECASE)


def inline(svg: str, prefix: str, caption: str) -> str:
    """Return an SVG as an element for an HTML page.

    Ids get the prefix, because every figure uses the same ones; `caption` is the id of
    the caption. Drops what is not a drawing, styles, and references to the outside.
    Raises ParseError for broken XML, and for XML that is not an SVG.
    """
    root = ET.fromstring(svg)
    if _local(root.tag) != "svg":
        raise ET.ParseError(f"a figure must be an <svg>, not a <{_local(root.tag)}>")
    for parent in list(root.iter()):
        for child in list(parent):
            if _local(child.tag) not in _DRAWN:
                parent.remove(child)
    for element in root.iter():
        element.tag = _local(element.tag)
        element.attrib = dict(_attributes(element, prefix))
    root.attrib.update({"role": "img", "aria-labelledby": caption})
    return ET.tostring(root, encoding="unicode")


def _attributes(element: ET.Element, prefix: str) -> Iterator[tuple[str, str]]:
    """Yield the attributes that run nothing and refer only to this SVG."""
    for name, value in element.attrib.items():
        local = _local(name)
        kind = local.lower()
        if kind == "id":
            yield local, prefix + value
        elif kind == "href":
            if value.startswith(("#", "data:image/png")):
                yield local, re.sub("^#", f"#{prefix}", value)
        elif kind != "style" and not kind.startswith("on"):  # styles are blocked
            inner = _REFERENCE.findall(value)
            if value.lower().count("url(") == len(inner):
                yield local, _REFERENCE.sub(rf"\g<0>{prefix}", value)


def _local(name: str) -> str:
    return name.rpartition("}")[2]  # without its namespace
