from pathlib import Path
from typing import Any

import papermill
import pytest
from nbformat.v4 import new_notebook

from kvt.report import notebooks
from kvt.report.execute import execute
from kvt.report.notebooks import ExecutionError
from tests.report.pages import code, injected

pytestmark = pytest.mark.long

FIXTURES = Path(__file__).parents[1] / "fixtures"
LINE = FIXTURES / "sections" / "01_line.ipynb"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a name that papermill would take for a format string."""
    directory = tmp_path / "{epochs}"
    directory.mkdir()
    return directory


def run(name: str, place: Path, **options: Any) -> None:
    execute(
        FIXTURES / "failures" / f"{name}.ipynb",
        place / "out.ipynb",
        {},
        cwd=place,
        failed=place / "failed" / f"{name}.ipynb",
        **options,
    )


def test_two_runs_write_the_same_bytes_and_no_path(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {"epochs": 4, "shuffle": False, "results_path": 'a "b".json'}
    for name in ("a", "b"):
        execute(
            LINE, place / f"{name}.ipynb", values, cwd=place, failed=place / "failed"
        )
    first = (place / "a.ipynb").read_bytes()
    assert first == (place / "b.ipynb").read_bytes()
    assert str(place).encode() not in first
    assert injected(place / "a.ipynb") == values
    assert (
        b"(4, 0.1, False, '3')" in first
    )  # the kernel saw them, and a quiet TensorFlow
    assert sorted(path.name for path in place.iterdir()) == [
        'a "b".json',
        "a.ipynb",
        "b.ipynb",
    ]
    assert capsys.readouterr().out.count("01_line.ipynb: ") == 2


@pytest.mark.parametrize(
    ("name", "cell", "reason"),
    [
        ("raises", "# the bad cell", "ValueError: no such luck"),
        ("dies", "# takes the kernel along", "the kernel died"),
        ("exits", "# leaves by the back door", "SystemExit"),
        ("hangs", "# takes too long", "timed out"),
    ],
)
def test_failure_names_notebook_cell_and_error_and_keeps_the_old_output(
    name: str, cell: str, reason: str, place: Path
) -> None:
    (place / "out.ipynb").write_text("old")
    with pytest.raises(ExecutionError) as failure:
        run(name, place, timeout=1 if name == "hangs" else None)
    message = str(failure.value)
    partial = place / "failed" / f"{name}.ipynb"
    for part in (f"{name}.ipynb", cell, reason, str(partial)):
        assert part in message
    assert (place / "out.ipynb").read_text() == "old"
    executed = [c for c in notebooks.read(partial).cells if c.get("execution_count")]
    assert executed[0].outputs[0].data["text/plain"] == "1"
    assert sorted(path.name for path in place.iterdir()) == ["failed", "out.ipynb"]


def test_kernel_whose_port_is_taken_is_started_once_more(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def refuse(*_: object, **__: object) -> None:
        calls.append(1)
        raise RuntimeError("Kernel died before replying to kernel_info")

    monkeypatch.setattr(papermill, "execute_notebook", refuse)
    with pytest.raises(ExecutionError, match="before its first cell: Kernel died"):
        run("raises", place)
    assert len(calls) == 2


def test_interrupt_keeps_the_old_output(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(papermill, "execute_notebook", interrupt)
    (place / "out.ipynb").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        run("raises", place)
    assert [path.read_text() for path in place.iterdir()] == ["old"]


def test_ipythons_settings_of_the_user_do_not_reach_the_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    startup = tmp_path / "home" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00.py").write_text("print('from the start-up folder')")
    (startup.parent / "ipython_kernel_config.py").write_text(
        "c.InteractiveShell.ast_node_interactivity = 'all'"
    )
    (tmp_path / "startup.py").write_text("surprise = 1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONSTARTUP", str(tmp_path / "startup.py"))
    path = tmp_path / "plain.ipynb"
    cells = [code("1\n2"), code("'surprise' in globals()")]
    notebooks.write(new_notebook(cells=cells), path)
    run = execute(path, path, {}, cwd=tmp_path, failed=tmp_path / "failed.ipynb")
    shown = [[out.data["text/plain"] for out in cell.outputs] for cell in run.cells]
    assert shown == [["2"], ["False"]]
    before = {"home", "startup.py", "plain.ipynb"}
    assert {it.name for it in tmp_path.iterdir()} == before
