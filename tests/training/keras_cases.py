"""Cases for Keras's `fit`, `evaluate` and `predict`, and what kvt does with them.

`CASES` is the table: an argument, a value, and whether kvt does the same, rejects it by
name before the first update, or accepts more than Keras. `test_same_as_keras.py` runs
it; `table()` is README's.
"""

import collections
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

SAME, REJECTED, MORE = "same", "rejected", "only kvt"
N = 20
SEED = 7
Arguments = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Case:
    """Arguments for both sides, made anew for each; the default model is a line."""

    argument: str
    value: str
    expected: str
    make: Callable[[], Arguments]
    method: str = "fit"
    model: str = "line"

    def __str__(self) -> str:
        return f"{self.method} {self.argument} {self.value}".replace("/", "|")


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)  # float64


def line(n: int = N) -> Arguments:
    x = numbers(n, 3).astype(np.float32)
    return {"x": x, "y": (x.sum(1, keepdims=True) + 1).astype(np.float32)}


def dataset(n: int = N, size: int = 4) -> Any:
    rows = line(n)
    return tf.data.Dataset.from_tensor_slices((rows["x"], rows["y"])).batch(size)


def unknown(n: int = N) -> Any:
    return dataset(n).filter(lambda x, y: True)


def reshuffled(n: int = N) -> Any:
    """Return a Dataset that has another order in each of its iterators."""
    tf.random.set_seed(SEED)
    return dataset(n).unbatch().shuffle(n, seed=3).batch(4)


