"""The causes of section 06: measured from pairs that hold the same bits."""

import ast
import inspect
import math
import re
import textwrap
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvt
from kvt.compare import effects, parity, recipe
from kvt.compare import pairs as bases
from kvt.compare.effects import Effect
from kvt.compare.recipe import Recipe, Run, Settings, Training
from kvt.differences import causes, innocent
from kvt.differences.causes import CAUSES, Cause
from kvt.show import causes as show
from kvt.training.means import Mean

SETTINGS = Settings(epochs=2, batch_size=64, learning_rate=0.1, validation_split=0.25)
TRAIN_SIZE = 200  # 150 and 50: the last batch is partial in both
SEEDS = range(3, 5)
each_cause = pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.name)

_pairs: dict[str, bases.Baseline] = {}


@pytest.fixture(scope="module")
def pair() -> Callable[[str], bases.Baseline]:
    """Return a pair by name, trained once for all tests."""

    def get(name: str) -> bases.Baseline:
        if name not in _pairs:
            arguments = ("digits", TRAIN_SIZE, SETTINGS, SEEDS)
            _pairs[name] = bases.baseline(bases.BASES[name], *arguments)
        return _pairs[name]

    return get


def run(**changes: Any) -> Run:
    """A run of one weight, one epoch, two test examples of two classes."""
    weight = [np.zeros(1, "float32")]
    figures = {"loss": [1.0], "val_loss": [2.0], "accuracy": [0.5]}
    outputs = np.array([[0.9, 0.1], [0.2, 0.8]], "float32")
    plain = Run(weight, 1.0, weight, [weight], figures, {"loss": 3.0}, outputs)
    return replace(plain, **changes)


NOTHING = Effect(0, 0, 0, 0, 0, 0, 0)


# The table


@each_cause
def test_a_cause_says_everything_that_the_notebook_shows(cause: Cause) -> None:
    for name in ("name", "symptom", "why", "tell", "fix", "needs"):
        text = getattr(cause, name)
        assert text.strip() == text != ""
    assert len(cause.name) <= 26  # or the figure has no room for the marks
    assert re.fullmatch(r"[\w -]+", cause.name)  # its heading is linked to
    for prose in (cause.why, cause.tell, cause.fix):
        assert prose.endswith((".", ".)")), prose
        assert prose.count("`") % 2 == 0
    assert cause.threads
    for url in cause.threads:
        assert re.fullmatch(
            r"https://github\.com/[\w.-]+/[\w.-]+/(issues|pull)/[1-9]\d*", url
        )


@each_cause
def test_a_variant_fits_the_part_that_it_replaces(cause: Cause) -> None:
    default = getattr(bases.BASES[cause.base].recipe, cause.part)
    assert cause.variant is not default
    names = [list(inspect.signature(f).parameters) for f in (default, cause.variant)]
    assert names[0] == names[1]


@each_cause
def test_both_variants_can_be_read_side_by_side(cause: Cause) -> None:
    default = getattr(bases.BASES[cause.base].recipe, cause.part)
    for function in (default, cause.variant):
        lines = show.plainly(function).splitlines()
        assert len(lines) <= 12
        assert max(map(len, lines)) <= 68
        assert lines[1].startswith('    """')  # what it does, in a sentence


def test_no_cause_is_there_twice() -> None:
    assert len({cause.name for cause in CAUSES}) == len(CAUSES)
    assert len({(cause.part, cause.variant, cause.base) for cause in CAUSES}) == len(
        CAUSES
    )


def test_every_part_of_a_recipe_is_exchanged_by_some_cause() -> None:
    parts = {field.name for field in fields(Recipe)} - {"predicted"}
    assert {cause.part for cause in CAUSES} == parts


def test_every_pair_has_a_cause() -> None:
    assert {cause.base for cause in CAUSES} == bases.BASES.keys()


# The pairs


