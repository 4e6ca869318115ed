"""Features against plain computation, and where they are shown to lie."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pipeline.classical import features
from pipeline.classical.faces import Faces
from pipeline.classical.features import Appearance, Geometry
from pipeline.data.fer import FerData
from pipeline.errors import UserError
from pipeline.landmarks.points import Landmarks, of_all
from pipeline.landmarks.shapes import PAIRS

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (3, 48, 48)).astype(np.uint8)
POINTS = RANDOM.uniform(8, 40, (3, 68, 2)).astype(np.float32)
PAIR = {(int(i), int(j)): n for n, (i, j) in enumerate(zip(*PAIRS, strict=True))}


def test_geometry_is_the_distances_of_all_pairs_for_faces_of_one_size() -> None:
    found = Geometry()(Faces(IMAGES, of_all(POINTS)))
    face = POINTS[1].astype(float)
    size = math.sqrt(((face - face.mean(axis=0)) ** 2).sum())
    assert found.shape == (3, 2278)
    assert found[1, PAIR[36, 45]] == pytest.approx(math.dist(face[36], face[45]) / size, rel=1e-5)
    larger = of_all((POINTS * 1.7 + 5).astype(np.float32))
    np.testing.assert_allclose(Geometry()(Faces(IMAGES, larger)), found, rtol=1e-4)


def test_an_image_without_landmarks_has_no_distances() -> None:
    found = Geometry()(Faces(IMAGES, Landmarks(POINTS, np.array([True, False, True]))))
    assert np.isnan(found[1]).all()
    assert np.isfinite(found[[0, 2]]).all()


def test_a_mirror_image_has_the_distances_of_the_other_side() -> None:
    faces = Faces(IMAGES, of_all(POINTS))
    direct, turned = Geometry()(faces), Geometry()(faces.mirrored())
    for one, other in (((36, 48), (45, 54)), ((19, 37), (24, 44)), ((8, 57), (8, 57))):
        pairs = PAIR[min(one), max(one)], PAIR[min(other), max(other)]
        np.testing.assert_allclose(turned[:, pairs[0]], direct[:, pairs[1]], rtol=1e-5)
    np.testing.assert_array_equal(faces.mirrored().images, IMAGES[:, :, ::-1])


def test_rows_are_taken_with_their_landmarks() -> None:
    data = FerData(IMAGES, np.zeros(3, np.uint8), np.zeros(3, np.uint8))
    some = Faces.of(data, np.array([2, 0]), of_all(POINTS))
    np.testing.assert_array_equal(some.images, IMAGES[[2, 0]])
    np.testing.assert_array_equal(some.points, POINTS[[2, 0]].astype(float))
    assert Faces.of(data, np.array([1]), None).landmarks is None


def test_a_distance_is_shown_as_a_line_between_its_points() -> None:
    points = POINTS.copy()
    points[0, 36], points[0, 45] = (10, 20), (38, 20)
    faces = Faces(IMAGES, Landmarks(points, np.array([True, True, False])))
    (shown, _, missing) = Geometry().maps(np.array([[2.0]] * 3), np.array([PAIR[36, 45]]), faces)
    assert shown.sum() == pytest.approx(2.0, rel=1e-6)
    assert shown[18:23, 8:41].sum() > 0.9 * shown.sum()
    assert shown[20, 12:36].min() > 0
    assert (missing == 0).all()


def plain_lbp(image: npt.NDArray[np.uint8], row: int, column: int) -> list[int]:
    """Which of the eight neighbours at radius 1, anticlockwise from the right, are at least as bright."""
    bits = []
    for n in range(8):
        angle = 2 * math.pi * n / 8
        y, x = row - math.sin(angle), column + math.cos(angle)
        top, left = math.floor(y + 1e-9), math.floor(x + 1e-9)
        a, b = y - top, x - left
        corners = [
            float(image[top + i, left + j]) * (a if i else 1 - a) * (b if j else 1 - b)
            for i in (0, 1)
            for j in (0, 1)
            if (a if i else 1 - a) * (b if j else 1 - b) > 1e-6
        ]
        bits.append(int(round(sum(corners), 4) >= float(image[row, column])))
    return bits


def test_local_patterns_are_counted_by_cell() -> None:
    """The share of pixels in a cell whose pattern is not uniform: more than two changes around the circle."""
    pytest.importorskip("skimage")
    made = Appearance()(Faces(IMAGES))
    assert made.shape == (3, 800 + 36 * 59)
    patterns = made[0, 800:].reshape(6, 6, 59)
    np.testing.assert_allclose(patterns.sum(axis=2), 1, rtol=1e-6)
    cell = [plain_lbp(IMAGES[0], row, column) for row in range(16, 24) for column in range(24, 32)]
    mixed = sum(sum(bits[n] != bits[n - 1] for n in range(8)) > 2 for bits in cell)
    assert patterns[2, 3, 58] == pytest.approx(mixed / 64)


def test_gradients_are_those_of_their_cell() -> None:
    pytest.importorskip("skimage")
    image = np.full((1, 48, 48), 100, np.uint8)
    image[0, 16:24, 24:32] = np.arange(0, 160, 20)  # one cell with a ramp from left to right
    made = Appearance()(Faces(image))[0, :800]
    cells = Appearance().cell_of()[:800]
    assert set(np.flatnonzero(np.bincount(cells, made**2, minlength=36) > 1e-4)) <= {
        row * 6 + column for row in (1, 2, 3) for column in (2, 3, 4)
    }
    assert np.bincount(cells, made**2, minlength=36).argmax() == 2 * 6 + 3
    assert np.allclose(np.linalg.norm(made.reshape(25, 32), axis=1).max(), 1, atol=1e-3)  # a block of length one


def test_contributions_are_shown_in_their_cells() -> None:
    chosen = np.flatnonzero(Appearance().cell_of() == 2 * 6 + 3)
    parts = np.zeros((1, len(chosen)))
    parts[0, :4] = 1
    (shown,) = Appearance().maps(parts, chosen, Faces(IMAGES[:1]))
    assert shown.shape == (48, 48)
    assert np.unravel_index(shown.argmax(), shown.shape)[0] in range(16, 24)
    assert np.unravel_index(shown.argmax(), shown.shape)[1] in range(24, 32)
    assert shown[0, 0] == 0


def test_without_scikit_image_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str, *_: Any) -> None:
        return None

    monkeypatch.setattr(features, "find_spec", nothing)
    with pytest.raises(UserError, match=r"scikit-image: run `python -m pip install -e '\.\[classical\]'`"):
        Appearance().require_packages()
