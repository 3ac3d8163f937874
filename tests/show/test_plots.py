import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable

import numpy as np
import pytest

from kvt.show import causes, costs, images, plots
from kvt.show.plots import Picture

RUN = {
    "loss": [2.0, 1.0, 0.5],
    "val_loss": [2.1, 1.2, 0.8],
    "accuracy": [0.2, 0.6, 0.9],
}
RATES = {"decay": np.geomspace(0.1, 0.01, 2_000), "pieces": [0.1] * 4 + [0.01] * 4}
LABELS = ("Keras", "TensorFlow 2", "TensorFlow 1")
GENERATOR = np.random.default_rng(7)
IMAGES = GENERATOR.uniform(size=(12, 784))
CLASSES = np.arange(12) % 10
Y = np.eye(10)[CLASSES]
PROBABILITIES = GENERATOR.dirichlet(np.ones(10), size=12)
X = GENERATOR.normal(size=(100, 1))
DENSE = GENERATOR.normal(size=(784, 32))
KERNELS = GENERATOR.normal(size=(5, 5, 1, 32))
EFFECTS = {
    "Sum": {"loss": [300.0, 200.0], "weights": [7.0, np.inf], "accuracy": [80.0, 84.0]},
    "Order": {"loss": [0.02, 0.03], "weights": [0.1, 0.2], "accuracy": [1.0, 0.0]},
    "Rounding": {"loss": [0.0, 3e-8], "weights": [1e-8, 1e-7], "accuracy": [0.0, 0.0]},
    "Report": {"loss": [0.0, 0.0], "weights": [0.0, 0.0], "accuracy": [9.0, 8.0]},
    "Line": {"loss": [0.3, 0.2], "weights": [0.5, 0.4]},
}
MODES = {"eager": 900.0, "graph": 470.0, "epoch": 300.0, "XLA": 2.5}
MODELS = {
    f"Model {i}": {
        "Keras": (42, MODES),
        "TensorFlow 2": (69, MODES),
        "TensorFlow 1": (68, {"graph": 56.0}),
    }
    for i in range(4)
}

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
    "causes": lambda: causes.rank(EFFECTS),
    "speed": lambda: costs.speed(MODELS),
}

every_figure = pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)


def texts(picture: Picture) -> list[str]:
    return [e.text or "" for e in ET.fromstring(picture.svg).iter() if e.text]


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
    picture = draw()
    root = ET.fromstring(picture.svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.get("viewBox") == f"0 0 {root.get('width')} {root.get('height')}"
    assert root.get("role") == "img"
    assert root.get("aria-label") == picture.alt
    assert picture.alt.endswith(".")


@every_figure
def test_svg_takes_no_style_from_the_page_and_gives_none(draw):
    svg = draw().svg
    for banned in ("<style", "style=", "class=", "<metadata", "#000000", "#010203"):
        assert banned not in svg
    assert "currentColor" in svg
    assert not re.search(r'(href|src)="(?!#|data:image/png;base64,)', svg)


@every_figure
def test_svg_is_small(draw):
    assert len(draw().svg) < 48_000  # noise, which compresses worst, included


def test_ids_of_figures_in_one_page_never_clash():
    pictures = [draw() for draw in FIGURES.values()]
    pictures.append(images.digits(IMAGES[:11], Y[:11]))
    pictures.append(plots.history({"Keras": RUN}))
    ids = [i for p in pictures for i in re.findall(r' id="([^"]+)"', p.svg)]
    assert ids
    assert len(ids) == len(set(ids))


@every_figure
def test_each_reference_has_its_id_and_each_id_its_reference(draw):
    svg = draw().svg
    ids = set(re.findall(r' id="([^"]+)"', svg))
    assert ids == set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg))


