import copy
import hashlib
import math
import os
import sys
import zlib
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
A, B, C, D = (letter * 64 for letter in "abcd")  # keys are SHA-256
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
        (*CELLS, code("1")),
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


def entries(directory: Path) -> list[Path]:
    return sorted(path for path in directory.iterdir() if path.name != cache.MARK)


def only(directory: Path) -> Path:
    (path,) = entries(directory)
    return path


def test_settings_of_keras_are_part_of_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    before, file = key(), tmp_path / "keras.json"
    file.write_text('{"floatx": "float32", "epsilon": 1e-07}')  # as Keras writes it
    assert key() == before
    file.write_text('{"floatx": "float64", "epsilon": 1e-07}')
    assert key() != before
    file.write_text("not JSON: Keras ignores it")
    assert key() == before


def test_stored_run_is_loaded_unchanged(tmp_path: Path) -> None:
    cache.store(tmp_path / "new", NAME, A, ENTRY)
    found = cache.load(tmp_path / "new", NAME, A)
    assert found == ENTRY
    assert cache.load(tmp_path / "new", NAME, B) is None
    assert cache.load(tmp_path / "new", "03_digits", A) is None


@pytest.mark.parametrize("place", [0, 31, 32, 60, -1])
def test_entry_with_one_changed_bit_is_deleted(place: int, tmp_path: Path) -> None:
    cache.store(tmp_path, NAME, A, ENTRY)
    path = only(tmp_path)
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    assert cache.load(tmp_path, NAME, A) is None
    assert not entries(tmp_path)


@pytest.mark.parametrize("length", [0, 1, 32, 33, 200])
def test_truncated_entry_is_deleted(length: int, tmp_path: Path) -> None:
    cache.store(tmp_path, NAME, A, ENTRY)
    path = only(tmp_path)
    assert path.stat().st_size > length
    path.write_bytes(path.read_bytes()[:length])
    assert cache.load(tmp_path, NAME, A) is None
    cache.store(tmp_path, NAME, A, ENTRY)
    assert cache.load(tmp_path, NAME, A) == ENTRY


def test_entry_under_another_key_is_rejected(tmp_path: Path) -> None:
    cache.store(tmp_path, NAME, A, ENTRY)
    path = only(tmp_path)
    path.rename(tmp_path / f"{NAME}-{B}")
    assert cache.load(tmp_path, NAME, B) is None


def test_interrupted_write_keeps_the_old_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.store(tmp_path, NAME, A, ENTRY)
    write = Path.write_bytes

    def interrupted(path: Path, content: bytes) -> int:
        write(path, content[:100])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cache.store(tmp_path, NAME, A, Cached(notebook()))
    assert cache.load(tmp_path, NAME, A) == ENTRY
    assert only(tmp_path)


def test_least_recently_used_entry_makes_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for age, name in enumerate((C, B, A)):
        cache.store(tmp_path, NAME, name, ENTRY)
        os.utime(tmp_path / f"{NAME}-{name}", (age, age))
    size = (tmp_path / f"{NAME}-{A}").stat().st_size
    assert cache.load(tmp_path, NAME, C) == ENTRY  # the oldest is used
    monkeypatch.setattr(cache, "LARGEST", 3 * size + 10)
    cache.store(tmp_path, NAME, D, ENTRY)
    names = [path.name for path in entries(tmp_path)]
    assert names == [f"{NAME}-{A}", f"{NAME}-{C}", f"{NAME}-{D}"]


def test_seconds_are_those_of_the_last_run_under_any_key(tmp_path: Path) -> None:
    assert cache.seconds(tmp_path / "new", NAME) == math.inf
    for age, (name, seconds) in enumerate(((B, 1.0), (A, 2.0))):
        cache.store(tmp_path, NAME, name, Cached(notebook(), {}, seconds))
        os.utime(tmp_path / f"{NAME}-{name}", (age, age))
    assert cache.seconds(tmp_path, NAME) == 2.0
    (tmp_path / f"{NAME}-{A}").write_bytes(b"damaged")
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
    cache.store(tmp_path, NAME, A, ENTRY)
    path = only(tmp_path)
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
    assert cache.load(tmp_path, NAME, A) is None


def test_a_cache_never_deletes_files_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.store(tmp_path, NAME, A, ENTRY)
    others = ["thesis.docx", f"{NAME}-draft", f"{NAME}-{A}.bak", f".{NAME}"]
    for name in others:
        (tmp_path / name).write_bytes(bytes(1_000))
        os.utime(tmp_path / name, (1, 1))
    (tmp_path / f"{NAME}-{B}").symlink_to(tmp_path / "thesis.docx")
    monkeypatch.setattr(cache, "LARGEST", 0)
    cache.store(tmp_path, NAME, C, ENTRY)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {*others, cache.MARK, f"{NAME}-{B}"}


def test_a_directory_with_files_of_others_is_no_cache(tmp_path: Path) -> None:
    cache.check_directory(tmp_path / "new")
    cache.check_directory(tmp_path)  # empty
    (tmp_path / f"{NAME}-{A}").write_bytes(b"an entry of an earlier kvt: no mark yet")
    cache.check_directory(tmp_path)
    (tmp_path / "thesis.docx").write_bytes(b"")
    with pytest.raises(ValueError, match=r"holds thesis\.docx, .* --cache"):
        cache.check_directory(tmp_path)
    with pytest.raises(ValueError, match=r"thesis\.docx is a file"):
        cache.check_directory(tmp_path / "thesis.docx")


def test_a_marked_directory_stays_a_cache(tmp_path: Path) -> None:
    cache.store(tmp_path, NAME, A, ENTRY)
    (tmp_path / "notes.txt").write_bytes(b"")
    cache.check_directory(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "../../x",
        "/x",
        "results/../../x",
        "x",
        "",
        "logs",
        "notebooks/x",
        "results/..",
        "logs/\0",
    ],
)
def test_an_entry_with_a_file_outside_of_its_folders_is_rejected(
    name: str, tmp_path: Path
) -> None:
    cache.store(tmp_path, NAME, A, Cached(notebook(*CELLS), {name: b"crafted"}))
    assert cache.load(tmp_path, NAME, A) is None
    assert not entries(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "not JSON",
        "[]",
        "{}",
        '["", {}, 1]',
        "[1, {}, 1]",
        '["{}", {}, 1]',
        '["{}", [], 1]',
        '["{}", {"logs/a": 1}, 1]',
        '["{}", {"logs/a": "\\u00e9"}, 1]',
        '["{}", {}, null]',
    ],
)
def test_an_entry_of_another_shape_is_rejected(content: str, tmp_path: Path) -> None:
    body = zlib.compress(content.encode())
    path = tmp_path / f"{NAME}-{A}"
    path.write_bytes(hashlib.sha256(A.encode() + body).digest() + body)
    assert cache.seconds(tmp_path, NAME) == math.inf
    assert cache.load(tmp_path, NAME, A) is None
