"""What holds for the TensorFlow and the Keras that run this file, as JSON on stdout.

It trains the four model notebooks' own cells in Keras, TensorFlow 2 and TensorFlow 1,
and compares weights and history in bits. It tries behaviors of Keras that releases may
change. `benchmarks.versions` runs it in one environment per pair of releases.

    python -m benchmarks.versions_probe
"""

import contextlib
import json
import platform
import time
import warnings
from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from typing import Any
from unittest import mock

import numpy as np

import kvt
from kvt import data
from kvt.data.quietly import quiet
from tests.notebooks import sections

with quiet():
    import keras
    import tensorflow as tf

from benchmarks import keras_order

SEEDS = (0, 1, 42)
NAMES = ("train_size", "batch_size", "epochs", "validation_split", "dtype")
NAMES += ("steps_per_execution", "seed")
CASES = [
    (dict(zip(NAMES, values, strict=True)), shuffle)
    for *values, shuffle in (
        (40, 12, 2, 0.2, "float32", 1, 0, True),
        (36, 9, 3, 0.25, "float64", 5, 7, False),
        (33, 8, 2, 0.0, "float32", 2, 1, True),
        (29, 29, 2, 0.0, "float64", 1000, 42, True),
    )
]
Values = dict[str, str]


def parity() -> dict[str, list[dict[str, Any]]]:
    """Train every model in every case; return the distances of the raw dialects."""
    return {
        model: [distance(model, *case) for case in CASES] for model in sections.MODELS
    }


def with_plus() -> int:
    """Return the largest distance in ulp if raw TensorFlow adds each bias with `+`.

    One step runs per call, so that this is the only experiment.
    """
    found = []
    with contextlib.ExitStack() as patches:
        for nn in (tf.nn, tf.compat.v1.nn):
            patches.enter_context(mock.patch.object(nn, "bias_add", tf.add))
        for model in sections.MODELS:
            for parameters, shuffle in CASES:
                single = parameters | {"steps_per_execution": 1}
                one = distance(model, single, shuffle)
                found += [*one["tf2"], *one["tf1"]]
    return max(found)


def distance(model: str, parameters: dict[str, Any], shuffle: bool) -> dict[str, Any]:
    """Compare both raw dialects with Keras: ulp by epoch, and metrics that differ."""
    try:
        section = sections.define(model, learning_rate=0.05, **parameters)
        runs = sections.train(section, shuffle=shuffle)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
    found: dict[str, Any] = {}
    for name in ("tf2", "tf1"):
        found[name] = sections.apart(runs, name).weights_max_ulp
        keras_history, history = runs["keras"].history, runs[name].history
        found[f"{name} metrics"] = [
            key for key in keras_history if keras_history[key] != history.get(key)
        ]
    section["session"].close()
    return found


def whole_epochs() -> bool:
    """Whether one call per epoch has the bits of one call per step."""
    results = []
    for steps in (1, 3, "epoch"):
        section = sections.define("03_feedforward_network", train_size=60, seed=1)
        steps_of = section["train_step"], section["test_step"]
        history = kvt.fit(
            *steps_of,
            section["x_train"],
            section["y_train"],
            batch_size=16,
            epochs=2,
            validation_split=0.2,
            steps_per_execution=steps,
            verbose=0,
        )
        results.append(
            [history.history, [w.numpy().tolist() for w in section["weights"]]]
        )
        section["session"].close()
    return results[0] == results[1] == results[2]


def follows(orders: list[list[list[int]]]) -> str:
    """Say what an order depends on, given the orders of some epochs by seed."""
    by_seed = any(of_seed != orders[0] for of_seed in orders)
    by_epoch = any(epoch != of_seed[0] for of_seed in orders for epoch in of_seed)
    return " and ".join(["seed"] * by_seed + ["epoch"] * by_epoch) or "nothing"


def order() -> str:
    """What `fit(shuffle=True)` on arrays follows, and whether kvt gives that order."""
    orders = [keras_order.orders(seed, 50) for seed in SEEDS]
    ours = [[data.example_order(50, seed).tolist()] * 3 for seed in SEEDS]
    return follows(orders) + ("" if orders == ours else ", unknown to kvt")


class Numbered(keras.utils.PyDataset):
    """Eight batches, each with its number as its only target."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.num_batches_ = 8

    def __len__(self) -> int:
        return self.num_batches_

    def __getitem__(self, index: int) -> Any:
        return np.zeros((1, 1), "float32"), np.full((1, 1), index, "float32")


def order_of_batches(workers: int) -> str:
    """What the order of a `PyDataset`'s batches follows."""
    return follows([batches_of(seed, workers) for seed in SEEDS])


def batches_of(seed: int, workers: int) -> list[list[int]]:
    """The orders of a `PyDataset`'s batches in three epochs."""
    seen: list[int] = []

    def loss(y: Any, y_pred: Any) -> Any:
        seen.extend(int(row) for row in y.numpy()[:, 0])
        return tf.square(y - y_pred)

    keras.utils.set_random_seed(seed)
    model = one_weight(loss=loss, run_eagerly=True)
    model.fit(Numbered(workers=workers), epochs=3, shuffle=True, verbose=0)
    return [seen[start : start + 8] for start in (0, 8, 16)]


