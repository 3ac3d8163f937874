"""Run notebooks, write the report, compare results, check the data set."""

import argparse
import contextlib
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from kvt import __version__  # each command imports what it needs: a quick --help
from kvt.data.asserts import require_asserts


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code, 2 for an error."""
    options = _parser().parse_args(arguments)
    try:
        require_asserts()
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
        raise ValueError(f"{output} is the notebook itself; choose another with -o")
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
    """Report an error in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _jobs(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number of 1 or more")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="kvt", description=__doc__, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"kvt {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(function: Callable[[argparse.Namespace], int]) -> Callable[..., Any]:
        own = commands.add_parser(function.__name__, help=function.__doc__)
        own.set_defaults(command=function)
        return own.add_argument

    directory: dict[str, Any] = {"type": Path, "metavar": "DIR"}
    pairs: dict[str, Any] = {"nargs": 2, "metavar": ("NAME", "VALUE")}
    pairs |= {"dest": "parameters", "action": "append", "default": []}
    datasets = ("auto", "digits", "mnist")

    add = command(report)
    add("--dataset", choices=datasets, default="auto", help="auto: MNIST, else digits")
    add("-p", "--parameter", **pairs, help="set this parameter wherever it exists")
    add("--pdf", action="store_true", help="also print the report, with Chromium")
    add("--jobs", type=_jobs, help="notebooks run at once (default: one per core)")
    add("--force", action="store_true", help="run unchanged notebooks again, too")
    add("--cache", **directory, help="finished runs (default: build/cache beside kvt)")
    add("--notebooks", **directory, help="of 01_name.ipynb etc. (default: kvt's own)")
    add("--output", **directory, default=Path("reports"), help="default: reports")

    add = command(run)
    add("notebook", type=Path)
    add("-p", "--parameter", **pairs, help="set a parameter of the notebook")
    add("-o", "--output", type=Path, help="default: NAME.executed.ipynb here")

    add = command(diff)
    add("a", type=Path)
    add("b", type=Path)

    command(data)
    return parser
