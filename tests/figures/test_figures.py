"""Every figure writes one sane, repeatable PNG, or nothing at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.figure import Figure
from PIL import Image

from pipeline.comparison.costs import Cost
from pipeline.comparison.findings import Contrast, Prediction, RowId, ScoreFit
from pipeline.comparison.rows import ComparisonRow, MetricSummary, PairedTest
from pipeline.comparison.statistics import Difference, Interval
from pipeline.data.fer import LABELS, FerData
from pipeline.figures import blocks, data, model, study
from pipeline.figures.canvas import COLOURS
from tests.factories import row

RNG = np.random.default_rng(0)
N = 60
IMAGES = RNG.integers(0, 256, (N, 48, 48), dtype=np.uint8)
LABEL = RNG.integers(7, size=N)
PROBABILITIES = RNG.dirichlet(np.ones(7), N)
DECISION = PROBABILITIES.argmax(axis=1)
CONFIDENCE = PROBABILITIES.max(axis=1)
MAPS = RNG.random((7, 48, 48))
COUNTS: npt.NDArray[np.int64] = RNG.integers(0, 900, (7, 7))
PER_CLASS = {name: {"precision": 0.7, "recall": 0.6, "f1": 0.65, "support": 491} for name in LABELS}
CURVES = {
    name: [[(epoch, 0.7 - 0.5 / epoch + seed / 100) for epoch in range(1, 9 - seed)] for seed in range(2)]
    for name in ("baseline", "cosine")
}


def measured(name: str, accuracy: float = 0.7, severity: float = 0.3, half_width: float | None = None) -> ComparisonRow:
    """A row with these means; a half width, of a 95 % interval, is that of each."""
    means = {
        "test.accuracy": accuracy, "test_clean.accuracy": accuracy - 0.01, "test.balanced_accuracy": accuracy - 0.1,
        "test.severity.affective.all": severity, "test.severity.human.all": severity,
    }  # fmt: skip
    metrics = {metric: MetricSummary(mean, half_width=half_width) for metric, mean in means.items()}
    return ComparisonRow(name, "argmax", (0,), metrics)


def predicted(name: str, half_width: float | None = None) -> Prediction:
    """A model with the cosine loss that decides more often with the costs than without."""
    posterior, costs, accuracy = (Interval(mean, None, half_width) for mean in (0.8, 0.9, 0.7))
    difference = Difference(0.1, 0.05, 0.15, 0.01, 0.02, 9.0)
    found, by_costs, by_posterior = np.random.default_rng(len(name)).dirichlet(np.ones(7), 3)
    return Prediction(name, 1, posterior, costs, difference, 10, 7, 3, found, by_costs, by_posterior, 0.1, accuracy)


def fitted(name: str, similarities: float, alone: float) -> ScoreFit:
    """A model whose scores are explained to these shares."""
    with_s, without, scaled = (Interval(share, None, None) for share in (similarities, alone, 0.6))
    return ScoreFit(name, 1, with_s, without, scaled, 0.01)


ROWS = {"baseline": measured("baseline", 0.7, 0.31, 0.01), "cosine": measured("cosine", 0.68)}
TESTS = {
    "cosine": PairedTest(-0.02, -0.03, -0.01, 0.001, p_holm=0.01),
    "softmax": PairedTest(-0.003, -0.012, 0.005, 0.5),
    "original_second": PairedTest(-0.52, -0.54, -0.5, 0.001, p_holm=0.01),
}
FAR = {"original_second": measured("original_second", 0.2, 0.6)}
PREDICTIONS = [predicted("w2v_cosine", 0.02), predicted("cosine_random")]
FITS = [fitted("w2v_cosine", 0.85, 0.5), fitted("cosine_random", 0.8, -3.0)]
RECALLS = {
    name: {label: (mean, mean - 0.02, mean + 0.03) for label, mean in zip(LABELS, RNG.normal(0, 0.05, 7), strict=True)}
    for name in ("w2v_cosine", "cosine_random")
}


def correlations(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return np.asarray(np.corrcoef(counts))


OVER_LABELS = {
    "baseline": {"few10": row("baseline", None), "few100": row("baseline", None)},
    "words": {"few10": row("words", 0.02), "few100": row("words", -0.01)},
    "half_done": {"few100": row("half_done", 0.0)},
}

CONTRASTS = {
    "A1": ("test.accuracy", [Contrast(RowId("words"), RowId("twin"), row("words", 0.02))]),
    "A2": (
        "test.severity.human.all",
        [Contrast(RowId("words"), RowId("twin"), row("words", 0.02)), Contrast(RowId("a"), RowId("b"), row("a", 0.0))],
    ),
}

Draw = Callable[[Path], None]

DATA = FerData(IMAGES, LABEL.astype(np.uint8), np.zeros(N, np.uint8))

DRAW: dict[str, Draw] = {
    "contact_sheet": lambda path: data.contact_sheet(DATA, path, per_class=5),
    "confusion_counts": lambda path: model.confusion(COUNTS, LABELS, path, False, "Baseline"),
    "confusion_shares": lambda path: model.confusion(COUNTS, LABELS, path, True, "Baseline"),
    "reliability": lambda path: model.reliability(LABEL, PROBABILITIES, path, "Baseline"),
    "per_class_bars": lambda path: model.per_class_bars(PER_CLASS, path, "Baseline"),
    "confident_mistakes": lambda path: model.confident_mistakes(IMAGES, LABEL, DECISION, CONFIDENCE, LABELS, path, 5),
    "heat_maps": lambda path: model.heat_maps(IMAGES[:5], MAPS[:5], list("abcde"), path),
    "class_mean_heat_maps": lambda path: model.class_mean_heat_maps(IMAGES[:7] / 1.0, MAPS, LABELS, path),
    "gram": lambda path: data.gram(correlations(COUNTS), LABELS, path, "Similarity of the label words"),
    "validation_curves": lambda path: study.validation_curves(CURVES, path),
    "difference_forest": lambda path: study.difference_forest(TESTS, "baseline", path),
    "priced_forest": lambda path: study.difference_forest(
        TESTS, "baseline", path, {name: Cost(2.0, place) for place, name in enumerate(TESTS)}
    ),
    "model_bars": lambda path: study.model_bars(ROWS, path),
    "severity_scatter": lambda path: study.severity_scatter(ROWS | FAR, "affective", path),
    "speed_curves": lambda path: study.speed_curves({"fast": [[(40, 0.5), (90, 0.6)], [(60, 0.55)]]}, path),
    "agreement_bars": lambda path: study.agreement_bars(PREDICTIONS, 0.84, path),
    "shares_of_decisions": lambda path: study.shares_of_decisions(PREDICTIONS, LABELS, path),
    "spread_scatter": lambda path: study.spread_scatter(PREDICTIONS, path),
    "score_fits": lambda path: study.score_fits(FITS, path),
    "grams": lambda path: study.grams({f"model {k}": correlations(COUNTS + k) for k in range(4)}, LABELS, path),
    "over_labels": lambda path: blocks.over_labels(OVER_LABELS, ["few10", "few100"], "baseline", path),
    "planned_contrasts": lambda path: blocks.planned_contrasts(CONTRASTS, path),
    "recall_differences": lambda path: study.recall_differences(RECALLS, LABELS, path),
}


@pytest.fixture(params=list(DRAW))
def draw(request: pytest.FixtureRequest) -> Draw:
    return DRAW[request.param]


def pixels(path: Path) -> npt.NDArray[np.uint8]:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


@pytest.mark.medium
def test_writes_a_picture_of_sane_size_and_the_same_again_whatever_the_user_prefers(draw: Draw, tmp_path: Path) -> None:
    draw(tmp_path / "new" / "figure.png")
    picture = pixels(tmp_path / "new" / "figure.png")
    height, width, _ = picture.shape
    assert 150 <= height <= 2000
    assert 500 <= width <= 1700
    drawn = (picture != 255).any(axis=-1)
    assert 0.01 < drawn.mean() < 0.99
    # Nothing is cut off: text and axes keep clear of the outermost pixels.
    assert not drawn[[0, -1]].any()
    assert not drawn[:, [0, -1]].any()

    with matplotlib.rc_context({"axes.facecolor": "red", "font.size": 20, "savefig.bbox": "tight"}):
        draw(tmp_path / "second.png")
        assert matplotlib.rcParams["font.size"] == 20
    first = (tmp_path / "new" / "figure.png").read_bytes()
    assert first == (tmp_path / "second.png").read_bytes()
    for word in (b"Software", b"Date", b"tEXt"):
        assert word not in first


def test_a_failed_save_leaves_the_old_picture_and_no_temporary_file(
    draw: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "figure.png").write_bytes(b"the old one")

    def half_a_file(self: Figure, path: Path, **options: Any) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", half_a_file)
    with pytest.raises(OSError, match="disk full"):
        draw(tmp_path / "figure.png")
    assert [path.name for path in tmp_path.iterdir()] == ["figure.png"]
    assert (tmp_path / "figure.png").read_bytes() == b"the old one"


def figures_saved(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved from here on, in order; their files stay empty."""
    saved: list[Figure] = []

    def save(self: Figure, path: Path, **options: Any) -> None:
        saved.append(self)
        path.write_bytes(b"")

    monkeypatch.setattr(Figure, "savefig", save)
    return saved


