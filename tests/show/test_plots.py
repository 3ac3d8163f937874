import functools
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from importlib import resources

import numpy as np
import pytest

from kvt.show import images, plots
from kvt.show.plots import Picture

SVG = "http://www.w3.org/2000/svg"
RUN = {
    "loss": [2.0, 1.0, 0.5],
    "val_loss": [2.1, 1.2, 0.8],
    "accuracy": [0.2, 0.6, 0.9],
}
RATES = {"decay": np.geomspace(0.1, 0.01, 2_000), "pieces": [0.1] * 900 + [0.01] * 900}
LABELS = ("Keras", "TensorFlow 2", "TensorFlow 1")
GENERATOR = np.random.default_rng(7)
IMAGES = GENERATOR.uniform(size=(12, 784))
CLASSES = np.arange(12) % 10
Y = np.eye(10)[CLASSES]
PROBABILITIES = GENERATOR.dirichlet(np.ones(10), size=12)
X = GENERATOR.normal(size=(100, 1))
DENSE = GENERATOR.normal(size=(784, 32))
KERNELS = GENERATOR.normal(size=(5, 5, 1, 32))

FIGURES: dict[str, Callable[[], Picture]] = {
    "history": lambda: plots.history(dict.fromkeys(LABELS, RUN)),
    "rates": lambda: plots.rates(dict.fromkeys(LABELS, RATES)),
    "agreement": lambda: plots.agreement({LABELS[1]: [0, 0], LABELS[2]: [0, 7]}),
    "line": lambda: plots.line(X, 0.5 * X + 1, dict.fromkeys(LABELS, (0.5, 1.0))),
    "digits": lambda: images.digits(IMAGES, Y),
    "confusion": lambda: images.confusion(
        *np.eye(10)[np.random.default_rng(0).integers(10, size=(2, 500))]
    ),
    "mistakes": lambda: images.mistakes(IMAGES, Y, PROBABILITIES),
    "class_weights": lambda: images.class_weights(DENSE[:, :10]),
    "hidden_weights": lambda: images.hidden_weights(DENSE),
    "filters": lambda: images.filters(KERNELS),
}

every_figure = pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)


@functools.cache
def once(draw: Callable[[], Picture]) -> Picture:
    """Draw once for all tests that only look."""
    return draw()


def texts(picture: Picture) -> list[str]:
    drawn = ET.fromstring(picture.svg).iter(f"{{{SVG}}}text")
    return [element.text or "" for element in drawn]


def data(picture: Picture) -> str:
    return ET.fromstring(picture.svg).findtext(f"{{{SVG}}}desc") or ""


def luminance(color: str) -> float:
    channels = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels
    ]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@every_figure
def test_equal_data_give_equal_bytes(draw):
    assert draw() == draw()


def test_a_readers_matplotlib_settings_change_nothing():
    import matplotlib

    plain = FIGURES["history"]()
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black"}):
        assert FIGURES["history"]() == plain
        assert matplotlib.rcParams["font.size"] == 30


@every_figure
def test_svg_is_well_formed_scales_and_carries_its_alternative_text(draw):
    picture = once(draw)
    root = ET.fromstring(picture.svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.get("viewBox") == f"0 0 {root.get('width')} {root.get('height')}"
    assert root.get("role") == "img"
    assert root.get("aria-label") == picture.alt
    # A sentence, and the data beside it for those who do not see the figure.
    assert re.fullmatch(r"[^.]+(\.\d[^.]*)*\.", picture.alt)
    assert root[0].tag == f"{{{SVG}}}desc"
    assert data(picture)


@every_figure
def test_svg_takes_no_style_from_the_page_and_gives_none(draw):
    svg = once(draw).svg
    for banned in ("<style", "style=", "class=", "<metadata", "#000000", "#010203"):
        assert banned not in svg
    assert "currentColor" in svg
    assert not re.search(r'(href|src)="(?!#|data:image/png;base64,)', svg)


@every_figure
def test_svg_is_small(draw):
    assert len(once(draw).svg) < 48_000  # noise, which compresses worst, included


def test_ids_of_figures_in_one_page_never_clash():
    pictures = [once(draw) for draw in FIGURES.values()]
    pictures.append(images.digits(IMAGES[:11], Y[:11]))
    pictures.append(plots.history({"Keras": RUN}))
    ids = [i for p in pictures for i in re.findall(r' id="([^"]+)"', p.svg)]
    assert ids
    assert len(ids) == len(set(ids))


@every_figure
def test_each_reference_has_its_id_and_each_id_its_reference(draw):
    svg = once(draw).svg
    ids = set(re.findall(r' id="([^"]+)"', svg))
    assert ids == set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg))


