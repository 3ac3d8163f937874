"""What all tests and all notebooks under test share."""

import gc
import os
from collections import Counter
from pathlib import Path

import pytest
from nbval.plugin import IPyNbCell, IPyNbFile

if not __debug__:
    raise pytest.UsageError("tests need asserts: start Python without -O")

# Set before any import of TensorFlow, whose C++ side logs as soon as it is loaded.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
gc.disable()  # while test modules import TensorFlow: it would take a sixth of the time

# Processors and thread counts add up products in different orders. In a convolution's
# training the rounding reaches the second decimal, and differences between two runs
# consist of it. The committed outputs come from AVX-512 and two threads; elsewhere only
# the places of the numbers are compared, not the numbers.
CPU = Path("/proc/cpuinfo")
ROUNDS_ALIKE = os.cpu_count() == 2 and CPU.exists() and "avx512f" in CPU.read_text()
NUMBER = r"[ <]*\d[\d,]*(\.\d+)?(e-?\d+)?"
ROUNDED = {
    "04_convolutional_network": (
        r"\d\.\d{3}\b",
        r"Confusion matrix: .*",
        r"The \d+ surest mistakes: .*",
    ),
    "09_why_results_differ": (
        r"\[[^]]+\]\(09_why[^)]+\)",  # in the ranking, near ties may swap places
        rf"{NUMBER}( to{NUMBER})?",
    ),
    "10_errors_of_2017": (rf"{NUMBER}( to{NUMBER})?",),
    "12_scaling_out": (r"\de-\d\d",),
}

# xdist gives whole files to its workers. The longest start first, so that no worker
# is left with a long file at the end while the other one is idle.
LONGEST = (
    "test_environment.py",  # with the slow test
    "test_browser.py",
    "test_processes.py",
    "test_files.py",
    "09_why_results_differ.ipynb",
    "test_bit_for_bit.py",
    "10_errors_of_2017.ipynb",
    "test_regularization_and_custom_losses.py",
    "test_causes.py",
    "test_optimizers_and_schedules.py",
    "04_convolutional_network.ipynb",
    "test_stopping_and_checkpoints.py",
    "test_compiled.py",
    "test_scaling_out.py",
    "12_scaling_out.ipynb",
    "test_run.py",
    "test_models.py",
    "test_same_as_keras.py",
    "test_diagnose.py",
    "test_diagnose_threads.py",
    "test_epochs.py",
    "test_sweep.py",
    "test_disks.py",
    "test_cluster.py",
    "test_pipelines.py",
    "test_injected_errors.py",
    "test_errors_of_2017.py",
    "test_effects.py",
    "test_inside_fit.py",
)
CELL_SECONDS = 300  # at most, by --nbval-cell-timeout; its kernel has to end, too


def pytest_configure(config: pytest.Config) -> None:
    """Leave out wide tests unless -m names them: `-m faults` runs those of CI."""
    given = config.option.markexpr
    if "wide" not in given:
        config.option.markexpr = f"({given}) and not wide" if given else "not wide"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the longest files to the front, mark the tests, and set what nbval compares.

    Figures are compared by their alternative text. nbval itself compares no PNG, and
    an SVG's paths show the last digits, in which processors differ.
    """
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))
    for item in items:
        if isinstance(item, IPyNbCell):
            item.add_marker(pytest.mark.timeout(CELL_SECONDS + 20))
        if isinstance(item, IPyNbCell) or item.path.parent.name == "notebooks":
            item.add_marker(pytest.mark.long)
    for notebook in {item.parent for item in items}:
        if isinstance(notebook, IPyNbFile):
            notebook.skip_compare += ("image/svg+xml",)
            if not ROUNDS_ALIKE:
                patterns = ROUNDED.get(notebook.path.stem, ())
                notebook.sanitize_patterns.update(dict.fromkeys(patterns, "number"))


def pytest_collection_finish() -> None:
    """Exempt everything that the test modules have imported from garbage collection.

    Otherwise the collector would inspect hundreds of thousands of TensorFlow's objects,
    none of them garbage, again and again while tests trace graphs.
    """
    gc.freeze()
    gc.enable()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many faults tests/faults tried, and what they left or lost."""
    stats = terminalreporter.stats
    failed = {it.nodeid for kind in ("failed", "error") for it in stats.get(kind, ())}
    skipped = {it.nodeid for it in stats.get("skipped", ())}
    counts: Counter[str] = Counter()
    for report in stats.get("", []) + stats.get("error", []):
        if report.when == "teardown" and "faults" in report.keywords:
            found = dict(report.user_properties)
            tried = 0 if report.nodeid in skipped else found.pop("tried", 1)
            counts.update(found)
            counts["tried"] += tried
            counts["survived"] += tried * (report.nodeid not in failed)
    if counts:
        terminalreporter.write_sep("-", "faults")
        terminalreporter.write_line(
            f"{counts['tried']} tried, {counts['survived']} survived, "
            f"{counts['processes']} processes left, {counts['lost']} files lost"
        )


@pytest.fixture(scope="session")
def mnist_path() -> Path:
    """Return the file that KVT_MNIST names, or skip a test that needs real MNIST."""
    if not (path := os.environ.get("KVT_MNIST")):
        pytest.skip("KVT_MNIST does not name an mnist.npz")
    return Path(path)
