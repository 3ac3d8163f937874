"""Keep TensorFlow's start-up notes out of what a notebook stores."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the lines that TensorFlow logs from C++ while it is imported.

    It writes them to file descriptor 2 before any log level applies, so that is
    redirected for as long; `TF_CPP_MIN_LOG_LEVEL` stops the later ones. Exceptions
    pass as they always do.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    stderr = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as null:
            os.dup2(null.fileno(), 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


@contextlib.contextmanager
def without_warnings() -> Iterator[None]:
    """Silence TensorFlow's logger below errors: retracing and deprecations."""
    logger = logging.getLogger("tensorflow")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
