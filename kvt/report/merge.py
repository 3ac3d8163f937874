"""Executed notebooks → one notebook, and the sections and rows that it falls into."""

import base64
import copy
import gzip
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from nbformat import NotebookNode

from kvt.compare.results import DIALECTS
from kvt.report import marks, notebooks
from kvt.report.markdown import section_id
from kvt.report.marks import Idea
from kvt.report.parameters import Parameter, Value

UNSEEN = {"parameters", "injected-parameters"}  # a table at the section's end has them
WRITES = "results_path"  # says where to write, and changes nothing that is computed
READS = "results_dir"  # the notebook that has it compares the others


class RenderError(ValueError):
    """An executed notebook that must not become a report."""


@dataclass(frozen=True)
class Executed:
    """One notebook as run: its file's name without suffix, and with what values."""

    name: str
    notebook: NotebookNode
    parameters: dict[str, Parameter]
    values: dict[str, Value]

    def changed(self) -> dict[str, Value]:
        """Values that differ from the committed defaults, but for `results_path`."""
        defaults = {name: each.default for name, each in self.parameters.items()}
        return {
            name: value
            for name, value in self.values.items()
            if name != WRITES and value != defaults[name]
        }


@dataclass(frozen=True)
class Block:
    """A run of the merged notebook's cells: ordinary ones, then a row of dialects."""

    cells: range
    row: range
    migration: bool  # the row is TensorFlow 1 and 2 without Keras: shown whole


@dataclass(frozen=True)
class Section:
    """What the template needs of one notebook, besides its cells."""

    id: str
    number: str
    filename: str
    blocks: list[Block]
    parameters: list[tuple[Parameter, Value]]
    changed: dict[str, Value]
    noted: dict[str, Value]
    command: str
    download: str


def merge(executed: Sequence[Executed]) -> tuple[NotebookNode, list[Section]]:
    """Put the notebooks into one, the comparison first; return it and its sections."""
    merged = notebooks.new()
    sections = []
    for run in sorted(executed, key=lambda run: READS not in run.parameters):
        start = len(merged.cells)
        merged.cells += _cells(run)
        sections.append(_section(run, merged.cells, start))
    return merged, sections


def _cells(run: Executed) -> list[NotebookNode]:
    """Copies of the cells that the report shows, ready for the template."""
    if not run.notebook.cells or not run.notebook.cells[0].source.startswith("# "):
        raise RenderError(f"{run.name}.ipynb: the first cell must be its '# Title'")
    cells: list[NotebookNode] = []
    for original in run.notebook.cells:
        cell = copy.deepcopy(original)
        tags = set(cell.metadata.get("tags", []))
        if not cell.source.strip() or tags & UNSEEN:
            continue
        if cell.cell_type == "code":
            _refuse_noise(run.name, cell)
            if "hide-input" in tags or READS in run.parameters:
                cell.metadata["transient"] = {"remove_source": True}  # nbconvert's mark
            for dialect in DIALECTS.keys() & tags:
                cell.metadata["dialect"] = dialect
                cell["source"] = _without_label(cell.source, DIALECTS[dialect])
        cell["id"] = f"{run.name[:50]}-{len(cells)}"  # unique in the merged notebook
        cell.metadata["notebook"] = f"{run.name}.ipynb"
        cell.metadata["section"] = section_id(run.name)
        cell.metadata["number"] = _number(run)
        cells.append(cell)
    try:
        _link_marks(cells)
    except marks.MarkError as problem:
        raise RenderError(f"{run.name}.ipynb: {problem}") from None
    return cells


def _number(run: Executed) -> str:
    """The section's number, its notebook's; the comparison opens the page without."""
    found = re.match(r"\d+", run.name)
    return str(int(found[0])) if found and READS not in run.parameters else ""


def _link_marks(cells: list[NotebookNode]) -> None:
    """Take the marks out of a section's code, and note which lines they stood on."""
    legends = [cell for cell in cells if "legend" in cell.metadata.get("tags", [])]
    dialects = [cell for cell in cells if "dialect" in cell.metadata]
    names: dict[int, str] = {}
    for cell in legends:
        cell.metadata["ideas"] = [
            Idea(cell.metadata.section, *idea)
            for idea in marks.legend(cell.source).items()
        ]
        names |= marks.legend(cell.source)
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


def is_quiet(notebook: NotebookNode) -> bool:
    """Whether no cell left an error or a line on stderr, so that a report takes it."""
    try:
        for cell in notebooks.code_cells(notebook):
            _refuse_noise("", cell)
    except RenderError:
        return False
    return True


def _refuse_noise(name: str, cell: NotebookNode) -> None:
    """Raise where a cell left an error or a line on stderr."""
    first = cell.source.strip().splitlines()[0]
    for output in cell.outputs:
        if output.output_type == "error":
            text = f"{output.ename}: {output.evalue}"
        elif output.get("name") == "stderr":
            text = f"stderr: {output.text.strip()}"
        else:
            continue
        raise RenderError(f"{name}.ipynb, cell {first!r}: {text}")


def _without_label(source: str, label: str) -> str:
    """Drop the first line "# Keras · Model": the page has a caption in its place."""
    return re.sub(rf"\A# {label} ·.*\n+", "", source)


def _section(run: Executed, cells: list[NotebookNode], start: int) -> Section:
    defaults = {name: each.default for name, each in run.parameters.items()}
    values = defaults | run.changed()
    return Section(
        section_id(run.name),
        _number(run),
        f"{run.name}.ipynb",
        _blocks(cells, start),
        [(each, values[name]) for name, each in run.parameters.items()],
        run.changed(),
        run.changed() | {name: values[name] for name in ("seed",) if name in values},
        command(run.name, run.changed()),
        _packed(run.notebook),
    )


def _packed(notebook: NotebookNode) -> str:
    """Return the notebook as a link that holds it: JSON, packed by gzip.

    Equal notebooks give equal links. The page's script unpacks what is clicked.
    """
    content = notebooks.dumps(notebook).encode()
    packed = base64.b64encode(gzip.compress(content, mtime=0)).decode()
    return f"data:application/gzip;base64,{packed}"


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
                break  # the next row, without prose of its own
            seen.add(cells[end].metadata["dialect"])
            end += 1
        migration = seen == {"tf1", "tf2"}
        blocks.append(Block(range(at, end), range(row, end), migration))
        at = end
    return blocks


def command(name: str, changed: dict[str, Value]) -> str:
    """The papermill command that runs the notebook so again, from the repository."""
    words = ["papermill", f"notebooks/{name}.ipynb", "out.ipynb"]
    for parameter, value in changed.items():
        if parameter == READS:
            value = "reports/results"  # where the run leaves them
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
