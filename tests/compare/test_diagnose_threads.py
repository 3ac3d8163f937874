"""`diagnose` on small pairs: those of public threads, and the ways to hold weights."""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from kvt.compare.diagnose import ladder
from kvt.compare.diagnose.catalogue import STEP, KnownCause
from kvt.compare.diagnose.ladder import diagnose
from kvt.compare.diagnose.port_side import Port
from kvt.compare.diagnose.record import Place, Record, Rung
from kvt.data import keras_before
from tests.compare.test_diagnose import (
    Own,
    buffered,
    drawn,
    full_only,
    log_of_softmax,
    random_rows,
    stored,
    twice,
)

pytestmark = pytest.mark.long
Part = Callable[..., Any]
RATE = 0.1


def forward(variables: Any, x: Any) -> Any:
    *hidden, (w, b) = zip(variables[::2], variables[1::2], strict=True)
    for kernel, bias in hidden:
        x = tf.nn.relu(tf.nn.bias_add(x @ kernel, bias))
    one_unit = b.shape[0] == 1 and keras_before("3.16")  # as in Keras's Dense
    return (tf.add if one_unit else tf.nn.bias_add)(x @ w, b)


def cross_entropy(y: Any, z: Any) -> Any:
    return tf.nn.softmax_cross_entropy_with_logits(y, z)


def squared(y: Any, y_pred: Any) -> Any:
    return tf.square(y - y_pred)


class Descent:
    """Plain SGD."""

    def __init__(self, variables: Any) -> None:
        self.variables = variables

    def __call__(self, gradients: Any) -> None:
        for w, g in zip(self.variables, gradients, strict=True):
            w.assign_sub(RATE * g)


class SlowDescent(Descent):
    """SGD that a sum of losses does not throw off."""

    def __call__(self, gradients: Any) -> None:
        for w, g in zip(self.variables, gradients, strict=True):
            w.assign_sub(RATE / 100 * g)


class Adam:
    """Adam with Keras's order of operations, or with the paper's epsilon."""

    def __init__(
        self, variables: Any, epsilon: float = 1e-7, paper: bool = False, decay: Any = 0
    ) -> None:
        self.variables, self.epsilon, self.paper = variables, epsilon, paper
        self.decay, self.step = decay, tf.Variable(0.0)
        self.m, self.v = ([tf.Variable(w * 0) for w in variables] for _ in "mv")

    def __call__(self, gradients: Any) -> None:
        self.step.assign_add(1)
        first, second = (1 - tf.pow(beta, self.step) for beta in (0.9, 0.999))
        rows = zip(self.variables, gradients, self.m, self.v, strict=True)
        for w, g, m, v in rows:
            g = g + self.decay * w if self.decay else g
            m.assign_add((g - m) * (1 - 0.9))
            v.assign_add((tf.square(g) - v) * (1 - 0.999))
            if self.paper:
                root = tf.sqrt(v / second) + self.epsilon
                w.assign_sub(0.001 * (m / first) / root)
            else:
                rate = 0.001 * tf.sqrt(second) / first
                w.assign_sub(m * rate / (tf.sqrt(v) + self.epsilon))


@dataclass
class Version:
    """Somebody's own version of the model, with a fault in one part."""

    start: Part = lambda weights: weights
    forward: Part = forward
    losses: Part = cross_entropy
    reduce: Part = tf.reduce_mean
    accuracy: Part | None = None
    optimizer: Part = Descent
    targets: Part = lambda y: y
    listed: Part = lambda variables: variables
    extra: Part | None = None  # more that the train step returns
    jit_compile: bool = False

    def __call__(self, weights: Any) -> Port:
        variables = [tf.Variable(w) for w in self.start(weights)]
        optimizer = self.optimizer(variables)

        def measure(x: Any, y: Any) -> Any:
            outputs = self.forward(variables, x)
            logs = {"loss": self.reduce(self.losses(self.targets(y), outputs))}
            if self.accuracy:
                logs["accuracy"] = self.accuracy(y, tf.nn.softmax(outputs))
            return logs

        def train(x: Any, y: Any) -> Any:
            with tf.GradientTape() as tape:
                logs = measure(x, y)
            gradients = tape.gradient(logs["loss"], variables)
            optimizer(gradients)
            return logs | (self.extra(gradients) if self.extra else {})

        def compiled(step: Any) -> Any:
            columns = variables[0].shape[0], variables[-1].shape[0]
            signature = [tf.TensorSpec((None, n), tf.float32) for n in columns]
            return tf.function(
                step, input_signature=signature, jit_compile=self.jit_compile
            )

        return Port(compiled(train), compiled(measure), self.listed(variables))


