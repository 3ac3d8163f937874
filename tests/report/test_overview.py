"""The overview of a running report, in a terminal and in a file."""

import io
import re
import time

import pytest

from kvt.report.overview import Overview

NAMES = ("01_line.ipynb", "02_digits.ipynb", "08_comparison.ipynb")


class Clock:
    """Seconds that pass when the test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """Keeps what a terminal would show."""

    def isatty(self) -> bool:
        return True

    def screen(self) -> list[str]:
        """Return the lines on the screen, after all movements of the cursor."""
        lines, row = [""], 0
        for part in re.findall(
            r"\x1b\[\??[\d;]*[A-Za-z]|\n|\r|[^\x1b\r\n]+", self.getvalue()
        ):
            if part == "\n":
                row += 1
                lines += [""] * (row + 1 - len(lines))
            elif up := re.fullmatch(r"\x1b\[(\d+)A", part):
                row -= int(up[1])
                assert row >= 0
            elif part == "\x1b[2K":
                lines[row] = ""
            elif part[0] not in "\r\x1b":
                assert not lines[row], "the line was not cleared"
                lines[row] = part
        return [line.rstrip() for line in lines]


@pytest.fixture(autouse=True)
def terminal_size(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("TERM", "xterm"), ("COLUMNS", "60"), ("LINES", "12")):
        monkeypatch.setenv(name, value)
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


def shows(terminal: Terminal, *lines: str) -> None:
    """Wait until the terminal shows these lines: it is redrawn ten times a second."""
    for _ in range(200):
        if terminal.screen() == list(lines):
            return
        time.sleep(0.05)
    assert terminal.screen() == list(lines)


def test_terminal_shows_what_each_notebook_is_doing() -> None:
    clock, terminal = Clock(), Terminal()
    cells = dict(zip(NAMES, (12, 3, 4), strict=True))
    with Overview(cells, file=terminal, clock=clock) as overview:
        overview.tell("01_line.ipynb", "starts")
        clock.now = 1.25
        overview.tell("01_line.ipynb", "cell")
        overview.tell("01_line.ipynb", "cell")
        overview.tell("02_digits.ipynb", "from the cache")
        shows(
            terminal,
            "01_line.ipynb       cell 2 of 12       1.2 s",
            "02_digits.ipynb     from the cache",
            "08_comparison.ipynb waits",
        )
        clock.now = 61.5
        overview.tell("01_line.ipynb", "done")
        overview.tell("08_comparison.ipynb", "starts")
        clock.now = 65.5
        overview.tell("08_comparison.ipynb", "failed")
    assert terminal.screen() == [
        "01_line.ipynb       done              61.5 s",
        "02_digits.ipynb     from the cache",
        "08_comparison.ipynb failed             4.0 s",
        "",
    ]


def test_clock_of_a_running_notebook_goes_on_by_itself() -> None:
    clock, terminal = Clock(), Terminal()
    with Overview({"01_line.ipynb": 2}, file=terminal, clock=clock) as overview:
        overview.tell("01_line.ipynb", "starts")
        for clock.now in (7.0, 8.0):
            shows(terminal, f"01_line.ipynb starts             {clock.now} s")


def test_drawing_fits_the_terminal_until_the_last_one_shows_all_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("LINES", "4")
    terminal = Terminal()
    names = [f"{number:02}_notebook.ipynb" for number in range(9)]
    with Overview(dict.fromkeys(names, 5), file=terminal, clock=Clock()):
        drawn = [f"{name[:10]}… waits …" for name in names]
        shows(terminal, *drawn[:3], "        ...".rstrip())
    assert terminal.screen() == [*drawn, ""]


def test_file_gets_one_plain_line_per_notebook() -> None:
    clock, stream = Clock(), io.StringIO()
    cells = {"01_line.ipynb": 12, "02_digits.ipynb": 3, "03_bad.ipynb": 2}
    with Overview(cells, file=stream, clock=clock) as overview:
        for name in ("01_line.ipynb", "03_bad.ipynb"):
            overview.tell(name, "starts")
            overview.tell(name, "cell")
        clock.now = 2.0
        overview.tell("01_line.ipynb", "done")
        overview.tell("02_digits.ipynb", "from the cache")
        overview.tell("03_bad.ipynb", "failed")
    assert stream.getvalue().splitlines() == [
        "01_line.ipynb: 2.0 s",
        "02_digits.ipynb: from the cache",
        "03_bad.ipynb: failed after 2.0 s",
    ]
