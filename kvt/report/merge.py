"""Executed chapters → the report's sections and their rows, for the template."""

import copy
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from kvt.compare.results import DIALECTS
from kvt.report import folds, marks, notebooks
from kvt.report.markdown import Outline, section_id, to_html
from kvt.report.marks import Idea
from kvt.report.notebooks import NotebookNode, tags
from kvt.report.plan import READS, Chapter

# Consecutive cells, and the row of dialects that follows them, by dialect.
Block = tuple[list[NotebookNode], dict[str, NotebookNode]]
UNSEEN = {"parameters", "injected-parameters"}  # the section's table shows them
START = "start"  # tags the cells of the first screen, and begins their ids
# The models' numbers, in reading order: one in full, then what differs in the others.
MODELS = ("03", "01", "02", "04")


class RenderError(ValueError):
    """An executed notebook that cannot become part of a report."""


@dataclass(frozen=True)
class Section:
    """A chapter in a page: its id, and its cells in blocks.

    `start` are the cells that the report's first screen shows instead.
    `checks` are cells that neither explain nor show anything: they check parameters.
    `open_folds` is the number of folded parts that reach the section's end.
    """

    id: str
    chapter: Chapter
    blocks: list[Block]
    start: list[NotebookNode]
    checks: list[NotebookNode]
    open_folds: int

    @property
    def file(self) -> str:
        """The name of its page, unless it is one of the sections of the first page."""
        return f"{self.id}.html"

    @property
    def title(self) -> str:
        """The notebook's title, without Markdown's marks."""
        first = str(self.chapter.notebook.cells[0].source).splitlines()[0]
        return first.removeprefix("# ").replace("`", "").strip()


def merge(chapters: Sequence[Chapter]) -> list[Section]:
    """Return the report's sections: the comparison, the models, the others.

    Raises RenderError for a notebook without a title, with an error or output on
    stderr, with marks or folds that do not fit, or with two programs.
    """
    return [_section(chapter) for chapter in sorted(chapters, key=_place)]


def preview(chapters: Sequence[Chapter]) -> list[Section]:
    """Return the sections before the notebooks run, without outputs.

    Raises RenderError for what `merge` and the pages would reject after the runs.
    """
    blank = copy.deepcopy(chapters)
    for cell in (cell for it in blank for cell in it.notebook.cells):
        cell["outputs"] = []  # they are about to be replaced
    sections = merge(blank)
    for section in sections:
        for cell in section.chapter.notebook.cells:
            try:
                if cell.cell_type == "markdown":
                    to_html(cell.source, section.id, Outline())
            except ValueError as problem:
                raise RenderError(f"{section.chapter.path.name}: {problem}") from None
    return sections


def _section(chapter: Chapter) -> Section:
    own = section_id(chapter.name)
    try:
        all_ = _cells(chapter)
        start = [cell for cell in all_ if START in tags(cell)]
        _link_marks(start, START)
        shown = [cell for cell in all_ if START not in tags(cell)]
        _link_marks(shown, own)
        checks = [cell for cell in shown if _is_check(cell)]
        cells = [cell for cell in shown if not _is_check(cell)]
        open_folds = folds.fold(cells)
        return Section(own, chapter, _blocks(cells), start, checks, open_folds)
    except ValueError as problem:
        raise RenderError(f"{chapter.path.name}: {problem}") from None


def _place(chapter: Chapter) -> tuple[bool, int, str]:
    """Return what sorts chapters in reading order."""
    place = (*MODELS, chapter.number).index(chapter.number)  # the others' is the last
    return not chapter.compares, place, chapter.name


def _cells(chapter: Chapter) -> list[NotebookNode]:
    """Return copies of the cells that the page shows, ready for the template."""
    originals = chapter.notebook.cells
    if not originals or not originals[0].source.startswith("# "):
        raise ValueError("the first cell must be its '# Title'")
    shown = [it for it in originals if it.source.strip() and not tags(it) & UNSEEN]
    # What a reader wants first may need the results of what is below it.
    shown = shown[:1] + sorted(shown[1:], key=lambda it: "top" not in tags(it))
    cells = copy.deepcopy(shown)
    for cell in cells:
        if cell.cell_type == "code":
            _prepare(cell, chapter)
    if sum("program" in cell.metadata for cell in cells) > 1:
        raise ValueError(
            f"more than one cell is tagged 'program'; tag one, which the page offers "
            f"as {chapter.name}.py"
        )
    return cells


def _is_check(cell: NotebookNode) -> bool:
    """Whether a cell hides its input and has no output."""
    own = {"hide-input"} == tags(cell) & {"hide-input", "program"}
    return cell.cell_type == "code" and own and not cell.outputs


def _prepare(cell: NotebookNode, chapter: Chapter) -> None:
    """Note in a code cell's metadata what the template shows of it, and how."""
    if noise := notebooks.noise(cell):
        raise ValueError(f"cell {cell.source.strip().splitlines()[0]!r}: {noise}")
    if "hide-input" in tags(cell) or chapter.compares:
        cell.metadata["aside"] = True
    if "program" in tags(cell):
        cell.metadata["program"] = f"{marks.without(cell.source).rstrip()}\n"
    for dialect in DIALECTS.keys() & tags(cell):
        cell.metadata["dialect"] = dialect
        # The page has a caption in place of the first line, "# Keras · Model".
        cell["source"] = re.sub(rf"\A# {DIALECTS[dialect]} ·.*\n+", "", cell.source)


def _link_marks(cells: list[NotebookNode], section: str) -> None:
    """Take the marks out of a chapter's code, and note which lines had them.

    The first line of an idea in each dialect is linked: it gets an id.
    """
    names: dict[int, str] = {}
    for cell in cells:
        if "legend" in tags(cell):
            own = marks.legend(cell.source)
            cell.metadata["ideas"] = [Idea(section, *idea) for idea in own.items()]
            names |= own
    used: dict[str, set[int]] = {}
    for cell in cells:
        if "dialect" in cell.metadata:
            seen = used.setdefault(DIALECTS[cell.metadata.dialect], set())
            cell.metadata["ideas"], cell.metadata["linked"] = {}, []
            for line, mark in marks.by_line(cell.source).items():
                cell.metadata["ideas"][line] = Idea(section, mark, names.get(mark, ""))
                if mark not in seen:
                    cell.metadata["linked"].append(line)
                    seen.add(mark)
            cell["source"] = marks.without(cell.source)
    marks.check(used, names)


def _blocks(cells: Sequence[NotebookNode]) -> list[Block]:
    """Split cells after each row, in which a dialect occurs once."""
    blocks: list[Block] = [([], {})]
    for cell in cells:
        dialect = cell.metadata.get("dialect")
        if blocks[-1][1] and (dialect is None or dialect in blocks[-1][1]):
            blocks.append(([], {}))
        prose, row = blocks[-1]
        if dialect:
            row[dialect] = cell
        else:
            prose.append(cell)
    return blocks


def command(chapter: Chapter) -> str:
    """Return the papermill command that repeats a run, from the repository's root."""
    words = ["papermill", f"notebooks/{chapter.path.name}", "out.ipynb"]
    for parameter, value in chapter.changed.items():
        if parameter == READS:
            value = "reports/results"  # where the report keeps them
        # papermill's -p would take "1e5" for a number, and "None" for nothing.
        words += ["-r" if isinstance(value, str) else "-p", parameter, str(value)]
    return shlex.join(words)
