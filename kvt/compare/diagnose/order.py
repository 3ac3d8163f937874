"""Which rows a port's batches hold, and which cause orders them so."""

import numpy as np

from kvt.compare.diagnose.record import Record, Rows, Setup
from kvt.compare.parts import cut, example_order, tail

Batches = list[Rows]  # of one epoch


def split(setup: Setup) -> tuple[Rows, Rows]:
    """Return the rows that Keras trains on, and those that it validates on."""
    n, share = len(setup.x), setup.validation_split
    return tail(n, share, setup.seed) if share else (np.arange(n), np.arange(0))


def rows_of_epochs(setup: Setup, theirs: Record) -> list[Batches]:
    """Find the rows of every batch of the port, by epoch; [] if they are not rows of x.

    Examples that occur more than once in x are told apart by their order.
    """
    example = theirs.batches[0][0]
    if setup.x.shape[1:] != example.shape[1:] or len(theirs.batches) % setup.epochs:
        return []
    places: dict[bytes, list[int]] = {}
    for row, value in enumerate(setup.x.astype(example.dtype)):
        places.setdefault(value.tobytes(), []).append(row)
    found: Batches = []
    for batch, _ in theirs.batches:
        values = [np.ascontiguousarray(value).tobytes() for value in batch]
        if not places.keys() >= {*values}:
            return []
        rows = []
        for at, value in enumerate(values):
            same = places[value]
            rows.append(same[min(values[:at].count(value), len(same) - 1)])
        found.append(np.array(rows, "int64"))
    steps = len(found) // setup.epochs
    return [found[start : start + steps] for start in range(0, len(found), steps)]


def held_back(setup: Setup, epochs: list[Batches]) -> Rows:
    """Return the rows that the port validates on: those that it never trains on."""
    trained = np.concatenate([rows for epoch in epochs for rows in epoch])
    rest = np.setdiff1d(np.arange(len(setup.x)), trained)
    tail_rows = split(setup)[1]
    return tail_rows if np.isin(tail_rows, rest).all() else rest


def cause_of_order(setup: Setup, epochs: list[Batches]) -> str:
    """Name the cause of an order that is not Keras's; "" if it is not known."""
    rows, _ = split(setup)
    n, size = len(rows), setup.batch_size
    orders = [np.concatenate(epoch) for epoch in epochs]
    first, mine = orders[0], rows[example_order(n, setup.seed)]
    sorted_batches = [np.sort(batch) for batch in epochs[0]]
    stored = {batch.tobytes() for batch in cut(rows, size)}
    if not np.isin(first, rows).all():
        head = first[:n]  # training first, then the rows that are held back
        return "" if np.isin(head, rows).all() else "random_split"
    if any(len(np.unique(order)) < len(order) for order in orders):
        return "with_replacement"
    if len(first) == n // size * size < n and np.array_equal(first, mine[: len(first)]):
        return "last_batch_dropped"
    if np.array_equal(first, rows[: len(first)]):
        return "not_shuffled"
    if {batch.tobytes() for batch in sorted_batches} <= stored:
        return "batches_shuffled"
    if int((first - np.arange(len(first))).max()) < 0.75 * n - size:
        return "small_buffer"
    return "reshuffled" if any(not np.array_equal(o, first) for o in orders) else ""
