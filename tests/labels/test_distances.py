"""Distances between expressions, against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.data.fer import LABELS, VOTE_COLUMNS
from pipeline.labels.distances import AFFECT, affective_distance, cosine_distance, human_distance

VOTE_OF = dict(zip(LABELS, ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"), strict=True))


def ballot(**votes: int) -> list[int]:
    """One FER+ row from the votes per column."""
    return [votes.get(column, 0) for column in VOTE_COLUMNS]


def unanimous() -> tuple[list[int], list[list[int]]]:
    """One image per class, on which all annotators agree with FER-2013."""
    return list(range(7)), [ballot(**{VOTE_OF[label]: 10}) for label in LABELS]


def arrays(labels: list[int], votes: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array(labels, np.uint8), np.array(votes, np.uint8)


def at(distance: np.ndarray, first: str, second: str) -> float:
    return float(distance[LABELS.index(first), LABELS.index(second)])


def assert_is_distance(distance: np.ndarray) -> None:
    assert distance.shape == (7, 7)
    assert distance.dtype == np.float64
    np.testing.assert_array_equal(distance, distance.T)
    np.testing.assert_array_equal(np.diag(distance), np.zeros(7))
    assert distance.max() == 1
    assert distance.min() == 0


def test_affective_distance_by_hand() -> None:
    """Happiness (.81, .51, .46) and sadness (-.63, -.27, -.33) are farthest apart."""
    distance = affective_distance()
    assert_is_distance(distance)
    farthest = math.sqrt(1.44**2 + 0.78**2 + 0.79**2)
    assert at(distance, "happy", "sad") == 1
    assert at(distance, "angry", "disgust") == pytest.approx(math.sqrt(0.09**2 + 0.24**2 + 0.14**2) / farthest)
    assert at(distance, "angry", "fear") == pytest.approx(math.sqrt(0.13**2 + 0.01**2 + 0.68**2) / farthest)
    assert at(distance, "fear", "surprise") == pytest.approx(math.sqrt(1.04**2 + 0.07**2 + 0.30**2) / farthest)
    assert at(distance, "neutral", "surprise") == pytest.approx(math.sqrt(0.40**2 + 0.67**2 + 0.13**2) / farthest)


def test_every_label_has_a_place_in_affective_space() -> None:
    assert set(AFFECT) == set(LABELS)
    assert all(-1 <= value <= 1 for point in AFFECT.values() for value in point)
    assert AFFECT["neutral"] == (0, 0, 0)


def test_human_distance_by_hand() -> None:
    labels, votes = unanimous()
    votes[LABELS.index("sad")] = ballot(sadness=5, fear=5)  # the cosine of (1, 1) with (0, 1) is 1 / sqrt(2)
    distance = human_distance(*arrays(labels, votes))
    assert distance is not None
    assert_is_distance(distance)
    assert at(distance, "sad", "fear") == pytest.approx(1 - 1 / math.sqrt(2))
    assert at(distance, "happy", "fear") == 1


def test_every_image_counts_the_same_within_its_class() -> None:
    """Shares are averaged, not votes: an image with few votes for the seven classes weighs as much."""
    labels, votes = unanimous()
    sad = LABELS.index("sad")
    distance = human_distance(*arrays([*labels, sad], [*votes, ballot(fear=1, contempt=9)]))
    assert distance is not None
    assert at(distance, "sad", "fear") == pytest.approx(1 - 1 / math.sqrt(2))


def test_votes_for_no_class_and_images_without_votes_do_not_count() -> None:
    labels, votes = unanimous()
    expected = human_distance(*arrays(labels, votes))
    votes[0] = ballot(anger=4, contempt=3, unknown=2, NF=1)
    more = human_distance(*arrays([*labels, 0, 1], [*votes, ballot(NF=10), ballot()]))
    assert expected is not None
    assert more is not None
    np.testing.assert_allclose(more, expected)


def test_human_distance_reads_only_the_rows_given() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(140).astype(np.uint8) % 7
    votes = rng.integers(0, 5, (140, 10)).astype(np.uint8)
    before = human_distance(labels[:70], votes[:70])
    labels[70:], votes[70:] = 0, 9
    after = human_distance(labels[:70], votes[:70])
    changed = human_distance(labels, votes)
    assert before is not None
    assert changed is not None
    np.testing.assert_array_equal(before, after)
    assert not np.allclose(before, changed)


@pytest.mark.parametrize("last", [ballot(NF=10), ballot()])
def test_a_class_without_votes_leaves_no_human_distance(last: list[int]) -> None:
    labels, votes = unanimous()
    assert human_distance(*arrays(labels[:-1], votes[:-1])) is None
    assert human_distance(*arrays(labels, [*votes[:-1], last])) is None


def test_cosine_distance_by_hand() -> None:
    gram = np.eye(7)
    gram[0, 1] = gram[1, 0] = 0.5
    gram[2, 3] = gram[3, 2] = -0.6
    distance = cosine_distance(gram)
    assert_is_distance(distance)
    assert distance[2, 3] == 1  # 1 + 0.6, the largest
    assert distance[0, 1] == pytest.approx(0.5 / 1.6)
    assert distance[0, 2] == pytest.approx(1 / 1.6)