LINE_CHARTS = ("history", "rates", "agreement", "line")


@pytest.mark.parametrize("name", LINE_CHARTS)
def test_line_charts_are_as_wide_as_the_text_and_not_flat(name):
    root = ET.fromstring(FIGURES[name]().svg)
    assert float(root.get("width")) == 680
    assert float(root.get("height")) >= 320


def boxes(picture: Picture) -> list[tuple[str, float, float, float, float]]:
    """Return each label with its left, right, top and bottom, generously measured."""
    found = []
    for element in ET.fromstring(picture.svg).iter(f"{{{SVG}}}text"):
        if "rotate" in element.get("transform", ""):
            continue
        size = float(element.get("font-size", "15px").removesuffix("px"))
        width = 0.55 * size * len(element.text or "")
        shift = {"middle": 0.5, "end": 1}.get(element.get("text-anchor", ""), 0)
        left = float(element.get("x")) - shift * width
        base = float(element.get("y"))
        found.append((element.text or "", left, left + width, base - size, base))
    return found


@every_figure
def test_no_label_touches_another(draw):
    labels = boxes(once(draw))
    for i, (one, left, right, top, bottom) in enumerate(labels):
        for other, left2, right2, top2, bottom2 in labels[:i]:
            apart = right <= left2 or right2 <= left or bottom <= top2 or bottom2 <= top
            assert apart, (one, other)


def test_a_picture_shows_itself_in_a_notebook():
    picture = FIGURES["agreement"]()
    data, metadata = picture._repr_mimebundle_()
    assert data == {"image/svg+xml": picture.svg, "text/plain": picture.alt}
    assert metadata == {"image/svg+xml": {"alt": picture.alt}}


def test_colors_have_contrast_on_light_and_dark_pages():
    used = {
        c for draw in FIGURES.values() for c in re.findall(r"#\w{6}\b", once(draw).svg)
    }
    others = {f"run {i}": {"loss": [i, i]} for i in range(5)}
    used |= set(re.findall(r"#\w{6}\b", plots.history(others).svg))
    assert len(used) >= 5
    for color in used:
        assert contrast(color, "#ffffff") >= 3, color
        assert contrast(color, "#15181d") >= 3, color


def test_a_dialect_has_one_color_in_figures_code_and_tables():
    styles = resources.files("kvt.report") / "templates" / "report" / "report.css"
    tokens = re.findall(
        r"(--\w+): light-dark\((#\w+), (#\w+)\);", styles.read_text("utf-8")
    )
    tokens = [
        [re.sub(r"^#(.)(.)(.)$", r"#\1\1\2\2\3\3", it) for it in own] for own in tokens
    ]
    light, dark = ({name: own[i] for name, *own in tokens} for i in (0, 1))
    drawn = set(re.findall(r"var\((--\w+)", FIGURES["history"]().svg))
    assert drawn == {"--keras", "--tf2", "--tf1"}
    for theme in (light, dark):
        for ground in ("--paper", "--shade"):
            for token in ("--ink", "--muted", "--link", *drawn):
                assert contrast(theme[token], theme[ground]) >= 4.5, (token, ground)


def test_equal_histories_are_drawn_on_each_other_and_called_equal():
    run = {"loss": [2.0, 1.0]}
    picture = plots.history({"Keras": run, "TensorFlow 2": run})
    assert "coincide exactly" in picture.alt
    paths = re.findall(r'<path d="([^"]*)"[^>]*stroke-width="[38]"', picture.svg)
    curves = [path for path in paths if paths.count(path) == 2]
    assert len(curves) == 2
    assert data(picture).startswith("Keras, loss by epoch: 2, 1.")


def test_curves_that_differ_name_the_ends_and_a_single_run_its_best_epoch():
    runs = {"SGD": {"loss": [2.0, 1.9]}, "Adam": {"loss": [2.0, 0.4]}}
    assert plots.history(runs).alt == (
        "The curves differ over 2 epochs: loss ends lowest for Adam, highest for SGD."
    )
    validated = {label: {"val_loss": run["loss"]} for label, run in runs.items()}
    assert "val_loss ends lowest for Adam" in plots.history(validated).alt
    stopped = {"loss": [3, 2, 1], "val_loss": [3, 2, 2.5]}
    for key in ("loss", "accuracy"):
        sign = 1 if key == "loss" else -1
        run = {
            name.replace("loss", key): [sign * v for v in values]
            for name, values in stopped.items()
        }
        alt = plots.history({"Keras": run}).alt
        assert alt == f"val_{key} is best after epoch 2 of 3."


