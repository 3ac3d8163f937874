"""The errors of 2017: quotes are verbatim, replays have the errors, each has an effect.

`lines_of_2017.txt` identifies the lines of the 2017 notebook, in order and without
trailing spaces, by the first 16 digits of each line's SHA-256.
"""

import ast
import dataclasses
import hashlib
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvt import data
from kvt.compare import parity, replay
from kvt.compare.replay import MODELS, Parts
from tests.notebooks import errors, sections
from tests.notebooks.errors import NOTEBOOK, Shown

LINES = Path(__file__).with_name("lines_of_2017.txt").read_text().split()
SHOWN = errors.shown()
BY_HEADING = pytest.mark.parametrize("error", SHOWN, ids=lambda error: error.heading)
PRINTED = {
    "linear": "loss val_loss",
    "logistic": "loss acc val_loss val_acc",
    "feedforward": "loss acc val_loss val_acc",
    "convolutional": "loss acc val_loss val_acc",
}
Namespace = dict[str, Any]


def digest(line: str) -> str:
    return hashlib.sha256(line.rstrip().encode()).hexdigest()[:16]


def follow_each_other_in_2017(lines: Sequence[str]) -> bool:
    wanted, n = [digest(line) for line in lines], len(lines)
    return any(LINES[start : start + n] == wanted for start in range(len(LINES)))


def runs_of_lines(quote: str) -> list[list[str]]:
    """Split a quote where it leaves lines out."""
    return [part.strip("\n").split("\n") for part in quote.split("# …")]


# --- the quotes -----------------------------------------------------------------------


@pytest.mark.parametrize("quote", errors.quotes(), ids=lambda quote: quote.strip()[:30])
def test_quoted_lines_stood_in_2017_as_they_are_quoted(quote: str) -> None:
    for lines in runs_of_lines(quote):
        assert follow_each_other_in_2017(lines), lines


def test_changed_reordered_and_reindented_lines_are_noticed() -> None:
    seed = ["import numpy as np", "np.random.seed(1)"]
    assert follow_each_other_in_2017(seed)
    assert not follow_each_other_in_2017(seed[::-1])
    assert not follow_each_other_in_2017(["np.random.seed(2)"])
    assert not follow_each_other_in_2017([f" {line}" for line in seed])


def test_all_errors_are_shown_and_no_heading_twice() -> None:
    headings = [error.heading for error in SHOWN]
    assert len(headings) == len(set(headings)) >= 26
    assert len(errors.quotes()) == len(SHOWN) + 2  # the loop, and a printed line


@BY_HEADING
def test_correction_differs_from_the_quote_and_is_python(error: Shown) -> None:
    assert error.quote != error.corrected
    if not error.quote.startswith("In ["):
        for lines in runs_of_lines(error.corrected):
            code = textwrap.dedent("\n".join(lines))
            ast.parse(code + "\n    pass" if code.endswith(":") else code)


@BY_HEADING
def test_error_is_measured_and_explained(error: Shown) -> None:
    cells = {cell["id"]: cell for cell in sections.cells(NOTEBOOK) if "id" in cell}
    assert error.code
    outputs = cells[error.code[-1]]["outputs"]
    (table,) = (
        "".join(output["data"]["text/markdown"])
        for output in outputs
        if output["output_type"] == "execute_result"
    )
    assert table.startswith("|  | 2017 | corrected |\n| --- | ---: | ---: |\n| ")
    for row in table.split("\n")[2:]:
        _, before, after = row.strip("| ").split(" | ")
        assert before != after
    assert error.why.strip().startswith("**Why it is an error.** ")


# --- the notebook's own code ----------------------------------------------------------


