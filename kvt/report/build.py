"""The report: plan all notebooks, run them, render the pages, replace older ones."""

import contextlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from kvt.compare.results import NOTEBOOKS
from kvt.data import resolve
from kvt.report import keras_settings, pdf
from kvt.report.book import INDEX, names
from kvt.report.cache import WRITTEN, check_directory
from kvt.report.plan import plan, read
from kvt.report.provenance import gather, threads
from kvt.report.render import Facts, pages, pages_of, single
from kvt.report.run import Stage, run

PDF = "kvt.pdf"
PARTS = ("notebooks", *WRITTEN)  # directories beside the pages
OLD_TITLE = "<title>Keras and TensorFlow, bit for bit</title>"
CACHE = NOTEBOOKS.parent / "build" / "cache"  # ignored by git


def build(
    notebooks: Path,
    output: Path,
    *,
    dataset: str,
    parameters: Mapping[str, object],
    jobs: int | None = None,
    cache: Path = CACHE,
    force: bool = False,
    timeout: int | None = None,
    cluster: str = "",
    print_with: str | None = None,
    single_file: bool = False,
) -> Path:
    """Run the notebooks and write the report; return the path of its first page.

    `jobs` notebooks run at once, by default as many as there are cores; the number does
    not change the results. Runs in `cache` are not repeated, unless `force`.
    No cell may take longer than `timeout` seconds. They run on this machine, or on the
    workers of a Dask `cluster`, named by its scheduler's address or file. `print_with`
    is the browser that prints all pages to kvt.pdf. `single_file` writes all pages as
    one file.

    ValueError (ParameterError) and FileNotFoundError reject invalid input before a
    kernel starts. ExecutionError, RenderError and PrintError keep the older report.
    """
    chapters = read(notebooks)
    wanted = names(chapters)
    _reject_foreign(output, notebooks, [INDEX] if single_file else wanted)
    check_directory(cache)
    keras_settings.check()
    plan(chapters, "digits", parameters)  # rejects, before MNIST is downloaded
    name, reason = resolve(dataset)
    chapters = plan(chapters, name, parameters)
    print(f"data set: {reason}", flush=True)
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output, prefix=".staging-") as directory:
        staging = Path(directory).resolve()
        for part in PARTS:
            (staging / part).mkdir()
        stage = Stage(staging, output / "failed", cache, force, timeout)
        executed = run(chapters, stage, jobs or threads(), cluster)
        provenance = gather(notebooks, staging / "results")
        facts: Facts = {"reason": reason, "provenance": provenance}
        whole = single(executed, **facts) if single_file or print_with else ""
        made = {INDEX: whole} if single_file else pages(executed, **facts)
        for file, text in made.items():
            (staging / file).write_text(text, encoding="utf-8")
        if print_with:
            pdf.write(whole, staging / PDF, browser=print_with)
        _replace(staging, output, list(made))
    shutil.rmtree(output / "failed", ignore_errors=True)
    return output / INDEX


def _reject_foreign(output: Path, notebooks: Path, wanted: Sequence[str]) -> None:
    """Raise FileExistsError if the report would replace what is not a report's."""
    fix = "the report replaces these; name another directory with --output"
    if notebooks.resolve() == (output / "notebooks").resolve():
        raise FileExistsError(f"{output} holds the notebooks themselves; {fix}")
    listed = _listed(output)
    own = {*PARTS, PDF, INDEX, *listed} if listed else set()
    foreign = [
        name
        for name in (*PARTS, PDF, *wanted)
        if name not in own and (output / name).exists()
    ]
    failed = [path.name for path in (output / "failed").glob("*")]
    foreign += [f"failed/{name}" for name in failed if not name.endswith(".ipynb")]
    if foreign:
        why = "which the report there does not list" if listed else "and no report"
        raise FileExistsError(f"{output} has {', '.join(foreign)}, {why}; {fix}")


def _listed(output: Path) -> list[str]:
    """Return the pages of the earlier report, as its first page lists them.

    A report of kvt 0.1.0 has one page, which lists none; its title tells it.
    """
    index = output / INDEX
    text = index.read_text("utf-8", errors="replace") if index.is_file() else ""
    return pages_of(text) or [INDEX] * (OLD_TITLE in text[:4096])


def _replace(staging: Path, output: Path, made: Sequence[str]) -> None:
    """Move the parts of the finished report into place, its first page last.

    What belongs to the earlier report goes away. If a move fails, those before it are
    undone.
    """
    # Without --pdf, an older PDF would show another run.
    moved = {*PARTS, PDF, *_listed(output), *made}
    old = staging / "old"
    old.mkdir()
    with contextlib.ExitStack() as undo:
        for name in sorted(moved, key=lambda name: (name == INDEX, name)):
            for source, target in ((output, old), (staging, output)):
                if (source / name).exists():
                    (source / name).replace(target / name)
                    undo.callback((target / name).replace, source / name)
        undo.pop_all()
