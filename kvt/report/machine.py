"""The machine that a report runs on: its processor, and the threads it offers."""

import os
import platform
import re
from pathlib import Path


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
