"""kvt: the same models in Keras and in raw TensorFlow, equal bit for bit."""

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
