"""The report as a whole: plan every notebook, run them all, render, then replace.

Nothing of an older report is touched before all of the new one is complete.
"""

import math
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from nbformat import NotebookNode

from kvt import data
from kvt.compare.results import NOTEBOOKS
from kvt.report import cache as cache_
from kvt.report import notebooks as notebooks_
from kvt.report import parameters as parameters_
from kvt.report import pdf
from kvt.report.cache import Entry
from kvt.report.merge import READS, WRITES, Executed, is_quiet
from kvt.report.notebooks import ExecutionError
from kvt.report.parallel import Overview, Task, Workers
from kvt.report.parameters import Parameter, ParameterError, Value
from kvt.report.provenance import gather, threads
from kvt.report.render import render

PDF = "kvt.pdf"
LEFT = ("results", "logs")  # what a notebook leaves beside itself
PARTS = ("notebooks", *LEFT)  # beside the page
# What `kvt report` itself decides, and how to decide otherwise.
RESERVED = {
    "dataset": "choose it with --dataset, for the whole report",
    WRITES: "the report collects the results itself",
    READS: "the report compares its own results",
}


Known = Mapping[Path, tuple[NotebookNode, dict[str, Parameter]]]


@dataclass(frozen=True)
class Run:
    """One notebook that will be run, as it was read, and with which checked values."""

    path: Path
    notebook: NotebookNode
    parameters: dict[str, Parameter]
    values: dict[str, Value]


def build(
    notebooks: Path,
    output: Path,
    *,
    dataset: str,
    parameters: Mapping[str, object],
    jobs: int | None = None,
    cache: Path | None = None,
    force: bool = False,
    print_with: str | None = None,
) -> Path:
    """Run the notebooks and write the report; return its index.html.

    `jobs` notebooks run at once, as many as there are cores unless told otherwise; how
    many changes no number. What `cache` holds is not run again, unless `force`; None
    keeps nothing. `print_with` is the browser that prints it to kvt.pdf beside.

    Everything that can be refused is refused before the first kernel starts:
    ParameterError for a parameter, FileNotFoundError for no notebooks, ValueError for
    a data set. ExecutionError, RenderError and PrintError leave an older report as it
    was.
    """
    paths = find(notebooks)
    _refuse_foreign(output, notebooks)
    known = read(paths)
    plan(known, "digits", parameters)  # refuses, before anything is fetched
    name, reason = data.resolve(dataset)
    runs = plan(known, name, parameters)
    print(f"data set: {reason}", flush=True)
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output, prefix=".staging-") as directory:
        staging = Path(directory).resolve()
        for part in PARTS:
            (staging / part).mkdir()
        stage = _Stage(staging, output / "failed", cache, force)
        executed = _execute(runs, stage, jobs or threads())
        page = render(
            executed,
            reason=reason,
            provenance=gather(notebooks, staging / "results"),
        )
        (staging / "index.html").write_text(page, encoding="utf-8")
        if print_with:
            pdf.write(page, staging / PDF, browser=print_with)
        _replace(staging, output)
    shutil.rmtree(output / "failed", ignore_errors=True)
    return output / "index.html"


def committed_cache() -> Path:
    """Directory in the repository, ignored by git, where runs are kept."""
    return NOTEBOOKS.parent / "build" / "cache"


def find(directory: Path) -> list[Path]:
    """Return the numbered notebooks of a directory (01_name.ipynb), in order."""
    paths = sorted(directory.glob("[0-9][0-9]_*.ipynb"))
    if not paths:
        raise FileNotFoundError(
            f"no notebooks like 01_name.ipynb in {directory}; "
            f"name their directory with --notebooks"
        )
    return paths


def read(paths: Sequence[Path]) -> Known:
    """Read the notebooks, and which parameters each of them has."""
    return {path: _read(path) for path in paths}


