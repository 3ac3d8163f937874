"""For which releases of TensorFlow and Keras does it hold, and what changed when?

Each pair gets an environment of its own in a temporary folder, made by uv from the
dependencies of pyproject.toml; `versions_probe.py` runs there and prints JSON. Results
are kept in build/versions, so an interrupted run continues; `--again` measures anew.
Writes versions.md and versions.svg beside this file, and versions.json, their data.

    python -m benchmarks.versions
    python -m benchmarks.versions --tensorflow 2.18.1 2.21.0 --keras 3.8.0 3.15.1
"""

import argparse
import itertools
import json
import operator
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
KEPT = ROOT / "build/versions"
UV = Path(sys.executable).with_name("uv")
TF_NIGHTLY, KERAS_NIGHTLY = "2.23.0.dev20261026", "3.16.0.dev2026102704"
# The oldest and the newest Keras that each TensorFlow takes, and each Keras with one
# TensorFlow at least. Those that say most come first.
PAIRS = [
    *[("2.21.0", keras) for keras in ("3.15.1", KERAS_NIGHTLY)],
    *[("2.18.1", "3.7.0"), ("2.16.2", "3.15.1"), (TF_NIGHTLY, KERAS_NIGHTLY)],
    *[("2.17.1", "3.15.1"), ("2.20.0", "3.10.0"), ("2.19.1", "3.11.3")],
    *[("2.18.1", keras) for keras in ("3.6.0", "3.8.0", "3.9.2", "3.15.1")],
    *[("2.21.0", keras) for keras in ("3.12.4", "3.13.2", "3.14.1")],
    *[(TF_NIGHTLY, "3.15.1"), ("2.20.0", "3.15.1"), ("2.19.1", "3.15.1")],
    *[("2.16.2", "3.3.3"), ("2.17.1", "3.4.1"), ("2.19.1", "3.5.0")],
]
LIBRARY = ("numpy", "tensorflow", "keras", "tensorboard")
Pair = tuple[str, str]  # the releases of TensorFlow and of Keras
Found = dict[str, Any]


