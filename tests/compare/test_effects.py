"""Parts, pairs and effects: one training with one thing changed, against its twin."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import kvt
from kvt.compare import effects, pairs, parity, parts, recipe
from kvt.compare.effects import Effect
from kvt.compare.pairs import EqualPair
from kvt.compare.recipe import Recipe, Settings, Trained, Training
from kvt.training.means import Mean

pytestmark = pytest.mark.long

SETTINGS = Settings(epochs=2, batch_size=64, learning_rate=0.1, validation_split=0.25)
TRAIN_SIZE = 200  # 150 and 50: the last batch is partial in both
SEEDS = range(3, 5)
GetPair = Callable[[str], EqualPair]


def total(losses: Any, batch_size: int) -> Any:
    return tf.reduce_sum(losses)


def by_batch(values: list[Any], sizes: list[int]) -> float:
    return float(np.mean([value.mean() for value in values]))


def stored_order(n: int, batch_size: int, seed: int, epoch: int) -> Any:
    return parts.cut(np.arange(n), batch_size)


def idle(initial: Any, seed: int) -> Any:
    return initial


@pytest.fixture(scope="module")
def pair() -> GetPair:
    """Return a pair by name, trained once for all tests."""
    found: dict[str, EqualPair] = {}

    def get(name: str) -> EqualPair:
        if name not in found:
            arguments = ("digits", TRAIN_SIZE, SETTINGS, SEEDS)
            found[name] = pairs.prove_equal(name, *arguments)
        return found[name]

    return get


def run(**changes: Any) -> Trained:
    """A training of one weight, one epoch, two test examples of two classes."""
    weight = [np.zeros(1, "float32")]
    history = {"loss": [1.0], "val_loss": [2.0], "accuracy": [0.5]}
    outputs = np.array([[0.9, 0.1], [0.2, 0.8]], "float32")
    plain = Trained(weight, 1.0, weight, [weight], history, {"loss": 3.0}, outputs)
    return replace(plain, **changes)


NOTHING = Effect(0, 0, 0, 0, 0, 0, 0)


def test_predictions_come_from_a_second_pass_as_in_keras(pair: GetPair) -> None:
    # One pass would do, but for dropout left on: each pass draws other masks.
    training = pair("network").training
    calls: list[tuple[str, int]] = []

    def watched(weights: Any, x: Any, training: bool) -> Any:
        calls.append(("train" if training else "test", len(x)))
        return parts.dense(weights, x, training)

    changed = training.changed(forward=watched, compile=lambda step, signature: step)
    changed.run(SEEDS[0])
    n = len(training.examples.x_test)
    one_pass = [("test", len(b)) for b in parts.cut(np.arange(n), SETTINGS.batch_size)]
    held_back = [("test", 50)]
    assert calls[-2 * len(one_pass) - 1 :] == held_back + one_pass + one_pass


# The pairs


@st.composite
def trainings(draw: st.DrawFn) -> tuple[int, Settings]:
    """Draw what the notebook accepts, partial last batches included."""
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
def test_the_default_recipe_has_keras_s_bits(
    training: tuple[int, Settings], seed: int
) -> None:
    train_size, chosen = training
    one = range(seed, seed + 1)
    # Raises where any bit differs.
    found = pairs.prove_equal("network", "digits", train_size, chosen, one)
    assert list(found.trained) == [seed]


@pytest.mark.parametrize("name", pairs.PAIRS)
def test_every_pair_is_equal_to_the_last_bit(name: str, pair: GetPair) -> None:
    found = pair(name)
    assert list(found.trained) == list(SEEDS)
    dtypes = {w.dtype.name for one in found.trained.values() for w in one.epochs[-1]}
    assert dtypes == {pairs.PAIRS[name].dtype}
    for one in found.trained.values():
        assert not parity.same_bits(one.start, one.epochs[-1])  # it did learn


def test_the_loop_is_kvt_fit(pair: GetPair) -> None:
    found = pair("network")
    examples, seed = found.training.examples, SEEDS[0]
    initial = found.training.starts[seed]
    model = Training(Recipe(), examples, SETTINGS, {seed: initial})
    model.begin(initial, seed)

    history = kvt.fit(
        model.train_step,
        lambda x, y: model.test_step(x, y)[0],
        examples.x_train,
        examples.y_train,
        epochs=SETTINGS.epochs,
        batch_size=SETTINGS.batch_size,
        validation_split=SETTINGS.validation_split,
        seed=seed,
        verbose=0,
    )

    assert history.history == found.trained[seed].history
    assert parity.same_bits(model.values(), found.trained[seed].epochs[-1])


def test_an_unequal_pair_is_rejected_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    unequal = replace(pairs.PAIRS["network"], recipe=Recipe(reduce=total))
    monkeypatch.setitem(pairs.PAIRS, "network", unequal)
    with pytest.raises(parity.ParityError) as rejected:
        pairs.prove_equal("network", "digits", 40, SETTINGS, range(1))
    assert "network, seed 0" in str(rejected.value)
    assert "the first batch's loss, weights after one step" in str(rejected.value)
    assert "initial weights" not in str(rejected.value)


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

    assert parts.by_example(values, sizes) == mean.result()["loss"]
    assert parts.by_example(hits, sizes) == mean.result()["accuracy"]


# Changing one thing


def test_steps_are_compiled_again_only_for_parts_inside_them(pair: GetPair) -> None:
    training = pair("network").training
    assert training.changed(start=idle).train_step is training.train_step
    assert training.changed(reduce=total).train_step is not training.train_step


@pytest.mark.parametrize("part", sorted(recipe.OUTSIDE_STEPS))
def test_shared_steps_give_the_bits_of_compiled_ones(part: str, pair: GetPair) -> None:
    training, seed = pair("network").training, SEEDS[0]
    changes = {
        "start": lambda initial, seed: [w + w for w in initial],
        "split": lambda n, validation_split, seed: (np.arange(n), np.arange(0)),
        "batches": stored_order,
        "average": by_batch,
        "report": lambda logs, evaluate: evaluate(),
    }
    shared = training.changed(**{part: changes[part]})
    starts = {seed: training.starts[seed]}
    fresh = Training(shared.recipe, training.examples, SETTINGS, starts)
    assert pairs.differences(fresh.run()[seed], shared.run(seed)[seed]) == []
    # The pair's own training is as it was.
    before = pair("network").trained[seed]
    assert pairs.differences(before, training.run(seed)[seed]) == []


def test_a_cause_is_measured_for_every_seed(pair: GetPair) -> None:
    cause = effects.measure("Sum", pair("network"), reduce=total, symptom="large")
    assert (cause.name, cause.symptom, cause.part) == ("Sum", "large", "reduce")
    assert cause.function is total
    assert len(cause.effects) == len(SEEDS)
    assert all(one.loss > 1 for one in cause.effects)


def test_a_cause_without_effect_is_rejected_by_name(pair: GetPair) -> None:
    with pytest.raises(effects.NoEffectError) as rejected:
        effects.measure(
            "Idle", pair("network"), start=idle, symptom="none", needs="look closer"
        )
    assert "'Idle' changed no bit of 'network'" in str(rejected.value)
    assert "look closer" in str(rejected.value)


def test_a_cause_without_effect_says_what_to_compare(pair: GetPair) -> None:
    with pytest.raises(effects.NoEffectError, match="compare idle with the part"):
        effects.measure("Idle", pair("network"), start=idle, symptom="none")


def test_only_a_cause_of_the_machine_may_show_nothing(pair: GetPair) -> None:
    cause = effects.measure(
        "Idle", pair("network"), start=idle, symptom="none", of_the_machine=True
    )
    assert cause.effects == [NOTHING] * len(SEEDS)


@pytest.mark.parametrize("change", [{}, {"start": idle, "reduce": total}])
def test_a_cause_changes_exactly_one_part(
    change: dict[str, Any], pair: GetPair
) -> None:
    with pytest.raises(TypeError, match="exactly one part"):
        effects.measure("Several", pair("network"), symptom="none", **change)


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
            replace(NOTHING, predictions=1),
        ),
    ],
)
def test_effects_of_results_made_by_hand(
    changed: dict[str, Any], expected: Effect
) -> None:
    assert effects.effect(run(), run(**changed)) == expected


def test_a_model_without_accuracy_has_none_to_lose() -> None:
    one = run(history={"loss": [1.0]})
    found = effects.effect(one, one)
    assert found.accuracy is None
    assert found.predictions is None


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
    assert effects.stage([NOTHING, tiny]) == "as rounding only"


def test_first_batches_and_first_steps_are_rounding_until_they_are_not() -> None:
    late = Effect(0, 1e-7, 1e-8, 0.1, 0.1, 1.0, 3)
    assert effects.stage([late]) == "in later weights"


# Switches without effect


@pytest.mark.parametrize(
    "switch",
    [{"start": idle}, {"keras": {"run_eagerly": True}}],
)
def test_a_switch_without_effect_passes(switch: dict[str, Any], pair: GetPair) -> None:
    effects.verify_no_effect("Idle", pair("network"), **switch)


@pytest.mark.parametrize(
    "switch",
    [{"average": by_batch}, {"keras": {"loss_weights": [2.0]}}],
)
def test_a_switch_with_an_effect_is_found_out(
    switch: dict[str, Any], pair: GetPair
) -> None:
    with pytest.raises(parity.ParityError, match="'Guilty', seed 3, changed"):
        effects.verify_no_effect("Guilty", pair("network"), **switch)


# By epoch


def test_a_trail_begins_equal_and_counts_what_stays_so(pair: GetPair) -> None:
    equal = pair("network")
    same = effects.trail(equal, equal.training)
    assert same["identical"] == [same["weights"]] * 3
    assert same["distance"] == [0.0] * 3
    assert same["changed_loss"] == same["keras_loss"]
    assert same["keras_loss"] == equal.trained[SEEDS[0]].history["val_loss"]

    other = effects.trail(equal, equal.training.changed(batches=stored_order))
    assert other["identical"][0] == other["weights"] == 25_450
    assert 0 < other["identical"][1] < 25_450
    assert other["distance"][0] == 0 < other["distance"][1]
    assert other["changed_accuracy"] != other["keras_accuracy"]
    assert other["pair"] == "network"


def test_a_trail_has_no_number_that_json_has_not(pair: GetPair) -> None:
    def infinite(losses: Any, batch_size: int) -> Any:
        return tf.reduce_mean(losses) * np.inf

    equal = pair("network")
    found = effects.trail(equal, equal.training.changed(reduce=infinite))
    assert found["distance"][1:] == [None, None]
    assert found["changed_loss"] == [None, None]
    assert None not in found["keras_loss"]


def test_a_pair_is_proven_equal_for_more_epochs_too(pair: GetPair) -> None:
    equal = pair("network, Adam")
    longer = pairs.lasting(equal, epochs=3)
    seed = SEEDS[0]
    assert list(longer.trained) == [seed]
    assert longer.training.train_step is equal.training.train_step
    before, after = equal.trained[seed], longer.trained[seed]
    assert parity.same_bits(before.epochs, after.epochs[: SETTINGS.epochs])
    assert len(after.epochs) == 3
    assert equal.training.settings == replace(longer.training.settings, epochs=2)


def test_seeds_differ_by_their_last_metrics(pair: GetPair) -> None:
    equal = pair("network")
    found = effects.seeds_differ(equal)
    for name, unit in (("loss", 1), ("accuracy", 100)):
        spreads = [
            max(values) - min(values)
            for key in (name, f"val_{name}")
            for values in [[one.history[key][-1] for one in equal.trained.values()]]
        ]
        assert found[name] == pytest.approx(unit * max(spreads))
    assert list(effects.seeds_differ(pair("linear regression"))) == ["loss"]
