"""kvt: the same models in Keras and in raw TensorFlow, equal bit for bit."""

from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from kvt.compare.diagnose.ladder import Port, diagnose

__version__ = "0.1.0"
__all__ = [
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "History",
    "Port",
    "ProgressBar",
    "Recorder",
    "diagnose",
    "evaluate",
    "fit",
    "predict",
    "quiet",
]


def __getattr__(name: str) -> Any:
    """Import `diagnose` and `Port` when they are asked for: they need TensorFlow."""
    if name in ("diagnose", "Port"):
        from kvt.compare.diagnose import ladder

        return getattr(ladder, name)
    raise AttributeError(f"module 'kvt' has no attribute {name!r}")
