"""Run: execute a report's chapters in workers, or take them from the cache."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kvt.report import cache, files, notebooks
from kvt.report.cache import read_files, write_files
from kvt.report.notebooks import ExecutionError, NotebookNode
from kvt.report.overview import Overview
from kvt.report.plan import Chapter

if TYPE_CHECKING:
    from kvt.report.cluster import Event, Run
    from kvt.report.worker import Ended, Task


@dataclass(frozen=True)
class Stage:
    """Where a report is made: in `new`, except for failed notebooks and the cache.

    `keys` collects the keys of the chapters that have run or been restored.
    """

    room: Path  # for temporary files
    new: Path
    failed: Path
    cache: Path
    force: bool
    timeout: int | None = None  # seconds for a cell
    keys: dict[str, str] = field(default_factory=dict)

    def reads(self, chapter: Chapter) -> dict[str, bytes]:
        """Return the files that a chapter may read, by relative path.

        They are the modules beside it and, for the comparison, the others' results.
        """
        read = read_files(self.new, ["results"]) if chapter.compares else {}
        return notebooks.modules(chapter.path) | read

    def key(self, chapter: Chapter) -> str:
        """Return the chapter's key; the comparison's changes with every other one."""
        reads = self.reads(chapter)
        if chapter.compares:
            reads |= {name: key.encode() for name, key in self.keys.items()}
        return cache.key(chapter.name, chapter.notebook, chapter.values, reads)

    def length(self, chapter: Chapter) -> tuple[float, int]:
        """Return the seconds of the last run, if known, and the size of the file."""
        return cache.seconds(self.cache, chapter.name), chapter.path.stat().st_size


def run(
    chapters: Sequence[Chapter], stage: Stage, jobs: int, cluster: str = ""
) -> list[Chapter]:
    """Return the chapters as executed, the comparison executed after all others.

    Raises ExecutionError once all others have ended, so that they need not run again.
    """
    ran: dict[str, NotebookNode] = {}
    cells = {  # that will run, with the one that papermill injects
        it.path.name: len(notebooks.code_cells(it.notebook)) + bool(it.values)
        for it in chapters
    }
    with Overview(cells) as overview, ExitStack() as stack:
        work = None
        for compares in (False, True):
            group = {it.path.name: it for it in chapters if it.compares == compares}
            keys = {name: stage.key(chapter) for name, chapter in group.items()}
            for name, chapter in group.items():
                if notebook := _restore(chapter, keys[name], stage):
                    ran[name] = notebook
                    overview.tell(name, "from the cache")
            missing = [chapter for name, chapter in group.items() if name not in ran]
            if missing and not work:
                work = stack.enter_context(_pool(missing, stage, jobs, cluster))
            problems = []
            # The longest of the last run goes first, so that no core waits at the end.
            missing.sort(key=stage.length, reverse=True)
            for event in work([_task(it, stage) for it in missing]) if work else ():
                overview.tell(event.name, event.kind)
                if event.kind == "failed":
                    problems.append(_problem(group[event.name], event, stage))
                elif event.kind == "done" and event.ended:
                    chapter, key = group[event.name], keys[event.name]
                    ran[event.name] = _collect(chapter, key, event.ended, stage)
            if problems:
                raise ExecutionError("\n".join(problems))
            stage.keys.update(keys)
    return [replace(chapter, notebook=ran[chapter.path.name]) for chapter in chapters]


def _pool(
    missing: Sequence[Chapter], stage: Stage, jobs: int, cluster: str
) -> AbstractContextManager["Run"]:
    """Start workers for these chapters, or connect to the cluster."""
    from kvt.report.cluster import Workplace, pool  # only if something has to run: Dask

    return pool(
        Workplace(
            jobs=min(jobs, len(missing)),
            directory=stage.room,
            address=cluster,
            dataset=max(str(it.values.get("dataset", "")) for it in missing),
        )
    )


def _task(chapter: Chapter, stage: Stage) -> "Task":
    """Return what a worker needs to run the chapter's notebook as it was read."""
    from kvt.report.worker import Task

    return Task(
        chapter.path.name,
        notebooks.dumps(chapter.notebook),
        chapter.values,
        stage.reads(chapter),
        stage.timeout,
    )


def _problem(chapter: Chapter, event: "Event", stage: Stage) -> str:
    """Return why a chapter failed, and keep its notebook up to the failure."""
    name = chapter.path.name
    if not event.ended:
        return f"{name} {event.problem}"
    failed = stage.failed / name
    failed.parent.mkdir(parents=True, exist_ok=True)
    files.replace(failed, event.ended.notebook.encode(), stage.room)
    return notebooks.stopped(name, event.problem, failed)


def _restore(chapter: Chapter, key: str, stage: Stage) -> NotebookNode | None:
    """Take the executed notebook and its files from the cache, if they are there."""
    cached = None if stage.force else cache.load(stage.cache, chapter.name, key)
    if not cached:
        return None
    notebook = cache.graft(cached.notebook, chapter.notebook)
    return _keep(chapter, notebook, cached.files, stage)


def _collect(chapter: Chapter, key: str, ended: "Ended", stage: Stage) -> NotebookNode:
    """Put what a chapter left into the report, and into the cache.

    Not cached if the report would reject it, if its inputs changed during the run, or
    if it ran on a machine that may round differently.
    """
    unchanged = key == stage.key(chapter) and ended.machine == cache.machine()
    notebook = notebooks.loads(ended.notebook)
    _keep(chapter, notebook, ended.files, stage)
    noisy = any(map(notebooks.noise, notebooks.code_cells(notebook)))
    if unchanged and not noisy:
        try:
            entry = cache.Cached(notebook, ended.files, ended.seconds)
            cache.store(stage.cache, chapter.name, key, entry)
        except OSError as problem:
            print(f"{chapter.path.name} is not cached: {problem}")
    return notebook


def _keep(
    chapter: Chapter, notebook: NotebookNode, left: dict[str, bytes], stage: Stage
) -> NotebookNode:
    """Put a notebook, and what its run left, into the report; return the notebook."""
    write_files(left, stage.new)
    notebooks.write(notebook, stage.new / "notebooks" / chapter.path.name)
    (stage.failed / chapter.path.name).unlink(missing_ok=True)
    return notebook
