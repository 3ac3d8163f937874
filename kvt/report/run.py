"""Run: execute a report's chapters in workers, or take them from the cache."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from kvt.report import cache, notebooks
from kvt.report.notebooks import ExecutionError, NotebookNode
from kvt.report.overview import Overview
from kvt.report.plan import Chapter
from kvt.report.workers import Event, Task, Workers

WRITTEN = ("results", "logs")  # directories that a notebook may write to


@dataclass(frozen=True)
class Stage:
    """Where a report is made: temporary, except for failed notebooks and the cache.

    `keys` collects the key of each chapter that has been run or restored.
    """

    staging: Path
    failed: Path
    cache: Path | None
    force: bool
    keys: dict[str, str] = field(default_factory=dict)

    def room(self, chapter: Chapter) -> Path:
        """Return the chapter's own working directory, where it may write files."""
        return self.staging / "rooms" / chapter.name

    def output(self, chapter: Chapter) -> Path:
        """Return the path of the executed notebook."""
        return self.staging / "notebooks" / chapter.path.name

    def reads(self, chapter: Chapter) -> dict[str, bytes]:
        """Return the results that the comparison reads, by relative path."""
        return _files(self.staging, ["results"]) if chapter.compares else {}

    def key(self, chapter: Chapter) -> str:
        """Return the chapter's key; the comparison's changes with every other one."""
        reads = self.reads(chapter)
        if chapter.compares:
            reads |= {name: key.encode() for name, key in self.keys.items()}
        return cache.key(chapter.name, chapter.notebook, chapter.values, reads)


def run(chapters: Sequence[Chapter], stage: Stage, jobs: int) -> list[Chapter]:
    """Return the chapters as executed, the comparison executed after all others.

    Raises ExecutionError once all others have ended, so that they need not run again.
    """
    ran: dict[str, NotebookNode] = {}
    cells = {chapter.path.name: _cells(chapter) for chapter in chapters}
    with Overview(cells) as overview, Workers(min(jobs, len(chapters))) as workers:
        for compares in (False, True):
            group = [chapter for chapter in chapters if chapter.compares == compares]
            keys = {chapter.name: stage.key(chapter) for chapter in group}
            missing = []
            for chapter in group:
                if notebook := _restore(chapter, keys[chapter.name], stage):
                    ran[chapter.name] = notebook
                    overview.ends(chapter.path.name, "from the cache")
                else:
                    missing.append(chapter)
            events = workers.run(
                [_task(each, stage) for each in _by_length(missing, stage)]
            )
            ran |= _follow(events, missing, keys, overview, stage)
            stage.keys.update(keys)
    return [replace(chapter, notebook=ran[chapter.name]) for chapter in chapters]


def _follow(
    events: Iterable[Event],
    chapters: Sequence[Chapter],
    keys: Mapping[str, str],
    overview: Overview,
    stage: Stage,
) -> dict[str, NotebookNode]:
    """Follow running chapters until all have ended; return their notebooks, by name."""
    running = {chapter.path.name: chapter for chapter in chapters}
    ran, problems = {}, []
    for event in events:
        if event.kind == "starts":
            overview.starts(event.name)
        elif event.kind == "cell":
            overview.cell(event.name)
        elif event.kind == "failed":
            overview.ends(event.name, "failed")
            problems.append(event.problem)
        else:
            seconds = overview.ends(event.name, "done")
            chapter = running[event.name]
            ran[chapter.name] = _collect(chapter, keys[chapter.name], seconds, stage)
    if problems:
        raise ExecutionError("\n".join(problems))
    return ran


def _cells(chapter: Chapter) -> int:
    """Count the cells that will run, with the one that papermill injects."""
    return len(notebooks.code_cells(chapter.notebook)) + bool(chapter.values)


def _by_length(chapters: Sequence[Chapter], stage: Stage) -> list[Chapter]:
    """Sort the chapters: the longest of the last run first, and so no core waits.

    An unknown run counts as long. Of these the larger file goes first: a file grows
    with what its last run displayed.
    """

    def length(chapter: Chapter) -> tuple[float, int]:
        known = cache.seconds(stage.cache, chapter.name) if stage.cache else None
        return (math.inf if known is None else known), chapter.path.stat().st_size

    return sorted(chapters, key=length, reverse=True)


def _task(chapter: Chapter, stage: Stage) -> Task:
    """Make the chapter's directory, and a copy of the notebook as it was read."""
    room = stage.room(chapter)
    for part in WRITTEN:
        (room / part).mkdir(parents=True)
    _write(stage.reads(chapter), room)
    source = stage.staging / "sources" / chapter.path.name
    source.parent.mkdir(exist_ok=True)
    notebooks.write(chapter.notebook, source)
    failed = stage.failed / chapter.path.name
    return Task(source, stage.output(chapter), chapter.values, cwd=room, failed=failed)


def _restore(chapter: Chapter, key: str, stage: Stage) -> NotebookNode | None:
    """Take the executed notebook and its files from the cache, if they are there."""
    if stage.cache is None or stage.force:
        return None
    cached = cache.load(stage.cache, chapter.name, key)
    if cached is None:
        return None
    notebook = cache.graft(cached.notebook, chapter.notebook)
    notebooks.write(notebook, stage.output(chapter))
    _write(cached.files, stage.staging)
    return notebook


def _collect(chapter: Chapter, key: str, seconds: float, stage: Stage) -> NotebookNode:
    """Move what a chapter wrote into the report, and into the cache.

    Not cached if the report would reject it, or if its inputs changed during the run.
    """
    reads = stage.reads(chapter)
    files = _files(stage.room(chapter), WRITTEN)
    files = {path: content for path, content in files.items() if path not in reads}
    unchanged = key == stage.key(chapter)
    _write(files, stage.staging)
    notebook = notebooks.read(stage.output(chapter))
    noisy = any(map(notebooks.noise, notebooks.code_cells(notebook)))
    if stage.cache and unchanged and not noisy:
        try:
            cached = cache.Cached(notebook, files, seconds)
            cache.store(stage.cache, chapter.name, key, cached)
        except OSError as problem:
            print(f"{chapter.path.name} is not cached: {problem}")
    return notebook


def _files(directory: Path, parts: Sequence[str]) -> dict[str, bytes]:
    """Return the content of all files below parts of a directory, by relative path."""
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
