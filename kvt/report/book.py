"""The book: which sections make which page of the report, and in which order."""

from collections.abc import Sequence
from dataclasses import dataclass

from kvt.report.markdown import section_id
from kvt.report.merge import MODELS, Section
from kvt.report.notebooks import NotebookNode
from kvt.report.plan import Chapter

INDEX, PROVENANCE = "index.html", "provenance.html"


@dataclass(frozen=True)
class Page:
    """A file of the report: its sections; whether it opens or ends the report."""

    file: str
    title: str
    sections: Sequence[Section]
    opens: bool = False
    ends: bool = False

    @property
    def cells(self) -> list[NotebookNode]:
        """The cells of all its notebooks."""
        return [cell for it in self.sections for cell in it.chapter.notebook.cells]

    def __deepcopy__(self, _: object) -> "Page":
        """Return the page itself: nbconvert would copy all pages for each of them."""
        return self


def divide(sections: Sequence[Section]) -> list[Page]:
    """Return the pages in reading order.

    The index has the comparison and the models; every other section is a page, and
    provenance is the last one.
    """
    opening = [it for it in sections if file_of(it.chapter) == INDEX]
    others = [it for it in sections if it not in opening]
    return [
        Page(INDEX, "Start", opening, opens=True),
        *(Page(file_of(it.chapter), it.title, [it]) for it in others),
        Page(PROVENANCE, "Provenance", [], ends=True),
    ]


def bind(sections: Sequence[Section]) -> list[Page]:
    """Return the whole report as one page, in the same order."""
    return [Page(INDEX, "Start", sections, opens=True, ends=True)]


def file_of(chapter: Chapter) -> str:
    """Return the name of the page that a chapter is in."""
    first = chapter.compares or chapter.number in MODELS
    return INDEX if first else f"{section_id(chapter.name)}.html"


def names(chapters: Sequence[Chapter]) -> list[str]:
    """Return the names of the pages that a report of these chapters would have.

    Raises ValueError if two of its parts would have the same name.
    """
    taken = {INDEX, PROVENANCE}
    for chapter in chapters:
        own = f"{section_id(chapter.name)}.html"
        if own in taken:
            raise ValueError(
                f"{chapter.path.name}: the report already has a part named "
                f"{own.removesuffix('.html')!r}; rename the notebook"
            )
        taken.add(own)
    return [INDEX, *{file_of(it) for it in chapters} - {INDEX}, PROVENANCE]
