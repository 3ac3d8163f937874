"""`diagnose` on pairs that it has not seen: one cause injected, found, and proven."""

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from kvt import data
from kvt.compare import parts
from kvt.compare.diagnose.catalogue import CATALOGUE
from kvt.compare.diagnose.ladder import diagnose
from kvt.compare.diagnose.port_side import Port
from kvt.compare.diagnose.words import Diagnosis, link
from kvt.compare.pairs import PAIRS, Pair, load
from kvt.compare.recipe import Settings, Training
from kvt.data.releases import keras_before

pytestmark = pytest.mark.long

SEED = 3
Part = Callable[..., Any]


def normalized(seed: int) -> Any:
    """Batch normalization and dropout."""
    return keras.Sequential(
        [
            keras.Input((784,)),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(parts.RATE, seed=seed),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )


def normalizing(
    weights: Any,
    x: Any,
    training: bool,
    *,
    momentum: float = 0.99,
    frozen: bool = False,
) -> Any:
    w1, b1, gamma, beta, mean, variance, w2, b2, mask = weights
    moving = mean, variance
    h = tf.nn.relu(tf.nn.bias_add(x @ w1, b1))
    if training:
        mean, variance = tf.nn.moments(h, axes=[0])
        for old, new in zip(moving, (mean, variance), strict=True):
            if not frozen:
                old.assign(old * momentum + new * (1 - momentum))
    with tf.name_scope("batchnorm"):
        scale = tf.math.rsqrt(variance + 1e-3) * gamma
        h = h * scale + (beta - mean * scale)
    if training:
        h = tf.nn.experimental.stateless_dropout(h, parts.RATE, seed=mask)
        mask.assign_add([0, 1])
    return tf.nn.bias_add(h @ w2, b2)


@dataclass
class Own:
    """A training loop as somebody would write it, with the causes of its own."""

    split: Part = parts.tail
    batches: Part = parts.keras_order
    scale: float = 1.0
    loss: Part | None = None  # (losses by batch, evaluate the training rows) -> loss
    trains_on_validation: bool = False

    def __call__(
        self,
        train_step: Any,
        test_step: Any,
        x: Any,
        y: Any,
        batch_size: int,
        epochs: int,
        validation_split: float,
        seed: int,
    ) -> dict[str, list[float]]:
        x = x * np.float32(self.scale)
        rows, held_back = self.split(len(x), validation_split, seed)
        history: dict[str, list[float]] = {}

        def run(step: Any, rows: Any) -> list[tuple[dict[str, Any], int]]:
            return [(step(x[batch], y[batch]), len(batch)) for batch in rows]

        def mean(logs: list[tuple[dict[str, Any], int]]) -> dict[str, float]:
            sizes = [size for _, size in logs]
            found = {}
            for name in logs[0][0]:
                values = [float(np.mean(step[name])) for step, _ in logs]
                found[name] = float(np.average(values, weights=sizes))
            return found

        for epoch in range(epochs):
            order = self.batches(len(rows), batch_size, seed, epoch)
            logs = run(train_step, [rows[batch] for batch in order])
            found = mean(logs)
            if self.loss:
                losses = [float(step["loss"]) for step, _ in logs]
                found["loss"] = self.loss(
                    losses,
                    lambda: mean(run(test_step, parts.cut(rows, batch_size)))["loss"],
                )
            step = train_step if self.trains_on_validation else test_step
            if len(held_back):
                val = mean(run(step, parts.cut(held_back, batch_size)))
                found |= {f"val_{name}": value for name, value in val.items()}
            for name, value in found.items():
                history.setdefault(name, []).append(value)
        return history


class Normalized(Training):
    """A training whose moving averages get no gradient."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._weights = [self._variables[i] for i in (0, 1, 2, 3, 6, 7)]
        zeros = ([tf.Variable(tf.zeros_like(w)) for w in self._weights] for _ in "mv")
        self._slots = parts.Slots(tf.Variable(0, dtype="int64"), *zeros)


@dataclass(frozen=True)
class Case:
    """An id of the catalogue, and what brings it into a pair."""

    id: str
    pair: str = "network"
    change: dict[str, Any] = field(default_factory=dict)  # parts of the steps
    fit: Own | None = None
    start: Part = lambda weights: weights
    given: dict[str, Any] = field(default_factory=dict)  # arguments of diagnose


NORMALIZED = Pair(
    replace(PAIRS["network, Adam"].recipe, forward=normalizing),
    normalized,
    optimizer=keras.optimizers.Adam,
    settings={"learning_rate": 1e-3},
)
ALL = {**PAIRS, "batch normalization": NORMALIZED}


@functools.cache
def prepared(name: str, n: int = 210) -> tuple[Any, Any, Any, Settings, Pair]:
    pair = ALL[name]
    examples = load(pair, "digits", n, SEED)
    numbers = {"epochs": 2, "batch_size": 32, "learning_rate": 0.1}
    settings = Settings(**(numbers | {"validation_split": 0.2} | dict(pair.settings)))
    settings = replace(settings, epochs=2)
    keras.utils.set_random_seed(SEED)
    model = pair.model(SEED)
    model.compile(
        loss=pair.loss,
        optimizer=pair.optimizer(settings.learning_rate),
        metrics=["accuracy"] if pair.recipe.accuracy else [],
        jit_compile=False,
    )
    return model, pair.recipe.inputs(examples.x_train), examples, settings, pair


def run(case: Case, **options: Any) -> Any:
    model, x, examples, settings, pair = prepared(case.pair)
    change = dict(case.change)
    inputs, targets = (change.pop(k, parts.scaled) for k in ("inputs", "targets"))
    state = parts.keras_weights
    if any(hasattr(layer, "seed_generator") for layer in model.layers):
        state = PAIRS["network, dropout"].state

    def port(weights: list[Any]) -> Port:
        full = state(case.start(weights), SEED)
        recipe = replace(pair.recipe, **({"inputs": parts.scaled} | change))
        probe = replace(examples, x_train=inputs(x), y_train=targets(examples.y_train))
        kind = Normalized if case.pair == "batch normalization" else Training
        training = kind(recipe, probe, settings, {SEED: full})
        training.begin(full, SEED)
        return Port(
            lambda x, y: training.train_step(inputs(x), targets(y)),
            lambda x, y: training.test_step(inputs(x), targets(y))[0],
            training._variables[: len(weights)],
        )

    return diagnose(
        model,
        port,
        x,
        examples.y_train,
        batch_size=settings.batch_size,
        epochs=settings.epochs,
        validation_split=settings.validation_split,
        seed=SEED,
        fit=case.fit,
        **({"verbose": 0} | case.given | options),
    )


MODELS = {"linear regression", "network", "convolution", "batch normalization"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in MODELS else pytest.mark.wide)
        for name in ALL
        if "float64" not in name
    ],
)
@pytest.mark.parametrize(
    "fit",
    [
        pytest.param(None, id="kvt.fit"),
        pytest.param(Own(), marks=pytest.mark.wide, id="own"),
    ],
)
def test_no_cause_is_named_for_an_equal_pair(name: str, fit: Any) -> None:
    model = prepared(name)[0]
    before = [v.numpy() for v in model.variables]
    found = run(Case("", name, fit=fit))
    assert (found.first, found.cause, found.proof) == (None, None, None)
    after = [v.numpy() for v in model.variables]
    assert all(map(np.array_equal, before, after))


def always(phase: str) -> bool:
    return True


def never(phase: str) -> bool:
    return False


def plus(weights: Any, x: Any, training: bool) -> Any:
    w1, b1, w2, b2 = weights
    return tf.nn.relu(x @ w1 + b1) @ w2 + b2


def plus_after_convolution(weights: Any, x: Any, training: bool) -> Any:
    k, c, w, b = weights
    h = tf.nn.relu(tf.nn.conv2d(x, k, strides=1, padding="SAME") + c)
    h = tf.nn.max_pool2d(h, ksize=2, strides=2, padding="SAME")
    return tf.reshape(h, (-1, 14 * 14 * parts.FILTERS)) @ w + b


def total(losses: Any, batch_size: int) -> Any:
    return tf.reduce_sum(losses)


def over_full_batch(losses: Any, batch_size: int) -> Any:
    return tf.reduce_sum(losses) / batch_size


def twice(y: Any, z: Any) -> Any:
    return tf.nn.softmax_cross_entropy_with_logits(y, tf.nn.softmax(z))


def log_of_softmax(y: Any, z: Any) -> Any:
    return -tf.reduce_sum(y * tf.math.log(tf.nn.softmax(z)), axis=1)


def clipped(y: Any, z: Any) -> Any:
    p = tf.clip_by_value(tf.nn.softmax(z), 1e-7, 1 - 1e-7)
    return -tf.reduce_sum(y * tf.math.log(p), axis=1)


def log_softmax(y: Any, z: Any) -> Any:
    return -tf.reduce_sum(y * tf.nn.log_softmax(z), axis=1)


def half_of_squares(weights: Any) -> Any:
    return sum(parts.STRENGTH * tf.nn.l2_loss(w) for w in (weights[0], weights[2]))


def together(tape: Any, loss: Any, weights: Any) -> Any:
    return tf.clip_by_global_norm(tape.gradient(loss, weights), parts.NORM)[0]


def averaged(weights: Any, gradients: Any, rate: float, slots: Any) -> None:
    for w, g, m in zip(weights, gradients, slots.m, strict=True):
        m.assign(0.9 * m + (1 - 0.9) * g)
        w.assign_sub(rate * m)


def smaller_epsilon(weights: Any, gradients: Any, rate: float, slots: Any) -> None:
    first, second = parts.corrections(slots)
    rate = rate * tf.sqrt(second) / first
    for w, m, v in parts.moments(weights, gradients, slots):
        w.assign_sub(m * rate / (tf.sqrt(v) + 1e-8))


def epsilon_of_the_paper(weights: Any, gradients: Any, rate: float, slots: Any) -> None:
    first, second = parts.corrections(slots)
    for w, m, v in parts.moments(weights, gradients, slots):
        w.assign_sub(rate * (m / first) / (tf.sqrt(v / second) + 1e-7))


def uncorrected(weights: Any, gradients: Any, rate: float, slots: Any) -> None:
    for w, m, v in parts.moments(weights, gradients, slots):
        w.assign_sub(m * rate / (tf.sqrt(v) + 1e-7))


def from_the_second_step(weights: Any, gradients: Any, rate: float, slots: Any) -> None:
    slots.count.assign(tf.maximum(slots.count, 1))
    parts.adam(weights, gradients, rate, slots)


def slower(update: Part) -> Part:
    def changed(weights: Any, gradients: Any, rate: float, slots: Any) -> None:
        update(weights, gradients, 0.3 * rate, slots)

    return changed


def random_rows(n: int, share: float, seed: int) -> Any:
    rows = np.random.default_rng(seed).permutation(n)
    n_train = data.split(n, share)
    return rows[:n_train], rows[n_train:]


def stored(n: int, size: int, seed: int, epoch: int) -> Any:
    return parts.cut(np.arange(n), size)


def drawn(n: int, size: int, seed: int, epoch: int) -> Any:
    return parts.cut(np.random.default_rng([seed, epoch]).integers(n, size=n), size)


def buffered(n: int, size: int, seed: int, epoch: int) -> Any:
    rows = tf.data.Dataset.range(n).shuffle(20, seed=seed)
    return list(rows.batch(size).as_numpy_iterator())


def whole_batches(n: int, size: int, seed: int, epoch: int) -> Any:
    batches = parts.cut(np.arange(n), size)
    return [
        batches[i] for i in np.random.default_rng([seed, 1]).permutation(len(batches))
    ]


def another_each_epoch(n: int, size: int, seed: int, epoch: int) -> Any:
    return parts.cut(data.example_order(n, seed + epoch), size)


def full_only(n: int, size: int, seed: int, epoch: int) -> Any:
    batches = parts.cut(data.example_order(n, seed), size)
    return [rows for rows in batches if len(rows) == size]


def of_another_release(n: int, size: int, seed: int, epoch: int) -> Any:
    other = "3.16" if keras_before("3.16") else "3.15"
    return parts.cut(data.example_order(n, seed, release=other), size)


def other_start(weights: Any) -> Any:
    draw = np.random.default_rng(1)
    return [w + draw.normal(0, 0.1, w.shape).astype("float32") for w in weights]


SGD_PAIRS = ("linear regression", "network", "convolution")
CLASSIFIERS = ("network", "convolution", "network, momentum")
DROPPING = ("network, dropout", "batch normalization")
CASES = [
    *(Case("initial_weights", pair, start=other_start) for pair in SGD_PAIRS),
    *(
        Case("pixels_not_scaled", pair, {"inputs": lambda x: x * np.float32(255)})
        for pair in CLASSIFIERS
    ),
    *(Case("pixels_not_scaled", pair, fit=Own(scale=255)) for pair in SGD_PAIRS),
    *(
        Case(
            "float64",
            pair,
            {
                "inputs": lambda x: np.asarray(x, "float64"),
                "targets": lambda y: np.asarray(y, "float64"),
            },
        )
        for pair in SGD_PAIRS
    ),
    Case("targets_without_axis", "linear regression", {"targets": lambda y: y[:, 0]}),
    *(
        Case(name, pair, fit=Own(batches=batches))
        for name, batches in (
            ("not_shuffled", stored),
            ("with_replacement", drawn),
            ("small_buffer", buffered),
            ("batches_shuffled", whole_batches),
            ("reshuffled", another_each_epoch),
            ("last_batch_dropped", full_only),
            ("order_of_another_keras", of_another_release),
        )
        for pair in ("network", "network, Adam", "batch normalization")
    ),
    *(Case("random_split", pair, fit=Own(split=random_rows)) for pair in SGD_PAIRS),
    *(Case("dropout_left_off", pair, {"training": never}) for pair in DROPPING[:1]),
    *(Case("dropout_left_on", pair, {"training": always}) for pair in DROPPING[:1]),
    *(
        Case("bias_added_with_plus", pair, {"forward": plus})
        for pair in ("network", "network, Adam", "network, momentum")
    ),
    Case("bias_added_with_plus", "convolution", {"forward": plus_after_convolution}),
    *(
        Case("eager_steps", pair, {"compile": lambda step, signature: step})
        for pair in ("convolution", "batch normalization")
    ),
    *(Case("sum_instead_of_mean", pair, {"reduce": total}) for pair in SGD_PAIRS),
    *(
        Case("last_batch_weighs_less", pair, {"reduce": over_full_batch})
        for pair in ("network", "network, Adam", "convolution")
    ),
    *(Case("softmax_twice", pair, {"losses": twice}) for pair in CLASSIFIERS),
    *(
        Case("log_softmax_by_hand", pair, {"losses": log_softmax})
        for pair in CLASSIFIERS
    ),
    Case("log_of_softmax", "network, pixels to 255", {"losses": log_of_softmax}),
    Case("probabilities_clipped", "network, pixels to 255", {"losses": clipped}),
    Case("half_of_l2", "network, L2", {"penalty": half_of_squares}),
    Case("l2_missing", "network, L2", {"penalty": parts.no_penalty}),
    Case("global_clipnorm", "network, clipnorm", {"gradients": together}),
    Case("momentum_missing", "network, momentum", {"update": parts.sgd}),
    Case("momentum_averaged", "network, momentum", {"update": averaged}),
    *(
        Case(name, pair, {"update": update})
        for name, update in (
            ("epsilon_size", smaller_epsilon),
            ("epsilon_place", epsilon_of_the_paper),
            ("bias_correction_missing", uncorrected),
            ("steps_off_by_one", from_the_second_step),
        )
        for pair in ("network, Adam", "batch normalization")
    ),
    *(Case("learning_rate", pair, {"update": slower(parts.sgd)}) for pair in SGD_PAIRS),
    Case("learning_rate", "network, Adam", {"update": slower(parts.adam)}),
    Case(
        "moving_average_momentum",
        "batch normalization",
        {"forward": functools.partial(normalizing, momentum=0.9)},
    ),
    Case(
        "frozen_moving_averages",
        "batch normalization",
        {"forward": functools.partial(normalizing, frozen=True)},
    ),
    *(
        Case("validation_updates_weights", pair, fit=Own(trains_on_validation=True))
        for pair in SGD_PAIRS
    ),
    *(
        Case(
            "mean_of_batch_means",
            pair,
            fit=Own(loss=lambda losses, _: float(np.mean(losses))),
        )
        for pair in ("network", "network, momentum", "network, Adam")
    ),
    *(
        Case("metrics_of_last_batch", pair, fit=Own(loss=lambda losses, _: losses[-1]))
        for pair in SGD_PAIRS
    ),
    *(
        Case("loss_after_epoch", pair, fit=Own(loss=lambda _, evaluate: evaluate()))
        for pair in SGD_PAIRS
    ),
    *(
        Case(
            "xla",
            pair,
            {
                "compile": lambda step, signature: tf.function(
                    step, input_signature=signature, jit_compile=True
                )
            },
        )
        for pair in ("network", "network, Adam")
    ),
]


# Of these ids the first case runs each time. The public threads in
# test_diagnose_threads.py have further ids; all cases take minutes together.
ALWAYS = {
    *("float64", "dropout_left_on", "bias_added_with_plus", "eager_steps"),
    *("log_softmax_by_hand", "half_of_l2", "momentum_missing", "learning_rate"),
    *("frozen_moving_averages", "validation_updates_weights"),
    "order_of_another_keras",
}


def with_marks() -> list[Any]:
    """Mark the cases that do not run each time as wide."""
    seen: set[str] = set()
    marked = []
    for number, case in enumerate(CASES):
        always = case.id in ALWAYS and case.id not in seen
        marks = [] if always else [pytest.mark.wide]
        name = f"{number}-{case.id}-{case.pair}"
        marked.append(pytest.param(case, marks=marks, id=name))
        seen.add(case.id)
    return marked


@pytest.mark.parametrize("case", with_marks())
def test_an_injected_cause_is_found_and_proven(case: Case) -> None:
    found = run(case)
    print(found.to_json())
    assert case.id in (found.candidates or found.causes)
    assert "could not be tried" not in " ".join(found.notes)
    assert found.cause in (case.id, None)
    assert found.proof == "exact"


def test_the_readme_has_the_number_of_causes() -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    assert f"The catalogue has {len(CATALOGUE)} causes" in text


def test_each_heading_is_one_of_chapter_09() -> None:
    path = Path(__file__).parents[2] / "notebooks" / "09_why_results_differ.ipynb"
    cells = json.loads(path.read_text("utf-8"))["cells"]
    there = {
        line.lstrip("#").strip()
        for cell in cells
        if cell["cell_type"] == "markdown"
        for line in "".join(cell["source"]).splitlines()
        if line.startswith("#")
    }
    fixes = {cause.fix for cause in CATALOGUE.values()}
    assert {fix for fix in fixes if not fix.endswith(".")} <= there


def test_every_cause_of_the_catalogue_is_injected() -> None:
    # In test_diagnose_threads.py, on small pairs.
    rest = {"transposed_variable", "variable_order", "class_weight_missing"}
    rest |= {"decoupled_weight_decay", "accuracy_binary", "accuracy_exact"}
    assert {case.id for case in CASES} | rest == CATALOGUE.keys()


class Custom(keras.Model):  # type: ignore[misc]
    """A model with a train step of its own."""

    def train_step(self, data: Any) -> Any:
        return super().train_step(data)


def compiled(inputs: int = 1, kind: Any = keras.Model) -> Any:
    given = [keras.Input((1,)) for _ in range(inputs)]
    last = keras.layers.Dense(1)(keras.layers.Add()([*given, given[0]]))
    model = kind(given, last)
    model.compile("sgd", "mse")
    return model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]), "not compiled"),
        (object(), "not compiled"),
        (compiled(kind=Custom), "model has its own train_step; .* move what it does"),
        (compiled(2), "model has 2 inputs; .* join them"),
    ],
    ids=["not compiled", "no model", "own step", "two inputs"],
)
def test_a_model_that_fit_could_not_train_is_rejected(model: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        diagnose(model, lambda weights: None, [[1.0]], [[1.0]])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"port": 5}, "port has type int; it must be a function"),
        ({"fit": 5}, "fit has type int; it must be a function"),
        ({"budget": 0}, "budget is 0; it must be an integer of at least 1"),
        ({"epochs": 0}, "epochs is 0; it must be"),
        ({"seed": None}, "seed is None; it must be"),
        ({"class_weight": [1.0]}, "class_weight is .* it must be a dict"),
        ({"y": [[1.0], [2.0]]}, "x has 1 and y has 2 examples"),
        ({"x": {"a": 1}}, "x is a single value"),
    ],
    ids=lambda given: next(iter(given)) if isinstance(given, dict) else "",
)
def test_invalid_arguments_are_rejected(given: Any, message: str) -> None:
    rest = {"port": lambda weights: None, "x": [[1.0]], "y": [[1.0]]} | given
    with pytest.raises((TypeError, ValueError), match=message):
        diagnose(compiled(), **rest)


@pytest.mark.parametrize("history", [None, {"loss": 2.0}, {"loss": [1.0]}, [1, 2]])
def test_a_loop_that_returns_no_lists_by_epoch_is_rejected(history: Any) -> None:
    def port(weights: Any) -> Port:
        return Port(lambda x, y: None, lambda x, y: None, weights)

    with pytest.raises(ValueError, match="must be a dict with a list of 2 numbers"):
        diagnose(
            compiled(), port, [[1.0]], [[1.0]], epochs=2, fit=lambda *given: history
        )
    with pytest.raises(TypeError, match="train_step returned NoneType"):
        diagnose(compiled(), port, [[1.0]], [[1.0]])


def test_a_port_that_is_no_port_is_rejected() -> None:
    model, x, examples, *_ = prepared("network")
    with pytest.raises(TypeError, match="returned a tuple; it must return"):
        diagnose(model, lambda weights: (1, 2), x, examples.y_train)


def test_steps_that_change_nothing_are_rejected() -> None:
    model, x, examples, *_ = prepared("network")

    def port(weights: Any) -> Port:
        def step(x: Any, y: Any) -> Any:
            return {"loss": np.float32(1)}

        return Port(step, step, [tf.Variable(w) for w in weights])

    with pytest.raises(ValueError, match="changed none of the variables"):
        diagnose(model, port, x, examples.y_train)


def test_the_words_name_place_cause_proof_and_section() -> None:
    found = Diagnosis(
        first="loss",
        step=0,
        ladder=(("start", "same bits"), ("first loss", "2 in Keras, 3 in the port")),
        causes=("softmax_twice",),
        candidates=("softmax_twice",),
        proof="exact",
        fixes=(link(CATALOGUE["softmax_twice"].fix),),
        notes=(),
        experiments=5,
    )
    assert str(found).splitlines() == [
        "start             same bits",
        "first loss        2 in Keras, 3 in the port",
        "first difference  loss, step 1",
        "cause             softmax_twice",
        "proof             exact: with the cause switched on, "
        "Keras has the port's bits",
        "experiments       5 trainings of Keras",
        "fix               09_why_results_differ.ipynb#Softmax-applied-twice",
    ]
    assert json.loads(found.to_json())["cause"] == found.cause == "softmax_twice"
    assert "| cause | softmax_twice |" in found._repr_markdown_()


def test_two_causes_are_found_one_after_the_other() -> None:
    change = {"losses": twice, "update": slower(parts.sgd)}
    found = run(Case("", "network", change))
    assert found.causes == ("softmax_twice", "learning_rate")
    assert found.proof == "exact"
