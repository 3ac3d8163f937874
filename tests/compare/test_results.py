"""The results JSON of a notebook."""

import copy
import hashlib
import json
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kvt
from kvt.compare import results
from kvt.compare.parity import Outcome, Parity

WEIGHTS = [np.float32([[0.5], [1.5]]), np.float32([1])]


def outcome() -> Outcome:
    """Return a training of two epochs that ended with `WEIGHTS`."""
    recorder = kvt.Recorder(lambda: WEIGHTS)
    recorder.weights = [[np.zeros(1)], WEIGHTS]
    recorder.epoch_seconds = [0.75, 0.25]
    history = kvt.History([0, 1], {"loss": [1.5, 0.1], "val_loss": [2.5, 0.0]})
    return Outcome(recorder, history, {"loss": 0.25}, np.zeros(1))


def arguments() -> dict[str, Any]:
    """Return the arguments that a notebook passes to `write`."""
    outcomes = {"keras": outcome(), "tf2": outcome()}
    return {
        "notebook": "01_line",
        "parameters": {"epochs": 2, "dtype": "float32", "results_path": "x.json"},
        "data": {
            "name": "line",
            "sha256": "ab",
            "train": 8,
            "validation": 2,
            "test": 1,
        },
        "dialects": results.dialects(outcomes, "01_linear_regression"),
        "parity": {"tf2": Parity([0.0, 1e-8], [0, 1], history_equal=True)},
        "speed": {
            "keras": {"graph": {"examples": 8, "epoch_seconds": [0.5, 0.25]}},
            "tf2": {"epoch": {"examples": 8, "epoch_seconds": [0.5, 0.125]}},
        },
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Results that were written."""
    results.write(str(tmp_path / "run.json"), **arguments())
    return tmp_path / "run.json"


@pytest.fixture
def document(path: Path) -> dict[str, Any]:
    return results.read(path)


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Visit every leaf of a document."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, one in items:
            yield from places(one, (*place, key))
    else:
        yield place


def changed(document: dict[str, Any], place: tuple[Any, ...], new: Any) -> Any:
    """Return a copy with another value in one place."""
    document = copy.deepcopy(document)
    inner: Any = document
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = new
    return document


# Writing and reading


def test_what_is_written_is_read(path: Path) -> None:
    given = arguments()
    read = results.read(path)
    assert read["notebook"] == "01_line"
    assert read["data"] == given["data"]
    assert read["dialects"] == given["dialects"]
    assert read["speed"] == given["speed"]
    assert read["parity"] == {
        "tf2": {
            "weights_max_abs": [0.0, 1e-8],
            "weights_max_ulp": [0, 1],
            "history_equal": True,
        }
    }
    assert read["versions"].keys() == {"python", "tensorflow", "keras", "numpy"}
    assert read["versions"]["python"] == platform.python_version()
    assert read["versions"]["numpy"] == np.__version__


def test_the_path_of_the_results_is_not_among_the_parameters(
    document: dict[str, Any],
) -> None:
    assert document["parameters"] == {"epochs": 2, "dtype": "float32"}


def test_a_dialects_results_count_and_hash_its_last_weights() -> None:
    dialect = arguments()["dialects"]["keras"]
    joined = np.float32([0.5, 1.5, 1]).tobytes()
    assert dialect == {
        "history": {"loss": [1.5, 0.1], "val_loss": [2.5, 0.0]},
        "test": {"loss": 0.25},
        "parameters": 3,
        "seconds": 1.0,
        "epoch_seconds": [0.75, 0.25],
        "lines": results.count_lines("01_linear_regression")["keras"],
        "weights_sha256": hashlib.sha256(joined).hexdigest(),
    }


def test_tensorflow_2_has_the_lines_of_the_whole_program_too() -> None:
    lines = results.count_lines("01_linear_regression")
    dialect = arguments()["dialects"]["tf2"]
    assert dialect["lines"] == lines["tf2"]
    assert dialect["program_lines"] == lines["program"]


def test_results_without_the_lines_of_a_whole_program_can_be_read(
    path: Path, document: dict[str, Any]
) -> None:
    del document["dialects"]["tf2"]["program_lines"]
    path.write_text(json.dumps(document))
    assert results.read(path) == document


def test_numbers_survive_to_the_last_bit(tmp_path: Path) -> None:
    given = arguments()
    values = [float(np.nextafter(np.float32(0.1), np.float32(1))), 5e-324]
    given["dialects"]["keras"]["history"]["loss"] = values
    results.write(str(tmp_path / "x.json"), **given)
    read = results.read(tmp_path / "x.json")
    assert read["dialects"]["keras"]["history"]["loss"] == values


def test_equal_results_are_equal_files(tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        results.write(str(tmp_path / name), **arguments())
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_missing_folders_are_created_and_no_other_file_is_left(tmp_path: Path) -> None:
    results.write(str(tmp_path / "new" / "folder" / "x.json"), **arguments())
    assert [p.name for p in (tmp_path / "new" / "folder").iterdir()] == ["x.json"]


def test_empty_path_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    results.write("", **arguments())
    assert list(tmp_path.iterdir()) == []


def test_empty_path_still_checks() -> None:
    with pytest.raises(ValueError, match=r"results\.notebook is 1"):
        results.write("", **{**arguments(), "notebook": 1})


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            lambda given: given["dialects"]["keras"]["test"].update(loss=float("nan")),
            ValueError,
            "results.dialects.keras.test.loss is nan; it must be finite",
        ),
        (
            lambda given: given["parameters"].update(learning_rate=float("inf")),
            ValueError,
            "not JSON compliant",
        ),
        (
            lambda given: given["parameters"].update(epochs=np.int64(2)),
            TypeError,
            "int64 is not JSON serializable",
        ),
        (
            lambda given: given["data"].pop("sha256"),
            ValueError,
            "results.data has name, train, validation, test; it must have exactly name",
        ),
    ],
)
def test_existing_results_survive_a_failing_write(
    path: Path, change: Any, error: type[Exception], message: str
) -> None:
    before, given = path.read_bytes(), arguments()
    change(given)
    with pytest.raises(error, match=message):
        results.write(str(path), **given)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_existing_results_survive_a_full_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_half(self: Path, text: str) -> None:
        with self.open("w") as file:
            file.write(text[:50])
        raise OSError("No space left on device")

    before = path.read_bytes()
    monkeypatch.setattr(Path, "write_text", write_half)
    with pytest.raises(OSError, match="No space left"):
        results.write(str(path), **arguments())
    assert path.read_bytes() == before


def test_folder_that_cannot_be_made_is_named(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(OSError, match=path.name):
        results.write(str(path / "below.json"), **arguments())
    assert path.read_bytes() == before


# The schema

WRONG = {
    ("notebook",): 1,
    ("parameters",): [],
    ("data",): None,
    ("data", "name"): 1,
    ("data", "train"): 8.0,
    ("data", "test"): True,
    ("dialects", "tf2"): "fast",
    ("dialects", "tf2", "history"): [],
    ("dialects", "tf2", "history", "loss"): 0.5,
    ("dialects", "tf2", "history", "loss", 1): 1,
    ("dialects", "keras", "history", "val_loss", 0): None,
    ("dialects", "keras", "history", "val_loss", 1): float("nan"),
    ("dialects", "keras", "test", "loss"): float("-inf"),
    ("dialects", "keras", "parameters"): 3.0,
    ("dialects", "keras", "seconds"): "1",
    ("dialects", "keras", "epoch_seconds"): {},
    ("dialects", "keras", "lines"): False,
    ("dialects", "tf2", "program_lines"): "60",
    ("dialects", "keras", "weights_sha256"): 0,
    ("parity", "tf2", "weights_max_abs", 0): 0,
    ("parity", "tf2", "weights_max_ulp", 1): 1.0,
    ("parity", "tf2", "history_equal"): 1,
    ("speed", "tf2"): 0.5,
    ("speed", "tf2", "epoch", "examples"): 8.0,
    ("speed", "tf2", "epoch", "epoch_seconds", 1): 1,
    ("versions", "keras"): 3.15,
}
KEYED = [
    (),
    ("data",),
    ("dialects", "keras"),
    ("parity", "tf2"),
    ("speed", "keras", "graph"),
]


def named(place: tuple[Any, ...]) -> str:
    """Return `results.data.name` or `results.epochs[0]`."""
    texts = [f"[{key}]" if isinstance(key, int) else f".{key}" for key in place]
    return "results" + "".join(texts)


@pytest.mark.parametrize("place", WRONG)
def test_wrong_value_is_named(
    path: Path, document: dict[str, Any], place: tuple[Any, ...]
) -> None:
    path.write_text(json.dumps(changed(document, place, WRONG[place])))
    with pytest.raises(ValueError, match="run the notebook again") as caught:
        results.read(path)
    assert f"{path} does not hold a notebook's results" in str(caught.value)
    assert f"{named(place)} is {WRONG[place]!r}; it must be " in str(caught.value)


@pytest.mark.parametrize("place", KEYED)
@pytest.mark.parametrize("change", ["missing", "unknown"])
def test_wrong_key_is_named(
    path: Path, document: dict[str, Any], place: tuple[Any, ...], change: str
) -> None:
    inner: Any = document
    for key in place:
        inner = inner[key]
    if change == "missing":
        inner.popitem()
    else:
        inner["extra"] = "1"
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match="it must have exactly") as caught:
        results.read(path)
    assert f"{named(place)} has {', '.join(inner)}; it must" in str(caught.value)


def test_results_without_the_speed_of_the_modes_are_rejected(
    path: Path, document: dict[str, Any]
) -> None:
    del document["speed"]
    path.write_text(json.dumps(document))
    with pytest.raises(
        ValueError, match=r"exactly .* parity, speed, versions; run the"
    ):
        results.read(path)


@pytest.mark.parametrize(
    ("place", "new"),
    [
        (("examples",), 0),
        (("epoch_seconds",), []),
        (("epoch_seconds",), [0.5]),
        (("epoch_seconds", 1), 0.0),
        (("epoch_seconds", 0), -0.5),
    ],
)
def test_a_mode_that_cannot_be_compared_is_rejected(
    path: Path, document: dict[str, Any], place: tuple[Any, ...], new: Any
) -> None:
    bad = changed(document, ("speed", "tf2", "epoch", *place), new)
    path.write_text(json.dumps(bad))
    with pytest.raises(
        ValueError, match=r"results\.speed\.tf2\.epoch is .* at least two"
    ):
        results.read(path)


@pytest.mark.parametrize(
    ("speed", "message"),
    [
        ({}, "results.speed.keras has no graph"),
        ({"keras": {}}, "results.speed.keras has no graph"),
        ({"jax": {}}, "results.dialects lacks jax of results.speed"),
    ],
)
def test_the_reference_of_the_modes_is_required(
    path: Path, document: dict[str, Any], speed: Any, message: str
) -> None:
    if "jax" in speed:
        speed = document["speed"] | speed
    path.write_text(json.dumps(document | {"speed": speed}))
    with pytest.raises(ValueError, match=message):
        results.read(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe{}"])
def test_a_file_with_other_content_is_named(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"run\.json does not hold a notebook's resu"):
        results.read(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.json"):
        results.read(tmp_path / "none.json")


# A folder of results


def test_a_folder_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("03_c", "01_a", "02_b"):
        given = {**arguments(), "notebook": name}
        results.write(str(tmp_path / f"{name}.json"), **given)
    (tmp_path / "note.txt").write_text("no results")
    read = results.read_all(str(tmp_path))
    assert [run["notebook"] for run in read] == ["01_a", "02_b", "03_c"]


def test_an_empty_name_stands_for_the_committed_run() -> None:
    committed = sorted(p.stem for p in results.COMMITTED.glob("0[1-4]_*.json"))
    assert [run["notebook"] for run in results.read_all("")] == committed
    assert "01_linear_regression" in committed
    assert "Not shuffled" in results.read_causes("")


@pytest.mark.parametrize("name", ["", "missing"])
def test_a_folder_without_results_is_named(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    with pytest.raises(FileNotFoundError, match="it must hold JSON files; run the"):
        results.read_all(str(folder))


def test_a_folder_with_a_broken_result_is_rejected(path: Path) -> None:
    (path.parent / "02_broken.json").write_text("{")
    with pytest.raises(ValueError, match=r"02_broken\.json does not hold"):
        results.read_all(str(path.parent))


# Causes, of 09

TRAIL = {
    "pair": "network",
    "weights": 3,
    "identical": [3, 1],
    "distance": [0.0, None],
    "keras_loss": [0.5],
    "keras_accuracy": [1.0],
    "changed_loss": [None],
    "changed_accuracy": [0.25],
    "line": "a = 1",
    "instead": "a = 2",
    "finding": "It diverges.",
}


def of_causes(**changed: Any) -> dict[str, Any]:
    kept = ("parameters", "data")
    shared = {name: one for name, one in arguments().items() if name in kept}
    causes = {"Sum": {**TRAIL, **changed}}
    return shared | {"notebook": "09_why", "causes": causes}


def test_causes_are_read_apart_from_models(path: Path) -> None:
    models = results.read_all(str(path.parent))
    assert results.read_causes(str(path.parent)) == {}
    results.write(str(path.parent / "09_why.json"), **of_causes())
    assert results.read_causes(str(path.parent)) == {"Sum": TRAIL}
    assert results.read_all(str(path.parent)) == models


def test_a_folder_of_causes_alone_has_no_model(tmp_path: Path) -> None:
    results.write(str(tmp_path / "09_why.json"), **of_causes())
    with pytest.raises(FileNotFoundError, match="it must hold JSON files"):
        results.read_all(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("weights", 3.0, "causes.Sum.weights is 3.0; it must be of type int"),
        ("identical", [3, "1"], r"causes.Sum.identical\[1\] is '1'"),
        ("more", 1, "causes.Sum has .*; it must have exactly"),
    ],
)
def test_causes_that_do_not_match_the_schema_are_not_written(
    tmp_path: Path, name: str, value: object, fault: str
) -> None:
    with pytest.raises(ValueError, match=fault):
        results.write(str(tmp_path / "09.json"), **of_causes(**{name: value}))
    assert not list(tmp_path.iterdir())


# Comparing


def test_equal_results_do_not_differ(document: dict[str, Any]) -> None:
    assert results.compare(document, copy.deepcopy(document)) == []


def test_only_times_and_versions_are_left_out(document: dict[str, Any]) -> None:
    ignored = set()
    for place in places(document):
        found = results.compare(document, changed(document, place, "another"))
        if not found:
            ignored.add(place)
            continue
        (line,) = found
        assert line.startswith(named(place).removeprefix("results.") + ": ")
        assert line.endswith(" against 'another'")
    assert ignored == {
        *(("versions", name) for name in ("python", "tensorflow", "keras", "numpy")),
        *(("dialects", name, "seconds") for name in ("keras", "tf2")),
        *(
            ("dialects", n, "epoch_seconds", e)
            for n in ("keras", "tf2")
            for e in (0, 1)
        ),
        *(
            ("speed", *mode, "epoch_seconds", e)
            for mode in (("keras", "graph"), ("tf2", "epoch"))
            for e in (0, 1)
        ),
    }


def test_the_last_bit_is_found(document: dict[str, Any]) -> None:
    place = ("dialects", "tf2", "history", "loss", 1)
    value = float(np.nextafter(0.1, 1))
    assert results.compare(document, changed(document, place, value)) == [
        f"dialects.tf2.history.loss[1]: 0.1 against {value!r}"
    ]


@pytest.mark.parametrize(
    ("one", "other"), [(1, 1.0), (1, True), (0.0, -0.0), ("1", 1), ([1], [1, 1])]
)
def test_values_that_are_merely_equal_differ(one: object, other: object) -> None:
    found = results.compare({"parameters": {"p": one}}, {"parameters": {"p": other}})
    assert found == [f"parameters.p: {one!r} against {other!r}"]


def test_missing_and_further_names_are_found(document: dict[str, Any]) -> None:
    other = copy.deepcopy(document)
    del other["dialects"]["tf2"]
    other["parameters"]["seed"] = None
    assert results.compare(document, other) == [
        "parameters.seed: only in the second",
        "dialects.tf2: only in the first",
    ]


# Lines of code


def test_lines_of_code_are_counted_by_dialect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = [
        (["setup"], "import kvt"),
        (["keras"], "# Keras · Model\n\nmodel = (  # (1)\n    # why\n    1\n)\n"),
        (["tf2"], "# TensorFlow 2 · Model\na = 1\nb = 2"),
        (["setup", "tf1"], "# TensorFlow 1 · Model\na = 1"),
        (["tf2"], "# TensorFlow 2 · Loss\nc = 3\n    \n\t# indented comment"),
        (["program"], "# The whole program\nimport tf\n\n\ntf.fit()"),
        ([], "untagged = 1"),
    ]
    cells = [
        {"metadata": {"tags": tags} if tags else {}, "source": [source]}
        for tags, source in sources
    ]
    (tmp_path / "05_new.ipynb").write_text(json.dumps({"cells": cells}))
    monkeypatch.setattr(results, "NOTEBOOKS", tmp_path)
    assert results.count_lines("05_new") == {
        "keras": 3,
        "tf2": 3,
        "tf1": 1,
        "program": 2,
    }
