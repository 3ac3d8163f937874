"""Provenance: the commit, data, versions and machine that a report comes from."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from kvt.compare.results import read
from kvt.report.machine import processor, threads

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Provenance:
    """What a reader needs to get the same numbers; no path and no time of a run."""

    commit: str
    date: str
    data: dict[str, str]
    versions: dict[str, str]
    processor: str
    threads: int


def gather(directory: Path, results: Path) -> Provenance:
    """Collect it from the notebooks' git checkout, their results, and the machine."""
    data: dict[str, str] = {}
    versions: dict[str, str] = {}
    for path in sorted(results.glob("*.json")):
        document = read(path)
        data[document["data"]["name"]] = document["data"]["sha256"]
        versions |= document["versions"]
    commit, date = _commit(directory)
    return Provenance(commit, date, data, versions, processor(), threads())


def _commit(directory: Path) -> tuple[str, str]:
    """Return hash and date of the checked-out commit."""
    found = _git(directory, "log", "-1", "--format=%H %cs")
    if not found:
        return UNKNOWN, UNKNOWN
    commit, date = found.split()
    root = _git(directory, "rev-parse", "--show-toplevel")
    if _git(Path(root), "status", "--porcelain", "--", "kvt", directory.name):
        commit += ", with changes not committed"
    return commit, date


def _git(directory: Path, *words: str) -> str:
    """Return what git prints; "" outside a checkout or without git."""
    command = ["git", "-C", str(directory), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
