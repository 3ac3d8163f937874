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

from kvt.show.canvas import (
    AMBER,
    BLUE,
    LOOK,
    WIDTH,
    Floats,
    panels,
    percent,
    positive,
    shaped,
)
from kvt.show.picture import INK, Picture, picture


def digits(images: ArrayLike, labels: ArrayLike, *, columns: int = 10) -> Picture:
    """Show images under their labels.

    images: (n, 784), (n, 28, 28) or (n, 28, 28, 1), in [0, 1]; labels: classes (n,) or
    one-hot (n, 10). Raises ValueError where shapes do not fit.
    """
    positive("columns", columns)
    pixels = _images(images)
    names = [str(c) for c in _classes("labels", labels, len(pixels))]
    alt = f"{len(pixels)} handwritten digits, labeled {', '.join(names)}."
    return _ink_tiles(pixels, [(name,) for name in names], columns, alt)


def mistakes(
    images: ArrayLike, labels: ArrayLike, probabilities: ArrayLike, *, count: int = 10
) -> Picture:
    """Show the misclassified examples with the highest confidence, worst first.

    images and labels: as for `digits`; probabilities: (n, classes). "4, not 9" is an
    example labeled 4 and taken for a 9. Raises ValueError where shapes do not fit.
    """
    positive("count", count)
    pixels = _images(images)
    true = _classes("labels", labels, len(pixels))
    p = shaped("probabilities", probabilities, (len(pixels), None))
    guess = p.argmax(axis=1)
    wrong = np.flatnonzero(guess != true)
    worst = wrong[np.argsort(-p[wrong, guess[wrong]], kind="stable")][:count]
    if not wrong.size:
        return _sentence(
            f"No mistakes: all {len(pixels)} examples are classified correctly."
        )
    pairs = [f"{true[i]}, not {guess[i]}" for i in worst]
    titles = [
        (pair, percent(p[i, guess[i]])) for pair, i in zip(pairs, worst, strict=True)
    ]
    # Sorted: a near-tie in confidence would otherwise change the text.
    counted = [f"{pair} ({n}×)" for pair, n in sorted(Counter(pairs).items())]
    alt = f"The {worst.size} surest mistakes: {'; '.join(counted)}."
    return _ink_tiles(pixels[worst], titles, 5, alt)


def confusion(
    labels: ArrayLike, predictions: ArrayLike, *, classes: int = 10
) -> Picture:
    """Draw a confusion matrix in which the errors stand out, not the correct answers.

    labels and predictions: classes (n,), or one-hot or probabilities (n, classes). A
    row is a label, a column a prediction. Raises ValueError where lengths differ or a
    class lies outside [0, classes).
    """
    from sklearn.metrics import confusion_matrix  # takes a second: not at the top

    true = _classes("labels", labels)
    guess = _classes("predictions", predictions, len(true))
    for name, values in (("labels", true), ("predictions", guess)):
        if values.size and not 0 <= values.min() <= values.max() < classes:
            raise ValueError(
                f"{name} lie in [{values.min()}, {values.max()}]; with {classes} "
                f"classes they must lie in [0, {classes - 1}]; pass more classes"
            )
    counts = confusion_matrix(true, guess, labels=range(classes))  # (classes, classes)
    errors = np.where(np.eye(classes, dtype=bool), 0, counts)
    # The root lifts rare errors; text on 0.6 of the color stays legible.
    shade = 0.6 * np.sqrt(errors / max(1, errors.max()))
    with style.context(LOOK):
        figure, (ax,) = panels(1, height=WIDTH * 0.94)
        ax.imshow(_diverging(shade), interpolation="none", aspect="auto", clip_on=False)
        ax.set_title("predicted", fontweight="normal", loc="center")
        ax.set_ylabel("label")
        ax.tick_params(length=0, labeltop=True, labelbottom=False)
        ax.set(xticks=range(classes), yticks=range(classes))
        ax.spines[:].set_visible(False)
        ax.grid(visible=False)
        for row, column in np.argwhere(counts):
            muted = 0.6 if row == column else 1
            place: dict[str, Any] = {"ha": "center", "va": "center_baseline"}
            text = str(counts[row, column])
            ax.text(column, row, text, fontsize=11, alpha=muted, **place)
        return picture(figure, _confusion_alt(counts, errors))


def class_weights(weights: ArrayLike) -> Picture:
    """Show what each class looks for: weights (784, 10) as ten images, one scale."""
    w = shaped("weights", weights, (784, None))
    titles = [(str(c),) for c in range(w.shape[1])]
    alt = f"The weights of the {w.shape[1]} classes as images, one for each class."
    return _signed_tiles(w.T.reshape(-1, 28, 28), titles, 5, alt)


def hidden_weights(weights: ArrayLike, *, count: int = 32) -> Picture:
    """Show the first `count` hidden units of weights (784, units), on one scale."""
    positive("count", count)
    w = shaped("weights", weights, (784, None))[:, :count]
    alt = f"The weights of {w.shape[1]} hidden units as images, one for each unit."
    return _signed_tiles(w.T.reshape(-1, 28, 28), [], 8, alt)


def filters(kernels: ArrayLike) -> Picture:
    """Show convolution kernels (height, width, 1, n) as n small images, one scale."""
    k = shaped("kernels", kernels, (None, None, 1, None))[:, :, 0, :]
    alt = f"The {k.shape[2]} filters of {k.shape[0]} by {k.shape[1]} as images."
    return _signed_tiles(k.transpose(2, 0, 1), [], 8, alt)