def examples(outputs: int, n: int = 50, columns: int = 8, seed: int = 0) -> Any:
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(n, columns)).astype("float32")
    if outputs == 1:
        return x, x[:, :1] * 2 + 1
    return x, np.eye(outputs, dtype="float32")[draw.integers(outputs, size=n)]


def network(units: Any = (8, 3), optimizer: Any = None, columns: int = 8) -> Any:
    keras.utils.set_random_seed(1)
    hidden = [keras.layers.Dense(n, activation="relu") for n in units[:-1]]
    last = keras.layers.Dense(
        units[-1], activation="softmax" if units[-1] > 1 else None
    )
    model = keras.Sequential([keras.Input((columns,)), *hidden, last])
    model.compile(
        optimizer or keras.optimizers.SGD(RATE),
        "categorical_crossentropy" if units[-1] > 1 else "mean_squared_error",
        metrics=["accuracy"] if units[-1] > 1 else [],
    )
    return model


@dataclass
class Posted:
    """A pair that somebody asked about."""

    thread: str
    cause: str
    version: Version
    units: tuple[int, ...] = (8, 3)
    fit: Any = None
    optimizer: Any = None
    given: dict[str, Any] = field(default_factory=dict)
    alike: tuple[str, ...] = ()  # causes that leave the same bits


def by_class(y: Any, p: Any) -> Any:
    return tf.cast(tf.equal(tf.argmax(y, 1), tf.argmax(p, 1)), "float32")


def at_one_half(y: Any, p: Any) -> Any:
    return tf.reduce_mean(
        tf.cast(tf.equal(tf.cast(p > 0.5, "float32"), y), "float32"), 1
    )


def to_the_number(y: Any, p: Any) -> Any:
    return tf.reduce_mean(tf.cast(tf.equal(p, y), "float32"), 1)


def drawn_again(weights: Any) -> Any:
    draw = np.random.default_rng(7)
    return [draw.normal(size=w.shape).astype("float32") / 3 for w in weights]


POSTED = [
    Posted("keras#3654", "initial_weights", Version(start=drawn_again)),
    Posted(
        "TensorFlow-Examples#357",
        "sum_instead_of_mean",
        Version(losses=squared, reduce=tf.reduce_sum, optimizer=SlowDescent),
        units=(1,),
        optimizer=lambda: keras.optimizers.SGD(RATE / 100),
    ),
    Posted(
        "tensorflow#28901",
        "targets_without_axis",
        Version(losses=squared, targets=lambda y: y[:, 0]),
        units=(1,),
    ),
    Posted(
        "keras#7563",
        "log_of_softmax",
        Version(losses=log_of_softmax),
        alike=("probabilities_clipped",),
    ),
    Posted("keras#17634", "softmax_twice", Version(losses=twice)),
    Posted("keras#597", "random_split", Version(), fit=Own(split=random_rows)),
    Posted("handson-ml2#458", "with_replacement", Version(), fit=Own(batches=drawn)),
    Posted("tensorflow#36626", "small_buffer", Version(), fit=Own(batches=buffered)),
    Posted("keras#3985", "not_shuffled", Version(), fit=Own(batches=stored)),
    Posted("keras#20241", "last_batch_dropped", Version(), fit=Own(batches=full_only)),
    Posted(
        "tensorflow#38596",
        "mean_of_batch_means",
        Version(),
        fit=Own(loss=lambda losses, _: float(np.mean(losses))),
    ),
    Posted(
        "keras#12681",
        "loss_after_epoch",
        Version(),
        fit=Own(loss=lambda _, evaluate: evaluate()),
    ),
    Posted("tensorflow#35585", "accuracy_binary", Version(accuracy=at_one_half)),
    Posted(
        "keras#17391",
        "epsilon_size",
        Version(optimizer=lambda variables: Adam(variables, 1e-8)),
        optimizer=lambda: keras.optimizers.Adam(0.001),
    ),
    Posted(
        "tensorflow#36340",
        "epsilon_place",
        Version(optimizer=lambda variables: Adam(variables, paper=True)),
        optimizer=lambda: keras.optimizers.Adam(0.001),
    ),
    Posted("keras#19341", "xla", Version(jit_compile=True), units=(64, 32, 3)),
]


