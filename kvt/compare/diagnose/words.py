"""What a diagnosis says: a table in Jupyter, the same as text, and JSON."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

CHAPTER = "09_why_results_differ.ipynb"
PROOFS = {
    "exact": "exact: with the cause switched on, Keras has the port's bits",
    "consistent": "consistent: with the cause switched on, only rounding is left",
    None: "none: no known cause makes both sides equal",
}


@dataclass(frozen=True)
class Diagnosis:
    """Where Keras and a port first differ, why, and how that is known.

    `first` is the rung of the ladder where they differ, None if they never do: "start",
    "inputs", "order", "forward", "loss", "gradients", "update" or "metrics". `step`
    counts the steps before it, and `ladder` says of each rung what was compared and
    what differs. `causes` are the ids of the causes, in the order in which they were
    found; `candidates` has several if these leave the same bits. `proof` is "exact" if
    Keras has the port's bits with the causes switched on, "consistent" if only rounding
    is left, or None. `notes` say what else was seen: values of a cause, how the port
    stores its weights. `experiments` counts the trainings of Keras.
    """

    first: str | None
    step: int
    ladder: tuple[tuple[str, str], ...]  # rung, what differs there
    causes: tuple[str, ...]
    candidates: tuple[str, ...]
    proof: str | None
    fixes: tuple[str, ...]  # of the causes: a section of chapter 09, or a sentence
    notes: tuple[str, ...]
    experiments: int

    @property
    def cause(self) -> str | None:
        """The first cause's id; None if several causes leave the same bits."""
        several = len(self.candidates) > 1 and len(self.causes) == 1
        return self.causes[0] if self.causes and not several else None

    def to_json(self) -> str:
        """Return everything as one JSON object."""
        return json.dumps(asdict(self) | {"cause": self.cause}, sort_keys=True)

    def rows(self) -> Iterator[tuple[str, str]]:
        """Yield what the diagnosis says, as a name and a text."""
        yield from self.ladder
        if self.first is None:
            yield "result", "equal: all weights have the same bits"
        else:
            where = f", step {self.step + 1}" if self.step >= 0 else ""
            yield "first difference", f"{self.first}{where}"
            known = " then ".join(self.causes) or "none of the catalogue"
            if self.cause is None and self.candidates:
                known = f"one of {', '.join(self.candidates)}: they leave the same bits"
            yield "cause", known
            yield "proof", PROOFS[self.proof]
        for note in self.notes:
            yield "note", note
        yield "experiments", f"{self.experiments} trainings of Keras"
        for fix in self.fixes:
            yield "fix", fix

    def __str__(self) -> str:
        return "\n".join(f"{name:18}{text}" for name, text in self.rows())

    def _repr_markdown_(self) -> str:
        """Return the table that Jupyter shows."""
        lines = ["| | |", "| --- | --- |"]
        for name, text in self.rows():
            if name == "cause":
                text = f"**{text}**"
            elif text.startswith(CHAPTER):
                text = f"[{text}]({text})"
            lines.append(f"| {name} | {text} |")
        return "\n".join(lines)


def section(heading: str) -> str:
    """Return the address of a section of chapter 09."""
    return f"{CHAPTER}#{heading.replace(' ', '-')}"