@st.composite
def trainings(draw: st.DrawFn) -> tuple[int, Settings]:
    """Draw what may be asked of the notebook, partial last batches and all."""
    train_size = draw(st.integers(4, 120))
    chosen = Settings(
        epochs=draw(st.integers(1, 3)),
        batch_size=draw(st.integers(1, train_size + 8)),
        learning_rate=draw(st.floats(0.001, 0.3)),
        validation_split=draw(st.integers(0, train_size // 2)) / train_size,
    )
    return train_size, chosen


@settings(max_examples=3)
@given(training=trainings(), seed=st.integers(0, 2**32 - 1))
def test_the_default_recipe_holds_keras_s_bits(
    training: tuple[int, Settings], seed: int
) -> None:
    train_size, chosen = training
    one = range(seed, seed + 1)
    # Raises where any bit differs.
    found = bases.baseline(bases.BASES["network"], "digits", train_size, chosen, one)
    assert list(found.runs) == [seed]


@pytest.mark.parametrize("name", bases.BASES)
def test_every_pair_is_equal_to_the_last_bit(
    name: str, pair: Callable[[str], bases.Baseline]
) -> None:
    found = pair(name)
    assert list(found.runs) == list(SEEDS)
    dtypes = {w.dtype.name for one in found.runs.values() for w in one.epochs[-1]}
    assert dtypes == {bases.BASES[name].dtype}
    for one in found.runs.values():
        assert not parity.same_bits(one.start, one.epochs[-1])  # it did learn


def test_the_loop_is_kvt_fit(pair: Callable[[str], bases.Baseline]) -> None:
    found = pair("network")
    examples, seed = found.examples, SEEDS[0]
    initial = found.starts[seed]
    model = Training(Recipe(), examples, found.settings, initial)
    model.begin(initial, seed)

    history = kvt.fit(
        model.train_step,
        model.test_step,
        examples.x_train,
        examples.y_train,
        epochs=SETTINGS.epochs,
        batch_size=SETTINGS.batch_size,
        validation_split=SETTINGS.validation_split,
        seed=seed,
        verbose=0,
    )

    assert history.history == found.runs[seed].history
    assert parity.same_bits(model.values(), found.runs[seed].epochs[-1])


def test_an_unequal_pair_is_refused_by_name() -> None:
    base = replace(bases.BASES["network"], recipe=Recipe(reduce=causes.total))
    with pytest.raises(bases.BaselineError) as refused:
        bases.baseline(base, "digits", 40, SETTINGS, range(1))
    assert "network, seed 0" in str(refused.value)
    assert "the first batch's loss, weights after one step" in str(refused.value)
    assert "initial weights" not in str(refused.value)


def test_no_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 is needed"):
        bases.baseline(bases.BASES["line"], "digits", 0, SETTINGS, range(0))


@given(
    st.lists(
        st.tuples(st.floats(0, 100, width=32), st.integers(1, 128)),
        min_size=1,
        max_size=20,
    ),
    st.sampled_from(["float32", "float64"]),
)
def test_means_are_those_of_kvt_fit(
    batches: list[tuple[float, int]], dtype: str
) -> None:
    values = [np.array(value, dtype) for value, _ in batches]
    hits = [np.arange(size).astype(dtype) % 2 for _, size in batches]
    mean = Mean()
    for value, hit in zip(values, hits, strict=True):
        mean.update({"loss": value, "accuracy": hit}, len(hit))

    sizes = [len(hit) for hit in hits]

    assert recipe.by_example(values, sizes) == mean.result()["loss"]
    assert recipe.by_example(hits, sizes) == mean.result()["accuracy"]


# Measuring

# Another process and XLA take seconds: they are measured where their section is run.
QUICK = [cause for cause in CAUSES if cause.part not in ("compile", "environment")]


@pytest.mark.parametrize("cause", QUICK, ids=lambda cause: cause.name)
def test_a_cause_changes_something(
    cause: Cause, pair: Callable[[str], bases.Baseline]
) -> None:
    found = effects.measure(cause, pair(cause.base))  # raises where nothing changes
    assert len(found) == len(SEEDS)
    figures = [value for one in found for value in vars(one).values()]
    assert any(figures) or cause.of_the_machine


def test_a_cause_without_effect_is_refused_by_name(
    pair: Callable[[str], bases.Baseline],
) -> None:
    idle = replace(CAUSES[0], name="Idle", variant=recipe.copied, needs="look closer")
    with pytest.raises(effects.NoEffectError) as refused:
        effects.measure(idle, pair("network"))
    assert "'Idle' changed no bit of 'network'" in str(refused.value)
    assert "look closer" in str(refused.value)


def test_only_a_cause_of_the_machine_may_show_nothing(
    pair: Callable[[str], bases.Baseline],
) -> None:
    idle = replace(CAUSES[0], variant=recipe.copied, of_the_machine=True)
    assert effects.measure(idle, pair("network")) == [NOTHING] * len(SEEDS)


def test_causes_of_the_machine_are_few() -> None:
    flagged = {cause.name for cause in CAUSES if cause.of_the_machine}
    assert flagged == {"Gradients gated", "Another processor"}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, NOTHING),
        ({"start": [np.float32([-2])]}, replace(NOTHING, start=2)),
        ({"first_loss": 0.5}, replace(NOTHING, first_loss=0.5)),
        ({"first": [np.float32([0.25])]}, replace(NOTHING, step=0.25)),
        ({"epochs": [[np.float32([np.nan])]]}, replace(NOTHING, end=math.inf)),
        (
            {"history": {"loss": [1.5], "val_loss": [4.0], "accuracy": [0.25]}},
            replace(NOTHING, loss=2.0, accuracy=25.0),
        ),
        (
            {"history": {"loss": [math.nan], "val_loss": [2.0], "accuracy": [0.5]}},
            replace(NOTHING, loss=math.inf),
        ),
        (
            {"predictions": np.float32([[0.4, 0.6], [0.3, 0.7]])},
            replace(NOTHING, otherwise=1),
        ),
    ],
)
def test_effects_of_runs_made_by_hand(
    changed: dict[str, Any], expected: Effect
) -> None:
    assert effects.effect(run(), run(**changed)) == expected


