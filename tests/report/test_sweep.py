"""A sweep: failures, lost workers, resuming, the table and the page."""

import csv
import importlib
import importlib.util
import json
import math
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

from kvt.compare import results
from kvt.report import grid, plan, sweep, sweep_page
from kvt.report.sweep import Sweep
from tests.faults.places import KVT, LIMIT, until
from tests.report.pages import code, markdown, written
from tests.report.sweeps import quick
from tests.report.test_run import alive

pytestmark = pytest.mark.long

TABLE = [
    *({"learning_rate": rate, "seed": seed} for rate in (0.1, 0.5) for seed in (0, 1)),
    {"learning_rate": 0.2, "fails": "raises"},
    {"learning_rate": 0.3, "fails": "kills once"},
    {"learning_rate": 0.4, "fails": "kills"},
    {"learning_rate": 0.6, "fails": "half"},
    {"learning_rate": 0.7, "fails": "writes nothing"},
]
FAILURES = {
    0.2: "ValueError: no such luck at 0.2 <b>",
    0.4: "lost its worker process: it was killed by signal 9",
    0.6: "does not hold a notebook's results",
    0.7: "wrote no results to its parameter results_path",
}


def swept(place: Path, table: list[dict[str, Any]], **options: Any) -> bool:
    """Sweep over a table with two workers; return whether all went well."""
    chapter = plan.read_one(place / "01_quick.ipynb")
    (place / "grid.json").write_text(json.dumps(table))
    runs = grid.runs([], place / "grid.json", chapter.parameters)
    how: dict[str, Any] = {"jobs": 2} | options
    return Sweep(chapter, runs, place / "out", **how).run()


def times(place: Path) -> Counter[tuple[float, int]]:
    """Count how often each learning rate and seed has run."""
    lines = [line.split() for line in (place / "log").read_text().splitlines()]
    return Counter((float(rate), int(seed)) for rate, seed, _ in lines)


