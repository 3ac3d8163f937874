"""The progress bar: in a terminal, in Jupyter, in a file, and in a saved notebook."""

import contextlib
import os
import pty
import re
import subprocess
import sys
import termios
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest

import kvt
from kvt.report.execute import execute

ROOT = Path(__file__).parents[2]
RunIn = Callable[..., str]


class Clock:
    """A clock that a test moves by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def train(
    *,
    steps: int = 20,
    epochs: int = 1,
    seconds: float = 0.25,
    interval: float = 1.0,
    validation_seconds: float = 0.0,
    fails_at: int | None = None,
) -> None:
    """Run `fit`; by the clock of the bar, each step takes `seconds`."""
    clock = Clock()
    done = 0

    def train_step(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
        nonlocal done
        done += 1
        clock.now += seconds
        if done == fails_at:
            raise RuntimeError("the step failed")
        return {"loss": np.float32(0.25), "accuracy": np.float32(0.75)}

    def test_step(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
        clock.now += validation_seconds
        return {"loss": np.float32(0.5), "accuracy": np.float32(1)}

    x = np.zeros((steps, 1), np.float32)
    kvt.fit(
        train_step,
        test_step,
        x,
        x,
        batch_size=1,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        validation_data=(x[:1], x[:1]) if validation_seconds else None,
        callbacks=[kvt.ProgressBar(interval=interval, clock=clock)],
    )


# A terminal


@pytest.fixture
def in_terminal(monkeypatch: pytest.MonkeyPatch) -> RunIn:
    """Return a function that runs another in a pseudo-terminal, for its output."""

    def run(action: Callable[..., object], columns: int = 80) -> str:
        master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (24, columns))
        written: list[bytes] = []
        reader = threading.Thread(target=read_all, args=(master, written))
        reader.start()
        with (
            os.fdopen(slave, "w", encoding="utf-8") as stream,
            monkeypatch.context() as patch,
        ):
            patch.setattr(sys, "stdout", stream)
            patch.setattr(sys, "__stdout__", stream)  # whose width counts
            patch.delenv("COLUMNS", raising=False)
            action()
        reader.join()
        os.close(master)
        return b"".join(written).decode()

    return run


def read_all(master: int, written: list[bytes]) -> None:
    """Read until the other side is closed, which raises an error on Linux."""
    with contextlib.suppress(OSError):
        while chunk := os.read(master, 4096):
            written.append(chunk)


def live(written: str) -> list[str]:
    """Return every state of the live line: each text that was drawn over later."""
    return re.findall(r"\r\x1b\[K([^\r\n]+)(?=\r\x1b\[K)", written)


def screen(written: str, columns: int) -> list[str]:
    """Return the final content of a terminal; fail if a line was wrapped."""
    lines, column = [""], 0
    for token in re.findall(r"\x1b\[K|[^\x1b]", written):
        if token == "\r":
            column = 0
        elif token == "\n":
            lines.append("")
        elif token == "\x1b[K":
            lines[-1] = lines[-1][:column]
        else:
            lines[-1] = lines[-1][:column] + token + lines[-1][column + 1 :]
            column += 1
            assert column <= columns, f"wrapped: {lines[-1]}"
    return lines


def test_the_live_line_shows_the_state_of_the_training(in_terminal: RunIn) -> None:
    first, second, third, last = live(in_terminal(train, columns=120))
    assert first == (
        "Epoch 1/1  ━━━━━━╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌  5/20 steps  4/s  4 s left"
        "  loss 0.250  accuracy 0.750"
    )
    assert "━" * 12 + "╌" * 12 + "  10/20 steps  4/s  2 s left  loss" in second
    assert "━" * 18 + "╌" * 6 + "  15/20 steps  4/s  1 s left  loss" in third
    assert "━" * 24 + "  20/20 steps  4/s  0 s left  loss" in last


def test_one_clean_line_remains_per_epoch(in_terminal: RunIn) -> None:
    written = in_terminal(lambda: train(epochs=2, interval=0))
    assert screen(written, 80) == [
        "Epoch 1/2  loss 0.250  accuracy 0.750",
        "Epoch 2/2  loss 0.250  accuracy 0.750",
        "",
    ]


@pytest.mark.parametrize("interval", [0.25, 1.0, 3.0])
def test_drawings_are_at_least_an_interval_apart(
    in_terminal: RunIn, interval: float
) -> None:
    written = in_terminal(lambda: train(interval=interval, steps=100))
    done = [int(re.findall(r"(\d+)/100 steps", line)[0]) for line in live(written)]
    assert len(done) >= 100 * 0.25 / (interval + 0.25) - 1
    assert min(np.diff([0, *done])) * 0.25 > interval


@pytest.mark.parametrize("columns", [8, 20, 40, 79, 80, 100, 200])
def test_the_live_line_never_wraps(in_terminal: RunIn, columns: int) -> None:
    written = in_terminal(lambda: train(interval=0, steps=375), columns=columns)
    assert len(live(written)) == 375
    assert max(map(len, live(written))) < columns


def test_all_metrics_fit_into_80_columns(in_terminal: RunIn) -> None:
    """The bar shrinks: 80 columns show ten epochs of MNIST and all metrics."""

    def action() -> None:
        train(steps=375, epochs=10, seconds=0.001, interval=0.01)

    lines = live(in_terminal(action, columns=80))
    assert len(lines) > 100
    assert all(line.endswith("loss 0.250  accuracy 0.750") for line in lines)
    assert all("━" in line or "╌" in line for line in lines)


def test_nothing_is_drawn_while_no_time_passes(in_terminal: RunIn) -> None:
    assert live(in_terminal(lambda: train(seconds=0, interval=0))) == []


def test_validation_does_not_change_the_rate(in_terminal: RunIn) -> None:
    written = in_terminal(lambda: train(epochs=3, validation_seconds=60.0))
    lines = live(written)
    assert len(lines) == 12
    assert all("  4/s  " in line for line in lines)
    assert [line.split(" s left")[0][-1] for line in lines] == ["4", "2", "1", "0"] * 3


def test_a_failed_training_clears_the_line(
    in_terminal: RunIn,
) -> None:
    def action() -> None:
        with pytest.raises(RuntimeError, match="the step failed"):
            train(interval=0, epochs=2, fails_at=27)
        print("Traceback")

    assert screen(in_terminal(action), 80) == [
        "Epoch 1/2  loss 0.250  accuracy 0.750",
        "Traceback",
        "",
    ]


def by_hooks(steps: int | None, *batches: int) -> Callable[[], None]:
    """Return one epoch as Keras tells it, ending its executions at `batches`."""

    def action() -> None:
        clock = Clock()
        bar = kvt.ProgressBar(interval=0, clock=clock)
        bar.set_params({"verbose": 0, "epochs": 1, "steps": steps})
        bar.on_train_begin()
        bar.on_epoch_begin(0)
        for batch in batches:
            clock.now += 1
            bar.on_train_batch_end(batch, logs={"loss": 0.5})
        bar.on_epoch_end(0, {"loss": 0.5})
        bar.on_train_end()

    return action


def test_steps_are_counted_if_their_number_is_unknown(in_terminal: RunIn) -> None:
    written = in_terminal(by_hooks(None, 0, 1))
    assert live(written) == [
        "Epoch 1/1  1 steps  1/s  loss 0.500",
        "Epoch 1/1  2 steps  1/s  loss 0.500",
    ]
    assert screen(written, 80) == ["Epoch 1/1  loss 0.500", ""]


def test_executions_beyond_the_last_step_count_as_the_last(in_terminal: RunIn) -> None:
    """Keras with steps_per_execution=5 and 7 steps ends its executions at 4 and 9."""
    lines = live(in_terminal(by_hooks(7, 4, 9), columns=100))
    assert ["5/7 steps" in lines[0], "7/7 steps" in lines[1]] == [True, True]
    assert "━" * 24 + "  7/7 steps  4/s  0 s left" in lines[1]


# A file or a pipe


@pytest.mark.parametrize("seconds", [0, 0.001, 100])
def test_a_pipe_gets_one_line_per_epoch(
    capsys: pytest.CaptureFixture[str], seconds: float
) -> None:
    train(epochs=10, steps=3, interval=0, seconds=seconds, validation_seconds=1)
    metrics = "loss 0.250  accuracy 0.750  val_loss 0.500  val_accuracy 1.000"
    expected = [f"Epoch {n:2}/10  {metrics}\n" for n in range(1, 11)]
    assert capsys.readouterr() == ("".join(expected), "")


def test_the_bar_works_in_keras_with_generators(
    capsys: pytest.CaptureFixture[str],
) -> None:
    import keras

    def batches() -> Any:
        for _ in range(3):
            yield np.zeros((2, 1), np.float32), np.zeros((2, 1), np.float32)

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(loss="mse", optimizer="sgd")
    bar = kvt.ProgressBar(interval=0)
    with pytest.warns(UserWarning, match="ran out of data"):  # Keras counts them so
        model.fit(batches(), verbose=0, shuffle=False, callbacks=[bar])
    assert capsys.readouterr() == ("Epoch 1/1  loss 0.000\n", "")


# Jupyter

SETUP = """\
import numpy as np
from IPython.display import DisplayHandle
import kvt

