"""The page's stylesheet and script, and the policy that allows exactly these two."""

import base64
import hashlib
from collections import defaultdict
from pathlib import Path

from pygments.styles import get_style_by_name  # type: ignore[import-untyped]
from pygments.token import STANDARD_TYPES  # type: ignore[import-untyped]

TEMPLATES = Path(__file__).parent / "templates"


def style() -> str:
    """Return the stylesheet, with colors for code that everybody can read."""
    own = (TEMPLATES / "report" / "report.css").read_text("utf-8")
    return f"\n{_code_colors('a11y-light', 'github-dark-high-contrast')}\n{own}"


def script() -> str:
    """Return the script."""
    return "\n" + (TEMPLATES / "report" / "report.js").read_text("utf-8")


def policy(style: str, script: str) -> str:
    """Return a policy that allows this style, this script and embedded images only."""
    own = f"style-src {_digest(style)}; script-src {_digest(script)}; img-src data:"
    return f"default-src 'none'; {own}; base-uri 'none'; form-action 'none'"


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _code_colors(light: str, dark: str) -> str:
    """Return CSS for two of Pygments's styles at once, one rule per pair of colors."""
    selectors = defaultdict(list)
    styles = [get_style_by_name(style) for style in (light, dark)]
    for token, name in STANDARD_TYPES.items():
        pair = [style.style_for_token(token)["color"] for style in styles]
        if name and any(pair):
            colors = [f"#{color}" if color else "currentcolor" for color in pair]
            selectors[", ".join(colors)].append(f".code .{name}")
    return "\n".join(
        f"{', '.join(names)} {{ color: light-dark({colors}); }}"
        for colors, names in selectors.items()
    )
