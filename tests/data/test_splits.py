"""Pictures without a split: whole groups of near duplicates go to one side, in the wished shares of each class."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from pipeline import schema
from pipeline.data.fer import FerData
from pipeline.data.splits import UNDECIDED, SplitParams, complete
from pipeline.errors import UserError

Ints = npt.NDArray[np.int64]


def data_of(labels: Ints, splits: Ints | None = None) -> FerData:
    count = len(labels)
    return FerData(
        np.zeros((count, 48, 48), np.uint8), labels.astype(np.uint8),
        np.full(count, UNDECIDED, np.uint8) if splits is None else splits.astype(np.uint8),
        classes=tuple(f"class {k}" for k in range(labels.max() + 1)),
    )  # fmt: skip


def alone(count: int) -> Ints:
    return np.full(count, -1)


def random_groups(rng: np.random.Generator, count: int) -> Ints:
    """Some images alone, the others in groups of two to ten."""
    near = np.where(rng.random(count) < 0.5, rng.integers(0, max(count // 4, 1), count), -1)
    sizes = np.bincount(near[near >= 0], minlength=1)
    return np.where((near >= 0) & (sizes[near] > 1), near, -1)


def test_shares_are_those_of_each_class() -> None:
    labels = np.repeat([0, 1, 2], [1000, 200, 40])
    found = complete(data_of(labels), alone(1240), SplitParams(val=0.1, test=0.25)).splits
    for k, count in enumerate([1000, 200, 40]):
        sizes = np.bincount(found[labels == k], minlength=3)
        np.testing.assert_allclose(sizes, [0.65 * count, 0.1 * count, 0.25 * count], atol=1)


def test_data_with_splits_stay_as_they_are() -> None:
    data = data_of(np.array([0, 1, 0]), np.array([0, 1, 2]))
    assert complete(data, alone(3), SplitParams()) is data


def test_the_seed_chooses_and_nothing_else_does() -> None:
    data = data_of(np.arange(300) % 3)
    first, again, other = (complete(data, alone(300), SplitParams(seed=seed)).splits.tolist() for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert data.splits.tolist() == [UNDECIDED] * 300


@pytest.mark.parametrize("seed", range(60))
def test_no_group_is_torn_apart_and_no_class_is_missing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count, classes = int(rng.integers(30, 400)), int(rng.integers(2, 9))
    labels = rng.choice(classes, count, p=rng.dirichlet(np.full(classes, 2.0)))
    labels[:classes] = np.arange(classes)
    near = random_groups(rng, count)
    try:
        found = complete(data_of(labels), near, SplitParams(0.15, 0.2, seed)).splits
    except UserError as error:
        # Only a class with few independent pictures can be the reason, or groups that hold several classes.
        name = int(str(error).split("'")[1].removeprefix("class "))
        mine = near[labels == name]
        assert len(set(mine[mine >= 0])) + (mine < 0).sum() < 8
        return
    for group in set(near[near >= 0]):
        assert len(set(found[near == group])) == 1
    for k in range(classes):
        assert set(found[labels == k]) == {0, 1, 2}
    sizes = np.bincount(found, minlength=3) / count
    largest = np.bincount(near[near >= 0], minlength=1).max()
    np.testing.assert_allclose(sizes, [0.65, 0.15, 0.2], atol=(classes + largest) / count)


@pytest.mark.parametrize("kept", [1, 2])
def test_a_split_that_is_there_stays(kept: int) -> None:
    """Only the other is taken from train, as a share of what was in train."""
    labels = np.arange(220) % 2
    splits = np.where(np.arange(220) < 20, kept, UNDECIDED)
    found = complete(data_of(labels, splits), alone(220), SplitParams(val=0.2, test=0.2)).splits
    assert (found[:20] == kept).all()
    assert np.bincount(found[20:], minlength=3).tolist() == [160, *([0, 40] if kept == 1 else [40, 0])]


def test_one_huge_group_goes_to_train() -> None:
    labels = np.zeros(100, np.int64)
    labels[90:] = 1
    near = alone(100)
    near[:60] = 0
    found = complete(data_of(labels), near, SplitParams()).splits
    assert (found[:60] == 0).all()
    assert (found == 1).sum() == (found == 2).sum() == 10


def test_three_pictures_are_enough_and_two_are_too_few() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1])
    assert sorted(complete(data_of(labels), alone(6), SplitParams()).splits) == [0, 0, 1, 1, 2, 2]
    near = np.array([-1, -1, -1, 7, 7, -1])
    with pytest.raises(UserError) as error:
        complete(data_of(labels), near, SplitParams())
    assert str(error.value).startswith(
        "Class 'class 1' has 3 pictures to be divided into train and val and test, and 2 with near duplicates counted"
        " once: that is too few"
    )


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{val: 0.5, test: 0.5}", "the whole file leaves train no share: val and test must be below 1 together"),
        ("{val: 0.95}", "the whole file leaves train no share: val and test must be below 1 together"),
        ("{val: 0}", "'val' is 0, but must be between 0 and 1"),
        ("{test: 1.0}", "'test' is 1.0, but must be between 0 and 1"),
        ("{seed: -1}", "'seed' is -1, but must be 0 or more"),
        ("{train: 0.8}", "Unknown key 'train'. Valid keys: val, test, seed"),
    ],
)
def test_impossible_shares_are_refused(text: str, what: str) -> None:
    with pytest.raises(UserError) as error:
        schema.parse(SplitParams, text, "it")
    assert str(error.value) == f"it: {what}."
