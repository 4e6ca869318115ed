"""Find duplicate images: the same bytes (exact) or the same photograph (near).

Two images are *near* duplicates if they pass two steps. Both compare local contrast (a value minus the mean of its
neighbourhood), because light and background make different faces look alike and detail does not. cos(a, b) is the sum
of products divided by the root of the product of the sums of squares.

1. Coarse: the images as 12 x 12 blocks of 4 x 4 pixels, minus the mean of 7 x 7 blocks; cos >= 0.78.
2. Fine: all 48 x 48 pixels, minus the mean of 9 x 9 pixels, one image moved by up to 2 pixels either way
   over the other; the largest of the 25 cosines over the overlap is >= 0.65.

Mirrored copies count too: training mirrors its images, so it has seen a mirrored duplicate. Identical images are always
near. An image of one flat grey has no contrast (cos = 0), so it is near only to images with the same bytes. Groups are
the connected components of such pairs, so two members of a group need not be a pair themselves.

Both steps are decided in exact arithmetic (see `_cosine`) and therefore identically on every machine.

The thresholds were chosen by inspecting pairs of FER-2013 on contact sheets. Of 72 random pairs with a fine cosine in
[0.65, 0.70), 2 show different people; of 72 mirrored ones in [0.65, 0.75), 5; below, in [0.60, 0.65), about 15. The
other pairs show one photograph (cropped, compressed, brightened or watermarked differently) or one person in one shoot.
Most pairs lie far higher, so an estimated fewer than one in 100 is wrong. Crops that differ more than this are missed:
the counts are lower bounds. Drawn faces resemble each other more than photographs do, so on synthetic data many count
as near.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.ndimage import correlate1d
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pipeline.data.fer import IMAGE_SIZE, SPLITS, FerData
from pipeline.errors import UserError

COLUMNS = ("group", "kind", "index", "split", "label", "conflicting", "cross_split")
"""The columns of `duplicates.csv`: one row per image and kind of duplicate (exact, near) that it has."""

BLOCK = 4
SIDE = IMAGE_SIZE // BLOCK
COARSE_WINDOW = 7
COARSE_COSINE = 0.78
FINE_WINDOW = 9
FINE_COSINE = 0.65
SHIFT = 2

PAIRS = 4096
"""Pairs compared at a time: limits memory to some hundred MB without changing results."""

Groups = npt.NDArray[np.int64]
Indices = npt.NDArray[np.intp]
Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Duplicates:
    """The group of each image, int64 [N], by exact and by near duplicates; -1 for an image without duplicates.

    Groups have at least two members and are numbered from 0 in the order of their first rows.
    """

    exact: Groups
    near: Groups


def find(images: Bytes) -> Duplicates:
    """Find exact and near duplicates among uint8 images [N, 48, 48]."""
    first: dict[bytes, int] = {}
    original = np.array([first.setdefault(image.tobytes(), row) for row, image in enumerate(images)], np.intp)
    rows = np.arange(len(images))
    distinct = np.flatnonzero(original == rows)
    left, right = _near_pairs(images[distinct])
    return Duplicates(
        exact=_groups(len(images), original, rows),
        near=_groups(len(images), np.concatenate([original, distinct[left]]), np.concatenate([rows, distinct[right]])),
    )


def summary(groups: Groups, data: FerData) -> dict[str, int]:
    """Return the counts that `checks.json` keeps for one kind of duplicate."""
    split_counts = _members(groups, data.splits, len(SPLITS))
    label_counts = _members(groups, data.labels, len(data.classes))
    leaked = near_duplicates_of_training(groups, data.splits)
    return {
        "distinct_images": len(groups) - int((groups >= 0).sum()) + len(split_counts),
        "groups": len(split_counts),
        "conflicting_groups": int(((label_counts > 0).sum(axis=1) > 1).sum()),
        "cross_split_groups": int(((split_counts > 0).sum(axis=1) > 1).sum()),
        "test_with_train_twin": int(leaked[data.rows("test")].sum()),
    }


def near_duplicates_of_training(groups: Groups, splits: Bytes) -> npt.NDArray[np.bool_]:
    """Mark, as bool [N], the validation and test images that share a group with a training image."""
    is_train = splits == SPLITS.index("train")
    with_train = np.unique(groups[is_train & (groups >= 0)])
    return np.asarray(np.isin(groups, with_train) & ~is_train)


def table(duplicates: Duplicates, data: FerData) -> Iterator[tuple[int, str, int, str, str, int, int]]:
    """Return the rows of `duplicates.csv`, group by group: see `COLUMNS`."""
    for kind, groups in (("exact", duplicates.exact), ("near", duplicates.near)):
        conflicting = (_members(groups, data.labels, len(data.classes)) > 0).sum(axis=1) > 1
        cross_split = (_members(groups, data.splits, len(SPLITS)) > 0).sum(axis=1) > 1
        for row in np.argsort(groups, kind="stable")[(groups < 0).sum() :]:
            group = int(groups[row])
            yield (
                group,
                kind,
                int(row),
                SPLITS[data.splits[row]],
                data.classes[data.labels[row]],
                int(conflicting[group]),
                int(cross_split[group]),
            )


def read_near_duplicates(path: Path, n: int) -> npt.NDArray[np.bool_]:
    """Read `near_duplicates_of_training` for n images from `duplicates.csv`: bool [n].

    The clean test set consists of the test images that are not marked. Raises UserError if the file does not fit.
    """
    groups, splits = _read_near(path, n)
    return near_duplicates_of_training(groups, splits)


def read_near_groups(path: Path, n: int) -> Groups:
    """Read the group of near duplicates of each of n images from `duplicates.csv`, -1 without one: int64 [n].

    Raises UserError if the file does not fit.
    """
    return _read_near(path, n)[0]


def _read_near(path: Path, n: int) -> tuple[Groups, Bytes]:
    """Read the group of each image, and the split of those that have one."""
    if not path.is_file():
        raise UserError(f"{path} is missing: run `dvc repro prepare` first.")
    groups, splits = np.full(n, -1, np.int64), np.zeros(n, np.uint8)
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise UserError(f"{path}, line 1: the header must be {','.join(COLUMNS)}: run `dvc repro prepare`.")
        for row in reader:
            try:
                index = int(row["index"])
                if not 0 <= index < n:
                    raise ValueError(f"there are only {n} images")
                if row["kind"] == "near":
                    groups[index], splits[index] = int(row["group"]), SPLITS.index(row["split"])
            except (ValueError, TypeError) as error:
                raise UserError(f"{path}, line {reader.line_num}: {error}: run `dvc repro prepare` again.") from error
    return groups, splits


def _members(groups: Groups, values: Bytes, kinds: int) -> npt.NDArray[np.int64]:
    """Count the members of each group that have each value: [groups, kinds]."""
    counts = np.zeros((int(groups.max(initial=-1)) + 1, kinds), np.int64)
    grouped = groups >= 0
    np.add.at(counts, (groups[grouped], values[grouped]), 1)
    return counts


def _groups(n: int, left: Indices, right: Indices) -> Groups:
    """Number the connected components of at least two rows by their first row; -1 for the other rows."""
    graph = coo_array((np.ones(len(left), np.int8), (left, right)), shape=(n, n))
    component = connected_components(graph, directed=False)[1]
    _, first, component, size = np.unique(component, return_index=True, return_inverse=True, return_counts=True)
    number = np.full(len(size), -1, np.int64)
    shared = np.flatnonzero(size > 1)
    number[shared[np.argsort(first[shared])]] = np.arange(len(shared))
    return number[component]


def _near_pairs(images: Bytes) -> tuple[Indices, Indices]:
    """Return all pairs of rows, left < right, that are near by the rule above, among images that all differ."""
    found_left, found_right = [], []
    blocks = images.reshape(-1, SIDE, BLOCK, SIDE, BLOCK).sum((2, 4), np.int64)
    coarse = _local_contrast(blocks, COARSE_WINDOW)
    for mirrored in (False, True):
        other = coarse[:, :, ::-1] if mirrored else coarse
        for left, right in _candidates(coarse, other):
            close = _cosine(coarse[left], other[right]) >= COARSE_COSINE
            left, right = left[close], right[close]
            close = _aligned_cosine(images[left], images[right, :, ::-1] if mirrored else images[right]) >= FINE_COSINE
            found_left.append(left[close])
            found_right.append(right[close])
    none = np.zeros(0, np.intp)
    return np.concatenate([none, *found_left]), np.concatenate([none, *found_right])


def _candidates(coarse: Floats, other: Floats, chunk: int = 1024) -> Iterator[tuple[Indices, Indices]]:
    """Yield pairs, left < right, that may pass step 1, a chunk of rows and at most `PAIRS` at a time.

    One matrix product in single precision finds them. Its rounding (about 1e-6) differs between machines, so it admits
    slightly more than the threshold and the caller decides exactly.
    """
    a, b = (values.reshape(-1, SIDE * SIDE).astype(np.float32) for values in (coarse, other))
    for values in (a, b):
        values /= np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1)
    for start in range(0, len(a), chunk):
        left, right = np.nonzero(a[start : start + chunk] @ b[start:].T > COARSE_COSINE - 1e-4)
        once = np.flatnonzero(left < right)
        for part in range(0, len(once), PAIRS):
            pairs = once[part : part + PAIRS]
            yield left[pairs] + start, right[pairs] + start


def _aligned_cosine(a: Bytes, b: Bytes) -> Floats:
    """Compute step 2: the largest cosine of the local contrast of a[i] and b[i] over all shifts, float64 [n]."""
    a_contrast, b_contrast = _local_contrast(a, FINE_WINDOW), _local_contrast(b, FINE_WINDOW)
    best = np.full(len(a), -1.0)
    for down in range(-SHIFT, SHIFT + 1):
        for across in range(-SHIFT, SHIFT + 1):
            overlap_a = a_contrast[:, _overlap(down), _overlap(across)]
            overlap_b = b_contrast[:, _overlap(-down), _overlap(-across)]
            np.maximum(best, _cosine(overlap_a, overlap_b), out=best)
    return best


def _overlap(shift: int) -> slice:
    return slice(max(shift, 0), IMAGE_SIZE + min(shift, 0))


def _local_contrast(values: npt.NDArray[np.integer], window: int) -> Floats:
    """Compute window^2 times (value - mean of window x window values around it), edges repeated; whole numbers."""
    total = values.astype(np.float64)
    for axis in (1, 2):
        total = correlate1d(total, np.ones(window), axis=axis, mode="nearest")
    return values * float(window * window) - total


def _cosine(a: Floats, b: Floats) -> Floats:
    """Compute cos of a[i] and b[i] for whole numbers a, b [n, height, width]; 0 if one of them is all zero.

    Here no sum exceeds 2304 * (81 * 255)^2 < 2^53, so sums are exact in float64 in any order; product, root and
    quotient are rounded as IEEE 754 prescribes. Ties are therefore decided identically everywhere.
    """
    dot, square_a, square_b = (np.einsum("nij,nij->n", x, y) for x, y in ((a, b), (a, a), (b, b)))
    norm = np.sqrt(square_a * square_b)
    return np.asarray(np.divide(dot, norm, out=np.zeros_like(dot), where=norm > 0))