def plan(known: Known, dataset: str, given: Mapping[str, object]) -> list[Run]:
    """Check the given parameters, and settle every notebook's values.

    A parameter goes to each notebook that has it; one that none has is refused. The
    notebook that compares the others' results comes last.
    """
    for name in given:
        if name in RESERVED:
            raise ParameterError(f"parameter {name!r}: {RESERVED[name]}")
    everywhere = {name for _, parameters in known.values() for name in parameters}
    for name in given:
        if name not in everywhere:
            raise parameters_.unknown(name, everywhere - RESERVED.keys(), "the report")
    runs = []
    for path, (notebook, parameters) in known.items():
        own: dict[str, object] = {
            "dataset": dataset,
            WRITES: f"results/{path.stem}.json",
            READS: "results",
        }
        wanted = {
            name: value
            for name, value in (own | dict(given)).items()
            if name in parameters
        }
        values = parameters_.check(wanted, parameters)
        runs.append(Run(path, notebook, parameters, values))
    return sorted(runs, key=lambda run: READS in run.parameters)


def _read(path: Path) -> tuple[NotebookNode, dict[str, Parameter]]:
    notebook = notebooks_.read(path)
    try:
        return notebook, parameters_.read(notebook)
    except ParameterError as problem:
        raise ParameterError(f"{path.name}: {problem}") from None


@dataclass(frozen=True)
class _Stage:
    """Where a report is made; all is temporary, but what failed and what is kept."""

    staging: Path
    failed: Path
    cache: Path | None
    force: bool
    before: Mapping[str, str] = field(default_factory=dict)  # keys of what ran before

    def room(self, run: Run) -> Path:
        """The directory that the notebook runs in; what it leaves there is its own."""
        return self.staging / "rooms" / run.path.stem

    def output(self, run: Run) -> Path:
        """Where the executed notebook goes."""
        return self.staging / "notebooks" / run.path.name

    def reads(self, run: Run) -> dict[str, bytes]:
        """The others' results by relative path, for the notebook that compares them."""
        return _files(self.staging, ["results"]) if READS in run.parameters else {}


def _execute(runs: Sequence[Run], stage: _Stage, jobs: int) -> list[Executed]:
    """Run the notebooks, or take them from the cache: the comparison after all others.

    Raises ExecutionError once the others are done, so that they need not run again.
    """
    overview = Overview({run.path.name: _cells(run) for run in runs})
    ran: dict[str, NotebookNode] = {}
    with Workers(min(jobs, len(runs))) as workers:
        for last in (False, True):
            group = [run for run in runs if (READS in run.parameters) == last]
            keys = {run.path.name: _key(run, stage) for run in group}
            ran |= _execute_group(group, keys, stage, workers, overview)
            stage = replace(stage, before=keys)
    return [
        Executed(run.path.stem, ran[run.path.name], run.parameters, run.values)
        for run in runs
    ]


def _execute_group(
    runs: Sequence[Run],
    keys: Mapping[str, str],
    stage: _Stage,
    workers: Workers,
    overview: Overview,
) -> dict[str, NotebookNode]:
    """Run notebooks that need not wait for each other; return them as run, by name."""
    ran, missing, problems = {}, {}, []
    for run in runs:
        name = run.path.name
        if notebook := _restore(run, keys[name], stage):
            ran[name] = notebook
            overview.ends(name, "from the cache")
        else:
            missing[name] = run
    longest_first = sorted(missing.values(), key=lambda run: _length(run, stage))
    for event in workers.run([_task(run, stage) for run in reversed(longest_first)]):
        if event is None:
            overview.draw()
        elif event.kind == "starts":
            overview.starts(event.name)
        elif event.kind == "cell":
            overview.cell(event.name)
        elif event.kind == "failed":
            overview.ends(event.name, "failed")
            problems.append(event.problem)
        else:
            seconds = overview.ends(event.name, "done")
            run, key = missing[event.name], keys[event.name]
            ran[event.name] = _collect(run, key, seconds, stage)
    if problems:
        raise ExecutionError("\n".join(problems))
    return ran


def _cells(run: Run) -> int:
    """How many cells will run, with the one that papermill injects."""
    return len(notebooks_.code_cells(run.notebook)) + bool(run.values)


