"""Where an epoch's time goes, by operation, from TensorFlow's profiler.

Profiles the fastest mode of each model in benchmarks/training.py, and for the
convolutional network also the mode before its products were rearranged. Writes
training_profile.md beside this file.

    python -m benchmarks.training_profile
"""

import collections
import os
import platform
import re
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from benchmarks.contenders import Case, Turns, run_raw
from benchmarks.training import SIZES, milliseconds, processor, title, write_case
from kvt import data

WARM, TIMED, TRACED = 3, 10, 3  # epochs
SHOWN = 9  # operations per table
EPOCH: dict[str, Any] = {"steps_per_execution": "epoch"}
XLA: dict[str, Any] = EPOCH | {"jit_compile": True}
CASES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("01", "epoch, XLA", XLA),
    ("02", "epoch, XLA, bytes, by unit", XLA | {"by_unit": True, "bytes_": True}),
    ("03", "epoch, XLA", XLA),
    ("04", "epoch", EPOCH),
    ("04", "epoch, by unit", EPOCH | {"by_unit": True}),
)
# Layers that call an operation.
LAYERS = re.compile(
    r"(?i)eager|TFE_|Execute|Executa|Process|BlockUntil|KernelAnd|<lambda>|^end: "
    r"|^(while|call)(\.\d+)?$"
)
# The place of a step within a round, and the number of a repeated operation.
PLACE = re.compile(r"^.*StatefulPartitionedCall(_\d+)?/|^while/body/_\d+/")
PYTHON_CALL = "TFE_Py_Execute"


class Finished(Exception):  # noqa: N818, it is not an error
    """All epochs were profiled; ends `fit`."""


class Watch(Turns):
    """Times some epochs, then profiles some more."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.seconds: list[float] = []

    def begin(self) -> None:
        if len(self.seconds) == WARM + TIMED:
            tf.profiler.experimental.start(self.directory)
        self.started = time.perf_counter()

    def end(self, loss: float) -> None:
        self.seconds.append(time.perf_counter() - self.started)
        if len(self.seconds) == WARM + TIMED + TRACED:
            tf.profiler.experimental.stop()
            raise Finished

    @property
    def median(self) -> float:
        return statistics.median(self.seconds[WARM : WARM + TIMED])


def events(directory: str) -> dict[str, list[float]]:
    """Read the profiler's events: by name, the seconds of each."""
    found = collections.defaultdict(list)
    for path in Path(directory).rglob("*.xplane.pb"):
        for plane in xplane_pb2.XSpace.FromString(path.read_bytes()).planes:
            for line in plane.lines:
                for event in line.events:
                    name = plane.event_metadata[event.metadata_id].name
                    found[PLACE.sub("", name)].append(event.duration_ps / 1e12)
    return found


def watch(model: str, mode: dict[str, Any], dataset: str) -> tuple[Watch, dict]:
    """Train, and return the times of the epochs and the profiler's events."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "case.npz"
        write_case(model, path, dataset)
        seen = Watch(directory)
        try:
            run_raw(Case(model, str(path)), seen, **mode)
        except Finished:
            return seen, events(directory)
    raise AssertionError("fit ended before the profiler did")


def table(model: str, name: str, mode: dict[str, Any], dataset: str) -> str:
    seen, found = watch(model, mode, dataset)
    totals = {
        operation: sum(seconds) / TRACED
        for operation, seconds in found.items()
        if not LAYERS.search(operation)
    }
    most = sorted(totals, key=lambda operation: -totals[operation])[:SHOWN]
    rows = [
        f"| `{operation}` | {len(found[operation]) / TRACED:,.0f} | "
        f"{statistics.median(found[operation]) * 1e6:,.1f} | "
        f"{milliseconds(totals[operation])} | {totals[operation] / seen.median:.0%} |"
        for operation in most
    ]
    call = max(
        sum(seconds) / TRACED
        for layer, seconds in found.items()
        if layer.startswith(PYTHON_CALL)
    )
    return f"""## {title(model)}: {name}

One epoch: {milliseconds(seen.median)} ms, median of {TIMED} without the profiler; \
with it, {milliseconds(call)} ms per epoch are spent in TensorFlow's runtime.

| operation | runs per epoch | µs each, median | ms per epoch | share |
| --- | ---: | ---: | ---: | ---: |
{chr(10).join(rows)}
"""


def main() -> None:
    dataset, reason = data.resolve("auto")
    models = {name[:2]: name for name in SIZES}
    parts = [table(models[number], *case, dataset) for number, *case in CASES]
    text = f"""# Where an epoch's time goes

Made by `python -m benchmarks.training_profile` ({reason}). Operations that run at the \
same time on two threads count twice, and the profiler itself takes time, so use the \
tables to find the large operations. With XLA, a fusion is several operations in one.

{chr(10).join(parts)}
Python {platform.python_version()}, TensorFlow {version("tensorflow")}, \
{processor()}, {os.cpu_count()} threads.
"""
    Path(__file__).with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
