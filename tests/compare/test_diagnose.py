"""`diagnose` on pairs that it has not seen: one cause injected, found, and proven."""

import functools
import json
import re
import runpy
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
from kvt.compare.diagnose.words import Diagnosis, section
from kvt.compare.pairs import PAIRS, Pair, convolutional, load
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
    drops: Part = lambda training: training,
    add: Part = tf.nn.bias_add,
) -> Any:
    w1, b1, gamma, beta, mean, variance, w2, b2, mask = weights
    moving = mean, variance
    h = tf.nn.relu(add(x @ w1, b1))
    if training:
        mean, variance = tf.nn.moments(h, axes=[0])
        for old, new in zip(moving, (mean, variance), strict=True):
            if not frozen:
                old.assign(old * momentum + new * (1 - momentum))
    with tf.name_scope("batchnorm"):
        scale = tf.math.rsqrt(variance + 1e-3) * gamma
        h = h * scale + (beta - mean * scale)
    return add(dropping(h, mask, drops(training)) @ w2, b2)


def dropping(h: Any, mask: Any, training: bool) -> Any:
    if training:
        h = tf.nn.experimental.stateless_dropout(h, parts.RATE, seed=mask)
        mask.assign_add([0, 1])
    return h


def convolutional_with_dropout(seed: int) -> Any:
    layers = convolutional(seed).layers
    dropout = keras.layers.Dropout(parts.RATE, seed=seed)
    return keras.Sequential(
        [keras.Input((28, 28, 1)), *layers[:-1], dropout, layers[-1]]
    )


def convolving(weights: Any, x: Any, training: bool, add: Part = tf.nn.bias_add) -> Any:
    k, c, w, b, *mask = weights
    h = tf.nn.relu(add(tf.nn.conv2d(x, k, strides=1, padding="SAME"), c))
    h = tf.nn.max_pool2d(h, ksize=2, strides=2, padding="SAME")
    h = tf.reshape(h, (-1, 14 * 14 * parts.FILTERS))
    return add((dropping(h, *mask, training) if mask else h) @ w, b)


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


def regularized(model: Part) -> Part:
    def penalized(seed: int) -> Any:
        made = model(seed)
        for layer in made.layers:
            if hasattr(layer, "kernel"):
                layer.kernel.regularizer = keras.regularizers.L2(parts.STRENGTH)
        return made

    return penalized


def squares(weights: Any) -> Any:
    kernels = [w for w in weights if len(w.shape) > 1]
    return sum(parts.STRENGTH * tf.reduce_sum(tf.square(w)) for w in kernels)


def like(pair: Pair, other: str) -> Pair:
    """A pair with the optimizer of another one."""
    rule = PAIRS[other].recipe
    recipe = replace(pair.recipe, update=rule.update, gradients=rule.gradients)
    settings = {**pair.settings, **PAIRS[other].settings}
    return replace(
        pair, recipe=recipe, optimizer=PAIRS[other].optimizer, settings=settings
    )


def with_squares(pair: Pair) -> Pair:
    recipe = replace(pair.recipe, penalty=squares)
    return replace(pair, recipe=recipe, model=regularized(pair.model))


CONVOLUTION, LINE = PAIRS["convolution"], PAIRS["linear regression"]
ALL = {
    **PAIRS,
    "batch normalization": NORMALIZED,
    "batch normalization, SGD": replace(
        like(NORMALIZED, "network"), settings={"learning_rate": 0.1}
    ),
    "batch normalization, momentum": like(NORMALIZED, "network, momentum"),
    "batch normalization, clipnorm": replace(
        like(NORMALIZED, "network, clipnorm"), settings={"learning_rate": 0.1}
    ),
    "batch normalization, L2": with_squares(NORMALIZED),
    "convolution, L2": with_squares(CONVOLUTION),
    "convolution, clipnorm": like(CONVOLUTION, "network, clipnorm"),
    "convolution, momentum": like(CONVOLUTION, "network, momentum"),
    "convolution, Adam": like(CONVOLUTION, "network, Adam"),
    "convolution, dropout": replace(
        CONVOLUTION,
        recipe=replace(CONVOLUTION.recipe, forward=convolving),
        model=convolutional_with_dropout,
    ),
    "linear regression, momentum": like(LINE, "network, momentum"),
}


@functools.cache
def prepared(name: str, n: int = 190) -> tuple[Any, Any, Any, Settings, Pair]:
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
        normalizes = case.pair.startswith("batch normalization")
        kind = Normalized if normalizes else Training
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


