"""Execute one notebook with papermill: completely, or not at all."""

import logging
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import papermill
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import CellControlSignal, DeadKernelError
from papermill.exceptions import PapermillExecutionError

from kvt.report import notebooks
from kvt.report.notebooks import ExecutionError, NotebookNode, code_cells
from kvt.report.parameters import Value

# What papermill passes on to nbclient.
OPTIONS: dict[str, Any] = {
    "extra_arguments": [
        # Lines that C++ logs belong to the terminal, not to a stored output.
        "--IPKernelApp.capture_fd_output=False",
        # Errors only: each kernel warns that its local sockets are not encrypted.
        "--IPKernelApp.log_level=40",
    ],
    "coalesce_streams": True,
    "store_widget_state": False,
    "record_timing": False,
    "shutdown_kernel": "immediate",
}


class _ThisPython(AsyncKernelManager):
    """Starts kernels in this interpreter.

    A kernelspec named python3 in the user's home may belong to another one.
    """

    @property
    def kernel_spec(self) -> KernelSpec:
        return KernelSpec(**get_kernel_dict(), env={"TF_CPP_MIN_LOG_LEVEL": "3"})


def execute(
    notebook: Path,
    output: Path,
    parameters: Mapping[str, Value],
    *,
    cwd: Path,
    failed: Path,
    timeout: int | None = None,
    on_cell: Callable[[], None] | None = None,
) -> NotebookNode:
    """Run a notebook in a fresh kernel; write it to `output` and return it, normalized.

    The kernel's working directory is `cwd`. `on_cell` is called when a code cell
    begins; without it, a progress bar or a line tells how the run goes.

    Raises ExecutionError if a cell fails, exits, kills its kernel, or takes longer than
    `timeout` seconds. The partial notebook goes to `failed`, `output` stays as it was.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".kvt-") as directory:
        partial = Path(directory).resolve() / "partial.ipynb"
        error = _attempt(notebook, partial, parameters, cwd, timeout, on_cell)
        if isinstance(error, RuntimeError) and _running_cell(partial) is None:
            # Two kernels that start together can pick one port: "Address already in
            # use". No cell has run yet: start once more.
            error = _attempt(notebook, partial, parameters, cwd, timeout, on_cell)
        problem = _problem(error, partial)
        if problem:
            failed.parent.mkdir(parents=True, exist_ok=True)
            if partial.exists():
                partial.replace(failed)
            raise ExecutionError(
                f"{notebook.name} stopped {problem}\nthe notebook up to there: {failed}"
            ) from error
        complete = notebooks.normalize(notebooks.read(partial))
        notebooks.write(complete, partial)
        partial.replace(output)
    if not on_cell and not sys.stderr.isatty():  # a terminal has papermill's bar
        print(f"{notebook.name}: {time.perf_counter() - started:.1f} s", flush=True)
    return complete


def _attempt(
    notebook: Path,
    partial: Path,
    parameters: Mapping[str, Value],
    cwd: Path,
    timeout: int | None,
    on_cell: Callable[[], None] | None,
) -> Exception | None:
    """Run the notebook once and write `partial`; return the error, if any."""
    # papermill and nbclient also log each error that they raise.
    logging.getLogger("papermill").setLevel(logging.CRITICAL)
    bar = not on_cell and sys.stderr.isatty() and {"desc": notebook.stem}
    try:
        papermill.execute_notebook(
            _literal(notebook),
            _literal(partial),
            dict(parameters),
            kernel_name="python3",
            language="python",
            progress_bar=bar,
            kernel_manager_class=_ThisPython,
            # papermill's own `cwd` would change this whole process's directory.
            resources={"metadata": {"path": str(cwd)}},
            execution_timeout=timeout,
            on_cell_execute=(lambda **_: on_cell()) if on_cell else None,
            **OPTIONS,
        )
    except (PapermillExecutionError, RuntimeError, CellControlSignal) as error:
        return error
    return None


def _literal(path: Path) -> str:
    """Double the braces of a path: papermill takes it for a format string."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _running_cell(partial: Path) -> NotebookNode | None:
    """Return the code cell that started last, by the times that papermill stored."""
    if not partial.exists():
        return None
    cells = code_cells(notebooks.read(partial))
    started = [cell for cell in cells if cell.metadata.papermill.get("start_time")]
    return started[-1] if started else None


def _problem(error: Exception | None, partial: Path) -> str:
    """Say where and why the run stopped; "" if the notebook is complete.

    papermill takes a cell that exits for a success and, after a kernel's death or a
    timeout, stores that all is well. So each cell is checked for a count and an error.
    """
    if isinstance(error, PapermillExecutionError):
        return _at(error.exec_count, error.source, f"{error.ename}: {error.evalue}")
    if error is not None:
        cell = _running_cell(partial)
        if cell is None:
            return f"before its first cell: {error}"
        reason = "the kernel died" if isinstance(error, DeadKernelError) else str(error)
        return _at(cell.execution_count, cell.source, reason.splitlines()[0])
    for cell in code_cells(notebooks.read(partial)):
        errors = [output for output in cell.outputs if output.output_type == "error"]
        if errors:
            reason = f"{errors[0].ename}: {errors[0].evalue}"
            return _at(cell.execution_count, cell.source, reason)
        if cell.execution_count is None:
            return _at(None, cell.source, "this cell was not run")
    return ""


def _at(count: int | None, source: str, reason: str) -> str:
    number = " " if count is None else count
    return f"in cell [{number}], {source.strip().splitlines()[0]!r}: {reason}"
