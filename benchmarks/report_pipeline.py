"""How long `kvt report` takes, where the seconds go, and how other tools compare.

Five questions: How long does the whole report take? What do each notebook's seconds go
to? How much does `kvt report` add to the cells? How long does it take when every
notebook comes from the cache? How long do other tools take for the same notebooks? The
commands take turns, each in a directory of its own. Writes report_pipeline.md.
"""

import contextlib
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from benchmarks import kernel_seconds
from kvt.compare.results import NOTEBOOKS
from kvt.report import notebooks
from kvt.report.build import CACHE
from kvt.report.execute import execute
from kvt.report.plan import Chapter, plan, read
from kvt.report.provenance import processor, threads

ROUNDS = int(os.environ.get("ROUNDS", "5"))
WHOLE = min(ROUNDS, 3)  # rounds of the whole report
COMPARED = 6  # notebooks for the comparison
KVT = str(Path(sys.executable).with_name("kvt"))
NBCONVERT = [sys.executable, "-m", "nbconvert"]
CORES = str(threads())
PARALLEL = ["--execute-parallel", CORES]
# One cell each. No name is assigned twice: marimo would reject it.
CELLS = (
    "numbers_{n} = list(range(1_000))\nlen(numbers_{n})",
    "squares_{n} = [each**2 for each in numbers_{n}]\nprint(sum(squares_{n}))",
    "words_{n} = [str(each) for each in squares_{n}]\nprint(*words_{n}[:20])",
    "longest_{n} = max(words_{n}, key=len)\nlongest_{n}",
    "import statistics\nstatistics.median(squares_{n})",
)

PROVIDED = """The other tools are not part of the project's environment.
Install them into another one, with Node for MyST:
    pip install mystmd marimo jupyter-cache jupyter-server ipykernel
and put its bin first on the PATH: MyST runs notebooks with the `python` found there."""

TEXT = """# The report's pipeline

## The whole report

`kvt report --dataset digits --force`: every notebook runs, {cores} at once, the longest
of the last run first: {whole}; at most 110 s.

## Where the seconds go

The same notebooks one after the other, measured in their kernels. Seconds inside
another kind's call count once: a graph traced while epochs are timed is tracing.

- Kernel: papermill, the kernel's start and its end.
- Import: TensorFlow, Keras, Matplotlib, scikit-learn.
- Tracing: Python functions become graphs (`tf.function`, in Keras too, and `tf.data`).
- Timing: the cells on costs train again, to measure an epoch in each mode.
- Drawing: figures become SVG.
- Training and the rest: training, evaluation, checks, TensorFlow 1's graphs, tables.
- Processor: seconds of all threads and child processes together.

{seconds}

## What `kvt report` adds to the cells

Notebooks of {cells} cells that compute next to nothing and import no TensorFlow: almost
all of the time is what `kvt report` adds, the page included. The last column is the
limit.

| notebooks | jobs | median of {rounds} (lowest–highest) | limit |
| ---: | ---: | ---: | ---: |
{overhead}

## When nothing has changed

The committed notebooks, all from the cache, with the page: {hits}; at most 2.5 s.

## Compared with other tools

{count} such notebooks, {cores} at once if a tool can do that. Again: the same command
once more, if a tool keeps its runs.

| | makes | median of {rounds} (lowest–highest) | again |
| --- | --- | ---: | ---: |
{comparison}

Python {python}, {others}; {processor}, {cores} threads.
"""

Command = Callable[[Path], list[list[str]]]


@dataclass(frozen=True)
class Tool:
    """A tool: its command lines, for a directory with the notebooks.

    Without the program `needs`, the tool is left out. The commands `once` come first
    and are not timed. `again`: a second run is timed too. `does` says what it makes.
    """

    name: str
    needs: str
    commands: Command
    does: str
    once: Command = lambda _: []
    again: bool = False


def names(directory: Path, suffix: str = ".ipynb") -> list[str]:
    return sorted(path.name for path in directory.glob(f"*{suffix}"))


def report(*options: str) -> Command:
    """Return `kvt report` for the notebooks of a directory, with a cache in it."""
    places = ["--notebooks", ".", "--output", "reports", "--cache", "cache"]
    return lambda _: [[KVT, "report", "--dataset", "digits", *places, *options]]


