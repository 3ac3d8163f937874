"""The runs of a sweep: lists, ranges, tables, and what is rejected."""

import json
from pathlib import Path

import pytest

from kvt.report import grid
from kvt.report.parameters import Parameter, ParameterError

KNOWN = {
    "learning_rate": Parameter("learning_rate", float, 0.1, ""),
    "batch_size": Parameter("batch_size", int, 32, ""),
    "seed": Parameter("seed", int, 0, ""),
    "name": Parameter("name", str, "", ""),
    "results_path": Parameter("results_path", str, "", ""),
}


def runs(
    *given: tuple[str, str], table: Path | None = None, zipped: bool = False
) -> list[grid.Values]:
    return grid.runs(given, table, KNOWN, zipped=zipped)


def test_lists_are_combined_in_order_and_typed() -> None:
    found = runs(("learning_rate", "1e-2, 1"), ("seed", "0..1,7"))
    pairs = [(it["learning_rate"], it["seed"]) for it in found]
    assert pairs == [(0.01, 0), (0.01, 1), (0.01, 7), (1.0, 0), (1.0, 1), (1.0, 7)]
    assert {type(it["learning_rate"]) for it in found} == {float}
    assert [list(it) for it in found] == [["learning_rate", "seed"]] * 6


def test_zip_pairs_the_lists() -> None:
    found = runs(("batch_size", "32,64"), ("seed", "3..4"), zipped=True)
    assert found == [{"batch_size": 32, "seed": 3}, {"batch_size": 64, "seed": 4}]


def test_equal_runs_are_one_run() -> None:
    assert runs(("learning_rate", "0.1,0.10,1e-1")) == [{"learning_rate": 0.1}]
    assert runs() == [{}]


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_table_is_combined_with_lists(suffix: str, tmp_path: Path) -> None:
    table = tmp_path / f"grid.{suffix}"
    rows = [{"batch_size": 8, "name": "a,b"}, {"batch_size": 9, "name": ""}]
    csv = 'batch_size,name\n8,"a,b"\n9,\n'
    table.write_text(csv if suffix == "csv" else json.dumps(rows))
    found = runs(("seed", "1,2"), table=table)
    assert found == [{**row, "seed": seed} for row in rows for seed in (1, 2)]
    assert list(found[0]) == ["batch_size", "seed", "name"]  # the notebook's order


@pytest.mark.parametrize(
    ("given", "zipped", "message"),
    [
        ([("seed", "1,x")], False, r"'seed' is 'x'; it must be an integer.*seed=x"),
        ([("batch_size", "32,0")], False, "batch_size is 0; it must be .*batch_size=0"),
        ([("seed", "1,,2")], False, "'seed' is '1,,2', which has an empty value"),
        ([("seed", "")], False, "it must be an integer"),
        ([("seed", "9..0")], False, r"range 9\.\.0; it must go up"),
        ([("seed", "0..99999999")], False, "it must go up, in at most 1,000,000"),
        ([("epohcs", "1")], False, "unknown parameter 'epohcs'"),
        ([("results_path", "a")], False, "the sweep sets it itself"),
        ([("seed", "1"), ("seed", "2")], False, "'seed' is given twice"),
        ([("seed", "1,2"), ("batch_size", "1")], True, "seed has 2, batch_size has 1"),
        ([("seed", "0..9999"), ("batch_size", "1..999")], False, "9,990,000 runs"),
    ],
)
def test_invalid_values_are_rejected_with_the_run(
    given: list[tuple[str, str]], zipped: bool, message: str
) -> None:
    with pytest.raises(ParameterError, match=message):
        runs(*given, zipped=zipped)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("grid.csv", b"seed,batch_size\n1\n", "line 2: it must have as many values"),
        ("grid.csv", b"seed\n1,2\n", "line 2: it must have as many values"),
        ("grid.csv", b"seed\n", "has no run"),
        ("grid.csv", b"seed\n\xff\n", "not UTF-8"),
        ("grid.json", b"[1]", "must hold a list of objects"),
        ("grid.json", b"[{", "is not JSON"),
        ("grid.json", b'[{"seed": [1]}]', "'seed' is \\[1\\]; it must be an integer"),
        ("grid.txt", b"seed\n1\n", "neither .csv nor .json"),
    ],
)
def test_invalid_table_is_rejected(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        runs(table=tmp_path / name)


def test_parameter_in_table_and_list_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "grid.csv").write_text("seed\n1\n")
    with pytest.raises(ParameterError, match=r"'seed' is in .* and given by -p"):
        runs(("seed", "1"), table=tmp_path / "grid.csv")
