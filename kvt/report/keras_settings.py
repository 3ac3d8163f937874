"""The settings that Keras reads when a kernel imports it: its file and its variable."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

DEFAULTS = {
    "backend": "tensorflow",
    "epsilon": 1e-07,
    "floatx": "float32",
    "image_data_format": "channels_last",
}
NEEDED = ("backend", "image_data_format")  # the notebooks work with the default only


def path() -> Path:
    """Return the path of Keras's file; the file need not exist."""
    home = os.environ.get("KERAS_HOME")
    return (Path(home) if home else Path.home() / ".keras") / "keras.json"


def changed() -> dict[str, Any]:
    """Return the settings of Keras's file that are not Keras's defaults."""
    with suppress(OSError, ValueError, AttributeError):  # Keras ignores such a file
        settings = json.loads(path().read_text(encoding="utf-8"))
        return {k: v for k, v in settings.items() if v != DEFAULTS.get(k)}
    return {}


def check() -> None:
    """Raise ValueError for settings on which no notebook can run."""
    found = {name: (value, str(path())) for name, value in changed().items()}
    if variable := os.environ.get("KERAS_BACKEND"):
        found["backend"] = variable, "KERAS_BACKEND"
    for name in NEEDED:
        value, place = found.get(name, (DEFAULTS[name], ""))
        if value != DEFAULTS[name]:
            raise ValueError(
                f"Keras's {name} is {value!r}, by {place}; the notebooks need "
                f"{DEFAULTS[name]!r}; remove that setting"
            )