def requirements(pair: Pair) -> tuple[list[str], list[str]]:
    """Return what to install for a pair, and what must not be installed beside it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = ["numpy", "tensorboard"]
    pins = {re.split("[=<>]", pin)[0]: pin for pin in project["dependencies"]}
    wanted += [pin for name, pin in pins.items() if name not in LIBRARY]
    excluded = []
    for release, name, nightly in zip(
        pair, ("tensorflow", "keras"), ("tf-nightly", "keras-nightly"), strict=True
    ):
        is_nightly = "dev" in release
        wanted.append(f"{nightly if is_nightly else name}=={release}")
        excluded.append(name if is_nightly else nightly)
    if "dev" in pair[0]:  # TensorBoard's nightly has its place
        wanted.remove("tensorboard")
    return wanted, excluded


def measure(pair: Pair) -> Found:
    """Make an environment, run the probe in it, and delete it."""
    with tempfile.TemporaryDirectory(prefix="kvt-versions-") as folder:
        python, excludes = Path(folder, "venv/bin/python"), Path(folder, "excludes")
        wanted, excluded = requirements(pair)
        nowhere = [f"{name} ; python_version < '3'" for name in excluded]
        excludes.write_text("\n".join(nowhere), "utf-8")
        run(UV, "venv", "-q", "--python", sys.executable, Path(folder, "venv"))
        command = [UV, "pip", "install", "-q", "--python", python]
        found = run(*command, "--overrides", excludes, *wanted)
        if found.returncode:
            return {"unresolved": found.stderr.strip()[-1000:]}
        found = run(python, "-m", "benchmarks.versions_probe")
        if found.returncode:
            return {"error": found.stderr.strip()[-2000:]}
        return json.loads(found.stdout.splitlines()[-1])


def run(*command: object) -> Any:
    """Run a command in the checkout, and capture what it prints."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(
        [*map(str, command)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def results(pairs: list[Pair], again: bool) -> dict[Pair, Found]:
    """Measure each pair that was not measured before; keep what was found.

    Pairs that cannot be installed are told, and left out.
    """
    KEPT.mkdir(parents=True, exist_ok=True)
    found = {}
    for pair in pairs:
        kept = KEPT / "{}+{}.json".format(*pair)
        if again or not kept.exists():
            print("TensorFlow {}, Keras {} …".format(*pair), flush=True)
            kept.write_text(json.dumps(measure(pair)), "utf-8")
        one = json.loads(kept.read_text("utf-8"))
        if "unresolved" in one:
            print("TensorFlow {}, Keras {}: cannot be installed".format(*pair))
        else:
            found[pair] = one
    return found


def cases(found: Found) -> list[Found]:
    """Return what was found in each training of each model."""
    return [case for model in found.get("parity", {}).values() for case in model]


def largest(found: Found) -> int | None:
    """Return the largest distance in ulp of any weight; None if not measured."""
    if not cases(found) or any("error" in case for case in cases(found)):
        return None
    names = ("tf2", "tf1")
    return max(ulp for case in cases(found) for name in names for ulp in case[name])


def unequal_metrics(found: Found) -> list[str]:
    """Return the metrics that differ from Keras's in any case."""
    names = ("tf2 metrics", "tf1 metrics")
    lists = [case.get(name, ()) for case in cases(found) for name in names]
    return sorted({*itertools.chain(*lists)})


def agrees(found: Found) -> bool:
    """Whether a pair has the same bits, in one call per step and per epoch."""
    same = largest(found) == 0 and not unequal_metrics(found)
    return same and found["whole epochs"] == "True"


def verdict(found: Found) -> str:
    """Say in a few words what was found."""
    if agrees(found):
        return "0"
    if "error" in found:
        return "kvt does not run"
    if (ulp := largest(found)) is None:
        error = next(case["error"] for case in cases(found) if "error" in case)
        return f"a training fails: {error.split(':')[0]}"
    metrics = ", ".join(f"`{name}`" for name in unequal_metrics(found))
    return f"{ulp:,}" + (f"; unequal: {metrics}" if metrics else "")


def by_release(release: str) -> list[int]:
    """Sort releases as numbers."""
    return [int(part) for part in re.findall(r"\d+", release)]


def rows(found: dict[Pair, Found]) -> list[str]:
    """Return the table of all pairs that could be installed."""
    lines = [
        "| TensorFlow | Keras | NumPy | distance in ulp | order follows | Keras, ms "
        "| kvt, ms | kvt, one call per epoch, ms |",
        "| ---: | ---: | ---: | --- | --- | ---: | ---: | ---: |",
    ]
    for pair in sorted(found, key=lambda pair: [*map(by_release, pair)]):
        one = found[pair]
        order = one.get("behaviors", {}).get("order of examples follows", "")
        ms = one.get("epoch_ms", {}).values()
        times = [f"{value:.1f}" for value in ms] or [""] * 3
        numpy = one.get("versions", {}).get("numpy", "")
        cells = [*pair, numpy, verdict(one), order, *times]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def changes(found: dict[Pair, Found]) -> list[str]:
    """Return the table of behaviors that some release of Keras changed."""
    lines = ["| behavior | Keras | |", "| --- | --- | --- |"]
    by_keras: dict[str, dict[str, str]] = {}
    for pair in sorted(found, key=lambda pair: [*map(by_release, pair)]):
        if behaviors := found[pair].get("behaviors"):
            by_keras.setdefault(pair[1], {}).update(behaviors)
    releases = sorted(by_keras, key=by_release)
    names = dict.fromkeys(name for one in by_keras.values() for name in one)
    for name in names:
        values = [(k, by_keras[k].get(name, "absent")) for k in releases]
        by_value = itertools.groupby(values, operator.itemgetter(1))
        groups = [(value, list(group)) for value, group in by_value]
        if len(groups) == 1:
            continue
        for value, group in groups:
            first, last = group[0][0], group[-1][0]
            span = first if first == last else f"{first} – {last}"
            label = f"the text below {first}" if "\n" in value else value
            lines.append(f"| {name} | {span} | {label} |")
    return lines


def picture(found: dict[Pair, Found]) -> str:
    """Draw a grid: a row per TensorFlow, a column per Keras, a disc per pair."""
    tensorflows = sorted({pair[0] for pair in found}, key=by_release)
    kerases = sorted({pair[1] for pair in found}, key=by_release)
    width, height = 190 + 52 * len(kerases), 92 + 34 * len(tensorflows)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="13" role="img" '
        'aria-label="Which pairs of TensorFlow and Keras agree bit for bit">',
        "<title>Which pairs of TensorFlow and Keras agree bit for bit</title>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for column, keras in enumerate(kerases):
        at = f"{166 + 52 * column} 76"
        parts.append(
            f'<text transform="translate({at}) rotate(-40)">{short(keras)}</text>'
        )
    parts.append('<text x="12" y="76">TensorFlow, by Keras</text>')
    for row, tensorflow in enumerate(tensorflows):
        y = 104 + 34 * row
        parts.append(f'<text x="12" y="{y + 4}">{short(tensorflow)}</text>')
        for column, keras in enumerate(kerases):
            if one := found.get((tensorflow, keras)):
                parts.append(disc(172 + 52 * column, y, one))
    return "\n".join([*parts, "</svg>", ""])


def disc(x: int, y: int, found: Found) -> str:
    """Draw a pair: a full disc if it agrees, a ring with a number if it does not."""
    if agrees(found):
        return f'<circle cx="{x}" cy="{y}" r="10" fill="#1b7f4d"/>'
    ulp = largest(found)
    text = "?" if ulp is None else "≠" if ulp > 99 or not ulp else str(ulp)
    ring = f'<circle cx="{x}" cy="{y}" r="10" fill="none" stroke="#b34a00" '
    ring += 'stroke-width="2"/>'
    return f'{ring}<text x="{x}" y="{y + 5}" text-anchor="middle">{text}</text>'


def short(release: str) -> str:
    """Shorten a nightly's release to its date."""
    return re.sub(r"\.0\.dev\d{4}(\d\d)(\d\d).*", r" (\1-\2)", release)


def write(found: dict[Pair, Found]) -> None:
    """Write the table, the changes and the picture, with the notes between them."""
    notes = Path(__file__).with_name("versions_notes.md").read_text("utf-8")
    shown = sum(map(agrees, found.values()))
    others = [one.get("with plus") for one in found.values() if not agrees(one)]
    facts = {
        "shown": f"{shown} of {len(found)} pairs",
        "plus": f"{others.count('0')} of the {len(others)} pairs that do not agree",
        "table": "\n".join(rows(found)),
        "changes": "\n".join(changes(found)),
    }
    text = re.sub(r"\{(\w+)\}", lambda match: facts[match[1]], notes)
    Path(__file__).with_name("versions.md").write_text(text, "utf-8")
    Path(__file__).with_name("versions.svg").write_text(picture(found), "utf-8")


def command() -> None:
    """Measure, then write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tensorflow", nargs="+", metavar="RELEASE")
    parser.add_argument("--keras", nargs="+", metavar="RELEASE")
    parser.add_argument("--again", action="store_true", help="measure known pairs, too")
    options = parser.parse_args()
    pairs = PAIRS
    if options.tensorflow or options.keras:
        pairs = [
            *itertools.product(
                options.tensorflow or sorted({pair[0] for pair in PAIRS}),
                options.keras or sorted({pair[1] for pair in PAIRS}),
            )
        ]
    found = results(pairs, options.again)
    if pairs is PAIRS:
        write(found)
    print("\n".join(rows(found) + changes(found)))


if __name__ == "__main__":
    command()
