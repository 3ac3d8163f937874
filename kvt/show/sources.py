"""Source code to read, as Markdown: read from its file, so that it cannot go stale."""

import inspect
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Source = Callable[..., Any] | type | str


@dataclass(frozen=True, repr=False)
class Markdown:
    """Text that Jupyter and the report show rendered; elsewhere, print its `text`."""

    text: str

    def _repr_markdown_(self) -> str:
        return self.text

    def __repr__(self) -> str:
        # A notebook stores this beside the Markdown, so the text is not in it again.
        return f"<Markdown, {len(self.text.splitlines())} lines>"


def code(*sources: Source) -> Markdown:
    """Show the code of functions or classes, or text that is code, as one block.

    Raises OSError if Python has no file or cell to read the code from.
    """
    return Markdown(_block("python", *sources))


def beside(titled: Mapping[str, Source]) -> Markdown:
    """Show each piece of code under its title: title -> function, class or text.

    The report shows the blocks side by side, Jupyter shows them one below the other.
    Raises OSError as `code` does.
    """
    blocks = [_block(f"python {title}", source) for title, source in titled.items()]
    return Markdown("\n\n".join(blocks))


def _block(info: str, *sources: Source) -> str:
    """Return a fenced block of Markdown; the words after the language are its title."""
    text = "\n\n\n".join(map(_text, sources))
    return f"```{info}\n{text}\n```"


def _text(source: Source) -> str:
    if not isinstance(source, str):
        source = inspect.getsource(source)
    return textwrap.dedent(source).strip()
