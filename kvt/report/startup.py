"""Startup: what has to be done before the package's other imports."""

import sys

# jsonschema, under nbformat, would import this package to check IRIs, which no notebook
# has; the package builds a grammar meanwhile: 1.5 s of each start. None: not installed.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
