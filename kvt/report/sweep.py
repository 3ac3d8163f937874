"""Sweep: one notebook with many values of its parameters, resumed where it stopped.

Each run is a file that is written last and whole: what has its file is finished, and is
never run again. The run's name is a hash of all that decides its results.
"""

import contextlib
import csv
import functools
import importlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from kvt.compare import results
from kvt.report import cache, files, keras_settings, notebooks, sweep_page
from kvt.report.grid import Values
from kvt.report.plan import WRITES, Chapter
from kvt.report.provenance import threads

MARK = "sweep.json"  # a directory with this file is a sweep's
RESULT = "results/result.json"  # as the notebook writes it
RETRIES = 2  # times that a run goes to another worker if its worker dies


@dataclass
class Run:
    """One run of a sweep: its values, and how it went once it has ended."""

    values: Values
    problem: str = ""
    seconds: float = 0.0
    worker: dict[str, Any] = field(default_factory=dict)
    results_sha256: str = ""

    @property
    def status(self) -> str:
        """Return "finished", "failed", or "missing" before the run has ended."""
        return "failed" if self.problem else "finished" if self.worker else "missing"


@dataclass(frozen=True)
class Sweep:
    """A notebook, the values of its runs, and the directory for what they leave.

    The other fields are the options that `kvt sweep --help` explains.
    """

    chapter: Chapter
    grid: Sequence[Values]
    output: Path
    keep: str = "failed"
    jobs: int | None = None
    cluster: str = ""
    allow_different: bool = False
    timeout: int | None = None

    def run(self) -> bool:
        """Run what is not finished; write the table and the page; say if all went well.

        ValueError and FileExistsError reject invalid input before the first run.
        """
        self._check()
        with files.room(self.output, self.output) as room:
            for part in ("runs", "results"):
                (self.output / part).mkdir(exist_ok=True)
            mark = _json({"notebook": self.chapter.path.name})
            files.replace(self.output / MARK, mark, room)
            names = self._names()
            missing = [it for it in names if self._read(it).status != "finished"]
            done = len(names) - len(missing)
            print(f"{len(names)} runs, {done} of them finished before", flush=True)
            if missing:
                self._run(missing, names, room)
            return self._summarize(names, room)

    def _check(self) -> None:
        """Raise an error if the notebook, or the directory, is not fit for a sweep."""
        keras_settings.check()
        if WRITES not in self.chapter.parameters:
            raise ValueError(
                f"{self.chapter.path.name} has no parameter {WRITES}, by which a "
                "notebook tells its results; sweep one like 03_feedforward_network"
            )
        if not self.output.exists() or (self.output / MARK).is_file():
            return
        if not self.output.is_dir() or any(self.output.iterdir()):
            raise FileExistsError(
                f"{self.output} has other content than a sweep; name a new or empty "
                "directory with --output"
            )

    def _names(self) -> dict[str, Values]:
        """Return the runs' values by name: a hash of all that decides the results."""
        modules = notebooks.modules(self.chapter.path)
        key = cache.key(self.chapter.name, self.chapter.notebook, {}, modules)
        data = functools.cache(cache.data)
        names = {}
        for values in self.grid:
            parts = [key, data(self._dataset(values)), values]
            text = json.dumps(parts, sort_keys=True)
            names[cache.sha256(text.encode())[:16]] = values
        return names

    @property
    def _defaults(self) -> Values:
        known = self.chapter.parameters
        return {name: it.default for name, it in known.items() if name != WRITES}

    def _dataset(self, values: Values) -> str:
        """Return the data set of a run, or "" if the notebook has no such parameter."""
        return str((self._defaults | values).get("dataset", ""))

    def _read(self, name: str) -> Run:
        """Return the record of a run, if its files are whole; else that of no run."""
        missing = Run({})
        try:
            run = Run(**json.loads((self.output / "runs" / f"{name}.json").read_text()))
            if not run.problem:
                content = (self.output / "results" / f"{name}.json").read_bytes()
                if cache.sha256(content) != run.results_sha256:
                    return missing
        except (OSError, ValueError, TypeError):
            return missing
        return run

    def _run(
        self, missing: Sequence[str], values: Mapping[str, Values], room: Path
    ) -> None:
        """Run the missing runs on Dask's workers; keep what each one leaves."""
        from kvt.report.cluster import Workplace, pool
        from kvt.report.worker import Task

        text = notebooks.dumps(self.chapter.notebook)
        modules = notebooks.modules(self.chapter.path)
        settings = Workplace(
            jobs=min(self.jobs or threads(), len(missing)),
            directory=room,
            address=self.cluster,
            retries=RETRIES,
            dataset=max(self._dataset(values[name]) for name in missing),
            allow_different=self.allow_different,
        )

        def tasks() -> Iterator[Task]:
            for name in missing:
                own = {**values[name], WRITES: RESULT}
                yield Task(name, text, own, modules, self.timeout)

        with _Told(len(missing)) as told, pool(settings) as work:
            for event in work(tasks()):
                if event.kind in ("done", "failed"):
                    told.ended(self._keep(event, values[event.name], room))

    def _keep(self, event: Any, values: Values, room: Path) -> Run:
        """Write what a run left: its results, its notebook, and last its record."""
        ended, problem = event.ended, event.problem
        facts = {k: v for k, v in event.worker.items() if k in sweep_page.FACTS}
        run = Run(values, problem, ended.seconds if ended else 0.0, facts)
        if not problem:
            run.problem = self._accept(event.name, ended.files.get(RESULT), run, room)
        kept = self.output / "notebooks" / f"{event.name}.ipynb"
        if ended and ended.notebook and self.keep in ("all", run.status):
            kept.parent.mkdir(exist_ok=True)
            files.replace(kept, ended.notebook.encode(), room)
        else:
            kept.unlink(missing_ok=True)  # of an earlier failure
        record = self.output / "runs" / f"{event.name}.json"
        files.replace(record, _json(asdict(run)), room)
        return run

    def _accept(self, name: str, content: bytes | None, run: Run, room: Path) -> str:
        """Keep the results of a run; return what is wrong with them, or ""."""
        if content is None:
            return f"wrote no results to its parameter {WRITES}"
        part = room / f"{name}.json"
        files.write(part, content)
        try:
            results.read(part)
        except ValueError as problem:
            return str(problem).replace(str(part), "its results file")
        part.replace(self.output / "results" / part.name)
        run.results_sha256 = cache.sha256(content)
        return ""

    def _summarize(self, names: Mapping[str, Values], room: Path) -> bool:
        """Write the table of all runs and the page; return whether all went well."""
        rows = []
        for name, values in names.items():
            run = self._read(name)
            document = None
            if run.status == "finished":
                document = results.read(self.output / "results" / f"{name}.json")
            rows.append(sweep_page.row(name, run, self._defaults | values, document))
        _write_tables(self.output, rows, room)
        page = sweep_page.page(self.chapter.name, rows, varied=_varied(self.grid))
        files.replace(self.output / "index.html", page.encode(), room)
        return all(row["status"] == "finished" for row in rows)