def found_in(one: Posted, n: int = 50, **options: Any) -> Any:
    optimizer = one.optimizer() if one.optimizer else None
    numbers = {"batch_size": 16, "epochs": 2, "validation_split": 0.2, "seed": 3}
    return diagnose(
        network(one.units, optimizer),
        one.version,
        *examples(one.units[-1], n),
        fit=one.fit,
        **({"verbose": 0} | numbers | one.given | options),
    )


def is_found(cause: str, found: Any) -> None:
    print(found)
    assert cause in (found.candidates or found.causes)
    assert "could not be tried" not in " ".join(found.notes)
    assert found.cause in (cause, None)
    assert found.proof == "exact"


@pytest.mark.parametrize(
    "one",
    [
        pytest.param(
            one,
            marks=[pytest.mark.wide] if one.cause == "xla" else [],  # XLA is slow
            id=f"{one.thread}-{one.cause}",
        )
        for one in POSTED
    ],
)
def test_the_known_answer_of_a_public_thread_is_found(one: Posted) -> None:
    found = found_in(one)
    is_found(one.cause, found)
    assert found.candidates == (one.cause, *one.alike)
    assert (found.cause is None) == bool(one.alike)


def swapped(weights: Any) -> Any:
    return [*weights[2:4], *weights[:2], *weights[4:]]


WEIGHTS_OF_CLASSES = {"class_weight": {0: 1.0, 1: 3.0, 2: 0.5}}
FURTHER = [
    *(
        Posted(
            f"{units}",
            "transposed_variable",
            Version(start=lambda weights: [weights[0].T, *weights[1:]]),
            units,
        )
        for units in ((8, 3), (8, 5, 3), (8, 8, 3))
    ),
    *(
        Posted(f"{units}", "variable_order", Version(start=swapped), units)
        for units in ((8, 8, 3), (8, 8, 5), (8, 8, 8, 3))
    ),
    *(
        Posted(f"{units}", "class_weight_missing", Version(), units, None, None, given)
        for given in (WEIGHTS_OF_CLASSES,)
        for units in ((3,), (8, 3), (8, 5, 3))
    ),
    *(
        Posted(
            f"{units}",
            "decoupled_weight_decay",
            Version(optimizer=lambda variables: Adam(variables, decay=0.1)),
            units,
            optimizer=lambda: keras.optimizers.AdamW(0.001, weight_decay=0.1),
        )
        for units in ((3,), (8, 3), (8, 5, 3))
    ),
    *(
        Posted(f"{units}", cause, Version(accuracy=accuracy), units)
        for cause, accuracy in (
            ("accuracy_binary", at_one_half),
            ("accuracy_exact", to_the_number),
        )
        for units in ((3,), (8, 3), (8, 5, 3))
    ),
    *(
        Posted(
            f"{units}",
            "targets_without_axis",
            Version(losses=squared, targets=lambda y: y[:, 0]),
            units,
        )
        for units in ((8, 1), (8, 5, 1))
    ),
]
# Of each cause that no thread has, the first case runs each time.
FIRST = {one.cause: one for one in reversed(FURTHER)}
for posted in POSTED:
    FIRST.pop(posted.cause, None)


@pytest.mark.parametrize(
    "one",
    [
        pytest.param(
            one,
            marks=[] if one is FIRST.get(one.cause) else pytest.mark.wide,
            id=f"{one.cause}-{one.thread}",
        )
        for one in FURTHER
    ],
)
def test_a_cause_of_few_lines_is_found_and_proven(one: Posted) -> None:
    is_found(one.cause, found_in(one))


def pair(**version: Any) -> Posted:
    return Posted("", "", Version(accuracy=by_class, **version))


@pytest.mark.parametrize(
    ("listed", "note"),
    [
        (lambda variables: variables[::-1], "lists its variables in another order"),
        (lambda variables: variables[:2], "has no variable for"),
    ],
    ids=["another order", "fewer"],
)
def test_other_lists_of_variables_are_no_cause(listed: Any, note: str) -> None:
    found = found_in(pair(listed=listed))
    assert (found.first, found.causes) == (None, ())
    assert note in " ".join(found.notes)


