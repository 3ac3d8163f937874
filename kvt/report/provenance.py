"""Where a report comes from: commit, data, versions, machine."""

import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

from kvt.compare import results as results_

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Provenance:
    """What a reader needs to get the same numbers; no path, no time of a run."""

    commit: str
    date: str
    data: dict[str, str]
    versions: dict[str, str]
    processor: str
    threads: int


def gather(notebooks: Path, results: Path) -> Provenance:
    """Collect it from the notebooks' git checkout, the results JSON and the machine."""
    commit, date = _commit(notebooks)
    data, versions = _recorded(results)
    return Provenance(commit, date, data, versions, processor(), threads())


def processor() -> str:
    """The processor's own name; other processors may round differently."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2] for line in lines if line.startswith("model name")]
    return names[0].strip() if names else platform.processor() or platform.machine()


def threads() -> int:
    """How many cores this process may use; TensorFlow takes as many threads."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _commit(directory: Path) -> tuple[str, str]:
    """Hash and date of the checkout's commit; a date that is the commit's stays put."""
    found = _git(directory, "log", "-1", "--format=%H %cs")
    if not found:
        return UNKNOWN, UNKNOWN
    commit, date = found.split()
    root = _git(directory, "rev-parse", "--show-toplevel")
    if _git(Path(root), "status", "--porcelain", "--", "kvt", directory.name):
        commit += ", with changes not committed"
    return commit, date


def _git(directory: Path, *words: str) -> str:
    """What git prints; "" outside a checkout or without git."""
    try:
        done = subprocess.run(
            ["git", "-C", str(directory), *words],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def _recorded(results: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Data sets and their hashes, and library versions, from the results JSON."""
    data: dict[str, str] = {}
    versions: dict[str, str] = {}
    for path in sorted(results.glob("*.json")):
        document = results_.read(path)
        data[document["data"]["name"]] = document["data"]["sha256"]
        versions |= document["versions"]
    return data, versions