class _Told(Progress):
    """Tells how far a sweep is: a line that is redrawn, or one in twenty steps."""

    def __init__(self, count: int) -> None:
        console = Console()
        super().__init__(
            TextColumn("{task.completed} of {task.total} runs"),
            BarColumn(),
            TextColumn("{task.fields[failed]} failed"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.file.isatty(),
        )
        self.count, self.done, self.failed = count, 0, 0
        self.add_task("", total=count, failed=0)

    def ended(self, run: Run) -> None:
        """Count a run that has ended; name one that failed."""
        if run.problem:
            values = ", ".join(f"{name}={it}" for name, it in run.values.items())
            text = f"failed: {values}: {run.problem}"
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)
        self.done += 1
        self.failed += bool(run.problem)
        self.update(self.task_ids[0], completed=self.done, failed=self.failed)
        step = max(1, self.count // 20)
        if self.disable and (self.done % step == 0 or self.done == self.count):
            line = f"{self.done} of {self.count} runs, {self.failed} failed"
            print(line, flush=True)


def _varied(grid: Sequence[Values]) -> list[str]:
    """Return the parameters that have more than one value."""
    names = dict.fromkeys(name for values in grid for name in values)
    return [name for name in names if len({it[name] for it in grid if name in it}) > 1]


def _write_tables(output: Path, rows: Sequence[Mapping[str, Any]], room: Path) -> None:
    """Write runs.csv, and runs.parquet if pyarrow is installed."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: _inert(v) for k, v in row.items()} for row in rows)
    files.replace(output / "runs.csv", text.getvalue().encode(), room)
    (output / "runs.parquet").unlink(missing_ok=True)  # maybe of other runs
    with contextlib.suppress(ImportError):
        parquet = importlib.import_module("pyarrow.parquet")
        arrow = importlib.import_module("pyarrow")
        table = arrow.table({name: [it.get(name) for it in rows] for name in columns})
        parquet.write_table(table, room / "runs.parquet")
        (room / "runs.parquet").replace(output / "runs.parquet")


def _inert(value: Any) -> Any:
    """Return a table's value; a spreadsheet would run text that is a formula."""
    runs = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{value}" if runs else value


def _json(document: Any) -> bytes:
    return (json.dumps(document, indent=1) + "\n").encode()
