"""`quiet` silences TensorFlow's import, and nothing else."""

import logging
import os
import subprocess
import sys

import pytest
import tensorflow as tf

import kvt
from kvt.data.quietly import without_warnings


def note(text: str) -> None:
    """Write to standard error as C++ does, without Python's sys.stderr."""
    os.write(2, text.encode())


def test_file_descriptor_2_is_silent_inside_and_restored_afterwards(
    capfd: pytest.CaptureFixture[str],
) -> None:
    note("before\n")
    with kvt.quiet():
        note("inside\n")
    note("after\n")
    assert capfd.readouterr() == ("", "before\nafter\n")


def test_standard_output_still_works(capfd: pytest.CaptureFixture[str]) -> None:
    with kvt.quiet():
        os.write(1, b"shown\n")
    assert capfd.readouterr().out == "shown\n"


def test_an_exception_passes_and_file_descriptor_2_is_restored(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        note("inside\n")
        raise ImportError("no such library")

    with pytest.raises(ImportError, match="no such library"), kvt.quiet():
        fail()
    note("after\n")
    assert capfd.readouterr().err == "after\n"


def test_no_file_descriptor_stays_open() -> None:
    def opened() -> int:
        lowest = os.dup(2)  # the lowest number that is free
        os.close(lowest)
        return lowest

    before = opened()
    for _ in range(5):
        with kvt.quiet():
            pass
    assert opened() == before


def test_the_log_level_is_set_unless_the_user_has_set_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    with kvt.quiet():
        assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "3"
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    with kvt.quiet():
        assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"


@pytest.mark.long
def test_tensorflow_is_imported_and_used_without_output() -> None:
    code = """\
import kvt
with kvt.quiet():
    import tensorflow as tf
print(int(tf.function(lambda: tf.constant(1) + 1)()))
"""
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert (run.stdout, run.stderr) == ("2\n", "")


def test_tensorflow_warns_of_nothing_inside_and_of_everything_afterwards(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = tf.get_logger()
    monkeypatch.setattr(logger, "propagate", True)  # to where caplog listens
    # Notebooks' cells, run by other tests in this process, may have raised the level.
    caplog.set_level("WARNING", logger="tensorflow")
    level = logger.level
    with without_warnings():
        logger.warning("retracing")
        logger.error("failed")
    logger.warning("deprecated")
    assert [record.message for record in caplog.records] == ["failed", "deprecated"]
    assert logger.level == level != logging.ERROR


def test_warnings_come_back_after_an_exception() -> None:
    logger = tf.get_logger()
    level = logger.level
    with pytest.raises(RuntimeError, match="no step"), without_warnings():
        raise RuntimeError("no step")
    assert logger.level == level
