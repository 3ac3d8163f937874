"""Train models on one to four replicas; fail if a bit differs from Keras's.

A program of its own: logical devices must be configured before TensorFlow starts. It
runs the cells of the models' chapters under a strategy, and those of chapter 12.
"""

import contextlib
import io
import os
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from kvt import quiet

with quiet():
    import keras
import tensorflow as tf

import kvt
from kvt import data
from kvt.compare import parity
from tests.notebooks import sections

CHAPTER = "12_scaling_out"
Case = dict[str, Any]
NAMES = ("model", "replicas", "train_size", "batch_size", "epochs", "validation_split")
# The first four: each model, one to four replicas, empty replicas (22 = 20 + 2). Then
# also parts of 3, 3, 3, 1, and one example each.
CASES: list[Case] = [
    dict(zip(NAMES, values, strict=True)) | {"learning_rate": 0.05, "seed": 7}
    for values in (
        (0, 1, 23, 6, 2, 0.25),
        (1, 4, 22, 20, 2, 0.0),
        (2, 3, 40, 12, 1, 0.3),
        (3, 2, 11, 4, 1, 0.0),
        (0, 2, 29, 4, 2, 0.25),
        (0, 3, 25, 6, 2, 0.0),
        (0, 4, 24, 8, 2, 0.0),
        (1, 3, 28, 9, 2, 0.2),
        (2, 2, 17, 16, 2, 0.0),
        (2, 4, 30, 20, 2, 0.0),
        (3, 3, 11, 6, 1, 0.0),
    )
]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw a training whose first batch Keras can divide: it fails on others."""
    replicas = draw(st.integers(1, 4))
    batch_size = replicas * draw(st.integers(1, 6))
    train_size = batch_size + draw(st.integers(0, 20))
    return {
        "model": draw(st.integers(0, 2)),
        "replicas": replicas,
        "train_size": train_size,
        "batch_size": batch_size,
        "epochs": draw(st.integers(1, 2)),
        "validation_split": 0.0,
        "learning_rate": draw(st.floats(0.01, 0.3)),
        "seed": draw(st.integers(0, 2**32 - 1)),
    }


def strategies() -> dict[int, tf.distribute.Strategy]:
    """Return a strategy for each number of replicas, by this number."""
    logical = [tf.config.LogicalDeviceConfiguration()] * 4
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, logical)
    mirrored = tf.distribute.MirroredStrategy
    found = {1: tf.distribute.get_strategy()}
    for n in (2, 3, 4):
        mirrored._collective_key_base = 1_000 * n  # several strategies, one process
        found[n] = mirrored([f"CPU:{i}" for i in range(n)])
    return found


def run_cells(notebook: str, wanted: set[str], end: str, values: Case) -> Case:
    """Run cells with one of these tags, up to the one that contains `end`."""
    namespace: Case = {"__name__": notebook}
    with contextlib.redirect_stdout(io.StringIO()):
        for cell in sections.cells(notebook):
            if end in cell["source"]:
                break
            source = cell["source"]
            skipped = "· TensorBoard" in source or "set_logical_device" in source
            if sections.tags(cell) & wanted and not skipped:
                exec(compile(source, notebook, "exec"), namespace)
            if "parameters" in sections.tags(cell):
                namespace |= values
    return namespace


def chapter() -> Case:
    """Return the functions of chapter 12 that train, without its own data."""
    (steps,) = (
        cell["source"]
        for cell in sections.cells(CHAPTER)
        if "def make_steps" in cell["source"]
    )
    (network,) = (
        cell["source"].partition("\n\n\nweights =")[0]
        for cell in sections.cells(CHAPTER)
        if "def make_weights" in cell["source"]
    )
    namespace: Case = {"tf": tf}
    exec("from kvt.training.replicas import ReplicatedStep", namespace)
    exec(network + "\n" + steps, namespace)
    return namespace


def train_raw(
    strategy: tf.distribute.Strategy, section: Case, start: Any, scaled: str
) -> tuple[list[Any], dict[str, list[float]]]:
    """Train a model's raw `forward` by the steps of chapter 12."""
    functions = chapter()
    weights = functions["make_weights"](strategy, start)
    section["weights"] = weights  # `forward` uses them
    functions["forward"] = lambda weights, x: section["forward"](x)
    functions["learning_rate"] = section["learning_rate"]
    if section["__name__"] == sections.MODELS[0]:
        functions["measure"] = lambda y, y_pred: (
            tf.reduce_mean(tf.square(y - y_pred), axis=-1),
            tf.zeros_like(y[:, 0]),
        )
    recorder = kvt.Recorder(lambda: [w.numpy() for w in weights])
    history = kvt.fit(
        *functions["make_steps"](strategy, weights, functions[scaled]),
        section["x_train"],
        section["y_train"],
        batch_size=section["batch_size"],
        epochs=section["epochs"],
        validation_split=section["validation_split"],
        seed=section["seed"],
        verbose=0,
        callbacks=[recorder],
    ).history
    return recorder.weights, history


