"""The errors of the 2017 notebook: what stood there, what should have, what it did.

An erratum is two short pieces of code and a few sentences: `ERRATA` lists them all,
and a new one is added there. Those with a `part` are errors of the training:
`in_2017` puts them all into `kvt.differences.replay`, which then trains as the
notebook did. The others are measured on their own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf1
from sklearn.model_selection import train_test_split

from kvt.compare import replay
from kvt.compare.replay import Array, Figures, Net, Parts, Replays, Side, Tensor
from kvt.differences import errata_effects as effects
from kvt.differences import printed_2017
from kvt.show.sources import Markdown, beside
from kvt.show.tables import Table

Random = np.random.Generator
Effect = Callable[["Erratum", Replays], effects.Rows]
IMAGES = ("logistic", "feed-forward", "convolutional")
ALL = (*IMAGES, "line")


# --- the training, as it was ----------------------------------------------------------


def update_in_validation(
    session: Any,
    net: Net,
    x: Array,
    y: Array,
) -> Figures:
    """Measure a batch, and update the weights by it."""
    feed_dict = {net.x: x, net.y: y}
    fetches = [net.optimizer, net.figures]
    _, figures = session.run(fetches, feed_dict)
    return dict(figures)


def once_per_example(n: int, batch_size: int) -> int:
    """Count the examples."""
    return n


def last_batch(
    figures: Sequence[Figures],
    batches: Sequence[Array],
) -> Figures:
    """Return what the last step returned."""
    return figures[-1]


def stop_beyond(index: int, train_range: int) -> bool:
    """Whether the bar runs on without any work."""
    return index > train_range


def rounded(n: int, batch_size: int) -> int:
    """Count the batches, but for a partial one below half."""
    return round(n / batch_size)


def drawn_anew(
    index: int,
    order: Array,
    batch_size: int,
    random: Random,
) -> Array:
    """Return a batch that knows of no other batch."""
    n = len(order)
    return random.choice(n, batch_size, replace=False)


def batch_of_10() -> int:
    """Return what TensorFlow got for the line."""
    return 10


def split_at_random(
    x: Array,
    y: Array,
    split: float,
    random: Random,
) -> Any:
    """Hold back any."""
    state = int(random.integers(2**32))
    return train_test_split(
        x,
        y,
        test_size=split,
        random_state=state,
    )


def normal_start(shape: list[int], bias: bool) -> Tensor:
    """Draw the line's weight and bias alike."""
    return tf1.random_normal(shape=shape)


def zero_start(shape: list[int], bias: bool) -> Tensor:
    """Start logistic regression from nothing."""
    return tf1.zeros(shape)


def narrow_start(shape: list[int], bias: bool) -> Tensor:
    """Draw the feed-forward network's weights; it had no biases."""
    if bias:
        return tf1.zeros(shape)
    return tf1.random_normal(shape, stddev=0.1)


def start_of_a_tenth(shape: list[int], bias: bool) -> Tensor:
    """Draw the convolutional network's weights."""
    if bias:
        return tf1.constant(0.1, shape=shape)
    return tf1.truncated_normal(shape, stddev=0.1)


def sigmoid_without_biases(x: Tensor, variable: Any) -> Tensor:
    """Return logits, (b, 10), from 32 hidden units."""
    w_1 = variable([784, 32])
    w_2 = variable([32, 10])
    h = tf1.nn.sigmoid(tf1.matmul(x, w_1))
    return tf1.matmul(h, w_2)


def loss_from_probabilities(y: Tensor, logits: Tensor) -> Tensor:
    """Return the mean over the batch."""
    y_predicted = tf1.nn.softmax(logits)
    losses = -tf1.reduce_sum(y * tf1.log(y_predicted), axis=1)
    return tf1.reduce_mean(losses)


def rate_of_a_hundredth(learning_rate: float) -> Any:
    """Return plain gradient descent."""
    return tf1.train.GradientDescentOptimizer(0.01)


