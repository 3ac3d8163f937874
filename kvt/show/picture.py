"""A Matplotlib figure as SVG that lives in any page.

Text and axes take the page's own color, nothing in it is styled by or styles the page,
and equal figures give equal bytes.
"""

import hashlib
import io
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from typing import Any

from matplotlib.figure import Figure

FONT = 15  # CSS px: still 8 px where a phone shows a figure at half its width
INK = "#010203"  # stands for the page's text color until the SVG is written
# The dialects' colors: the report's tokens, and what other pages show.
KERAS, TF2, TF1 = "#d47f00", "#2f66e0", "#040506"
TOKENS = {
    KERAS: f"var(--keras, {KERAS})",
    TF2: f"var(--tf2, {TF2})",
    TF1: "var(--tf1, currentColor)",
}

_SVG = "http://www.w3.org/2000/svg"


@dataclass(frozen=True)
class Picture:
    """A figure as a notebook shows it: SVG, and a sentence that says what it shows.

    The sentence is the caption and the output's plain text, and is the same on every
    processor. The data in words are in the SVG.
    """

    svg: str = field(repr=False)
    alt: str

    def _repr_mimebundle_(self, **_: object) -> tuple[dict[str, str], dict[str, Any]]:
        metadata = {"image/svg+xml": {"alt": self.alt}}
        return {"image/svg+xml": self.svg, "text/plain": self.alt}, metadata


def picture(figure: Figure, alt: str, data: str) -> Picture:
    """Return the figure as SVG that lives in any page, with its finding and its data.

    See this module's first lines.
    """
    raw = io.BytesIO()
    figure.savefig(raw, format="svg", transparent=True, metadata={"Date": None})
    root = ET.fromstring(raw.getvalue())
    style = f"{{{_SVG}}}style"  # would style the whole page
    root[:] = [
        e for e in root if not e.tag.endswith("metadata") and e.find(style) is None
    ]
    for element in root.iter():
        element.tag = element.tag.split("}")[1]
        element.attrib = _attributes(element)
        element.tail = None
        if element.tag != "text":
            element.text = None
    _ink(root)
    _own_ids(root)
    _, _, width, height = root.attrib["viewBox"].split()
    root.attrib = {
        "xmlns": _SVG,
        "viewBox": root.attrib["viewBox"],
        "width": width,
        "height": height,
        "role": "img",
        "aria-label": alt,
        "font-family": "system-ui, sans-serif",
        "font-size": str(FONT),
        "stroke-linejoin": "round",
    }
    description = ET.Element("desc")
    description.text = data
    root.insert(0, description)
    return Picture(svg=ET.tostring(root, encoding="unicode"), alt=alt)


def _attributes(element: ET.Element) -> dict[str, str]:
    """Style declarations as attributes, which any CSP lets pass; short numbers."""
    found = {key.split("}")[-1]: value for key, value in element.attrib.items()}
    for declaration in found.pop("style", "").split(";"):
        name, _, value = declaration.partition(":")
        if name.strip() not in ("", "font-family"):
            found[name.strip()] = value.strip()
    if found.get("font-size") == f"{FONT}px":
        del found["font-size"]  # the whole figure's
    if found.get("transform", "").startswith("rotate(-0 "):
        del found["transform"]
    for name, value in found.items():
        if name == "href":
            found[name] = "".join(value.split())
        else:
            value = " ".join(value.replace(INK, "currentColor").split())
            found[name] = TOKENS.get(value) or re.sub(r"-?\d+\.\d+", _short, value)
    return found


def _short(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def _ink(root: ET.Element) -> None:
    """Turn the image called "ink", if any, into a mask of the page's text color."""
    for parent in root.findall(".//image[@id='ink']/.."):
        place = [child.get("id") for child in parent].index("ink")
        mask = ET.Element("mask", id="ink")
        mask.append(parent[place])
        del parent[place].attrib["id"]
        page = {"width": "100%", "height": "100%", "fill": "currentColor"}
        parent[place] = ET.Element("rect", page, mask="url(#ink)")
        parent.insert(place, mask)


def _own_ids(root: ET.Element) -> None:
    """Name what is referred to after the figure's content, and nothing else."""
    text = ET.tostring(root)
    digest = hashlib.sha256(text).hexdigest()[:10]
    used = re.findall(r'(?:url\(|href=")#([^")]+)', text.decode())
    names = {old: f"f{digest}-{i}" for i, old in enumerate(dict.fromkeys(used))}
    for element in root.iter():
        identity = element.attrib.pop("id", "")
        if identity in names:
            element.set("id", names[identity])
        for key, value in element.attrib.items():
            old = re.fullmatch(r"(url\(#|#)(.+?)(\)?)", value)
            if old and old[2] in names:
                element.set(key, f"{old[1]}{names[old[2]]}{old[3] or ''}")