def check(case: Case, known: dict[int, tf.distribute.Strategy]) -> None:
    """Compare raw TensorFlow with Keras, and with one device."""
    keras.backend.clear_session(free_memory=False)
    values = {k: v for k, v in case.items() if k not in ("model", "replicas")}
    strategy = known[case["replicas"]]
    tags = {"parameters", "setup", "keras", "tf2"}
    with strategy.scope():
        section = run_cells(sections.MODELS[case["model"]], tags, "· Training", values)
    model = section["model"]
    start = model.get_weights()
    recorder = kvt.Recorder(model.get_weights)
    names = ("batch_size", "epochs", "validation_split")
    history = model.fit(
        section["x_train"],
        section["y_train"],
        verbose=0,
        callbacks=[recorder],
        **{name: section[name] for name in names},
    ).history
    weights, raw_history = train_raw(strategy, section, start, "by_replica")
    assert parity.same_bits(recorder.weights, weights), case
    assert history == {name: raw_history[name] for name in history}, case
    parts = case["replicas"], section["batch_size"]
    n_train = data.split(len(section["x_train"]), section["validation_split"])
    one, _ = train_raw(known[1], section, start, "by_example")
    many, _ = train_raw(strategy, section, start, "by_example")
    for a, b in zip(one[-1], many[-1], strict=True):
        assert abs(a - b).max() < 1e-4, case  # however the batches are divided
    if case["replicas"] != 3 and is_even(n_train, *parts):
        assert parity.same_bits(recorder.weights, many), case


def is_even(n: int, replicas: int, batch_size: int) -> bool:
    """Whether all replicas get equally many examples of every batch."""
    sizes = [min(batch_size, n - start) for start in range(0, n, batch_size)]
    return all(size % replicas == 0 for size in sizes)


def verify_that_a_convolution_needs_examples(known: Any) -> None:
    """TensorFlow's convolution fails on a replica without examples, in each dialect."""
    case = CASES[3] | {"train_size": 5}  # 4 + 1
    with pytest.raises(tf.errors.InvalidArgumentError, match="input depth must be"):
        check(case, known)


def main() -> None:
    """Try as many listed cases and as many drawn ones as the arguments say."""
    tf.get_logger().setLevel("ERROR")  # each training traces its own graphs
    known = strategies()
    listed, drawn = map(int, sys.argv[1:])
    phases = [Phase.explicit, *([Phase.generate] if drawn else [])]

    @settings(
        max_examples=max(1, drawn),
        deadline=None,
        derandomize=True,
        database=None,
        phases=phases,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases())
    def property_holds(case: Case) -> None:
        check(case, known)
        tried.append(case["replicas"])
        print(case, flush=True)

    tried: list[int] = []
    for case in CASES[:listed]:
        property_holds = example(case)(property_holds)
    property_holds()
    verify_that_a_convolution_needs_examples(known)
    print(len(tried), "trainings,", *sorted(set(tried)), "replicas: Keras's bits")


if __name__ == "__main__":
    main()