@pytest.fixture(scope="module")
def ran() -> tuple[Namespace, dict[str, Any]]:
    """The notebook, run with fewer epochs and images: its names and its results.

    One cell is left out: it asserts what only the whole training shows.
    """
    namespace: Namespace = {"__name__": NOTEBOOK}
    results = {}
    for cell in sections.cells(NOTEBOOK):
        if cell["cell_type"] != "code" or cell["id"] == "truth":
            continue
        *statements, last = ast.parse(cell["source"]).body
        module = ast.Module(statements, [])
        if isinstance(last, ast.Expr):
            exec(compile(module, cell["id"], "exec"), namespace)
            last_value = compile(ast.Expression(last.value), cell["id"], "eval")
            results[cell["id"]] = eval(last_value, namespace)
        else:
            exec(compile(cell["source"], cell["id"], "exec"), namespace)
        if cell["id"] == "examples":
            namespace["examples"]["convolutional"] = examples("convolutional", 160)
        if cell["id"] == "runs":
            namespace["EPOCHS"] |= dict.fromkeys(("logistic", "feedforward"), 2)
    return namespace, results


@pytest.fixture(scope="module")
def namespace(ran: tuple[Namespace, Any]) -> Namespace:
    return ran[0]


@pytest.fixture(scope="module")
def results(ran: tuple[Any, dict[str, Any]]) -> dict[str, Any]:
    return ran[1]


def examples(model: str, n: int) -> data.Data:
    if model == "linear":
        return data.line(n, seed=0)
    shape = (28, 28, 1) if model == "convolutional" else (784,)
    return data.load("digits", train_size=n, image_shape=shape)


def test_errors_of_the_training_are_recorded_under_their_headings(
    namespace: Namespace,
) -> None:
    headings = [error.heading for error in SHOWN]
    assert list(namespace["errors"]) == headings[: len(namespace["errors"])]
    for error in SHOWN[: len(namespace["errors"])]:
        sources = [
            cell["source"]
            for cell in sections.cells(NOTEBOOK)
            if cell.get("id") in error.code
        ]
        assert any(f'"{error.heading}"' in source for source in sources)


def test_replay_has_every_error_and_without_one_its_correction(
    namespace: Namespace,
) -> None:
    in_2017, corrected = namespace["in_2017"], namespace["corrected"]
    for name, (models, changed) in namespace["errors"].items():
        for model in models:
            wrong, right = in_2017(model), in_2017(model, without=[name])
            for part, value in changed.items():
                assert getattr(wrong, part) == value
                assert getattr(right, part) == getattr(corrected(model), part)
            assert dataclasses.replace(right, **changed) == wrong
        assert set(models) <= MODELS.keys()


def test_every_part_of_the_training_was_wrong_somewhere(namespace: Namespace) -> None:
    changed = [part for _, parts in namespace["errors"].values() for part in parts]
    assert set(changed) == {field.name for field in dataclasses.fields(Parts)}


def test_unknown_error_is_rejected(namespace: Namespace) -> None:
    with pytest.raises(ValueError, match="no error is called 'Anything else'; the err"):
        namespace["in_2017"]("linear", without=["Anything else"])


def test_error_without_effect_is_rejected(
    namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(namespace, "errors", {})

    def also_correct(n: int, batch_size: int) -> int:
        return replay.batches_of(n, batch_size)

    with pytest.raises(ValueError, match="the error changes none of: weights, train"):
        namespace["alone"]("Nothing", ["logistic"], train_range=also_correct)


def test_same_training_is_run_once(namespace: Namespace) -> None:
    run, parts = namespace["run"], MODELS["linear"]
    assert run("linear", parts) is run("linear", parts, seed=0)
    assert run("linear", parts) is not run("linear", parts, seed=1)


# --- the training of 2017 -------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "n", "training", "validation"),
    [
        ("linear", 100, 9, 20),
        ("logistic", 1_000, 7, 200),
        ("feedforward", 1_000, 7, 200),
    ],
)
def test_epoch_has_as_many_batches_as_in_2017(
    model: str, n: int, training: int, validation: int, namespace: Namespace
) -> None:
    parts = namespace["in_2017"](model)
    replayed = replay.train(parts, examples(model, n), epochs=1)
    assert replayed.training.updates == training
    assert replayed.validation.updates == validation
    assert replayed.training.visits.sum() == training * parts.batch_size
    assert replayed.validation.visits.sum() == validation * parts.batch_size
    assert replayed.validation.visits.min() > 0


