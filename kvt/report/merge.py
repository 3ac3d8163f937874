"""Executed chapters → one notebook, and its sections and rows for the template."""

import base64
import copy
import gzip
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from kvt.compare.results import DIALECTS
from kvt.report import marks, notebooks
from kvt.report.markdown import section_id
from kvt.report.marks import Idea
from kvt.report.notebooks import NotebookNode, tags
from kvt.report.plan import READS, Chapter

UNSEEN = {"parameters", "injected-parameters"}  # the section's table shows them


class RenderError(ValueError):
    """An executed notebook that cannot become part of a report."""


@dataclass(frozen=True)
class Block:
    """Consecutive cells of the merged notebook; the last ones are a row of dialects."""

    cells: range
    row: range
    migration: bool  # the row is TensorFlow 1 and 2 without Keras: shown whole


@dataclass(frozen=True)
class Section:
    """A chapter in the page: its id, its cells in blocks, its notebook to download."""

    id: str
    chapter: Chapter
    blocks: list[Block]
    command: str
    download: str


def merge(chapters: Sequence[Chapter]) -> tuple[NotebookNode, list[Section]]:
    """Join the executed notebooks, the comparison first; return all and the sections.

    Raises RenderError for a notebook without a title, with an error or output on
    stderr, with marks that do not fit, or with two programs.
    """
    merged = notebooks.new()
    sections = []
    for chapter in sorted(chapters, key=lambda chapter: not chapter.compares):
        start = len(merged.cells)
        merged.cells += _cells(chapter)
        section = Section(
            section_id(chapter.name),
            chapter,
            _blocks(merged.cells, start),
            command(chapter),
            _packed(notebooks.dumps(chapter.notebook)),
        )
        sections.append(section)
    return merged, sections


def _cells(chapter: Chapter) -> list[NotebookNode]:
    """Return copies of the cells that the page shows, ready for the template."""
    filename, originals = chapter.path.name, chapter.notebook.cells
    if not originals or not originals[0].source.startswith("# "):
        raise RenderError(f"{filename}: the first cell must be its '# Title'")
    cells: list[NotebookNode] = []
    for original in originals:
        if not original.source.strip() or tags(original) & UNSEEN:
            continue
        cell = copy.deepcopy(original)
        cell["id"] = f"{chapter.name[:50]}-{len(cells)}"  # unique in the whole page
        cell.metadata["notebook"] = filename
        cell.metadata["section"] = section_id(chapter.name)
        cell.metadata["number"] = chapter.number
        if cell.cell_type == "code":
            _prepare(cell, chapter)
        cells.append(cell)
    try:
        _link_marks(cells)
    except marks.MarkError as problem:
        raise RenderError(f"{filename}: {problem}") from None
    if sum("program" in cell.metadata for cell in cells) > 1:
        raise RenderError(
            f"{filename}: more than one cell is tagged 'program'; tag one, which the "
            f"page offers as {chapter.name}.py"
        )
    return cells


def _prepare(cell: NotebookNode, chapter: Chapter) -> None:
    """Note in a code cell's metadata what the template shows of it, and how."""
    if noise := notebooks.noise(cell):
        first = cell.source.strip().splitlines()[0]
        raise RenderError(f"{chapter.path.name}, cell {first!r}: {noise}")
    if "hide-input" in tags(cell) or chapter.compares:
        cell.metadata["transient"] = {"remove_source": True}  # nbconvert's own mark
    if "program" in tags(cell):
        program = f"{marks.without(cell.source).rstrip()}\n"
        cell.metadata["program"] = {
            "filename": f"{chapter.name}.py",
            "download": _packed(program),
        }
    for dialect in DIALECTS.keys() & tags(cell):
        cell.metadata["dialect"] = dialect
        # The page has a caption in place of the first line, "# Keras · Model".
        cell["source"] = re.sub(rf"\A# {DIALECTS[dialect]} ·.*\n+", "", cell.source)


def _link_marks(cells: list[NotebookNode]) -> None:
    """Take the marks out of a chapter's code, and note which lines had them."""
    dialects = [cell for cell in cells if "dialect" in cell.metadata]
    names: dict[int, str] = {}
    for cell in cells:
        if "legend" in tags(cell):
            found = marks.legend(cell.source)
            section = cell.metadata.section
            cell.metadata["ideas"] = [Idea(section, *idea) for idea in found.items()]
            names |= found
    used: dict[str, set[int]] = {}
    for cell in dialects:
        numbers = marks.by_line(cell.source).values()
        used.setdefault(DIALECTS[cell.metadata.dialect], set()).update(numbers)
    marks.check(used, names)
    for cell in dialects:
        cell.metadata["ideas"] = {
            line: Idea(cell.metadata.section, number, names[number])
            for line, number in marks.by_line(cell.source).items()
        }
        cell["source"] = marks.without(cell.source)


def _packed(text: str) -> str:
    """Return a link that contains a whole file, compressed by gzip.

    Equal files give equal links. The page's script decompresses a file on a click.
    """
    content = base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()
    return f"data:application/gzip;base64,{content}"


def _blocks(cells: list[NotebookNode], start: int) -> list[Block]:
    """Split the cells from `start` on after each row of dialects."""
    blocks = []
    at = start
    while at < len(cells):
        row = at
        while row < len(cells) and "dialect" not in cells[row].metadata:
            row += 1
        end, seen = row, set[str]()
        while end < len(cells) and "dialect" in cells[end].metadata:
            if cells[end].metadata["dialect"] in seen:
                break  # the next row, with no prose before it
            seen.add(cells[end].metadata["dialect"])
            end += 1
        migration = seen == {"tf1", "tf2"}
        blocks.append(Block(range(at, end), range(row, end), migration))
        at = end
    return blocks


def command(chapter: Chapter) -> str:
    """Return the papermill command that repeats a run, from the repository's root."""
    words = ["papermill", f"notebooks/{chapter.path.name}", "out.ipynb"]
    for parameter, value in chapter.changed.items():
        if parameter == READS:
            value = "reports/results"  # where the report keeps them
        raw = isinstance(value, str) and _looks_typed(value)
        words += ["-r" if raw else "-p", parameter, str(value)]
    return shlex.join(words)


def _looks_typed(text: str) -> bool:
    """Whether papermill's -p would take this string for a number, a bool or None."""
    if text in ("True", "False", "None"):
        return True
    try:
        float(text)
    except ValueError:
        return False
    return True
