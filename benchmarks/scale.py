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

from kvt.report import cluster, grid, notebooks, plan, sweep, worker
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
{rounds} times in one process; `kvt` gives the same runs to one Dask worker. The two
take turns.

| | seconds per run, median (lowest–highest) |
| --- | --- |
| papermill alone | {alone} |
| through kvt and Dask | {through} |
| the difference of the medians | {overhead:.2f} s |

What causes the difference? Dask's messages; the guard process, which ends every process
that the notebook leaves behind; and a second reading of the notebook, to check that
every cell has run.

## Workers of this machine

How long do {many} runs of the same notebook take with more workers? The seconds do not
include the start of the workers:

| workers | seconds | runs per minute | start of the workers |
| ---: | ---: | ---: | ---: |
{workers}

## From 100 to {most:,} runs

How do time and memory grow with the number of runs? Here a stub replaces the notebook,
and returns the results of a run at once. The two workers and the scheduler are separate
processes, so the memory of each can be measured. The rest is what `kvt sweep` always
does: it checks the values of each run, writes the record and the results of each run,
and finally the table and the page.

| runs | seconds | ms per run | table, page (s) | client (MB) | scheduler (MB) |
| ---: | ---: | ---: | ---: | ---: | ---: |
{stubs}

The time grows about in proportion to the number of runs: the tenth run costs about as
much as the ten thousandth. The scheduler never has more runs than there are
workers, because the client gives each worker one run at a time; the scheduler's log
takes {log:.1f} kB per run. The client keeps the values of the runs that have not
started and, at the end, a row per run for the table and the page: {per_run:.1f} kB per
run.

## Which tasks Dask gives up if a worker dies

Why does kvt give each worker only one run at a time? In this experiment, Dask has two
workers and {blamed} tasks, and one task kills its worker. The setting
`allowed-failures` is 0, and the tasks are restricted to workers by name, which is
necessary to leave other workers out. Dask gives up **{killed}** tasks, because it
assigns tasks to a worker before they start, and treats each task that was assigned to
the dead worker as a possible cause. If more failures are allowed, a task that kills its
workers also ends tasks that did nothing wrong. So kvt gives each worker one run, and
the next one when that run has ended. If a worker dies, only one run can be the cause,
and it runs again on another worker, at most twice.

## 1,000,000 runs, on paper

- **Time.** A run of the feedforward network on digits takes about 8 s of a core, most
  of it TensorFlow's import: 1,000,000 runs are 2,200 core hours, a day on 93 cores. The
  client spends {ms:.0f} ms on each run, one after the other. So it can start {rate:.0f}
  runs per second, enough for {feeds:,} workers that need 8 s per run. With more
  workers, split the sweep into parts, each with its own client and `--output`.
- **Memory.** The client needs {gigabytes:.1f} GB for the grid and the rows, at
  {per_run:.1f} kB per run. The scheduler's log needs {log:.1f} GB.
- **Files.** Each run has two files, together about 5 kB: 5 GB in two directories with a
  million files each. ext4 and XFS can store them; network file systems become slow when
  they list them. With `--keep none`, no notebooks are stored.
- **What reaches its limit first.** The page reads all results again at the end of each
  sweep, which takes {summary:.0f} minutes for a million runs. The file system comes
  next. Dask is not the limit. A grid may have at most 1,000,000 runs, so that a range
  with one zero too many is an error, and does not fill the memory.
- **What kvt does not do.** It does not ask an adaptive cluster for more workers,
  because Dask adds workers when tasks wait at the scheduler, and kvt submits a run only
  when a worker is free. Use `scale(…)`.
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
    chapter = plan.read_one(quick(place))
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
            seeds = [("seed", f"1..{count}")]
            runs = grid.runs(seeds, None, chapter.parameters)
            made = sweep.Sweep(chapter, runs, place / str(count), cluster=file)
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
