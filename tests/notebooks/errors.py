"""The errors of 2017 as their notebook shows them: heading, quote, correction."""

import re
from dataclasses import dataclass

from tests.notebooks import sections

NOTEBOOK = "10_errors_of_2017"
BLOCK = re.compile(r"```(?:python|text) (2017|corrected)\n(.*?)\n```", re.DOTALL)


@dataclass(frozen=True)
class Shown:
    """The cells of an error: the first shows its lines, the last says why."""

    heading: str
    quote: str
    corrected: str
    place: int  # of its first cell in the notebook
    code: list[str]  # its code cells' ids
    why: str


def shown() -> list[Shown]:
    """Return the notebook's errors in their order: cells that quote and correct."""
    cells = sections.cells(NOTEBOOK)
    found = []
    for place, cell in enumerate(cells):
        blocks = BLOCK.findall(cell["source"])
        if cell["cell_type"] != "markdown" or len(blocks) < 2:
            continue
        (_, quote), (_, corrected) = blocks
        end = next(
            number
            for number in range(place + 1, len(cells))
            if cells[number]["cell_type"] == "markdown"
        )
        heading = re.match(r"### (.+)\n", cell["source"])
        assert heading, cell["source"]
        code = [one["id"] for one in cells[place + 1 : end]]
        why = cells[end]["source"]
        found.append(Shown(heading[1], quote, corrected, place, code, why))
    return found


def quotes() -> list[str]:
    """Return every block of the notebook that is said to be of 2017."""
    return [
        text
        for cell in sections.cells(NOTEBOOK)
        if cell["cell_type"] == "markdown"
        for title, text in BLOCK.findall(cell["source"])
        if title == "2017"
    ]
