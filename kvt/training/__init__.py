"""`fit` and its parts: one loop for the steps of every dialect, and its callbacks."""

from kvt.training.callbacks import Callback, EarlyStopping, History, Recorder
from kvt.training.checkpoints import Checkpoint
from kvt.training.loop import evaluate, fit, predict
from kvt.training.means import Mean
from kvt.training.progress import ProgressBar, format_metrics

__all__ = [
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "History",
    "Mean",
    "ProgressBar",
    "Recorder",
    "evaluate",
    "fit",
    "format_metrics",
    "predict",
]
