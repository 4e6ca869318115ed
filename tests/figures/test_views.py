"""Which faces a picture of certainty shows, and that class maps are drawn where they are known."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from pipeline.data.fer import LABELS
from pipeline.evaluation.class_maps import MirroredMaps
from pipeline.figures import model, views
from pipeline.figures.canvas import canvas


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


def test_means_are_of_the_most_and_the_least_certain_third_of_a_class_and_never_of_a_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    actual = np.repeat([0, 1], [30, 23])  # a third of the second is less than a mean needs
    uncertain = np.random.default_rng(0).permutation(53).astype(float)
    images = np.zeros((53, 48, 48), np.uint8)
    images[:, 0, 0] = uncertain
    images[:, 0, 1] = 255
    shown: list[float] = []

    def noting(axis: Any, image: Any, caption: str = "") -> None:
        shown.append(float(image[0, 0]))

    monkeypatch.setattr(views, "face", noting)
    path = tmp_path / "uncertainty.png"
    for votes in (None, np.where(uncertain > 3, uncertain, np.nan)):
        shown.clear()
        views.uncertainty(images, actual, uncertain, votes, LABELS, path, "a model", most=12)
        ranked = np.sort(uncertain[:30])
        assert shown == pytest.approx([ranked[:10].mean(), ranked[-10:].mean()])
        assert size(path)[0] > size(path)[1]


def test_votes_that_all_agree_have_no_correlation_but_a_picture(tmp_path: Path) -> None:
    path = tmp_path / "uncertainty.png"
    images = np.zeros((30, 48, 48), np.uint8)
    views.uncertainty(images, np.zeros(30, int), np.arange(30.0), np.zeros(30), LABELS, path, "a model", most=9)
    assert path.exists()


def test_class_maps_are_drawn_for_the_classes_that_have_images(tmp_path: Path) -> None:
    faces = np.random.default_rng(0).uniform(0, 255, (7, 48, 48))
    faces[3] = np.nan
    maps = MirroredMaps(*np.random.default_rng(1).normal(size=(2, 7, 3, 3)))
    path = tmp_path / "class_maps.png"
    views.class_maps(faces, maps, LABELS, path, "a model")
    assert size(path)[0] > size(path)[1]


def test_the_difference_of_class_maps_is_that_of_the_classes_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles = []

    def noted(path: Path, width: float, height: float, title: str) -> AbstractContextManager[Figure]:
        titles.append(title)
        return canvas(path, width, height, title)

    monkeypatch.setattr(views, "canvas", noted)
    faces = np.random.default_rng(0).uniform(0, 255, (2, 48, 48))
    faces[1] = np.nan
    own = np.array([[[1.0, -1.0]], [[50.0, -50.0]]])
    mirrored = np.array([[[0.0, 0.0]], [[50.0, -50.0]]])  # the class that is not shown has no difference
    maps = MirroredMaps(own, mirrored)
    views.class_maps(faces, maps, ("a", "b"), tmp_path / "maps.png", "a model")
    assert f"{MirroredMaps(own[:1], mirrored[:1]).disagreement:.1%}" in titles[0]


def test_without_a_mean_face_the_figures_say_so(tmp_path: Path) -> None:
    none = np.full((2, 48, 48), np.nan)
    maps = MirroredMaps(*np.zeros((2, 2, 3, 3)))
    views.class_maps(none, maps, ("a", "b"), tmp_path / "maps.png", "a model")
    model.class_mean_heat_maps(none, none, ("a", "b"), tmp_path / "means.png")
    assert (tmp_path / "maps.png").exists()
    assert (tmp_path / "means.png").exists()
