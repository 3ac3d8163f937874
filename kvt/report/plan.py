"""Plan: which notebooks a report has, and the value of each of their parameters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kvt.report import notebooks, parameters
from kvt.report.notebooks import NotebookNode
from kvt.report.parameters import Parameter, ParameterError, Value

WRITES = "results_path"  # where a notebook writes its results; changes no result
READS = "results_dir"  # only the notebook that compares the others' results has it
# Parameters that the report sets, and what to do instead of setting them.
RESERVED = {
    "dataset": "choose it with --dataset, for the whole report",
    WRITES: "the report collects the results itself",
    READS: "the report compares its own results",
}


@dataclass(frozen=True)
class Chapter:
    """One notebook of a report, as read or as executed, and its parameters' values."""

    path: Path
    notebook: NotebookNode
    parameters: dict[str, Parameter]
    values: dict[str, Value]

    @property
    def name(self) -> str:
        """The notebook's name: `03_feedforward_network`."""
        return self.path.stem

    @property
    def compares(self) -> bool:
        """Whether it reads the others' results: it runs last and opens the page."""
        return READS in self.parameters

    @property
    def number(self) -> str:
        """The chapter's number, as in its file's name; the comparison has none."""
        return "" if self.compares else self.name[:2]

    @property
    def changed(self) -> dict[str, Value]:
        """The values that differ from the defaults, except `results_path`."""
        own = {name: it for name, it in self.values.items() if name != WRITES}
        return {k: v for k, v in own.items() if v != self.parameters[k].default}

    @property
    def shown(self) -> dict[str, Value]:
        """All parameters' values, with the default of `results_path`."""
        return {name: it.default for name, it in self.parameters.items()} | self.changed


def read(directory: Path) -> list[Chapter]:
    """Read a directory's notebooks like 01_name.ipynb, in order, without values yet."""
    chapters = [read_one(it) for it in sorted(directory.glob("[0-9][0-9]_*.ipynb"))]
    if not chapters:
        raise FileNotFoundError(
            f"no notebooks like 01_name.ipynb in {directory}; name their directory "
            "with --notebooks; for kvt's own, clone kvt's repository, and run kvt there"
        )
    return chapters


def read_one(path: Path) -> Chapter:
    """Read a notebook and its parameters, without values yet.

    Raises ParameterError for a parameters cell that kvt cannot read.
    """
    notebook = notebooks.read(path)
    try:
        return Chapter(path, notebook, parameters.read(notebook), {})
    except ParameterError as problem:
        raise ParameterError(f"{path.name}: {problem}") from None


def plan(
    chapters: Sequence[Chapter], dataset: str, given: Mapping[str, object]
) -> list[Chapter]:
    """Return the chapters with their values, the comparison last.

    A given parameter goes to each notebook that has it. Raises ParameterError for an
    invalid value, and for a parameter that no notebook has or that the report sets.
    """
    everywhere = {name for chapter in chapters for name in chapter.parameters}
    for name in given:
        if name in RESERVED:
            raise ParameterError(f"parameter {name!r}: {RESERVED[name]}")
        if name not in everywhere:
            raise parameters.unknown(name, everywhere - RESERVED.keys(), "the report")
    planned = []
    for chapter in sorted(chapters, key=lambda chapter: chapter.compares):
        own = {"dataset": dataset, READS: "results", **given}
        own[WRITES] = f"results/{chapter.name}.json"
        values = {k: value for k, value in own.items() if k in chapter.parameters}
        checked = parameters.check(values, chapter.parameters)
        planned.append(replace(chapter, values=checked))
    return planned
