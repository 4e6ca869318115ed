"""Classifiers: what they pick, what they learn, what a seed changes, how they are stored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pipeline.classical import classifiers, code
from pipeline.classical.classifiers import CLASSIFIERS, Classifier, GeometrySvm
from pipeline.classical.faces import Faces
from pipeline.classical.saved import load_fitted, save_fitted
from pipeline.classical.training import fit, machine
from pipeline.data.fer import LABELS, FerData
from pipeline.data.synthetic.dataset import Synthetic, draw, draw_landmarks
from pipeline.errors import UserError
from pipeline.files import write_json
from pipeline.landmarks.points import Landmarks, of_all
from pipeline.landmarks.shapes import PAIRS

SPEC = Synthetic(seed=2, train=120, val=40, test=7, ambiguity=0.0)
NEUTRAL = LABELS.index("neutral")


@pytest.fixture(scope="module")
def data() -> FerData:
    return draw(SPEC)


@pytest.fixture(scope="module")
def landmarks() -> Landmarks:
    return of_all(draw_landmarks(SPEC))


def make(name: str) -> Classifier:
    if name.startswith("hog"):
        pytest.importorskip("skimage")
    small: dict[str, dict[str, Any]] = {"geometry": {"stumps": 60}, "hog_boost": {"stumps": 60}}
    made: Any = CLASSIFIERS[name]
    return made(**small.get(name, {}))  # type: ignore[no-any-return]


@pytest.fixture(scope="module", params=CLASSIFIERS)
def named(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.medium
def test_each_learns_drawn_faces_and_its_mirror_images(data: FerData, landmarks: Landmarks, named: str) -> None:
    found = fit(make(named), data, landmarks, seed=0, threads=1)
    assert found.val_accuracy > 0.35  # chance is a seventh, the largest class a fifth
    rows = data.rows("val")
    faces = Faces.of(data, rows, landmarks)
    right = (found.fitted.scores(faces.mirrored()).argmax(axis=1) == data.labels[rows]).mean()
    assert right > 0.3
    assert found.images == 120
    assert {"seconds", "epochs", "images_per_second", "precision", "device"} <= set(found.cost())

    maps = found.fitted.maps(faces, data.labels[rows])
    assert maps.shape == (len(rows), 48, 48)
    assert maps.min() >= 0
    assert (maps.max(axis=(1, 2)) > 0).mean() > 0.9


@pytest.mark.medium
def test_the_same_seed_gives_the_same_classifier_and_it_reads_back(
    data: FerData, landmarks: Landmarks, named: str, tmp_path: Path
) -> None:
    first, again, other = (fit(make(named), data, landmarks, seed, 1).fitted for seed in (0, 0, 1))
    faces = Faces.of(data, data.rows("val"), landmarks)
    np.testing.assert_array_equal(first.scores(faces), again.scores(faces))
    if named != "hog":  # whose optimum is unique
        assert not np.array_equal(first.scores(faces), other.scores(faces))
    options = {name: getattr(first.classifier, name) for name in ("stumps", "C") if hasattr(first.classifier, name)}
    save_fitted(tmp_path, first, {"loss": {"classifier": named, "options": options}})
    loaded = load_fitted(tmp_path)
    np.testing.assert_array_equal(loaded.scores(faces), first.scores(faces))
    assert loaded.classifier == first.classifier


def planted(n: int = 210) -> tuple[Faces, npt.NDArray[np.int64]]:
    """Faces that are all alike, but for noise and the distance of the lips, by which the classes differ."""
    random = np.random.default_rng(0)
    labels = np.arange(n) % 7
    face = random.uniform(8, 40, (68, 2))
    points = np.repeat(face[None], n, axis=0) + random.normal(size=(n, 68, 2)) * 0.05
    points[:, 66, 1] = points[:, 62, 1] + 1 + labels
    points[:, 66, 0] = points[:, 62, 0]
    return Faces(np.zeros((n, 48, 48), np.uint8), of_all(points.astype(np.float32))), labels


def test_boosting_picks_the_planted_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifiers, "LAZY", 1.0)
    faces, labels = planted()
    fitted = GeometrySvm(stumps=8).fit(faces, labels, 0, LABELS)
    first, second = PAIRS
    assert len(fitted.chosen) <= 8
    # Nothing but the distances to this point tells the classes apart.
    assert np.all((first[fitted.chosen] == 66) | (second[fitted.chosen] == 66))
    assert (fitted.scores(faces).argmax(axis=1) == labels).mean() > 0.9


def test_distances_are_measured_from_the_mean_neutral_face() -> None:
    faces, labels = planted()
    fitted = GeometrySvm(stumps=20).fit(faces, labels, 0, LABELS)
    neutral = Faces(faces.images[labels == NEUTRAL], of_all(np.asarray(faces.points[labels == NEUTRAL], np.float32)))
    seen = fitted.seen(fitted.classifier.features(neutral))
    np.testing.assert_allclose(seen.mean(axis=0), 0, atol=1e-5)
    everyone = fitted.seen(fitted.classifier.features(faces))
    np.testing.assert_allclose((everyone.std(axis=0) ** 2).sum(), 1, rtol=1e-5)


def test_a_face_without_landmarks_is_decided_as_the_mean_face() -> None:
    faces, labels = planted()
    assert faces.landmarks is not None
    found = np.arange(len(labels)) >= 14
    some = replace(faces, landmarks=Landmarks(faces.landmarks.points, found))
    fitted = GeometrySvm(stumps=20).fit(some, labels, 0, LABELS)
    known = Faces(faces.images[found], of_all(faces.landmarks.points[found]))
    alone = GeometrySvm(stumps=20).fit(known, labels[found], 0, LABELS)
    np.testing.assert_array_equal(alone.scores(known), fitted.scores(known))  # it taught nothing
    mean = fitted.seen(fitted.classifier.features(known)).mean(axis=0, keepdims=True)
    np.testing.assert_allclose(fitted.scores(some)[:14], np.repeat(fitted.decision.scores(mean), 14, axis=0))


def test_an_svm_that_does_not_settle_says_so(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    faces, labels = planted()
    GeometrySvm(stumps=5).fit(faces, labels, 0, LABELS)
    assert caplog.messages == []
    monkeypatch.setattr(classifiers, "PASSES", 1)
    GeometrySvm(stumps=5).fit(faces, labels, 0, LABELS)
    assert caplog.messages == ["The SVM has not settled after 1 passes over the images: a smaller C does."]


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_two_classes_have_a_score_each(name: str) -> None:
    """scikit-learn gives one decision function for two classes."""
    classifier = make(name)
    faces, labels = planted()
    chosen = np.isin(labels, (0, 6))
    random = np.random.default_rng(1)
    bright = random.integers(0, 60, (len(labels), 48, 48)) + 20 * (labels[:, None, None] > 3) * np.eye(48)
    some = Faces(bright[chosen].astype(np.uint8), of_all(np.asarray(faces.points[chosen], np.float32)))
    known = (labels[chosen] > 3).astype(np.int64)
    scores = classifier.fit(some, known, 0, ("a", "b")).scores(some)
    assert scores.shape == (len(known), 2)
    assert (scores.argmax(axis=1) == known).mean() > 0.9
    np.testing.assert_allclose(scores[:, 0], -scores[:, 1], atol=1e-9)


def test_a_class_without_images_is_named() -> None:
    faces, labels = planted()
    with pytest.raises(UserError, match="Training has no image of disgust, fear to fit"):
        GeometrySvm(stumps=2).fit(faces, np.where(np.isin(labels, (1, 2)), 0, labels), 0, LABELS)


@pytest.mark.parametrize("damage", ["no arrays", "no classifier", "other options", "missing"])
def test_a_damaged_model_is_said_to_be_one(tmp_path: Path, damage: str) -> None:
    faces, labels = planted(70)
    fitted = GeometrySvm(stumps=3).fit(faces, labels, 0, LABELS)
    save_fitted(tmp_path, fitted, {"loss": {"classifier": "geometry", "options": {"stumps": 3}}})
    if damage == "no arrays":
        (tmp_path / "model.safetensors").write_bytes(b"nothing")
    elif damage == "no classifier":
        write_json(tmp_path / "model.json", {"loss": {"options": {}}})
    elif damage == "other options":
        write_json(tmp_path / "model.json", {"loss": {"classifier": "geometry", "options": {"depth": 3}}})
    else:
        (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"run `dvc repro`"):
        load_fitted(tmp_path)


def test_threads_are_those_asked_for_at_most() -> None:
    most = machine("auto")["threads"]
    assert machine(1)["threads"] == 1
    assert machine(10_000)["threads"] == most >= 1


def test_the_code_of_classifiers_is_told_by_its_digests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = code.digests()
    assert {"pipeline/classical/decisions.py", "pipeline/landmarks/shapes.py"} <= set(before)
    for name in before:
        copy = tmp_path / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((code.SOURCES / name).read_bytes())
    monkeypatch.setattr(code, "SOURCES", tmp_path)
    assert code.digests() == before
    with (tmp_path / "pipeline/landmarks/shapes.py").open("a") as file:
        file.write("# edited\n")
    assert code.digests() != before
