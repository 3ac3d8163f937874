"""Run notebooks, write the report, compare results, check the data set."""

import argparse
import contextlib
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from kvt import __version__

# Each command imports the modules that it needs: `kvt --help` answers at once.


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code, 2 for an error."""
    options = _parser().parse_args(arguments)
    try:
        with _interruptible():
            return int(options.command(options))
    except KeyboardInterrupt:
        print("kvt: interrupted; nothing was replaced", file=sys.stderr)
        return 130
    except (OSError, ValueError, RuntimeError) as problem:
        print(f"kvt: {problem}", file=sys.stderr)
        return 2


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Turn SIGINT, SIGTERM and SIGHUP into KeyboardInterrupt, which cleans up.

    A shell starts a script's background jobs with SIGINT ignored, and Python then
    ignores it too. An ignored SIGHUP stays ignored: that is what `nohup` is for.
    """
    handled = [signal.SIGINT, signal.SIGTERM]
    hangup = getattr(signal, "SIGHUP", None)  # Windows has none
    if hangup and signal.getsignal(hangup) is not signal.SIG_IGN:
        handled.append(hangup)
    before = {each: signal.signal(each, signal.default_int_handler) for each in handled}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler or signal.SIG_DFL)


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
        print_with=find_browser() if options.pdf else None,
    )
    print(f"report: {page}")
    if options.pdf:
        print(f"printed: {page.with_name(PDF)}")
    return 0


def run(options: argparse.Namespace) -> int:
    """Run one notebook with parameters of your choice."""
    from kvt.report import notebooks, parameters
    from kvt.report.execute import execute

    notebook: Path = options.notebook
    output: Path = options.output or Path(f"{notebook.stem}.executed.ipynb")
    if output.resolve() == notebook.resolve():
        raise ValueError(
            f"{output} is the notebook itself; choose another file with -o"
        )
    known = parameters.read(notebooks.read(notebook))
    values = parameters.check(dict(options.parameters), known)
    failed = output.with_name(f"{output.stem}.failed.ipynb")
    execute(notebook, output, values, cwd=Path.cwd(), failed=failed)
    print(f"executed notebook: {output}")
    return 0


def diff(options: argparse.Namespace) -> int:
    """Compare two results files or two directories; exit with 1 if they differ."""
    from kvt.compare import results

    pairs = _pairs(options.a, options.b)
    found = 0
    for name, a, b in pairs:
        for line in results.compare(results.read(a), results.read(b)):
            print(f"{name}: {line}")
            found += 1
    if not found:
        print(f"equal, except for times and versions: {len(pairs)} result(s)")
    return int(found > 0)


def data(options: argparse.Namespace) -> int:
    """Print which data set `kvt report` would use, its size and its SHA-256."""
    from kvt.data import load, resolve

    name, reason = resolve("auto")
    found = load(name)
    print(reason)
    print(f"{len(found.x_train):,} training and {len(found.x_test):,} test examples")
    print(f"SHA-256 {found.sha256}")
    return 0


def _pairs(a: Path, b: Path) -> list[tuple[str, Path, Path]]:
    """Return what to compare: the name of each result, and its two files."""
    if a.is_dir() != b.is_dir():
        raise ValueError(f"{a} and {b} must be two files or two directories")
    if not a.is_dir():
        return [(b.name, a, b)]
    left, right = ({path.name for path in each.glob("*.json")} for each in (a, b))
    if left != right or not left:
        only = ", ".join(sorted(left ^ right)) or "none in either"
        raise ValueError(f"{a} and {b} need the same *.json files; not in both: {only}")
    return [(name, a / name, b / name) for name in sorted(left)]


class _Parser(argparse.ArgumentParser):
    """Report an error in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="kvt", description=__doc__, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"kvt {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("report", help=report.__doc__)
    command.set_defaults(command=report)
    _add_report_options(command)

    command = commands.add_parser("run", help=run.__doc__)
    command.set_defaults(command=run)
    command.add_argument("notebook", type=Path)
    _add_parameters(command, "set a parameter of the notebook, instead of its default")
    command.add_argument(
        "-o",
        "--output",
        type=Path,
        help="default: NAME.executed.ipynb, in this directory",
    )

    command = commands.add_parser("diff", help=diff.__doc__)
    command.set_defaults(command=diff)
    command.add_argument("a", type=Path)
    command.add_argument("b", type=Path)

    command = commands.add_parser("data", help=data.__doc__)
    command.set_defaults(command=data)
    return parser


def _add_report_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--dataset",
        choices=("auto", "digits", "mnist"),
        default="auto",
        help="auto (the default): MNIST if available, else scikit-learn's digits",
    )
    _add_parameters(command, "set this parameter in every notebook that has it")
    command.add_argument(
        "--pdf", action="store_true", help="also print the report, with Chromium"
    )
    command.add_argument(
        "--jobs",
        type=_jobs,
        metavar="N",
        help="how many notebooks run at once; the results are the same for every N "
        "(default: the number of cores)",
    )
    command.add_argument(
        "--force",
        action="store_true",
        help="run every notebook again, even those that have not changed",
    )
    for option, default in (
        ("cache", "of finished runs (default: build/cache beside kvt)"),
        ("notebooks", "of notebooks like 01_name.ipynb (default: kvt's own)"),
    ):
        command.add_argument(
            f"--{option}", type=Path, metavar="DIR", help=f"directory {default}"
        )
    command.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        default=Path("reports"),
        help="directory of the report (default: reports)",
    )


def _jobs(text: str) -> int:
    """Return the number of jobs; argparse prints the error."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number of 1 or more")
    return int(text)


def _add_parameters(command: argparse.ArgumentParser, help: str) -> None:
    command.add_argument(
        "-p",
        "--parameter",
        dest="parameters",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help=help,
    )
