"""Divide images into train, val and test without a near duplicate of one in another.

A folder of pictures may come without some of the splits. Then `complete` draws them by a seed: each group of near
duplicates (see `pipeline.data.duplicates`) goes to one side as a whole, and each class is divided in the wished shares
as closely as whole groups allow.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from pipeline.data.fer import SPLITS, FerData
from pipeline.errors import UserError
from pipeline.schema import problem

UNDECIDED = len(SPLITS)
"""The number in `FerData.splits` of an image that `complete` is to put into a split."""

Share = Annotated[float, Field(gt=0, lt=1)]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SplitParams:
    """How pictures that come without a split are divided. val, test: shares of them; train takes the rest."""

    val: Share = 0.1
    test: Share = 0.1
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _leave_some_to_train(self) -> SplitParams:
        if self.val + self.test >= 1:
            raise problem("{key} leaves train no share: val and test must be below 1 together")
        return self


def complete(data: FerData, near: Ints, shares: SplitParams) -> FerData:
    """Put every undecided image into train or into a split that is empty so far; return others as they are.

    near: the group of near duplicates of each image, int64 [N], -1 for none. Raises UserError if a class has too few
    images, near duplicates counted once, to be in every split.
    """
    rows = np.flatnonzero(data.splits == UNDECIDED)
    if not len(rows):
        return data
    sides = ["train", *(split for split in ("val", "test") if not len(data.rows(split)))]
    labels, group = data.labels[rows], _numbered(near[rows])
    wanted = np.array([getattr(shares, side) for side in sides[1:]])
    counts = np.zeros((group.max() + 1, len(data.classes)), np.int64)
    np.add.at(counts, (group, labels), 1)
    side = _assign(counts, np.array([1 - wanted.sum(), *wanted]), shares.seed)
    found = np.array([SPLITS.index(name) for name in sides], np.uint8)[side[group]]
    for k, name in enumerate(data.classes):
        if len(set(found[labels == k])) < len(sides):
            groups = int((counts[:, k] > 0).sum())
            raise UserError(
                f"Class '{name}' has {(labels == k).sum()} pictures to be divided into {' and '.join(sides)}, and"
                f" {groups} with near duplicates counted once: that is too few to have it in each; add pictures, or"
                " divide them into the folders train, val and test yourself."
            )
    splits = data.splits.copy()
    splits[rows] = found
    return dataclasses.replace(data, splits=splits)


def _numbered(near: Ints) -> Ints:
    """Number the groups from 0, each image without a near duplicate as a group of its own."""
    alone = near < 0
    unique = np.where(alone, near.max(initial=-1) + 1 + np.arange(len(near)), near)
    return np.unique(unique, return_inverse=True)[1].astype(np.int64)


def _assign(counts: Ints, shares: npt.NDArray[np.float64], seed: int) -> Ints:
    """Return the side of each group: int64 [G], sides in the order of `shares` [S], which add up to 1.

    counts: the images of each class in each group [G, K]. Where possible every class gets its smallest groups into the
    sides other than the first. Then the others follow, the largest first and equal ones in a drawn order, each to the
    side s with the largest sum_k c_k (w_sk - a_sk): w are the wished numbers of images, a those so far, c those of the
    group. That is the choice by which the sum over all (w - a)^2 falls most.
    """
    # Fractions of 53 bits: other distributions may change between NumPy's versions.
    drawn = np.argsort(np.random.Generator(np.random.PCG64([seed, UNDECIDED])).random(len(counts)), kind="stable")
    by_size = drawn[np.argsort(counts[drawn].sum(axis=1), kind="stable")]
    side = np.full(len(counts), -1)
    missing = shares[:, None] * counts.sum(axis=0)
    has_class = np.zeros(missing.shape, bool)

    def put(group: int, place: int) -> None:
        side[group] = place
        missing[place] -= counts[group]
        has_class[place] |= counts[group] > 0

    for k in np.argsort((counts > 0).sum(axis=0), kind="stable"):
        for place in range(1, len(shares)):
            free = by_size[(side[by_size] < 0) & (counts[by_size, k] > 0)]
            if len(free) and not has_class[place, k]:
                put(free[0], place)
    for group in by_size[::-1]:
        if side[group] < 0:
            put(group, int(np.argmax(missing @ counts[group])))
    return side