def captions(monkeypatch: pytest.MonkeyPatch, call: Callable[[], None]) -> list[str]:
    """The titles over the faces that `call` draws, in order."""
    shown: list[str] = []
    monkeypatch.setattr(model, "face", lambda axis, image, caption="": shown.append(caption))
    call()
    return shown


def test_confident_mistakes_shows_the_surest_first_and_no_right_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels, predicted = np.array([0, 1, 2, 3]), np.array([1, 1, 3, 4])
    confidence = np.array([0.5, 0.99, 0.9, 0.7])
    shown = captions(
        monkeypatch,
        lambda: model.confident_mistakes(
            IMAGES[:4], labels, predicted, confidence, LABELS, tmp_path / "m.png", count=2
        ),
    )
    assert shown == ["fear\n→ happy 90%", "happy\n→ sad 70%"]


def test_no_mistakes_is_a_picture_too(tmp_path: Path) -> None:
    model.confident_mistakes(IMAGES, LABEL, LABEL, CONFIDENCE, LABELS, tmp_path / "none.png")
    assert (pixels(tmp_path / "none.png") != 255).any()


def test_models_far_below_the_best_are_named_beside_the_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = figures_saved(monkeypatch)
    study.severity_scatter(ROWS | FAR, "human", tmp_path / "with.png")
    study.severity_scatter(ROWS, "human", tmp_path / "without.png")
    drawn = [figure.axes[0].get_legend_handles_labels()[1] for figure in saved]
    assert drawn == [["baseline", "cosine"]] * 2
    assert [figure.get_supxlabel() for figure in saved] == ["off the scale: original_second (20.0%, 0.60)", ""]