def always(phase: Any) -> bool:
    return True


def never(phase: Any) -> bool:
    return False


def plus(weights: Any, x: Any, training: bool) -> Any:
    w1, b1, w2, b2 = weights
    return tf.nn.relu(x @ w1 + b1) @ w2 + b2


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
    return squares(weights) / 2


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


MOST = ("network", "convolution", "batch normalization")
SGD_PAIRS = ("linear regression", "network", "convolution")
WITHOUT_MASK = (*SGD_PAIRS, "batch normalization")
ADAM = ("network, Adam", "convolution, Adam", "batch normalization")
AVERAGING = (
    *("batch normalization", "batch normalization, SGD"),
    "batch normalization, momentum",
)


def every(id: str, pairs: Any, *given: Any, **options: Any) -> list[Case]:
    return [Case(id, pair, *given, **options) for pair in pairs]


def as_xla(step: Any, signature: Any) -> Any:
    return tf.function(step, input_signature=signature, jit_compile=True)


def binary(y: Any, z: Any) -> Any:
    right = tf.equal(tf.cast(tf.nn.softmax(z) > 0.5, y.dtype), y)
    return tf.reduce_mean(tf.cast(right, y.dtype), axis=1)


def to_the_bit(y: Any, z: Any) -> Any:
    right = tf.equal(tf.nn.softmax(z), y)
    return tf.reduce_mean(tf.cast(right, y.dtype), axis=1)