def _grid(
    images: Floats, titles: Sequence[tuple[str, ...]], columns: int, foot: int = 0
) -> tuple[Figure, Axes, Floats, list[tuple[int, int]]]:
    """Arrange images (n, h, w) on one canvas, in image pixels, below their titles."""
    n, h, w = images.shape
    gap = max(1, w // 9)
    scale = WIDTH / (columns * (w + gap))  # CSS px for an image pixel
    lines = max((len(t) for t in titles), default=0)
    head = int(np.ceil((lines * 15 + 8) / scale)) if lines else 0
    rows = -(-n // columns)
    canvas = np.zeros((rows * (h + gap + head), columns * (w + gap)))
    corners = []
    for i, image in enumerate(images):
        top, left = i // columns * (h + gap + head) + head, i % columns * (w + gap)
        canvas[top : top + h, left : left + w] = image
        corners.append((top, left))
    height = canvas.shape[0] * scale
    figure = Figure(figsize=(WIDTH / 72, (height + foot) / 72))
    ax = figure.add_axes((0, foot / (height + foot), 1, height / (height + foot)))
    ax.set(xlim=(0, canvas.shape[1]), ylim=(canvas.shape[0], 0))
    ax.axis("off")
    for (top, left), title in zip(corners, titles, strict=False):
        for up, text in enumerate(reversed(title)):
            y = top - (up * 15 + 4) / scale
            ax.text(left + w / 2, y, text, ha="center", va="baseline")
    return figure, ax, canvas, corners


def _ink_tiles(
    images: Floats, titles: Sequence[tuple[str, ...]], columns: int, alt: str
) -> Picture:
    """Draw images in [0, 1] in the page's text color on its background."""
    with style.context(LOOK):
        figure, ax, canvas, _ = _grid(images, titles, columns)
        _paint(ax, np.repeat(canvas[:, :, None], 3, axis=2).clip(0, 1), gid="ink")
        return picture(figure, alt)


def _signed_tiles(
    images: Floats, titles: Sequence[tuple[str, ...]], columns: int, alt: str
) -> Picture:
    """Draw signed images on one scale: amber above 0, blue below, transparent at 0."""
    # A few large weights would make all others pale.
    limit = float(np.quantile(np.abs(images), 0.995)) or 1.0
    with style.context(LOOK):
        figure, ax, canvas, corners = _grid(images, titles, columns, foot=40)
        _paint(ax, _diverging(canvas / limit))
        h, w = images.shape[1:]
        frames = [[(x, y), (x + w, y), (x + w, y + h), (x, y + h)] for y, x in corners]
        faint: dict[str, Any] = {"facecolors": "none", "edgecolors": INK, "alpha": 0.3}
        ax.add_collection(
            PolyCollection(frames, linewidths=0.8, clip_on=False, **faint)
        )
        height = figure.get_figheight() * 72
        bar = figure.add_axes((0.3, 24 / height, 0.4, 10 / height))
        _paint(bar, _diverging(np.linspace(-1, 1, 101)[None, :]))
        bar.axis("off")
        ends = (f"≤ \N{MINUS SIGN}{limit:.2g}", "0", f"≥ {limit:.2g}")
        for x, text in zip((0, 0.5, 1), ends, strict=True):
            bar.text(x, -0.4, text, transform=bar.transAxes, ha="center", va="top")
        return picture(figure, f"{alt} Amber is positive, blue negative.")


def _paint(ax: Axes, colors: Floats, gid: str | None = None) -> None:
    height, width = colors.shape[:2]
    box = (0, width, height, 0)
    ax.imshow(
        colors, extent=box, aspect="auto", interpolation="none", clip_on=False, gid=gid
    )


def _diverging(values: Floats) -> Floats:
    """RGBA (h, w, 4): amber for 1, blue for -1, in 10 steps, to spare bytes."""
    alpha = np.round(10 * np.abs(values).clip(0, 1)) / 10
    rgb = np.where(values[..., None] > 0, to_rgb(AMBER), to_rgb(BLUE))
    return np.dstack([rgb, alpha])


def _confusion_alt(counts: NDArray[np.int64], errors: NDArray[np.int64]) -> str:
    right = np.trace(counts) / max(1, counts.sum())
    alt = f"Confusion matrix: {percent(right)} of the examples on the diagonal"
    if not errors.any():
        return f"{alt}, no errors."
    label, guess = np.unravel_index(errors.argmax(), errors.shape)
    return f"{alt}; the most frequent error is {label} taken for {guess}."


def _images(images: ArrayLike) -> Floats:
    array = np.asarray(images, np.float64)
    if array.shape[1:] not in ((784,), (28, 28), (28, 28, 1)) or not len(array):
        raise ValueError(
            f"images has shape {array.shape}; it must be (n, 784), (n, 28, 28) or "
            "(n, 28, 28, 1) with n > 0; pass a batch, x[:n]"
        )
    return array.reshape(-1, 28, 28)


def _classes(name: str, values: ArrayLike, n: int | None = None) -> NDArray[np.int64]:
    """Classes (n,) from classes (n,) or from one-hot or probabilities (n, classes)."""
    array = np.asarray(values)
    rows = array.ndim == 2 and array.shape[1] > 1  # (n, 1) would all be class 0
    classes = array.argmax(axis=1) if rows else array
    if classes.ndim != 1 or n not in (None, len(classes)):
        length = "n" if n is None else n
        raise ValueError(
            f"{name} has shape {array.shape}; it must be ({length},) or "
            f"({length}, classes); pass one class or one row per example"
        )
    return classes.astype(np.int64)


def _sentence(text: str) -> Picture:
    with style.context(LOOK):
        figure = Figure(figsize=(WIDTH / 72, 40 / 72))
        figure.text(0.01, 0.5, text, va="center_baseline")
        return picture(figure, text)
