"""What a run costs beyond its notebook, and how a sweep grows to 10,000 runs.

Four questions: How much does `kvt sweep` add to what papermill needs for the same
notebook? What do two and four workers of this machine gain? How do time and memory of
the client and of Dask's scheduler grow with the number of runs? Whom does Dask blame if
a worker dies? The last explains why kvt gives each worker one run at a time. Writes
scale.md. `RUNS=1000` tries fewer stub runs.
"""

import contextlib
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import papermill
import psutil
from distributed import Client, KilledWorker, LocalCluster, get_worker, wait
from nbformat.v4 import new_code_cell, new_notebook

from kvt.report import cluster, grid, notebooks, parameters, sweep, worker
from kvt.report.execute import ARGUMENTS
from kvt.report.provenance import processor, threads
from kvt.report.worker import Ended, Task
from tests.report.sweeps import DOCUMENT, quick

MOST = int(os.environ.get("RUNS", "10000"))
ROUNDS = int(os.environ.get("ROUNDS", "12"))
TRIVIAL = notebooks.dumps(new_notebook(cells=[new_code_cell("1 + 1")]))
RESULTS = json.dumps(DOCUMENT).encode()

TEXT = """# Runs by the thousand

Measured by `python -m benchmarks.scale` on Python {python}, {processor}, {threads}
threads{load}.

## What a run costs beyond its notebook

A notebook of one cell, `1 + 1`: a kernel starts, computes and ends. papermill runs it
{rounds} times in one process; `kvt` gives the same runs to one worker of Dask's. They
take turns.

| | seconds per run, median (lowest–highest) |
| --- | --- |
| papermill alone | {alone} |
| through kvt and Dask | {through} |
| the difference of the medians | {overhead:.2f} s |

The difference has Dask's messages, the guard process that ends whatever the notebook
leaves behind, and a second reading of the notebook to check that every cell has run.

## Workers of this machine

{many} runs of the same notebook, from the first to the last, without the start of the
workers:

| workers | seconds | runs per minute | start of the workers |
| ---: | ---: | ---: | ---: |
{workers}

## From 100 to {most:,} runs

A stub takes the place of the notebook: it returns the results of a run at once. Two
workers and the scheduler are processes of their own, so each process's memory is its
own. `kvt sweep` does all else that it does: it checks each run's values, writes the
record and the results of each run, and at the end the table and the page.

| runs | seconds | ms per run | table, page (s) | client (MB) | scheduler (MB) |
| ---: | ---: | ---: | ---: | ---: | ---: |
{stubs}

Time is linear: a run costs the same whether it is the tenth or the ten thousandth.
The scheduler never has more runs than there are workers, because the client gives out
one run at a time to each; what it logs of them takes {log:.1f} kB per run. The client
keeps the values of the runs that are to come, and at the end one row for each run, for
the table and the page: {per_run:.1f} kB per run.

## Whom Dask blames if a worker dies

{blamed} tasks on two workers of Dask's own, one of which kills its worker, with
`allowed-failures` at 0 and the tasks restricted to workers by name, as they must be
to leave others out: Dask gives up **{killed}** of them, because it takes every task
that was assigned to the worker for a possible cause, and it assigns such tasks before
they start. With more failures allowed, a task that kills its workers takes innocent
ones along. So kvt gives each worker one run, and the next when that has ended. A
worker's death then has one cause, which runs on another worker twice more at most.

## 1,000,000 runs, on paper

- **Time.** A run of the feed-forward network on digits takes about 8 s of a core,
  most of it TensorFlow's import: 1,000,000 runs are 2,200 core hours, a day on 93
  cores. The client spends {ms:.0f} ms on a run, one after the other: it feeds at most
  {rate:.0f} runs a second, so it keeps up with {feeds:,} workers that take 8 s each.
  Beyond that, sweep in parts, each with a client and an `--output` of its own.
- **Memory.** The client holds the grid and the rows: {gigabytes:.1f} GB at
  {per_run:.1f} kB per run; the scheduler's log, {log:.1f} GB.
- **Files.** Two for each run, about 5 kB together: 5 GB in two directories with a
  million names each. ext4 and XFS hold them; network file systems get slow at
  listing. `--keep none` adds no notebook.
- **What breaks first.** The page reads all results again at the end of each sweep,
  {summary:.0f} minutes for a million; the grid is limited to 1,000,000 runs, so that
  a range with a zero too many is an error and not a full memory. Then the file
  system. Neither is Dask's.
- **What kvt does not do.** It does not ask an adaptive cluster for more workers,
  since Dask scales by tasks that wait at the scheduler, and kvt keeps them back. Use
  `scale(…)`.
"""


