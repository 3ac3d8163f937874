"""The book: which sections make which page of the report, and in which order."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kvt.report.merge import MODELS, RenderError, Section

INDEX, PROVENANCE = "index.html", "provenance.html"


@dataclass(frozen=True)
class Page:
    """A file of the report: its sections; whether it opens or ends the report."""

    file: str
    title: str
    sections: Sequence[Section]
    opens: bool = False
    ends: bool = False

    def __deepcopy__(self, _: object) -> "Page":
        """Return the page itself: nbconvert would copy all pages for each of them."""
        return self


def divide(sections: Sequence[Section], *, single_file: bool = False) -> list[Page]:
    """Return the pages in reading order.

    The index has the comparison and the models; every other section is a page, and
    provenance is the last one. With `single_file`, the index has all of them.
    Raises RenderError if two parts of the report would have the same name.
    """
    taken = {INDEX, PROVENANCE}
    for section in sections:
        if section.file in taken:
            raise RenderError(
                f"{section.chapter.path.name}: the report already has a part named "
                f"{section.file.removesuffix('.html')!r}; rename the notebook"
            )
        taken.add(section.file)
    if single_file:
        return [Page(INDEX, "Start", sections, opens=True, ends=True)]
    first = [
        it for it in sections if it.chapter.compares or it.chapter.number in MODELS
    ]
    return [
        Page(INDEX, "Start", first, opens=True),
        *(Page(it.file, it.title, [it]) for it in sections if it not in first),
        Page(PROVENANCE, "Provenance", [], ends=True),
    ]


def pages_of(report: Path) -> list[str]:
    """Return the files of a report, as its first page lists them; [] if it is none."""
    index = report / INDEX
    text = index.read_text("utf-8", "replace") if index.is_file() else ""
    listed = re.search(r'<meta name="kvt-pages" content="([^"]*)">', text[:4096])
    return re.findall(r"[\w-]+\.html", listed[1]) if listed else []
