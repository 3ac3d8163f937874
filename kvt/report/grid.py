"""Grid: the runs of a sweep, from lists of values or from a table, each one checked."""

import csv
import io
import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kvt.report import parameters
from kvt.report.parameters import Parameter, ParameterError, Value
from kvt.report.plan import READS, WRITES

Values = dict[str, Value]  # of one run, by parameter
RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)")
LARGEST = 1_000_000  # runs; a range with a zero too many would fill the memory


def runs(
    given: Sequence[tuple[str, str]],
    table: Path | None,
    known: Mapping[str, Parameter],
    *,
    zipped: bool = False,
) -> list[Values]:
    """Return the values of each run, in order, without those that are there before.

    `given` has lists of values by name, `0.1,0.2` or `0..9`: each value of one is tried
    with each of the others, or, `zipped`, the first with the first and so on. Each row
    of the `table` is tried with all of these. Raises ParameterError for an invalid
    value, before any run.
    """
    lists: dict[str, list[str]] = {}
    for name, text in given:
        if name in lists:
            raise ParameterError(
                f"parameter {name!r} is given twice; write one list: {name} 1,2"
            )
        lists[name] = _listed(name, text)
    rows = _rows(table) if table else [{}]
    if both := lists.keys() & {name for row in rows for name in row}:
        raise ParameterError(
            f"parameter {min(both)!r} is in {table} and given by -p; remove one"
        )
    lengths = {name: len(values) for name, values in lists.items()}
    if zipped and len({*lengths.values()}) > 1:
        told = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise ParameterError(f"--zip needs lists of equal length; {told}")
    zips = zipped and lists
    count = len(rows) * math.prod([*lengths.values()][: 1 if zips else None])
    if count > LARGEST:
        raise ParameterError(
            f"{count:,} runs; a sweep may have {LARGEST:,}; sweep in parts"
        )
    combine: Any = zip if zips else itertools.product
    found: dict[str, Values] = {}
    for row, values in itertools.product(rows, combine(*lists.values())):
        checked = _checked({**row, **dict(zip(lists, values, strict=True))}, known)
        found.setdefault(repr(checked), checked)
    return list(found.values())


def _checked(run: Mapping[str, object], known: Mapping[str, Parameter]) -> Values:
    """Return a run's values in the notebook's order; the sweep sets `results_path`."""
    for name in (WRITES, READS):
        if name in run:
            raise ParameterError(f"parameter {name!r}: the sweep sets it itself")
    try:
        checked = parameters.check(run, known)
    except ParameterError as problem:
        values = ", ".join(f"{name}={value}" for name, value in run.items())
        raise ParameterError(f"{problem} (in the run {values})") from None
    return {name: checked[name] for name in known if name in checked}


def _listed(name: str, text: str) -> list[str]:
    """Return the values in a text like `0.1,0.2`, `0..9` or `0..4,10`."""
    found: list[str] = []
    for part in text.split(","):
        part = part.strip()
        if match := RANGE.fullmatch(part):
            first, last = int(match[1]), int(match[2])
            if not 0 <= last - first < LARGEST:
                raise ParameterError(
                    f"parameter {name!r} has the range {part}; it must go up, in at "
                    f"most {LARGEST:,} steps; write {name} 0..9"
                )
            found += map(str, range(first, last + 1))
        elif part or text == "":
            found.append(part)
        else:
            raise ParameterError(
                f"parameter {name!r} is {text!r}, which has an empty value; write "
                f"{name} 1,2,3"
            )
    return found


def _rows(table: Path) -> list[dict[str, Any]]:
    """Read a table of runs: CSV with a header, or JSON with a list of objects."""
    try:
        text = table.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{table} is not UTF-8; save it as UTF-8") from None
    if table.suffix.lower() == ".json":
        try:
            rows = json.loads(text)
        except (ValueError, RecursionError) as problem:
            raise ValueError(f"{table} is not JSON: {problem}") from None
        if not isinstance(rows, list) or not all(isinstance(it, dict) for it in rows):
            raise ValueError(
                f"{table} must hold a list of objects, one for each run: "
                '[{"learning_rate": 0.1, "seed": 1}]'
            )
    elif table.suffix.lower() == ".csv":
        try:
            header, *lines = csv.reader(io.StringIO(text, newline=""), strict=True)
        except (csv.Error, ValueError) as problem:
            raise ValueError(f"{table} is not CSV with a header: {problem}") from None
        rows = [dict(zip(header, line, strict=False)) for line in lines if line]
        for number, line in enumerate(lines, start=2):
            if line and len(line) != len({*header}):
                raise ValueError(
                    f"{table}, line {number}: it must have as many values as the "
                    "header has different names"
                )
    else:
        raise ValueError(f"{table} is neither .csv nor .json; name the file like one")
    if not rows:
        raise ValueError(f"{table} has no run; write one in each line, after the names")
    return rows
