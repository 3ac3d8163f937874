"""Which releases of TensorFlow and Keras are installed, read without importing them."""

import contextlib
from importlib import metadata

NIGHTLIES = {"tensorflow": "tf-nightly", "keras": "keras-nightly"}


def release(package: str) -> str:
    """Return the release of an installed package, or of its nightly: "3.15.1".

    Raises RuntimeError if a nightly and a release are both installed: they overwrite
    each other's files. Raises PackageNotFoundError if neither is installed.
    """
    nightly = NIGHTLIES.get(package, package)
    found = {}
    for name in (package, nightly):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    if len(found) > 1:
        raise RuntimeError(
            f"{package} {found[package]} and {nightly} {found[nightly]} are installed "
            "in the same folder; uninstall both, then install one of them"
        )
    if not found:
        raise metadata.PackageNotFoundError(package)
    return found.popitem()[1]


def keras_before(minor: str, of: str | None = None) -> bool:
    """Return whether a release of Keras is older than a `minor` release like "3.16".

    The release is that of the installed Keras, unless given. Nightlies of a minor
    release count as that release.
    """
    one, other = (
        tuple(map(int, text.split(".")[:2])) for text in (of or release("keras"), minor)
    )
    return one < other
