"""kvt: the same models in Keras and in raw TensorFlow, equal bit for bit."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvt.compare.diagnose.ladder import diagnose
    from kvt.compare.diagnose.port_side import Port
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
    "Port",
    "ProgressBar",
    "Recorder",
    "diagnose",
    "evaluate",
    "fit",
    "predict",
    "quiet",
]
ELSEWHERE = {
    "Port": "kvt.compare.diagnose.port_side",
    "diagnose": "kvt.compare.diagnose.ladder",
    "quiet": "kvt.data.quietly",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for: the command line starts at once."""
    if name in __all__:
        return getattr(
            importlib.import_module(ELSEWHERE.get(name, "kvt.training")), name
        )
    raise AttributeError(f"module 'kvt' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names, for completion."""
    return [*globals(), *__all__]