def stub(task: Task, *_: object) -> Ended:
    """Stand in for a run: return its results at once."""
    return Ended("", {sweep.RESULT: RESULTS}, "", [], 0.0)


@contextlib.contextmanager
def pool(jobs: int, directory: str) -> Iterator[cluster.Run]:
    with cluster.pool(cluster.Workplace(jobs, Path(directory))) as run:
        yield run


def alone(directory: Path) -> float:
    """Return papermill's seconds for the trivial notebook."""
    source = directory / "trivial.ipynb"
    source.write_text(TRIVIAL)
    started = time.perf_counter()
    papermill.execute_notebook(
        source,
        directory / "out.ipynb",
        kernel_name="python3",
        language="python",
        progress_bar=False,
        shutdown_kernel="immediate",
        extra_arguments=ARGUMENTS,
    )
    return time.perf_counter() - started


def seconds_of(run: cluster.Run, count: int) -> float:
    """Return how long so many runs of the trivial notebook take."""
    started = time.perf_counter()
    events = run([Task(str(number), TRIVIAL, {}) for number in range(count)])
    assert [it.kind for it in events if it.problem] == []
    return time.perf_counter() - started


def compared() -> tuple[list[float], list[float]]:
    """Return the seconds of each run, by papermill alone and through kvt, in turns."""
    with tempfile.TemporaryDirectory() as directory, pool(1, directory) as run:
        seconds_of(run, 1), alone(Path(directory))  # imports
        pairs = [(alone(Path(directory)), seconds_of(run, 1)) for _ in range(ROUNDS)]
    first, second = zip(*pairs, strict=True)
    return list(first), list(second)


def workers(count: int) -> Iterator[str]:
    """Yield a row for two and for four workers."""
    for jobs in (1, 2, 4):
        with tempfile.TemporaryDirectory() as directory:
            started = time.perf_counter()
            with pool(jobs, directory) as run:
                start = time.perf_counter() - started
                seconds_of(run, jobs)  # imports
                took = seconds_of(run, count)
        yield f"| {jobs} | {took:.1f} | {60 * count / took:.0f} | {start:.1f} s |"


