"""How a training calls its callbacks: with Keras's arguments, in Keras's order."""

import contextlib
import operator
from collections.abc import Iterator, Mapping
from typing import Any

from kvt.training.callbacks import Callback, History, TrainingState, direction
from kvt.training.progress import ProgressBar

HOOKS = [name for name in vars(Callback) if name.startswith(("on_", "set_"))]
HOOKS.remove("on_train_failure")
STOPS = {
    "train": "stop_training",
    "test": "stop_evaluating",
    "predict": "stop_predicting",
}
# What Keras's callbacks use of their model, and how to do without them.
RATE = "assign your variable of the learning rate in on_epoch_begin"
SAVE = "use kvt.Checkpoint"
SWAP = "swap your variables with their averages in on_test_begin and on_test_end"
STOP = "use kvt.EarlyStopping with get_weights and set_weights"
NEEDS = {
    "LearningRateScheduler": ("optimizer.learning_rate", RATE),
    "ReduceLROnPlateau": ("optimizer.learning_rate", RATE),
    "BackupAndRestore": ("built optimizer save_weights load_weights", SAVE),
    "OrbaxCheckpoint": ("get_state_tree set_state_tree", SAVE),
    "SwapEMAWeights": ("optimizer.use_ema", SWAP),
    "TensorBoard": ("optimizer train_function", "write with tf.summary"),
}


class CallbackList:
    """Callbacks in their order, and the model that they act on.

    `given` is None, a callback, or a list of them; a list may contain others. Raises
    TypeError for what is no callback, and ValueError for a callback of Keras that needs
    more of the model than it has.
    """

    def __init__(self, given: Any, model: Any = None) -> None:
        self.callbacks = list(flattened(given))
        self.model: Any = TrainingState() if model is None else model
        for number, callback in enumerate(self.callbacks):
            reject_incomplete(callback, f"callbacks[{number}]")
            if any(one.__module__.startswith("keras.") for one in type(callback).mro()):
                prepare_for_keras(callback, self.model)

    def begin(self, params: Mapping[str, Any]) -> None:
        """Pass the model and `verbose`, `epochs`, `steps` to every callback."""
        for callback in self.callbacks:
            callback.set_model(self.model)
        for callback in self.callbacks:
            callback.set_params(params)

    def __call__(
        self, hook: str, *number: int, logs: Mapping[str, Any] | None = None
    ) -> None:
        """Call a hook of every callback; all share one dict, sorted as Keras sorts."""
        shared = dict(sorted((logs or {}).items()))
        for callback in self.callbacks:
            method = getattr(callback, hook)
            if "batch" in hook:
                method(*number, logs=shared)
            else:
                method(*number, shared)

    def add_history(self) -> History:
        """Return the History among the callbacks; add one at the end if there is none.

        So it comes after what the other callbacks add to the logs, as in Keras.
        """
        found = [each for each in self.callbacks if isinstance(each, History)]
        if not found:
            self.callbacks += (found := [History()])
        self.model.history = found[0]
        return found[0]

    def show_progress(self) -> None:
        """Put a progress bar first, unless there is one."""
        if not any(
            isinstance(each, ProgressBar) or type(each).__name__ == "ProgbarLogger"
            for each in self.callbacks
        ):
            self.callbacks.insert(0, ProgressBar())

    def start(self, kind: str) -> None:
        """Let the training, test or prediction run."""
        setattr(self.model, STOPS[kind], False)

    def stopped(self, kind: str) -> bool:
        """Whether a callback has stopped it."""
        return bool(getattr(self.model, STOPS[kind], False))

    @contextlib.contextmanager
    def telling_of_failure(self) -> Iterator[None]:
        """Call `on_train_failure`, which Keras's callbacks lack, if training fails.

        Keras calls no hook then, so that BackupAndRestore keeps its backup.
        """
        try:
            yield
        except BaseException:
            with contextlib.ExitStack() as every:  # even if one of them fails
                for callback in reversed(self.callbacks):
                    if isinstance(callback, Callback):
                        every.callback(callback.on_train_failure)
            raise


def flattened(given: Any) -> Iterator[Any]:
    """Yield the callbacks of None, of one callback, and of lists in lists."""
    if type(given).__name__ == "CallbackList":  # Keras's
        given = given.callbacks
    if isinstance(given, list | tuple):
        for each in given:
            yield from flattened(each)
    elif given is not None:
        yield given


def reject_incomplete(callback: Any, name: str) -> None:
    """Reject a class, and an object without some of Keras's hooks."""
    if isinstance(callback, type):
        raise TypeError(
            f"{name} is the class {callback.__name__}; it must be an object; "
            f"pass {callback.__name__}(…)"
        )
    missing = [hook for hook in HOOKS if not callable(getattr(callback, hook, None))]
    if missing:
        raise TypeError(
            f"{name} is a {type(callback).__name__} without {missing[0]}; it must have "
            "all hooks of Keras's callbacks; derive its class from kvt.Callback"
        )


def prepare_for_keras(callback: Any, model: Any) -> None:
    """Reject a callback of Keras whose model lacks something; infer its `mode`."""
    names = [one.__name__ for one in type(callback).mro()]
    known = next((name for name in names if name in NEEDS), "")
    needed, instead = NEEDS.get(known, ("", ""))
    if "EarlyStopping" in names and callback.restore_best_weights:
        needed, instead = "get_weights set_weights", STOP
    elif "ModelCheckpoint" in names:
        needed, instead = (
            ("save_weights" if callback.save_weights_only else "save"),
            SAVE,
        )
    elif known == "TensorBoard" and (
        callback.histogram_freq or callback.embeddings_freq
    ):
        needed += " layers save_weights"
    elif known == "TensorBoard" and callback.write_steps_per_second:
        needed += " optimizer.iterations"
    for attribute in needed.split():
        try:
            operator.attrgetter(attribute)(model)
        except AttributeError:
            raise ValueError(
                f"{type(callback).__name__} uses model.{attribute}, but kvt.fit has no "
                "model with it; pass model=…, the Keras model that your steps train, "
                f"or {instead}"
            ) from None
    if "MonitorCallback" in names and callback.mode == "auto":
        mode = direction(callback.monitor)  # Keras asks the metrics of `compile`
        if mode is None:
            raise ValueError(
                f"{type(callback).__name__} has mode 'auto' for {callback.monitor!r}; "
                "it must be given for a metric that is not Keras's; pass mode='min' if "
                "lower values are better"
            )
        callback.mode = mode
