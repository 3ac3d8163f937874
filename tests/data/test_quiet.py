"""What holds for the silence around TensorFlow's import."""

import os
import subprocess
import sys

import pytest

import kvt


def note(text: str) -> None:
    """Write as C++ does, past Python's own sys.stderr."""
    os.write(2, text.encode())


def test_file_descriptor_2_is_silent_inside_and_restored_after(
    capfd: pytest.CaptureFixture[str],
) -> None:
    note("before\n")
    with kvt.quiet():
        note("inside\n")
    note("after\n")
    assert capfd.readouterr() == ("", "before\nafter\n")


def test_standard_output_is_left_alone(capfd: pytest.CaptureFixture[str]) -> None:
    with kvt.quiet():
        os.write(1, b"shown\n")
    assert capfd.readouterr().out == "shown\n"


def test_exception_passes_and_restores_file_descriptor_2(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        note("inside\n")
        raise ImportError("no such library")

    with pytest.raises(ImportError, match="no such library"), kvt.quiet():
        fail()
    note("after\n")
    assert capfd.readouterr().err == "after\n"


def test_no_file_stays_open() -> None:
    def opened() -> int:
        lowest = os.dup(2)  # the lowest number that is free
        os.close(lowest)
        return lowest

    before = opened()
    for _ in range(5):
        with kvt.quiet():
            pass
    assert opened() == before


def test_log_level_is_set_unless_the_user_has_set_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    with kvt.quiet():
        assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "3"
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    with kvt.quiet():
        assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"


def test_tensorflow_is_imported_and_used_without_a_word() -> None:
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