def test_convolutional_epoch_has_as_many_batches_as_in_2017(
    namespace: Namespace,
) -> None:
    parts, random = namespace["in_2017"]("convolutional"), np.random.default_rng(0)
    last = parts.train_range(800, parts.batch_size)
    worked = [index for index in range(800) if not parts.stop(index, last)]
    assert len(worked) == 26
    assert parts.validation_range(200, parts.batch_size) == 200
    batches = [parts.draw(n, np.arange(800), 32, random) for n in worked]
    assert {len(set(batch)) for batch in batches} == {32}
    assert len(set(np.concatenate(batches))) < 800


@pytest.mark.parametrize(
    ("model", "count"),
    [
        ("linear", 2),
        ("logistic", 7_850),
        ("feedforward", 25_408),
        ("convolutional", 3_274_634),
    ],
)
def test_models_have_as_many_parameters_as_in_2017(
    model: str, count: int, namespace: Namespace
) -> None:
    net = replay.build(namespace["in_2017"](model), examples(model, 70))
    assert sum(w.shape.num_elements() for w in net.variables) == count


def test_validation_that_only_measures_changes_no_weight(namespace: Namespace) -> None:
    few, parts = examples("logistic", 1_000), namespace["in_2017"]("logistic")
    measuring = dataclasses.replace(parts, validate=replay.only_measure)
    once = dataclasses.replace(measuring, validation_range=replay.batches_of)
    runs = [replay.train(one, few, epochs=1) for one in (parts, measuring, once)]
    assert not parity.same_bits(runs[0].weights, runs[1].weights)
    assert parity.same_bits(runs[1].weights, runs[2].weights)
    assert [one.validation.updates for one in runs] == [200, 0, 0]


def test_first_two_errors_make_the_validation_accuracy(results: dict[str, Any]) -> None:
    accuracies = {name: float(value) for name, _, value in results["which-table"].rows}
    everything = accuracies.pop("none; or all of them")
    blamed = list(accuracies)[:2]
    assert blamed == ["The optimizer runs in validation", "Validation once per example"]
    others = [accuracies[name] for name in accuracies if name not in blamed]
    assert max(accuracies[name] for name in blamed) < 0.95 < min(everything, *others)


def test_replay_on_mnist_prints_what_2017_printed(
    mnist_path: Path, namespace: Namespace
) -> None:
    """No number can be equal, because the draws differ; all are near."""
    parts = namespace["in_2017"]("logistic")
    replayed = replay.train(parts, data.load("mnist"), epochs=10)
    for name, values in namespace["logistic_printed"].items():
        key = name.replace("acc", "accuracy")
        again = [epoch[key] for epoch in replayed.printed]
        assert again[: len(values)] == pytest.approx(values, rel=0.2, abs=0.06), name
    accuracy = replayed.printed[-1]["val_accuracy"]
    assert accuracy > 0.95 > 0.8 > replayed.test["accuracy"]


# --- what 2017 printed ----------------------------------------------------------------


@pytest.mark.parametrize(("model", "names"), PRINTED.items())
def test_printed_numbers_are_those_of_2017(
    model: str, names: str, namespace: Namespace
) -> None:
    """The last line is cut off: what is left of it is one of its beginnings."""
    cell = next(
        cell["source"]
        for cell in sections.cells(NOTEBOOK)
        if cell.get("id") == f"printed-{model}-table"
    )
    (numbers,) = re.findall(r'"""\n(.*?)\n"""', cell, re.DOTALL)
    rows = [line.split() for line in numbers.split("\n")]
    lines = []
    for epoch, row in enumerate(rows):
        pairs = zip(names.split(), row, strict=False)
        line = " - ".join(f"{name}: {number}" for name, number in pairs)
        lines += [f"Epoch: {epoch + 1}/10", line]
    assert len(rows) == 10
    missing = names.split()[len(rows[-1]) :]
    ends = "".join(f" - {name}: " for name in missing[:1])
    endings = [lines[-1] + ends[:n] for n in range(len(ends) + 1)]
    assert any(follow_each_other_in_2017([*lines[:-1], end]) for end in endings)

    values = namespace[f"{model.replace('-', '_')}_printed"]
    columns = dict(
        zip(names.split(), map(list, zip(*rows[:9], strict=True)), strict=True)
    )
    assert list(values) == names.split()
    for name, column in columns.items():
        assert values[name][:9] == [float(number) for number in column]


