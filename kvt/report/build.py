"""The report as a whole: plan all notebooks, run them, render the page, replace.

An older report is replaced only when the new one is complete.
"""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from kvt.compare.results import NOTEBOOKS
from kvt.data import resolve
from kvt.report import pdf
from kvt.report.machine import threads
from kvt.report.plan import find, plan, read
from kvt.report.provenance import gather
from kvt.report.render import render
from kvt.report.run import WRITTEN, Stage, run

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
    cache: Path | None = None,
    force: bool = False,
    print_with: str | None = None,
) -> Path:
    """Run the notebooks and write the report; return the path of its page.

    `jobs` notebooks run at once, by default as many as there are cores; the number does
    not change the results. Runs in `cache` are not repeated, unless `force`; None keeps
    no runs. `print_with` is the browser that prints the page to kvt.pdf.

    Invalid input is rejected before the first kernel starts: ParameterError for a
    parameter, FileNotFoundError for a directory without notebooks, ValueError for a
    data set. ExecutionError, RenderError and PrintError leave an older report as it
    was.
    """
    paths = find(notebooks)
    _reject_foreign(output, notebooks)
    chapters = read(paths)
    plan(chapters, "digits", parameters)  # rejects, before MNIST is downloaded
    name, reason = resolve(dataset)
    chapters = plan(chapters, name, parameters)
    print(f"data set: {reason}", flush=True)
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output, prefix=".staging-") as directory:
        staging = Path(directory).resolve()
        for part in PARTS:
            (staging / part).mkdir()
        stage = Stage(staging, output / "failed", cache, force)
        executed = run(chapters, stage, jobs or threads())
        provenance = gather(notebooks, staging / "results")
        page = render(executed, reason=reason, provenance=provenance)
        (staging / PAGE).write_text(page, encoding="utf-8")
        if print_with:
            pdf.write(page, staging / PDF, browser=print_with)
        _replace(staging, output)
    shutil.rmtree(output / "failed", ignore_errors=True)
    return output / PAGE


def _reject_foreign(output: Path, notebooks: Path) -> None:
    """Raise FileExistsError if the report would replace files that it did not write."""
    taken = [name for name in PARTS if (output / name).exists()]
    if notebooks.resolve() == (output / "notebooks").resolve():
        problem = "holds the notebooks themselves"
    elif taken and not (output / PAGE).exists():
        problem = f"has {', '.join(taken)}, and no {PAGE} of an earlier report"
    else:
        return
    raise FileExistsError(
        f"{output} {problem}; the report replaces these directories; "
        "name another directory with --output"
    )


def _replace(staging: Path, output: Path) -> None:
    """Move the parts of the finished report into place, the page last."""
    for part in PARTS:
        if (output / part).exists():
            (output / part).replace(staging / f"old-{part}")
        (staging / part).replace(output / part)
    (output / PDF).unlink(missing_ok=True)  # an older one would show another run
    if (staging / PDF).exists():
        (staging / PDF).replace(output / PDF)
    (staging / PAGE).replace(output / PAGE)
