"""Procrustes analysis and distances against plain computation."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from pipeline.landmarks import shapes
from pipeline.landmarks.points import MIRRORED, mirrored, relative_error
from pipeline.landmarks.shapes import PAIRS, aligned, distances, mean_shape, normalised

Floats = npt.NDArray[np.float64]
RANDOM = np.random.default_rng(0)
FACE = RANDOM.normal(size=(68, 2)) * 5 + 24


def turned(points: Floats, degrees: float, scale: float = 1.0, shift: tuple[float, float] = (0, 0)) -> Floats:
    angle = math.radians(degrees)
    cosine, sine = math.cos(angle), math.sin(angle)
    return np.asarray(scale * points @ np.array([[cosine, sine], [-sine, cosine]]) + shift)


@pytest.mark.parametrize(
    ("degrees", "scale", "shift"), [(0, 1, (9, -4)), (0, 3.7, (0, 0)), (25, 1, (0, 0)), (-170, 0.2, (5, 5))]
)
def test_rotation_scale_and_shift_are_removed(degrees: float, scale: float, shift: tuple[float, float]) -> None:
    moved = turned(FACE, degrees, scale, shift)
    np.testing.assert_allclose(aligned(moved[None], FACE)[0], normalised(FACE), atol=1e-12)


def test_a_reflection_is_not_removed() -> None:
    reflected = FACE * [-1, 1]
    assert np.abs(aligned(reflected[None], FACE)[0] - normalised(FACE)).max() > 0.05


def test_normalised_points_have_mean_zero_and_size_one() -> None:
    found = normalised(turned(FACE, 10, 2, (3, 4))[None])[0]
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-14)
    assert (found**2).sum() == pytest.approx(1)
    assert (normalised(np.full((68, 2), 7.0)) == 0).all()


def test_no_other_rotation_is_closer() -> None:
    other = FACE + RANDOM.normal(size=FACE.shape)
    best = aligned(other[None], FACE)[0]
    wanted = normalised(FACE)
    distance = float(((best - wanted) ** 2).sum())
    for degrees in (-20, -1, 1, 20, 180):
        assert ((turned(best, degrees) - wanted) ** 2).sum() > distance


def test_the_rotation_is_that_of_the_singular_value_decomposition() -> None:
    """Kabsch's solution, with the determinant corrected."""
    other = RANDOM.normal(size=(68, 2))
    z, w = normalised(other), normalised(FACE)
    u, _, v = np.linalg.svd(z.T @ w)
    rotation = u @ np.diag([1, np.sign(np.linalg.det(u @ v))]) @ v
    np.testing.assert_allclose(aligned(other[None], FACE)[0], z @ rotation, atol=1e-12)


def test_the_mean_shape_is_the_shape_that_all_faces_share() -> None:
    faces = np.stack([turned(FACE, degrees, 1 + n, (n, -n)) for n, degrees in enumerate((-12, 0, 4, 20))])
    mean = mean_shape(faces)
    assert (mean**2).sum() == pytest.approx(1)
    np.testing.assert_allclose(aligned(FACE[None], mean)[0], mean, atol=1e-9)


def test_the_mean_shape_is_the_mean_of_what_is_aligned_to_it() -> None:
    faces = FACE + RANDOM.normal(size=(30, 68, 2))
    mean = mean_shape(faces)
    np.testing.assert_allclose(normalised(aligned(faces, mean).mean(axis=0)), mean, atol=1e-9)


def test_distances_are_those_of_all_pairs_and_do_not_change_with_rotation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "CHUNK", 2)
    faces = normalised(FACE + RANDOM.normal(size=(5, 68, 2)))
    found = distances(faces)
    assert found.shape == (5, 2278)
    assert found.dtype == np.float32
    expected = [math.dist(faces[3, i], faces[3, j]) for i in range(68) for j in range(i + 1, 68)]
    np.testing.assert_allclose(found[3], expected, rtol=1e-6)
    np.testing.assert_allclose(distances(turned(faces, 33)), found, atol=1e-6)
    assert np.transpose(PAIRS)[:3].tolist() == [[0, 1], [0, 2], [0, 3]]


def test_a_mirror_image_has_the_points_of_the_other_side() -> None:
    points = np.stack([np.arange(68.0), np.arange(68.0)], axis=1)
    found = mirrored(points)
    assert found[36].tolist() == [47 - 45, 45]  # the outer corners of the eyes
    assert found[48].tolist() == [47 - 54, 54]  # and of the mouth
    assert found[8].tolist() == [47 - 8, 8]  # the chin stays the chin
    np.testing.assert_array_equal(mirrored(found), points)
    assert all(MIRRORED[other] == place for place, other in enumerate(MIRRORED))


def test_an_error_is_relative_to_the_distance_between_the_eyes() -> None:
    points = np.zeros((3, 68, 2))
    points[:, 45, 0] = [20, 40, 0]
    np.testing.assert_allclose(relative_error(points, points + np.array([3, 4])), [5 / 20, 5 / 40, np.inf])