def test_table_leaves_out_what_is_missing(results: dict[str, Any]) -> None:
    table = results["printed-logistic-table"]
    assert table.header[:3] == ["epoch", "loss, 2017", "loss, replay"]
    assert table.header[-2:] == ["val_acc, 2017", "val_acc, replay"]
    assert table.rows[0][1::2] == ["2.244", "0.617", "0.955", "0.891"]
    assert "" not in table.rows[1]
    assert table.rows[9] == ["10", "0.656", "", "0.805", "", "", "", "", ""]


def test_cells_are_numbered_as_in_2017(namespace: Namespace) -> None:
    heads = {digest(f"In [{n}]:"): n for n in (None, *range(1, 1_000))}
    assert namespace["numbers"] == [heads[line] for line in LINES if line in heads]


def test_lines_that_are_searched_for_names_are_those_of_2017(
    namespace: Namespace,
) -> None:
    lines = namespace["CELLS_2017"].strip().split("\n")
    assert len(lines) == 15
    place = 0
    for line in lines:
        place = LINES.index(digest(line), place) + 1  # raises where it is not found


# --- small effects --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "rows"),
    [
        ("bar-measured", [["counted", "80", "16"], ["worked", "17", "16"]]),
        (
            "names-measured-2",
            [
                [
                    "names not defined when they are read",
                    "sys, time, num_classes",
                    "none",
                ]
            ],
        ),
        ("overwritten-measured", [["run again", "640", "800"]]),
        (
            "order-measured",
            [
                ["number of the first cell", "3", "1"],
                ["steps back in time", "5", "0"],
                ["cells never run", "1", "0"],
            ],
        ),
        ("seed-measured", [["two runs start with the same weight", "no", "yes"]]),
        ("default-epochs-measured", [["epochs", "1", "10"]]),
        ("no-accuracy-measured", [["metrics of an epoch", "loss", "loss, accuracy"]]),
        (
            "command-measured",
            [
                ["the module exists", "no", "yes"],
                ["TensorBoard takes the argument", "no", "yes"],
            ],
        ),
        (
            "log-softmax-measured",
            [
                ["loss, right class ahead by 200", "nan", "0"],
                ["largest gradient there", "nan", "0"],
                ["loss, right class behind by 200", "inf", "200"],
            ],
        ),
    ],
)
def test_small_effects_are_what_the_text_says(
    cell: str, rows: list[list[str]], results: dict[str, Any]
) -> None:
    assert results[cell].rows == rows


def test_logits_that_are_near_give_the_same_loss(namespace: Namespace) -> None:
    losses = namespace["losses"]
    near = [namespace["far_logits"](loss) for loss in losses]
    assert near[0]["loss, right class ahead by 60"] == "0"
    assert near[1]["loss, right class ahead by 60"] == "0"


@pytest.mark.parametrize(
    ("cells", "missing"),
    [
        (["import a.b as c, d\nc, d\n"], []),
        (["a.b\n", "import a\n"], ["a"]),
        (["def f(x):\n    return x + y\n", "f(1)\n"], ["y"]),
        (["for i in range(3):\n    print(i, j)\nj = i\n"], []),
        (["z = q\nq = p\n", "p = z\n"], ["p"]),
        (["from a import b\nb, c, d, c\n"], ["c", "d"]),
    ],
)
def test_names_that_are_read_before_they_are_defined_are_found(
    cells: list[str], missing: list[str], namespace: Namespace
) -> None:
    assert namespace["unbound"](cells) == missing
