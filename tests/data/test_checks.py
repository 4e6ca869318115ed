"""What checks.json says, and when a data set is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pipeline.data.checks import check, class_counts, dataset_name
from pipeline.data.duplicates import Duplicates
from pipeline.data.fer import LABELS, PUBLISHED_COUNTS, SPLITS, VOTE_COLUMNS, VOTES_OF_LABELS, FerData
from pipeline.errors import UserError


def published(image: np.ndarray | None = None) -> FerData:
    """As many images of each class and split as FER-2013 has, all one and the same picture."""
    counts = [(s, k, n) for s, split in enumerate(SPLITS) for k, n in enumerate(PUBLISHED_COUNTS[split])]
    splits = np.concatenate([np.full(n, s, np.uint8) for s, _, n in counts])
    labels = np.concatenate([np.full(n, k, np.uint8) for _, k, n in counts])
    picture = np.arange(2304, dtype=np.uint32).reshape(48, 48).astype(np.uint8) if image is None else image
    return FerData(np.broadcast_to(picture, (len(labels), 48, 48)), labels, splits)


def small(per_class: int = 2) -> FerData:
    """Noise; every split has `per_class` images of each class."""
    labels = np.tile(np.arange(7, dtype=np.uint8), 3 * per_class)
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 48, 48)).astype(np.uint8)
    return FerData(images, labels, np.repeat(np.arange(3, dtype=np.uint8), 7 * per_class))


def unanimous(data: FerData) -> np.ndarray:
    """Ten votes for every image's label."""
    votes = np.zeros((len(data.labels), len(VOTE_COLUMNS)), np.uint8)
    votes[np.arange(len(votes)), np.array(VOTES_OF_LABELS)[data.labels]] = 10
    return votes


def with_votes(data: FerData, votes: np.ndarray) -> FerData:
    return FerData(data.images, data.labels, data.splits, votes)


def none(data: FerData) -> Duplicates:
    alone = np.full(len(data.labels), -1)
    return Duplicates(alone, alone)


def test_names_are_the_fixed_ones_and_json_can_hold_them() -> None:
    data = small()
    checks = check(data, Duplicates(np.full(42, -1), np.array([0, 0, *[-1] * 39, 0])))
    assert checks["rows"] == 42
    assert checks["classes"] == {split: dict.fromkeys(LABELS, 2) for split in SPLITS}
    assert checks["constant_images"] == 0
    fixed = ["distinct_images", "groups", "conflicting_groups", "cross_split_groups", "test_with_train_twin"]
    assert list(checks["duplicates"]) == ["exact", "near"]
    assert all(list(counts) == fixed for counts in checks["duplicates"].values())
    assert checks["duplicates"]["near"]["test_with_train_twin"] == 1
    assert checks["duplicates"]["exact"]["groups"] == 0
    assert json.loads(json.dumps(checks)) == checks


def test_the_published_counts_pass_without_a_warning() -> None:
    data = published()
    for expect in ("any", "fer2013"):
        assert check(data, none(data), expect)["warnings"] == []
    assert dataset_name(data) == "fer2013"


def test_counts_by_split_and_class() -> None:
    data = small(1)
    data.labels[0] = 3
    assert class_counts(data)["train"] == [0, 1, 1, 2, 1, 1, 1]
    assert class_counts(data)["val"] == [1] * 7


def test_a_missing_row_is_a_warning_or_an_error() -> None:
    data = published()
    less = FerData(data.images[:-1], data.labels[:-1], data.splits[:-1])
    assert check(less, none(less), "any")["warnings"] == [
        "This is not FER-2013 as published: it has 35886 rows, not 35887."
    ]
    with pytest.raises(UserError, match=r"it has 35886 rows, not 35887\. .* set data\.expect to any"):
        check(less, none(less), "fer2013")
    assert dataset_name(less) is None


def test_the_first_differing_count_is_named() -> None:
    data = published()
    data.labels[data.rows("val")[0]] = LABELS.index("sad")
    with pytest.raises(UserError, match="split val has 466 images of class angry, not 467"):
        check(data, none(data), "fer2013")
    assert len(check(data, none(data), "any")["warnings"]) == 1
    assert dataset_name(data) is None


def test_swapped_splits_are_noticed() -> None:
    data = published()
    swapped = FerData(data.images, data.labels, np.array([0, 2, 1], np.uint8)[data.splits])
    with pytest.raises(UserError, match="split val has 491 images of class angry, not 467"):
        check(swapped, none(swapped), "fer2013")


def test_an_unknown_expectation_is_refused() -> None:
    with pytest.raises(UserError, match=r"data\.expect is 'ferplus': it must be one of any, fer2013"):
        check(small(), none(small()), "ferplus")


def test_a_class_missing_from_a_split_is_a_warning() -> None:
    data = small()
    test = data.rows("test")
    data.labels[test[np.isin(data.labels[test], [1, 2])]] = 0
    warnings = check(data, none(data))["warnings"]
    assert [w for w in warnings if w.startswith("Split")] == [
        "Split test has no image of class disgust, fear: its scores leave them out."
    ]


def test_flat_images_are_counted_and_listed() -> None:
    data = small()
    data.images[[3, 5]] = 0
    data.images[30] = 255
    data.images[5, 47, 47] = 1
    checks = check(data, none(data))
    assert checks["constant_images"] == 2
    assert checks["constant_rows"] == [3, 30]
    assert "Column pixels: every pixel has the same value in rows 3, 30." in checks["warnings"]


def test_a_long_list_of_rows_is_cut() -> None:
    data = published(np.zeros((48, 48), np.uint8))
    checks = check(data, none(data))
    assert checks["constant_images"] == 35_887
    assert checks["warnings"][0].endswith("in rows 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 35877 more.")


def test_votes_that_do_not_sum_to_ten_are_named() -> None:
    data = small()
    votes = unanimous(data)
    votes[17, 0] += 1
    votes[21, 9] += 3
    warnings = check(with_votes(data, votes), none(data))["warnings"]
    assert "Vote columns: the votes do not sum to 10 in rows 17, 21 (the first sums to 11)." in warnings
    assert not any("same order" in warning for warning in warnings)


def test_votes_in_another_order_are_suspected() -> None:
    data = small(20)
    votes = unanimous(data)
    shifted = check(with_votes(data, np.roll(votes, 1, axis=0)), none(data))["warnings"]
    assert any("agree on 0% of the images" in w and "same order" in w for w in shifted)
    assert not any("same order" in w for w in check(with_votes(data, votes), none(data))["warnings"])
