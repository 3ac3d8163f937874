"""Figures: a notebook's SVG output as an element of the page."""

import re
import xml.etree.ElementTree as ET

# The elements of a drawing. At others an HTML parser might leave the SVG.
_DRAWN = {
    *("svg", "g", "defs", "symbol", "use", "marker", "clipPath", "mask", "pattern"),
    *("path", "rect", "circle", "ellipse", "line", "polyline", "polygon", "image"),
    *("text", "tspan", "linearGradient", "radialGradient", "stop"),
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
    _clean(root, prefix)
    root.attrib.update({"role": "img", "aria-labelledby": caption})
    return ET.tostring(root, encoding="unicode")


def _clean(element: ET.Element, prefix: str) -> None:
    """Drop namespaces, scripts and foreign references; prefix the ids."""
    element.tag = _local(element.tag)
    attributes = {}
    for full, value in element.attrib.items():
        name = _local(full)
        if name.lower() == "id":
            value = prefix + value
        elif name.lower() == "href" and value.startswith("#"):
            value = f"#{prefix}{value[1:]}"
        else:
            value = _REFERENCE.sub(rf"\g<0>{prefix}", value)
        if _harmless(name.lower(), value):
            attributes[name] = value
    element.attrib = attributes
    for child in list(element):
        if _local(child.tag) in _DRAWN:
            _clean(child, prefix)
        else:
            element.remove(child)


def _local(name: str) -> str:
    """Return a name without its namespace."""
    return name.rpartition("}")[2]


def _harmless(name: str, value: str) -> bool:
    """Whether an attribute runs nothing and refers only to this SVG."""
    if name == "href":
        return value.startswith(("#", "data:image/png"))
    if name.startswith("on") or name == "style":
        return False  # scripts, and styles, which the page's policy blocks
    return value.lower().count("url(") == len(_REFERENCE.findall(value))
