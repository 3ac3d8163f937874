"""The loop of 2017 with correct parts: it equals `kvt.fit`, and its counts are true."""

import dataclasses

import numpy as np
import pytest
import tensorflow.compat.v1 as tf1

import kvt
from kvt import data
from kvt.compare import parity, replay
from kvt.compare.replay import MODELS

pytestmark = pytest.mark.long


def examples(model: str, n: int = 70) -> data.Data:
    if model == "linear":
        return data.line(n, seed=0)
    shape = (28, 28, 1) if model == "convolutional" else (784,)
    return data.load("digits", train_size=n, image_shape=shape)


@pytest.mark.parametrize("model", MODELS)
def test_training_equals_fit_bit_for_bit(model: str) -> None:
    parts = dataclasses.replace(MODELS[model], batch_size=32)
    few = examples(model)
    replayed = replay.train(parts, few, epochs=2, seed=5)

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

    assert parity.same_bits(replayed.weights, weights)
    assert history.history == {
        name: [epoch[name] for epoch in replayed.printed]
        for name in replayed.printed[0]
    }


@pytest.mark.parametrize("model", MODELS)
def test_training_uses_each_example_once_per_epoch_and_no_validation_example(
    model: str,
) -> None:
    replayed = replay.train(MODELS[model], examples(model), epochs=2)
    assert replayed.training.visits.tolist() == [2] * 56
    assert replayed.validation.visits.tolist() == [0] * 14
    assert replayed.validation.updates == 0
    assert replayed.training.seen == 56


@pytest.mark.parametrize(
    ("model", "count"),
    [
        ("linear", 2),
        ("logistic", 7_850),
        ("feedforward", 25_450),
        ("convolutional", 3_274_634),
    ],
)
def test_models_have_as_many_parameters_as_in_keras(model: str, count: int) -> None:
    net = replay.build(MODELS[model], examples(model))
    assert sum(w.shape.num_elements() for w in net.variables) == count


@pytest.mark.parametrize(
    ("model", "n", "training", "validation"),
    [("linear", 100, 16, 4), ("logistic", 1_000, 7, 2), ("feedforward", 1_000, 7, 2)],
)
def test_epoch_has_as_many_batches_as_in_keras(
    model: str, n: int, training: int, validation: int
) -> None:
    replayed = replay.train(MODELS[model], examples(model, n), epochs=1)
    assert replayed.training.batches == replayed.training.updates == training
    assert replayed.validation.batches == validation


def test_validation_that_updates_is_counted() -> None:
    parts = dataclasses.replace(MODELS["logistic"], validate=replay.update)
    replayed = replay.train(parts, examples("logistic"), epochs=3)
    assert replayed.validation.updates == 3
    assert replayed.validation.visits.tolist() == [3] * 14
    assert replayed.training.updates == 3


def test_replay_can_be_repeated_and_follows_its_seed() -> None:
    few, parts = examples("logistic"), MODELS["logistic"]
    first, second, other = (
        replay.train(parts, few, epochs=1, seed=seed) for seed in (1, 1, 2)
    )
    assert first.printed == second.printed
    assert parity.same_bits(first.weights, second.weights)
    assert first.printed != other.printed


def test_measuring_with_given_weights_repeats_what_a_replay_measured() -> None:
    few, parts = examples("feedforward"), MODELS["feedforward"]
    replayed = replay.train(parts, few, epochs=1)
    measured = replay.measure(parts, few, replayed.weights, few.x_test, few.y_test)
    assert replayed.test == measured


def test_true_metrics_are_those_of_all_validation_examples() -> None:
    few = examples("logistic")
    parts = dataclasses.replace(MODELS["logistic"], report=lambda all_, sizes: all_[0])
    replayed = replay.train(parts, few, epochs=2)
    validation = replayed.validation
    assert np.array_equal(validation.x, few.x_train[56:])
    assert replayed.true[-1] == replay.measure(
        parts, few, replayed.weights, validation.x, validation.y
    )
