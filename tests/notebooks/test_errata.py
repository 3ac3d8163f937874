"""What holds for the replays of 2017, and for the errors that go into them."""

import dataclasses
import functools
import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow.compat.v1 as tf1

import kvt
from kvt import data
from kvt.compare import parity, replay
from kvt.compare.replay import MODELS, Parts, Replays
from kvt.differences import errata, errata_effects, errata_tables, printed_2017
from kvt.differences.errata import ERRATA, Erratum
from kvt.show import sources

TRAINING = [erratum for erratum in ERRATA if erratum.part]
PAIRS = [(e, model) for e in TRAINING for model in e.models]


@pytest.fixture(scope="module")
def replays() -> Replays:
    return Replays("digits")


def examples(model: str, n: int = 70) -> data.Data:
    if model == "line":
        return data.line(n, seed=0)
    shape = (28, 28, 1) if model == "convolutional" else (784,)
    return data.load("digits", train_size=n, image_shape=shape)


# --- the training ---------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_corrected_training_equals_fit_bit_for_bit(model: str) -> None:
    parts = dataclasses.replace(MODELS[model].parts, batch_size=replay.batch_of_32)
    few = examples(model)
    run = replay.train(parts, few, epochs=2, seed=5)

    net = replay.build(parts, few, seed=5)
    with tf1.Session(graph=net.graph) as session:
        session.run(net.init)
        history = kvt.fit(
            lambda x, y: replay.update(session, net, x, y),
            lambda x, y: replay.only_measure(session, net, x, y),
            few.x_train,
            few.y_train,
            batch_size=32,
            epochs=2,
            validation_split=0.2,
            seed=5,
            verbose=0,
        )
        weights = session.run(net.variables)

    assert parity.same_bits(run.weights, weights)
    assert history.history == {
        name: [epoch[name] for epoch in run.printed] for name in run.printed[0]
    }


@pytest.mark.parametrize("model", MODELS)
def test_corrected_training_sees_each_example_once_and_trains_on_no_other(
    model: str,
) -> None:
    run = replay.train(MODELS[model].parts, examples(model), epochs=2)
    assert run.training.visits.tolist() == [2] * 56
    assert run.validation.visits.tolist() == [0] * 14
    assert run.validation.updates == 0
    assert run.training.seen == 56


@pytest.mark.parametrize("model", MODELS)
def test_parameters_are_those_of_2017(model: str) -> None:
    corrected = {
        "line": 2,
        "logistic": 7_850,
        "feed-forward": 25_450,
        "convolutional": 3_274_634,
    }
    in_2017 = corrected | {"feed-forward": 25_408}
    for parts, counts in (
        (MODELS[model].parts, corrected),
        (errata.in_2017(model), in_2017),
    ):
        net = replay.build(parts, examples(model), seed=0)
        total = sum(w.shape.num_elements() for w in net.variables)
        assert total == counts[model]


