import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import kvt
from kvt.cli import main

FIXTURES = Path(__file__).parent / "fixtures"
LINE = FIXTURES / "sections" / "01_line.ipynb"
RESULTS = {
    "notebook": "01_line",
    "parameters": {"epochs": 2},
    "data": {"name": "line", "sha256": "5eed", "train": 4, "validation": 1, "test": 1},
    "dialects": {
        "keras": {
            "history": {"loss": [0.5]},
            "test": {"loss": 0.5},
            "parameters": 2,
            "seconds": 0.1,
            "epoch_seconds": [0.1],
            "lines": 3,
            "weights_sha256": "5eed",
        }
    },
    "parity": {},
    "speed": {"keras": {"graph": {"examples": 4, "epoch_seconds": [0.2, 0.1]}}},
    "versions": {"python": "3"},
}


def write(path: Path, **changed: object) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(RESULTS | changed))
    return str(path)


def rejection(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line on stderr of a rejected command, which exits with 2."""
    try:
        code = main(words)
    except SystemExit as exit_:  # argparse's
        code = int(exit_.code or 0)
    said = capsys.readouterr()
    assert (code, said.out, said.err.count("\n")) == (2, "", 1)
    return said.err


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert (exit_.value.code, capsys.readouterr().out) == (
        0,
        f"kvt {kvt.__version__}\n",
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "required: COMMAND"),
        (["nonsense"], "invalid choice: 'nonsense'"),
        (["report", "--dataset", "cifar"], "invalid choice: 'cifar'"),
        (["report", "-p", "epochs"], "expected 2 arguments"),
        (["report", "--jobs", "0"], "'0' is not a number of 1 or more"),
        (["report", "--jobs", "two"], "'two' is not a number of 1 or more"),
        (["report", "--notebooks", "nowhere"], "no notebooks like 01_name.ipynb"),
        (["run", "nowhere.ipynb"], "there is no notebook nowhere.ipynb"),
        (["run", str(LINE), "-p", "epohcs", "3"], "(did you mean 'epochs'?)"),
        (["run", str(LINE), "-p", "epochs", "3.5"], "must be an integer"),
        (["run", str(LINE), "-p", "epochs", "-1"], "it must be an integer of at least"),
        (["run", str(LINE), "-o", str(LINE)], "is the notebook itself"),
        (["run", str(LINE), "-o", str(FIXTURES)], "is not a file; name a file"),
        (["run", ""], "an empty name"),
        (["report", "--cache", ""], "argument --cache: an empty name"),
        (["report", "--cache", str(FIXTURES)], "which is not the cache's"),
        (["report", "--output", ""], "argument --output: an empty name"),
        (["report", "--timeout", "-1"], "'-1' is not a number of 1"),
        (["run", str(LINE), "-p", "learning_rate", "-1e-3"], "learning_rate is -0.001"),
        (["run", str(LINE), "-p", "learning_rate", "-inf"], "a finite number"),
        (["diff", "nowhere.json", "nowhere.json"], "nowhere.json"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_invalid_command_is_rejected_in_one_line(
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = LINE.read_bytes()
    assert message in rejection(words, capsys)
    assert not list(tmp_path.iterdir())
    assert LINE.read_bytes() == before


@pytest.mark.long
def test_run_writes_the_executed_notebook_and_its_results(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(LINE, tmp_path)
    words = ["-p", "epochs", "3", "-p", "results_path", "line.json"]
    assert main(["run", LINE.name, *words]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "01_line.executed.ipynb",
        "01_line.ipynb",
        "line.json",
    ]
    assert (tmp_path / LINE.name).read_bytes() == LINE.read_bytes()
    assert json.loads((tmp_path / "line.json").read_text())["parameters"] == {
        "epochs": 3
    }
    said = capsys.readouterr()
    assert said.out.endswith("executed notebook: 01_line.executed.ipynb\n")
    assert said.err == ""


def test_diff_of_equal_results_is_0_for_any_versions(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    a = write(tmp_path / "a" / "x.json")
    b = write(tmp_path / "b" / "x.json", versions={"python": "4"})
    assert main(["diff", a, b]) == 0
    assert main(["diff", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert "equal, except for times and versions: 1" in capsys.readouterr().out


def test_diff_of_different_results_is_1_and_names_the_place(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write(tmp_path / "a" / "x.json")
    write(tmp_path / "b" / "x.json", parameters={"epochs": 3})
    assert main(["diff", str(tmp_path / "a"), str(tmp_path / "b")]) == 1
    assert capsys.readouterr().out == "x.json: parameters.epochs: 2 against 3\n"


def test_diff_of_directories_rejects_a_file_that_only_one_has(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write(tmp_path / "a" / "x.json")
    write(tmp_path / "b" / "y.json")
    words = ["diff", str(tmp_path / "a"), str(tmp_path / "b")]
    assert "not in both: x.json, y.json" in rejection(words, capsys)


def test_data_prints_the_data_set_the_reason_and_the_hash(
    capsys: pytest.CaptureFixture[str], mnist_path: Path
) -> None:
    assert main(["data"]) == 0
    reason, counts, digest = capsys.readouterr().out.splitlines()
    assert "KVT_MNIST" in reason
    assert counts == "60,000 training and 10,000 test examples"
    assert len(digest.removeprefix("SHA-256 ")) == 64
    assert mnist_path.exists()


def test_diff_of_a_file_and_a_directory_is_rejected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "a.json")
    said = rejection(["diff", file, str(tmp_path)], capsys)
    assert "must be two files or two directories" in said


KVT = [sys.executable, "-m", "kvt"]


@pytest.mark.parametrize("module", ["kvt", "kvt.cli"])
def test_python_m_does_what_the_command_does(module: str) -> None:
    words = [sys.executable, "-m", module, "--version"]
    said = subprocess.run(words, capture_output=True, text=True, check=True)
    assert said.stdout == f"kvt {kvt.__version__}\n"


def test_a_terminal_without_unicode_gets_the_whole_message(tmp_path: Path) -> None:
    missing = tmp_path / "Tête.ipynb"
    names = ("LC_ALL", "PYTHONUTF8", "PYTHONCOERCECLOCALE")
    ascii_only = dict(zip(names, ("C", "0", "0"), strict=True))
    ended = subprocess.run(
        [*KVT, "run", missing],
        capture_output=True,
        env=os.environ | ascii_only | {"PYTHONIOENCODING": "ascii:strict"},
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.isascii()
    assert b"there is no notebook" in ended.stderr
    assert b"Traceback" not in ended.stderr


def test_what_reads_the_output_may_end_first(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"{name}.json")
    read, written = os.pipe()
    os.close(read)
    ended = subprocess.run(
        [*KVT, "diff", tmp_path / "a.json", tmp_path / "b.json"],
        stdout=written,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(written)
    assert (ended.returncode, ended.stderr) == (141, b"")


@pytest.mark.long
@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("from kvt.cli import main; raise SystemExit(main(['data']))", "kvt: "),
        ("import ipykernel, kvt.data", "RuntimeError: "),
    ],
    ids=["command", "kernel"],
)
def test_without_asserts_nothing_runs(code: str, says: str) -> None:
    run = subprocess.run(
        [sys.executable, "-O", "-c", code], capture_output=True, text=True, check=False
    )
    assert run.returncode in (1, 2)
    assert f"{says}Python runs with -O or PYTHONOPTIMIZE, and so skips" in run.stderr
