"""What all tests and all notebooks under test share."""

import os
from pathlib import Path

import pytest
from nbval.plugin import IPyNbFile

# Before anything imports TensorFlow, whose C++ side logs as soon as it is loaded.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# Processors and thread counts add up a convolution's products in different orders, and
# its training carries the rounding into the second decimal. The committed outputs were
# made with AVX-512 and two threads; elsewhere only the places of figures are compared.
CPU = Path("/proc/cpuinfo")
ROUNDS_ALIKE = os.cpu_count() == 2 and CPU.exists() and "avx512f" in CPU.read_text()
ROUNDED = (r"\d\.\d{3}\b", r"Confusion matrix: .*", r"The \d+ surest mistakes: .*")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Compare figures by their alternative text, as nbval itself compares no PNG.

    Processors round differently, and that shows in the last digits of an SVG's paths.
    """
    for notebook in {item.parent for item in items}:
        if isinstance(notebook, IPyNbFile):
            notebook.skip_compare += ("image/svg+xml",)
            if notebook.path.stem == "04_convolutional_network" and not ROUNDS_ALIKE:
                notebook.sanitize_patterns.update(dict.fromkeys(ROUNDED, "figure"))


@pytest.fixture(scope="session")
def mnist_path() -> Path:
    """The file that KVT_MNIST names; tests that need real MNIST are skipped without."""
    if not (path := os.environ.get("KVT_MNIST")):
        pytest.skip("KVT_MNIST does not name an mnist.npz")
    return Path(path)