@contextlib.contextmanager
def others(directory: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Start a scheduler and two workers as processes of their own."""
    file = directory / "scheduler.json"
    options = ["--scheduler-file", str(file), "--host", "127.0.0.1", "--no-dashboard"]
    words = [["scheduler", "--port", "0"], *[["worker", "--nthreads", "1"]] * 2]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    started = []
    try:
        for each in words:
            command = [sys.executable, "-m", "dask", *each, *options]
            made = subprocess.Popen(command, env=environment, cwd=directory, **quiet)
            started.append(made)
            while not file.exists():
                time.sleep(0.05)
        with Client(scheduler_file=str(file), set_as_default=False) as client:
            client.wait_for_workers(2)
        yield str(file), psutil.Process(started[0].pid)
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait()


def megabytes(process: psutil.Process) -> float:
    return float(process.memory_info().rss / 1e6)


def stubs() -> list[tuple[int, float, float, float, float]]:
    """Return runs, seconds, seconds of table and page, and both processes' memory."""
    found = []
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        with others(place) as (file, scheduler):
            count = 100
            while count <= MOST:
                found.append((count, *swept(place, count, file), megabytes(scheduler)))
                print(found[-1], flush=True)
                count *= 10
    return found


def swept(place: Path, count: int, file: str) -> tuple[float, float, float]:
    """Sweep over stubs; return seconds, those of table and page, and memory."""
    path = quick(place)
    known = parameters.read(notebooks.read(path))
    at = [0.0]
    summarize = sweep.Sweep._summarize

    def timed(self: Any, *given: Any) -> bool:
        at[0] = time.perf_counter()
        return summarize(self, *given)

    worker.perform, before = stub, worker.perform  # the pool looks it up
    sweep.Sweep._summarize = timed  # type: ignore[method-assign]
    try:
        gc.collect()
        started = time.perf_counter()
        with contextlib.redirect_stdout(None):
            runs = grid.runs([("seed", f"1..{count}")], None, known)
            how = sweep.Options(cluster=file)
            made = sweep.Sweep(
                path, notebooks.read(path), runs, place / str(count), how
            )
            assert made.run()
        end = time.perf_counter()
    finally:
        worker.perform = before
        sweep.Sweep._summarize = summarize  # type: ignore[method-assign]
    return end - started, end - at[0], megabytes(psutil.Process())


def kill(number: int) -> int:
    """Take a moment; the first one kills its worker when all are assigned."""
    time.sleep(0.5)
    if number == 0:
        os._exit(1)
    return number if get_worker() else 0


def blamed(tasks: int = 12) -> tuple[int, int]:
    """Return how many tasks there are, and how many Dask gives up, if one kills."""
    config = {**cluster.LOCAL, "distributed.scheduler.allowed-failures": 0}
    with (
        tempfile.TemporaryDirectory() as directory,
        dask.config.set(config),
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            local_directory=directory,
            silence_logs=50,
        ) as made,
        Client(made) as client,
    ):
        fit = list(client.scheduler_info()["workers"])  # as if others were left out
        futures = [
            client.submit(kill, number, pure=False, workers=fit)
            for number in range(tasks)
        ]
        wait(futures)
        killed = [isinstance(it.exception(), KilledWorker) for it in futures]
    return tasks, sum(killed)


def spread(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.2f} ({min(seconds):.2f}–{max(seconds):.2f})"


def _check_linear(measured: list[tuple[int, float, float, float, float]]) -> None:
    """Fail if what the text says of growth is not so."""
    if len(measured) > 2:
        (few, seconds, _, _, memory), (many, longer, _, _, more) = measured[-2:]
        assert longer / many < 1.5 * seconds / few, "a run takes longer among many"
        assert more - memory < 0.002 * (many - few), "the scheduler keeps the runs"


def main() -> None:
    load = os.getloadavg()[0]
    papermills, through = compared()
    many = 2 * ROUNDS
    rows = list(workers(many))
    given_up = blamed()
    measured = stubs()
    count, took, last, client, _ = measured[-1]
    _check_linear(measured)
    per_run = (client - measured[0][3]) * 1e3 / (count - measured[0][0])
    each = (took - last) / count
    text = TEXT.format(
        python=platform.python_version(),
        processor=processor(),
        threads=threads(),
        load="" if load < 1 else f", while other work kept {load:.0f} processes busy",
        rounds=ROUNDS,
        alone=spread(papermills),
        through=spread(through),
        overhead=statistics.median(through) - statistics.median(papermills),
        many=many,
        workers="\n".join(rows),
        most=count,
        stubs="\n".join(
            f"| {runs:,} | {all_:.1f} | {1e3 * all_ / runs:.1f} | {page:.1f} | "
            f"{own:.0f} | {scheduler:.0f} |"
            for runs, all_, page, own, scheduler in measured
        ),
        per_run=per_run,
        log=(measured[-1][4] - measured[-2][4]) * 1e3 / (count - measured[-2][0]),
        blamed=given_up[0],
        killed=given_up[1],
        ms=1e3 * each,
        rate=1 / each,
        feeds=int(8 / each),
        gigabytes=per_run,
        summary=last / count * 1e6 / 60,
    )
    Path(__file__).with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