def test_histories_one_bit_apart_are_called_different():
    run = {"loss": [2.0, 1.0]}
    near = {"loss": [2.0, float(np.nextafter(1.0, 2.0))]}
    assert "differ" in plots.history({"Keras": run, "TensorFlow 2": near}).alt


def test_history_has_a_panel_for_each_quantity_and_names_both_curves():
    shown = texts(plots.history({"Keras": RUN}))
    assert shown.count("training") == shown.count("validation") == 1
    assert {"loss", "accuracy", "epoch", "Keras", "1", "2", "3"} <= set(shown)
    assert "val_loss" not in shown


def test_history_of_one_epoch_without_validation_is_drawn():
    picture = plots.history({label: {"loss": [0.5]} for label in LABELS})
    assert picture.alt.endswith("coincide exactly after 1 epoch.")
    assert "validation" not in texts(picture)
    assert "<use" in picture.svg


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_leave_a_gap(bad):
    for losses in ([1.0, bad, 0.5], [1.0, bad], [bad], [bad, bad]):
        picture = plots.history({"Keras": {"loss": losses, "val_loss": losses}})
        assert not re.search(r"nan|inf\b", picture.svg)
        assert "no number" in data(picture)


def test_names_of_close_curves_do_not_touch():
    svg = plots.history({"Keras": {"loss": [2, 1], "val_loss": [2, 1]}}).svg
    heights = [
        float(y) for y in re.findall(r'y="([\d.]+)"[^>]*>(?:training|validation)<', svg)
    ]
    assert len(heights) == 2
    assert abs(heights[0] - heights[1]) >= 12


def test_rates_are_drawn_by_step_from_0_with_a_panel_for_each_schedule():
    shown = texts(plots.rates({"Keras": {"decay": [0.1, 0.05, 0.01], "flat": [0.1]}}))
    assert {"decay", "flat", "step", "0", "1", "2"} <= set(shown)
    assert not {"3", "epoch"} & set(shown)


def test_rates_say_whether_they_are_equal_and_give_ends_and_top_as_data():
    up = {"warm-up": [0.0, 0.1, 0.05], "flat": [0.1]}
    picture = plots.rates({"Keras": up, "TensorFlow 2": up})
    assert picture.alt == (
        "Keras and TensorFlow 2 use the same rate at each of 3 steps."
    )
    assert "TensorFlow 2, warm-up: 0 to 0.05, top 0.1." in data(picture)
    near = up | {"warm-up": [0.0, float(np.nextafter(0.1, 1)), 0.05]}
    differ = plots.rates({"Keras": up, "TensorFlow 2": near}).alt
    assert differ == "Keras and TensorFlow 2 differ in warm-up."
    assert "same" not in plots.rates({"Keras": up}).alt


def test_a_rate_that_holds_is_a_stair_however_long_the_run():
    for steps in (3, 3_000):
        rates = [0.1] * steps + [0.01] * steps + [0.001] * steps
        svg = plots.rates({"Keras": {"pieces": rates}}).svg
        (path,) = re.findall(r'<path d="([^"]*)"[^>]*stroke-width="8"', svg)[:1]
        points = np.reshape(re.findall(r"[-\d.]+", path), (-1, 2)).astype(float)
        moves = np.diff(points, axis=0)
        assert len(moves) >= 5
        assert (moves == 0).any(axis=1).all()  # along one axis each: no slope


def test_rates_of_a_long_run_are_thinned_but_keep_their_ends():
    svg = plots.rates({"Keras": {"decay": np.linspace(0.1, 0.0, 100_000)}}).svg
    (curve,) = re.findall(r'<path d="([^"]*)"[^>]*stroke-width="8"', svg)[:1]
    assert 100 < curve.count("L") < 750
    short = plots.rates({"Keras": {"decay": [0.1, 0.0]}}).svg
    (two,) = re.findall(r'<path d="([^"]*)"[^>]*stroke-width="8"', short)[:1]
    heights = [re.findall(r"[-\d.]+", path)[1::2] for path in (curve, two)]
    first, last = heights[0][0], heights[0][-1]
    assert heights[1] == [first, first, last]  # a rate holds for its whole step


def test_agreement_says_who_differs():
    picture = plots.agreement({"TensorFlow 2": [0, 0], "TensorFlow 1": [0, 3]})
    assert picture.alt == (
        "TensorFlow 1 differs from Keras by at most 10 ulp and TensorFlow 2 by no bit."
    )
    assert "TensorFlow 1, ulp by epoch: 0, 3." in data(picture)
    assert "0: same bits" in texts(picture)


