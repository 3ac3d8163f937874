"""How an epoch's cost grows: seconds over examples and batch sizes, and peak memory.

Trains the feedforward network on random images. Times are medians of epochs that take
turns. Memory is the peak of a fresh process, minus its peak after a training on a few
examples, so that TensorFlow's own memory is left out. The ratio divides it by the size
of data, weights and one batch's activations.
Writes size.md beside this file.

    python -m benchmarks.size
"""

import os
import platform
import resource
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import kvt
from benchmarks.training import processor
from kvt import data
from tests.notebooks import sections

EXAMPLES = (1_000, 2_000, 5_000, 10_000, 20_000, 40_000, 60_000)
BATCHES = (1, 4, 16, 64, 256, 1_024, 4_096)
MODES = {"step": {}, "10 steps": {"steps_per_execution": 10}} | {
    "epoch": {"steps_per_execution": "epoch"},
    "epoch, XLA": {"steps_per_execution": "epoch", "jit_compile": True},
}
ROUNDS = 3
ACTIVATIONS = 2 * (32 + 10)  # floats per example, forward and backward
WEIGHTS = 25_450


def images(n: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    classes = random.integers(0, 10, n)
    x = data.empty((n, 784), "float32")  # as `data.load` returns them
    random.random(dtype=np.float32, out=x)
    return x, np.eye(10, dtype="f4")[classes]


def epochs(section: dict, n: int, batch_size: int, mode: dict[str, Any]) -> float:
    """Train some epochs; return the median of the seconds of all but the first."""
    recorder = kvt.Recorder(list)
    kvt.fit(
        section["train_step"],
        section["test_step"],
        *images(n),
        batch_size=batch_size,
        epochs=4,
        verbose=0,
        callbacks=[recorder],
        **mode,
    )
    return statistics.median(recorder.epoch_seconds[1:])


def peak() -> int:
    """Return this process's peak of resident bytes.

    On Linux not from getrusage, whose peak is also that of the parent.
    """
    status = Path("/proc/self/status")
    if status.exists():
        peaks = (line for line in status.read_text().splitlines() if "VmHWM" in line)
        return int(next(peaks).split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def memory(name: str, n: int) -> None:
    """Print, in a fresh process, how many more bytes a training on n examples needs."""
    section = sections.define("03_feedforward_network", train_size=10)
    epochs(section, 300, 128, MODES[name])
    before = peak()
    epochs(section, n, 128, MODES[name])
    print(peak() - before)


def memory_row(name: str, n: int) -> str:
    command = [sys.executable, "-m", "benchmarks.size", name, str(n)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    used = int(run.stdout.split()[-1])
    needed = 4 * (n * (784 + 10) + WEIGHTS + 128 * ACTIVATIONS)
    return (
        f"| {n:,} | {name} | {needed / 1e6:.0f} | {used / 1e6:.0f} | "
        f"{used / needed:.2f} |"
    )


def times(section: dict, sizes: list[tuple[int, int]]) -> dict:
    """Return the median seconds of an epoch by size and mode, taking turns."""
    taken: dict = {(size, name): [] for size in sizes for name in MODES}
    for _ in range(ROUNDS):
        for (size, name), seconds in taken.items():
            if sum(seconds) < 2:
                seconds.append(epochs(section, *size, MODES[name]))
    return {key: statistics.median(seconds) for key, seconds in taken.items()}


def rows(seconds: dict, sizes: list[tuple[int, int]]) -> str:
    lines = []
    for n, batch_size in sizes:
        cells = (f"{seconds[(n, batch_size), name] * 1e3:,.1f}" for name in MODES)
        lines.append(f"| {n:,} | {batch_size:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


def straightness(seconds: dict, sizes: list[tuple[int, int]]) -> str:
    """Report how far the times are from a straight line."""
    said = []
    for name in MODES:
        n = np.array([size[0] for size in sizes], float)
        y = np.array([seconds[size, name] for size in sizes])
        slope, start = np.polyfit(n, y, 1, w=1 / y)
        miss = np.abs(slope * n + start - y) / y
        said.append(
            f"{name}: {slope * 1e6:.2f} µs per example and {start * 1e3:.1f} ms, "
            f"off by {miss.max():.0%} at most"
        )
    return "; ".join(said)


def main() -> None:
    section = sections.define("03_feedforward_network", train_size=10)
    by_examples = [(n, 128) for n in EXAMPLES]
    by_batch = [(2_000, batch_size) for batch_size in BATCHES]
    seconds = times(section, by_examples + by_batch)
    head = "| examples | batch | " + " | ".join(MODES) + " |\n"
    head += "| ---: | ---: |" + " ---: |" * len(MODES)
    memories = [memory_row(name, n) for n in (20_000, 60_000) for name in MODES]
    text = f"""# What size costs

The feedforward network on random images. Milliseconds per epoch, medians.

{head}
{rows(seconds, by_examples)}

A straight line through them: {straightness(seconds, by_examples)}.

{head}
{rows(seconds, by_batch)}

Peak memory without TensorFlow's own, in MB, against the size of data, weights and \
one batch's activations:

| examples | | data, weights, activations | process | ratio |
| ---: | --- | ---: | ---: | ---: |
{chr(10).join(memories)}

The images come from `kvt.data`. The mode "epoch" copies other arrays once if they \
do not begin at a multiple of 64 bytes.

Python {platform.python_version()}, TensorFlow {version("tensorflow")}, \
{processor()}, {os.cpu_count()} threads.
"""
    Path(__file__).with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        memory(sys.argv[1], int(sys.argv[2]))
    else:
        main()
