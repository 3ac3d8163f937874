"""Images, weights as images, and the confusion matrix."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from kvt.show.canvas import GREEN, LOOK, MAGENTA, SMALL, Floats, panels
from kvt.show.picture import INK, Picture, picture
from kvt.show.sources import Markdown

MINUS = "\N{MINUS SIGN}"
Titles = Sequence[tuple[str, ...]]  # the lines above each image


def digits(images: ArrayLike, y: ArrayLike) -> Picture:
    """Show images (n, 784) or (n, 28, 28, 1), in [0, 1], under their labels.

    y: the labels, one-hot (n, classes).
    """
    names = [str(label) for label in np.argmax(y, axis=1)]
    finding = f"{len(names)} handwritten digits of {len(set(names))} classes."
    data = f"Their labels: {', '.join(names)}."
    return _ink_tiles(images, [(name,) for name in names], 5, finding, data)


def mistakes(
    images: ArrayLike, y: ArrayLike, probabilities: ArrayLike
) -> Picture | Markdown:
    """Show the eight misclassified examples with the highest confidence, worst first.

    images and y: as for `digits`; probabilities: (n, classes). "4, not 9" is an example
    labeled 4 and taken for a 9.
    """
    p = np.asarray(probabilities, np.float64)
    labels, guesses, confidence = np.argmax(y, axis=1), p.argmax(axis=1), p.max(axis=1)
    wrong = np.flatnonzero(guesses != labels)
    if not wrong.size:
        return Markdown(f"No mistakes: all {len(p)} examples are classified correctly.")
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:8]
    pairs = [f"{labels[i]}, not {guesses[i]}" for i in worst]
    titles = [*zip(pairs, map(_percent, confidence[worst]), strict=True)]
    # Sorted: a near-tie in confidence would otherwise change the text.
    counted = [f"{pair} ({n}×)" for pair, n in sorted(Counter(pairs).items())]
    data = f"The {worst.size} surest mistakes: {'; '.join(counted)}."
    (most, n), *others = Counter(pairs).most_common()
    often = f", most often {most}" if n > max([1, *(n for _, n in others)]) else ""
    finding = f"The most confident of {wrong.size} mistakes{often}."
    return _ink_tiles(np.asarray(images)[worst], titles, 4, finding, data)


@style.context(LOOK)
def confusion(y: ArrayLike, probabilities: ArrayLike) -> Picture:
    """Draw a confusion matrix in which the errors stand out, not the correct answers.

    y: one-hot (n, classes); probabilities: (n, classes). A row is a label, a column a
    prediction. Raises ValueError if n differs.
    """
    from sklearn.metrics import confusion_matrix  # takes a second: not at the top

    classes = range(np.shape(y)[1])
    labels, guesses = np.argmax(y, axis=1), np.argmax(probabilities, axis=1)
    counts = confusion_matrix(labels, guesses, labels=classes)  # (classes, classes)
    errors = counts - np.diag(np.diag(counts))
    # The root lifts rare errors; text on 0.6 of the color stays legible.
    shade = 0.6 * np.sqrt(errors / max(1, errors.max()))
    figure, (ax,) = panels(1, height=380)
    figure.set_figwidth(440 / 72)
    ax.imshow(_diverging(shade), interpolation="none", aspect="auto", clip_on=False)
    ax.set_title("predicted", fontweight="normal", loc="center")
    ax.set_ylabel("label")
    ax.tick_params(length=0, labeltop=True, labelbottom=False)
    ax.set(xticks=classes, yticks=classes)
    ax.spines[:].set_visible(False)
    ax.grid(visible=False)
    for row, column in np.argwhere(counts):
        muted = 0.6 if row == column else 1
        place: dict[str, Any] = {"ha": "center", "va": "center_baseline"}
        text = str(counts[row, column])
        ax.text(column, row, text, fontsize=11, alpha=muted, **place)
    rows = [f"{label}: {', '.join(map(str, row))}." for label, row in enumerate(counts)]
    data = f"Counts by label. {' '.join(rows)}"
    return picture(figure, _confusion_finding(counts, errors), data)


def class_weights(weights: ArrayLike) -> Picture:
    """Show what each class looks for: weights (784, classes) as images, one scale."""
    images = _units(weights)
    titles = [(str(label),) for label in range(len(images))]
    return _signed_tiles(images, titles, 5, "a class")


def hidden_weights(weights: ArrayLike) -> Picture:
    """Show what each hidden unit looks for: weights (784, units), on one scale."""
    images = _units(weights)
    return _signed_tiles(images, [()] * len(images), 8, "a hidden unit")


def filters(kernels: ArrayLike) -> Picture:
    """Show convolution kernels (height, width, 1, n) as n small images, one scale."""
    images = np.moveaxis(np.squeeze(kernels, 2), -1, 0)
    return _signed_tiles(images, [()] * len(images), 8, "a filter")


def _units(weights: ArrayLike) -> Floats:
    """Return weights (784, units) as images (units, 28, 28)."""
    return np.transpose(weights).reshape(np.shape(weights)[1], 28, 28)


def _grid(
    images: Floats, titles: Titles, columns: int, foot: int = 0
) -> tuple[Figure, Axes, Floats, list[tuple[int, int]]]:
    """Arrange images (n, h, w) on one canvas, in image pixels, below their titles."""
    n, h, w = images.shape
    gap = max(1, w // 9)
    scale = SMALL / (columns * (w + gap))  # CSS px for an image pixel
    lines = len(titles[0])
    head = int(np.ceil((lines * 18 + 8) / scale)) if lines else 0
    rows = -(-n // columns)
    canvas = np.zeros((rows * (h + gap + head), columns * (w + gap)))
    height = canvas.shape[0] * scale
    figure = Figure(figsize=(SMALL / 72, (height + foot) / 72))
    ax = figure.add_axes((0, foot / (height + foot), 1, height / (height + foot)))
    ax.set(xlim=(0, canvas.shape[1]), ylim=(canvas.shape[0], 0))
    ax.axis("off")
    corners = []
    for i, (image, title) in enumerate(zip(images, titles, strict=True)):
        top, left = i // columns * (h + gap + head) + head, i % columns * (w + gap)
        canvas[top : top + h, left : left + w] = image
        corners.append((top, left))
        for up, text in enumerate(reversed(title)):
            y = top - (up * 18 + 4) / scale
            ax.text(left + w / 2, y, text, ha="center", va="baseline")
    return figure, ax, canvas, corners


@style.context(LOOK)
def _ink_tiles(
    images: ArrayLike, titles: Titles, columns: int, finding: str, data: str
) -> Picture:
    """Draw images in [0, 1] in the page's text color on its background."""
    pixels = np.asarray(images, np.float64).reshape(-1, 28, 28)
    figure, ax, canvas, _ = _grid(pixels, titles, columns)
    _paint(ax, np.repeat(canvas[:, :, None], 3, axis=2).clip(0, 1), gid="ink")
    return picture(figure, finding, data)