AS_DOUBLE: Any = {
    "inputs": lambda x: np.asarray(x, "float64"),
    "targets": lambda y: np.asarray(y, "float64"),
}
TO_255: Any = {"inputs": lambda x: x * np.float32(255)}
HEAVY = {"class_weight": {0: 3.0, **dict.fromkeys(range(1, 10), 1.0)}}
L2_PAIRS = "network, L2", "convolution, L2", "batch normalization, L2"
MOMENTUM = tuple(
    f"{p}, momentum" for p in ("network", "convolution", "linear regression")
)
CLIPPED = tuple(f"{p}, clipnorm" for p in MOST)
CASES = [
    *every("initial_weights", WITHOUT_MASK[:3], start=other_start),
    *every("pixels_not_scaled", MOST, TO_255),
    *every("pixels_not_scaled", WITHOUT_MASK, fit=Own(scale=255)),
    *every("float64", SGD_PAIRS, AS_DOUBLE),
    *every("targets_without_axis", SGD_PAIRS[:1], {"targets": lambda y: y[:, 0]}),
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
        for pair in MOST
    ),
    *every("random_split", WITHOUT_MASK, fit=Own(split=random_rows)),
    *every(
        "dropout_left_off",
        ("network, dropout", "convolution, dropout"),
        {"training": never},
    ),
    *every(
        "dropout_left_on",
        ("network, dropout", "convolution, dropout"),
        {"training": always},
    ),
    Case(
        "dropout_left_off",
        "batch normalization",
        {"forward": functools.partial(normalizing, drops=never)},
    ),
    Case(
        "dropout_left_on",
        "batch normalization",
        {"forward": functools.partial(normalizing, drops=always)},
    ),
    Case("bias_added_with_plus", "network", {"forward": plus}),
    Case("bias_added_with_plus", "network, Adam", {"forward": plus}),
    Case(
        "bias_added_with_plus",
        "convolution",
        {"forward": functools.partial(convolving, add=tf.add)},
    ),
    Case(
        "bias_added_with_plus",
        "batch normalization",
        {"forward": functools.partial(normalizing, add=tf.add)},
    ),
    *every(
        "eager_steps",
        ("convolution", "convolution, Adam", "batch normalization"),
        {"compile": lambda step, signature: step},
    ),
    *every("sum_instead_of_mean", WITHOUT_MASK, {"reduce": total}),
    *every("last_batch_weighs_less", MOST, {"reduce": over_full_batch}),
    *every("softmax_twice", MOST, {"losses": twice}),
    *every("log_softmax_by_hand", MOST, {"losses": log_softmax}),
    *every(
        "log_of_softmax",
        ("network, pixels to 255", "convolution", "batch normalization"),
        {"losses": log_of_softmax},
    ),
    *every(
        "probabilities_clipped",
        ("network, pixels to 255", "convolution", "batch normalization"),
        {"losses": clipped},
    ),
    *every("half_of_l2", L2_PAIRS, {"penalty": half_of_squares}),
    *every("l2_missing", L2_PAIRS, {"penalty": parts.no_penalty}),
    *every("global_clipnorm", CLIPPED, {"gradients": together}),
    *every("momentum_missing", MOMENTUM, {"update": parts.sgd}),
    *every("momentum_averaged", MOMENTUM, {"update": averaged}),
    *every("epsilon_size", ADAM, {"update": smaller_epsilon}),
    *every("epsilon_place", ADAM, {"update": epsilon_of_the_paper}),
    *every("bias_correction_missing", ADAM, {"update": uncorrected}),
    *every("steps_off_by_one", ADAM, {"update": from_the_second_step}),
    *every("learning_rate", SGD_PAIRS, {"update": slower(parts.sgd)}),
    *every("learning_rate", ADAM, {"update": slower(parts.adam)}),
    *every(
        "moving_average_momentum",
        AVERAGING,
        {"forward": functools.partial(normalizing, momentum=0.9)},
    ),
    *every(
        "frozen_moving_averages",
        AVERAGING,
        {"forward": functools.partial(normalizing, frozen=True)},
    ),
    *every(
        "validation_updates_weights",
        WITHOUT_MASK,
        fit=Own(trains_on_validation=True),
    ),
    *every(
        "mean_of_batch_means",
        MOST,
        fit=Own(loss=lambda losses, _: float(np.mean(losses))),
    ),
    *every(
        "metrics_of_last_batch",
        WITHOUT_MASK,
        fit=Own(loss=lambda losses, _: losses[-1]),
    ),
    *every(
        "loss_after_epoch",
        WITHOUT_MASK,
        fit=Own(loss=lambda _, evaluate: evaluate()),
    ),
    *every("class_weight_missing", MOST, given=HEAVY),
    *every("accuracy_binary", MOST, {"accuracy": binary}),
    *every("accuracy_exact", MOST, {"accuracy": to_the_bit}),
    *every(
        "xla", ("network", "network, Adam", "batch normalization"), {"compile": as_xla}
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


@pytest.fixture(scope="module")
def tally() -> list[tuple[str, str, bool, bool]]:
    """What was injected, into which pair, and whether the answer is right and exact."""
    return []


@pytest.mark.parametrize("case", with_marks())
def test_an_injected_cause_is_found_and_proven(case: Case, tally: Any) -> None:
    found = run(case)
    print(found.to_json())
    named = found.candidates or found.causes
    right = case.id in named and found.cause in (case.id, None)
    tally.append((case.id, case.pair, right, right and found.proof == "exact"))
    assert right
    assert "could not be tried" not in " ".join(found.notes)
    assert found.proof == "exact"


@pytest.mark.wide
def test_most_injected_causes_are_found_and_proven(
    tally: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    if len(tally) < len(CASES):
        pytest.skip(f"{len(tally)} of {len(CASES)} causes were injected")
    right, exact = (sum(row[at] for row in tally) for at in (2, 3))
    wrong = [row[:2] for row in tally if not row[3]]
    with capsys.disabled():
        print(f"\n{len(tally)} injections: {right} right, {exact} exact; not: {wrong}")
    assert right >= 0.95 * len(tally)
    assert exact >= 0.8 * len(tally)


def test_the_readme_has_the_number_of_causes() -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    assert f"The catalogue has {len(CATALOGUE)} causes" in text


def test_the_readme_shows_what_its_example_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    section = text.partition("\n## Your own pair\n")[2].partition("\n## ")[0]
    code, shown = re.findall(r"```(?:python)?\n(.*?)```", section, re.DOTALL)
    example = tmp_path / "example.py"  # AutoGraph reads the source from a file
    example.write_text(code, "utf-8")
    runpy.run_path(str(example))
    # Another processor may round differently, which can move the counted steps.
    number = re.compile(r"\d[\d,]*(?:\.\d+)?")
    printed = capsys.readouterr().out
    assert number.sub("#", printed) == number.sub("#", shown)
    sides = (
        [float(n.replace(",", "")) for n in number.findall(t)] for t in (printed, shown)
    )
    assert next(sides) == pytest.approx(next(sides), rel=0.01)


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
    rest = {"transposed_variable", "variable_order", "decoupled_weight_decay"}
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
        fixes=(section(CATALOGUE["softmax_twice"].fix),),
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
    assert "| cause | **softmax_twice** |" in found._repr_markdown_()


def test_two_causes_are_found_one_after_the_other() -> None:
    change = {"losses": twice, "update": slower(parts.sgd)}
    found = run(Case("", "network", change))
    assert found.causes == ("softmax_twice", "learning_rate")
    assert found.proof == "exact"
