"""The replays of 2017 as tables: what was printed, what is so, which error it was."""

from collections.abc import Mapping, Sequence

from kvt.compare.replay import Figures, Parts, Replays, Run
from kvt.differences import printed_2017
from kvt.differences.errata import ERRATA, Erratum, in_2017
from kvt.differences.errata_effects import corrected, figure
from kvt.show.tables import Table

NAMES_2017 = {"accuracy": "acc", "val_accuracy": "val_acc"}  # today's name: 2017's


def printed_beside_replay(model: str, run: Run) -> Table:
    """Return each figure of each epoch, as 2017 printed it and as the replay does.

    What the surviving page cuts off, and what the replay leaves out, is empty.
    """
    names = list(run.printed[0])
    header = [f"{NAMES_2017.get(name, name)}, {of}" for name in names for of in _SIDES]
    rows = []
    for epoch, printed in enumerate(printed_2017.by_epoch(model)):
        replayed = run.printed[epoch] if epoch < len(run.printed) else {}
        pairs = [
            (_text(printed, NAMES_2017.get(name, name)), _text(replayed, name))
            for name in names
        ]
        rows.append([str(epoch + 1), *(text for pair in pairs for text in pair)])
    return Table(["epoch", *header], rows)


def trained_on(run: Run) -> Table:
    """Return how often the examples of either side of the split were trained on."""
    epochs = len(run.printed)
    sides = run.training, run.validation
    visits = [side.visits / epochs for side in sides]
    return Table(
        ["in an epoch", "training", "validation"],
        [
            ["examples", *(f"{len(side.x):,}" for side in sides)],
            ["batches", *(f"{side.batches // epochs:,}" for side in sides)],
            ["updates of the weights", *(f"{s.updates // epochs:,}" for s in sides)],
            ["updates by one example, mean", *(f"{v.mean():.1f}" for v in visits)],
            ["updates by one example, fewest", *(f"{v.min():.1f}" for v in visits)],
        ],
    )


def accuracies(runs: Mapping[str, Run]) -> Table:
    """Return what each training printed last, and its accuracy on all examples."""
    rows = {
        "val_acc, printed": [run.printed[-1]["val_accuracy"] for run in runs.values()],
        "all validation examples": [run.true[-1]["accuracy"] for run in runs.values()],
        "all training examples": [run.train["accuracy"] for run in runs.values()],
        "test examples": [run.test["accuracy"] for run in runs.values()],
    }
    return Table(
        ["accuracy", *runs],
        [
            [name, *(f"{value:.2f}" for value in values)]
            for name, values in rows.items()
        ],
    )


def which_error(replays: Replays, model: str) -> Table:
    """Return the last `val_acc` printed with each error alone, and with all but it."""
    right, wrong = corrected(model), in_2017(model)
    rows = [["none; or all of them", *_printed(replays, model, right, wrong)]]
    for erratum in errata_of(model):
        pair = erratum.put_into(right), in_2017(model, without=[erratum.name])
        if erratum.part != "rows":  # the corrected training here has 2017's rows
            rows.append([erratum.name, *_printed(replays, model, *pair)])
    return Table(["error", "this one alone", "all but this one"], rows)


def errata_of(model: str) -> list[Erratum]:
    """Return the errors of a model's training."""
    return [one for one in ERRATA if one.part and model in one.models]


_SIDES = ("2017", "replay")


def _text(figures: Figures, name: str) -> str:
    """Return a figure, or nothing for one that is missing."""
    return figure(figures[name]) if name in figures else ""


def _printed(replays: Replays, model: str, *variants: Parts) -> Sequence[str]:
    """Return the last validation accuracy that each training printed."""
    runs = [replays.run(model, parts) for parts in variants]
    return [figure(run.printed[-1]["val_accuracy"]) for run in runs]
