"""Source code to read: from the file it stands in, so that it cannot go stale."""

import inspect
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Source = Callable[..., Any] | type | str


@dataclass(frozen=True)
class Markdown:
    """Text that Jupyter and the report show rendered."""

    text: str

    def _repr_markdown_(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return self.text


def code(*sources: Source) -> Markdown:
    """Show the code of functions or classes, or text that is code, as one block.

    Raises OSError where Python has no file or cell to read the code from.
    """
    return Markdown(_block("python", *sources))


def beside(titled: Mapping[str, Source]) -> Markdown:
    """Show code abreast, each under its title: title -> function, class or text.

    The report sets the blocks abreast, Jupyter one below the other. Raises OSError as
    `code` does.
    """
    blocks = [_block(f"python {title}", source) for title, source in titled.items()]
    return Markdown("\n\n".join(blocks))


def _block(info: str, *sources: Source) -> str:
    """A fenced block of Markdown; what follows the language is the block's title."""
    text = "\n\n\n".join(map(_text, sources))
    return f"```{info}\n{text}\n```"


def _text(source: Source) -> str:
    if not isinstance(source, str):
        source = inspect.getsource(source)
    return textwrap.dedent(source).strip()
