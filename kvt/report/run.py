"""Run: execute a report's chapters in workers, or take them from the cache."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from kvt.report import cache, notebooks
from kvt.report.cache import WRITTEN
from kvt.report.notebooks import ExecutionError, NotebookNode
from kvt.report.overview import Overview
from kvt.report.plan import Chapter
from kvt.report.workers import Task, pool


@dataclass(frozen=True)
class Stage:
    """Where a report is made: temporary, except for failed notebooks and the cache.

    `keys` collects the keys of the chapters that have run or been restored.
    """

    staging: Path
    failed: Path
    cache: Path
    force: bool
    timeout: int | None = None  # seconds for a cell
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

    def length(self, chapter: Chapter) -> tuple[float, int]:
        """Return the seconds of the last run, if known, and the size of the file."""
        return cache.seconds(self.cache, chapter.name), chapter.path.stat().st_size


def run(chapters: Sequence[Chapter], stage: Stage, jobs: int) -> list[Chapter]:
    """Return the chapters as executed, the comparison executed after all others.

    Raises ExecutionError once all others have ended, so that they need not run again.
    """
    ran: dict[str, NotebookNode] = {}
    cells = {  # that will run, with the one that papermill injects
        it.path.name: len(notebooks.code_cells(it.notebook)) + bool(it.values)
        for it in chapters
    }
    with Overview(cells) as overview, pool(min(jobs, len(chapters))) as work:
        for compares in (False, True):
            group = {it.path.name: it for it in chapters if it.compares == compares}
            keys = {name: stage.key(chapter) for name, chapter in group.items()}
            for name, chapter in group.items():
                if notebook := _restore(chapter, keys[name], stage):
                    ran[name] = notebook
                    overview.tell(name, "from the cache")
            missing = [chapter for name, chapter in group.items() if name not in ran]
            problems = []
            # The longest of the last run goes first, so that no core waits at the end.
            missing.sort(key=stage.length, reverse=True)
            tasks = [_task(chapter, stage) for chapter in missing]
            for event in work(tasks):
                seconds = overview.tell(event.name, event.kind)
                if event.kind == "failed":
                    problems.append(event.problem)
                elif event.kind == "done":
                    chapter, key = group[event.name], keys[event.name]
                    ran[event.name] = _collect(chapter, key, seconds, stage)
            if problems:
                raise ExecutionError("\n".join(problems))
            stage.keys.update(keys)
    return [replace(chapter, notebook=ran[chapter.path.name]) for chapter in chapters]


def _task(chapter: Chapter, stage: Stage) -> Task:
    """Make the chapter's directory, and a copy of the notebook as it was read."""
    room = stage.room(chapter)
    for part in WRITTEN:
        (room / part).mkdir(parents=True)
    _write(stage.reads(chapter), room)
    source = room / chapter.path.name
    notebooks.write(chapter.notebook, source)
    return {
        "notebook": source,
        "output": stage.output(chapter),
        "parameters": chapter.values,
        "cwd": room,
        "failed": stage.failed / chapter.path.name,
        "timeout": stage.timeout,
    }


def _restore(chapter: Chapter, key: str, stage: Stage) -> NotebookNode | None:
    """Take the executed notebook and its files from the cache, if they are there."""
    cached = None if stage.force else cache.load(stage.cache, chapter.name, key)
    if not cached:
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
    unchanged = key == stage.key(chapter)
    wrote = _files(stage.room(chapter), WRITTEN)
    files = {name: content for name, content in wrote.items() if name not in reads}
    _write(files, stage.staging)
    notebook = notebooks.read(stage.output(chapter))
    noisy = any(map(notebooks.noise, notebooks.code_cells(notebook)))
    if unchanged and not noisy:
        try:
            entry = cache.Cached(notebook, files, seconds)
            cache.store(stage.cache, chapter.name, key, entry)
        except OSError as problem:
            print(f"{chapter.path.name} is not cached: {problem}")
    return notebook


def _files(directory: Path, parts: Sequence[str]) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for part in parts
        for path in sorted((directory / part).rglob("*"))
        if path.is_file()
    }


def _write(files: Mapping[str, bytes], directory: Path) -> None:
    for name, content in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)
