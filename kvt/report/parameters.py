"""Parameters: what a notebook's `parameters` cell declares, and checks of given values.

papermill injects whatever it is given: a misspelled name trains with the defaults, and
"true" stays a string. So names and types are checked here, before a kernel starts.
"""

import ast
import contextlib
import difflib
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kvt.data.parameters import check as check_rules
from kvt.report.notebooks import NotebookNode, tags

Value = bool | int | float | str
BOOLS = {"true": True, "1": True, "false": False, "0": False}
# For each type: how a value is converted, from which types, and what the error says.
TYPES: dict[type, tuple[Callable[[Any], Value], tuple[type, ...], str, str]] = {
    bool: (lambda v: BOOLS[str(v).lower()], (bool, int, str), "true or false", "true"),
    int: (int, (int, str), "an integer", "10"),
    float: (float, (int, float, str), "a finite number", "0.01"),
    str: (str, (str,), "a string in UTF-8", "mnist"),
}


class ParameterError(ValueError):
    """A parameter that the notebook does not have, or a value that it cannot use."""


@dataclass(frozen=True)
class Parameter:
    """One typed, commented assignment in a `parameters` cell."""

    name: str
    type: type
    default: Value
    comment: str


def read(notebook: NotebookNode) -> dict[str, Parameter]:
    """Read a notebook's parameters, in order, without running the notebook.

    Raises ParameterError for other types than bool, int, float and str.
    """
    cells = [cell for cell in notebook.cells if "parameters" in tags(cell)]
    source = str(cells[0].source) if cells else ""
    source = re.sub(r"^[%!?].*", "", source, flags=re.MULTILINE)  # IPython's own lines
    try:
        statements = ast.parse(source).body
    except SyntaxError as error:
        raise ParameterError(
            f"the parameters cell is not Python: {error.msg} in its line {error.lineno}"
        ) from None
    except ValueError as error:  # a null character, up to Python 3.11.3
        raise ParameterError(f"the parameters cell is not Python: {error}") from None
    found = {}
    for node in statements:
        match node:
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                annotation = ast.unparse(node.annotation)
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                annotation = ""
            case _:
                continue
        line = source.splitlines()[(node.end_lineno or 1) - 1].encode()
        comment = line[node.end_col_offset :].decode().lstrip(" #")
        found[name] = Parameter(name, *_default(node, annotation, value), comment)
    return found


def _default(node: ast.stmt, annotation: str, value: ast.expr) -> tuple[type, Any]:
    """Return the type, by annotation or else by default, and the default."""
    default: Any = None
    with contextlib.suppress(ValueError):  # not a literal
        default = ast.literal_eval(value)
    kinds = [kind for kind in TYPES if kind.__name__ == annotation]
    kind = kinds[0] if kinds else type(None) if annotation else type(default)
    if kind is float and type(default) is int:
        default = float(default)
    if kind not in TYPES or type(default) is not kind:
        raise ParameterError(
            f"{ast.unparse(node)!r} in the parameters cell: type and default must both "
            f"be a plain bool, int, float or str; write it like 'epochs: int = 5'"
        )
    return kind, default


def check(
    given: Mapping[str, object], parameters: Mapping[str, Parameter]
) -> dict[str, Value]:
    """Return the given values in their parameters' types, as papermill can inject them.

    A value may also be a NumPy scalar, a path, or text. Raises ParameterError with the
    value, the rule and a fix for an unknown name, a wrong type, or an invalid value.
    """
    for name in given:
        if name not in parameters:
            raise unknown(name, parameters)
    try:
        return check_rules({k: _coerce(parameters[k], v) for k, v in given.items()})
    except (TypeError, ValueError) as problem:
        raise ParameterError(str(problem)) from None


def unknown(
    name: str, known: Iterable[str], where: str = "this notebook"
) -> ParameterError:
    """Return the error for an unknown name: it lists the known ones and the closest."""
    names = sorted(known)
    text = f"unknown parameter {name!r}; {where} has: {', '.join(names) or 'none'}"
    close = difflib.get_close_matches(name, names, n=1)
    return ParameterError(text + (f" (did you mean {close[0]!r}?)" if close else ""))


def _coerce(parameter: Parameter, value: object) -> Value:
    """Return a value in the parameter's type. Raises ParameterError if it has none."""
    convert, accepted, wanted, example = TYPES[parameter.type]
    plain = value
    if isinstance(value, os.PathLike) and parameter.type is str:
        plain = os.fspath(value)
    elif getattr(value, "shape", None) == () and hasattr(value, "item"):
        plain = value.item()  # a NumPy scalar, for which papermill injects its repr
    with contextlib.suppress(KeyError, ValueError, OverflowError):
        converted = convert(plain) if type(plain) in accepted else math.nan
        if isinstance(converted, str):
            converted.encode()  # a file name in another encoding is no text
            return converted
        if math.isfinite(converted):
            return converted
    raise ParameterError(
        f"parameter {parameter.name!r} is {value!r}; it must be {wanted} "
        f"({parameter.type.__name__}); try {parameter.name} {example}"
    )