# --- around the training --------------------------------------------------------------


def cost_of_all_points(
    training: Side,
    validation: Side,
) -> Sequence[Array]:
    """Return what the printed cost is computed on."""
    x = np.concatenate([training.x, validation.x])
    y = np.concatenate([training.y, validation.y])
    return x, y


def cost_of_training_points(
    training: Side,
    validation: Side,
) -> Sequence[Array]:
    """Return what a training cost is computed on."""
    return training.x, training.y


def images_left_raw(x_test: Array) -> Array:
    """Return the test images (n, 28, 28) of MNIST's file."""
    return x_test


def images_scaled(x_test: Array) -> Array:
    """Prepare the test images as the training images were."""
    x_test = x_test.reshape(-1, 28, 28, 1).astype("float32")
    return x_test / 255


def compile_without_metrics(model: Any) -> None:
    """Compile the convolutional network."""
    model.compile(loss="categorical_crossentropy", optimizer="sgd")


def compile_with_accuracy(model: Any) -> None:
    """Compile a model so that its accuracy is printed."""
    model.compile(
        loss="categorical_crossentropy",
        optimizer="sgd",
        metrics=["accuracy"],
    )


def fit_without_epochs(model: Any, x: Array, y: Array) -> Any:
    """Fit the line."""
    return model.fit(
        x,
        y,
        batch_size=5,
        validation_split=0.2,
        verbose=0,
    )


def fit_ten_epochs(model: Any, x: Array, y: Array) -> Any:
    """Fit the line."""
    return model.fit(
        x,
        y,
        batch_size=5,
        epochs=10,
        validation_split=0.2,
        verbose=0,
    )


def bar_of_examples(n: int, steps: int) -> tuple[int, int]:
    """Count as the trial of the bar did: (counted, worked)."""
    counted = worked = 0
    for i in range(n):
        if i > steps:
            pass
        else:
            worked += 1
        counted += 1
    return counted, worked


def bar_of_steps(n: int, steps: int) -> tuple[int, int]:
    """Count as `kvt.ProgressBar` does: (counted, worked)."""
    counted = worked = 0
    for _ in range(steps):
        worked += 1
        counted += 1
    return counted, worked


NAMES_2017 = """\
# In [3]
import numpy as np
# In [1]
import keras
# In [428]
def progressbar(it, size=30):
    sys.stdout.write("…")
# In [457]
for i in progressbar(range(80)):
    time.sleep(0.1)
# In [503]
y_train = keras.utils.np_utils.to_categorical(3, num_classes)
# In [477]
num_classes = 10
"""

NAMES_CORRECTED = """\
# In [1]
import sys, time
import keras
# In [2]
def progressbar(it, size=30):
    sys.stdout.write("…")
# In [3]
for i in progressbar(range(80)):
    time.sleep(0.1)
# In [4]
num_classes = 10
# In [5]
y_train = keras.utils.to_categorical(3, num_classes)
"""


def overwrite_x_train(x_train: Array) -> Sequence[Array]:
    """Return what the cell leaves in `x_train`, and trains on."""
    x_train_full = x_train[:1000]
    x_train, _ = train_test_split(x_train_full, test_size=0.2)
    return x_train, x_train


def leave_x_train(x_train: Array) -> Sequence[Array]:
    """Return what `kvt.fit` leaves in `x_train`, and trains on."""
    n = int(len(x_train[:1000]) * (1 - 0.2))
    return x_train, x_train[:n]


def cells_as_they_ran() -> Sequence[int | None]:
    """Return the numbers before the cells, top to bottom."""
    return printed_2017.CELLS


def cells_from_top_to_bottom() -> Sequence[int | None]:
    """Return the numbers that a fresh run gives."""
    return range(1, len(printed_2017.CELLS) + 1)


def seed_of_numpy() -> None:
    """Seed what draws the batches."""
    np.random.seed(1)