shown, update = [], DisplayHandle.update

def note(handle, data, **options):
    shown.append(data["text/plain"])
    update(handle, data, **options)

DisplayHandle.update = note
x = np.zeros((3, 1), np.float32)

def fit(losses):
    losses = iter(losses)
    step = lambda x, y: {"loss": np.float32(next(losses))}
    bar = kvt.ProgressBar(interval=0)
    kvt.fit(step, step, x, x, batch_size=1, epochs=2, shuffle=False,
            verbose=0, callbacks=[bar])
"""
TRAIN = "fit([0.25] * 6)"
SHOWN = """\
print(len(shown), shown[-1])
[line.split("  ")[0] + ": " + line.split("  ")[2] for line in shown if "left" in line]
"""
FAIL = """\
try:
    fit([0.25] * 4 + [float("nan")])
except FloatingPointError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A notebook with a live bar, as papermill saved it."""
    folder = tmp_path_factory.mktemp("jupyter")
    content = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell(source, id=f"cell-{number}")
            for number, source in enumerate((SETUP, TRAIN, SHOWN, FAIL))
        ],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )
    nbformat.write(content, folder / "given.ipynb")
    execute(
        folder / "given.ipynb",
        folder / "saved.ipynb",
        {},
        cwd=ROOT,
        failed=folder / "failed.ipynb",
    )
    return folder / "saved.ipynb"


def outputs(notebook: Path, cell: int) -> list[str]:
    """Return a cell's outputs as text, each a stream or a display."""
    saved = nbformat.read(notebook, as_version=4).cells[cell].outputs
    return [out.get("text") or out["data"]["text/plain"] for out in saved]


