"""Execute one notebook with papermill: completely, or not at all."""

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import papermill
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import CellControlSignal, CellTimeoutError, DeadKernelError
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config

from kvt.report import files, notebooks, streams
from kvt.report.guard import Guard, guarded, on_signals
from kvt.report.notebooks import ExecutionError, NotebookNode, code_cells
from kvt.report.parameters import Value


class _ThisPython(AsyncKernelManager):
    """Starts kernels in this Python; the user's kernelspec may name another one."""

    @property
    def kernel_spec(self) -> KernelSpec:
        return KernelSpec(**get_kernel_dict(), env={"TF_CPP_MIN_LOG_LEVEL": "3"})


ARGUMENTS = [
    # Lines that C++ logs belong to the terminal, not to a stored output.
    "--IPKernelApp.capture_fd_output=False",
    # Errors only: each kernel warns that its local sockets are not encrypted.
    "--IPKernelApp.log_level=40",
    # The notebook's code alone decides what runs: no start-up file, no history.
    "--IPKernelApp.exec_PYTHONSTARTUP=False",
    "--HistoryManager.enabled=False",
]
OPTIONS: dict[str, Any] = {
    "kernel_name": "python3",
    "language": "python",
    "kernel_manager_class": _ThisPython,
    "engine_name": streams.ENGINE,
    "store_widget_state": False,
    "record_timing": False,
    "shutdown_kernel": "immediate",
}
TOO_EARLY = "before its first cell"


def execute(
    notebook: Path,
    output: Path,
    parameters: Mapping[str, Value],
    *,
    cwd: Path,
    failed: Path,
    timeout: int | None = None,
) -> NotebookNode:
    """Run a notebook in a fresh kernel in `cwd`; write it to `output` and return it.

    A progress bar or a line tells how the run goes. Raises ExecutionError if a cell
    fails, exits, kills its kernel, or takes longer than `timeout` seconds: the partial
    notebook goes to `failed`, `output` stays as it was.
    """
    text = notebooks.dumps(notebooks.read(notebook))
    output = output.resolve()  # what a link points to
    bar = sys.stderr.isatty() and {"desc": notebook.stem}
    started = time.perf_counter()
    with files.room(output.parent, output) as room, guarded() as guard:
        text, problem = run_cells(
            text, parameters, guard, cwd=cwd, timeout=timeout, bar=bar
        )
        if problem:
            failed.parent.mkdir(parents=True, exist_ok=True)
            files.replace(failed, text.encode(), room)
            raise ExecutionError(notebooks.stopped(notebook.name, problem, failed))
        with on_signals(signal.SIG_IGN):  # too late: the run is complete
            files.replace(output, text.encode(), room)
            failed.unlink(missing_ok=True)
    if not bar:
        print(f"{notebook.name}: {time.perf_counter() - started:.1f} s", flush=True)
    return notebooks.loads(text)


def run_cells(
    text: str,
    parameters: Mapping[str, Value],
    guard: Guard,
    *,
    cwd: Path,
    timeout: int | None = None,
    environment: Mapping[str, str] = os.environ,
    on_cell: Callable[[], None] = lambda: None,
    bar: Any = False,
) -> tuple[str, str]:
    """Run a notebook's text; return the executed text, and where and why it stopped.

    The text is complete and normalized, or goes as far as the run came. The reason is
    "" for a complete run. `environment` is the kernel's. `on_cell` is called when a
    code cell begins. When this returns, nothing that the notebook started is left.
    """
    output = guard.directory / "executed.ipynb"
    # The user's IPython settings (what a cell shows, what runs at its start) would
    # change the outputs: this kernel gets an empty folder of settings.
    settings = guard.directory / "ipython"
    connection = {"connection_file": str(guard.directory / "kernel.json")}
    options = {
        "input_path": notebooks.loads(text),
        # papermill takes a path for a format string.
        "output_path": str(output).replace("{", "{{").replace("}", "}}"),
        "parameters": dict(parameters),
        "progress_bar": bar,
        # papermill's own `cwd` would change this whole process's directory.
        "resources": {"metadata": {"path": str(cwd)}},
        "execution_timeout": timeout,
        "environment": {**environment, **guard.environment},
        "extra_arguments": [*ARGUMENTS, f"--IPKernelApp.ipython_dir={settings}"],
        "config": Config(ConnectionFileMixin=connection),
    }
    try:
        settings.mkdir()
        # Two kernels that start together can pick one port: "Address already in use".
        # So a run that fails before its first cell is tried once more.
        problem = _attempt(output, options, on_cell)
        if problem.startswith(TOO_EARLY) and not guard.over.is_set():
            problem = _attempt(output, options, on_cell)
        guard.end()
        if not output.exists():
            return text, problem
        ran = notebooks.read(output)
    except OSError as error:
        error.filename = error.filename or str(guard.directory)
        raise
    return notebooks.dumps(ran if problem else notebooks.normalize(ran)), problem


def _attempt(
    partial: Path, options: dict[str, Any], on_cell: Callable[[], None]
) -> str:
    """Run a notebook; return where and why it stopped, or "" if it is complete.

    papermill takes a cell that exits for a success. So each cell is checked for a count
    and an error.
    """
    running: list[NotebookNode] = []

    def begins(cell: NotebookNode, **_: object) -> None:
        running[:] = [cell]
        on_cell()

    # papermill and nbclient also log each error that they raise.
    logging.getLogger("papermill").setLevel(logging.CRITICAL)
    try:
        papermill.execute_notebook(**options, **OPTIONS, on_cell_execute=begins)
    except PapermillExecutionError as error:
        return _at(running[0], f"{error.ename}: {error.evalue}")
    except (RuntimeError, CellControlSignal) as error:
        if not running:
            return f"{TOO_EARLY}: {notebooks.one_line(str(error))}"
        reason = str(error)
        if isinstance(error, DeadKernelError):
            reason = "the kernel died"
        elif isinstance(error, CellTimeoutError):
            limit = options["execution_timeout"]
            reason = f"timed out after {limit} s; allow more seconds with --timeout"
        return _at(running[0], reason or type(error).__name__)
    for cell in code_cells(notebooks.read(partial)):
        for output in cell.outputs:
            if output.output_type == "error":
                return _at(cell, f"{output.ename}: {output.evalue}")
        if cell.execution_count is None:
            return _at(cell, "this cell was not run")
    return ""


def _at(cell: NotebookNode, reason: str) -> str:
    first = notebooks.one_line(cell.source)
    count = cell.execution_count or " "
    return f"in cell [{count}], {first!r}: {notebooks.one_line(reason)}"