def test_what_is_far_off_does_not_set_the_scale_of_a_forest() -> None:
    usual = {f"row {k}": PairedTest(0.001 * k, 0.001 * k - 0.01, 0.001 * k + 0.01, 0.5) for k in range(6)}
    unsure = {"unsure": PairedTest(-0.05, -0.3, 0.2, 0.5)}
    lost = {"lost": PairedTest(-0.5, -0.52, -0.48, 0.001, p_holm=0.01)}
    axis = Figure().add_subplot()
    study.forest(axis, usual | lost | unsure)
    assert [text.get_text() for text in axis.get_yticklabels()] == [*usual, "lost", "unsure"], "in the order given"
    left, right = axis.get_xlim()
    assert -8 < left < -5 < 1.5 < right < 8, "points: every estimate but the lost one, not all of the long interval"
    assert [text.get_text() for text in axis.texts] == ["\N{LEFTWARDS ARROW} -50.0"]
    assert len(axis.containers) == 7


def test_a_difference_is_filled_if_the_corrected_test_finds_it() -> None:
    axis = Figure().add_subplot()
    found, unsure = (PairedTest(0.02, 0.01, 0.03, 0.01, p_holm=p) for p in (0.04, 0.06))
    study.forest(axis, {"found": found, "unsure": unsure})
    points = [line for line in axis.lines if line.get_marker() == "o"]
    assert [point.get_markerfacecolor() for point in points] == [COLOURS[0], "white"]


