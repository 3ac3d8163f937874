"""What a cell prints: joined, and cut, in time that grows with its length alone."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbformat import NotebookNode
from nbformat.v4 import new_notebook, new_output

from kvt.report import notebooks, streams
from kvt.report.execute import execute
from tests.report.pages import code

PIECES = st.text("ab\r\n", max_size=6)
BEFORE_A_RETURN = re.compile(r".*\r(?=[^\n])")  # nbclient's, slow on long lines


def joined(*printed: tuple[str, str]) -> list[NotebookNode]:
    outs: list[NotebookNode] = []
    for name, text in printed:
        outs.append(new_output("stream", name=name, text=text))
        streams.join(outs)
    return outs


@given(PIECES)
def test_carriage_returns_overwrite_as_in_nbclient(text: str) -> None:
    assert streams.overwritten(text) == BEFORE_A_RETURN.sub("", text)


@given(st.lists(PIECES))
def test_pieces_join_to_what_the_whole_would_show(pieces: list[str]) -> None:
    outs = joined(*(("stdout", piece) for piece in pieces))
    assert "".join(out.text for out in outs) == streams.overwritten("".join(pieces))
    assert len(outs) == bool(pieces)


def test_each_stream_is_joined_to_its_own_and_stdout_comes_first() -> None:
    outs = joined(("stderr", "a"), ("stdout", "b"), ("stderr", "c"), ("stdout", "d"))
    assert [(out.name, out.text) for out in outs] == [
        ("stdout", "bd"),
        ("stderr", "ac"),
    ]


def test_what_is_displayed_in_between_keeps_its_place() -> None:
    outs = joined(("stderr", "a"))
    outs.append(new_output("display_data", {"text/plain": "figure"}))
    outs.append(new_output("stream", name="stdout", text="b"))
    streams.join(outs)
    assert [out.get("name", "figure") for out in outs] == ["stderr", "figure", "stdout"]


def test_long_streams_are_cut_once_with_a_note() -> None:
    outs = joined(*[("stdout", "x" * 400_000)] * 5)
    note = streams.CUT.format("prints", streams.LARGEST)
    assert outs[0].text == "x" * streams.LARGEST + note
    assert "1,000,000 characters" in note


@pytest.mark.long
@pytest.mark.timeout(60)
def test_a_run_survives_endless_lines_and_many_pictures(tmp_path: Path) -> None:
    cells = [
        "print('x' * 300_000)",
        "print('y' * 3_000_000)",
        "for _ in range(60): print('z' * 999_999)",
        "from IPython.display import HTML, display\n"
        "for i in range(40): display(HTML('q' * 1_000_000))",
        "for i in range(9): print(end=f'\\r{i} of 8', flush=True)",
    ]
    path = tmp_path / "prints.ipynb"
    notebooks.write(new_notebook(cells=[code(cell) for cell in cells]), path)
    run = execute(path, path, {}, cwd=tmp_path, failed=tmp_path / "failed.ipynb")
    line, long, lines, pictures, bar = (cell.outputs for cell in run.cells)
    assert line[0].text == "x" * 300_000 + "\n"
    assert long[0].text.startswith("y" * streams.LARGEST + "\n… cut: this cell prints")
    assert lines[0].text.endswith(long[0].text[-20:])
    kept = [output.data.get("text/html", "") for output in pictures]
    assert sum(map(len, kept)) <= streams.LARGEST_DATA
    assert "displays more than" in pictures[-1].data["text/plain"]
    assert bar[0].text == "8 of 8"
