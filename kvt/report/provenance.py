"""Provenance: the commit, data, versions and machine that a report comes from."""

import os
import platform
import re
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from kvt.compare.results import read

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Provenance:
    """What a reader needs to get the same numbers; no path and no time of a run."""

    reason: str  # for the data set that the report uses
    commit: str
    date: str
    data: dict[str, str]
    versions: dict[str, str]
    processor: str
    threads: int
    # TensorFlow, Keras, NumPy, distance, what the order follows; and the grid of pairs.
    releases: list[list[str]] = field(default_factory=list)
    picture: str = ""


def gather(directory: Path, results: Path, reason: str) -> Provenance:
    """Collect it from the notebooks' git checkout, their results, and the machine."""
    data: dict[str, str] = {}
    versions: dict[str, str] = {}
    for path in sorted(results.glob("*.json")):
        document = read(path)
        data[document["data"]["name"]] = document["data"]["sha256"]
        versions |= document["versions"]
    facts = reason, *_commit(directory), data, versions, processor(), threads()
    table = directory.parent / "benchmarks/versions.md"
    if not table.exists():
        return Provenance(*facts)
    grid = table.with_suffix(".svg").read_text("utf-8")
    return Provenance(*facts, _releases(table.read_text("utf-8")), grid)


def _releases(table: str) -> list[list[str]]:
    """Return the rows of the table of releases, without the seconds."""
    rows = re.findall(r"^\| \d.*\|$", table, re.MULTILINE)
    measured = [row for row in rows if row.count("|") == 9]
    return [[cell.strip() for cell in row.split("|")[1:6]] for row in measured]


def _commit(directory: Path) -> tuple[str, str]:
    found = _git(directory, "log", "-1", "--format=%H %cs")
    if not found:
        return UNKNOWN, UNKNOWN
    commit, date = found.split()
    if _git(directory, "status", "--porcelain", "--", ":/kvt", "."):
        commit += ", with changes not committed"
    return commit, date


def _git(directory: Path, *words: str) -> str:
    command = ["git", "-C", str(directory), *words]
    with suppress(OSError):  # without git; outside a checkout, git prints nothing
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return ""


def processor() -> str:
    """Return the processor's name: another processor may round differently."""
    cpus = Path("/proc/cpuinfo")
    text = cpus.read_text("utf-8") if cpus.exists() else ""
    found = re.search(r"^model name\s*:(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def threads() -> int:
    """Count the cores that this process may use; TensorFlow takes as many threads."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