@pytest.mark.parametrize(
    ("model", "n", "training", "validation"),
    [
        ("line", 80, (16, 9), (4, 20)),
        ("logistic", 800, (7, 7), (2, 200)),
        ("feed-forward", 800, (7, 7), (2, 200)),
        ("convolutional", 800, (25, 26), (7, 200)),
    ],
)
def test_batches_of_an_epoch_are_counted_as_2017_counted(
    model: str, n: int, training: tuple[int, int], validation: tuple[int, int]
) -> None:
    random = np.random.default_rng(0)
    for parts, trained, validated in zip(
        (MODELS[model].parts, errata.in_2017(model)), training, validation, strict=True
    ):
        batches = replay.training_batches(parts, np.arange(n), random)
        assert len(batches) == trained
        assert len(replay.validation_batches(parts, n // 4, random)) == validated
        assert {len(set(batch)) for batch in batches[:-1]} == {parts.batch_size()}


def test_validation_that_only_measures_changes_no_weight() -> None:
    few, parts = examples("logistic", 1_000), errata.in_2017("logistic")
    measuring = dataclasses.replace(parts, validate=replay.only_measure)
    once = dataclasses.replace(measuring, validation_range=replay.once_per_batch)
    runs = [replay.train(one, few, epochs=1) for one in (parts, measuring, once)]
    assert not parity.same_bits(runs[0].weights, runs[1].weights)
    assert parity.same_bits(runs[1].weights, runs[2].weights)
    assert [run.validation.updates for run in runs] == [200, 0, 0]


def test_validation_with_the_optimizer_trains_on_every_validation_example() -> None:
    run = replay.train(
        errata.in_2017("logistic"), examples("logistic", 1_000), epochs=1
    )
    assert run.validation.visits.sum() == 200 * 128
    assert run.validation.visits.min() > 0
    assert run.training.visits.sum() == 7 * 128


def test_replay_can_be_repeated_and_follows_its_seed() -> None:
    few, parts = examples("logistic", 1_000), errata.in_2017("logistic")
    first, second, other = (
        replay.train(parts, few, epochs=1, seed=seed) for seed in (1, 1, 2)
    )
    assert first.printed == second.printed
    assert parity.same_bits(first.weights, second.weights)
    assert first.printed != other.printed


def test_measuring_at_given_weights_repeats_what_a_run_measured() -> None:
    few, parts = examples("feed-forward"), MODELS["feed-forward"].parts
    run = replay.train(parts, few, epochs=1)
    assert run.test == replay.measure(parts, few, run.weights, few.x_test, few.y_test)


def test_same_training_is_run_once(replays: Replays) -> None:
    parts = MODELS["line"].parts
    assert replays.run("line", parts) is replays.run("line", parts)
    assert replays.run("line", parts, seed=1) is not replays.run("line", parts)


# --- the table ------------------------------------------------------------------------


def test_names_are_unique_and_every_field_says_something() -> None:
    assert len({erratum.name for erratum in ERRATA}) == len(ERRATA)
    for erratum in ERRATA:
        assert erratum.name[0].isupper() or erratum.name[0].isdigit()
        assert erratum.why.endswith(".")
        assert set(erratum.models) <= MODELS.keys()
        assert erratum.in_2017 != erratum.corrected


@pytest.mark.parametrize("erratum", ERRATA, ids=lambda erratum: erratum.name)
def test_code_is_short_enough_to_stand_abreast(erratum: Erratum) -> None:
    for code in (erratum.in_2017, erratum.corrected):
        text = code if isinstance(code, str) else inspect.getsource(code)
        lines = text.strip().splitlines()
        assert len(lines) <= 15
        assert max(map(len, lines)) <= 68


@pytest.mark.parametrize(
    ("erratum", "model"), PAIRS, ids=[f"{e.name}, {model}" for e, model in PAIRS]
)
def test_training_has_the_error_in_2017_and_its_correction_today(
    erratum: Erratum, model: str
) -> None:
    in_2017 = errata.in_2017(model)
    assert getattr(in_2017, erratum.part) is erratum.in_2017
    assert getattr(MODELS[model].parts, erratum.part) is erratum.corrected
    put_right = errata.in_2017(model, without=[erratum.name])
    assert getattr(put_right, erratum.part) is erratum.corrected
    assert erratum.put_into(put_right) == in_2017


def test_every_part_of_the_training_was_wrong_somewhere() -> None:
    parts = {field.name for field in dataclasses.fields(Parts)}
    assert {erratum.part for erratum in TRAINING} == parts


def test_unknown_name_is_refused() -> None:
    with pytest.raises(
        ValueError, match="no erratum is called 'Anything else'; use names"
    ):
        errata.in_2017("line", without=["Anything else"])


def test_erratum_without_effect_is_refused(replays: Replays) -> None:
    def also_rounded_up(n: int, batch_size: int) -> int:
        return replay.rounded_up(n, batch_size)

    nothing = Erratum(
        "Nothing",
        also_rounded_up,
        replay.rounded_up,
        "It is right.",
        part="train_range",
    )
    with pytest.raises(ValueError, match="'Nothing' changes none of: weights, train"):
        nothing.measure(replays)


# The convolutional network's are measured where its section is run, the others once.
QUICK = [
    dataclasses.replace(erratum, effect=functools.cache(erratum.effect))
    for erratum in ERRATA
    if erratum.models[0] != "convolutional" or erratum.part == "loss"
]


@pytest.mark.parametrize("erratum", QUICK, ids=lambda erratum: erratum.name)
def test_erratum_shows_its_effect_beside_both_codes(
    erratum: Erratum, replays: Replays
) -> None:
    text = erratum.show(replays).text
    assert text.startswith(f"#### {erratum.name}\n\n{erratum.why}\n\nStood in: ")
    codes = {"2017": erratum.in_2017, "corrected": erratum.corrected}
    assert sources.beside(codes).text in text
    assert "|  | 2017 | corrected |\n| --- | ---: | ---: |\n| " in text


def rows(name: str, replays: Replays) -> dict[str, tuple[str, str]]:
    (erratum,) = (erratum for erratum in QUICK if erratum.name == name)
    return erratum.effect(erratum, replays)


def test_small_effects_are_what_is_said_of_them(replays: Replays) -> None:
    assert rows("A progress bar of examples", replays) == {
        "counted": ("80", "16"),
        "worked": ("17", "16"),
    }
    assert rows("Names before their definitions", replays) == {
        "names not defined when they are used": ("sys, time, num_classes", "none")
    }
    assert rows("A training set overwritten", replays)["second run"] == ("640", "800")
    assert rows("Cells out of order", replays)["cells never run"] == ("1", "0")
    assert rows("No seed for TensorFlow", replays) == {
        "two runs start alike": ("no", "yes")
    }
    assert rows("Epochs left to a default", replays) == {"epochs": ("1", "10")}
    assert rows("A command that does not start", replays) == {
        "the module exists": ("no", "yes"),
        "TensorBoard takes the argument": ("no", "yes"),
    }
    assert rows("The logarithm of a softmax", replays) == {
        "loss, right class ahead by 60": ("0", "0"),
        "loss, right class ahead by 200": ("nan", "0"),
        "largest gradient there": ("nan", "0"),
        "loss, right class behind by 200": ("inf", "200"),
    }


@pytest.mark.parametrize(
    ("cells", "missing"),
    [
        ("# In [1]\nimport a.b as c, d\nc, d\n", []),
        ("# In [1]\na.b\n# In [2]\nimport a\n", ["a"]),
        ("# In [1]\ndef f(x):\n    return x + y\n# In [2]\nf(1)\n", ["y"]),
        ("# In [1]\nfor i in range(3):\n    print(i, j)\nj = i\n", []),
        ("# In [1]\nz = q\nq = p\n# In [2]\np = z\n", ["p"]),
    ],
)
def test_unbound_names_are_found(cells: str, missing: list[str]) -> None:
    assert errata_effects.unbound(cells) == missing


# --- what 2017 printed ----------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_quotes_of_2017_are_read_whole(model: str) -> None:
    epochs = printed_2017.by_epoch(model)
    names = ["loss", "val_loss"] if model == "line" else ["loss", "acc"]
    names += [] if model == "line" else ["val_loss", "val_acc"]
    assert len(epochs) == 10
    assert all(list(epoch) == names for epoch in epochs[:9])
    assert list(epochs[9]) == {"line": names, "convolutional": names[:3]}.get(
        model, names[:2]
    )
    lines = printed_2017.EPOCHS[model].splitlines()
    for line, epoch in zip(lines, epochs, strict=True):
        again = " - ".join(f"{name}: {value!r}" for name, value in epoch.items())
        assert line.startswith(again)


def test_table_leaves_out_what_is_missing(replays: Replays) -> None:
    run = replays.run("logistic", errata.in_2017("logistic"), epochs=2)
    table = errata_tables.printed_beside_replay("logistic", run)
    assert table.header[:3] == ["epoch", "loss, 2017", "loss, replay"]
    assert table.header[-2:] == ["val_acc, 2017", "val_acc, replay"]
    assert table.rows[0][1::2] == ["2.244", "0.617", "0.955", "0.891"]
    assert "" not in table.rows[1]
    assert table.rows[9] == ["10", "0.656", "", "0.805", "", "", "", "", ""]


def test_first_two_errors_make_the_validation_accuracy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fewer = dataclasses.replace(MODELS["logistic"], epochs=2)
    monkeypatch.setitem(MODELS, "logistic", fewer)
    table = errata_tables.which_error(Replays("digits"), "logistic")
    without = {name: float(value) for name, _, value in table.rows}
    everything = without.pop("none; or all of them")
    blamed = list(without)[:2]
    assert blamed == ["The optimizer runs in validation", "Validation once per example"]
    others = [without[name] for name in without if name not in blamed]
    assert max(without[name] for name in blamed) < 0.95 < min(everything, *others)


def test_replay_on_mnist_prints_what_2017_printed(mnist_path: Path) -> None:
    """No number can be equal, for the draws are others; all are near."""
    run = Replays("mnist").run("logistic", errata.in_2017("logistic"))
    for printed, replayed in zip(
        printed_2017.by_epoch("logistic"), run.printed, strict=True
    ):
        figures: dict[str, Any] = replayed | {
            "acc": replayed["accuracy"],
            "val_acc": replayed["val_accuracy"],
        }
        for name, value in printed.items():
            assert figures[name] == pytest.approx(value, rel=0.2, abs=0.06), name
    assert run.printed[-1]["val_accuracy"] > 0.95 > 0.8 > run.test["accuracy"]
