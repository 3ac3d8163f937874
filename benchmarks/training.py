"""What an epoch costs: Keras, TensorFlow 2 in each mode, TensorFlow 1, PyTorch, JAX.

Trains the report's four models from the same initial weights, on the same batches in
the same order, on all processors. Each contender is a separate process. The processes
take turns, epoch by epoch, so that background load affects all of them. The losses of
their first epochs must agree. The floor is the time of the counted operations at the
rate of this machine's matrix products, or of the counted bytes at its memory bandwidth,
whichever is longer.

PyTorch and JAX are not dependencies of kvt: use `--python` to name a Python that has
them. Without them, the benchmark says what it skips.
Writes training.md and training.svg beside this file.

    python -m benchmarks.training [--python PATH] [--models 01 02 …]
"""

import argparse
import contextlib
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from benchmarks.contenders import CONTENDERS
from kvt import data
from kvt.report import provenance
from tests.notebooks import sections

HERE = Path(__file__)
SIZES = {  # model: examples, batch size
    "01_linear_regression": (80, 5),
    "02_logistic_regression": (48_000, 128),
    "03_feedforward_network": (48_000, 128),
    "04_convolutional_network": (800, 32),
}
FAMILIES = ("Keras", "TensorFlow 2", "TensorFlow 1", "PyTorch", "JAX")
COLORS = dict(
    zip(FAMILIES, ("#b3492f", "#1f6feb", "#7aa7e8", "#8a6d00", "#2f7d4f"), strict=True)
)
MODULES = {"PyTorch": "torch", "JAX": "jax"}
LOSSES_AGREE = 1e-4  # relative
TURN = 0.05  # seconds at least


@dataclass
class Contender:
    """A process, and the seconds of its epochs."""

    name: str
    process: subprocess.Popen[str]
    first: float = math.nan  # seconds of the first epoch, tracing and compiling
    warm: float = math.nan  # of the second
    loss: float = math.nan
    seconds: list[float] = field(default_factory=list)

    def turn(self, epochs: int = 1) -> list[dict[str, float]]:
        """Let it run some epochs."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{epochs}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} failed; run it alone to see why")
        answers: list[dict[str, float]] = json.loads(line)
        return answers

    def train(self) -> None:
        """Take a turn of an epoch, or of several that are short."""
        epochs = math.ceil(TURN / statistics.median(self.seconds or [self.warm]))
        self.seconds += [answer["seconds"] for answer in self.turn(epochs)]

    @property
    def family(self) -> str:
        return next(family for family in FAMILIES if self.name.startswith(family))

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def write_case(model: str, path: Path, dataset: str) -> dict:
    """Write the contenders' examples and weights; return the model's section."""
    n, batch_size = SIZES[model]
    sized = {"train_size": 1_000} if model.startswith("04") else {}
    if not model.startswith("01"):
        sized["dataset"] = dataset
    section = sections.define(model, **sized)
    n = min(n, data.split(len(section["x_train"]), 0.2) // batch_size * batch_size)
    weights = section["initial_weights"]
    np.savez(
        path,
        x=section["x_train"][:n],
        y=section["y_train"][:n],
        order=data.example_order(n, 0),
        batch_size=batch_size,
        weights=len(weights),
        **{f"w{i}": w for i, w in enumerate(weights)},
    )
    section["session"].close()
    return section | {"n": n, "batch_size": batch_size}


def counted(section: dict) -> tuple[float, float]:
    """Count an epoch's operations and bytes.

    Operations: two per weight and place where it is used, in the forward pass; the same
    for the weight's gradient; the same for the input's gradient, except in the first
    layer. Bytes: examples and labels are read once; in each step each weight is read
    for the product and for the update, its gradient written and read, the weight
    written.
    """
    kernels = [w for w in section["initial_weights"] if w.ndim > 1]
    places = {0: 28 * 28, 1: 14 * 14} if kernels[0].ndim == 4 else {}
    products = [w.size * places.get(i, 1) for i, w in enumerate(kernels)]
    operations = sum(2 * p * (2 if i == 0 else 3) for i, p in enumerate(products))
    n, steps = section["n"], section["n"] // section["batch_size"]
    row = section["x_train"][0].nbytes + section["y_train"][0].nbytes
    weights = sum(w.nbytes for w in section["initial_weights"])
    return n * operations, n * row + steps * 5 * weights


def fits(name: str, model: str) -> bool:
    """Whether the contender applies to the model and adds information.

    With convolutions, the cast of the images takes no visible time, and XLA takes
    seconds however the dense layers are written.
    """
    number, *modes = model[:2], *name.split(", ")[1:]
    if "by unit" in modes:
        if number == "04":
            return "epoch" in modes and "XLA" not in modes
        return number == "02" and "convolutions" not in modes
    return "bytes" not in modes or number in ("02", "03")


@contextlib.contextmanager
def processes(model: str, path: Path, pythons: dict[str, str]) -> Iterator[list]:
    """Start each contender's process."""
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    started = []
    try:
        for name in CONTENDERS:
            family = next((f for f in FAMILIES if name.startswith(f)), "floor")
            if family not in pythons or not fits(name, model):
                continue
            process = subprocess.Popen(
                [pythons[family], "-m", "benchmarks.contenders", name, model, path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=HERE.parents[1],
                env=environment,
                text=True,
            )
            started.append(Contender(name, process))
        yield started
    finally:
        for each in started:
            each.process.kill()
            each.process.communicate()


def compete(contenders: list[Contender], seconds: float, rounds: int) -> dict:
    """Let them take turns; return the machine's median rates.

    The order changes from round to round. A short epoch runs several times per turn. A
    contender that has trained for `seconds` sits out after its third turn.
    """
    *contenders, floor = contenders
    for one in contenders:
        first, second = one.turn(2)
        one.first, one.warm, one.loss = (
            first["seconds"],
            second["seconds"],
            first["loss"],
        )
    losses = [one.loss for one in contenders]
    if max(losses) > min(losses) * (1 + LOSSES_AGREE):
        listed = "\n".join(f"{one.name}: {one.loss!r}" for one in contenders)
        raise SystemExit(f"the first epochs' losses differ:\n{listed}")
    floor.turn()
    measured: list[dict] = []
    for number in range(rounds):
        measured += floor.turn()
        shift = number % len(contenders)
        for one in contenders[shift:] + contenders[:shift]:
            if number < 3 or sum(one.seconds) < seconds:
                one.train()
    return {
        name: statistics.median(each[name] for each in measured)
        for name in ("rate", "bandwidth")
    }


def title(model: str) -> str:
    """Return `Feedforward network` for `03_feedforward_network`."""
    return model[3:].replace("_", " ").capitalize()


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:,.{max(0, 2 - math.floor(math.log10(seconds * 1e3)))}f}"


