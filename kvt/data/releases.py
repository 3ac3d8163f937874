"""Which release of Keras is installed, read without importing Keras."""

import contextlib
from importlib import metadata


def keras_release() -> str:
    """Return the release of the installed Keras, such as "3.15.1".

    Raises RuntimeError if a nightly and a release are both installed: they overwrite
    each other's files.
    """
    found = {}
    for name in ("keras", "keras-nightly"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    if len(found) > 1:
        raise RuntimeError(
            f"keras {found['keras']} and keras-nightly {found['keras-nightly']} are "
            "installed in the same folder; uninstall both, then install one of them"
        )
    return found.popitem()[1]


def keras_before(minor: str, release: str | None = None) -> bool:
    """Return whether a release of Keras is older than a `minor` release like "3.16".

    The release is that of the installed Keras, unless given. Nightlies of a minor
    release count as that release.
    """
    one, other = (
        tuple(map(int, text.split(".")[:2]))
        for text in (release or keras_release(), minor)
    )
    return one < other
