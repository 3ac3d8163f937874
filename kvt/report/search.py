"""The index of the search: which heading of which page has which words.

Each page carries it, so it is an inverted index, which compresses to a quarter of the
text. The page's script turns it into documents for MiniSearch.
"""

import html
import json
import re
from collections import defaultdict
from collections.abc import Mapping
from itertools import pairwise

HELPERS = "helpers"  # the id above code that many pages repeat: not indexed
PLACE = '<template id="search-index">'  # what the index follows in a page

_HEADING = re.compile(r'<h([1-6]) id="([^"]+)"[^>]*>(.*?)</h\1>', re.DOTALL)
_LEFT_OUT = re.compile(r'<(a class="anchor"|noscript).*?</(a|noscript)>')
_WITHIN_WORDS = re.compile(r"</?(?:a|b|code|em|i|span|strong|wbr)\b[^>]*>")
_TAG = re.compile(r"<[^>]*>")
_WORD = re.compile(r"(?![0-9a-f]{6,}\b)[^\W\d]\w{1,39}")  # no hash


def index(pages: Mapping[str, str]) -> str:
    """Return the index of rendered pages as JSON.

    `files` are the pages' names. `parts` are [file, level, id, heading], in reading
    order. `words` are all words. `places` has for each of them the number of the first
    part that contains it, then the distance from each such part to the next one.
    """
    parts: list[list[int | str]] = []
    places: dict[str, list[int]] = defaultdict(list)
    for number, page in enumerate(pages.values()):
        body = page.partition("<main")[2].partition("</main>")[0]
        _, *found = _HEADING.split(_LEFT_OUT.sub(" ", body))
        for level, own, heading, text in zip(*[iter(found)] * 4, strict=True):
            if own == HELPERS:
                continue
            if own.endswith("-run-again"):
                text = ""  # parameters and commands, which all chapters have
            for word in sorted({*_WORD.findall(_text(f"{heading} {text}").lower())}):
                places[word].append(len(parts))
            parts.append([number, int(level), own, _text(heading)])
    words = sorted(places, key=lambda word: (places[word], word))  # packs best
    steps = [[b - a for a, b in pairwise([0, *places[word]])] for word in words]
    document = {"files": list(pages), "parts": parts, "words": words, "places": steps}
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def _text(markup: str) -> str:
    """Return the text of markup, its words separated by single spaces."""
    plain = _TAG.sub(" ", _WITHIN_WORDS.sub("", markup))
    return " ".join(html.unescape(plain).split())
