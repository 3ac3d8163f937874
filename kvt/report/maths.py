"""TeX formulas as MathML, which browsers draw without a script or a web font."""

import re
import xml.etree.ElementTree as ET

from latex2mathml.converter import convert

_UNKNOWN_MACRO = re.compile(r"\\[A-Za-z]+")
_ELEMENTS = {
    *("math", "menclose", "mfrac", "mi", "mmultiscripts", "mn", "mo", "mover", "mrow"),
    *("mpadded", "mphantom", "mroot", "mspace", "msqrt", "mstyle", "msub", "msubsup"),
    *("msup", "mtable", "mtd", "mtext", "mtr", "munder", "munderover"),
}


class FormulaError(ValueError):
    """A formula that cannot be converted to MathML."""


def to_mathml(formula: str, *, display: bool) -> str:
    """Convert one TeX formula, without its dollars.

    Raises FormulaError if the converter fails, and if it passes on something that it
    does not know: an unknown macro, markup, a stray alignment.
    """
    try:
        markup = convert(formula, display="block" if display else "inline")
        tree = ET.fromstring(markup)
    except Exception as error:  # its exceptions share no base class
        raise FormulaError(f"{formula!r} cannot become MathML: {error!r}") from error
    for element in tree.iter():
        name = element.tag.rpartition("}")[2]
        if name not in _ELEMENTS or {"href", "style"} & set(element.attrib):
            raise FormulaError(f"{formula!r} cannot become MathML: it contains markup")
        unknown = _UNKNOWN_MACRO.search(element.text or "")
        if unknown:
            raise FormulaError(
                f"{formula!r} cannot become MathML: {unknown[0]} is not supported; "
                f"use macros that latex2mathml knows"
            )
    return markup
