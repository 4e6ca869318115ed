"""Neighbours against a plain search."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.landmarks import neighbours
from pipeline.landmarks.neighbours import Neighbours, nearest
from pipeline.landmarks.points import save_none

RANDOM = np.random.default_rng(1)
N, K = 60, 5
PLACES = RANDOM.normal(size=(N, 4))
GROUPS = np.where(np.arange(N) < 30, np.arange(N) // 3, -1)  # ten groups of three
FOUND = RANDOM.random(N) < 0.8


def plain(row: int, groups: list[int], found: list[bool]) -> list[tuple[float, int]]:
    others = [
        (math.dist(PLACES[row], PLACES[other]), other)
        for other in range(N)
        if other != row and found[other] and (groups[row] < 0 or groups[row] != groups[other])
    ]
    return sorted(others)[:K]


@pytest.fixture(autouse=True)
def _chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "CHUNK", 7)


def test_they_are_those_of_a_plain_search() -> None:
    found = nearest(PLACES, GROUPS, FOUND, K)
    assert found.index.shape == found.distance.shape == (N, K)
    assert found.index.dtype == np.int32
    assert found.distance.dtype == np.float32
    for row in np.flatnonzero(FOUND).tolist():
        expected = plain(row, GROUPS.tolist(), FOUND.tolist())
        assert found.index[row].tolist() == [other for _, other in expected]
        np.testing.assert_allclose(found.distance[row], [apart for apart, _ in expected], rtol=1e-6)


def test_neither_itself_nor_a_near_duplicate_nor_a_face_without_landmarks_is_a_neighbour() -> None:
    places = PLACES.copy()
    places[:30] = places[GROUPS[:30] * 3]  # copies: the nearest of all
    found = nearest(places, GROUPS, FOUND, K)
    rows = np.flatnonzero(FOUND)
    assert (found.index[rows] != rows[:, None]).all()
    grouped = rows[GROUPS[rows] >= 0]
    assert (GROUPS[found.index[grouped]] != GROUPS[grouped, None]).all()
    assert FOUND[found.index[rows]].all()
    alone = nearest(places, np.full(N, -1), FOUND, K)
    assert (alone.distance[grouped][:, 0] == 0).any(), "without the groups, copies are found"


def test_weights_are_gaussian_with_the_median_distance_of_the_last() -> None:
    found = nearest(PLACES, GROUPS, FOUND, K)
    sigma = float(np.median(found.distance[FOUND][:, -1]))
    assert found.sigma == pytest.approx(sigma)
    row = int(np.flatnonzero(FOUND)[0])
    expected = [math.exp(-(apart**2) / (2 * sigma**2)) for apart in found.distance[row].tolist()]
    np.testing.assert_allclose(found.weight[row], expected, rtol=1e-5)


def test_an_image_without_landmarks_has_weights_of_zero() -> None:
    found = nearest(PLACES, GROUPS, FOUND, K)
    missing = np.flatnonzero(~FOUND)
    assert (found.weight[missing] == 0).all()
    assert (found.index[missing] == missing[:, None]).all()
    np.testing.assert_array_equal(found.found, FOUND)


def test_where_there_are_too_few_the_last_weigh_nothing() -> None:
    found = nearest(PLACES[:4], np.array([0, 0, -1, -1]), np.ones(4, bool), K)
    assert found.index[0].tolist()[2:] == [0, 0, 0]
    assert sorted(found.index[0].tolist()[:2]) == [2, 3]
    assert (found.weight[0] > 0).tolist() == [True, True, False, False, False]
    assert np.isfinite(found.weight).all()


def test_equal_faces_have_weights_of_one(tmp_path: Path) -> None:
    found = nearest(np.ones((9, 3)), np.full(9, -1), np.ones(9, bool), K)
    assert (found.weight == 1).all()
    found.save(tmp_path / "neighbours.npz")
    with np.load(tmp_path / "neighbours.npz") as archive:
        assert {"index", "distance", "weight", "found", "sigma"} == set(archive)
        np.testing.assert_array_equal(archive["index"], found.index)
    loaded = Neighbours.load(tmp_path / "neighbours.npz")
    np.testing.assert_array_equal(loaded.weight, found.weight)
    assert loaded.sigma == found.sigma


def test_permuted_neighbours_are_those_of_another_face_and_none_is_lost() -> None:
    found = nearest(PLACES, GROUPS, FOUND, K)
    other = found.permuted(np.random.default_rng(3))
    again = found.permuted(np.random.default_rng(3))
    np.testing.assert_array_equal(other.index, again.index)
    missing = ~FOUND
    np.testing.assert_array_equal(other.index[missing], found.index[missing])
    assert (other.weight[missing] == 0).all()
    assert sorted(map(tuple, other.index[FOUND].tolist())) == sorted(map(tuple, found.index[FOUND].tolist()))
    assert (other.index[FOUND] != found.index[FOUND]).any(axis=1).mean() > 0.8
    of = {
        tuple(index): tuple(weight) for index, weight in zip(found.index.tolist(), found.weight.tolist(), strict=True)
    }
    assert all(of[tuple(i)] == tuple(w) for i, w in zip(other.index.tolist(), other.weight.tolist(), strict=True))


def test_an_archive_without_neighbours_is_refused(tmp_path: Path) -> None:
    save_none(tmp_path / "neighbours.npz")
    with pytest.raises(UserError, match=r"landmarks\.source"):
        Neighbours.load(tmp_path / "neighbours.npz")
    with pytest.raises(UserError, match="missing"):
        Neighbours.load(tmp_path / "none.npz")
