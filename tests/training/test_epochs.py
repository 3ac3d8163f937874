"""The same callbacks see the same training in Keras and in kvt."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import kvt
from kvt.compare import parity
from kvt.training import hooks

pytestmark = pytest.mark.long

HOOKS = sorted(
    name for name in dir(keras.callbacks.Callback) if name.startswith(("on_", "set_"))
)
RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((7, 2)).astype("float32")
Y = (X[:, :1] > 0).astype("float32")
OPTIONS = {"batch_size": 2, "epochs": 3, "verbose": 0}
VALIDATION = {"validation_data": (X[:5], Y[:5])}
BATCH = [tf.TensorSpec((None, n), "float32") for n in (2, 1)]


class Recording:
    """Has every hook of Keras by name alone, and records each call as it is made."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        if name not in HOOKS:
            raise AttributeError(name)

        def note(*values: Any, **named: Any) -> None:
            if name == "set_model":
                self.model, values = values[0], ()
            copies = [dict(v) if isinstance(v, dict) else v for v in values]
            self.calls.append((name, copies, {k: dict(v) for k, v in named.items()}))

        return note


class Pair:
    """One linear model: Keras trains it by `fit`, its twin is trained by raw steps.

    Both have Keras's layers and optimizer, so that callbacks can act on both.
    """

    def __init__(self, steps_per_execution: int = 1, **sgd: Any) -> None:
        self.keras, self.twin = (self.build(steps_per_execution, sgd) for _ in "ab")
        model = self.twin
        model.optimizer.build(model.trainable_variables)

        def measure(x: tf.Tensor, y: tf.Tensor) -> dict[str, tf.Tensor]:
            error = tf.reshape(model(x) - y, [-1])
            return {"loss": tf.reduce_mean(error**2), "mae": tf.abs(error)}

        def update(x: tf.Tensor, y: tf.Tensor) -> dict[str, tf.Tensor]:
            with tf.GradientTape() as tape:
                logs = measure(x, y)
            variables = model.trainable_variables
            gradients = tape.gradient(logs["loss"], variables)
            model.optimizer.apply(gradients, variables)
            return logs

        self.steps = [tf.function(f, input_signature=BATCH) for f in (update, measure)]

    @staticmethod
    def build(steps_per_execution: int, sgd: Any) -> keras.Model:
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile(
            keras.optimizers.SGD(**{"learning_rate": 0.1} | sgd),
            "mse",
            metrics=["mae"],
            jit_compile=False,
            steps_per_execution=steps_per_execution,
        )
        return model

    def in_keras(self, *callbacks: Any, **options: Any) -> keras.callbacks.History:
        keras.utils.set_random_seed(0)
        return self.keras.fit(X, Y, callbacks=[*callbacks], **OPTIONS | options)

    def in_kvt(self, *callbacks: Any, **options: Any) -> kvt.History:
        options = OPTIONS | {"model": self.twin} | options
        return kvt.fit(*self.steps, X, Y, callbacks=[*callbacks], **options)

    def check_same(self, ours: kvt.History, theirs: Any) -> None:
        assert list(ours.history) == list(theirs.history)
        assert ours.history == theirs.history
        assert (ours.epoch, ours.params) == (theirs.epoch, theirs.params)
        assert parity.same_bits(self.twin.get_weights(), self.keras.get_weights())


traced = functools.cache(Pair)
INITIAL = [np.float32([[0.5], [-0.25]]), np.float32([0.125])]


def pair_of(steps_per_execution: int = 1) -> Pair:
    """Return a pair with initial weights; its functions are traced once."""
    pair = traced(steps_per_execution)
    for model in pair.keras, pair.twin:
        model.set_weights(INITIAL)
        model.optimizer.learning_rate = 0.1
        model.optimizer.iterations.assign(0)
        model._initial_epoch = None  # BackupAndRestore's
    return pair


class Stop(keras.callbacks.Callback):
    """Sets an attribute of the model in one call of a hook, counted from 0."""

    def __init__(self, hook: str, at: int, name: str = "stop_training") -> None:
        super().__init__()
        self.left = at

        def stop(*_: Any, **__: Any) -> None:
            if not self.left:
                setattr(self.model, name, True)
            self.left -= 1

        setattr(self, hook, stop)


# The hooks