TOOLS = (
    Tool("`kvt report`", KVT, report(), "one HTML page", again=True),
    Tool("`kvt report --jobs 1`", KVT, report("--jobs", "1"), "one HTML page"),
    Tool(
        "`jupyter nbconvert --execute`",
        sys.executable,
        lambda here: [[*NBCONVERT, "--execute", "--to", "html", *names(here)]],
        "an HTML page each",
    ),
    Tool(
        "`myst build --execute`",
        "myst",
        lambda here: [["myst", "build", "--execute", *PARALLEL, "--xml", *names(here)]],
        "XML, as its HTML theme is downloaded",
        again=True,
    ),
    Tool(
        "`marimo export html`",
        "marimo",
        lambda here: [
            ["marimo", "export", "html", name, "-o", f"{name}.html"]
            for name in names(here, ".py")
        ],
        "an HTML page each",
        once=lambda here: [
            ["marimo", "convert", name, "-o", name.replace(".ipynb", ".py")]
            for name in names(here)
        ],
    ),
    Tool(
        "`jcache project execute`",
        "jcache",
        lambda _: [
            ["jcache", "project", "-p", "kept", "execute", "-e", "local-parallel"]
        ],
        "executed notebooks, no page",
        once=lambda here: [["jcache", "notebook", "-p", "kept", "add", *names(here)]],
        again=True,
    ),
)


def generate(count: int, directory: Path) -> None:
    """Write notebooks of plain Python that compute next to nothing."""
    for number in range(count):
        cells = [new_markdown_cell(f"# Part {number}")]
        cells += [new_code_cell(cell.format(n=number)) for cell in CELLS]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook = new_notebook(cells=cells, metadata={"kernelspec": kernel})
        notebooks.write(notebook, directory / f"{number:02}_part_{number}.ipynb")


def run(commands: list[list[str]], here: Path) -> float:
    """Run commands one after the other; return the seconds. Exits if one fails."""
    environment = os.environ | {"JUPYTER_CONFIG_DIR": str(here / "config")}
    seconds = 0.0
    for command in commands:
        started = time.perf_counter()
        with (here / "said").open("w+") as said:
            process = subprocess.Popen(
                command,
                cwd=here,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
            process.communicate("y\n")
            seconds += time.perf_counter() - started
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # MyST does not end its server
        if process.returncode:
            raise SystemExit(f"{' '.join(command)}\n{(here / 'said').read_text()}")
    return seconds


def timed(tool: Tool, count: int) -> list[float]:
    """Return the seconds of a tool's first run on new notebooks, and of a second."""
    with tempfile.TemporaryDirectory(prefix="kvt-pipeline-") as directory:
        here = Path(directory)
        generate(count, here)
        (here / "config").mkdir()
        allow = {"ServerApp": {"allow_root": True}}  # MyST starts a Jupyter server
        (here / "config" / "jupyter_server_config.json").write_text(json.dumps(allow))
        (here / "myst.yml").write_text("version: 1\nproject:\n  title: Notebooks\n")
        run(tool.once(here), here)
        seconds = [
            run(tool.commands(here), here) for _ in range(2 if tool.again else 1)
        ]
        if tool.needs == "myst" and len(list(here.glob("_build/execute/*"))) < count:
            raise SystemExit(
                "MyST executed nothing: does `python` have jupyter-server?"
            )
        return seconds


def overhead() -> list[str]:
    """Return rows: seconds for one and for many notebooks, and the limit."""
    cases = [(count, jobs) for count in (1, 8) for jobs in dict.fromkeys(("1", CORES))]
    seconds: dict[tuple[int, str], list[float]] = {case: [] for case in cases}
    for _ in range(ROUNDS):
        for count, jobs in cases:
            tool = Tool("", KVT, report("--jobs", jobs), "")
            seconds[count, jobs] += timed(tool, count)
    return [
        f"| {count} | {jobs} | {spread(each)} | {2.5 + 0.9 * count:.1f} s |"
        for (count, jobs), each in seconds.items()
    ]


def committed() -> tuple[list[float], list[float]]:
    """Return the seconds of reports on the committed notebooks: all run, none run.

    The first report, which is not timed, tells the next ones which notebooks are long.
    """
    with tempfile.TemporaryDirectory(prefix="kvt-pipeline-") as directory:
        where = ["--output", directory, "--cache", str(CACHE)]
        command = [KVT, "report", "--dataset", "digits", *where]
        print("the whole report, several times: ten minutes", flush=True)
        subprocess.run(command, check=True)
        forced, cached = [], []
        for _ in range(WHOLE):
            forced.append(run([[*command, "--force"]], Path(directory)))
        for _ in range(ROUNDS):
            cached.append(run([command], Path(directory)))
        return forced, cached


def split() -> list[str]:
    """Return rows: what the seconds of each committed notebook go to."""
    kinds = ("import", "tracing", "timing", "drawing", "other")
    heads = ["kernel", *kinds[:-1], "training and the rest", "processor"]
    rows = [f"| notebook | seconds | {' | '.join(heads)} |"]
    rows.append("| --- |" + " ---: |" * (len(heads) + 1))
    total: Counter[str] = Counter()
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)  # kernels import this package
    with tempfile.TemporaryDirectory(prefix="kvt-pipeline-") as directory:
        for chapter in plan(read(NOTEBOOKS), "digits", {}):
            seconds = seconds_of(chapter, Path(directory))
            total.update(seconds)
            rows.append(row(chapter.name, seconds, kinds))
            print(rows[-1], flush=True)
    return [*rows, row("all", total, kinds)]