def seed_of_both() -> None:
    """Seed what draws the batches, and what draws the weights."""
    np.random.seed(1)
    tf1.set_random_seed(1)


def command_of_2017() -> list[str]:
    """Return what stands after `python -m`."""
    return ["tensorflow.tensorboard", "logs=./graphs"]


def command_of_today() -> list[str]:
    """Return what stands after `python -m`."""
    return ["tensorboard.main", "--logdir", "./graphs"]


# --- the table ------------------------------------------------------------------------


@dataclass(frozen=True)
class Erratum:
    """An error of the 2017 notebook beside its correction.

    Attributes:
        name: what was wrong, as a heading.
        in_2017, corrected: the code of either, a function or text.
        why: what it did, and why that is an error.
        models: where it stood; it is measured on the first.
        part: the part of `replay.Parts` that it replaces; "" for none.
        effect: measures it, as `kvt.differences.errata_effects` describes.
    """

    name: str
    in_2017: Any
    corrected: Any
    why: str
    models: tuple[str, ...] = ALL
    part: str = ""
    effect: Effect = effects.alone

    def put_into(self, parts: Parts) -> Parts:
        """Return a training with this error in it."""
        return replace(parts, **{self.part: self.in_2017})

    def measure(self, replays: Replays) -> Table:
        """Return what it did, beside its correction.

        Raises ValueError when nothing that is measured differs.
        """
        rows = self.effect(self, replays)
        differ = [[what, *pair] for what, pair in rows.items() if pair[0] != pair[1]]
        if not differ:
            raise ValueError(
                f"the erratum {self.name!r} changes none of: {', '.join(rows)}; an "
                "erratum must have an effect; measure it on another model, or drop it"
            )
        return Table(["", "2017", "corrected"], differ)

    def show(self, replays: Replays) -> Markdown:
        """Return its heading, both pieces of code, what it did, and the measurement."""
        code = beside({"2017": self.in_2017, "corrected": self.corrected})
        where = f"Stood in: {', '.join(self.models)}" + (
            "; measured on the first." if self.part and len(self.models) > 1 else "."
        )
        table = self.measure(replays)._repr_markdown_()
        return Markdown(
            f"#### {self.name}\n\n{self.why}\n\n{where}\n\n{code}\n\n{table}"
        )


