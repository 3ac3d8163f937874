import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kvt.report.build import build
from kvt.report.notebooks import ExecutionError
from kvt.report.parameters import ParameterError
from kvt.report.plan import plan, read
from tests.report.pages import injected

pytestmark = pytest.mark.long

FIXTURES = Path(__file__).parents[1] / "fixtures"
SECTIONS = FIXTURES / "sections"

# `kvt report` in its own process, where nothing else can import TensorFlow.
REPORT = """
import sys
from kvt.cli import main

code = main(sys.argv[1:])
loaded = {"tensorflow", "keras"} & set(sys.modules)
sys.exit(f"imported {loaded}" if loaded else code)
"""


# The first page of an older report, which had another page.
OLDER = '<meta name="kvt-pages" content="index.html gone.html">'


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The directory of the report on the tiny notebooks, and what it printed."""
    output = tmp_path_factory.mktemp("report") / "reports"
    (output / "results").mkdir(parents=True)
    (output / "results" / "99_gone.json").write_text("of an older report")
    (output / "index.html").write_text(OLDER)
    for page in ("gone.html", "notes.html"):
        (output / page).write_text("older")
    words = ["report", "--dataset", "digits", "--notebooks", str(SECTIONS)]
    words += ["--output", str(output), "-p", "epochs", "5"]
    words += ["--cache", str(tmp_path_factory.mktemp("cache"))]
    done = subprocess.run(
        [sys.executable, "-c", REPORT, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    return output, done.stdout


@pytest.mark.parametrize("inside", ["", "reports"])
def test_a_report_in_the_cache_is_rejected_first(inside: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is in the cache; name another place"):
        build(
            SECTIONS, tmp_path / inside, dataset="digits", parameters={}, cache=tmp_path
        )
    assert not (tmp_path / inside / "index.html").exists()


def test_report_replaces_the_whole_older_one(report: tuple[Path, str]) -> None:
    output, _ = report
    files = [path for path in output.rglob("*") if path.is_file()]
    assert sorted(path.relative_to(output).as_posix() for path in files) == [
        "index.html",
        "logs/02_digits/events",
        "notebooks/01_line.ipynb",
        "notebooks/02_digits.ipynb",
        "notebooks/08_comparison.ipynb",
        "notes.html",  # not a page of the older report
        "provenance.html",
        "results/01_line.json",
    ]
    assert not list(output.glob(".*"))


def test_terminal_and_page_name_the_data_set_and_the_reason(
    report: tuple[Path, str],
) -> None:
    output, said = report
    reason = "scikit-learn's digits, as requested"
    assert said.splitlines()[0] == f"data set: {reason}"
    assert f"Data: {reason.replace(chr(39), '&#39;')}." in (
        output / "index.html"
    ).read_text("utf-8")
    assert said.splitlines()[-1] == f"report: {output / 'index.html'}"


def files(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_pages_are_replaced_together_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "reports"
    printed: list[str] = []

    def report(**options: bool | str) -> dict[str, bytes]:
        given = {"dataset": "digits", "parameters": {}, "cache": tmp_path / "cache"}
        build(SECTIONS, output, **(given | options))  # type: ignore[arg-type]
        return files(output)

    def write(page: str, file: Path, *, browser: str) -> None:
        printed.append(page)
        file.write_text(browser)

    monkeypatch.setattr("kvt.report.pdf.write", write)
    several = report(print_with="a browser")
    assert several["kvt.pdf"] == b"a browser"
    (book,) = printed  # the PDF has all pages
    for heading in ('<h2 id="line"', '<h2 id="digits"', '<h2 id="provenance"'):
        assert heading in book
    single = report(single_file=True)
    assert set(several) - set(single) == {"kvt.pdf", "provenance.html"}
    assert single["index.html"].decode() == book
    replace = Path.replace

    def fails(self: Path, target: Path) -> Path:
        if target == output / "index.html" and self.parent.name != "old":
            raise OSError("the disk is full")
        return replace(self, target)

    with monkeypatch.context() as patched:
        # Where directories cannot be exchanged, parts are moved one by one.
        patched.delattr("kvt.report.files.exchange")
        patched.setattr(Path, "replace", fails)
        with pytest.raises(OSError, match="the disk is full"):
            report()
    assert files(output) == single
    assert report(print_with="a browser") == several


def test_page_never_replaces_a_file_that_is_no_page_of_the_older_report(
    tmp_path: Path,
) -> None:
    (tmp_path / "index.html").write_text(OLDER)
    (tmp_path / "provenance.html").write_text("of a wine")
    with pytest.raises(
        FileExistsError, match=r"has provenance\.html, which the report"
    ):
        build(SECTIONS, tmp_path, dataset="digits", parameters={})
    assert sorted(files(tmp_path)) == ["index.html", "provenance.html"]


def test_parameter_goes_to_every_notebook_that_has_it(report: tuple[Path, str]) -> None:
    output, _ = report
    values = {path.stem: injected(path) for path in (output / "notebooks").iterdir()}
    assert values == {
        "01_line": {
            "dataset": "digits",
            "results_path": "results/01_line.json",
            "epochs": 5,
        },
        "02_digits": {"epochs": 5},
        "08_comparison": {"results_dir": "results"},
    }


def test_comparison_reads_the_others_results_and_opens_the_page(
    report: tuple[Path, str],
) -> None:
    output, _ = report
    page = (output / "index.html").read_text("utf-8")
    assert page.index("<th>01_line</th>") < page.index('<h2 id="line"')


def test_page_names_no_path_of_this_machine(report: tuple[Path, str]) -> None:
    output, _ = report
    for path in (output / "index.html", *(output / "notebooks").iterdir()):
        assert str(output) not in path.read_text("utf-8")
        assert ".staging-" not in path.read_text("utf-8")


def test_failed_notebook_keeps_the_old_report_and_its_own_partial_run(
    tmp_path: Path,
) -> None:
    here, output = tmp_path / "notebooks", tmp_path / "reports"
    here.mkdir()
    shutil.copy(FIXTURES / "failures" / "raises.ipynb", here / "01_raises.ipynb")
    output.mkdir()
    (output / "index.html").write_text(OLDER)
    with pytest.raises(ExecutionError, match=r"01_raises\.ipynb .*no such luck"):
        build(here, output, dataset="digits", parameters={})
    assert (output / "index.html").read_text() == OLDER
    assert sorted(path.name for path in output.iterdir()) == ["failed", "index.html"]
    assert (output / "failed" / "01_raises.ipynb").exists()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("epohcs", "3", "unknown parameter 'epohcs'; the report has: epochs, .*epochs"),
        ("epochs", "0", "epochs is 0; it must be"),
        ("epochs", "3.5", "must be an integer"),
        ("dataset", "mnist", "choose it with --dataset"),
        ("results_path", "x.json", "collects the results itself"),
        ("results_dir", "x", "compares its own results"),
    ],
)
def test_invalid_parameter_is_rejected_before_anything_starts(
    name: str, value: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ParameterError, match=message):
        build(SECTIONS, tmp_path / "new", dataset="nonsense", parameters={name: value})
    assert not (tmp_path / "new").exists()


def test_comparison_runs_last_for_any_number(tmp_path: Path) -> None:
    for number, name in enumerate(("08_comparison", "01_line")):
        shutil.copy(
            SECTIONS / f"{name}.ipynb", tmp_path / f"0{number}_{name[3:]}.ipynb"
        )
    chapters = plan(read(tmp_path), "digits", {})
    assert [chapter.name for chapter in chapters] == ["01_line", "00_comparison"]


def test_directory_without_notebooks_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no notebooks like 01_name\.ipynb"):
        build(tmp_path, tmp_path / "new", dataset="digits", parameters={})


@pytest.mark.parametrize("part", ["notebooks", "results", "logs"])
def test_directory_that_is_not_a_report_is_never_replaced(
    tmp_path: Path, part: str
) -> None:
    (tmp_path / "reports" / part).mkdir(parents=True)
    (tmp_path / "reports" / part / "thesis.csv").write_text("1")
    with pytest.raises(FileExistsError, match=rf"has {part}, and no report"):
        build(SECTIONS, tmp_path / "reports", dataset="digits", parameters={})
    assert (tmp_path / "reports" / part / "thesis.csv").read_text() == "1"


@pytest.mark.parametrize(
    "part",
    ["index.html", "kvt.pdf", "failed/data.csv", "provenance.html", "logs/events"],
)
def test_another_site_is_never_replaced(tmp_path: Path, part: str) -> None:
    (tmp_path / part).parent.mkdir(exist_ok=True)
    (tmp_path / "index.html").write_text("<title>Wines</title>")
    (tmp_path / part).write_text("of a wine")
    before = files(tmp_path)
    with pytest.raises(FileExistsError, match=r"index\.html.*, and no report"):
        build(SECTIONS, tmp_path, dataset="digits", parameters={})
    assert files(tmp_path) == before


def test_failed_notebooks_alone_are_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "failed").mkdir()
    (tmp_path / "failed" / "01_line.ipynb").write_text("{}")
    with pytest.raises(ValueError, match="unknown parameter"):  # past that check
        build(SECTIONS, tmp_path, dataset="digits", parameters={"nonsense": 1})


@pytest.mark.parametrize("name", ["05_line", "05_index", "05_provenance"])
def test_two_parts_of_one_name_are_rejected(tmp_path: Path, name: str) -> None:
    for copy in ("01_line", name):
        shutil.copy(SECTIONS / "01_line.ipynb", tmp_path / f"{copy}.ipynb")
    with pytest.raises(ValueError, match=rf"{name}\.ipynb: the report already has"):
        build(tmp_path, tmp_path / "new", dataset="digits", parameters={})


def test_notebooks_are_never_replaced_by_executed_ones(tmp_path: Path) -> None:
    shutil.copytree(SECTIONS, tmp_path / "notebooks")
    (tmp_path / "index.html").write_text("an earlier report")
    with pytest.raises(FileExistsError, match="holds the notebooks themselves"):
        build(tmp_path / "notebooks", tmp_path, dataset="digits", parameters={})
