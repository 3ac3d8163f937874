"""The commands: `kvt report`, `kvt run`, `kvt diff`, `kvt data`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from kvt import __version__

# Modules are imported by the command that needs them: `kvt --help` answers at once.


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code: 2 for an error, told in a line or two."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except KeyboardInterrupt:
        print("kvt: interrupted; nothing was replaced", file=sys.stderr)
        return 130
    except (OSError, ValueError, RuntimeError) as problem:
        print(f"kvt: {problem}", file=sys.stderr)
        return 2


def report(options: argparse.Namespace) -> int:
    """Run all notebooks and write the report."""
    from kvt.compare.results import NOTEBOOKS
    from kvt.report.build import PDF, build, committed_cache
    from kvt.report.pdf import find_browser

    page = build(
        options.notebooks or NOTEBOOKS,
        options.output,
        dataset=options.dataset,
        parameters=dict(options.parameters),
        jobs=options.jobs,
        cache=options.cache or committed_cache(),
        force=options.force,
        print_with=find_browser() if options.pdf else None,
    )
    print(f"report: {page}")
    if options.pdf:
        print(f"printed: {page.with_name(PDF)}")
    return 0


def run(options: argparse.Namespace) -> int:
    """Run one notebook with other parameters."""
    from kvt.report import notebooks, parameters
    from kvt.report.execute import execute

    notebook: Path = options.notebook
    output: Path = options.output or Path(f"{notebook.stem}.executed.ipynb")
    if output.resolve() == notebook.resolve():
        raise ValueError(f"{output} is the notebook itself; name another with -o")
    known = parameters.read(notebooks.read(notebook))
    values = parameters.check(dict(options.parameters), known)
    failed = output.with_name(f"{output.stem}.failed.ipynb")
    execute(notebook, output, values, cwd=Path.cwd(), failed=failed)
    print(f"executed notebook: {output}")
    return 0


def diff(options: argparse.Namespace) -> int:
    """Compare two results files, or two directories of them; 1 if they differ."""
    from kvt.compare import results

    pairs = _pairs(options.a, options.b)
    found = 0
    for name, a, b in pairs:
        for line in results.compare(results.read(a), results.read(b)):
            print(f"{name}: {line}")
            found += 1
    if not found:
        print(f"equal but for times and versions: {len(pairs)} result(s)")
    return int(found > 0)


def data(options: argparse.Namespace) -> int:
    """Say which data set `kvt report` would take, and check it."""
    from kvt.data import load, resolve

    name, reason = resolve("auto")
    found = load(name)
    print(reason)
    print(f"{len(found.x_train):,} training and {len(found.x_test):,} test examples")
    print(f"SHA-256 {found.sha256}")
    return 0


def _pairs(a: Path, b: Path) -> list[tuple[str, Path, Path]]:
    """Results files to compare with each other, and the name of each pair."""
    if a.is_dir() != b.is_dir():
        raise ValueError(f"{a} and {b} must be two files, or two directories")
    if not a.is_dir():
        return [(b.name, a, b)]
    left, right = ({path.name for path in each.glob("*.json")} for each in (a, b))
    if left != right or not left:
        only = ", ".join(sorted(left ^ right)) or "nothing at all"
        raise ValueError(f"{a} and {b} must hold the same *.json; not in both: {only}")
    return [(name, a / name, b / name) for name in sorted(left)]


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="kvt", description=__doc__, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"kvt {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("report", help=report.__doc__)
    command.set_defaults(command=report)
    command.add_argument(
        "--dataset",
        choices=("auto", "digits", "mnist"),
        default="auto",
        help="auto: MNIST where it can be had, else scikit-learn's digits",
    )
    _add_parameters(command, "for every notebook that has it")
    command.add_argument(
        "--pdf", action="store_true", help="print it too, where Chromium is installed"
    )
    command.add_argument(
        "--jobs",
        type=_jobs,
        metavar="N",
        help="notebooks that run at once, with the same results for every N "
        "(default: the cores)",
    )
    command.add_argument(
        "--force",
        action="store_true",
        help="run every notebook, also those that have not changed since they last ran",
    )
    command.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="where runs are kept for the next time (default: build/cache beside kvt)",
    )
    command.add_argument(
        "--notebooks",
        type=Path,
        metavar="DIR",
        help="of notebooks like 01_name.ipynb (default: notebooks beside kvt)",
    )
    command.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        default=Path("reports"),
        help="of the report (default: reports, in this directory)",
    )

    command = commands.add_parser("run", help=run.__doc__)
    command.set_defaults(command=run)
    command.add_argument("notebook", type=Path)
    _add_parameters(command, "a value other than the notebook's default")
    command.add_argument(
        "-o", "--output", type=Path, help="default: NOTEBOOK's name.executed.ipynb"
    )

    command = commands.add_parser("diff", help=diff.__doc__)
    command.set_defaults(command=diff)
    command.add_argument("a", type=Path)
    command.add_argument("b", type=Path)

    command = commands.add_parser("data", help=data.__doc__)
    command.set_defaults(command=data)
    return parser


def _jobs(text: str) -> int:
    """Return the number of jobs; argparse tells the error."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f"{text} is no number of notebooks; use 1 or more"
        )
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