def _key(run: Run, stage: _Stage) -> str:
    """The run's key; the comparison's changes with any of the others'."""
    reads = stage.reads(run)
    if READS in run.parameters:
        reads |= {name: key.encode() for name, key in stage.before.items()}
    return cache_.key(run.path.stem, run.notebook, run.values, reads)


def _length(run: Run, stage: _Stage) -> tuple[float, int]:
    """What to sort by: the last run's seconds; unknown, it counts as long.

    Where no run is known, the notebook's size stands for them: it grows with what the
    last committed run had to show.
    """
    seconds = cache_.seconds(stage.cache, run.path.stem) if stage.cache else None
    return (math.inf if seconds is None else seconds), run.path.stat().st_size


def _task(run: Run, stage: _Stage) -> Task:
    """Give the notebook a room of its own, and a copy of itself as it was read."""
    room = stage.room(run)
    for part in LEFT:
        (room / part).mkdir(parents=True)
    _write(stage.reads(run), room)
    source = stage.staging / "sources" / run.path.name
    source.parent.mkdir(exist_ok=True)
    notebooks_.write(run.notebook, source)
    return Task(
        str(source),
        str(stage.output(run)),
        run.values,
        cwd=str(room),
        failed=str(stage.failed / run.path.name),
    )


def _restore(run: Run, key: str, stage: _Stage) -> NotebookNode | None:
    """Take the run from the cache, if it is there."""
    if stage.cache is None or stage.force:
        return None
    entry = cache_.load(stage.cache, run.path.stem, key)
    if entry is None:
        return None
    notebook = cache_.graft(entry.notebook, run.notebook)
    notebooks_.write(notebook, stage.output(run))
    _write(entry.files, stage.staging)
    return notebook


def _collect(run: Run, key: str, seconds: float, stage: _Stage) -> NotebookNode:
    """Move what a run left into the report, and keep it for the next time.

    It is not kept where the report will refuse it, nor where what its key stands for
    was changed meanwhile.
    """
    unchanged = key == _key(run, stage)
    reads = stage.reads(run)
    files = _files(stage.room(run), LEFT)
    files = {path: content for path, content in files.items() if path not in reads}
    _write(files, stage.staging)
    notebook = notebooks_.read(stage.output(run))
    if stage.cache and unchanged and is_quiet(notebook):
        try:
            entry = Entry(notebook, files, seconds)
            cache_.store(stage.cache, run.path.stem, key, entry)
        except OSError as problem:
            print(f"{run.path.name} is not kept for the next time: {problem}")
    return notebook


def _files(directory: Path, parts: Sequence[str]) -> dict[str, bytes]:
    """Content of all files below the parts of a directory, by relative path."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for part in parts
        for path in sorted((directory / part).rglob("*"))
        if path.is_file()
    }


def _write(files: Mapping[str, bytes], directory: Path) -> None:
    """Write files by their relative paths."""
    for name, content in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)


def _refuse_foreign(output: Path, notebooks: Path) -> None:
    """Raise FileExistsError where the report would replace what is not a report's."""
    taken = [name for name in PARTS if (output / name).exists()]
    if notebooks.resolve() == (output / "notebooks").resolve():
        problem = "holds the notebooks themselves"
    elif taken and not (output / "index.html").exists():
        problem = f"has {', '.join(taken)}, and no index.html of an earlier report"
    else:
        return
    raise FileExistsError(
        f"{output} {problem}; the report replaces what lies there; "
        "name another directory with --output"
    )


def _replace(staging: Path, output: Path) -> None:
    """Move the parts of the finished report into place, its page last."""
    for part in PARTS:
        if (output / part).exists():
            (output / part).replace(staging / f"old-{part}")
        (staging / part).replace(output / part)
    (output / PDF).unlink(missing_ok=True)  # an older one would show another run
    if (staging / PDF).exists():
        (staging / PDF).replace(output / PDF)
    (staging / "index.html").replace(output / "index.html")
