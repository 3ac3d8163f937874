"""Run notebooks, write the report, compare results, check the data set."""

import argparse
import errno
import io
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

# Each command imports what it needs, so that --help and Ctrl-C are quick.
from kvt import __version__
from kvt.report import guard

KEPT = "nothing was replaced"
KEEP = "which executed notebooks to keep (default: failed)"
DIFFERENT = "use workers, too, whose kvt, packages or data differ, and mark their runs"
CLUSTER = "run on a Dask cluster: its scheduler's address (tcp://…) or file"

# What to do about an error of the operating system.
FIXES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EFBIG: "allow larger files (ulimit -f)",
    errno.EMFILE: "allow more open files (ulimit -n)",
    errno.EACCES: "change its permissions, or name another place",
    errno.EPERM: "change its permissions, or name another place",
    errno.EROFS: "name a place that can be written to",
    errno.ENAMETOOLONG: "give it a shorter name",
    errno.ENOTDIR: "name a path whose parents are directories",
    errno.EISDIR: "name a file",
    errno.EEXIST: "name another place",
    errno.ENOENT: "check the name",
    errno.EBUSY: "it is a mount point or in use; name another place",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code, 2 for an error."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by who started the command
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115
        elif isinstance(stream, io.TextIOWrapper):  # a terminal that lacks letters
            stream.reconfigure(errors="backslashreplace")
    options = _parser().parse_args(arguments)
    try:
        with guard.on_signals(_interrupt):
            from kvt.data.asserts import require_asserts

            require_asserts()
            guard.allow_open_files()
            return int(options.command(options))
    except KeyboardInterrupt as interruption:
        print(f"kvt: interrupted; {options.after}", file=sys.stderr)
        return 128 + int(next(iter(interruption.args), signal.SIGINT))
    except BrokenPipeError:  # what reads the output has ended: nobody to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python would flush again
        return 141
    except (OSError, ValueError, RuntimeError) as problem:
        print(f"kvt: {_told(problem)}", file=sys.stderr)
        return 2


def _told(problem: Exception) -> str:
    """Return an error's message; a line longer than a screen loses its middle."""
    text = str(problem)
    if isinstance(problem, OSError) and problem.errno:
        path = problem.filename2 or problem.filename or "the current directory"
        text = f"{path}: {problem.strerror}"
        text += f"; {FIXES.get(problem.errno, 'try again, or name another place')}"
    return "\n".join(
        line if len(line) <= 1_000 else f"{line[:600]}…{line[-300:]}"
        for line in text.splitlines()
    )


def _interrupt(number: int, _: object) -> NoReturn:
    """Turn a signal that asks to end into KeyboardInterrupt, which cleans up."""
    for each in guard.SIGNALS:  # a second one would stop the cleaning
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt(number)


def report(options: argparse.Namespace) -> int:
    """Run all notebooks and write the report."""
    from kvt.compare.results import NOTEBOOKS
    from kvt.report.build import CACHE, PDF, build
    from kvt.report.pdf import find_browser

    page = build(
        options.notebooks or NOTEBOOKS,
        options.output,
        dataset=options.dataset,
        parameters=dict(options.parameters),
        jobs=options.jobs,
        cache=options.cache or CACHE,
        force=options.force,
        timeout=options.timeout,
        cluster=options.cluster,
        print_with=find_browser() if options.pdf else None,
        single_file=options.single_file,
    )
    print(f"report: {page}")
    if options.pdf:
        print(f"printed: {page.with_name(PDF)}")
    return 0


def run(options: argparse.Namespace) -> int:
    """Run one notebook with parameters of your choice."""
    from kvt.report import keras_settings, notebooks, parameters
    from kvt.report.execute import execute

    notebook: Path = options.notebook
    output: Path = options.output or Path(f"{notebook.stem}.executed.ipynb")
    if output.resolve() == notebook.resolve():
        raise ValueError(f"{output} is the notebook itself; choose another with -o")
    if output.exists() and not output.is_file():
        raise ValueError(f"{output} is not a file; name a file with -o")
    keras_settings.check()
    read = notebooks.read(notebook)
    try:
        known = parameters.read(read)
    except ValueError as problem:
        raise ValueError(f"{notebook.name}: {problem}") from None
    values = parameters.check(dict(options.parameters), known)
    failed = output.with_name(f"{output.stem}.failed.ipynb")
    execute(
        notebook, output, values, cwd=Path.cwd(), failed=failed, timeout=options.timeout
    )
    print(f"executed notebook: {output}")
    return 0


def sweep(options: argparse.Namespace) -> int:
    """Run one notebook with many values of its parameters; resume where it stopped."""
    from kvt.report import grid, notebooks, parameters
    from kvt.report.sweep import Options, Sweep

    notebook = notebooks.read(options.notebook)
    known = parameters.read(notebook)
    given = [(name, values) for name, values in options.parameters]
    runs = grid.runs(given, options.file, known, zipped=options.zip)
    how = Options(
        keep=options.keep,
        jobs=options.jobs,
        cluster=options.cluster,
        allow_different=options.allow_different,
        timeout=options.timeout,
    )
    output = options.output or Path("sweeps", options.notebook.stem)
    went_well = Sweep(options.notebook, notebook, runs, output, how).run()
    print(f"sweep: {output / 'index.html'}")
    return int(not went_well)


