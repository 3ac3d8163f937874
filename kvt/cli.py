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

Pairs = Sequence[tuple[str, str]]  # names and values, as given by -p

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
    options = vars(_parser().parse_args(arguments))
    command, after = options.pop("command"), options.pop("after")
    try:
        with guard.on_signals(_interrupt):
            from kvt.data.asserts import require_asserts

            require_asserts()
            guard.allow_open_files()
            return int(command(**options))
    except KeyboardInterrupt as interruption:
        print(f"kvt: interrupted; {after}", file=sys.stderr)
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
        fix = FIXES.get(problem.errno, "try again, or name another place")
        text = f"{path}: {problem.strerror}; {fix}"
    return "\n".join(
        line if len(line) <= 1_000 else f"{line[:600]}…{line[-300:]}"
        for line in text.splitlines()
    )


def _interrupt(number: int, _: object) -> NoReturn:
    """Turn a signal that asks to end into KeyboardInterrupt, which cleans up."""
    for each in guard.SIGNALS:  # a second one would stop the cleaning
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt(number)


def report(*, parameters: Pairs, pdf: bool, **options: Any) -> int:
    """Run all notebooks and write the report."""
    from kvt.compare.results import NOTEBOOKS
    from kvt.report.build import CACHE, PDF, build
    from kvt.report.pdf import find_browser

    page = build(
        options.pop("notebooks") or NOTEBOOKS,
        cache=options.pop("cache") or CACHE,
        parameters=dict(parameters),
        print_with=find_browser() if pdf else None,
        **options,
    )
    print(f"report: {page}")
    if pdf:
        print(f"printed: {page.with_name(PDF)}")
    return 0


def run(*, notebook: Path, parameters: Pairs, timeout: int, output: Path | None) -> int:
    """Run one notebook with parameters of your choice."""
    from kvt.report import keras_settings
    from kvt.report.execute import execute
    from kvt.report.parameters import check
    from kvt.report.plan import read_one

    output = output or Path(f"{notebook.stem}.executed.ipynb")
    if output.resolve() == notebook.resolve():
        raise ValueError(f"{output} is the notebook itself; choose another with -o")
    if output.exists() and not output.is_file():
        raise ValueError(f"{output} is not a file; name a file with -o")
    keras_settings.check()
    values = check(dict(parameters), read_one(notebook).parameters)
    failed = output.with_name(f"{output.stem}.failed.ipynb")
    execute(notebook, output, values, cwd=Path.cwd(), failed=failed, timeout=timeout)
    print(f"executed notebook: {output}")
    return 0


def sweep(
    *,
    notebook: Path,
    parameters: Pairs,
    file: Path | None,
    output: Path | None,
    **options: Any,
) -> int:
    """Run one notebook with many values of its parameters; resume where it stopped."""
    from kvt.report import grid
    from kvt.report.plan import read_one
    from kvt.report.sweep import Sweep

    chapter = read_one(notebook)
    zipped = options.pop("zip")
    runs = grid.runs(parameters, file, chapter.parameters, zipped=zipped)
    output = output or Path("sweeps", notebook.stem)
    went_well = Sweep(chapter, runs, output, **options).run()
    print(f"sweep: {output / 'index.html'}")
    return int(not went_well)


def diff(*, a: Path, b: Path) -> int:
    """Compare two results files or two directories; exit with 1 if they differ."""
    from kvt.compare import results

    pairs = _pairs(a, b)
    lines = []
    for old, new in pairs:
        found = results.compare(results.read(old), results.read(new))
        lines += [f"{new.name}: {line}" for line in found]
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


def data() -> int:
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

    def command(function: Callable[..., int], after: str = KEPT) -> Callable[..., Any]:
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