def best(contenders: Sequence[Contender], family: str) -> Contender | None:
    found = [one for one in contenders if one.family == family]
    return min(found, key=lambda one: one.median) if found else None


def table(model: str, section: dict, contenders: list[Contender], machine: dict) -> str:
    """Return a model's part of the page."""
    operations, moved = counted(section)
    computing, moving = operations / machine["rate"], moved / machine["bandwidth"]
    floor = max(computing, moving)
    leaders = {f: best(contenders, f) for f in FAMILIES}
    rows = [
        f"| {'**' * (one is leaders[one.family])}{one.name}"
        f"{'**' * (one is leaders[one.family])} | {milliseconds(one.median)} | "
        f"{milliseconds(min(one.seconds))} | {milliseconds(max(one.seconds))} | "
        f"{len(one.seconds)} | {one.first:.2f} s | {one.loss:.7f} | "
        f"{one.median / floor:,.1f} |"
        for one in contenders
    ]
    raw = leaders["TensorFlow 2"]
    ahead = [
        f"{other.median / raw.median:.2f} times {family}'s ({other.name})"
        for family, other in leaders.items()
        if other and raw and family != "TensorFlow 2"
    ]
    summary = f"Best of TensorFlow 2: {raw.name}. Its speed is {'; '.join(ahead)}."
    return f"""## {title(model)}

{section["n"]:,} examples at batch {section["batch_size"]}. Floor: \
{operations / 1e9:.3g} G operations at {machine["rate"] / 1e9:.0f} G/s are \
{milliseconds(computing)} ms; {moved / 1e6:.3g} MB at {machine["bandwidth"] / 1e9:.1f} \
GB/s are {milliseconds(moving)} ms. {summary}

| | median, ms | lowest | highest | epochs | first epoch | loss of the first epoch | \
× floor |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
{chr(10).join(rows)}
"""


