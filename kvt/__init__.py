"""kvt: the same models in Keras and in raw TensorFlow, equal bit for bit."""

from kvt.callbacks import Callback, EarlyStopping, Recorder, time_epochs
from kvt.checkpoints import Checkpoint
from kvt.progress import ProgressBar
from kvt.quiet import quiet
from kvt.training import History, evaluate, fit, predict

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
    "time_epochs",
]
