"""Figures: one SVG of a notebook's output made fit to stand in the page."""

import re
import xml.etree.ElementTree as ET

_DROPPED = {"script", "style", "foreignObject", "metadata", "title"}
_REFERENCE = re.compile(r"""url\(\s*["']?#""")


def inline(svg: str, prefix: str, caption: str) -> str:
    """Return the SVG as an element for an HTML page, named by the caption's id.

    Its ids get the prefix, for each figure counts from one; scripts, styles and
    references to anything outside it are dropped. Raises ParseError for broken XML.
    """
    root = ET.fromstring(svg)
    _clean(root, prefix)
    root.attrib.update({"role": "img", "aria-labelledby": caption})
    return ET.tostring(root, encoding="unicode")


def _clean(element: ET.Element, prefix: str) -> None:
    """Rid an element and all below it of namespaces, scripts and foreign ids."""
    element.tag = element.tag.rpartition("}")[2]
    attributes = {}
    for full, value in element.attrib.items():
        name = full.rpartition("}")[2]
        if name == "id":
            value = prefix + value
        elif name == "href" and value.startswith("#"):
            value = f"#{prefix}{value[1:]}"
        else:
            value = _REFERENCE.sub(rf"\g<0>{prefix}", value)
        if _harmless(name, value):
            attributes[name] = value
    element.attrib = attributes
    for child in list(element):
        if str(child.tag).rpartition("}")[2] in _DROPPED:
            element.remove(child)
        else:
            _clean(child, prefix)


def _harmless(name: str, value: str) -> bool:
    if name == "href":
        return value.startswith(("#", "data:image/png"))
    if name.startswith("on") or name == "style":
        return False  # scripts; and styles that the page's policy would block
    return "url(" not in value or _REFERENCE.search(value) is not None
