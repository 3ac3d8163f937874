from pathlib import Path

import pytest

from kvt.report import keras_settings


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    return tmp_path / "keras.json"


@pytest.mark.parametrize(
    ("name", "value"),
    [("backend", "jax"), ("image_data_format", "channels_first")],
)
def test_a_setting_that_no_notebook_can_use_is_named_with_its_file(
    name: str, value: str, file: Path
) -> None:
    keras_settings.check()
    file.write_text(f'{{"{name}": "{value}"}}')
    with pytest.raises(ValueError, match=f"{name} is '{value}', by .*keras.json"):
        keras_settings.check()


def test_the_variable_decides_over_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    with pytest.raises(ValueError, match="backend is 'torch', by KERAS_BACKEND"):
        keras_settings.check()
    file.write_text('{"backend": "jax"}')
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    keras_settings.check()


@pytest.mark.parametrize("content", [b"", b"[1]", b"\xff", b'{"floatx": "float64"}'])
def test_other_settings_are_no_obstacle(content: bytes, file: Path) -> None:
    file.write_bytes(content)
    keras_settings.check()