def test_zeros_alone_are_a_sentence_not_a_figure():
    said = plots.agreement({"TensorFlow 2": [0] * 3, "TensorFlow 1": [0] * 3})
    assert said.text == (
        "**0 ulp in all 3 epochs** of TensorFlow 2 and TensorFlow 1: every weight has "
        "the bits of Keras's."
    )
    once = plots.agreement({"TensorFlow 2": [0]}).text
    assert once.startswith("**0 ulp after 1 epoch**")


@pytest.mark.parametrize(
    ("ulp", "bound"),
    [(1, "1"), (2, "10"), (10, "10"), (11, "100"), (2**31, "10,000,000,000")],
)
def test_agreement_bounds_distances_by_powers_of_ten(ulp, bound):
    alt = plots.agreement({"TensorFlow 1": [ulp]}).alt
    assert alt == f"TensorFlow 1 differs from Keras by at most {bound} ulp."


def test_line_accepts_weights_as_tensorflow_holds_them():
    x = X[:, 0]
    arrays = {"Keras": (np.float32([[0.5]]), np.float32([-1.0]))}
    picture = plots.line(x, x, arrays)
    assert picture.alt == "Keras fit the line y = 0.50 x - 1.00 to 100 examples."
    other = plots.line(x, x, arrays | {"TensorFlow 2": (0.75, 2)})
    assert "fit 2 different lines to 100" in other.alt
    assert "TensorFlow 2: y = 0.75 x + 2.00." in data(other)


def test_images_are_flat_or_have_a_channel():
    flat = images.digits(IMAGES, Y)
    assert images.digits(IMAGES.reshape(-1, 28, 28, 1), Y) == flat
    assert flat.alt == "12 handwritten digits of 10 classes."
    assert data(flat).startswith("Their labels: 0, 1, 2, ")


def test_mistakes_are_ordered_by_the_confidence_in_the_wrong_class():
    p = np.array([[0.1, 0.9], [0.02, 0.98], [0.7, 0.3], [0.001, 0.999]])
    picture = images.mistakes(IMAGES[:4], np.eye(2)[[0, 0, 0, 0]], p)
    assert picture.alt == "The most confident of 3 mistakes, most often 0, not 1."
    assert data(picture) == "The 3 surest mistakes: 0, not 1 (3×)."
    assert [t for t in texts(picture) if "%" in t] == ["> 99 %", "98 %", "90 %"]


def test_a_model_without_mistakes_says_so():
    said = images.mistakes(IMAGES[:2], np.eye(2), np.eye(2)).text
    assert said == "No mistakes: all 2 examples are classified correctly."


def test_confusion_matrix_counts_labels_by_row_and_predictions_by_column():
    predictions = np.eye(3)[[0, 2, 1, 2]]
    picture = images.confusion(np.eye(3)[[0, 0, 1, 2]], predictions)
    counts = [text for text in texts(picture) if text.isdigit()]
    # Labels of both axes, then the counts above 0: row by row.
    assert counts == [*"012012", "1", "1", "1", "1"]
    assert picture.alt.endswith("the most frequent error is 0 taken for 2.")
    assert "75 %" in picture.alt
    assert data(picture).endswith("0: 1, 0, 1. 1: 0, 1, 0. 2: 0, 0, 1.")


def test_zero_weights_are_drawn():
    assert images.class_weights(np.zeros((784, 10))).svg


def test_markup_in_a_label_stays_text():
    label = '<script>alert("$x$")</script>'
    picture = plots.history({label: {"loss": [1.0, 0.5]}})
    assert "<script" not in picture.svg
    assert label in texts(picture)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.line(X, X[1:], {"Keras": (1, 0)}), "same first dimension"),
        (lambda: images.digits(IMAGES[:, 1:], Y), "cannot reshape array of size 9396"),
        (lambda: images.digits(IMAGES, Y[1:]), "shorter"),
        (lambda: images.digits(IMAGES, CLASSES), "axis 1 is out of bounds"),
        (lambda: images.mistakes(IMAGES, Y[1:], PROBABILITIES), "broadcast"),
        (lambda: images.confusion(Y[1:], PROBABILITIES), "inconsistent numbers"),
        (lambda: images.class_weights(DENSE.T), r"into shape \(784,28,28\)"),
        (lambda: images.filters(DENSE), "axis 2 is out of bounds"),
        (lambda: images.filters(KERNELS.reshape(5, 5, 4, 8)), "cannot select an axis"),
    ],
)
def test_arrays_that_do_not_fit_are_rejected(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


def test_pyplot_and_ipython_are_not_imported():
    code = (
        "import sys, kvt.show.plots as p; p.agreement({'TensorFlow 2': [0]});"
        "print({'matplotlib.pyplot', 'IPython', 'tensorflow'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.strip() == "set()", run.stderr