@pytest.mark.parametrize(
    ("steps_per_execution", "validation"),
    [
        pytest.param(steps, validation, marks=() if quick else pytest.mark.wide)
        for steps, validation, quick in [
            (1, VALIDATION, True),
            (2, {}, True),
            (3, VALIDATION, True),
            (9, {}, True),
            (1, {}, False),
            (2, VALIDATION, False),
            (3, {}, False),
            (9, VALIDATION, False),
        ]
    ],
)
def test_every_hook_is_called_as_keras_calls_it(
    steps_per_execution: int, validation: dict[str, Any]
) -> None:
    pair, theirs, ours = pair_of(steps_per_execution), Recording(), Recording()
    expected = pair.in_keras(theirs, **validation)
    found = pair.in_kvt(ours, steps_per_execution=steps_per_execution, **validation)
    assert ours.calls == theirs.calls
    assert {name for name, *_ in ours.calls} >= {"set_params", "on_train_batch_begin"}
    pair.check_same(found, expected)


def test_a_whole_epoch_per_call_is_one_execution() -> None:
    pair, theirs, ours = pair_of(4), Recording(), Recording()
    pair.in_keras(theirs)
    pair.in_kvt(ours, steps_per_execution="epoch")
    assert ours.calls == theirs.calls


STOPS = [
    Stop(hook, at)
    for hook, at in [
        ("on_train_batch_end", 1),
        ("on_train_batch_begin", 5),
        ("on_batch_end", 0),
        ("on_epoch_begin", 1),
        ("on_epoch_end", 0),
        ("on_train_begin", 0),
        ("on_test_begin", 1),
        ("on_test_batch_end", 1),
    ]
] + [Stop("on_test_batch_end", 0, "stop_evaluating")]


@pytest.mark.parametrize("number", range(len(STOPS)))
def test_a_callback_stops_where_keras_stops(number: int) -> None:
    pair, theirs, ours = pair_of(), Recording(), Recording()
    left = STOPS[number].left
    expected = pair.in_keras(STOPS[number], theirs, **VALIDATION)
    STOPS[number].left = left
    found = pair.in_kvt(STOPS[number], ours, **VALIDATION)
    assert ours.calls == theirs.calls
    pair.check_same(found, expected)
    assert pair.in_kvt(**VALIDATION).epoch == [0, 1, 2]  # the next one is not stopped


