"""The port: its steps, its variables, and the record of its training."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kvt.compare.diagnose.record import Record, Setup, digest
from kvt.compare.parts import Weights
from kvt.data import Array
from kvt.training import checks, loop
from kvt.training.means import Step
from kvt.training.steps import OpenStep, prepare

Fit = Callable[..., Any]


@dataclass(frozen=True)
class Port:
    """Your version: its steps, and the variables that hold the model's weights.

    The train step may also return "outputs", those of the model, and "gradients", a
    list in the order of the trainable weights: then they are compared, too.
    """

    train_step: Step
    test_step: Step
    variables: Sequence[Any]


@dataclass(frozen=True)
class Storage:
    """Which weight is in which of the port's variables, and whether transposed."""

    places: tuple[tuple[int, int, bool], ...]  # weight, variable, transposed
    notes: tuple[str, ...] = ()

    def read(self, variables: Sequence[Any]) -> Weights:
        """Return the weights' values, as Keras has them."""
        values = ((value(variables[at]), turned) for _, at, turned in self.places)
        return [array.T if turned else array for array, turned in values]


def value(variable: Any) -> Array:
    """Copy a variable's value: of TensorFlow, Keras, NumPy."""
    return np.array(variable.numpy() if hasattr(variable, "numpy") else variable)


def storages(port: Any, weights: Weights, names: list[str]) -> list[Storage]:
    """Find the weights among the port's variables: as listed, then by their values.

    Raises TypeError for a port that is no function and for one that returns no `Port`.
    """
    if not callable(port):
        raise TypeError(
            f"port has type {type(port).__name__}; it must be a function of the "
            "weights that returns a kvt.Port; pass the function, not what it returns"
        )
    probe = np.random.default_rng(0)
    marked = [probe.standard_normal(w.shape).astype(w.dtype) for w in weights]
    values = [value(v) for v in _made(port, marked).variables]
    listed = [(at, at, False) for at in range(len(weights))]
    fits = [v.shape for v in values[: len(weights)]] == [w.shape for w in weights]
    by_value = [
        (number, at, turned)
        for number, mark in enumerate(marked)
        for at, array in enumerate(values)
        for turned in (False, True)[: array.ndim]
        if np.array_equal(array.T if turned else array, mark)
    ]
    found = [Storage(tuple(listed))] if fits else []
    every = len(by_value) == len(weights) and by_value != listed
    if by_value and (every or not fits):
        found.append(Storage(tuple(by_value), tuple(_storage(by_value, names))))
    if not found:
        given = ", ".join(str(v.shape) for v in values) or "(none)"
        raise ValueError(
            f"the port's variables have shapes {given}; they must hold the model's "
            f"weights, {', '.join(str(w.shape) for w in weights)}; list them in "
            "Port(…, variables) in the order of model.get_weights()"
        )
    return found


def _storage(places: list[tuple[int, int, bool]], names: list[str]) -> Any:
    """Yield what is unlike Keras in how the port stores the weights."""
    if turned := [names[i] for i, _, turned in places if turned]:
        yield f"the port stores {', '.join(turned)} transposed"
    if [at for _, at, _ in places] != sorted(at for _, at, _ in places):
        yield "the port lists its variables in another order"
    held = {i for i, _, _ in places}
    if rest := [name for i, name in enumerate(names) if i not in held]:
        yield f"the port has no variable for {', '.join(rest)}: they are not compared"


def _made(port: Any, weights: Weights) -> Port:
    made = port([w.copy() for w in weights])
    if not isinstance(made, Port):
        raise TypeError(
            f"port returned a {type(made).__name__}; it must return a kvt.Port; end it "
            "with return kvt.Port(train_step, test_step, variables)"
        )
    return made


def record_port(
    port: Any, weights: Weights, setup: Setup, fit: Fit | None, storage: Storage
) -> Record:
    """Train the port; note what each of its steps received and left."""
    made = _made(port, weights)
    record = Record(storage.read(made.variables), setup.x)
    record.traced = hasattr(made.train_step, "get_concrete_function")
    step: Any = made.train_step
    if fit is None:  # `kvt.fit` sees only the function below
        step = prepare(step, "train_step", None, 1, False)
    full = len(setup.split()[0]) % setup.batch_size == 0

    def train_step(*batch: Any) -> Any:
        if full and isinstance(step, OpenStep) and not step.only:
            step.only = step.trace(batch, known_size=True)
        x, y = map(np.asarray, batch[:2])
        record.begin(x, y, storage.read(made.variables))
        logs = step(*batch)
        checks.metrics(logs, "train_step")
        record.end(logs, storage.read(made.variables))
        return {k: v for k, v in logs.items() if k not in ("outputs", "gradients")}

    options: dict[str, Any] = dict(zip(Setup._fields[2:6], setup[2:6], strict=True))
    given: Any = train_step, made.test_step, setup.x, setup.y
    try:
        if fit is None:
            history: Any = loop.fit(*given, **options, verbose=0)
        else:
            history = fit(*given, *setup[2:6])
        record.history = _by_epoch(history, setup.epochs)
    except FloatingPointError:
        record.complete = False
    if not record.after:
        raise ValueError(
            "the loop called no train step; it must call the one that it was given; "
            "use the arguments of fit, not the port's own steps"
        )
    still = {*record.after} == {digest(record.start)}
    if still and np.isfinite(record.losses[0]):  # NaN would stay as it is, too
        raise ValueError(
            "the train step changed none of the variables; training must update them; "
            "list the variables that the step updates in Port(…, variables)"
        )
    return record


def _by_epoch(history: Any, epochs: int) -> list[dict[str, float]]:
    """Turn lists by epoch into metrics of each epoch."""
    history = getattr(history, "history", history)
    try:
        lists = {name: [float(v) for v in values] for name, values in history.items()}
    except (AttributeError, TypeError, ValueError):
        lists = {"?": []}
    if any(len(values) != epochs for values in lists.values()):
        raise ValueError(
            f"fit returned {history!r}; it must be a dict with a list of {epochs} "
            'numbers by epoch for each metric; use {"loss": [0.9, …]}, or {} for none'
        )
    return [{k: v[e] for k, v in lists.items()} for e in range(epochs)]