def seconds_of(chapter: Chapter, room: Path) -> dict[str, float]:
    """Run a notebook that measures itself; return its seconds by kind."""
    source, output = room / chapter.path.name, room / "executed" / chapter.path.name
    for name in ("results", "logs"):
        (room / name).mkdir(exist_ok=True)
    notebooks.write(kernel_seconds.instrumented(chapter.notebook), source)
    started = time.perf_counter()
    failed = room / "failed.ipynb"
    made = execute(source, output, chapter.values, cwd=room, failed=failed)
    whole = time.perf_counter() - started
    inside = kernel_seconds.measured(made)
    kernel = whole - sum(inside.values()) + inside["processor"]
    return {"whole": whole, "kernel": kernel, **inside}


def row(name: str, seconds: Mapping[str, float], kinds: Sequence[str]) -> str:
    """Return a line of the table."""
    shown = ["whole", "kernel", *kinds, "processor"]
    return f"| {name} | {' | '.join(f'{seconds.get(k, 0):.1f}' for k in shown)} |"


def comparison() -> list[str]:
    """Return rows: each installed tool, its first and its second run."""
    there = [tool for tool in TOOLS if shutil.which(tool.needs)]
    runs: dict[str, list[list[float]]] = {tool.name: [] for tool in there}
    for _ in range(ROUNDS):
        for tool in there:
            runs[tool.name].append(timed(tool, COMPARED))
    rows = []
    for tool in there:
        first, *second = (list(each) for each in zip(*runs[tool.name], strict=True))
        again = spread(second[0]) if second else "–"
        rows.append(f"| {tool.name} | {tool.does} | {spread(first)} | {again} |")
    missing = [tool.name for tool in TOOLS if tool not in there]
    if missing:
        print(f"left out: {', '.join(missing)}.", PROVIDED)
    return rows


def spread(seconds: list[float]) -> str:
    """Return median, lowest and highest."""
    low, high = min(seconds), max(seconds)
    return f"{statistics.median(seconds):.2f} s ({low:.2f}–{high:.2f})"


def others() -> str:
    """Return the versions of the other tools that are installed."""
    found = [f"nbconvert {version('nbconvert')}"]
    for name in ("myst", "marimo", "jcache"):
        if shutil.which(name):
            done = subprocess.run(
                [name, "--version"], capture_output=True, text=True, check=False
            )
            found.append(f"{name} {done.stdout.split()[-1].lstrip('v')}")
    return ", ".join(found)


def main() -> None:
    forced, cached = committed()
    text = TEXT.format(
        whole=f"median of {WHOLE}: {spread(forced)}",
        hits=f"median of {ROUNDS}: {spread(cached)}",
        seconds="\n".join(split()),
        overhead="\n".join(overhead()),
        comparison="\n".join(comparison()),
        others=others(),
        python=platform.python_version(),
        processor=processor(),
        cells=len(CELLS),
        rounds=ROUNDS,
        count=COMPARED,
        cores=CORES,
    )
    Path(__file__).with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
