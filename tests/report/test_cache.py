import copy
import math
import os
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_notebook

import kvt
from kvt.data import mnist
from kvt.report import cache, notebooks, provenance
from kvt.report.cache import Cached
from tests.report.pages import code, markdown

NAME = "02_digits"
VALUES = {"epochs": 3, "dataset": "mnist"}


def notebook(*cells: NotebookNode) -> NotebookNode:
    return new_notebook(cells=[copy.deepcopy(cell) for cell in cells])


CELLS = (
    markdown("# The digits"),
    code("epochs = 3", "parameters"),
    markdown("Prose."),
    code("print(epochs)", "tf2", stdout="3\n"),
)
ENTRY = Cached(notebook(*CELLS), {"logs/events": bytes(range(256))}, 4.5)


def key(*cells: NotebookNode, **changed: object) -> str:
    parts = {"name": NAME, "values": VALUES, "reads": {"results/01.json": b"1"}}
    return cache.key(notebook=notebook(*(cells or CELLS)), **(parts | changed))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small repository: kvt, notebooks and the lock."""
    for path in (
        "kvt/training/loop.py",
        "kvt/compare/parity.py",
        "kvt/report/execute.py",
        "kvt/report/render.py",
        "notebooks/02_digits.ipynb",
        "requirements.lock",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("# as it was\n")
    notebooks.write(notebook(*CELLS), tmp_path / "notebooks" / f"{NAME}.ipynb")
    monkeypatch.setattr(cache, "KVT", tmp_path / "kvt")
    monkeypatch.setattr(cache, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(cache, "LOCK", tmp_path / "requirements.lock")
    return tmp_path


def test_prose_outputs_ids_and_folding_are_not_part_of_the_key() -> None:
    title, parameters, _, last = copy.deepcopy(CELLS)
    last.outputs, last.execution_count, last["id"] = [], None, "another"
    last.metadata["collapsed"] = True
    assert key() == key(title, markdown("Other prose."), parameters, last)


@pytest.mark.parametrize(
    "cells",
    [
        (*CELLS[:3], code("print(epochs + 1)", "tf2")),
        (*CELLS[:3], code("print(epochs)", "keras")),
        (*CELLS, code("")),
        (CELLS[0], CELLS[3], CELLS[1]),
    ],
    ids=["source", "tag", "cell", "order"],
)
def test_code_cells_are_part_of_the_key(cells: tuple[NotebookNode, ...]) -> None:
    assert key(*cells) != key()


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "03_digits"},
        {"values": VALUES | {"epochs": 4}},
        {"values": VALUES | {"epochs": 3.0}},
        {"values": VALUES | {"dataset": "digits"}},
        {"values": {"epochs": 3}},
        {"reads": {"results/01.json": b"2"}},
        {"reads": {}},
    ],
    ids=str,
)
def test_name_values_and_files_read_are_part_of_the_key(
    changed: dict[str, object],
) -> None:
    assert key(**changed) != key()


@pytest.mark.parametrize(
    "path",
    [
        "kvt/training/loop.py",
        "kvt/compare/parity.py",
        "kvt/report/execute.py",
        "requirements.lock",
    ],
)
def test_source_and_lock_are_part_of_the_key(path: str, package: Path) -> None:
    before = key()
    (package / path).write_text("# changed\n")
    assert key() != before


def test_new_and_renamed_modules_change_the_key(package: Path) -> None:
    before = key()
    (package / "kvt" / "training" / "loop.py").rename(package / "kvt" / "loop.py")
    renamed = key()
    (package / "kvt" / "new.py").write_text("")
    assert len({before, renamed, key()}) == 3


def test_the_style_of_figures_is_part_of_the_key(package: Path) -> None:
    style = package / "kvt" / "show" / "figures.mplstyle"
    assert (Path(kvt.__file__).parent / style.relative_to(package / "kvt")).exists()
    before = key()
    style.parent.mkdir()
    style.write_text("font.size: 13\n")
    assert key() != before


def test_modules_that_only_render_are_not_part_of_the_key(package: Path) -> None:
    before = key()
    (package / "kvt" / "report" / "render.py").write_text("# changed\n")
    assert key() == before


def test_notebooks_and_other_rooms_do_not_import_the_report() -> None:
    root = cache.KVT.parent
    report = {root / "kvt" / "cli.py", *root.glob("kvt/report/**/*.py")}
    there = {*root.glob("kvt/**/*.py")} - report
    for path in (*there, *root.glob("notebooks/*.ipynb")):
        assert "kvt.report" not in path.read_text().replace("`kvt.report`", ""), path


def test_committed_notebook_whose_lines_are_counted_is_part_of_the_key(
    package: Path,
) -> None:
    before = key()
    path = package / "notebooks" / f"{NAME}.ipynb"
    notebooks.write(notebook(*CELLS[:3]), path)
    assert key() != before


def test_data_is_part_of_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key()
    without = key(values={"epochs": 3})
    monkeypatch.setitem(mnist.HASHES, "x_test", "another")
    assert key() != before
    assert key(values={"epochs": 3}) == without


def test_each_data_set_has_its_own_hash() -> None:
    assert cache.data("digits") != cache.data("mnist")


def test_installed_packages_are_part_of_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = key()
    (tmp_path / "keras-9.9.dist-info").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert key() != before


def test_python_is_part_of_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key()
    monkeypatch.setattr(sys, "version", "3.99.0")
    assert key() != before


@pytest.mark.parametrize(("name", "value"), [("processor", "Z80"), ("threads", 99)])
def test_machine_is_part_of_the_key(
    name: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = key()
    monkeypatch.setattr(provenance, name, lambda: value)
    assert key() != before


def test_variables_that_change_numbers_are_part_of_the_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = key()
    monkeypatch.setenv("KVT_MNIST", "/elsewhere/mnist.npz")
    assert key() == before
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    assert key() != before


def test_stored_run_is_loaded_unchanged(tmp_path: Path) -> None:
    cache.store(tmp_path / "new", NAME, "k", ENTRY)
    found = cache.load(tmp_path / "new", NAME, "k")
    assert found == ENTRY
    assert cache.load(tmp_path / "new", NAME, "other") is None
    assert cache.load(tmp_path / "new", "03_digits", "k") is None


@pytest.mark.parametrize("place", [0, 31, 32, 60, -1])
def test_entry_with_one_changed_bit_is_deleted(place: int, tmp_path: Path) -> None:
    cache.store(tmp_path, NAME, "k", ENTRY)
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    assert cache.load(tmp_path, NAME, "k") is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("length", [0, 1, 32, 33, 200])
def test_truncated_entry_is_deleted(length: int, tmp_path: Path) -> None:
    cache.store(tmp_path, NAME, "k", ENTRY)
    (path,) = tmp_path.iterdir()
    assert path.stat().st_size > length
    path.write_bytes(path.read_bytes()[:length])
    assert cache.load(tmp_path, NAME, "k") is None
    cache.store(tmp_path, NAME, "k", ENTRY)
    assert cache.load(tmp_path, NAME, "k") == ENTRY


def test_entry_under_another_key_is_rejected(tmp_path: Path) -> None:
    cache.store(tmp_path, NAME, "k", ENTRY)
    (path,) = tmp_path.iterdir()
    path.rename(tmp_path / f"{NAME}-other")
    assert cache.load(tmp_path, NAME, "other") is None


def test_interrupted_write_keeps_the_old_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.store(tmp_path, NAME, "k", ENTRY)
    write = Path.write_bytes

    def interrupted(path: Path, content: bytes) -> int:
        write(path, content[:100])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cache.store(tmp_path, NAME, "k", Cached(notebook()))
    assert cache.load(tmp_path, NAME, "k") == ENTRY
    assert len(list(tmp_path.iterdir())) == 1


def test_least_recently_used_entry_makes_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for age, name in enumerate(("c", "b", "a")):
        cache.store(tmp_path, NAME, name, ENTRY)
        os.utime(tmp_path / f"{NAME}-{name}", (age, age))
    size = (tmp_path / f"{NAME}-a").stat().st_size
    assert cache.load(tmp_path, NAME, "c") == ENTRY  # the oldest is used
    monkeypatch.setattr(cache, "LARGEST", 3 * size + 10)
    cache.store(tmp_path, NAME, "d", ENTRY)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"{NAME}-a", f"{NAME}-c", f"{NAME}-d"]


def test_seconds_are_those_of_the_last_run_under_any_key(tmp_path: Path) -> None:
    assert cache.seconds(tmp_path / "new", NAME) == math.inf
    for age, (name, seconds) in enumerate((("z", 1.0), ("a", 2.0))):
        cache.store(tmp_path, NAME, name, Cached(notebook(), {}, seconds))
        os.utime(tmp_path / f"{NAME}-{name}", (age, age))
    assert cache.seconds(tmp_path, NAME) == 2.0
    (tmp_path / f"{NAME}-a").write_bytes(b"damaged")
    assert cache.seconds(tmp_path, NAME) == math.inf


def test_grafted_notebook_has_its_own_prose_and_the_cached_outputs() -> None:
    title, parameters, prose, last = CELLS
    injected = code("epochs = 5", "injected-parameters")
    kept = notebook(title, parameters, injected, prose, last)
    kept.metadata["language_info"] = {"name": "python"}
    fresh = copy.deepcopy(last)
    fresh.outputs, fresh.execution_count = [], None
    fresh.metadata["scrolled"] = True
    grafted = cache.graft(kept, notebook(parameters, markdown("New."), fresh))
    assert [cell.source for cell in grafted.cells] == [
        "epochs = 3",
        "epochs = 5",
        "New.",
        "print(epochs)",
    ]
    assert grafted.cells[-1].outputs == last.outputs
    assert grafted.cells[-1].metadata == {"tags": ["tf2"], "scrolled": True}
    assert grafted.metadata["language_info"] == {"name": "python"}


def test_grafted_notebook_without_parameters_starts_with_the_injected_cell() -> None:
    injected = code("epochs = 5", "injected-parameters")
    kept = notebook(injected, CELLS[0], CELLS[3])
    grafted = cache.graft(kept, notebook(CELLS[0], CELLS[3]))
    assert [cell.source for cell in grafted.cells] == [
        "epochs = 5",
        "# The digits",
        "print(epochs)",
    ]


@pytest.mark.parametrize("kind", ["directory", "FIFO", "dangling link", "unreadable"])
def test_an_entry_that_cannot_be_read_counts_as_missing(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.store(tmp_path, NAME, "key", ENTRY)
    (path,) = tmp_path.iterdir()
    if kind == "unreadable":
        denied = PermissionError("denied")
        monkeypatch.setattr(Path, "read_bytes", Mock(side_effect=denied))
    else:
        path.unlink()
        if kind == "directory":
            path.mkdir()
        elif kind == "FIFO":
            os.mkfifo(path)
        else:
            path.symlink_to(tmp_path / "nowhere")
    assert cache.seconds(tmp_path, NAME) == math.inf
    assert cache.load(tmp_path, NAME, "key") is None
