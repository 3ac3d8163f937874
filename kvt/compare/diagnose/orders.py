"""Which cause explains the order of the port's batches."""

from itertools import chain
from math import lgamma, log

import numpy as np

from kvt import data
from kvt.compare.diagnose.record import Record, Setup
from kvt.compare.diagnose.switches import Changes, Evidence
from kvt.compare.parts import Rows, cut, example_order
from kvt.data.releases import keras_before


def rule_of_order(name: str, seen: Evidence) -> Changes:
    """Train Keras on the port's batches, if the cause of this name orders them so."""
    epochs, same = port_rows(seen.side.setup, seen.theirs)
    if epochs and _cause_of_order(seen, epochs, same) == name:
        tail = seen.side.setup.split()[1]
        seen_rows = np.concatenate([rows for epoch in epochs for rows in epoch])
        rest = np.setdiff1d(np.arange(len(same)), seen_rows)
        held_back = tail if np.isin(tail, rest).all() else rest
        yield {
            "split": lambda setup: (np.arange(len(same)), held_back),
            "batches": lambda n, batch_size, seed, epoch: epochs[epoch],
        }


def _cause_of_order(seen: Evidence, epochs: list[list[Rows]], same: Rows) -> str:
    """Name the cause of an order that is not Keras's; "" if it is not known."""
    setup = seen.side.setup
    rows, size = same[setup.split()[0]], setup.batch_size
    n, orders = len(rows), [np.concatenate(epoch) for epoch in epochs]
    first, mine = orders[0], rows[example_order(n, setup.seed)]
    stored = {np.sort(batch).tobytes() for batch in cut(rows, size)}
    counts = [np.bincount(order, minlength=len(same)) for order in (*orders, rows)]
    if not np.isin(first, rows).all():  # or first training, then the held-back rows
        return "" if np.isin(first[:n], rows).all() else "random_split"
    if {len(order) for order in orders} - {n, n // size * size}:
        return ""  # an epoch is no pass over the examples, or there are fewer or more
    if any((count > counts[-1]).any() for count in counts[:-1]):
        return "with_replacement"
    if len(first) == n // size * size < n and np.array_equal(first, mine[: len(first)]):
        return "last_batch_dropped"
    if np.array_equal(first, rows[: len(first)]):
        return "not_shuffled"
    other = "3.16" if keras_before("3.16") else "3.15"
    if np.array_equal(first, rows[data.example_order(n, setup.seed, release=other)]):
        return "order_of_another_keras"
    if {np.sort(batch).tobytes() for batch in epochs[0]} <= stored:
        return "batches_shuffled"
    # The smallest buffer that can give this order; few random orders have one so small.
    buffer = int((first - np.arange(len(first))).max()) + 1
    chance = (n - buffer) * log(buffer) + lgamma(buffer + 1) - lgamma(n + 1)
    if chance < log(1e-3):
        return "small_buffer"
    return "reshuffled" if any(not np.array_equal(o, first) for o in orders) else ""


def port_rows(setup: Setup, theirs: Record) -> tuple[list[list[Rows]], Rows]:
    """Find the rows in the port's batches, by epoch; [] if they are not rows of x.

    Also returns for each row of x (n, …) the first row that equals it.
    """
    n, batches = len(setup.x), [x for x, _ in theirs.batches]
    places: dict[bytes, int] = {}
    every = enumerate(chain(setup.x.astype(batches[0].dtype), *batches))
    rows = np.array([places.setdefault(row.tobytes(), at) for at, row in every])
    same, given = rows[:n], rows[n:]
    if (given >= n).any() or len(batches) % setup.epochs:
        return [], same
    found = np.split(given, np.cumsum([len(x) for x in batches])[:-1])
    steps = len(found) // setup.epochs
    starts = range(0, len(found), steps)
    return [found[start : start + steps] for start in starts], same