def test_transposed_storage_is_no_cause() -> None:
    def turned(variables: Any, x: Any) -> Any:
        w1, b1, w2, b2 = variables
        return forward([w1, b1, tf.transpose(w2), b2], x)

    stored_so = pair(forward=turned, start=lambda w: [w[0], w[1], w[2].T.copy(), w[3]])
    found = found_in(stored_so, n=20, epochs=1)  # later, the product rounds differently
    assert found.causes == ()
    assert "transposed" in " ".join(found.notes)


def test_a_loop_whose_means_are_in_float64_is_not_accused() -> None:
    found = found_in(Posted("", "", Version(accuracy=by_class), fit=Own()))
    assert (found.first, found.causes) == (None, ())
    assert ("metrics", "equal, at most rounding") in found.ladder


def test_gradients_are_compared_where_the_port_gives_them() -> None:
    wrong = pair(extra=lambda gradients: {"gradients": [g * 1 for g in gradients]})
    assert found_in(wrong).first is None

    class Larger(Descent):
        def __call__(self, gradients: Any) -> None:
            super().__call__([2 * g for g in gradients])

    right = pair(
        optimizer=Larger,
        extra=lambda gradients: {"gradients": gradients},
    )
    found = found_in(right)
    assert (found.first, found.cause) == ("update", "learning_rate")
    assert ("gradients", "same bits") in found.ladder
    assert "0.2, 2 times Keras's" in found.notes[0]


def test_the_model_is_left_as_it_was() -> None:
    model = network()
    x, y = examples(3)
    model.fit(x, y, verbose=0)
    variables = [*model.variables, *model.optimizer.variables]
    before = [v.numpy() for v in variables]
    floatx = keras.config.floatx()
    diagnose(model, Version(losses=twice), x, y, seed=3, verbose=0)
    assert all(map(np.array_equal, before, [v.numpy() for v in variables]))
    assert keras.config.floatx() == floatx
    model.fit(x, y, verbose=0)  # and it still trains


