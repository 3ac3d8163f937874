"""Chapter 09's causes: its own cells, run on few examples and read as they stand."""

import ast
import inspect
import linecache
import re
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from kvt import data
from kvt.compare import effects, pairs, parity
from kvt.compare.recipe import Recipe
from kvt.report import marks
from kvt.show import causes as show
from tests.notebooks import sections

NOTEBOOK = "09_why_results_differ"
CELLS = sections.cells(NOTEBOOK)
SMALL = {
    "train_size": 200,  # 150 and 50: the last batch is partial in both
    "epochs": 2,
    "batch_size": 64,
    "seed": 3,
    "seeds": 2,
}
# XLA takes seconds: nbval measures it when it runs the notebook.
SLOW = {"XLA"}
GROUPS = [
    "Initial weights",
    "Inputs and targets",
    "Batches",
    "Forward pass",
    "Loss",
    "Update",
    "Metrics",
]


def call_of(cell: dict[str, Any]) -> ast.Call | None:
    """Return the call of `measure` that a cell ends on, if it does."""
    if cell["cell_type"] != "code":
        return None
    last = ast.parse(cell["source"]).body[-1]
    call = last.value if isinstance(last, ast.Expr) else None
    if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "measure":
        return call
    return None


# name -> the number of its cell, and its call of measure
MEASURED = {
    call.args[0].value: (number, call)
    for number, cell in enumerate(CELLS)
    if (call := call_of(cell))
}
RUN = [name for name in MEASURED if name not in SLOW]
each_cause = pytest.mark.parametrize("name", MEASURED)
each_cause_run = pytest.mark.parametrize("name", RUN)


def heading(number: int) -> str:
    return CELLS[number]["source"].split("\n")[0]


@pytest.fixture(scope="module")
def namespace() -> dict[str, Any]:
    """Return what the notebook's cells define and measure with few examples."""
    found: dict[str, Any] = {"__name__": NOTEBOOK}
    slow = {MEASURED[name][0] for name in SLOW}
    for number, cell in enumerate(CELLS):
        if cell["cell_type"] == "code" and number not in slow:
            name = f"<{NOTEBOOK}, cell {number}>"
            # As in a kernel, the source of a cell's functions can be read.
            lines = cell["source"].splitlines(keepends=True)
            linecache.cache[name] = (len(cell["source"]), None, lines, name)
            exec(compile(cell["source"], name, "exec"), found)
            if "parameters" in cell["metadata"].get("tags", ()):
                found |= SMALL
    return found


@pytest.fixture(scope="module")
def catalog(namespace: dict[str, Any]) -> dict[str, effects.Cause]:
    """Return the causes that the notebook measured, by name."""
    return namespace["catalog"]


# The cells as they stand


def test_there_are_37_causes() -> None:
    assert len(MEASURED) == 37
    cells = [cell for cell in CELLS if call_of(cell)]
    assert len(cells) == 37  # no name twice
    for notebook in (NOTEBOOK, "13_comparison"):
        texts = [cell["source"] for cell in sections.cells(notebook)]
        assert any("37 causes" in text for text in texts), notebook


@each_cause
def test_a_cause_is_a_heading_its_code_and_its_explanation(name: str) -> None:
    number, call = MEASURED[name]
    assert heading(number - 1) == f"### {name}"
    assert re.fullmatch(r"[\w -]+", name)  # the table of symptoms links to it
    text = CELLS[number + 1]["source"]
    found = re.findall(r"^\*\*(.+?)\.\*\* (.+)$", text, re.MULTILINE)
    assert [title for title, _ in found] == ["Why", "How to tell", "Fix", "Threads"]
    for _, prose in found:
        assert prose.endswith((".", ".)"))
        assert prose.count("`") % 2 == 0
    threads = re.findall(r"\[([\w.-]+#\d+)\]\((.+?)\)", found[-1][1])
    assert threads
    for short, url in threads:
        repository, thread = short.split("#")
        assert re.fullmatch(
            rf"https://github\.com/[\w.-]+/{re.escape(repository)}/(issues|pull)/{thread}",
            url,
        )
    symptom = next(word.value for word in call.keywords if word.arg == "symptom")
    assert symptom.value.strip() == symptom.value != ""


@each_cause
def test_a_cause_s_cell_defines_the_function_that_it_measures(name: str) -> None:
    number, call = MEASURED[name]
    function, expression = ast.parse(CELLS[number]["source"]).body
    assert isinstance(function, ast.FunctionDef)
    assert isinstance(expression, ast.Expr)
    parts = [word for word in call.keywords if word.arg in PARTS]
    assert [word.value.id for word in parts] == [function.name]
    assert ast.get_docstring(function)


