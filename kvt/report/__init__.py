"""The report, in one direction: parameters → execute → render."""

import importlib
import sys
from types import ModuleType
from typing import cast


def _import_leanly(module: str, without: set[str]) -> None:
    """Import a module as if optional packages of its dependencies were missing."""
    hidden = without - sys.modules.keys()
    sys.modules.update(dict.fromkeys(hidden, cast(ModuleType, None)))
    try:
        importlib.import_module(module)
    finally:
        for name in hidden:
            del sys.modules[name]


# jsonschema, under nbformat, can check IRIs, URIs and durations, and no notebook's
# schema asks for one. The package for IRIs builds a grammar while it is imported, which
# takes over a second.
_import_leanly("nbformat", {"rfc3987_syntax", "rfc3986_validator", "isoduration"})
