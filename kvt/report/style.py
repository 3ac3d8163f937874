"""The page's stylesheet and script, and the policy that allows exactly these two."""

import base64
import hashlib
from collections import defaultdict
from pathlib import Path

from pygments.styles import get_style_by_name  # type: ignore[import-untyped]
from pygments.token import STANDARD_TYPES  # type: ignore[import-untyped]

TEMPLATES = Path(__file__).parent / "templates"


def assets() -> dict[str, str]:
    """Return `style` and `script`, and a `policy` that allows these and images only."""
    own = TEMPLATES / "report"
    colors = _code_colors("a11y-light", "github-dark-high-contrast")
    made = {
        "style": f"\n{colors}\n{(own / 'report.css').read_text('utf-8')}",
        "script": "\n" + (own / "report.js").read_text("utf-8"),
    }
    policy = ["default-src 'none'"]
    for kind, text in made.items():
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        policy.append(f"{kind}-src 'sha256-{digest}'")
    policy += ["img-src data:", "base-uri 'none'", "form-action 'none'"]
    return made | {"policy": "; ".join(policy)}


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
