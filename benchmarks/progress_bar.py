"""What the progress bar costs: an epoch with it against an epoch without it.

Epochs of the feedforward network with and without the bar take turns in one process,
so that background load affects both; the result is the ratio of the medians. The bar
draws as in a terminal. Its own calls are also timed alone.
Writes progress_bar.md beside this file.
"""

import contextlib
import io
import itertools
import math
import os
import platform
import statistics
import time
from importlib.metadata import version
from pathlib import Path

import kvt
from kvt import data
from tests.notebooks import sections

ROUNDS = 40


class Terminal(io.StringIO):
    """A terminal without a screen."""

    def isatty(self) -> bool:
        return True


def epoch_seconds(section: dict, verbose: int) -> float:
    """Train one more epoch, and return its wall seconds, validation included."""
    recorder = kvt.Recorder(list)
    with contextlib.redirect_stdout(Terminal()):
        kvt.fit(
            section["train_step"],
            section["test_step"],
            section["x_train"],
            section["y_train"],
            batch_size=section["batch_size"],
            validation_split=section["validation_split"],
            verbose=verbose,
            callbacks=[recorder],
        )
    return recorder.seconds


def own_seconds(steps: int, epoch: float) -> float:
    """Time the bar's own calls in an epoch; the clock sets how often it draws."""
    ticks = itertools.count()
    bar = kvt.ProgressBar(clock=lambda: next(ticks) * epoch / steps)
    bar.set_params({"epochs": 1, "steps": steps})
    with contextlib.redirect_stdout(Terminal()):
        started = time.perf_counter()
        bar.on_train_begin()
        bar.on_epoch_begin(0)
        for step in range(steps):
            bar.on_train_batch_end(step, {"loss": 0.5, "accuracy": 0.5})
        bar.on_epoch_end(0, {"loss": 0.5, "accuracy": 0.5})
        bar.on_train_end()
        return time.perf_counter() - started


def row(name: str, taken: list[float]) -> str:
    """Return a line of the table."""
    seconds_of = (statistics.median(taken), min(taken), max(taken))
    return f"| {name} | {' | '.join(f'{seconds:.4f} s' for seconds in seconds_of)} |"


def main() -> None:
    dataset, reason = data.resolve("auto")
    section = sections.define("03_feedforward_network", dataset=dataset)
    for verbose in (0, 1):
        epoch_seconds(section, verbose)  # tracing and first use
    seconds: dict[int, list[float]] = {0: [], 1: []}
    for _ in range(ROUNDS):
        for verbose, taken in seconds.items():
            taken.append(epoch_seconds(section, verbose))
    ratio = statistics.median(seconds[1]) / statistics.median(seconds[0])
    n = len(section["x_train"])
    epoch = statistics.median(seconds[0])
    steps = math.ceil(
        len(section["x_train"])
        * (1 - section["validation_split"])
        / section["batch_size"]
    )
    own = statistics.median(own_seconds(steps, epoch) for _ in range(ROUNDS))
    text = f"""# What the progress bar costs

One epoch of the feedforward network: {n:,} examples at batch size \
{section["batch_size"]}, \
{section["validation_split"]:.0%} of them for validation ({reason}).

| epoch | median of {ROUNDS} | lowest | highest |
| --- | ---: | ---: | ---: |
{row("without the bar", seconds[0])}
{row("with the bar", seconds[1])}

Ratio of the medians: **{ratio:.4f}**, within the noise of the epochs. The \
bar's own calls take {own * 1000:.2f} ms per epoch (median of {ROUNDS}), \
**{own / epoch:.2%}** of it.

Python {platform.python_version()}, TensorFlow {version("tensorflow")}, \
{os.cpu_count()} threads, {platform.machine()}.
"""
    Path(__file__).with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