def table(place: Path) -> list[dict[str, str]]:
    with (place / "out" / "runs.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a sweep in which runs fail in every way."""
    place = tmp_path_factory.mktemp("sweep")
    quick(place)
    assert not swept(place, TABLE)
    return place


def test_a_run_that_fails_stops_no_other_and_a_lost_one_runs_three_times(
    place: Path,
) -> None:
    expected = {(it["learning_rate"], it.get("seed", 0)): 1 for it in TABLE}
    assert times(place) == expected | {(0.3, 0): 2, (0.4, 0): 3}
    problems = {float(it["learning_rate"]): it["problem"] for it in table(place)}
    for rate, problem in problems.items():
        assert FAILURES.get(rate, "") in problem
        assert bool(problem) == (rate in FAILURES)


def test_each_finished_run_leaves_its_results_and_failed_ones_their_notebook(
    place: Path,
) -> None:
    out = place / "out"
    rows = table(place)
    for row in rows:
        path = out / "results" / f"{row['run']}.json"
        assert path.exists() == (row["status"] == "finished")
        if path.exists():
            document = results.read(path)
            keras = document["dialects"]["keras"]["test"]
            assert float(row["keras_test_accuracy"]) == keras["accuracy"]
            assert float(row["learning_rate"]) == keras["accuracy"]
            assert (row["max_ulp"], row["history_equal"]) == ("0", "True")
            assert row["worker_processor"]
    kept = {path.stem for path in (out / "notebooks").iterdir()}
    lost = {row["run"] for row in rows if "lost its worker" in row["problem"]}
    assert kept == {row["run"] for row in rows if row["status"] == "failed"} - lost
    left = {"runs", "results", "notebooks", "runs.csv", "index.html", "sweep.json"}
    assert {path.name for path in out.iterdir()} - {"runs.parquet"} == left


def test_page_shows_pictures_first_and_escapes_what_runs_say(place: Path) -> None:
    page = (place / "out" / "index.html").read_text()
    assert "5 of 9 finished, 4 failed" in page
    assert "5 of 5 runs, 0 ulp" in page
    assert page.index("<svg") < page.index("<table")
    assert "Best: learning_rate 0.5" in page
    assert "no such luck at 0.2 &lt;b&gt;" in page
    assert "<b>" not in page
    links = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert not [it for it in links if not it.startswith(("#", "data:", "r"))]
    assert all((place / "out" / it).exists() for it in links if it.startswith("r"))


def test_finished_runs_are_never_run_again_but_damaged_ones_are(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = place / "out"
    before = times(place)
    good = [it for it in TABLE if "fails" not in it]
    assert swept(place, good)
    assert "4 runs, 4 of them finished before" in capsys.readouterr().out
    assert times(place) == before
    damaged, unrecorded, *_ = (it["run"] for it in table(place))
    path = out / "results" / f"{damaged}.json"
    path.write_bytes(path.read_bytes()[:-9])
    record = out / "runs" / f"{unrecorded}.json"
    record.unlink()  # as before it was moved into place
    (out / ".kvt-stale").mkdir()
    # More values: the finished ones are found among them.
    assert swept(place, [*good, {"learning_rate": 0.9}], keep="all")
    again = times(place) - before
    assert again == {(0.1, 0): 1, (0.1, 1): 1, (0.9, 0): 1}
    assert not [*out.glob(".*")]


def test_sweep_goes_on_where_a_killed_one_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # for both
    quick(tmp_path)
    runs = [
        {"learning_rate": 0.1},
        {"learning_rate": 0.2},
        *({"learning_rate": rate, "fails": "waits"} for rate in (0.3, 0.4)),
        {"learning_rate": 0.5},
    ]
    (tmp_path / "table.json").write_text(json.dumps(runs))
    words = ["sweep", str(tmp_path / "01_quick.ipynb"), "--jobs", "2"]
    words += ["--file", str(tmp_path / "table.json"), "-o", str(tmp_path / "out")]
    running = subprocess.Popen(
        [sys.executable, "-c", KVT, *words],
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        log = tmp_path / "log"
        waiting = {(0.3, 0), (0.4, 0)}
        until(lambda: log.exists() and waiting <= times(tmp_path).keys())
        family = psutil.Process(running.pid).children(recursive=True)
        with pytest.raises(FileExistsError, match="another kvt command is writing"):
            swept(tmp_path, runs)
    finally:
        os.kill(running.pid, signal.SIGKILL)
        running.wait(LIMIT)
    until(lambda: not any(alive(it.pid) for it in family))
    Path(f"{log}.go").touch()
    assert swept(tmp_path, runs)
    assert "PYTHONHASHSEED" not in os.environ
    once = {(0.1, 0): 1, (0.2, 0): 1, (0.5, 0): 1}
    assert times(tmp_path) == once | {(0.3, 0): 2, (0.4, 0): 2}


def test_directory_of_others_and_unfit_notebook_are_rejected(tmp_path: Path) -> None:
    quick(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.docx").write_text("mine")
    with pytest.raises(FileExistsError, match="other content than a sweep"):
        swept(tmp_path, [{"seed": 1}])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.docx"]
    written(
        tmp_path / "01_quick.ipynb", markdown("# No"), code("seed = 1", "parameters")
    )
    with pytest.raises(ValueError, match="has no parameter results_path"):
        swept(tmp_path, [{"seed": 1}])


def test_parquet_has_the_rows_of_the_table_where_pyarrow_is(tmp_path: Path) -> None:
    rows = [{"run": "a", "seed": 1, "loss": 0.5}, {"run": "b", "seed": 2}]
    (tmp_path / "room").mkdir()
    (tmp_path / "runs.parquet").write_bytes(b"of earlier runs")
    sweep._write_tables(tmp_path, rows, tmp_path / "room")
    assert (tmp_path / "runs.csv").read_text() == "run,seed,loss\na,1,0.5\nb,2,\n"
    if not importlib.util.find_spec("pyarrow"):
        assert not (tmp_path / "runs.parquet").exists()
        pytest.skip("pyarrow is not installed")
    parquet = importlib.import_module("pyarrow.parquet")
    read = parquet.read_table(tmp_path / "runs.parquet").to_pylist()
    assert read == [rows[0], {**rows[1], "loss": None}]


def test_odd_values_and_a_run_that_diverged_spoil_neither_page_nor_table(
    tmp_path: Path,
) -> None:
    values = {"=1+1": math.nan, "a\x00b\x1b": 2.0, "$\\frac{": 3.0, "<script>": 1.0}
    rows = []
    for text, loss in values.items():
        one = {"test": {"loss": loss}, "seconds": 1.0}
        document = {
            "dialects": {"keras": one, "tf2": one},
            "parity": {"tf2": {"weights_max_ulp": [0], "history_equal": True}},
            "data": {"sha256": "5eed"},
            "versions": dict.fromkeys(sweep_page.VERSIONS, "1"),
        }
        run = sweep.Run({}, worker={"host": "here"})
        rows.append(sweep_page.row("a", run, {"dataset": text}, document))
    page = sweep_page.page("01_quick", rows, varied=["dataset"])
    assert re.search(r"<td>1</td><td>&lt;script&gt;</td>", page)  # not NaN's is best
    assert "Best: dataset &lt;script&gt;, with a mean of 1, " in page
    ends = r"The mean is highest, 3, at \$\\frac{, and lowest, 1, at &lt;script&gt;\."
    assert re.search(ends, page)
    assert "a\\x00b\\x1b" in page
    assert not {"\0", "\x1b", "<script"} & set(re.findall(r"[\0\x1b]|<script", page))
    (tmp_path / "out").mkdir()
    sweep._write_tables(tmp_path / "out", rows, tmp_path)
    assert table(tmp_path)[0]["dataset"] == "'=1+1"