def test_a_picture_shows_itself_in_a_notebook():
    picture = FIGURES["agreement"]()
    data, metadata = picture._repr_mimebundle_()
    assert data == {"image/svg+xml": picture.svg, "text/plain": picture.alt}
    assert metadata == {"image/svg+xml": {"alt": picture.alt}}


def test_colors_have_contrast_on_light_and_dark_pages():
    used = {c for draw in FIGURES.values() for c in re.findall(r"#\w{6}\b", draw().svg)}
    others = {f"run {i}": {"loss": [i, i]} for i in range(5)}
    used |= set(re.findall(r"#\w{6}\b", plots.history(others).svg))
    assert len(used) >= 5
    for color in used:
        assert contrast(color, "#ffffff") >= 3, color
        assert contrast(color, "#15181d") >= 3, color


def test_equal_histories_are_drawn_on_each_other_and_called_equal():
    run = {"loss": [2.0, 1.0]}
    picture = plots.history({"Keras": run, "TensorFlow 2": run})
    assert "coincide exactly" in picture.alt
    paths = re.findall(r'<path d="([^"]*)"[^>]*stroke-width="[38]"', picture.svg)
    curves = [path for path in paths if paths.count(path) == 2]
    assert len(curves) == 2


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
    assert picture.alt.startswith("Loss after 1 epoch")
    assert "validation" not in texts(picture)
    assert "<use" in picture.svg


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_leave_a_gap(bad):
    for losses in ([1.0, bad, 0.5], [1.0, bad], [bad], [bad, bad]):
        picture = plots.history({"Keras": {"loss": losses, "val_loss": losses}})
        assert not re.search(r"nan|inf\b", picture.svg)


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


def test_rates_alternative_text_gives_ends_and_top_and_says_whether_they_are_equal():
    up = {"warm-up": [0.0, 0.1, 0.05]}
    assert plots.rates({"Keras": up, "TensorFlow 2": up}).alt == (
        "Learning rates by step for Keras and TensorFlow 2. "
        "Warm-up: 0 to 0.05, at most 0.1; the same."
    )
    near = {"warm-up": [0.0, float(np.nextafter(0.1, 1)), 0.05]}
    assert "not the same" in plots.rates({"Keras": up, "TensorFlow 2": near}).alt
    assert "same" not in plots.rates({"Keras": up}).alt


def test_rates_of_a_long_run_are_thinned_but_keep_their_ends():
    svg = plots.rates({"Keras": {"decay": np.linspace(0.1, 0.0, 100_000)}}).svg
    (curve,) = re.findall(r'<path d="([^"]*)"[^>]*stroke-width="8"', svg)[:1]
    assert 100 < curve.count("L") < 500
    short = plots.rates({"Keras": {"decay": [0.1, 0.0]}}).svg
    (two,) = re.findall(r'<path d="([^"]*)"[^>]*stroke-width="8"', short)[:1]
    heights = [re.findall(r"[-\d.]+", path)[1::2] for path in (curve, two)]
    first, last = heights[0][0], heights[0][-1]
    assert heights[1] == [first, first, last]  # a rate holds for its whole step


def test_agreement_says_bit_for_bit_only_where_it_is():
    picture = plots.agreement({"TensorFlow 2": [0, 0], "TensorFlow 1": [0, 3]})
    assert "TensorFlow 2: 0 after every epoch, bit for bit" in picture.alt
    assert "TensorFlow 1: at most 10." in picture.alt
    assert "0: same bits" in texts(picture)


@pytest.mark.parametrize(
    ("ulp", "bound"),
    [(1, "1"), (2, "10"), (10, "10"), (11, "100"), (2**31, "10,000,000,000")],
)
def test_agreement_bounds_distances_by_powers_of_ten(ulp, bound):
    alt = plots.agreement({"TensorFlow 1": [ulp]}).alt
    assert alt.endswith(f"TensorFlow 1: at most {bound}.")


