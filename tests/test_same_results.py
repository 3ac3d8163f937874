"""A notebook leaves the same results, whoever runs it."""

import shutil
import subprocess
import sys
from pathlib import Path

from kvt import cli, results
from tests import sections

NOTEBOOK = sections.NOTEBOOKS / "01_linear_regression.ipynb"


def test_papermill_run_and_report_leave_equal_results(tmp_path: Path) -> None:
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
            *(str(NOTEBOOK), str(tmp_path / "out.ipynb")),
            *("-p", "learning_rate", "1", "-p", "epochs", "2"),
            *("-p", "results_path", str(paths["papermill"])),
        ],
        cwd=tmp_path,
        check=True,
    )
    parameters = ["-p", "learning_rate", "1", "-p", "epochs", "2"]
    where = ["-p", "results_path", str(paths["run"])]
    output = str(tmp_path / "run.ipynb")
    assert cli.main(["run", str(NOTEBOOK), *parameters, *where, "-o", output]) == 0
    (tmp_path / "notebooks").mkdir()
    shutil.copy(NOTEBOOK, tmp_path / "notebooks")
    report = ["report", "--dataset", "digits", *parameters]
    for option in ("notebooks", "output", "cache"):
        report += [f"--{option}", str(tmp_path / option)]
    assert cli.main(report) == 0
    paths["report"] = tmp_path / "output" / "results" / f"{NOTEBOOK.stem}.json"

    runs = {name: results.read(path) for name, path in paths.items()}
    assert runs["run"]["parameters"]["learning_rate"] == 1.0
    assert results.compare(runs["papermill"], runs["run"]) == []
    assert results.compare(runs["papermill"], runs["report"]) == []