class Subclassed(keras.Model):  # type: ignore[misc]
    """A model that cannot be cloned, with a schedule."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = keras.layers.Dense(8, activation="relu")
        self.last = keras.layers.Dense(3, activation="softmax")

    def call(self, x: Any) -> Any:
        return self.last(self.hidden(x))


def test_a_subclassed_model_and_a_schedule_can_be_diagnosed() -> None:
    keras.utils.set_random_seed(1)
    model = Subclassed()
    x, y = examples(3)
    model(x[:1])
    rate = keras.optimizers.schedules.ExponentialDecay(RATE, 1000, 1.0)
    model.compile(keras.optimizers.SGD(rate), "categorical_crossentropy")
    found = diagnose(model, Version(losses=twice), x, y, seed=3, verbose=0)
    is_found("softmax_twice", found)


def test_the_budget_bounds_the_experiments_and_they_are_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = found_in(pair(losses=twice), budget=2, verbose=1)
    assert found.experiments == 2
    assert "budget of 2" in found.notes[-1]
    assert "experiment 1 of at most 2: as compiled" in capsys.readouterr().err


def added(variables: Any, x: Any) -> Any:
    w1, b1, w2, b2 = variables
    return tf.nn.relu(x @ w1 + b1) @ w2 + b2


@pytest.mark.parametrize("everywhere", [True, False])
def test_rounding_has_to_agree_from_another_start(everywhere: bool) -> None:
    start = network((8, 1)).get_weights()[0]

    def port(weights: Any) -> Port:
        same = everywhere or np.array_equal(weights[0], start)
        return Version(forward=added if same else forward, losses=squared)(weights)

    found = diagnose(
        network((8, 1)), port, *examples(1), epochs=2, seed=3, budget=4, verbose=0
    )
    assert found.causes == (("bias_added_with_plus",) if everywhere else ())
    assert "differs by rounding" in found.notes[0]


@pytest.mark.parametrize("error", [ValueError, NotImplementedError])
def test_a_switch_that_fails_is_not_silent(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def loss(y: Any, y_pred: Any) -> Any:
        raise error("no such part")

    breaks(monkeypatch, loss)
    found = found_in(pair(losses=twice), epochs=1)
    assert f"broken could not be tried: {error.__name__}" in found.notes[0]


def breaks(monkeypatch: pytest.MonkeyPatch, loss: Part) -> None:
    broken = KnownCause("A fix.", lambda seen: [{"loss": lambda given: loss}], STEP)
    monkeypatch.setattr(ladder, "CATALOGUE", {"broken": broken})


def test_a_mistake_in_a_switch_is_not_taken_for_a_model_it_does_not_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    breaks(monkeypatch, lambda y, y_pred: y.no_such_attribute)
    with pytest.raises(AttributeError, match="no_such_attribute"):
        found_in(pair(losses=twice), epochs=1)


@pytest.mark.parametrize(
    ("epochs", "run"), [(2, 1), (3, 1), (4, 3), (2, 3), (1, 2)], ids=str
)
@pytest.mark.parametrize("n", [50, 80], ids=["partial", "full"])
def test_other_numbers_of_epochs_are_no_cause_of_order(
    n: int, epochs: int, run: int
) -> None:
    def fit(*given: Any) -> dict[str, list[float]]:
        Own()(*given[:5], run, *given[6:])
        return {}

    found = found_in(Posted("", "", Version(), fit=fit), n, epochs=epochs, budget=12)
    assert (found.first, found.causes, found.candidates) == ("order", (), ())
    steps = -(-n * 4 // 5 // 16)
    told = f"{epochs * steps} in Keras, {run * steps} in the port"
    assert told in dict(found.ladder)["batches"]


def test_a_cause_with_an_unknown_one_after_it_is_no_verdict() -> None:
    search = ladder._Search(None, None, 5, 0, found=["softmax_twice"])  # type: ignore[arg-type]
    rest = SimpleNamespace(rounding=False, place=Place(3, Rung.update))
    assert search._inexact(rest, {}) is None  # type: ignore[arg-type]
    assert search.found == []
    assert (
        "with softmax_twice in Keras, the first difference is update, step 4"
        in (search.notes[0])
    )


@pytest.mark.parametrize(
    ("ends", "equal"), [((np.inf, np.nan), True), ((5, np.nan), False)]
)
def test_two_sides_that_overflow_together_are_equal(ends: Any, equal: bool) -> None:
    sides = []
    for end in ends:
        sides.append(Record([np.zeros(2, "float32")], np.zeros((4, 1))))
        for value in (1, end, np.nan):
            sides[-1].begin(np.zeros((2, 1)), np.zeros(2), sides[-1].last)
            sides[-1].end({"loss": np.float32(1)}, [np.float32([0, value])])
    assert (sides[0].parts(sides[1]) is None) == equal


def test_rows_that_are_not_of_x_are_other_inputs() -> None:
    found = found_in(Posted("", "", Version(), fit=Own(scale=255)), epochs=1)
    assert (found.first, found.cause) == ("inputs", "pixels_not_scaled")


def test_a_loss_that_is_nan_at_once_is_rejected() -> None:
    x, y = examples(3)
    model = network()
    model.set_weights([w * np.nan for w in model.get_weights()])
    with pytest.raises(ValueError, match="the loss of the first batch is nan in Keras"):
        diagnose(model, Version(), x, y, fit=Own(), verbose=0)


def test_one_step_is_said_to_be_little() -> None:
    found = diagnose(network(), Version(), *examples(3, 8), verbose=0)
    assert "one step was compared" in found.notes[0]


def test_a_port_with_other_variables_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"must hold the model's weights, \(8, 8\)"):
        found_in(pair(listed=lambda variables: [tf.Variable([1.0])]))


@pytest.mark.wide
@pytest.mark.parametrize("seed", range(200))
def test_no_cause_is_named_for_200_equal_pairs(seed: int) -> None:
    draw = np.random.default_rng(seed)
    units = (*draw.integers(2, 40, size=draw.integers(0, 3)).tolist(), 3)
    n, size = (int(draw.integers(*limits)) for limits in ((8, 90), (1, 40)))
    found = diagnose(
        network(units),
        Version(accuracy=by_class),
        *examples(3, n, seed=seed),
        batch_size=size,
        epochs=int(draw.integers(1, 4)),
        validation_split=float(draw.choice([0, 0.2, 0.5])),
        seed=seed,
        fit=[None, Own()][seed % 2],
        verbose=0,
    )
    assert (found.first, found.causes) == (None, ())


@pytest.mark.wide
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(
    "one", [POSTED[4], POSTED[8], FURTHER[8]], ids=lambda o: o.cause
)
def test_a_cause_is_found_for_any_size(one: Posted, seed: int) -> None:
    draw = np.random.default_rng(seed)
    numbers = {"batch_size": int(draw.integers(4, 30)), "seed": seed}
    is_found(one.cause, found_in(one, n=int(draw.integers(30, 90)), **numbers))