ERRATA = (
    Erratum(
        "The optimizer runs in validation",
        update_in_validation,
        replay.only_measure,
        "`optimizer` stands among what the validation loop fetches, so every "
        "validation batch is one more training step. The validation examples are no "
        "longer held back, and `val_acc` tells how well the network knows them by "
        "heart.",
        part="validate",
    ),
    Erratum(
        "Validation once per example",
        once_per_example,
        replay.once_per_batch,
        "The loop counts examples where it should count batches; `val_range`, computed "
        "above it, is never used. Alone it changes no weight: it measures 200 batches "
        "where 2 would do. With the optimizer in it, it made 200 of an epoch's 207 "
        "updates.",
        part="validation_range",
    ),
    Erratum(
        "Figures of the last batch",
        last_batch,
        replay.mean_over_examples,
        "`loss` and `val_loss` hold what the last call returned. A batch of 128 has "
        "an accuracy in steps of 1/128, and is another one in each epoch: the printed "
        "curve jumps where the training is smooth.",
        part="report",
    ),
    Erratum(
        "One step too many",
        stop_beyond,
        replay.stop_at,
        "Indexes count from 0, so `if index > train_range: pass` works once more than "
        "`train_range` says: 26 steps of 32 for 800 images, 9 steps of 10 for 80 "
        "points, and 17 of 16 in the trial of the bar.",
        part="stop",
    ),
    Erratum(
        "Batches counted by rounding",
        rounded,
        replay.rounded_up,
        "800 / 128 is 6.25, so `round` drops the partial batch. With the step too "
        "many it came to 7 after all: here, and only here, two errors cancel.",
        models=IMAGES[:2],
        part="train_range",
    ),
    Erratum(
        "Batches drawn anew at every step",
        drawn_anew,
        replay.in_turn,
        "`replace=False` holds within a batch; from batch to batch it draws with "
        "replacement. In an epoch some examples come twice, and about 3 in 10 never.",
        part="draw",
    ),
    Erratum(
        "Batches of 10 beside Keras's 5",
        batch_of_10,
        replay.batch_of_5,
        "Keras's `fit` got `batch_size=5`, the raw loop 10. Half the steps at the "
        "same learning rate go half as far.",
        models=("line",),
        part="batch_size",
    ),
    Erratum(
        "1,000 rows beside Keras's 60,000",
        replay.first_rows,
        replay.all_rows,
        "Keras trained on the whole training set less a fifth, the raw loop on its "
        "first 1,000 rows less a fifth: 800 beside 48,000. The cell that cut them off "
        "carries no number: as it stands it never ran.",
        models=IMAGES[:2],
        part="rows",
    ),
    Erratum(
        "A random split beside Keras's tail",
        split_at_random,
        replay.split_off_the_tail,
        "`train_test_split` holds back any 200 rows, Keras the last 200. Both are "
        "sound; but then the two validation figures are figures of other examples.",
        part="split",
        effect=effects.over_five_seeds,
    ),
    Erratum(
        "A normal start beside Glorot's",
        normal_start,
        replay.glorot_start,
        "Keras draws the weight uniformly from ±√3 and starts the bias at 0; the raw "
        "line draws both from the normal distribution. After 10 epochs the line still "
        "remembers where it began.",
        models=("line",),
        part="start",
    ),
    Erratum(
        "A start from zero beside Glorot's",
        zero_start,
        replay.glorot_start,
        "Logistic regression has one minimum, so a start from zero is no error of the "
        "model. It is one of the comparison: the printed numbers are those of a start "
        "that Keras did not make.",
        models=("logistic",),
        part="start",
    ),
    Erratum(
        "A narrow normal start beside Glorot's",
        narrow_start,
        replay.glorot_start,
        "Keras draws uniformly from ±√(6 / (784 + 32)) and ±√(6 / (32 + 10)), "
        "standard deviations of 0.05 and 0.22. The raw network draws both layers with "
        "0.1.",
        models=("feed-forward",),
        part="start",
    ),
    Erratum(
        "A start from 0.1 beside Glorot's",
        start_of_a_tenth,
        replay.glorot_start,
        "The raw network draws all weights with a standard deviation of 0.1, cut off "
        "at two of them, and starts every bias at 0.1. Keras starts biases at 0, and "
        "Glorot's draw for the hidden layer has a standard deviation of 0.02.",
        models=("convolutional",),
        part="start",
    ),
    Erratum(
        "Sigmoid without biases beside relu with biases",
        sigmoid_without_biases,
        replay.feed_forward,
        "The two dialects trained two networks: 25,408 weights with a sigmoid, 25,450 "
        "with a relu.",
        models=("feed-forward",),
        part="network",
    ),
    Erratum(
        "The logarithm of a softmax",
        loss_from_probabilities,
        replay.loss_from_logits,
        "A probability below the smallest float32 becomes 0, and its logarithm minus "
        "infinity. For the wrong classes that is multiplied by 0, which gives NaN, "
        "and the gradient is NaN too: one example that is right, and very sure of it, "
        "turns all weights into NaN. From the logits, loss and gradient are finite.",
        models=("convolutional",),
        part="loss",
        effect=effects.of_far_logits,
    ),
    Erratum(
        "A learning rate that nothing reads",
        rate_of_a_hundredth,
        replay.rate_as_asked,
        "`learning_rate` is set at the top of the cell, and the optimizer gets a 0.01 "
        "of its own. The figures are those of one epoch, with 0.1 asked for.",
        models=("convolutional",),
        part="optimizer",
        effect=effects.asked_for_a_tenth,
    ),
    Erratum(
        "A training cost of all points",
        cost_of_all_points,
        cost_of_training_points,
        'The last line, "Training cost= 7.84454e-07", was computed on all 100 points, '
        "with the 20 that were held back for validation.",
        models=("line",),
        effect=effects.of_the_line,
    ),
    Erratum(
        "A test set left raw",
        images_left_raw,
        images_scaled,
        "The cell reshapes and scales `x_train` and forgets `x_test`: (n, 28, 28), "
        "whole numbers up to 255. No cell ever read it, so no error came.",
        models=("convolutional",),
        effect=effects.of_the_test_set,
    ),
    Erratum(
        "Keras without accuracy",
        compile_without_metrics,
        compile_with_accuracy,
        "Keras's convolutional network was compiled without `metrics`. The only "
        "accuracy that could have stood against the raw network's 1.0 was not "
        "computed.",
        models=("convolutional",),
        effect=effects.of_keras_figures,
    ),
    Erratum(
        "Epochs left to a default",
        fit_without_epochs,
        fit_ten_epochs,
        "`epochs = 10` is set and passed to none of the first three `fit`. They "
        "printed `Epoch 1/10` because 10 was the default then; today it is 1.",
        models=("line", *IMAGES[:2]),
        effect=effects.of_keras_epochs,
    ),
    Erratum(
        "A progress bar of examples",
        bar_of_examples,
        bar_of_steps,
        "The bar counts 80 examples and works on 17 of its counts, a batch on each: "
        "it is at 21 % when all is done. [What fit() hides](00_inside_fit.ipynb) "
        "shows it running.",
        effect=effects.of_a_bar,
    ),
    Erratum(
        "Names before their definitions",
        NAMES_2017,
        NAMES_CORRECTED,
        "Run from top to bottom, the notebook stops at the trial of its progress bar: "
        "no cell imports `sys`. Then `time`, never imported either, and "
        "`num_classes`, which the next cell defines.",
        effect=effects.of_names,
    ),
    Erratum(
        "A training set overwritten",
        overwrite_x_train,
        leave_x_train,
        "The split binds `x_train` anew. Where the cut and the split are run again, "
        "they cut and split what was left, without a word: 800 examples, then 640.",
        effect=effects.of_a_cell_run_twice,
    ),
    Erratum(
        "Cells out of order",
        cells_as_they_ran,
        cells_from_top_to_bottom,
        "The numbers in front of the cells tell when each ran last. The seed was set "
        "in the third, 461 runs before the line was trained: by then NumPy's draws "
        "hung on all that had been tried between.",
        effect=effects.of_order,
    ),
    Erratum(
        "No seed for TensorFlow",
        seed_of_numpy,
        seed_of_both,
        "NumPy's seed fixes the batches. TensorFlow draws the weights, from a seed of "
        "its own that was never set: no run of the notebook could be repeated. It is "
        "the one error that the replays leave out.",
        effect=effects.of_two_starts,
    ),
    Erratum(
        "A command that does not start",
        command_of_2017,
        command_of_today,
        "The comment beside `FileWriter` says `logs=`; TensorBoard's argument is "
        "`--logdir`. The module has left TensorFlow since.",
        effect=effects.of_a_command,
    ),
)


# --- what the notebook shows ----------------------------------------------------------


def in_2017(model: str, *, without: Sequence[str] = ()) -> Parts:
    """Return a training with all errors in, but for those named in `without`.

    Raises ValueError for a name that `ERRATA` does not have.
    """
    unknown = set(without) - {erratum.name for erratum in ERRATA}
    if unknown:
        names = ", ".join(erratum.name for erratum in ERRATA if erratum.part)
        raise ValueError(
            f"no erratum is called {unknown.pop()!r}; use names of ERRATA: {names}"
        )
    parts = replay.MODELS[model].parts
    for erratum in ERRATA:
        if erratum.part and model in erratum.models and erratum.name not in without:
            parts = erratum.put_into(parts)
    return parts
