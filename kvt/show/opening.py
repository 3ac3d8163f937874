"""What the report opens with: data for its first screen, tables in Jupyter."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from kvt.compare.diagnose.words import section
from kvt.compare.parity import ParityError, Weights, same_bits
from kvt.show.tables import Table


@dataclass(frozen=True, repr=False)
class Opening:
    """Data that the report draws; Jupyter shows the table."""

    kind: str  # the report finds the data by it
    data: Any  # as JSON has it
    table: Table

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        shown = {"text/markdown": self.table._repr_markdown_()}
        return {mimetype(self.kind): self.data, **shown, "text/plain": repr(self)}

    def __repr__(self) -> str:
        return repr(self.table)


def mimetype(kind: str) -> str:
    """Return the type by which an output's data are found in a notebook."""
    return f"application/vnd.kvt.{kind}+json"


def proof(keras: Sequence[Weights], tf2: Sequence[Weights]) -> Opening:
    """Compare the weights of every epoch, and show their hashes.

    Raises ParityError, which names the epoch, unless all bits are equal.
    """
    for epoch, pair in enumerate(zip(keras, tf2, strict=True), start=1):
        if not same_bits(*map(list, pair)):
            raise ParityError(
                f"epoch {epoch}: the weights differ from Keras's; every bit must be "
                "equal; 09_why_results_differ.ipynb#From-symptom-to-cause lists causes"
            )
    hashes = [[_digest(weights) for weights in side] for side in (keras, tf2)]
    last = list(zip(keras[-1], tf2[-1], strict=True))
    found = {
        "weights": sum(a.size for a, _ in last),
        "identical": sum(int((a == b).sum()) for a, b in last),
        "keras": hashes[0],
        "tf2": hashes[1],
    }
    rows = [[f"{n}", *pair] for n, pair in enumerate(zip(*hashes, strict=True), 1)]
    return Opening("proof", found, Table(["epoch", "Keras", "TensorFlow 2"], rows, 3))


def _digest(weights: Weights) -> str:
    """Return the beginning of a hash of all weights' bytes."""
    return sha256(b"".join(w.tobytes() for w in weights)).hexdigest()[:6]


def broken(causes: Mapping[str, Mapping[str, Any]]) -> Opening:
    """Show how each cause, as `results.read_causes` returns it, parts from Keras."""
    rows = [
        [
            f"[{name}]({section(name)})",
            f"{one['identical'][-1]:,} of {one['weights']:,}",
            *(_last(one, metric) for metric in ("loss", "accuracy")),
        ]
        for name, one in causes.items()
    ]
    header = ["cause", "weights identical", "loss", "accuracy"]
    data = [{"name": name, **one} for name, one in causes.items()]
    return Opening("broken", data, Table(header, rows))


def _last(cause: Mapping[str, Any], metric: str) -> str:
    keras, changed = (cause[f"{side}_{metric}"][-1] for side in ("keras", "changed"))
    return f"{keras:.3f} → {'NaN' if changed is None else f'{changed:.3f}'}"
