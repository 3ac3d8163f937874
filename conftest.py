"""What all tests and all notebooks under test share."""

import gc
import os
from pathlib import Path

import pytest
from nbval.plugin import IPyNbFile

# Before anything imports TensorFlow, whose C++ side logs as soon as it is loaded.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# Processors and thread counts add up products in different orders. A convolution's
# training carries the rounding into the second decimal, and differences of two runs are
# made of it. The committed outputs were made with AVX-512 and two threads; elsewhere
# only the places of figures are compared.
CPU = Path("/proc/cpuinfo")
ROUNDS_ALIKE = os.cpu_count() == 2 and CPU.exists() and "avx512f" in CPU.read_text()
NUMBER = r"[ <]*\d[\d,]*(\.\d+)?(e-?\d+)?"
ROUNDED = {
    "04_convolutional_network": (
        r"\d\.\d{3}\b",
        r"Confusion matrix: .*",
        r"The \d+ surest mistakes: .*",
    ),
    "06_why_results_differ": (rf"{NUMBER}( to{NUMBER})?",),
}

# Workers are given whole files, and those that take longest first: one that began late
# would leave the other worker idle.
LONGEST = (
    "06_why_results_differ.ipynb",
    "test_report_browser.py",
    "test_bit_for_bit.py",
    "test_recipes_regularization.py",
    "test_differences.py",
    "test_recipes_optimizers.py",
    "05_training_recipes.ipynb",
    "test_recipes_stopping.py",
    "test_compiled.py",
    "04_convolutional_network.ipynb",
    "test_report_parallel.py",
    "test_recipes_pipelines.py",
    "test_injected_errors.py",
    "test_inside_fit.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the longest files to the front, and say how notebooks are compared.

    Figures are compared by their alternative text, as nbval itself compares no PNG:
    processors round differently, and that shows in the last digits of an SVG's paths.
    """
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))
    for notebook in {item.parent for item in items}:
        if isinstance(notebook, IPyNbFile):
            notebook.skip_compare += ("image/svg+xml",)
            if not ROUNDS_ALIKE:
                patterns = ROUNDED.get(notebook.path.stem, ())
                notebook.sanitize_patterns.update(dict.fromkeys(patterns, "figure"))


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over all that the tests' modules have imported.

    It would look through hundreds of thousands of TensorFlow's objects, which are never
    garbage, again and again while tests trace graphs.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def mnist_path() -> Path:
    """The file that KVT_MNIST names; tests that need real MNIST are skipped without."""
    if not (path := os.environ.get("KVT_MNIST")):
        pytest.skip("KVT_MNIST does not name an mnist.npz")
    return Path(path)
