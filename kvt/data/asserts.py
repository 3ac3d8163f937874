"""The notebooks check their results by asserts, too, so kernels run with asserts on."""

import sys


def require_asserts() -> None:
    """Raise RuntimeError if Python skips asserts."""
    if not __debug__:
        raise RuntimeError(
            "Python runs with -O or PYTHONOPTIMIZE, and so skips every assert; the "
            "notebooks check their results by asserts; start Python without both"
        )


if "ipykernel" in sys.modules:  # a notebook imports kvt
    require_asserts()
