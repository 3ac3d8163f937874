"""The report, in one direction: parameters → execute → render."""

import importlib
import sys
from types import ModuleType
from typing import cast


def _import_leanly(module: str, without: str) -> None:
    """Import a module as if an optional package of its dependencies were missing."""
    if without in sys.modules:
        return
    sys.modules[without] = cast(ModuleType, None)
    try:
        importlib.import_module(module)
    finally:
        del sys.modules[without]


# jsonschema, under nbformat, can check IRIs, by a package that builds a grammar for
# them while it is imported: over a second, and no notebook's schema asks for one.
_import_leanly("nbformat", without="rfc3987_syntax")
