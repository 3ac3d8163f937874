"""What cells print while papermill runs them: joined as it arrives, cut if too long.

nbclient joins a cell's streams once the cell has ended: its time grows with the square
of the longest line, and its memory with all that was printed.
"""

from typing import Any

from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines

from kvt.report.notebooks import NotebookNode

ENGINE = "kvt"  # the name under which papermill finds this engine
LARGEST = 1_000_000  # characters that are kept of a stream of one cell
LARGEST_DATA = 32_000_000  # characters that are kept of what one cell displays
CUT = "\n… cut: this cell {} more than {:,} characters\n"


class _Client(PapermillNotebookClient):  # type: ignore[misc]
    """Joins and cuts a cell's outputs one by one; its memory is limited."""

    def output(
        self, outs: list[NotebookNode], msg: Any, display_id: str | None, index: int
    ) -> NotebookNode | None:
        """Handle one output of the cell whose outputs are `outs`."""
        new: NotebookNode | None = super().output(outs, msg, display_id, index)
        if new is None:
            return None
        if new["output_type"] == "stream":
            join(outs)
        elif "data" in new and sum(map(_size, outs)) > LARGEST_DATA:
            new["data"] = {"text/plain": CUT.format("displays", LARGEST_DATA).strip()}
            new["metadata"] = {}
        return new


class _Engine(NBClientEngine):  # type: ignore[misc]
    @classmethod
    def execute_managed_notebook(
        cls, nb_man: Any, kernel_name: str, **options: Any
    ) -> NotebookNode:
        """Run the notebook; papermill's own engine would make its own client."""
        timeout = options.pop("execution_timeout")
        environment = options.pop("environment")
        traits = _Client.class_traits()
        known = {name: value for name, value in options.items() if name in traits}
        known |= {"kernel_name": kernel_name, "timeout": timeout, "startup_timeout": 60}
        executed: NotebookNode = _Client(nb_man, **known).execute(env=environment)
        return executed


papermill_engines.register(ENGINE, _Engine)


def join(outs: list[NotebookNode]) -> None:
    """Join the last output, a stream, to the earlier one of its name.

    Text before a carriage return is dropped, as a terminal overwrites it. If the cell
    has just begun to print to stdout, that comes before stderr: which of the two
    arrives first is chance.
    """
    new = outs.pop()
    names = [output.get("name") for output in outs]  # only streams have one
    if new["name"] in names:
        old = outs[names.index(new["name"])]
    else:
        old = NotebookNode(new, text="")  # type: ignore[no-untyped-call]
        late = new["name"] == "stdout" and names[-1:] == ["stderr"]
        outs.insert(len(outs) - late, old)
    cut = CUT.format("prints", LARGEST)
    if old["text"].endswith(cut):
        return
    line = old["text"].rfind("\n") + 1  # where the last line starts
    text = old["text"][:line] + overwritten(old["text"][line:] + new["text"])
    old["text"] = text if len(text) <= LARGEST else text[:LARGEST] + cut


def overwritten(text: str) -> str:
    """Return what a terminal shows of lines with carriage returns."""
    if "\r" not in text:
        return text
    # A last one overwrites nothing yet.
    return "\n".join(line[line.rfind("\r", 0, -1) + 1 :] for line in text.split("\n"))


def _size(output: NotebookNode) -> int:
    return sum(len(str(value)) for value in output.get("data", {}).values())
