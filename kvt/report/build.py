"""The report: plan all notebooks, run them, render the page, replace the older one."""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from kvt.compare.results import NOTEBOOKS
from kvt.data import resolve
from kvt.report import keras_settings, pdf
from kvt.report.cache import WRITTEN, check_directory
from kvt.report.plan import plan, read
from kvt.report.provenance import gather, threads
from kvt.report.render import render
from kvt.report.run import Stage, run

PAGE, PDF = "index.html", "kvt.pdf"
PARTS = ("notebooks", *WRITTEN)  # directories beside the page
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
) -> Path:
    """Run the notebooks and write the report; return the path of its page.

    `jobs` notebooks run at once, by default as many as there are cores; the number does
    not change the results. Runs in `cache` are not repeated, unless `force`.
    No cell may take longer than `timeout` seconds. They run on this machine, or on the
    workers of a Dask `cluster`, named by its scheduler's address or file.
    `print_with` is the browser that prints the page to kvt.pdf.

    ValueError (ParameterError) and FileNotFoundError reject invalid input before a
    kernel starts. ExecutionError, RenderError and PrintError keep the older report.
    """
    chapters = read(notebooks)
    _reject_foreign(output, notebooks)
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
        page = render(executed, reason=reason, provenance=provenance)
        (staging / PAGE).write_text(page, encoding="utf-8")
        if print_with:
            pdf.write(page, staging / PDF, browser=print_with)
        _replace(staging, output)
    shutil.rmtree(output / "failed", ignore_errors=True)
    return output / PAGE


def _reject_foreign(output: Path, notebooks: Path) -> None:
    """Raise FileExistsError if the report would replace what is not a report."""
    taken = [name for name in PARTS if (output / name).exists()]
    fix = "the report replaces these; name another directory with --output"
    if notebooks.resolve() == (output / "notebooks").resolve():
        raise FileExistsError(f"{output} holds the notebooks themselves; {fix}")
    if taken and not (output / PAGE).exists():
        has = f"{', '.join(taken)}, and no {PAGE} of an earlier report"
        raise FileExistsError(f"{output} has {has}; {fix}")


def _replace(staging: Path, output: Path) -> None:
    """Move the parts of the finished report into place, the page last."""
    for part in (*PARTS, PDF):  # without --pdf, an older PDF would show another run
        if (output / part).exists():
            (output / part).replace(staging / f"old-{part}")
        if (staging / part).exists():
            (staging / part).replace(output / part)
    (staging / PAGE).replace(output / PAGE)
