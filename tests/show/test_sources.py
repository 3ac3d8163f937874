import json
from collections.abc import Mapping

import pytest
from IPython.core.formatters import DisplayFormatter

from kvt import History
from kvt.show import sources


def increment(x: int) -> int:
    """Add one."""
    return x + 1


def test_code_is_shown_as_it_is_in_its_file() -> None:
    shown = sources.code(increment, "y = 2\n").text

    assert shown == (
        '```python\ndef increment(x: int) -> int:\n    """Add one."""\n'
        "    return x + 1\n\n\ny = 2\n```"
    )


def test_methods_are_shown_without_their_indentation() -> None:
    shown = sources.code(History.append).text
    assert shown.startswith("```python\ndef append(self, epoch: int")
    assert "\n    self.epoch.append(epoch)\n" in shown


@pytest.mark.parametrize(
    "titled", [{"ours": increment}, {"ours": increment, "theirs": "x += 1"}]
)
def test_every_block_has_its_title(titled: Mapping[str, sources.Source]) -> None:
    blocks = sources.beside(titled).text.split("\n\n```")

    assert len(blocks) == len(titled)
    for title, block in zip(titled, blocks, strict=True):
        assert block.removeprefix("```").startswith(f"python {title}\n")


def test_code_without_a_source_is_rejected() -> None:
    namespace: dict[str, object] = {}
    exec(compile("def made(): pass", "<made>", "exec"), namespace)
    with pytest.raises(OSError, match="source"):
        sources.code(namespace["made"])  # type: ignore[arg-type]


def test_an_output_stores_the_text_only_once() -> None:
    text = "\n".join(f"line {number} of many" for number in range(100))
    formatter = DisplayFormatter()
    data, _ = formatter.format(sources.Markdown(text))  # type: ignore[no-untyped-call]

    assert data["text/markdown"] == text
    assert data["text/plain"] == "<Markdown, 100 lines>"
    assert len(json.dumps(data)) < len(json.dumps(text)) + 100
