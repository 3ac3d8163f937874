"""A notebook has the same results, however it is run."""

import subprocess
import sys
from pathlib import Path

from kvt import cli
from kvt.compare import results
from kvt.report import notebooks
from tests.notebooks import sections

NAME = "01_linear_regression"


def without_figures(path: Path) -> None:
    """Write the notebook without cells that change no result: figures and timing."""
    notebook = notebooks.read(sections.NOTEBOOKS / path.name)
    (timed,) = (cell for cell in notebook.cells if cell["id"] == "modes-table")
    timed.source = (
        'speed = {"keras": {"graph": {"examples": 1, "epoch_seconds": [1.0, 1.0]}}}'
    )
    notebook.cells = [c for c in notebook.cells if not c["id"].endswith("-figure")]
    path.parent.mkdir()
    notebooks.write(notebook, path)


def test_papermill_run_and_report_have_equal_results(tmp_path: Path) -> None:
    notebook = tmp_path / "notebooks" / f"{NAME}.ipynb"
    without_figures(notebook)
    paths = {name: tmp_path / f"{name}.json" for name in ("papermill", "run")}
    subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "papermill",
                "--no-progress-bar",
                "--log-level=ERROR",
            ),
            *(str(notebook), str(tmp_path / "out.ipynb")),
            *("-p", "learning_rate", "1", "-p", "epochs", "2"),
            *("-p", "results_path", str(paths["papermill"])),
        ],
        cwd=tmp_path,
        check=True,
    )
    parameters = ["-p", "learning_rate", "1", "-p", "epochs", "2"]
    where = ["-p", "results_path", str(paths["run"])]
    output = str(tmp_path / "run.ipynb")
    assert cli.main(["run", str(notebook), *parameters, *where, "-o", output]) == 0
    report = ["report", "--dataset", "digits", *parameters]
    for option in ("notebooks", "output", "cache"):
        report += [f"--{option}", str(tmp_path / option)]
    assert cli.main(report) == 0
    paths["report"] = tmp_path / "output" / "results" / f"{NAME}.json"

    runs = {name: results.read(path) for name, path in paths.items()}
    assert runs["run"]["parameters"]["learning_rate"] == 1.0
    assert results.compare(runs["papermill"], runs["run"]) == []
    assert results.compare(runs["papermill"], runs["report"]) == []
