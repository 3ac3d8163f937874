"""The index of the search: which heading of which page has which words.

Each page carries it, so it is an inverted index, which compresses to a quarter of the
text. The page's script turns it into documents for MiniSearch.
"""

import html
import json
import re
from collections import defaultdict
from collections.abc import Mapping

HELPERS = "helpers"  # the id above code that many pages repeat: not indexed
# Around the index in a page.
PLACE = ('<template id="search-index">', "</template>")

_HEADING = re.compile(r'<h([1-6]) id="([^"]+)"[^>]*>(.*?)</h\1>', re.DOTALL)
_LEFT_OUT = re.compile(r'<(a class="anchor"|noscript).*?</(a|noscript)>')
_WITHIN_WORDS = re.compile(r"</?(?:a|b|code|em|i|span|strong|wbr)\b[^>]*>")
_TAG = re.compile(r"<[^>]*>")
_WORD = re.compile(r"(?![0-9a-f]{6,}\b)[^\W\d]\w{1,39}")  # no hash
# What search.js drops from a question, too: words of nearly every part.
_COMMON = (
    " a an and are as at be been but by can do does each for from has have how i"
    " if in into is it its my of on one or so than that the their them then there"
    " these they this to use was were what when which why with you "
)
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def index(pages: Mapping[str, str]) -> str:
    """Return the index of rendered pages as JSON.

    `files` are the pages' names. `parts` are [file, level, id, heading], in reading
    order. `words` are all words; `places` has a text for each of them, with the
    parts that contain it: see `_packed`.
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
            for word in sorted(set(_words(f"{heading} {text}"))):
                places[word].append(len(parts))
            parts.append([number, int(level), own, _text(heading)])
    words = sorted(places, key=lambda word: (places[word], word))  # packs best
    packed = [_packed(places[word]) for word in words]
    document = {"files": list(pages), "parts": parts, "words": words, "places": packed}
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def _text(markup: str) -> str:
    """Return the text of markup, its words separated by single spaces."""
    plain = _TAG.sub(" ", _WITHIN_WORDS.sub("", markup))
    return " ".join(html.unescape(plain).split())


def _words(markup: str) -> list[str]:
    return [w for w in _WORD.findall(_text(markup).lower()) if f" {w} " not in _COMMON]


def _packed(places: list[int]) -> str:
    """Return ascending numbers as text: a digit each, the distance to the one before.

    The largest digit stands for that many and more: the next one is added to it.
    """
    largest = len(_DIGITS) - 1
    text, last = "", -1
    for place in places:
        more, rest = divmod(place - last - 1, largest)
        text += _DIGITS[-1] * more + _DIGITS[rest]
        last = place
    return text
