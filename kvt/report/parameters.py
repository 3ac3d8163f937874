"""Parameters: what a notebook's `parameters` cell declares, and checks of given values.

papermill injects whatever it is given: a misspelled name trains with the defaults, and
"true" stays a string. So names and types are checked here, before a kernel starts.
"""

import ast
import difflib
import math
import os
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
    str: (str, (str,), "a string", "mnist"),
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

    The annotation gives the type, else the default does. Raises ParameterError if an
    assignment is not a plain bool, int, float or str.
    """
    source = _tagged(notebook, "parameters")
    lines = source.splitlines()
    found = {}
    for node, name, value in _assignments(source):
        kind = type(value)
        if isinstance(node, ast.AnnAssign):
            annotated = ast.unparse(node.annotation)
            kind = {kind.__name__: kind for kind in TYPES}.get(annotated, type(None))
        if kind is float and type(value) is int:
            value = float(value)
        if kind not in TYPES or type(value) is not kind:
            raise ParameterError(
                f"{ast.unparse(node)!r} in the parameters cell: type and default must "
                f"both be bool, int, float or str; write it like 'epochs: int = 5'"
            )
        line = lines[(node.end_lineno or 1) - 1].encode()
        comment = line[node.end_col_offset :].decode().lstrip(" #")
        found[name] = Parameter(name, kind, value, comment)
    return found


def check(
    given: Mapping[str, object], parameters: Mapping[str, Parameter]
) -> dict[str, Value]:
    """Return the given values in their parameters' types, as papermill can inject them.

    A value may have the parameter's type, be a NumPy scalar or a path, or spell the
    value as text. Raises ParameterError with the value, the rule and a fix for an
    unknown name, a wrong type, or a value out of range.
    """
    for name in given:
        if name not in parameters:
            raise unknown(name, parameters)
    values = {name: coerce(parameters[name], value) for name, value in given.items()}
    try:
        return check_rules(values)
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


def coerce(parameter: Parameter, value: object) -> Value:
    """Return a value in the parameter's type. Raises ParameterError if it has none."""
    convert, accepted, wanted, example = TYPES[parameter.type]
    plain = value
    if isinstance(value, os.PathLike) and parameter.type is str:
        plain = os.fspath(value)  # papermill would inject its repr
    elif getattr(value, "shape", None) == () and hasattr(value, "item"):
        plain = value.item()  # a NumPy scalar, and its repr
    try:
        if type(plain) in accepted:
            converted = convert(plain)
            if isinstance(converted, str) or math.isfinite(converted):
                return converted
    except (KeyError, ValueError, OverflowError):
        pass  # one message for all of these, below
    raise ParameterError(
        f"parameter {parameter.name!r} is {value!r}; it must be {wanted} "
        f"({parameter.type.__name__}); try {parameter.name} {example}"
    )


def _tagged(notebook: NotebookNode, tag: str) -> str:
    """Return the source of the first code cell with the tag, or "" without one."""
    for cell in notebook.cells:
        if cell.cell_type == "code" and tag in tags(cell):
            return str(cell.source)
    return ""


def _assignments(source: str) -> Iterable[tuple[ast.stmt, str, Any]]:
    """Yield (statement, name, literal value) of each assignment to one name."""
    try:
        statements = ast.parse(source).body
    except SyntaxError as error:
        raise ParameterError(
            f"the parameters cell is not Python: {error.msg} in its line {error.lineno}"
        ) from None
    for node in statements:
        match node:
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                pass
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                pass
            case _:
                continue
        try:
            yield node, name, ast.literal_eval(value)
        except ValueError:
            raise ParameterError(
                f"{ast.unparse(node)!r} in the parameters cell: the default must be a "
                f"literal; write it like 'epochs: int = 5'"
            ) from None
