"""The machine that a report runs on: its processor, and the threads it offers."""

import os
import platform
from pathlib import Path


def processor() -> str:
    """Return the processor's name: another processor may round differently."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2] for line in lines if line.startswith("model name")]
    return names[0].strip() if names else platform.processor() or platform.machine()


def threads() -> int:
    """Count the cores that this process may use; TensorFlow takes as many threads."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