def test_line_accepts_weights_as_tensorflow_holds_them():
    x = X[:, 0]
    arrays = {"Keras": (np.float32([[0.5]]), np.float32([-1.0]))}
    assert plots.line(x, x, arrays).alt.endswith("Keras y = 0.50 x - 1.00.")


def test_images_are_flat_or_have_a_channel():
    flat = images.digits(IMAGES, Y)
    assert images.digits(IMAGES.reshape(-1, 28, 28, 1), Y) == flat
    assert flat.alt.startswith("12 handwritten digits, labeled 0, 1, 2, ")


def test_mistakes_are_ordered_by_the_confidence_in_the_wrong_class():
    p = np.array([[0.1, 0.9], [0.02, 0.98], [0.7, 0.3], [0.001, 0.999]])
    picture = images.mistakes(IMAGES[:4], np.eye(2)[[0, 0, 0, 0]], p)
    assert picture.alt == "The 3 surest mistakes: 0, not 1 (3×)."
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


def test_causes_are_ranked_by_the_loss_then_by_the_weights():
    shown = [text for text in texts(causes.rank(EFFECTS)) if text in EFFECTS]
    # "Rounding" and "Report" change the loss by 1.5e-8 and by 0.
    assert shown == ["Sum", "Line", "Order", "Rounding", "Report"]


def test_causes_are_grouped_in_words_by_what_every_processor_agrees_on():
    assert causes.rank(EFFECTS).alt == (
        "What 5 causes change. The loss by 0.1 or more: Sum; Line. "
        "The loss by less: Order. The accuracy alone: Report. "
        "Both by less than 0.00001, by rounding: Rounding."
    )


def test_zero_and_nan_have_places_of_their_own():
    picture = causes.rank(EFFECTS)
    assert texts(picture).count("0") == 2  # a scale each
    assert texts(picture).count("NaN") == 1
    finite = {"Line": EFFECTS["Line"]}
    assert "NaN" not in texts(causes.rank(finite))
    assert not re.search(r"nan|inf\b", picture.svg)


def test_speed_names_every_point_and_tells_lines_and_times():
    picture = costs.speed({"Line": MODELS["Model 0"]})
    shown = texts(picture)
    assert [shown.count(mode) for mode in MODES] == [2, 3, 2, 2]
    assert {"Line, µs per example", "lines of code", *LABELS} <= set(shown)
    assert picture.alt == (
        "Lines of code, and microseconds per example. Line: Keras 42, 2.5 to 900; "
        "TensorFlow 2 69, 2.5 to 900; TensorFlow 1 68, 56."
    )


@pytest.mark.parametrize(
    "times",
    [
        dict.fromkeys(MODES, 3.06),  # all at once, between two ticks
        {"eager": 1e6, "graph": 1e6, "epoch": 1e6, "XLA": 1e-3},
        {"eager": 1.0, "graph": 1.01, "epoch": 1.02, "XLA": 1e6},
    ],
)
def test_names_of_close_modes_do_not_touch_each_other_or_the_title(times):
    svg = costs.speed({"Line": {"Keras": (42, times)}}).svg
    heights = sorted(
        float(y)
        for y in re.findall(r'y="([\d.]+)"[^>]*>(?:eager|graph|epoch|XLA)<', svg)
    )
    assert len(heights) == 4
    assert min(np.diff(heights)) >= 12
    (title,) = re.findall(r'y="([\d.]+)"[^>]*>Line, µs', svg)
    assert heights[0] - float(title) >= 12
    assert re.search(r">(\d+|0\.\d+)<", svg)  # a tick's


def test_more_causes_make_a_taller_figure_of_the_same_width():
    few, many = (
        causes.rank({f"{i}": EFFECTS["Sum"] for i in range(n)}).svg for n in (3, 30)
    )
    (w1, h1), (w2, h2) = (
        re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg).groups()
        for svg in (few, many)
    )
    assert w1 == w2
    assert float(h2) > float(h1) + 27 * 16


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