def plot(results: dict[str, tuple[list[Contender], float]], path: Path) -> None:
    """Draw the medians, lowest to highest as a line, and the floor."""
    names = [n for n in CONTENDERS if n != "floor"]
    figure, axes = plt.subplots(
        1, len(results), figsize=(3.2 * len(results) + 2, 5), sharey=True, squeeze=False
    )
    for ax, (model, (contenders, floor)) in zip(axes[0], results.items(), strict=True):
        for one in contenders:
            at = names.index(one.name)
            ends = min(one.seconds) * 1e3, max(one.seconds) * 1e3
            ax.plot(ends, (at, at), color=COLORS[one.family], alpha=0.4, linewidth=3)
            ax.plot(one.median * 1e3, at, "o", color=COLORS[one.family])
        ax.axvline(floor * 1e3, color="black", linestyle=":", linewidth=1)
        ax.set(xscale="log", title=model[3:].replace("_", " "), xlabel="ms per epoch")
        ax.grid(axis="x", alpha=0.3)
    axes[0][0].set_yticks(range(len(names)), names)
    axes[0][0].invert_yaxis()
    figure.suptitle("Milliseconds per epoch: median, lowest to highest; dotted: floor")
    figure.tight_layout()
    plt.rcParams["svg.hashsalt"] = "kvt"
    figure.savefig(path, metadata={"Date": None})


def versions(pythons: dict[str, str]) -> str:
    """Return the versions of the packages that competed."""
    packages = {"PyTorch": ("torch",), "JAX": ("jax", "jaxlib")}
    found = []
    for family, python in pythons.items():
        for package in packages.get(
            family, ("tensorflow", "keras") if family == "Keras" else ()
        ):
            code = (
                f"from importlib.metadata import version; print(version('{package}'))"
            )
            answer = subprocess.run(
                [python, "-c", code], capture_output=True, text=True
            )
            found.append(f"{package} {answer.stdout.strip()}")
    return ", ".join(found)


def processor() -> str:
    """Return the processor's name, and its widest vectors if the system lists them."""
    told = Path("/proc/cpuinfo")
    flags = told.read_text().split() if told.exists() else []
    widest = [name for name in ("avx512f", "avx2") if name in flags][:1]
    return " with ".join([provenance.processor(), *widest])


def interpreters(other: str) -> dict[str, str]:
    """Return a Python for each family; say which family is skipped."""
    found = dict.fromkeys((*FAMILIES[:3], "floor"), sys.executable)
    for family, module in MODULES.items():
        run = subprocess.run([other, "-c", f"import {module}"], capture_output=True)
        if run.returncode == 0:
            found[family] = other
        else:
            print(f"skipped: {family}; {other} has no {module}", file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--python", default=sys.executable, help="has torch and jax")
    parser.add_argument("--models", nargs="*", default=[m[:2] for m in SIZES])
    parser.add_argument(
        "--seconds",
        type=float,
        default=8,
        help="longest training time of a contender after its third turn",
    )
    parser.add_argument("--rounds", type=int, default=30, help="turns of each")
    options = parser.parse_args()
    pythons = interpreters(options.python)
    dataset, reason = data.resolve("auto")
    parts, results = [], {}
    for model in (m for m in SIZES if m[:2] in options.models):
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "case.npz"
            section = write_case(model, path, dataset)
            with processes(model, path, pythons) as contenders:
                machine = compete(contenders, options.seconds, options.rounds)
                contenders = contenders[:-1]
        parts.append(table(model, section, contenders, machine))
        operations, moved = counted(section)
        floor = max(operations / machine["rate"], moved / machine["bandwidth"])
        results[model] = contenders, floor
        print(parts[-1], flush=True)
    skipped = [f for f in FAMILIES if f not in pythons]
    notes = HERE.with_name("training_notes.md")
    text = f"""# What an epoch costs

Made by `python -m benchmarks.training` ({reason}). Each row is a separate process; \
the processes take turns. Each has {os.cpu_count()} threads. Bold rows are the best of \
each framework. "Bytes": images stay 8-bit integers until their batch is cast. \
"Floor": the time of the counted operations at the rate of this machine's matrix \
products, or of the counted bytes at its memory bandwidth, whichever is longer.\
{f" Skipped because it is not installed: {', '.join(skipped)}." if skipped else ""}

![Milliseconds per epoch](training.svg)

{chr(10).join(parts)}
{notes.read_text() if notes.exists() else ""}
Python {platform.python_version()}, {versions(pythons)}; {processor()}, \
{os.cpu_count()} threads.
"""
    HERE.with_suffix(".md").write_text(text)
    plot(results, HERE.with_suffix(".svg"))


if __name__ == "__main__":
    main()
