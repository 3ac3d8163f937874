"""Where a notebook's seconds go: import, tracing, timing, drawing, and the rest.

`instrumented` adds a cell before a notebook's first code cell and one after its last.
The first imports the heavy packages while a clock runs, then wraps what traces graphs,
times modes, and draws figures. The last one prints the seconds as JSON. Seconds inside
a wrapped call count for the innermost one only, so that the sum is the whole.
"""

import copy
import functools
import importlib
import json
import resource
import threading
import time
from collections import Counter
from typing import Any

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

HEAVY = ("tensorflow", "keras", "matplotlib.figure", "sklearn.datasets")
TRACING = "tensorflow.python.eager.polymorphic_function.tracing_compilation"
# For each kind: the module, and the functions or methods in it that take the time.
WRAPPED = (
    ("tracing", TRACING, ["_create_concrete_function"]),
    (
        "timing",
        "kvt.compare.modes",
        [f"Stopwatch.{it}" for it in ("keras", "tf2", "tf1")],
    ),
    ("drawing", "matplotlib.backend_bases", ["FigureCanvasBase.print_figure"]),
)
BEFORE = "from benchmarks import kernel_seconds\nkernel_seconds.start({heavy})"
AFTER = "print(kernel_seconds.spent())"


class Account:
    """Seconds by kind; the innermost kind that is running gets them."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._running = ["other"]
        self._since = time.perf_counter()

    def switch(self) -> None:
        """Book the seconds since the last switch."""
        now = time.perf_counter()
        self.seconds[self._running[-1]] += now - self._since
        self._since = now

    def wrapped(self, function: Any, kind: str) -> Any:
        """Return the function, timed when the main thread calls it."""

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            if threading.current_thread() is not threading.main_thread():
                return function(*args, **kwargs)
            self.switch()
            self._running.append(kind)
            try:
                return function(*args, **kwargs)
            finally:
                self.switch()
                self._running.pop()

        return timed


ACCOUNT = Account()


def start(heavy: bool) -> None:
    """Start the clocks, in the kernel; `heavy` notebooks use TensorFlow."""
    if not heavy:
        return
    ACCOUNT.wrapped(import_heavy, "import")()
    for kind, module, names in WRAPPED:
        for name in names:
            owner: Any = importlib.import_module(module)
            *parents, last = name.split(".")
            for parent in parents:
                owner = getattr(owner, parent)
            setattr(owner, last, ACCOUNT.wrapped(getattr(owner, last), kind))


def import_heavy() -> None:
    """Import what a notebook of models would import."""
    import kvt

    with kvt.quiet():
        for name in HEAVY:
            importlib.import_module(name)


def spent() -> str:
    """Return the seconds by kind, and the processor's seconds, as JSON."""
    ACCOUNT.switch()
    used = [
        resource.getrusage(who)
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    processor = sum(each.ru_utime + each.ru_stime for each in used)
    return json.dumps({**ACCOUNT.seconds, "processor": processor})


def instrumented(notebook: NotebookNode) -> NotebookNode:
    """Return a copy of a notebook that measures itself."""
    made = copy.deepcopy(notebook)
    code = [cell for cell in made.cells if cell.cell_type == "code"]
    heavy = any("tensorflow" in cell.source for cell in code)
    before = new_code_cell(BEFORE.format(heavy=heavy))
    made.cells.insert(made.cells.index(code[0]), before)
    made.cells.append(new_code_cell(AFTER))
    return made


def measured(notebook: NotebookNode) -> dict[str, float]:
    """Return the seconds that an executed, instrumented notebook printed."""
    seconds: dict[str, float] = json.loads(notebook.cells[-1].outputs[0].text)
    return seconds