def test_causes_are_grouped_by_where_they_strike() -> None:
    group, found = "", {}
    for number, cell in enumerate(CELLS):
        if cell["source"].startswith("## "):
            group = heading(number).removeprefix("## ")
        if call_of(cell):
            found.setdefault(group, []).append(number)
    assert list(found) == GROUPS


PARTS = [field.name for field in fields(Recipe)]


def test_the_table_of_parts_has_them_all_in_order() -> None:
    (text,) = (c["source"] for c in CELLS if c["source"].startswith("### Parts of a"))
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == PARTS


def test_every_part_of_a_recipe_is_exchanged_by_some_cause() -> None:
    words = {word.arg for _, call in MEASURED.values() for word in call.keywords}
    assert words & set(PARTS) == set(PARTS) - {"predicted"}


def test_every_pair_has_a_cause() -> None:
    used = {
        word.value.value
        for _, call in MEASURED.values()
        for word in call.keywords
        if word.arg == "on"
    }
    assert used | {"network"} == pairs.PAIRS.keys()


# The cells, run


@each_cause_run
def test_a_cause_changes_something(
    name: str, catalog: dict[str, effects.Cause]
) -> None:
    cause = catalog[name]  # measure has raised where nothing changes
    assert len(cause.effects) == SMALL["seeds"]
    assert cause.of_the_machine or any(
        value for one in cause.effects for value in vars(one).values()
    )


@each_cause_run
def test_a_cause_fits_the_part_that_it_replaces(
    name: str, catalog: dict[str, effects.Cause]
) -> None:
    cause = catalog[name]
    keras = getattr(cause.equal.pair.recipe, cause.part)
    assert cause.function is not keras
    names = [list(inspect.signature(f).parameters) for f in (keras, cause.function)]
    assert names[0] == names[1]


@each_cause_run
def test_keras_s_part_is_shown_beside_the_cause(
    name: str, catalog: dict[str, effects.Cause]
) -> None:
    cause = catalog[name]
    text = show.effect(cause).text
    keras = getattr(cause.equal.pair.recipe, cause.part)
    assert text.startswith(f"```python equal to Keras\ndef {keras.__name__}(")
    shown = text.split("```")[1].splitlines()[1:]
    assert len(shown) <= 12
    assert max(map(len, shown)) <= 68
    stored = CELLS[MEASURED[name][0]]["outputs"][0]["data"]["text/markdown"]
    assert "".join(stored).split("```")[1] == text.split("```")[1]


@each_cause_run
def test_no_seed_lets_a_cause_of_rounding_grow(
    name: str, catalog: dict[str, effects.Cause]
) -> None:
    # What the text under the ranking says: a real cause is 1e-4 or more.
    one = catalog[name]
    worst = max(max(e.loss, (e.accuracy or 0) / 100) for e in one.effects)
    rounding = effects.stage(one.effects) == effects.STAGES[-1]
    assert rounding == (worst < effects.ROUNDING)


def test_few_causes_may_show_nothing() -> None:
    flagged = {
        name
        for name, (_, call) in MEASURED.items()
        if any(word.arg == "of_the_machine" for word in call.keywords)
    }
    assert flagged == {"Gated gradients"}


def test_added_cells_are_enough_to_be_ranked_and_listed(
    namespace: dict[str, Any],
) -> None:
    def reversed_rows(y: Any) -> Any:
        return y[::-1]

    catalog = dict(namespace["catalog"])
    new = effects.measure(
        "A new cause",
        namespace["pairs"]["network"],
        targets=reversed_rows,
        symptom="something new",
    )
    catalog["A new cause"] = new
    ranked = [row[0] for row in show.ranking(catalog.values()).rows]
    assert f"[A new cause]({NOTEBOOK}.ipynb#A-new-cause)" in ranked
    cards = re.findall(r"^- .+$", show.cards(catalog.values()).text, re.MULTILINE)
    assert len(cards) == len(catalog)
    (card,) = (card for card in cards if "something new" in card)
    assert card.startswith(f"- [A new cause]({NOTEBOOK}.ipynb#A-new-cause) something")


# The causes of the first screen


def opening_program() -> str:
    """Return the raw program that opens the report."""
    cells = sections.cells("03_feedforward_network")
    (cell,) = (one for one in cells if {"start", "tf2"} <= sections.tags(one))
    return "\n".join(marks.without(cell["source"]).splitlines()[1:])


