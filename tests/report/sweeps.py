"""A notebook for sweeps: it trains nothing, and writes results that depend on it."""

import json
from pathlib import Path
from typing import Any

from tests.report.pages import code, markdown, written

DOCUMENT: dict[str, Any] = {
    "notebook": "01_quick",
    "parameters": {},
    "data": {"name": "none", "sha256": "5e", "train": 1, "validation": 1, "test": 1},
    "dialects": {
        name: {
            "history": {"loss": [1.0]},
            "test": {"loss": 1.0, "accuracy": 0.5},
            "parameters": 2,
            "seconds": 0.5,
            "epoch_seconds": [0.5],
            "lines": 1,
            "weights_sha256": "5e",
        }
        for name in ("keras", "tf2")
    },
    "parity": {
        "tf2": {
            "weights_max_abs": [0.0],
            "weights_max_ulp": [0],
            "history_equal": True,
        }
    },
    "speed": {"keras": {"graph": {"examples": 1, "epoch_seconds": [0.5, 0.5]}}},
    "versions": {"python": "3", "tensorflow": "2", "keras": "3", "numpy": "2"},
}
PARAMETERS = """
learning_rate: float = 0.1  # step length
seed: int = 0  # of the random numbers
fails: str = ""  # how this run ends badly
results_path: str = ""  # where to write the results; "" writes nothing
"""
# Writes a line for each time that it runs, then does what `fails` says.
BODY = """
import json, os, signal, time
from pathlib import Path
with Path({log!r}).open("a") as log:
    log.write(f"{{learning_rate}} {{seed}} {{os.getppid()}}\\n")
if fails == "raises":
    raise ValueError(f"no such luck at {{learning_rate}} <b>")
if fails == "kills" or fails == "kills once" and not Path({log!r} + ".killed").exists():
    Path({log!r} + ".killed").touch()
    os.kill(os.getppid(), signal.SIGKILL)
while fails == "waits" and not Path({log!r} + ".go").exists():
    time.sleep(0.05)
document = json.loads({document!r})
for one in document["dialects"].values():
    one["test"] = {{"loss": 1 / learning_rate + seed, "accuracy": learning_rate}}
document["parameters"] = {{"learning_rate": learning_rate, "seed": seed}}
if fails == "half":
    Path(results_path).write_text(json.dumps(document)[:99])
elif fails != "writes nothing":
    Path(results_path).write_text(json.dumps(document))
"""


def quick(place: Path) -> Path:
    """Write the notebook; return its path. Its log is `place / "log"`."""
    body = BODY.format(log=str(place / "log"), document=json.dumps(DOCUMENT))
    path = place / "01_quick.ipynb"
    written(path, markdown("# Quick"), code(PARAMETERS, "parameters"), code(body))
    return path