def diff(options: argparse.Namespace) -> int:
    """Compare two results files or two directories; exit with 1 if they differ."""
    from kvt.compare import results

    pairs = _pairs(options.a, options.b)
    lines = []
    for a, b in pairs:
        found = results.compare(results.read(a), results.read(b))
        lines += [f"{b.name}: {line}" for line in found]
    equal = f"equal, except for times and versions: {len(pairs)} result(s)"
    print(*lines or [equal], sep="\n")
    return int(bool(lines))


def _pairs(a: Path, b: Path) -> list[tuple[Path, Path]]:
    """Return the results files to compare with each other."""
    if a.is_dir() != b.is_dir():
        raise ValueError(f"{a} and {b} must be two files or two directories")
    if not a.is_dir():
        return [(a, b)]
    left, right = ({path.name for path in each.glob("*.json")} for each in (a, b))
    if left != right or not left:
        only = ", ".join(sorted(left ^ right)) or "none in either"
        raise ValueError(f"{a} and {b} need the same *.json files; not in both: {only}")
    return [(a / name, b / name) for name in sorted(left)]


def data(_: argparse.Namespace) -> int:
    """Print which data set `kvt report` would use, its size and its SHA-256."""
    from kvt.data import load, resolve

    name, reason = resolve("auto")
    found = load(name)
    print(reason)
    print(f"{len(found.x_train):,} training and {len(found.x_test):,} test examples")
    print(f"SHA-256 {found.sha256}")
    return 0


class _Parser(argparse.ArgumentParser):
    """Report an error in one line, without the usage; take -1e-3 for a number."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._negative_number_matcher = re.compile(r"-(\.?\d|inf|nan)")

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)


def _path(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("an empty name; use . for this directory")
    return Path(text)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="kvt", description=__doc__, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"kvt {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        function: Callable[[argparse.Namespace], int], after: str = KEPT
    ) -> Callable[..., Any]:
        own = commands.add_parser(function.__name__, help=function.__doc__)
        own.set_defaults(command=function, after=after)
        return own.add_argument

    directory: dict[str, Any] = {"type": _path, "metavar": "DIR"}
    seconds: dict[str, Any] = {"type": _count, "default": 3600, "metavar": "SECONDS"}
    pairs: dict[str, Any] = {"nargs": 2, "metavar": ("NAME", "VALUE")}
    pairs |= {"dest": "parameters", "action": "append", "default": []}
    datasets = ("auto", "digits", "mnist")

    add = command(report)
    add("--dataset", choices=datasets, default="auto", help="auto: MNIST, else digits")
    add("-p", "--parameter", **pairs, help="set this parameter wherever it exists")
    add("--pdf", action="store_true", help="also print the report, with Chromium")
    add("--single-file", action="store_true", help="write all pages as one file")
    add("--jobs", type=_count, help="notebooks run at once (default: one per core)")
    add("--cluster", default="", metavar="ADDRESS", help=CLUSTER)
    add("--force", action="store_true", help="run unchanged notebooks again, too")
    add("--timeout", **seconds, help="for each cell (default: 3600)")
    add("--cache", **directory, help="finished runs (default: build/cache beside kvt)")
    add("--notebooks", **directory, help="of 01_name.ipynb etc. (default: kvt's own)")
    add("--output", **directory, default=Path("reports"), help="default: reports")

    add = command(run)
    add("notebook", type=_path)
    add("-p", "--parameter", **pairs, help="set a parameter of the notebook")
    add("--timeout", **seconds, help="for each cell (default: 3600)")
    add("-o", "--output", type=_path, help="default: NAME.executed.ipynb here")

    add = command(sweep, "the same command goes on from here")
    add("notebook", type=_path)
    values: dict[str, Any] = pairs | {"metavar": ("NAME", "VALUES")}
    add("-p", "--parameter", **values, help="such as 0.01,0.1 or 0..9")
    add("--file", type=_path, help="a table of runs, .csv or .json")
    add("--zip", action="store_true", help="pair the lists; do not combine them")
    add("--keep", choices=("failed", "all", "none"), default="failed", help=KEEP)
    add("--jobs", type=_count, help="runs at once (default: one per core)")
    add("--cluster", default="", metavar="ADDRESS", help=CLUSTER)
    add("--allow-different", action="store_true", help=DIFFERENT)
    add("--timeout", **seconds, help="for each cell (default: 3600)")
    add("-o", "--output", **directory, help="default: sweeps/NAME")

    add = command(diff)
    add("a", type=_path)
    add("b", type=_path)

    command(data)
    return parser


if __name__ == "__main__":
    sys.exit(main())