def train(source: str) -> list[Any]:
    """Train the program on a few digits; return its weights after each epoch."""
    digits = data.load("digits", train_size=200)
    shapes = (784, 32), (32,), (32, 10), (10,)
    draw = np.random.default_rng(0).standard_normal
    names: dict[str, Any] = {
        "tf": tf,
        "np": np,
        "x_train": digits.x_train,
        "y_train": digits.y_train,
        "n": 200,
        "order": data.example_order(200, 0),
        "initial_weights": [0.1 * draw(shape).astype("float32") for shape in shapes],
        "epochs": 2,
        "batch_size": 64,
        "learning_rate": 0.1,
        "tf2_weights": [],
        "tf2_losses": [],
    }
    exec(compile(source, "the program", "exec"), names)
    assert len(names["tf2_weights"]) == len(names["tf2_losses"]) == 2
    return names["tf2_weights"]


def test_each_changed_line_is_in_the_program_and_changes_what_it_learns(
    namespace: dict[str, Any],
) -> None:
    source = opening_program()
    expected = train(source)
    assert parity.same_bits(train(source), expected)
    assert len(namespace["program"]) == 6
    for name, (line, instead, _) in namespace["program"].items():
        changed = source
        pairs_of_lines = zip(line.splitlines(), instead.splitlines(), strict=True)
        for before, after in pairs_of_lines:
            assert [one.strip() for one in source.splitlines()].count(before) == 1, name
            changed = changed.replace(before, after)
        assert not parity.same_bits(train(changed), expected), name


def test_what_the_program_lacks_is_measured_on_a_pair_of_its_own(
    namespace: dict[str, Any],
) -> None:
    trails, others = namespace["trails"], namespace["others"]
    assert trails.keys() == namespace["program"].keys() | others.keys()
    assert {trails[name]["pair"] for name in namespace["program"]} == {"network"}
    for name, (*_, finding) in others.items():
        assert trails[name]["pair"] != "network"
        assert finding.startswith("Both sides ")


def test_the_five_checks_find_where_a_port_differs(
    namespace: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    x, y = namespace["digits"].x_train[:100], namespace["digits"].y_train[:100]

    class Equal(namespace["Port"]):  # type: ignore[misc]
        def epoch(self, x: Any, y: Any, batch_size: int) -> Any:
            losses = [
                self.step(x[i : i + batch_size], y[i : i + batch_size])
                for i in range(0, len(x), batch_size)
            ]
            sizes = [batch_size, len(x) - batch_size]
            total = np.float32(0)
            for loss, size in zip(losses, sizes, strict=True):
                total += loss.numpy() * np.float32(size)
            return float(total / np.float32(len(x)))

    class Halved(Equal):
        def loss(self, x: Any, y: Any) -> Any:
            return super().loss(x, y) / 2

    class Lost(Equal):
        def values(self) -> Any:
            return [2 * w for w in super().values()]

    model, learning_rate = namespace["network"](3), namespace["learning_rate"]
    initial = model.get_weights()
    for kind, passed in ((Equal, 5), (namespace["Port"], 3), (Halved, 1), (Lost, 0)):
        model.set_weights(initial)
        sgd = namespace["keras"].optimizers.SGD(learning_rate)
        model.compile(sgd, "categorical_crossentropy", jit_compile=False)
        namespace["first_difference"](model, kind(initial), x, y, 64)
        lines = capsys.readouterr().out.splitlines()
        assert [line.endswith(": equal") for line in lines[:passed]] == [True] * passed
        assert len(lines) == min(passed + 1, 5)
        assert passed == 5 or ": DIFFERENT, by " in lines[-1]


def test_no_switch_changes_a_bit(namespace: dict[str, Any]) -> None:
    # The cells have run, and raise if a switch changes anything.
    assert len(namespace["switches"]) == 8
    by_part = {key for switch in namespace["switches"].values() for key in switch}
    assert by_part <= {"keras", *PARTS}
    (text,) = (c["source"] for c in CELLS if c["source"].startswith("## Often"))
    assert text.count("\n- **") == len(namespace["switches"])


def test_links_within_the_chapter_lead_to_headings() -> None:
    sources = [cell["source"] for cell in CELLS if cell["cell_type"] == "markdown"]
    text = "\n".join(sources)
    anchors = {
        title.replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    }
    links = re.findall(rf"\({NOTEBOOK}\.ipynb#(.+?)\)", text)
    assert len(links) >= 4
    assert set(links) <= anchors
