"""The report: plan all notebooks, run them, render the pages, replace older ones."""

import contextlib
import os
import shutil
import signal
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import psutil

from kvt.compare.results import NOTEBOOKS
from kvt.data import resolve
from kvt.report import files, keras_settings, pdf
from kvt.report.book import INDEX, divide, pages_of
from kvt.report.cache import WRITTEN, check_directory
from kvt.report.guard import on_signals
from kvt.report.merge import preview
from kvt.report.plan import plan, read
from kvt.report.provenance import gather, threads
from kvt.report.render import pages
from kvt.report.run import Stage, run

PDF = "kvt.pdf"
FAILED = "failed"
NAMES = "names"  # the file in a room with the names of the new report's parts
PARTS = ("notebooks", *WRITTEN)  # directories beside the pages
CACHE = (  # ignored by git; without a checkout, the user's
    NOTEBOOKS.parent / "build" / "cache"
    if NOTEBOOKS.is_dir()
    else Path.home() / ".cache" / "kvt"
)


def build(
    notebooks: Path,
    output: Path,
    *,
    dataset: str,
    parameters: Mapping[str, object],
    jobs: int | None = None,
    cache: Path = CACHE,
    force: bool = False,
    timeout: int | None = None,
    cluster: str = "",
    print_with: str | None = None,
    single_file: bool = False,
) -> Path:
    """Run the notebooks and write the report; return the path of its first page.

    `jobs` notebooks run at once, by default as many as there are cores; the number does
    not change the results. Runs in `cache` are not repeated, unless `force`.
    No cell may take longer than `timeout` seconds. They run on this machine, or on the
    workers of a Dask `cluster`, named by its scheduler's address or file. `print_with`
    is the browser that prints all pages to kvt.pdf. `single_file` writes all pages as
    one file.

    ValueError (ParameterError) and FileNotFoundError reject invalid input before a
    kernel starts. ExecutionError, RenderError and PrintError keep the older report.
    """
    chapters = read(notebooks)
    wanted = [it.file for it in divide(preview(chapters), single_file=single_file)]
    target = output.resolve()
    check_directory(cache)
    if target.is_relative_to(cache.resolve()):
        raise ValueError(f"{output} is in the cache; name another place with --output")
    keras_settings.check()
    plan(chapters, "digits", parameters)  # rejects, before MNIST is downloaded
    name, reason = resolve(dataset)
    chapters = plan(chapters, name, parameters)
    with files.room(_home(target), target, rescue=lambda it: _undo(target, it)) as room:
        files.sweep(target, other_than=room)
        _reject_foreign(target, notebooks, wanted)
        print(f"data set: {reason}", flush=True)
        new = room / "new"
        for part in PARTS:
            (new / part).mkdir(parents=True)
        stage = Stage(room, new, target / FAILED, cache, force, timeout)
        executed = run(chapters, stage, jobs or threads(), cluster)
        provenance = gather(notebooks, new / "results", reason)
        made = pages(executed, provenance, single_file=single_file)
        for file, text in made.items():
            files.write(new / file, text.encode())
        if print_with:
            whole = (
                made if single_file else pages(executed, provenance, single_file=True)
            )
            pdf.write(whole[INDEX], new / PDF, browser=print_with)
        with on_signals(signal.SIG_IGN):  # too late: the report is complete
            _replace(new, target, {*PARTS, PDF, FAILED, *pages_of(target), *made})
            shutil.rmtree(room, ignore_errors=True)
    return output / INDEX


def _home(output: Path) -> Path:
    """Return where a report is made: beside the old one, to exchange them in one step.

    That may be impossible: the output is a file system of its own, or the only place
    that may be written to.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    beside = os.access(output.parent, os.W_OK) and output not in _mounts()
    return output.parent if beside else output


def _reject_foreign(output: Path, notebooks: Path, wanted: Sequence[str]) -> None:
    """Raise FileExistsError if the report would replace what is not a report's."""
    if output.exists() and not output.is_dir():
        raise FileExistsError(f"{output} is a file; name a directory with --output")
    fix = "the report replaces these; name another directory with --output"
    if notebooks.resolve() == output / "notebooks":
        raise FileExistsError(f"{output} holds the notebooks themselves; {fix}")
    listed = pages_of(output)
    own = {*PARTS, PDF, *listed} if listed else set()
    foreign = [
        name
        for name in (*PARTS, PDF, *wanted)
        if os.path.lexists(output / name)
        and (name not in own or (output / name) in _mounts())
    ]
    failed = [it for it in output.glob(f"{FAILED}/*") if it.suffix != ".ipynb"]
    foreign += [str(it.relative_to(output)) for it in failed]
    if foreign:
        why = "which the report there does not list" if listed else "and no report"
        raise FileExistsError(f"{output} has {', '.join(foreign)}, {why}; {fix}")


def _replace(new: Path, output: Path, ours: Collection[str]) -> None:
    """Put the new report into the place of the old one, in one step if possible.

    Files of others beside the old report stay. With directories of others, or where
    someone works in the old one, the parts of the report (`ours`) are moved one by one,
    the first page last. If a move fails, those before it are undone; if the command is
    killed, the next one undoes them.
    """
    if not output.exists():
        new.replace(output)
        return
    with contextlib.suppress(OSError, AttributeError):
        if _holds_only_files(output, ours):
            for path in output.iterdir():
                if path.name not in ours:
                    os.link(path, new / path.name, follow_symlinks=False)
            shutil.copystat(output, new)
            os.chown(new, output.stat().st_uid, output.stat().st_gid)
            files.exchange(new, output)
            return
    room, old = new.parent, new.with_name("old")
    files.write(room / NAMES, "\n".join(it.name for it in new.iterdir()).encode())
    old.mkdir()
    try:
        for name in sorted(ours, key=lambda name: (name == INDEX, name)):
            for source, target in ((output, old), (new, output)):
                if os.path.lexists(source / name):
                    (source / name).replace(target / name)
        old.replace(room / "replaced")  # from here on, there is nothing to undo
    except BaseException:
        _undo(output, room)
        raise


def _undo(output: Path, room: Path) -> None:
    """Put the parts of the old report back, if its replacement was stopped halfway."""
    old, new = room / "old", room / "new"
    if old.is_dir():
        for name in (room / NAMES).read_text("utf-8").split("\n"):
            if os.path.lexists(output / name) and not os.path.lexists(new / name):
                (output / name).replace(new / name)
        for path in old.iterdir():
            path.replace(output / path.name)


def _holds_only_files(output: Path, ours: Collection[str]) -> bool:
    """Whether a directory can be exchanged: nobody works in what would be deleted."""
    places = [Path(it.info["cwd"] or "/") for it in psutil.process_iter(["cwd"])]
    used = any(it.is_relative_to(output) for it in (*places, *_mounts()))
    others = [path for path in output.iterdir() if path.name not in ours]
    return not used and not any(path.is_dir() for path in others)


def _mounts() -> list[Path]:
    return [Path(it.mountpoint) for it in psutil.disk_partitions(all=True)]
