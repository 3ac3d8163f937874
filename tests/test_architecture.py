"""The rooms of kvt: how large they are, and which way imports point."""

import ast
import collections
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

KVT = Path(__file__).parents[1] / "kvt"
MODULES = {
    ".".join(path.relative_to(KVT.parent).with_suffix("").parts): path
    for path in sorted(KVT.rglob("*.py"))
}
# A room may import itself and the rooms before it.
ROOMS = ("data", "training", "compare", "show", "report", "cli", "__main__")


def lines(*names: str) -> int:
    """Lines of Python in these modules."""
    return sum(len(MODULES[name].read_text("utf-8").splitlines()) for name in names)


def of_rooms(*rooms: str) -> list[str]:
    return [name for name in MODULES if room(name) in rooms]


def room(module: str) -> str:
    """Return `training` for `kvt.training.loop`, and "" for kvt's own __init__."""
    return [*module.split("."), ""][1].replace("__init__", "")


def imports(module: str) -> Iterator[str]:
    """Modules of kvt that a module imports, at its top or later."""
    for node in ast.walk(ast.parse(MODULES[module].read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names if one.name.startswith("kvt"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kvt"):
            for one in node.names:
                inner = f"{node.module}.{one.name}"
                is_module = inner in MODULES or f"{inner}.__init__" in MODULES
                yield inner if is_module else str(node.module)
            assert node.level == 0


def file_of(module: str) -> str:
    """Return the key of `MODULES` that a name of a module or package stands for."""
    return module if module in MODULES else f"{module}.__init__"


def test_imports_point_one_way_from_room_to_room() -> None:
    for module in MODULES:
        if not room(module):
            continue
        may = ROOMS[: ROOMS.index(room(module)) + 1]
        for imported in imports(module):
            assert room(file_of(imported)) in ("", *may), f"{module} → {imported}"


def test_only_the_command_line_imports_kvt_itself() -> None:
    importing = {name for name in MODULES if "kvt" in set(imports(name))}
    assert importing <= {"kvt.cli"}  # for its version


def test_no_module_imports_itself_in_a_circle() -> None:
    # Late imports count. A package's __init__ stands for no arrow: importing a package
    # from one of its own modules would be a circle, and the next test forbids it.
    graph = {
        name: {file_of(one) for one in imports(name)} - {"kvt.__init__"}
        for name in MODULES
    }
    assert list(graphlib.TopologicalSorter(graph).static_order())


def test_a_module_imports_its_own_room_by_module() -> None:
    for name in MODULES:
        package = name.rpartition(".")[0]
        if not name.endswith("__init__") and room(name) not in ("", "cli"):
            assert package not in set(imports(name)), f"{name} → {package}"


def test_the_package_is_small() -> None:
    assert lines(*MODULES) <= 12_900
    assert lines(*of_rooms("data", "training")) <= 3_510


@pytest.mark.parametrize("module", MODULES)
def test_a_module_has_at_most_400_lines(module: str) -> None:
    assert lines(module) <= 400


def test_a_class_name_has_one_meaning_in_the_whole_tree() -> None:
    found = collections.Counter(
        node.name.strip("_")
        for path in MODULES.values()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ClassDef)
    )
    assert {name: count for name, count in found.items() if count > 1} == {}


def test_every_package_says_in_one_sentence_what_it_holds() -> None:
    for name, path in MODULES.items():
        if name.endswith("__init__"):
            tree = ast.parse(path.read_text("utf-8"))
            says = ast.get_docstring(tree) or ""
            assert says.endswith("."), name
            assert "\n\n" not in says, name
            assert "sys.modules" not in path.read_text("utf-8"), name


def test_no_import_needs_a_trailing_underscore() -> None:
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                for one in node.names:
                    assert not (one.asname or "").endswith("_"), f"{name}: {one.asname}"
