"""What would change with the newest release of every dependency? No pin is touched.

It resolves the newest releases, installs them into a temporary environment, and runs
the probe of `benchmarks.versions`, the tests of parity and the notebooks there. It
prints what changed in bits, behaviors, outputs and speed, and exits with 1 if anything
but the speed did. `--nightly` takes the nightlies of TensorFlow and Keras instead.

    python -m benchmarks.upgrade
    python -m benchmarks.upgrade --nightly
"""

import argparse
import json
import re
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.versions import ROOT, UV, agrees, run, verdict

NIGHTLIES = {"tensorflow": "tf-nightly", "keras": "keras-nightly"}
TESTS = ("tests/data/test_order.py", "tests/notebooks/test_bit_for_bit.py")
TESTS += ("tests/notebooks/test_programs.py",)
PIN = re.compile(r"^([a-z0-9-]+)==(\S+)", re.MULTILINE)


def newest(folder: Path, nightly: bool) -> dict[str, str]:
    """Resolve the newest releases; return them by name, and keep them in a file."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    pins = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    names = [re.split("[=<>]", pin)[0] for pin in pins]
    options = []
    if nightly:
        names = [NIGHTLIES.get(name, name) for name in names]
        excluded = [f"{name} ; python_version < '3'" for name in NIGHTLIES]
        (folder / "excluded").write_text("\n".join(excluded), "utf-8")
        options = ["--overrides", str(folder / "excluded"), "--prerelease", "allow"]
    (folder / "wanted").write_text("\n".join(names), "utf-8")
    compiled = run(UV, "pip", "compile", "-q", *options, folder / "wanted")
    if compiled.returncode:
        raise SystemExit(compiled.stderr)
    (folder / "resolved").write_text(compiled.stdout, "utf-8")
    return dict(PIN.findall(compiled.stdout))


def moved(versions: dict[str, str]) -> list[str]:
    """List the packages whose release is not the lock's."""
    locked = dict(PIN.findall((ROOT / "requirements.lock").read_text("utf-8")))
    return [
        f"{name} {locked.get(name, '(not locked)')} → {version}"
        for name, version in versions.items()
        if locked.get(name) != version
    ]


def probed(python: Any) -> dict[str, Any]:
    """Run the probe; return what it found, or its error."""
    found = run(python, "-m", "benchmarks.versions_probe")
    if found.returncode:
        return {"error": found.stderr.strip().splitlines()[-1]}
    return json.loads(found.stdout.splitlines()[-1])


def differences(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    """Say which behaviors of Keras changed."""
    before, after = old.get("behaviors", {}), new.get("behaviors", {})
    for name in dict.fromkeys([*before, *after]):
        one, other = before.get(name, "absent"), after.get(name, "absent")
        if one != other and "\n" not in one + other:
            yield f"{name}: {one} → {other}"
        elif one != other:
            yield f"{name} changed"


def tested(python: Any, *arguments: object) -> str:
    """Run pytest; return what it prints, without colors."""
    flags = ("-q", "-p", "no:cacheprovider", "--timeout=1800", "--tb=line")
    out = run(python, "-m", "pytest", *flags, *arguments).stdout
    return re.sub(r"\x1b\[\d+m", "", out)


def failures(python: Any, *arguments: str) -> list[str]:
    """Run tests; return the lines that say what failed."""
    out = tested(python, *arguments)
    failed = r"^(?:FAILED|ERROR) .+$|^.*the order of examples changed.*$"
    lines = re.findall(failed, out, re.MULTILINE)
    return lines or ([] if " passed" in out else out.splitlines()[-3:])


def outputs(python: Any, notebook: Path) -> Iterator[str]:
    """Run a notebook; say which cells fail or print something else, and how many."""
    out = tested(python, "--nbval", notebook)
    cells: dict[str, list[str]] = {}
    for number, what in re.findall(r"^Cell (\d+): (.+)$", out, re.MULTILINE):
        cells.setdefault(what, []).append(number)
    for what, numbers in cells.items():
        yield f"{notebook.name}, code cells {', '.join(numbers)}: {what}"
    if not cells and " passed" not in out:
        yield f"{notebook.name}: {out.splitlines()[-1]}"


def report(title: str, lines: list[str], otherwise: str) -> bool:
    """Print a part of the report; return whether there is anything in it."""
    print(f"\n{title}")
    print("\n".join(f"  {line}" for line in lines or [otherwise]), flush=True)
    return bool(lines)


def command() -> int:
    """Print what changes; return 1 if bits, behaviors or outputs do."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nightly", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kvt-upgrade-") as name:
        folder = Path(name)
        news = moved(newest(folder, options.nightly))
        if not report("Releases", news, "all are those of requirements.lock"):
            return 0
        python = folder / "venv/bin/python"
        run(UV, "venv", "-q", "--python", sys.executable, folder / "venv")
        install = [UV, "pip", "install", "-q", "--python", python, "--no-deps"]
        installed = run(*install, "-r", folder / "resolved")
        if installed.returncode:
            raise SystemExit(installed.stderr)
        old, new = probed(sys.executable), probed(python)
        same = "equal in every training of the four models"
        bits = [] if agrees(new) else [new.get("error") or f"{verdict(new)} ulp"]
        changed = report("Bits: distance from Keras", bits, same)
        changed |= report("Parity tests", failures(python, *TESTS), "all pass")
        changed |= report("Keras's behaviors", [*differences(old, new)], "all the same")
        notebooks = sorted(ROOT.glob("notebooks/0[1-4]_*.ipynb"))
        found = [line for each in notebooks for line in outputs(python, each)]
        changed |= report("Notebooks' outputs", found, "all the same")
        times = new.get("epoch_ms", {})
        speed = [
            f"{k}: {old['epoch_ms'][k]} → {ms} ms per epoch" for k, ms in times.items()
        ]
        report("Speed, feedforward network", speed, "not measured")
    return int(changed)


if __name__ == "__main__":
    raise SystemExit(command())