def batches(count: int | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    number = 0
    while count is None or number < count:
        yield X[:2], Y[:2]
        number += 1


def test_an_endless_generator_ends_when_a_callback_stops_it() -> None:
    pair, theirs, ours = pair_of(), Recording(), Recording()
    stop = "on_train_batch_end"
    history = kvt.fit(
        *pair.steps, batches(), verbose=0, callbacks=[Stop(stop, 2), ours]
    )
    expected = pair.keras.fit(
        batches(), shuffle=False, verbose=0, callbacks=[Stop(stop, 2), theirs]
    )
    assert ours.calls == theirs.calls
    pair.check_same(history, expected)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_a_generator_of_unknown_length_announces_one_batch_too_many_as_in_keras() -> (
    None
):
    pair, theirs, ours = pair_of(), Recording(), Recording()
    kvt.fit(*pair.steps, batches(3), verbose=0, callbacks=[ours])
    pair.keras.fit(batches(3), shuffle=False, verbose=0, callbacks=[theirs])
    assert ours.calls == theirs.calls
    names = [name for name, *_ in ours.calls]
    assert names.count("on_train_batch_begin") == 4


@pytest.mark.parametrize("steps", [None, 2])
@pytest.mark.parametrize("stop", [None, 0, 1])
def test_evaluate_and_predict_call_the_hooks_of_keras(
    steps: int | None, stop: int | None
) -> None:
    pair, options = pair_of(), {"batch_size": 2, "steps": steps, "verbose": 0}
    step = tf.function(pair.twin, input_signature=BATCH[:1])
    theirs, ours = Recording(), Recording()
    found = []
    for log in theirs, ours:
        callbacks: list[Any] = [log]
        if stop is not None:
            callbacks += [Stop("on_test_batch_end", stop, "stop_evaluating")]
            callbacks += [Stop("on_predict_batch_begin", stop, "stop_predicting")]
        options["callbacks"] = callbacks
        if log is theirs:
            metrics = pair.keras.evaluate(X, Y, return_dict=True, **options)
            found.append((metrics, pair.keras.predict(X, **options)))
        else:
            metrics = kvt.evaluate(pair.steps[1], X, Y, **options)
            found.append((metrics, kvt.predict(step, X, **options)))
    assert found[0][0] == found[1][0]
    assert list(found[0][0]) == list(found[1][0])
    assert parity.same_bits(found[0][1], found[1][1])
    assert [plain(call) for call in ours.calls] == [plain(c) for c in theirs.calls]
    assert {name for name, *_ in ours.calls} >= {"on_test_end", "on_predict_end"}


def plain(call: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a call with outputs as lists; Keras makes a float of a single number."""
    name, values, named = call
    outputs = named.get("logs", {}).get("outputs")
    if outputs is not None:
        named = {"outputs": np.ravel(outputs).tolist()}
    return name, values, named


# Logs


class Adds(keras.callbacks.Callback):
    """Adds entries to the logs of several hooks, and changes one."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        logs["lost"] = 1.0

    def on_test_end(self, logs: Any = None) -> None:
        logs["lost, too"] = 1.0

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs["epoch"] = float(epoch)
        logs["loss"] = logs["loss"] + 1
        del logs["val_mae"]
        if epoch == 1:
            logs["late"] = 0.5


def test_what_a_callback_adds_to_the_logs_reaches_the_history_as_in_keras() -> None:
    pair, theirs, ours = pair_of(), Recording(), Recording()
    expected = pair.in_keras(Adds(), theirs, **VALIDATION)
    found = pair.in_kvt(Adds(), ours, **VALIDATION)
    pair.check_same(found, expected)
    assert ours.calls == theirs.calls
    assert found.history["late"] == [0.5]


# A training that fails


class Fails(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if epoch == 2:
            raise InterruptedError


def test_keras_callbacks_are_told_nothing_of_a_failure_and_those_of_kvt_are() -> None:
    pair, theirs, ours = pair_of(), Recording(), Recording()
    ended: list[str] = []

    class Ends(kvt.Callback):
        def on_train_end(self, logs: Any = None) -> None:
            ended.append("writer closed")

    class Breaks(kvt.Callback):
        def on_train_failure(self) -> None:
            ended.append("broken")
            raise OSError("while closing")

    for train, log in (pair.in_keras, theirs), (pair.in_kvt, ours):
        with pytest.raises(InterruptedError):
            train(log, Fails(), **VALIDATION)
    assert ours.calls == theirs.calls
    with pytest.raises(OSError, match="while closing"):
        pair.in_kvt(Ends(), Breaks(), Ends(), Fails())
    assert ended == ["writer closed", "broken", "writer closed"]


def test_backup_and_restore_resumes_with_kvt_as_with_keras(tmp_path: Path) -> None:
    whole = pair_of()
    expected, weights = whole.in_kvt(), whole.twin.get_weights()
    for kind in "in_keras", "in_kvt":
        backup = [keras.callbacks.BackupAndRestore(str(tmp_path / kind))]
        with pytest.raises(InterruptedError):
            getattr(pair_of(), kind)(*backup, Fails())
        assert (tmp_path / kind / "latest.weights.h5").exists()
        pair = pair_of()
        history = getattr(pair, kind)(*backup)
        assert history.epoch == [2]
        assert history.history["loss"] == expected.history["loss"][2:]
        trained = pair.keras if kind == "in_keras" else pair.twin
        assert parity.same_bits(trained.get_weights(), weights)
        assert not (tmp_path / kind).exists()  # deleted at a regular end only


# Keras's own callbacks, by name


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def scalars(directory: Path) -> list[tuple[str, int, float]]:
    """Return tags, steps and values of all event files."""
    found = []
    for path in sorted(directory.rglob("events*")):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == "scalars":
                    number = float(tf.make_ndarray(value.tensor))
                    found.append((value.tag, event.step, number))
    return sorted(found)


def weights(path: Path) -> list[np.ndarray]:
    model = Pair.build(1, {})
    model.load_weights(path)
    return model.get_weights()


Made = tuple[Any, Callable[[], Any]]  # a callback, and what it left


def made(name: str, path: Path) -> Made:
    """Return a callback of Keras, and a function that reads what it did."""
    known: dict[str, Callable[[], Made]] = {
        "BackupAndRestore": lambda: (
            one := keras.callbacks.BackupAndRestore(
                str(path), delete_checkpoint=False, save_freq=3
            ),
            lambda: weights(Path(one._weights_path)),
        ),
        "CSVLogger": lambda: (
            keras.callbacks.CSVLogger(path),
            lambda: lines(path),
        ),
        "EarlyStopping": lambda: (
            one := keras.callbacks.EarlyStopping(
                "val_mae", patience=1, min_delta=0.1, restore_best_weights=True
            ),
            lambda: (one.stopped_epoch, one.best_epoch, one.best),
        ),
        "History": lambda: (
            one := keras.callbacks.History(),
            lambda: (one.history, one.epoch, one.params),
        ),
        "LambdaCallback": lambda: (
            one := keras.callbacks.LambdaCallback(
                on_epoch_begin=lambda n, got: one.seen.append((n, got)),
                on_epoch_end=lambda n, got: one.seen.append((n, dict(got))),
                on_train_begin=lambda got: setattr(one, "seen", [got]),
                on_train_end=lambda got: one.seen.append(got),
                on_train_batch_end=lambda b, logs: one.seen.append((b, logs)),
            ),
            lambda: one.seen,
        ),
        "LearningRateScheduler": lambda: (
            one := keras.callbacks.LearningRateScheduler(lambda e, r: r / (e + 1)),
            lambda: float(one.model.optimizer.learning_rate),
        ),
        "ModelCheckpoint": lambda: (
            keras.callbacks.ModelCheckpoint(
                f"{path}/{{epoch}}-{{val_loss:.3f}}.weights.h5",
                save_best_only=True,
                save_weights_only=True,
            ),
            lambda: [(p.name, weights(p)) for p in sorted(path.iterdir())],
        ),
        "ProgbarLogger": lambda: (
            one := keras.callbacks.ProgbarLogger(),
            lambda: (one.target, one.seen, one.epochs),
        ),
        "ReduceLROnPlateau": lambda: (
            one := keras.callbacks.ReduceLROnPlateau(
                "mae", patience=1, min_delta=1.0, factor=0.5
            ),
            lambda: (float(one.model.optimizer.learning_rate), one.best),
        ),
        "SwapEMAWeights": lambda: (
            one := keras.callbacks.SwapEMAWeights(swap_on_epoch=True),
            lambda: one._ema_weights_in_model,
        ),
        "TensorBoard": lambda: (
            keras.callbacks.TensorBoard(path, histogram_freq=1, update_freq=1),
            lambda: scalars(path),
        ),
        "TerminateOnNaN": lambda: (
            one := keras.callbacks.TerminateOnNaN(),
            lambda: one.model.stop_training,
        ),
    }
    return known[name]()


NAMES = [
    "BackupAndRestore",
    "CSVLogger",
    "EarlyStopping",
    "History",
    "LambdaCallback",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "ProgbarLogger",
    "ReduceLROnPlateau",
    "SwapEMAWeights",
    "TensorBoard",
    "TerminateOnNaN",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_callback_of_keras_does_the_same_in_kvt(name: str, tmp_path: Path) -> None:
    pair = Pair(use_ema=True) if name == "SwapEMAWeights" else pair_of()
    theirs, left_by_theirs = made(name, tmp_path / "keras")
    ours, left_by_ours = made(name, tmp_path / "kvt")
    expected = pair.in_keras(theirs, **VALIDATION)
    found = pair.in_kvt(ours, **VALIDATION)
    pair.check_same(found, expected)
    one, other = left_by_ours(), left_by_theirs()
    assert repr(one) == repr(other)
    assert one is not None


def test_orbax_checkpoints_hold_what_keras_saves(tmp_path: Path) -> None:
    orbax = pytest.importorskip(
        "orbax.checkpoint", reason="orbax-checkpoint is missing"
    )
    pair = pair_of()
    theirs, ours = (keras.callbacks.OrbaxCheckpoint(tmp_path / it) for it in "ab")
    expected = pair.in_keras(theirs, **VALIDATION)
    pair.check_same(pair.in_kvt(ours, **VALIDATION), expected)
    saved, of_keras = (
        orbax.PyTreeCheckpointer().restore(tmp_path / it / "2" / "pytree")
        for it in "ba"
    )
    for part in ("trainable_variables", "optimizer_variables"):
        ours, theirs = (keras.tree.flatten(it[part]) for it in (saved, of_keras))
        assert ours
        assert all(map(parity.same_bits, ours, theirs))


def test_terminate_on_nan_ends_the_training_without_an_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    pair = Pair(learning_rate=1e30)
    options = VALIDATION | {"callbacks": [keras.callbacks.TerminateOnNaN()]}
    theirs = pair.keras.fit(X, Y, **OPTIONS | options)
    ours = kvt.fit(*pair.steps, X, Y, **OPTIONS | options)
    assert ours.epoch == theirs.epoch == [0]
    assert capsys.readouterr().out.count("Invalid loss, terminating training") == 2
    with pytest.raises(FloatingPointError, match="loss became"):
        pair.in_kvt()


WITHOUT_MODEL = {
    "BackupAndRestore": r"uses model.built, .* kvt.Checkpoint",
    "EarlyStopping": r"uses model.get_weights, .*kvt.EarlyStopping",
    "LearningRateScheduler": r"uses model.optimizer.learning_rate, .* on_epoch_begin",
    "ModelCheckpoint": r"uses model.save_weights, .*kvt.Checkpoint",
    "ReduceLROnPlateau": r"uses model.optimizer.learning_rate, .*learning rate",
    "SwapEMAWeights": r"uses model.optimizer.use_ema, .* on_test_begin",
    "TensorBoard": r"uses model.layers, .* tf.summary",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_callback_that_needs_a_model_is_rejected_by_name_without_one(
    name: str, tmp_path: Path
) -> None:
    callback, _ = made(name, tmp_path / "left")

    def step(x: Any, y: Any) -> dict[str, float]:
        if name in WITHOUT_MODEL:
            raise AssertionError("a step ran")
        return {"loss": 0.5, "mae": 0.5}

    options = OPTIONS | VALIDATION | {"callbacks": callback}
    if name in WITHOUT_MODEL:
        message = f"{name} {WITHOUT_MODEL[name]}"
        with pytest.raises(ValueError, match=message):
            kvt.fit(step, step, X, Y, **options)
    else:
        assert kvt.fit(step, step, X, Y, **options).epoch == [0, 1, 2]


# README's table

OWN = {  # what replaces a callback in raw TensorFlow, besides what hooks.NEEDS says
    "CSVLogger": "",
    "Callback": "`kvt.Callback`",
    "CallbackList": "a list",
    "EarlyStopping": "`kvt.EarlyStopping`",
    "History": "`kvt.History`, which `kvt.fit` returns",
    "LambdaCallback": "",
    "OrbaxCheckpoint": "`kvt.Checkpoint`",
    "ProgbarLogger": "`kvt.ProgressBar`, the default",
    "RemoteMonitor": "",
    "TerminateOnNaN": "nothing: `kvt.fit` raises FloatingPointError",
}
OPTIONAL: dict[str, dict[str, Any]] = {  # options that need more of the model
    "EarlyStopping": {"restore_best_weights": True},
    "TensorBoard": {"histogram_freq": 1},
}


def without_model(name: str, **options: Any) -> str:
    """Return what `kvt.fit` does with a callback of Keras and no model."""
    needed = {"LearningRateScheduler": [print]}
    needed |= {one: ["x.keras"] for one in ("CSVLogger", "ModelCheckpoint")}
    needed |= {one: ["x"] for one in ("BackupAndRestore", "OrbaxCheckpoint")}
    made = getattr(keras.callbacks, name)
    try:
        callback = made(*needed.get(name, []), **options)
    except ImportError:  # it needs a package that kvt does not
        callback = made.__new__(made)
    try:
        hooks.CallbackList(callback)
    except ValueError as rejection:
        return "rejected: no `" + str(rejection).split(" uses ")[1].split(",")[0] + "`"
    return "same"


def table_of_callbacks() -> list[str]:
    """Return the lines of README's table; a test above has tried each "same"."""
    columns = "Keras's callback", "with `model=…`", "without", "in raw TensorFlow"
    rows = [f"| {' | '.join(columns)} |", f"|{' --- |' * 4}"]
    for name in sorted(name for name in dir(keras.callbacks) if name[0].isupper()):
        without = without_model(name)
        for option, value in OPTIONAL.get(name, {}).items():
            rejected = without_model(name, **{option: value})
            without += f"; with `{option}`, {rejected}"
        raw = OWN.get(name, hooks.NEEDS.get(name, ("", hooks.SAVE))[1])
        raw = raw.replace("use kvt.Checkpoint", "`kvt.Checkpoint`")
        rows.append(f"| {name} | same | {without} | {raw} |")
    return rows


def test_readme_has_the_table_of_callbacks() -> None:
    tried = {*NAMES, "Callback", "CallbackList", "OrbaxCheckpoint", "RemoteMonitor"}
    rows = table_of_callbacks()
    same = {row.split("|")[1].strip() for row in rows if "| same |" in row}
    assert same == tried
    readme = Path(__file__).parents[2] / "README.md"
    assert "\n".join(["", *rows, ""]) in readme.read_text("utf-8"), "\n".join(rows)


def test_remote_monitor_sends_the_same_as_in_keras(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[Any] = []
    module = keras.src.callbacks.remote_monitor
    post = SimpleNamespace(post=lambda *args, **named: sent.append((args, named)))
    monkeypatch.setattr(module, "requests", post)
    pair = pair_of()
    pair.in_keras(keras.callbacks.RemoteMonitor())
    pair.in_kvt(keras.callbacks.RemoteMonitor())
    assert sent[:3] == sent[3:]
    assert len(sent) == 6


def test_tensorboard_writes_scalars_without_a_model(tmp_path: Path) -> None:
    board = keras.callbacks.TensorBoard(tmp_path)
    kvt.fit(*pair_of().steps, X, Y, **OPTIONS | VALIDATION, callbacks=board)
    tags = {tag for tag, *_ in scalars(tmp_path)}
    assert tags == {"epoch_loss", "epoch_mae"}


def test_a_rate_scheduler_acts_on_any_object_with_a_rate() -> None:
    class Rate:
        learning_rate = 0.5

    model = SimpleNamespace(optimizer=Rate())
    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    history = kvt.fit(
        *pair_of().steps, X, Y, **OPTIONS, callbacks=scheduler, model=model
    )
    assert history.history["learning_rate"] == [0.25, 0.125, 0.0625]


def test_a_callback_that_misses_the_model_learns_how_to_pass_it() -> None:
    class Looks(kvt.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.model.layers  # noqa: B018

    message = r"uses self.model.layers, but there is no model; pass one .* model=…"
    with pytest.raises(AttributeError, match=message):
        pair_of().in_kvt(Looks(), model=None)


# What may be given


def test_callbacks_may_be_none_one_or_lists_in_lists() -> None:
    pair = pair_of()
    logs = [Recording() for _ in range(4)]
    kvt.fit(*pair.steps, X, Y, **OPTIONS, callbacks=None)
    kvt.fit(*pair.steps, X, Y, **OPTIONS, callbacks=logs[0])
    kvt.fit(*pair.steps, X, Y, **OPTIONS, callbacks=[logs[1], ([logs[2]], logs[3])])
    assert len({len(log.calls) for log in logs}) == 1

    class Owner(kvt.Callback):  # of others, which it calls itself
        callbacks = (logs[3],)

    kvt.fit(*pair.steps, X, Y, **OPTIONS, callbacks=Owner())
    assert len(logs[3].calls) == len(logs[1].calls)
    listed = keras.callbacks.CallbackList([logs[0], kvt.Callback()])
    kvt.fit(*pair.steps, X, Y, **OPTIONS, callbacks=listed)
    assert len(logs[0].calls) == 2 * len(logs[1].calls)


def test_the_history_among_the_callbacks_is_returned() -> None:
    pair, own = pair_of(), kvt.History()
    assert pair.in_kvt(own) is own
    assert pair.twin.history is own
    assert own.epoch == [0, 1, 2]
    assert pair.in_kvt(own).epoch == [0, 1, 2]
    assert len(own.history["loss"]) == 6  # as Keras's History, which is never emptied


class Partly:
    set_model = set_params = on_train_begin = on_epoch_begin = print


INCOMPLETE = {
    "no hooks": (object(), r"callbacks\[1\] is a object without set_model; .*derive"),
    "some hooks": (Partly(), r"is a Partly without on_train_batch_begin; it must"),
    "a class": (kvt.EarlyStopping, r"is the class EarlyStopping; .*EarlyStopping\(…\)"),
    "a function": (print, r"is a builtin_function_or_method without set_model"),
}


@pytest.mark.parametrize("case", INCOMPLETE)
def test_what_is_no_callback_is_rejected_before_the_first_step(case: str) -> None:
    given, message = INCOMPLETE[case]
    with pytest.raises(TypeError, match=message):
        kvt.fit(print, print, X, Y, **OPTIONS, callbacks=[kvt.Callback(), given])
