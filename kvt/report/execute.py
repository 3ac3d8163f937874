"""Running one notebook with papermill: complete, or not at all."""

import logging
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import papermill
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import CellControlSignal, DeadKernelError
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError

from kvt.report import notebooks
from kvt.report.parameters import Value


class ExecutionError(RuntimeError):
    """A notebook that stopped before its end: which, where, why, and what is left."""


class _ThisPython(AsyncKernelManager):
    """Starts kernels in this very interpreter.

    A kernelspec named python3 in a user's home may belong to any other.
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
) -> NotebookNode:
    """Run a notebook in a fresh kernel whose working directory is `cwd`; return it.

    `output` is replaced only by a complete, normalized notebook. Where a cell fails,
    takes longer than `timeout` seconds, exits, or takes its kernel along, the partial
    notebook goes to `failed` and ExecutionError is raised.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".kvt-") as directory:
        partial = Path(directory).resolve() / "partial.ipynb"
        error = _attempt(notebook, partial, parameters, cwd, timeout)
        if _kernel_never_started(error, partial):
            # Two starting kernels can pick one port: "Address already in use".
            error = _attempt(notebook, partial, parameters, cwd, timeout)
        problem = _problem(error, partial)
        if problem:
            failed.parent.mkdir(parents=True, exist_ok=True)
            if partial.exists():
                partial.replace(failed)
            raise ExecutionError(
                f"{notebook.name} stopped {problem}\nthe notebook up to there: {failed}"
            ) from error
        complete = normalize(notebooks.read(partial))
        notebooks.write(complete, partial)
        partial.replace(output)
    if not sys.stderr.isatty():  # in a terminal, papermill's bar has said so
        print(f"{notebook.name}: {time.perf_counter() - started:.1f} s", flush=True)
    return complete


def _attempt(
    notebook: Path,
    partial: Path,
    parameters: Mapping[str, Value],
    cwd: Path,
    timeout: int | None,
) -> Exception | None:
    """Run the notebook once; return what was raised, and leave `partial` behind."""
    # papermill and nbclient log each error that they raise as well.
    logging.getLogger("papermill").setLevel(logging.CRITICAL)
    options: dict[str, Any] = {
        # A cwd given to papermill would change this whole process's directory.
        "resources": {"metadata": {"path": str(cwd)}},
        "kernel_manager_class": _ThisPython,
        "extra_arguments": [
            # Lines that C++ logs belong to the terminal, not to a stored output.
            "--IPKernelApp.capture_fd_output=False",
            # Errors only: each kernel warns that its sockets, local ones, are plain.
            "--IPKernelApp.log_level=40",
        ],
        "coalesce_streams": True,
        "store_widget_state": False,
        "record_timing": False,
        "shutdown_kernel": "immediate",
        "execution_timeout": timeout,
    }
    try:
        papermill.execute_notebook(
            _literal(notebook),
            _literal(partial),
            dict(parameters),
            kernel_name="python3",
            language="python",
            progress_bar=sys.stderr.isatty() and {"desc": notebook.stem},
            **options,
        )
    except (PapermillExecutionError, RuntimeError, CellControlSignal) as error:
        return error
    return None


def _literal(path: Path) -> str:
    """Double the braces of a path, which papermill takes for a format string."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _kernel_never_started(error: Exception | None, partial: Path) -> bool:
    """Whether the run failed before its first cell."""
    return isinstance(error, RuntimeError) and _running_cell(partial) is None


def _running_cell(partial: Path) -> NotebookNode | None:
    """Code cell that was started last, by the times that papermill left."""
    if not partial.exists():
        return None
    cells = _code_cells(notebooks.read(partial))
    started = [cell for cell in cells if cell.metadata.papermill.get("start_time")]
    return started[-1] if started else None


def _problem(error: Exception | None, partial: Path) -> str:
    """Say where and why the run stopped; "" if it is complete.

    papermill takes a cell that exits for a success and, after a death or a timeout,
    saves that all is well: only counts in every cell and no error in any will do.
    """
    if isinstance(error, PapermillExecutionError):
        return _at(error.exec_count, error.source, f"{error.ename}: {error.evalue}")
    if error is not None:
        cell = _running_cell(partial)
        if cell is None:
            return f"before its first cell: {error}"
        reason = "the kernel died" if isinstance(error, DeadKernelError) else str(error)
        return _at(cell.execution_count, cell.source, reason.splitlines()[0])
    for cell in _code_cells(notebooks.read(partial)):
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


def _code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """Cells that run: nbclient passes over blank ones."""
    cells = notebook.cells
    return [cell for cell in cells if cell.cell_type == "code" and cell.source.strip()]


def normalize(notebook: NotebookNode) -> NotebookNode:
    """Drop from an executed notebook what differs between equal runs.

    That is times, the paths of this machine, the Python's patch version, and the random
    id of the cell that papermill injects.
    """
    notebook.metadata.pop("papermill", None)
    notebook.metadata.pop("widgets", None)
    notebook.metadata.get("language_info", {}).pop("version", None)
    for cell in notebook.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if not cell.metadata.get("tags", True):
            del cell.metadata["tags"]  # the empty list is papermill's
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell["id"] = "injected-parameters"
    return notebook
