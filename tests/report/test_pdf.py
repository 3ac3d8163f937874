from pathlib import Path

import pytest

from kvt.cli import main
from kvt.report import pdf
from kvt.report.build import build
from kvt.report.pdf import PrintError

pytestmark = pytest.mark.long

SECTIONS = Path(__file__).parents[1] / "fixtures" / "sections"


def test_pdf_without_a_browser_is_rejected_before_any_notebook_runs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    words = ["--notebooks", str(SECTIONS), "--output", str(tmp_path / "reports")]
    assert main(["report", "--pdf", *words]) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert "no chromium or chromium-browser or google-chrome on the PATH" in printed.err
    assert not (tmp_path / "reports").exists()


@pytest.mark.parametrize("line", ["echo no paper >&2; exit 3", "echo no paper >&2"])
def test_browser_that_does_not_print_is_named_with_its_message(
    line: str, tmp_path: Path
) -> None:
    browser = tmp_path / "chromium"
    browser.write_text(f"#!/bin/sh\n{line}\n")
    browser.chmod(0o755)
    with pytest.raises(PrintError, match=r"chromium did not print \(\d\): no paper"):
        pdf.write("<p>page</p>", tmp_path / "kvt.pdf", browser=str(browser))
    assert [path.name for path in tmp_path.iterdir()] == ["chromium"]


def test_report_without_a_pdf_deletes_an_older_one(tmp_path: Path) -> None:
    (tmp_path / "kvt.pdf").write_text("of an older report")
    listed = '<meta name="kvt-pages" content="index.html">'
    (tmp_path / "index.html").write_text(listed)
    build(SECTIONS, tmp_path, dataset="digits", parameters={})
    assert not (tmp_path / "kvt.pdf").exists()
