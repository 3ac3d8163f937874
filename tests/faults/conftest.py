"""The fixture of all faults: a place, which is looked through afterwards."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.places import SECONDS, Place


@pytest.fixture
def place(tmp_path: Path, record_property: Any) -> Iterator[Place]:
    """A place; afterwards, no process, no temporary file and no loss may be left."""
    made = Place(tmp_path)
    yield made
    for running in made.started:
        with running:  # closes its pipes, and waits
            running.kill()
    end = time.monotonic() + SECONDS
    while (left := made.family()) and time.monotonic() < end:
        time.sleep(0.02)
    names = [" ".join(it.cmdline()) for it in left]
    for process in left:
        process.kill()
    record_property("tried", made.tried)
    record_property("processes", len(names))
    record_property("lost", len(made.lost()))
    assert (names, made.lost()) == ([], [])
