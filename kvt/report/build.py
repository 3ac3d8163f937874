"""The report as a whole: plan every notebook, run them all, render, then replace.

Nothing of an older report is touched before all of the new one is complete.
"""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import kvt
from kvt import data
from kvt.report import notebooks as notebooks_
from kvt.report import parameters as parameters_
from kvt.report import pdf
from kvt.report.execute import execute
from kvt.report.merge import READS, WRITES, Executed
from kvt.report.parameters import Parameter, ParameterError, Value
from kvt.report.provenance import gather
from kvt.report.render import render

PDF = "kvt.pdf"
PARTS = ("notebooks", "results", "logs")  # beside the page
# What `kvt report` itself decides, and how to decide otherwise.
RESERVED = {
    "dataset": "choose it with --dataset, for the whole report",
    WRITES: "the report collects the results itself",
    READS: "the report compares its own results",
}


@dataclass(frozen=True)
class Run:
    """One notebook that will be run, and with which checked values."""

    path: Path
    parameters: dict[str, Parameter]
    values: dict[str, Value]


def build(
    notebooks: Path,
    output: Path,
    *,
    dataset: str,
    parameters: Mapping[str, object],
    print_with: str | None = None,
) -> Path:
    """Run the notebooks and write the report; return its index.html.

    `print_with` is the browser that prints it to kvt.pdf beside. Everything that can be
    refused is refused before the first kernel starts: ParameterError for a parameter,
    FileNotFoundError for no notebooks, ValueError for a data set. ExecutionError,
    RenderError and PrintError leave an older report as it was.
    """
    paths = find(notebooks)
    _refuse_foreign(output, notebooks)
    plan(paths, "digits", parameters)  # refuses, before anything is fetched
    name, reason = data.resolve(dataset)
    runs = plan(paths, name, parameters)
    print(f"data set: {reason}", flush=True)
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output, prefix=".staging-") as directory:
        # Kernels start here: "results/NAME.json" means the same file to all of them.
        staging = Path(directory).resolve()
        for part in PARTS:
            (staging / part).mkdir()
        executed = [_execute(run, staging, output / "failed") for run in runs]
        page = render(
            executed,
            reason=reason,
            provenance=gather(notebooks, staging / "results"),
        )
        (staging / "index.html").write_text(page, encoding="utf-8")
        if print_with:
            pdf.write(page, staging / PDF, browser=print_with)
        _replace(staging, output)
    shutil.rmtree(output / "failed", ignore_errors=True)
    return output / "index.html"


def committed_notebooks() -> Path:
    """Directory of the repository's notebooks, found from where kvt lies."""
    return Path(kvt.__file__).resolve().parents[1] / "notebooks"


def find(directory: Path) -> list[Path]:
    """Return the numbered notebooks of a directory (01_name.ipynb), in order."""
    paths = sorted(directory.glob("[0-9][0-9]_*.ipynb"))
    if not paths:
        raise FileNotFoundError(
            f"no notebooks like 01_name.ipynb in {directory}; "
            f"name their directory with --notebooks"
        )
    return paths


def plan(paths: Sequence[Path], dataset: str, given: Mapping[str, object]) -> list[Run]:
    """Check the given parameters, and settle every notebook's values.

    A parameter goes to each notebook that has it; one that none has is refused. The
    notebook that compares the others' results comes last.
    """
    for name in given:
        if name in RESERVED:
            raise ParameterError(f"parameter {name!r}: {RESERVED[name]}")
    known = {path: _read(path) for path in paths}
    everywhere = {name for parameters in known.values() for name in parameters}
    for name in given:
        if name not in everywhere:
            raise parameters_.unknown(name, everywhere - RESERVED.keys(), "the report")
    runs = []
    for path, parameters in known.items():
        own: dict[str, object] = {
            "dataset": dataset,
            WRITES: f"results/{path.stem}.json",
            READS: "results",
        }
        wanted = {
            name: value
            for name, value in (own | dict(given)).items()
            if name in parameters
        }
        runs.append(Run(path, parameters, parameters_.check(wanted, parameters)))
    return sorted(runs, key=lambda run: READS in run.parameters)


def _read(path: Path) -> dict[str, Parameter]:
    try:
        return parameters_.read(notebooks_.read(path))
    except ParameterError as problem:
        raise ParameterError(f"{path.name}: {problem}") from None


def _execute(run: Run, staging: Path, failed: Path) -> Executed:
    notebook = execute(
        run.path,
        staging / "notebooks" / run.path.name,
        run.values,
        cwd=staging,
        failed=failed / run.path.name,
    )
    return Executed(run.path.stem, notebook, run.parameters, run.values)


def _refuse_foreign(output: Path, notebooks: Path) -> None:
    """Raise FileExistsError where the report would replace what is not a report's."""
    taken = [name for name in PARTS if (output / name).exists()]
    if notebooks.resolve() == (output / "notebooks").resolve():
        problem = "holds the notebooks themselves"
    elif taken and not (output / "index.html").exists():
        problem = f"has {', '.join(taken)}, and no index.html of an earlier report"
    else:
        return
    raise FileExistsError(
        f"{output} {problem}; the report replaces what lies there; "
        "name another directory with --output"
    )


def _replace(staging: Path, output: Path) -> None:
    """Move the parts of the finished report into place, its page last."""
    for part in PARTS:
        if (output / part).exists():
            (output / part).replace(staging / f"old-{part}")
        (staging / part).replace(output / part)
    (output / PDF).unlink(missing_ok=True)  # an older one would show another run
    if (staging / PDF).exists():
        (staging / PDF).replace(output / PDF)
    (staging / "index.html").replace(output / "index.html")
