"""Silence TensorFlow's messages, so that they do not end up in stored outputs."""

import contextlib
import gc
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Import TensorFlow within this context: without lines that its C++ code logs.

    It writes them to file descriptor 2 before any log level applies, so the descriptor
    is redirected meanwhile. `TF_CPP_MIN_LOG_LEVEL` stops later lines. Garbage is not
    collected meanwhile: an import creates a million objects that stay, and looking
    through them takes a sixth of its time. No later collection looks at them either.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    stderr = os.dup(2)
    collects = gc.isenabled()
    gc.disable()
    try:
        with Path(os.devnull).open("wb") as null:
            os.dup2(null.fileno(), 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        gc.freeze()
        if collects:
            gc.enable()


@contextlib.contextmanager
def without_warnings() -> Iterator[None]:
    """Silence warnings of TensorFlow's Python logger, such as those about retracing."""
    logger = logging.getLogger("tensorflow")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
