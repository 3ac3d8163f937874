"""kvt: the same models in Keras and in raw TensorFlow, equal bit for bit."""

import sys

from kvt.data.quietly import quiet
from kvt.training import (
    Callback,
    Checkpoint,
    EarlyStopping,
    History,
    ProgressBar,
    Recorder,
    evaluate,
    fit,
    predict,
)

__version__ = "0.1.0"
__all__ = [
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "History",
    "ProgressBar",
    "Recorder",
    "evaluate",
    "fit",
    "predict",
    "quiet",
]


def require_asserts() -> None:
    """Raise RuntimeError if Python skips asserts: the notebooks check by them, too."""
    if not __debug__:
        raise RuntimeError(
            "Python runs with -O or PYTHONOPTIMIZE, and so skips every assert; the "
            "notebooks check their results by asserts; start Python without both"
        )


if "ipykernel" in sys.modules:  # a notebook imports kvt
    require_asserts()