def test_a_model_without_accuracy_has_none_to_lose() -> None:
    one = run(history={"loss": [1.0]})
    found = effects.effect(one, one)
    assert found.accuracy is None
    assert found.otherwise is None


@pytest.mark.parametrize("name", ["start", "first_loss", "step", "end", "loss"])
def test_a_cause_belongs_where_it_shows_first(name: str) -> None:
    shows = replace(NOTHING, end=0.5, loss=0.5, accuracy=1.0)
    names = ["start", "first_loss", "step", "end", "loss"]
    place = effects.STAGES[names.index(name)]
    if name == "loss":
        shows = replace(shows, end=0.0)
    assert effects.stage([NOTHING, replace(shows, **{name: 0.5})]) == place


def test_what_stays_tiny_is_rounding_wherever_it_shows() -> None:
    tiny = Effect(0, 1e-7, 1e-8, 5e-6, 1e-7, 1e-6, 0)
    assert effects.stage([NOTHING, tiny]) == "by rounding only"


def test_first_batches_and_first_steps_are_rounding_until_they_are_not() -> None:
    late = Effect(0, 1e-7, 1e-8, 0.1, 0.1, 1.0, 3)
    assert effects.stage([late]) == "in later weights"


# Another process


def test_a_variable_of_the_environment_starts_another_process(
    pair: Callable[[str], bases.Baseline], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = pair("line")
    there = replace(found.base.recipe, environment=lambda: {"KVT_HERE": "no"})
    tasks = []
    answer = recipe._elsewhere
    monkeypatch.setattr(
        recipe, "_elsewhere", lambda *task: tasks.append(task) or answer(*task)
    )
    runs = recipe.runs(there, found.examples, found.settings, found.starts)
    assert [task[0] for task in tasks] == [{"KVT_HERE": "no"}]
    for seed in SEEDS:
        assert bases.differing(found.runs[seed], runs[seed]) == []


def test_a_process_that_fails_says_why(
    pair: Callable[[str], bases.Baseline], tmp_path: Path
) -> None:
    found = pair("line")
    (tmp_path / "tensorflow.py").write_text("raise ImportError('a broken one')")
    with pytest.raises(RuntimeError, match="ImportError: a broken one"):
        recipe._elsewhere(
            {"PYTHONPATH": str(tmp_path)},
            found.base.recipe,
            found.examples,
            found.settings,
            found.starts,
        )


# The innocent


@pytest.mark.parametrize("suspect", innocent.INNOCENT, ids=lambda one: one.name)
def test_an_innocent_switch_changes_no_bit(
    suspect: innocent.Suspect, pair: Callable[[str], bases.Baseline]
) -> None:
    assert bool(suspect.part) != bool(suspect.options)
    effects.acquit(suspect, pair("network"))  # raises where anything changes


def test_a_guilty_switch_is_found_out(pair: Callable[[str], bases.Baseline]) -> None:
    for guilty in (
        innocent.Suspect("Mean", "", "mean", causes.by_batch),
        innocent.Suspect("Loss weight", "", options={"loss_weights": [2.0]}),
    ):
        with pytest.raises(effects.EffectError, match=guilty.name):
            effects.acquit(guilty, pair("network"))


# What is shown


def sample(value: int, other: dict[str, int]) -> list[int]:  # of a test
    """Do nothing of note."""
    # a reason
    return [value, *other.values()]


def test_types_are_left_out_and_nothing_else() -> None:
    assert show.plainly(sample) == (
        "def sample(value, other):\n"
        '    """Do nothing of note."""\n'
        "    # a reason\n"
        "    return [value, *other.values()]"
    )


@each_cause
def test_what_is_shown_is_what_is_run(cause: Cause) -> None:
    source = textwrap.dedent(inspect.getsource(cause.variant))
    (run,), (shown,) = (
        ast.parse(text).body for text in (source, show.plainly(cause.variant))
    )
    assert [ast.dump(line) for line in shown.body] == [
        ast.dump(line) for line in run.body
    ]
    assert [one.arg for one in shown.args.args] == [one.arg for one in run.args.args]


def test_an_entry_in_the_table_is_enough_to_be_shown(
    pair: Callable[[str], bases.Baseline],
) -> None:
    new = replace(CAUSES[0], name="A new cause", symptom="something new")
    table = (CAUSES[0], new)
    measured = {one.name: effects.measure(one, pair(one.base)) for one in table}

    assert "A new cause" in show.ranking(measured).svg
    rows = show.symptoms(table, measured).rows
    (row,) = (row for row in rows if "something new" in row)
    assert row[2] == f"[A new cause]({show.NOTEBOOK}#A-new-cause)"
    text = show.describe(new, pair("network"), measured["A new cause"]).text
    assert text.startswith("### A new cause\n")
    assert "```python equal to Keras\ndef copied(initial, seed):" in text
    assert "```python A new cause\ndef drawn_again(initial, seed):" in text
    assert "[keras#3654](https://github.com/keras-team/keras/issues/3654)" in text


def sizes(effect: Effect, *, cause: Cause = CAUSES[0]) -> dict[str, str]:
    return {
        name: show._size(cause, [effect] * 3, name)[0]
        for name in ("step", "end", "loss", "accuracy", "otherwise")
    }


def test_two_digits_are_shown() -> None:
    effect = Effect(0, 0, 0.01234, 1.987, 296.1, 28.27, 128)
    assert sizes(effect) == {
        "step": "0.012",
        "end": "2",
        "loss": "300",
        "accuracy": "28",
        "otherwise": "130",
    }


def test_rounding_is_told_from_zero_only_where_every_processor_does() -> None:
    rounding = Effect(0, 0, 0, 3e-8, 0, 0.0, 0)
    assert sizes(rounding)["end"] == sizes(rounding)["loss"] == "< 1e-5"
    figures = Effect(0, 0, 0, 0, 3e-8, 0.0, 0)
    assert sizes(figures)["end"] == "0"
    of_machine = replace(CAUSES[0], of_the_machine=True)
    assert sizes(figures, cause=of_machine)["end"] == "< 1e-5"
    later = Effect(0, 0, 0, 0.2, 0.1, 3.0, 5)
    assert sizes(later)["step"] == "0"


def test_what_is_not_a_number_is_called_so_and_no_accuracy_is_left_out() -> None:
    assert sizes(Effect(0, 0, math.inf, 1, 1, None, None)) == {
        "step": "NaN",
        "end": "1",
        "loss": "1",
        "accuracy": "",
        "otherwise": "",
    }


def test_a_range_of_one_text_is_that_text() -> None:
    spread = [replace(NOTHING, loss=loss) for loss in (0.3, 0.1, 0.2)]
    assert show._size(CAUSES[0], spread, "loss") == ("0.2", "0.1 to 0.3")
    assert show._size(CAUSES[0], [spread[0]] * 2, "loss") == ("0.3", "0.3")
