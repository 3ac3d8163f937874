"""Marks: numbers at line ends that link the lines of the dialects that do the same.

A line that ends on `# (3)` does the same as the lines that end on `# (3)` in the
chapter's other dialects. The chapter's legend names what they do. No library does this.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_MARK = re.compile(r" *# \((\d+)\)$", re.MULTILINE)
_IDEA = re.compile(r"^(\d+)\. +(.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Idea:
    """What the lines with one mark do: the section's id, the mark, and the name."""

    section: str
    number: int
    name: str

    @property
    def key(self) -> str:
        """What identifies the idea in the whole page."""
        return f"{self.section}-idea-{self.number}"

    def line(self, dialect: str = "keras") -> str:
        """Return the id of the first line that does it in a dialect."""
        return f"{self.section}-{dialect}-{self.number}"


def without(source: str) -> str:
    """Return a cell's source without its marks, as a reader may copy it."""
    return _MARK.sub("", source)


def by_line(source: str) -> dict[int, int]:
    """Return the mark of each marked line, by the line's index."""
    found = enumerate(map(_MARK.search, source.split("\n")))
    return {index: int(match[1]) for index, match in found if match}


def legend(source: str) -> dict[int, str]:
    """Return the names in a legend: a Markdown list, numbered from 1."""
    names = {int(number): name.strip() for number, name in _IDEA.findall(source)}
    if list(names) != list(range(1, len(names) + 1)) or not names:
        raise ValueError(f"a legend's list is numbered from 1, not {list(names)}")
    return names


def check(used: Mapping[str, set[int]], names: Mapping[int, str]) -> None:
    """Raise ValueError unless every dialect has the same marks, all of them named.

    `used` are the marks in a chapter's cells, by dialect, `names` those of its legend.
    """
    for number in sorted(set().union(*used.values(), names)):
        lacking = [dialect for dialect in used if number not in used[dialect]]
        if lacking:
            problem = f"has no counterpart in {', '.join(lacking)}: end the line there"
            if len(lacking) == len(used):
                problem = "of the legend is on no line: end a line of each dialect"
            raise ValueError(f"mark ({number}) {problem} on '# ({number})'")
        if number not in names:
            fix = f"add '{number}. …' to the cell tagged 'legend'"
            raise ValueError(f"mark ({number}) has no name: {fix}")
