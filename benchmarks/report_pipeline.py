"""How long `kvt report` takes beyond the cells themselves, and beside other tools.

Three questions: what a report on notebooks that compute next to nothing costs; what
one costs whose every notebook comes from the cache; and how other tools that execute
notebooks fare on the same ones. The commands take turns, each in a directory of its
own. Writes report_pipeline.md beside this file.
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
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from kvt.report import build, notebooks
from kvt.report.provenance import processor, threads

ROUNDS = int(os.environ.get("ROUNDS", "5"))
COMPARED = 6  # notebooks for the comparison
KVT = str(Path(sys.executable).with_name("kvt"))
NBCONVERT = [sys.executable, "-m", "nbconvert"]
CORES = str(threads())
PARALLEL = ["--execute-parallel", CORES]
# One cell each; no name twice, which marimo would refuse.
CELLS = (
    "numbers_{n} = list(range(1_000))\nlen(numbers_{n})",
    "squares_{n} = [each**2 for each in numbers_{n}]\nprint(sum(squares_{n}))",
    "words_{n} = [str(each) for each in squares_{n}]\nprint(*words_{n}[:20])",
    "longest_{n} = max(words_{n}, key=len)\nlongest_{n}",
    "import statistics\nstatistics.median(squares_{n})",
)

PROVIDED = """The other tools are no part of the project's environment.
Install them into one of their own, with Node there for MyST:
    pip install mystmd marimo jupyter-cache jupyter-server ipykernel
and put its bin first on the PATH: MyST runs notebooks by whatever `python` is."""

TEXT = """# The report's pipeline

## What it adds to the cells

Notebooks of {cells} cells that compute next to nothing and import no TensorFlow: what
remains is what `kvt report` adds, page written. The last column is the most that it
may be.

| notebooks | jobs | median of {rounds} (lowest–highest) | at most |
| ---: | ---: | ---: | ---: |
{overhead}

## When nothing has changed

The committed notebooks, all from the cache, page written: {hits}; at most 2.5 s.

## Beside other tools

{count} such notebooks, {cores} at once where a tool can. Again: the same command once
more, where a tool keeps what it ran.

| | makes | median of {rounds} (lowest–highest) | again |
| --- | --- | ---: | ---: |
{comparison}

Python {python}, {others}; {processor}, {cores} threads.
"""

Command = Callable[[Path], list[list[str]]]


@dataclass(frozen=True)
class Tool:
    """What is compared: its command lines, in a directory with the notebooks.

    `needs` is the program without which it is left out, `once` what goes before and is
    not timed, `again` whether a second run is timed too, `does` what comes of it.
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
    """`kvt report` on the notebooks of a directory, with a cache in it."""
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
    """Write notebooks that compute next to nothing, with nothing but Python."""
    for number in range(count):
        cells = [new_markdown_cell(f"# Notebook {number}")]
        cells += [new_code_cell(cell.format(n=number)) for cell in CELLS]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook = new_notebook(cells=cells, metadata={"kernelspec": kernel})
        notebooks.write(notebook, directory / f"{number:02}_notebook.ipynb")


def run(commands: list[list[str]], here: Path) -> float:
    """Run commands one after the other; return the seconds, or stop at a failure."""
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
            os.killpg(process.pid, signal.SIGKILL)  # MyST leaves its server behind
        if process.returncode:
            raise SystemExit(f"{' '.join(command)}\n{(here / 'said').read_text()}")
    return seconds


def timed(tool: Tool, count: int) -> list[float]:
    """Seconds of a tool's first run on new notebooks, and of a second one."""
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
            raise SystemExit("MyST executed nothing: has `python` jupyter-server?")
        return seconds


def overhead() -> list[str]:
    """Rows: seconds for few and for many notebooks, beside what they may cost."""
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


def full_hit() -> list[float]:
    """Seconds of reports on the committed notebooks, all of them from the cache."""
    with tempfile.TemporaryDirectory(prefix="kvt-pipeline-") as directory:
        where = ["--output", directory, "--cache", str(build.committed_cache())]
        command = [KVT, "report", "--dataset", "digits", *where]
        print("filling the cache: minutes, unless it is full", flush=True)
        subprocess.run(command, check=True)
        seconds = []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds.append(time.perf_counter() - started)
        return seconds


def comparison() -> list[str]:
    """Rows: each tool that is there, its first and its second run."""
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
    """Median, lowest and highest."""
    low, high = min(seconds), max(seconds)
    return f"{statistics.median(seconds):.2f} s ({low:.2f}–{high:.2f})"


def others() -> str:
    """Versions of the other tools that are there."""
    found = [f"nbconvert {version('nbconvert')}"]
    for name in ("myst", "marimo", "jcache"):
        if shutil.which(name):
            done = subprocess.run(
                [name, "--version"], capture_output=True, text=True, check=False
            )
            found.append(f"{name} {done.stdout.split()[-1].lstrip('v')}")
    return ", ".join(found)


def main() -> None:
    text = TEXT.format(
        hits=spread(full_hit()),
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
