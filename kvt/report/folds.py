"""Folds: parts of a chapter, and code, that the page shows closed.

A part begins with a heading and ends before the next one of its level or above. Readers
open it by its heading; links, the browser's search and print open it too.
"""

import re
from collections.abc import Sequence
from itertools import takewhile

from kvt.report.notebooks import NotebookNode, tags

_HEADING = re.compile(r"^((#{1,6}) .*)", re.MULTILINE)
_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
# Cells whose code is not what the section is about.
ASIDE = {"folded", "setup", "parity", "hide-input"}


def fold(cells: list[NotebookNode]) -> int:
    """Note in the cells' metadata what is folded; return how many parts are still open.

    A heading that begins a folded part gets `opens`, each heading gets `closes`, the
    number of parts that end before it, and code that starts closed gets `folded`. A
    part is folded if its heading is tagged so, or if all of its code is set-up.
    Raises ValueError for a tagged Markdown cell that begins with no heading, and for a
    part that would end in the middle of a cell.
    """
    open_: list[int] = []  # levels of the parts that are open
    for index, cell in enumerate(cells):
        if cell.cell_type == "code":
            aside = ASIDE & tags(cell) or "aside" in cell.metadata
            cell.metadata["folded"] = bool(aside)
            continue
        level = _level(cell)
        if level:
            cell.metadata["closes"] = sum(each >= level for each in open_)
            open_ = [each for each in open_ if each < level]
        elif "folded" in tags(cell):
            first = cell.source.splitlines()[0]
            fix = "begin the cell with a heading, or take the tag away"
            raise ValueError(f"cell {first!r} is tagged 'folded' without one; {fix}")
        headings = _HEADING.findall(_FENCED.sub("", cell.source))
        for heading, marks in headings[1:] if level else headings:
            if any(each >= len(marks) for each in open_):
                raise ValueError(
                    f"heading {heading!r} ends a folded part in the middle of a cell; "
                    f"begin a new cell with it"
                )
        if level and ("folded" in tags(cell) or _is_setup(cells[index + 1 :], level)):
            cell.metadata["opens"] = True
            open_.append(level)
    return len(open_)


def _level(cell: NotebookNode) -> int:
    """Return the level of the heading that begins a cell; 0 if none does."""
    heading = cell.cell_type == "markdown" and _HEADING.match(cell.source)
    return len(heading[2]) if heading else 0


def _is_setup(following: Sequence[NotebookNode], level: int) -> bool:
    """Whether the part below a heading has code, and all of it is set-up."""
    part = takewhile(lambda cell: not 0 < _level(cell) <= level, following)
    code = [tags(cell) for cell in part if cell.cell_type == "code"]
    return bool(code) and all("setup" in each for each in code)