def test_models_far_below_the_best_do_not_set_the_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = figures_saved(monkeypatch)
    far = {"original_second": measured("original_second", 0.15)}
    study.model_bars({"baseline": ROWS["baseline"]} | far | ROWS, tmp_path / "bars.png")
    flat = [[(0, 0.1), (1, 0.15)]]
    study.validation_curves(CURVES | {"original_second": flat}, tmp_path / "curves.png")
    lost = dict.fromkeys(LABELS, (-0.6, -0.7, -0.5))
    study.recall_differences(RECALLS | {"original_second": lost}, LABELS, tmp_path / "recalls.png", ["original_second"])
    bars, curves, recalls = saved
    assert bars.axes[0].get_xlim()[0] > 0.6
    assert [text.get_text() for text in bars.axes[0].get_yticklabels()] == ["baseline", "original_second", "cosine"]
    assert "\N{LEFTWARDS ARROW} 15.0%, without near duplicates 14.0%" in {
        text.get_text() for text in bars.axes[0].texts
    }
    assert curves.axes[0].get_ylim()[0] > 0.15
    assert curves.get_supxlabel() == "off the scale: original_second (15.0%)"
    assert all(axis.get_xlim()[0] > -0.5 for axis in recalls.axes)
    assert [text.get_text() for axis in recalls.axes for text in axis.texts] == ["\N{LEFTWARDS ARROW} -60"] * 7


def test_a_class_without_images_stays_blank_in_the_class_means(tmp_path: Path) -> None:
    faces, maps = IMAGES[:7] / 1.0, MAPS.copy()
    faces[1] = maps[1] = np.nan
    model.class_mean_heat_maps(faces, maps, LABELS, tmp_path / "means.png")
    picture = pixels(tmp_path / "means.png")
    width = picture.shape[1] // 7
    inked = [(picture[60:, k * width : (k + 1) * width] != 255).any(axis=-1).mean() for k in range(7)]
    assert inked[1] < 0.1 < min(inked[:1] + inked[2:])


@pytest.mark.medium
def test_many_models_keep_styles_apart_and_inside_the_picture(tmp_path: Path) -> None:
    names = [f"model-{k}" for k in range(24)]
    study.validation_curves(dict.fromkeys(names, CURVES["cosine"]), tmp_path / "curves.png")
    rows, predictions = {n: measured(n, half_width=0.01) for n in names}, [predicted(n, 0.01) for n in names]
    study.model_bars(rows, tmp_path / "bars.png")
    study.severity_scatter(rows, "human", tmp_path / "scatter.png")
    study.agreement_bars(predictions, None, tmp_path / "agreement.png")
    study.shares_of_decisions(predictions, LABELS, tmp_path / "shares.png")
    study.spread_scatter(predictions, tmp_path / "spread.png")
    study.recall_differences(dict.fromkeys(names, RECALLS["w2v_cosine"]), LABELS, tmp_path / "recalls.png")
    for name in ("curves", "bars", "scatter", "agreement", "shares", "spread", "recalls"):
        drawn = (pixels(tmp_path / f"{name}.png") != 255).any(axis=-1)
        assert not drawn[[0, -1]].any()
        assert not drawn[:, [0, -1]].any()


@pytest.mark.medium
@pytest.mark.parametrize("count", [2, 9])
def test_names_of_any_number_and_length_are_drawn(count: int, tmp_path: Path) -> None:
    """With two dollar signs, between which matplotlib would see a formula, and larger where there are more."""
    names = [f"no. {k} $x^$ and a long name" for k in range(count)]
    square = np.eye(count)
    scores = {name: {"precision": 0.7, "recall": 0.6, "f1": 0.65} for name in names}
    model.confusion(square.astype(int), names, tmp_path / "confusion.png", False, "Baseline")
    model.per_class_bars(scores, tmp_path / "bars.png", "Baseline")
    faces = np.resize(IMAGES, (count, 48, 48)) / 1.0
    model.class_mean_heat_maps(faces, np.resize(MAPS, (count, 48, 48)), names, tmp_path / "means.png")
    data.gram(square, names, tmp_path / "gram.png", "Cosines")
    study.recall_differences({"a": dict.fromkeys(names, (0.1, 0.0, 0.2))}, names, tmp_path / "recalls.png")
    study.grams({"a": square}, names, tmp_path / "grams.png")
    for name in ("confusion", "gram", "grams"):
        width = pixels(tmp_path / f"{name}.png").shape[1]
        seven = 4.6 * 120 if name == "grams" else 6.4 * 120
        assert width == pytest.approx(seven * max(1, count / 7), abs=2)
