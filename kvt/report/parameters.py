"""What a notebook can be asked for, read from its `parameters` cell, and checked.

papermill takes what it is given: a misspelled name trains the defaults, "true" stays a
string. So names and types are settled here, before a kernel starts.
"""

import ast
import difflib
import io
import math
import numbers
import os
import tokenize
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nbformat import NotebookNode

from kvt.data import parameters as rules

Value = bool | int | float | str
WANTED = {bool: "true or false", int: "an integer", float: "a number", str: "a string"}
EXAMPLE = {bool: "true", int: "10", float: "0.01", str: "mnist"}


class ParameterError(ValueError):
    """A parameter that a notebook does not have, or cannot use."""


@dataclass(frozen=True)
class Parameter:
    """One typed, commented assignment of a `parameters` cell."""

    name: str
    type: type
    default: Value
    comment: str


def read(notebook: NotebookNode) -> dict[str, Parameter]:
    """Read the parameters of a notebook, in their order, without running it.

    The type is the annotation's, else the default's. Raises ParameterError where an
    assignment is no plain bool, int, float or str.
    """
    source = _tagged(notebook, "parameters")
    comments = _comments(source)
    found = {}
    for node, name, value in _assignments(source):
        kind = type(value)
        if isinstance(node, ast.AnnAssign):
            annotated = ast.unparse(node.annotation)
            kind = {kind.__name__: kind for kind in WANTED}.get(annotated, type(None))
        if kind is float and type(value) is int:
            value = float(value)
        if kind not in WANTED or type(value) is not kind:
            line = ast.unparse(node)
            raise ParameterError(
                f"{line!r} in the parameters cell: its type and its default must be "
                f"one and the same of bool, int, float, str, as in 'epochs: int = 5'"
            )
        comment = comments.get(node.end_lineno or 0, "")
        found[name] = Parameter(name, kind, value, comment)
    return found


def injected(notebook: NotebookNode) -> dict[str, Value]:
    """Read the values that papermill injected into an executed notebook."""
    source = _tagged(notebook, "injected-parameters")
    return {name: value for _, name, value in _assignments(source)}


def check(
    given: Mapping[str, object], parameters: Mapping[str, Parameter]
) -> dict[str, Value]:
    """Return the given values in their parameters' types, as papermill can inject them.

    A value is one of the type wanted, a NumPy scalar or a path that stands for one, or
    text that spells one. Raises ParameterError naming the value, the rule and the mend:
    for an unknown name, a wrong type, or a value out of range.
    """
    for name in given:
        if name not in parameters:
            raise unknown(name, parameters)
    values = {name: coerce(parameters[name], value) for name, value in given.items()}
    try:
        return rules.check(values)
    except (TypeError, ValueError) as problem:
        raise ParameterError(str(problem)) from None


def unknown(
    name: str, known: Iterable[str], where: str = "this notebook"
) -> ParameterError:
    """Say that no parameter has this name, which there are, and which may be meant."""
    names = sorted(known)
    text = f"unknown parameter {name!r}; {where} has: {', '.join(names) or 'none'}"
    close = difflib.get_close_matches(name, names, n=1)
    return ParameterError(text + (f" (did you mean {close[0]!r}?)" if close else ""))


def coerce(parameter: Parameter, value: object) -> Value:
    """Return the value in the parameter's own type, or refuse it."""
    plain = _plain(value)
    spelled = isinstance(plain, str) and not isinstance(value, os.PathLike)
    try:
        if parameter.type is str and isinstance(plain, str):
            return plain
        if parameter.type is bool and isinstance(plain, bool | str | int):
            return {"true": True, "1": True, "false": False, "0": False}[
                str(plain).lower()
            ]
        if parameter.type is int and (spelled or _is_number(plain, numbers.Integral)):
            return int(plain)  # type: ignore[call-overload, no-any-return]
        if parameter.type is float and (spelled or _is_number(plain, numbers.Real)):
            number = float(plain)  # type: ignore[arg-type]
            if math.isfinite(number):
                return number
    except (KeyError, ValueError, OverflowError):
        pass  # refused below, in one wording
    wanted, example = WANTED[parameter.type], EXAMPLE[parameter.type]
    finite = "finite " if parameter.type is float else ""
    raise ParameterError(
        f"parameter {parameter.name!r} is {value!r}; it must be "
        f"{wanted.replace('a number', f'a {finite}number')} "
        f"({parameter.type.__name__}); try {parameter.name} {example}"
    )


def _plain(value: object) -> object:
    """Unwrap a NumPy scalar or a path; papermill would inject either as its repr."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        return value.item()
    return value


def _is_number(value: object, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _tagged(notebook: NotebookNode, tag: str) -> str:
    """Source of the first code cell with the tag; "" where there is none."""
    for cell in notebook.cells:
        if cell.cell_type == "code" and tag in cell.metadata.get("tags", []):
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
                f"{ast.unparse(node)!r} in the parameters cell: the default must be "
                f"written out, as in 'epochs: int = 5'"
            ) from None


def _comments(source: str) -> dict[int, str]:
    """Comment at the end of each line, by line number."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {
        token.start[0]: token.string.lstrip("# ")
        for token in tokens
        if token.type == tokenize.COMMENT
    }