@style.context(LOOK)
def _signed_tiles(images: Floats, titles: Titles, columns: int, what: str) -> Picture:
    """Draw signed images on one scale: green above 0, magenta below, nothing at 0."""
    images = images.astype(np.float64)
    reach = f"weights from {images.min():.2g} to {images.max():.2g}".replace("-", MINUS)
    finding = f"Ink on green counts for {what}, on magenta against it; {reach}."
    # A few large weights would make all others pale.
    limit = float(np.quantile(np.abs(images), 0.995)) or 1.0
    figure, ax, canvas, corners = _grid(images, titles, columns, foot=40)
    _paint(ax, _diverging(canvas / limit))
    h, w = images.shape[1:]
    frames = [[(x, y), (x + w, y), (x + w, y + h), (x, y + h)] for y, x in corners]
    look: dict[str, Any] = {"facecolors": "none", "edgecolors": INK, "alpha": 0.3}
    ax.add_collection(PolyCollection(frames, linewidths=0.8, clip_on=False, **look))
    height = figure.get_figheight() * 72
    bar = figure.add_axes((0.3, 24 / height, 0.4, 10 / height))
    _paint(bar, _diverging(np.linspace(-1, 1, 101)[None, :]))
    bar.axis("off")
    ends = (f"≤ {MINUS}{limit:.2g}", "0", f"≥ {limit:.2g}")
    for x, text in zip((0, 0.5, 1), ends, strict=True):
        bar.text(x, -0.4, text, transform=bar.transAxes, ha="center", va="top")
    return picture(figure, finding, f"{len(images)} images on one scale.")


def _paint(ax: Axes, colors: Floats, gid: str | None = None) -> None:
    height, width = colors.shape[:2]
    box = (0, width, height, 0)
    ax.imshow(
        colors, extent=box, aspect="auto", interpolation="none", clip_on=False, gid=gid
    )


def _diverging(values: Floats) -> Floats:
    """RGBA (h, w, 4): green for 1, magenta for -1, in 10 steps, to spare bytes."""
    alpha = np.round(10 * np.abs(values).clip(0, 1)) / 10
    rgb = np.where(values[..., None] > 0, to_rgb(GREEN), to_rgb(MAGENTA))
    return np.dstack([rgb, alpha])


def _percent(p: float) -> str:
    """Return a share as a percentage; only 1 itself reads 100 %."""
    return "> 99 %" if 0.995 <= p < 1 else f"{100 * p:.0f} %"


def _confusion_finding(counts: NDArray[np.int64], errors: NDArray[np.int64]) -> str:
    right = np.trace(counts) / max(1, counts.sum())
    finding = f"{_percent(right)} of the predictions are right (the diagonal)"
    if not errors.any():
        return f"{finding}; there is no error."
    label, guess = np.unravel_index(errors.argmax(), errors.shape)
    return f"{finding}; the most frequent error is {label} taken for {guess}."