def one_weight(**options: Any) -> Any:
    """A compiled model of one weight, which is 1."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(**{"optimizer": keras.optimizers.SGD(0.0), "loss": "mse"} | options)
    model.set_weights([np.ones((1, 1))])
    return model


def loss_of(**options: Any) -> float:
    """The loss of an epoch that changes no weight: errors 0, 1, 2, 3 and 4."""
    x = np.arange(5, dtype="float32")[:, None]
    arguments: dict[str, Any] = {"x": x, "y": 0 * x, "shuffle": False, "verbose": 0}
    history = one_weight().fit(**arguments | options).history
    return float(history["loss"][0])


def mean_of_batches() -> str:
    """How the loss of an epoch weighs a smaller last batch."""
    by_example, by_batch = 6.0, ((0 + 1 + 4 + 9) / 4 + 16) / 2
    loss = loss_of(batch_size=4)
    names = {by_example: "mean over examples", by_batch: "mean over batches"}
    return names.get(loss, str(loss))


def validation_split() -> str:
    """Which examples are held back."""
    x = np.arange(11, dtype="float32")[:, None]
    losses = {
        share: one_weight().fit(x, 0 * x, validation_split=share, verbose=0).history
        for share in (0.1, 0.25, 0.3, 0.9)
    }
    for share, history in losses.items():
        tail = np.arange(data.split(11, share), 11)
        if not np.isclose(history["val_loss"][0], np.mean(tail.astype(float) ** 2)):
            return "not the tail"
    return "tail, floor(n * (1 - split))"


def summary() -> str:
    """The text of a summary."""
    lines: list[str] = []
    layers = [
        keras.Input((28, 28, 1)),
        keras.layers.Conv2D(4, 3),
        keras.layers.Flatten(),
    ]
    model = keras.Sequential([*layers, keras.layers.Dense(10)], name="model")
    for layer, name in zip(model.layers, ("conv", "flat", "dense"), strict=True):
        with contextlib.suppress(AttributeError):
            layer.name = name
    model.summary(line_length=64, print_fn=lambda text, **_: lines.append(text))
    return "\n".join(lines)


def optimizers() -> Values:
    """Every optimizer's defaults."""
    names = ("SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Adadelta", "Adamax")
    names += ("Nadam", "Ftrl", "Lion")
    found = {}
    for name in names:
        config = getattr(keras.optimizers, name)().get_config()
        for option, value in config.items():
            value = float(np.float32(value)) if isinstance(value, float) else value
            if option != "name":
                found[f"{name}({option})"] = repr(value)
    return found


def outcome(what: Any) -> str:
    """What a call results in: its result, or the class of its error."""
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = what()
    except Exception as error:
        return f"rejected ({type(error).__name__})"
    ran_out = any("ran out of data" in str(each.message) for each in caught)
    return f"{result}" + (", with a warning" if ran_out else "")


def generator() -> Iterator[Any]:
    for row in range(3):
        yield np.full((1, 1), row, "float32"), np.zeros((1, 1), "float32")


def with_class_weight(weight: Any) -> str:
    y = np.ones((5, 1), "float32")
    loss = loss_of(y=y, class_weight=weight)
    return f"loss {loss / loss_of(y=y):g} times as large"


def stops_without_patience() -> str:
    keras.callbacks.EarlyStopping(patience=-1)
    return "accepted"


def runs_a_generator() -> str:
    one_weight().fit(generator(), epochs=1, verbose=0)
    return "trained"


def behaviors() -> Values:
    """Behaviors of Keras that a user meets, each tried."""
    tried = {
        "order of examples follows": order,
        "order of a `PyDataset`'s batches follows": lambda: order_of_batches(1),
        "the same, with two workers": lambda: order_of_batches(2),
        "`validation_split`": validation_split,
        "loss of an epoch": mean_of_batches,
        '`class_weight={"a": 5.0}`': lambda: with_class_weight({"a": 5.0}),
        '`class_weight={"1": 5.0}`': lambda: with_class_weight({"1": 5.0}),
        "`class_weight={7: 5.0}`": lambda: with_class_weight({7: 5.0}),
        "`EarlyStopping(patience=-1)`": stops_without_patience,
        "a generator that ends": runs_a_generator,
        "text of `summary()`": summary,
    }
    return {name: outcome(what) for name, what in tried.items()} | optimizers()


def epoch_ms() -> dict[str, float]:
    """Milliseconds of the fastest epoch of the feedforward network, on digits."""
    section = sections.define("03_feedforward_network", epochs=6, validation_split=0.0)
    x, y, model = section["x_train"], section["y_train"], section["model"]
    steps = section["train_step"], section["test_step"]
    common = {"x": x, "y": y, "batch_size": 128, "epochs": 6, "verbose": 0}
    fits = {
        "keras": model.fit,
        "kvt": partial(kvt.fit, *steps),
        "kvt, epoch": partial(kvt.fit, *steps, steps_per_execution="epoch"),
    }
    best = {}
    for name, fit in [*fits.items()] * 2:
        recorder = kvt.Recorder(list)
        fit(**common, callbacks=[recorder])
        best[name] = min(best.get(name, 9.0), *recorder.epoch_seconds[1:])
    return {name: round(1000 * seconds, 2) for name, seconds in best.items()}


def show() -> None:
    """Print everything as JSON."""
    started = time.process_time()
    found = {
        "versions": {
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "numpy": version("numpy"),
        },
        "behaviors": behaviors(),
        "parity": parity(),
        "whole epochs": outcome(whole_epochs),
        "with plus": outcome(with_plus),
        "epoch_ms": epoch_ms(),
    }
    print(json.dumps(found | {"cpu_seconds": round(time.process_time() - started)}))


if __name__ == "__main__":
    show()