@pytest.mark.long
def test_a_saved_notebook_has_the_header_and_a_line_per_epoch(notebook: Path) -> None:
    assert outputs(notebook, 1) == [
        "2 epochs of 3 steps",
        "Epoch 1/2  loss 0.250\nEpoch 2/2  loss 0.250\n",
    ]


@pytest.mark.long
def test_the_bar_is_live_in_jupyter(notebook: Path) -> None:
    printed, lines = outputs(notebook, 2)
    steps = [f"'Epoch {e}/2: {n}/3 steps'" for e in (1, 2) for n in (1, 2, 3)]
    assert re.findall(r"'[^']*'", lines) == steps
    # Per epoch 3 steps and a removal; at the end a removal that restores the header.
    assert printed == "9 2 epochs of 3 steps\n"


@pytest.mark.long
def test_a_failed_training_restores_the_header(notebook: Path) -> None:
    header, printed = outputs(notebook, 3)
    assert header == "2 epochs of 3 steps"
    assert printed.startswith("Epoch 1/2  loss 0.250\nloss became nan in ")


@pytest.mark.long
def test_a_saved_notebook_has_no_control_characters(notebook: Path) -> None:
    assert not re.findall(r"\\r|\\u001b|\\b", notebook.read_text())


@pytest.mark.long
def test_a_second_run_has_the_same_outputs(notebook: Path) -> None:
    """nbval sees what is displayed first and no update: both must be the same."""
    options = "-q -p no:cacheprovider --rootdir=. --nbval --nbval-current-env"
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options.split(), notebook.name],
        cwd=notebook.parent,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout
    assert "4 passed" in run.stdout