def counted(n: int = N) -> Any:
    return reshuffled(n).apply(tf.data.experimental.assert_cardinality(n // 4))


def batches(count: int = 5, *, weights: bool = False) -> Iterator[Any]:
    x, y = line(4 * count).values()
    for i in range(0, len(x), 4):
        weight = (np.ones(4, np.float32) / (i + 1),) if weights else ()
        yield x[i : i + 4], y[i : i + 4], *weight


def unweighted() -> Iterator[Any]:
    return ((*batch, None) for batch in batches())


class Numbered(keras.utils.PyDataset):  # type: ignore[misc]
    """Five batches; each changes with the epochs that have begun and ended."""

    def __init__(self, count: int | None = 5) -> None:
        super().__init__()
        self.count = count
        self.told = 0.0

    @property
    def num_batches(self) -> int | None:
        return self.count

    def on_epoch_begin(self) -> None:
        self.told = self.told * 2 + 1

    def on_epoch_end(self) -> None:
        self.told = self.told * 2

    def __getitem__(self, index: int) -> Any:
        x, y = line(4 * (self.count or 5)).values()
        rows = slice(4 * (index % 5), 4 * (index % 5) + 4)
        told = np.float32(self.told / 100)
        return x[rows] + told, y[rows] + told


class Stop(keras.callbacks.Callback):  # type: ignore[misc]
    """Stops what runs after two batches."""

    def __init__(self, attribute: str) -> None:
        super().__init__()
        self.attribute = attribute

    def stop(self, batch: int, logs: Any = None) -> None:
        if batch >= 1:
            setattr(self.model, self.attribute, True)

    on_train_batch_end = on_test_batch_end = on_predict_batch_end = stop


CASES: list[Case] = []


def add(
    argument: str,
    values: dict[str, Any],
    expected: str = SAME,
    method: str = "fit",
    model: str = "line",
    **others: Any,
) -> None:
    """Add a case per value. A function makes its value, or other arguments, too."""
    for label, value in values.items():

        def make(value: Any = value) -> Arguments:
            found = value() if callable(value) else value
            arguments: Arguments = line() if model == "line" else {}
            arguments |= {k: v() if callable(v) else v for k, v in others.items()}
            if isinstance(found, dict) and "x" in found:
                arguments.pop("y", None)
                arguments |= found
            else:
                arguments[argument] = found
            return {k: v for k, v in arguments.items() if v is not ...}

        CASES.append(Case(argument, label, expected, make, method, model))


def shown(*values: Any) -> dict[str, Any]:
    return {repr(value): value for value in values}


CALLBACKS = {
    "`None`": None,
    "a list": lambda: [keras.callbacks.LambdaCallback()],
    "one": lambda: keras.callbacks.LambdaCallback(),
    "lists in a list": lambda: [[keras.callbacks.LambdaCallback()], []],
}
# Rows of x in other dtypes and containers, by name.
DTYPES = ["float64", "float16", "int64", "int32", "int8", "uint8", "bool", ">f4", ">f8"]
DTYPES += [">i4", "bfloat16"]


def cast(array: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "bfloat16":
        return np.asarray(tf.cast(array, tf.bfloat16))
    return (abs(array) * 3).astype(dtype)


ARRAYS: dict[str, Callable[[np.ndarray], Any]] = {
    **{dtype: lambda a, dtype=dtype: cast(a, dtype) for dtype in DTYPES},
    "tensor": tf.constant,
    "float64 tensor": lambda a: tf.constant(a, tf.float64),
    "int tensor": lambda a: tf.cast(a * 3, tf.int32),
    "variable": tf.Variable,
    "Fortran order": np.asfortranarray,
    "every second row": lambda a: np.repeat(a, 2, axis=0)[::2],
    "read-only": lambda a: np.broadcast_to(a[:1], a.shape),
    "masked": np.ma.masked_array,
}
NOT_ARRAYS: dict[str, Callable[[np.ndarray], Any]] = {
    "lists of numbers": lambda a: a.tolist(),
    "objects": lambda a: a.astype(object),
    "strings": lambda a: a.astype(str),
    "dates": lambda a: (a * 100).astype("datetime64[s]"),
    "sparse": tf.sparse.from_dense,
    "ragged": lambda a: tf.RaggedTensor.from_tensor(a),
    "a number": lambda a: 5,
    "a single value": lambda a: np.float32(5),
    "text": lambda a: "x",
    "no rows": lambda a: a[:0],
    "fewer rows than the other": lambda a: a[:-1],
    "NaN": lambda a: a * np.float32(np.nan),
    "values beyond float32": lambda a: a.astype(float) * 1e300,
}


def fit_cases() -> None:
    """Add the arguments of `fit`, in Keras's order."""
    for part in ("x", "y"):

        def kinds(table: Any, part: str = part) -> Arguments:
            return {
                name: lambda kind=kind, part=part: line() | {part: kind(line()[part])}
                for name, kind in table.items()
            }

        add(part, kinds(ARRAYS), epochs=2, batch_size=8)
        add(part, kinds(NOT_ARRAYS), REJECTED)
    streams: Arguments = {
        "Dataset": dataset,
        "Dataset of unknown length": unknown,
        "generator": batches,
        "generator with weights": lambda: batches(weights=True),
        "`PyDataset`": Numbered,
    }
    streams = {k: lambda v=v: {"x": v(), "y": ...} for k, v in streams.items()}
    streams |= {
        "Dataset that reshuffles": lambda: {"x": counted(), "y": ...},
        "Dataset that reshuffles, of unknown length": lambda: {
            "x": reshuffled(),
            "y": ...,
        },
    }
    add("x", streams)
    none = {"generator with `None` as weights": lambda: {"x": unweighted(), "y": ...}}
    add("x", none)
    lone = {k: v for k, v in streams.items() if "generator" not in k}
    add("epochs", {f"3 with a {k}": v for k, v in lone.items()}, epochs=3)
    generators = {k: v for k, v in streams.items() if "generator" in k}
    add(
        "epochs",
        {f"3 with a {k}": v for k, v in generators.items()},
        REJECTED,
        epochs=3,
    )
    add(
        "y",
        {
            f"beside a {k}": lambda v=v: v() | {"y": line()["y"]}
            for k, v in streams.items()
        },
        REJECTED,
    )
    batch_list = {"list of batches": lambda: {"x": list(batches()), "y": ...}}
    add("x", batch_list, MORE)
    nothing = {
        "`None`": None,
        "an array without y": lambda: {"x": line()["x"], "y": ...},
    }
    add("x", nothing, REJECTED, y=...)
    add("batch_size", shown(None, 1, 3, 4, 7, 20, 32, 100), epochs=2)
    add("batch_size", shown(0, -1, 2.5, "4"), REJECTED)
    add("epochs", shown(1, 2, 5))
    add("epochs", shown(0, -1, 1.5), REJECTED)
    add("verbose", shown(0, 1, 2, "auto"), epochs=2)
    add("verbose", shown(3, "no", None), REJECTED)
    add("callbacks", CALLBACKS, epochs=2)
    add(
        "callbacks",
        {"stops at a batch": lambda: [Stop("stop_training")]},
        epochs=3,
        batch_size=4,
    )
    add("callbacks", {"a class": lambda: [keras.callbacks.LambdaCallback, 3]}, REJECTED)
    add("validation_split", shown(0.0, 0.1, 0.2, 0.25, 0.5, 0.9), epochs=2)
    add("validation_split", shown(1.0, -0.1, 0.99, 1e-20, "0.2"), REJECTED)
    add(
        "validation_split",
        {"0.2 with a Dataset": lambda: {"x": dataset(), "y": ...}},
        REJECTED,
        validation_split=0.2,
    )
    x, y = line(9).values()
    weight = np.linspace(0, 1, 9).astype(np.float32)
    validation: Arguments = {
        "(x, y)": lambda: (x, y),
        "[x, y]": lambda: [x, y],
        "(x, y, weights)": lambda: (x, y, weight),
        "[x, y, weights]": lambda: [x, y, weight],
        "float64": lambda: (x.astype(float), y.astype(float)),
        "tensors": lambda: (tf.constant(x), tf.constant(y)),
        "Dataset": lambda: dataset(9),
        "Dataset that reshuffles": lambda: reshuffled(9),
        "`PyDataset`": Numbered,
    }
    add("validation_data", validation, epochs=3)
    add("validation_data", {"generator": batches})
    add("validation_data", {"a generator for 2 epochs": batches}, REJECTED, epochs=2)
    add("validation_data", {"list of batches": lambda: list(batches(4))}, MORE)
    bad = {
        "x without y": x,
        "(x,)": (x,),
        "four parts": (x, y, y, y),
        "a dict": {"a": x},
    }
    bad |= {
        "fewer y": (x, y[:-1]),
        "a number": 5,
        "lists of numbers": ([[1.0]], [[1.0]]),
    }
    bad |= {
        "x with other columns": (x[:, :2], y),
        "an endless Dataset": lambda: dataset(9).repeat(),
    }
    add("validation_data", bad, REJECTED)
    add("validation_data", {"and validation_split": (x, y)}, validation_split=0.3)
    add("shuffle", shown(True, False, "batch", 1, 0), epochs=3, batch_size=6)
    add(
        "shuffle",
        {"'batch', one batch": "batch", "'batch', of 1": "batch"},
        batch_size=20,
    )
    add(
        "shuffle",
        {
            f"{s!r}, `PyDataset`": lambda s=s: {"x": Numbered(), "y": ..., "shuffle": s}
            for s in (True, False)
        },
        epochs=3,
    )
    add("shuffle", shown("epoch", None, 2, "True"), REJECTED)
    classes = numbers(N, 1, seed=3).round().clip(0, 2).astype(np.float32)
    labels = {"y (n, 1)": classes, "y (n,)": classes[:, 0], "int": classes.astype(int)}
    labels |= {"float64": classes.astype(float), "bool": classes > 1}
    for name, label in labels.items():
        add("class_weight", {name: {0: 0.5, 1: 2.0}}, y=label, epochs=2, batch_size=8)
    add(
        "class_weight",
        {"with validation_split": {0: 0.5, 2: 3}},
        y=classes,
        validation_split=0.3,
    )
    hot = np.eye(3, dtype=np.float32)[classes[:, 0].astype(int)]
    add(
        "class_weight",
        {"one-hot": lambda: line() | {"y": hot}},
        model="three",
        class_weight={0: 0.1, 2: 4.0},
        batch_size=8,
    )
    in_dataset = tf.data.Dataset.from_tensor_slices((line()["x"], classes)).batch(8)
    add(
        "class_weight",
        {"Dataset": lambda: {"x": in_dataset, "y": ...}},
        class_weight={0: 0.5, 1: 2.0, 2: 1.0},
        epochs=2,
    )
    add(
        "class_weight",
        {"`PyDataset`": lambda: {"x": Numbered(), "y": ...}},
        class_weight={0: 0.5, 1: 2.0},
        epochs=2,
    )
    add(
        "class_weight",
        {"generator": lambda: {"x": batches(), "y": ...}},
        MORE,
        class_weight={0: 0.5, 1: 2.0},
    )
    add(
        "class_weight",
        {"beside sample_weight": {0: 2.0}},
        REJECTED,
        y=classes,
        sample_weight=np.ones(N),
    )
    add(
        "class_weight", {"a list": [1, 2], "an empty dict": {}, "a number": 2}, REJECTED
    )
    weights: Arguments = {"(n,)": numbers(N) ** 2, "(n, 1)": numbers(N, 1) ** 2}
    weights |= {"float32": (numbers(N) ** 2).astype("float32")}
    weights |= {"int": np.arange(N), "bool": np.arange(N) > 5, "zeros": np.zeros(N)}
    add("sample_weight", weights, epochs=2, batch_size=6)
    add(
        "sample_weight",
        {"with validation_split": numbers(N) ** 2},
        validation_split=0.3,
    )
    bad = {"a list": [1.0] * N, "too few": np.ones(N - 1), "a number": 1.0}
    add("sample_weight", bad, REJECTED)
    add(
        "sample_weight",
        {"beside a Dataset": lambda: {"x": dataset(), "y": ...}},
        REJECTED,
        sample_weight=np.ones(N),
    )
    add("initial_epoch", shown(0, 1, 2, 3), epochs=3)
    add("initial_epoch", shown(-1, 4), REJECTED, epochs=3)
    # With arrays, 20 rows in batches of 4 are 5 steps.
    for epochs, steps in ((1, 1), (1, 3), (2, 2), (5, 1), (1, 5), (3, 5)):
        add(
            "steps_per_epoch",
            {f"{steps} of 5, {epochs} epochs": steps},
            epochs=epochs,
            batch_size=4,
        )
        ready = {"Dataset": dataset}
        if epochs * steps <= 5:
            ready |= {"unknown length": unknown, "generator": batches}
        add(
            "steps_per_epoch",
            {
                f"{steps} of 5, {epochs} epochs, {k}": lambda v=v: {"x": v(), "y": ...}
                for k, v in ready.items()
            },
            epochs=epochs,
            steps_per_epoch=steps,
        )
    add("steps_per_epoch", {f"{s} without batch_size": s for s in (1, 2, 3, 5, 20)})
    add(
        "steps_per_epoch",
        {f"{s}, shuffle='batch'": s for s in (2, 4)},
        shuffle="batch",
        epochs=2,
    )
    add(
        "steps_per_epoch",
        {"endless Dataset": lambda: {"x": dataset().repeat(), "y": ...}},
        steps_per_epoch=3,
        epochs=4,
    )
    add(
        "steps_per_epoch",
        {"generator": lambda: {"x": batches(12), "y": ...}},
        steps_per_epoch=3,
        epochs=4,
    )
    add(
        "steps_per_epoch",
        {"`PyDataset`": lambda: {"x": Numbered(), "y": ...}},
        steps_per_epoch=5,
        epochs=3,
    )
    add(
        "steps_per_epoch",
        {"more than there are": 6, "3 of 5 in each of 2 epochs": 3},
        REJECTED,
        batch_size=4,
        epochs=2,
    )
    add(
        "steps_per_epoch",
        {"more than a Dataset has": lambda: {"x": dataset(), "y": ...}},
        REJECTED,
        steps_per_epoch=6,
    )
    add("steps_per_epoch", shown(0, -1, 2.5, "2"), REJECTED)
    add(
        "steps_per_epoch",
        {"None with an endless Dataset": lambda: {"x": dataset().repeat(), "y": ...}},
        REJECTED,
    )
    both = {"validation_data": lambda: (x, y), "epochs": 2}
    add("validation_steps", {"1": 1, "3": 3}, **both)
    add(
        "validation_steps",
        {f"{s}, batches of 2": s for s in (1, 3, 5)},
        **both,
        validation_batch_size=2,
    )
    add(
        "validation_steps",
        {"more than there are": 6},
        REJECTED,
        **both,
        validation_batch_size=2,
    )
    add("validation_steps", shown(0, -1, 1.5), REJECTED, **both)
    add(
        "validation_steps",
        {"2, Dataset": 2},
        epochs=3,
        validation_data=lambda: dataset(12),
    )
    add(
        "validation_steps",
        {"2, endless": 2},
        epochs=3,
        validation_data=lambda: dataset(12).repeat(),
    )
    add("validation_steps", {"2, `PyDataset`": 2}, epochs=3, validation_data=Numbered)
    add("validation_steps", {"2, validation_split": 2}, validation_split=0.5)
    add("validation_steps", {"without validation": 2})
    add("validation_batch_size", shown(None, 1, 2, 4, 9, 50), **both)
    add("validation_batch_size", shown(0, -2, 1.5), REJECTED, **both)
    more = {"validation_data": lambda: (x, y), "epochs": 5}
    add("validation_freq", shown(1, 2, 3, 6, [1], [2, 5], [9]), **more)
    add("validation_freq", shown((1, 3), {2}), MORE, **more)
    add("validation_freq", shown(0, -1, 1.5, "2", None), REJECTED, **more)


def nested(kind: str, *, weights: bool = False) -> Arguments:
    """Return two inputs and two outputs as a tuple, a list or a dict."""
    x = numbers(N, 3).astype(np.float32), numbers(N, 2, seed=1)
    y = numbers(N, 1, seed=2).astype(np.float32), numbers(N, 1, seed=3)
    if kind == "dict":
        arguments = {"x": dict(zip("ab", x, strict=True))}
        arguments |= {"y": dict(zip("pq", y, strict=True))}
    else:
        arguments = {"x": tuple(x), "y": tuple(y)}
        if kind == "list":
            arguments = {name: list(part) for name, part in arguments.items()}
    if weights:
        arguments["sample_weight"] = numbers(N, seed=5) ** 2
    return arguments


def nested_cases() -> None:
    """Add models with several inputs and outputs."""
    for kind in ("tuple", "list", "dict"):
        model = "dict" if kind == "dict" else "pair"
        two = f"two inputs and outputs, {kind}"
        add(
            "x",
            {two: lambda kind=kind: nested(kind)},
            model=model,
            epochs=2,
            batch_size=8,
        )
        add(
            "validation_split",
            {two: lambda kind=kind: nested(kind)},
            model=model,
            validation_split=0.3,
        )
        add(
            "sample_weight",
            {two: lambda kind=kind: nested(kind, weights=True)},
            model=model,
            batch_size=8,
        )
        add(
            "steps_per_epoch",
            {two: lambda kind=kind: nested(kind)},
            model=model,
            steps_per_epoch=2,
        )
        add(
            "x",
            {two: lambda kind=kind: nested(kind)},
            model=model,
            method="evaluate",
            batch_size=8,
        )
        add(
            "x",
            {two: lambda kind=kind: {"x": nested(kind)["x"]}},
            model=model,
            method="predict",
            batch_size=8,
        )
        add(
            "class_weight",
            {two: lambda kind=kind: nested(kind)},
            REJECTED,
            model=model,
            class_weight={0: 1.0},
        )
        as_dataset = {
            f"{two}, Dataset": lambda kind=kind: {
                "x": tf.data.Dataset.from_tensor_slices(
                    tuple(
                        tuple(part) if isinstance(part, list) else part
                        for part in nested(kind).values()
                    )
                ).batch(8)
            }
        }
        add("x", as_dataset, model=model, epochs=2)
        add("x", as_dataset, model=model, method="evaluate")
        add(
            "validation_data",
            {
                two: lambda kind=kind: (
                    nested(kind) | {"validation_data": tuple(nested(kind).values())}
                )
            },
            model=model,
        )
    add(
        "validation_data",
        {
            "[x, y] of two inputs": lambda: (
                nested("tuple") | {"validation_data": list(nested("tuple").values())}
            )
        },
        model="pair",
    )
    add(
        "validation_data",
        {
            "[x, y] of two inputs, beside a Dataset": lambda: {
                "x": tf.data.Dataset.from_tensor_slices(
                    tuple(nested("tuple").values())
                ).batch(8),
                "validation_data": list(nested("list").values()),
            }
        },
        model="pair",
    )
    add(
        "validation_data",
        {
            "[x, y] of two inputs, beside a generator": lambda: {
                "x": (b for b in [tuple(nested("tuple").values())]),
                "validation_data": list(nested("list").values()),
            }
        },
        model="pair",
    )
    add(
        "validation_data",
        {"two batches beside a generator": lambda: list(batches(2))},
        MORE,
        x=batches,
        y=...,
    )
    uneven = nested("tuple")
    uneven["x"] = uneven["x"][0], uneven["x"][1][:-1]
    add("x", {"two inputs of different lengths": uneven}, REJECTED, model="pair")
    other = nested("tuple") | {"sample_weight": {"p": np.ones(N), "q": np.ones(N)}}
    add("sample_weight", {"nested unlike y": other}, REJECTED, model="pair")
    each = nested("tuple") | {"sample_weight": (np.arange(N), np.ones(N))}
    add("sample_weight", {"one per output": each}, model="pair")


def evaluate_and_predict_cases() -> None:
    """Add the arguments of `evaluate` and `predict`."""
    for method in ("evaluate", "predict"):
        y = ... if method == "predict" else line()["y"]

        def kinds(table: Any, y: Any = y) -> Arguments:
            return {
                name: lambda kind=kind, y=y: {"x": kind(line()["x"]), "y": y}
                for name, kind in table.items()
            }

        add("x", kinds(ARRAYS), method=method)
        bad = {k: v for k, v in NOT_ARRAYS.items() if k != "fewer rows than the other"}
        add("x", kinds(bad), REJECTED, method=method)
        add("batch_size", shown(None, 1, 3, 7, 20, 50), method=method, y=y)
        add("batch_size", shown(0, -1, 2.5), REJECTED, method=method, y=y)
        add("verbose", shown(0, 1, 2, "auto"), method=method, y=y)
        add("verbose", shown(3, "no"), REJECTED, method=method, y=y)
        add(
            "steps",
            {f"{s} without batch_size": s for s in (1, 2, 3)},
            method=method,
            y=y,
        )
        add(
            "steps",
            {f"{s} of 5": s for s in (1, 2, 5)},
            method=method,
            y=y,
            batch_size=4,
        )
        add(
            "steps",
            {"more than there are": 6},
            REJECTED,
            method=method,
            y=y,
            batch_size=4,
        )
        add("steps", shown(0, -1, 1.5), REJECTED, method=method, y=y)
        add("callbacks", CALLBACKS, method=method, y=y)
        stop = {"evaluate": "stop_evaluating", "predict": "stop_predicting"}[method]
        add(
            "callbacks",
            {"stops at a batch": lambda stop=stop: [Stop(stop)]},
            method=method,
            y=y,
            batch_size=4,
        )
        streams: Arguments = {"Dataset": dataset, "unknown length": unknown}
        streams |= {"generator": batches, "`PyDataset`": Numbered}
        streams = {k: lambda v=v: {"x": v(), "y": ...} for k, v in streams.items()}
        add("x", streams, method=method)
        add("steps", {f"2, {k}": v for k, v in streams.items()}, method=method, steps=2)
        add(
            "steps",
            {
                "None with an endless Dataset": lambda: {
                    "x": dataset().repeat(),
                    "y": ...,
                }
            },
            REJECTED,
            method=method,
        )
    add(
        "y",
        {"beside a Dataset": lambda: {"x": dataset(), "y": line()["y"]}},
        REJECTED,
        method="evaluate",
    )
    add(
        "sample_weight",
        {"(n,)": numbers(N) ** 2, "int": np.arange(N)},
        method="evaluate",
        batch_size=6,
    )
    add("return_dict", shown(True), method="evaluate")
    add("return_dict", shown(False), REJECTED, method="evaluate")
    inputs = {
        "Dataset of inputs": lambda: {"x": dataset().map(lambda x, y: x)},
        "Dataset of (x,)": lambda: {"x": dataset().map(lambda x, y: (x,))},
    }
    add(
        "x",
        {k: lambda v=v: v() | {"y": ...} for k, v in inputs.items()},
        method="predict",
    )


fit_cases()
nested_cases()
evaluate_and_predict_cases()


def table() -> dict[tuple[str, str], dict[str, list[str]]]:
    """Return the values by method and argument, and by what kvt does with them."""
    found: dict[tuple[str, str], dict[str, list[str]]] = {}
    for case in CASES:
        row = found.setdefault(
            (case.method, case.argument), collections.defaultdict(list)
        )
        if case.value not in row[case.expected]:
            row[case.expected].append(case.value)
    return found


def counts() -> dict[str, int]:
    """Return how many cases there are of each kind."""
    return dict(collections.Counter(case.expected for case in CASES))


def markdown() -> str:
    """Return README's table."""
    lines = [
        "| argument | same as in Keras | rejected | accepted by kvt only |",
        "| --- | --- | --- | --- |",
    ]
    for (method, argument), row in table().items():
        count = len(row[SAME])
        same = f"{count} case{'s' * (count > 1)}" if count else ""
        cells = [same, "; ".join(row[REJECTED]), "; ".join(row[MORE])]
        name = f"`{argument}`" if method == "fit" else f"`{argument}` of `{method}`"
        lines.append(f"| {name} | {' | '.join(cell or '–' for cell in cells)} |")
    return "\n".join(lines)
