"""Exact and near duplicates: the rule against a plain computation, what it links, and the file it leaves."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from pipeline.data import duplicates
from pipeline.data.duplicates import (
    COLUMNS,
    Duplicates,
    find,
    near_duplicates_of_training,
    read_near_duplicates,
    summary,
    table,
)
from pipeline.data.fer import LABELS, SPLITS, FerData
from pipeline.errors import UserError
from pipeline.files import write_csv

Bytes = npt.NDArray[np.uint8]


def scenes(n: int, seed: int = 0) -> Bytes:
    """Pictures with detail at several scales, all different: sums of random blobs, uint8 [n, 52, 52]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:52, :52]
    images = np.zeros((n, 52, 52))
    for image in images:
        for _ in range(40):
            cy, cx, width = rng.uniform(0, 52), rng.uniform(0, 52), rng.uniform(1.5, 8)
            image += rng.normal() * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * width**2))
    low, high = images.min((1, 2), keepdims=True), images.max((1, 2), keepdims=True)
    scaled: Bytes = (20 + 200 * (images - low) / (high - low)).astype(np.uint8)
    return scaled


def crop(image: Bytes, down: int = 2, across: int = 2) -> Bytes:
    return image[down : down + 48, across : across + 48]


def jpeg(image: Bytes, quality: int) -> Bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def data_of(images: Bytes, splits: str, labels: list[int] | None = None) -> FerData:
    """splits: one letter per image, t(rain), v(al) or p(rivate test)."""
    return FerData(
        images,
        np.array(labels or [0] * len(images), np.uint8),
        np.array(["tvp".index(letter) for letter in splits], np.uint8),
    )


# --- the rule


def plain_contrast(values: list[list[int]], window: int) -> list[list[int]]:
    """window^2 (value - local mean) with repeated edges, one value at a time, in Python's own integers."""
    size, reach = len(values), window // 2

    def clamp(i: int) -> int:
        return min(max(i, 0), size - 1)

    return [
        [
            window * window * values[r][c]
            - sum(
                values[clamp(r + i)][clamp(c + j)] for i in range(-reach, reach + 1) for j in range(-reach, reach + 1)
            )
            for c in range(size)
        ]
        for r in range(size)
    ]


def plain_cosine(pairs: list[tuple[int, int]]) -> float:
    norm = math.sqrt(sum(a * a for a, _ in pairs) * sum(b * b for _, b in pairs))
    return sum(a * b for a, b in pairs) / norm if norm else 0.0


def plain_near(a: Bytes, b: Bytes) -> bool:
    """The rule in the module's docstring, written out for one pair that is not mirrored."""

    def blocks(image: Bytes) -> list[list[int]]:
        places = range(0, 48, 4)
        return [[int(image[r : r + 4, c : c + 4].sum()) for c in places] for r in places]

    coarse_a, coarse_b = plain_contrast(blocks(a), 7), plain_contrast(blocks(b), 7)
    if plain_cosine([(coarse_a[r][c], coarse_b[r][c]) for r in range(12) for c in range(12)]) < 0.78:
        return False
    fine_a, fine_b = plain_contrast(a.tolist(), 9), plain_contrast(b.tolist(), 9)
    return any(
        plain_cosine(
            [
                (fine_a[r + down][c + across], fine_b[r][c])
                for r in range(48)
                for c in range(48)
                if 0 <= r + down < 48 and 0 <= c + across < 48
            ]
        )
        >= 0.65
        for down in range(-2, 3)
        for across in range(-2, 3)
    )


def test_the_rule_against_a_plain_computation() -> None:
    """Another picture mixed in fails step 1 first; noise fails step 2 first."""
    base, other = scenes(2)
    rng = np.random.default_rng(5)
    found = []
    for share, noise in ((0.0, 3), (0.3, 3), (0.4, 3), (0.45, 3), (1.0, 3), (0.0, 5), (0.0, 9)):
        mixed = (1 - share) * base + share * other + rng.normal(0, noise, base.shape)
        pair = np.stack([crop(base), crop(mixed.clip(0, 255).astype(np.uint8), 1, 3)])
        found.append(find(pair).near.tolist() == [0, 0])
        assert found[-1] == plain_near(*pair), (share, noise)
    assert found == [True, True, True, False, False, True, False]


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_thresholds_are_exact(mirrored: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pair whose cosine is the threshold is near; with the next larger float64 as threshold it is not."""
    a, b = crop(scenes(1)[0]), crop(scenes(1)[0], 1, 1)
    blocks = np.stack([a, b]).reshape(2, 12, 4, 12, 4).sum((2, 4), np.int64)
    coarse = duplicates._local_contrast(blocks, duplicates.COARSE_WINDOW)
    pair = np.stack([a, b[:, ::-1] if mirrored else b])
    for name, cosine in (
        ("COARSE_COSINE", duplicates._cosine(coarse[:1], coarse[1:])[0]),
        ("FINE_COSINE", duplicates._aligned_cosine(a[None], b[None])[0]),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(duplicates, name, float(cosine))
            assert find(pair).near.tolist() == [0, 0]
            patch.setattr(duplicates, name, math.nextafter(cosine, 2))
            assert find(pair).near.tolist() == [-1, -1]


@pytest.mark.parametrize("down", range(-3, 4))
@pytest.mark.parametrize("across", range(-3, 4))
def test_step_two_aligns_up_to_two_pixels_either_way(down: int, across: int) -> None:
    """Noise resembles itself in one position only."""
    noise = np.random.default_rng(0).integers(0, 256, (54, 54)).astype(np.uint8)
    cosine = duplicates._aligned_cosine(crop(noise, 3, 3)[None], crop(noise, 3 + down, 3 + across)[None])[0]
    assert cosine > 0.95 if max(abs(down), abs(across)) <= 2 else cosine < 0.2


def test_the_order_of_sums_does_not_matter() -> None:
    """The largest sums stay below 2^53, so that float64 holds them exactly."""
    extreme = np.zeros((1, 48, 48), np.uint8)
    extreme[:, ::2, ::2] = 255
    contrast = duplicates._local_contrast(extreme, duplicates.FINE_WINDOW)
    assert np.array_equal(contrast, np.round(contrast))
    assert np.array_equal(contrast[0], plain_contrast(extreme[0].tolist(), 9))
    assert 48 * 48 * (81 * 255) ** 2 < 2**53
    assert 12 * 12 * (49 * 16 * 255) ** 2 < 2**53


ALTERED: dict[str, Callable[[Bytes], npt.NDArray[Any]]] = {
    "identical": lambda image: crop(image),
    "one pixel changed": lambda image: np.where(np.arange(2304).reshape(48, 48) == 99, 255, crop(image)),
    "compressed": lambda image: jpeg(crop(image), 40),
    "darker": lambda image: crop(image) // 2,
    "less contrast": lambda image: 90 + crop(image) // 3,
    "moved down": lambda image: crop(image, 3, 2),
    "moved two across": lambda image: crop(image, 2, 0),
    "moved diagonally": lambda image: crop(image, 1, 3),
    "mirrored": lambda image: crop(image)[:, ::-1],
    "mirrored and moved": lambda image: crop(image, 1, 2)[:, ::-1],
    "noisy": lambda image: (crop(image) + np.random.default_rng(0).normal(0, 4, (48, 48))).clip(0, 255),
    "scaled": lambda image: np.asarray(Image.fromarray(crop(image)).resize((50, 50)))[1:49, 1:49],
}


@pytest.mark.parametrize("how", ALTERED)
def test_an_altered_copy_is_found_among_others(how: str) -> None:
    many = scenes(40)
    images = np.stack([*(crop(image) for image in many), ALTERED[how](many[7]).astype(np.uint8)])
    found = find(images)
    expected = np.full(41, -1)
    expected[[7, 40]] = 0
    np.testing.assert_array_equal(found.near, expected)
    np.testing.assert_array_equal(found.exact, expected if how == "identical" else np.full(41, -1))


@pytest.mark.parametrize(
    "alter",
    [lambda image: crop(image)[::-1], lambda image: crop(image).T, lambda image: 255 - crop(image)],
    ids=["upside down", "transposed", "negative"],
)
def test_what_training_does_not_do_is_no_copy(alter: object) -> None:
    images = np.stack([crop(scenes(1)[0]), alter(scenes(1)[0])])  # type: ignore[operator]
    assert find(images).near.tolist() == [-1, -1]


def test_different_pictures_are_not_linked() -> None:
    images = np.stack([crop(image) for image in scenes(300, seed=3)])
    assert (find(images).near == -1).all()


def test_flat_images_are_twins_only_if_identical() -> None:
    flat = [np.full((48, 48), grey, np.uint8) for grey in (0, 0, 128, 255)]
    speck = np.zeros((48, 48), np.uint8)
    speck[20, 20] = 255
    ramp = np.tile(np.arange(48, dtype=np.uint8), (48, 1))
    found = find(np.stack([*flat, speck, ramp]))
    assert found.exact.tolist() == [0, 0, -1, -1, -1, -1]
    assert found.near.tolist() == [0, 0, -1, -1, -1, -1]


def test_a_symmetric_image_is_not_its_own_twin() -> None:
    image = crop(scenes(1)[0]).copy()
    image[:, 24:] = image[:, :24][:, ::-1]
    assert find(image[None]).near.tolist() == [-1]


@pytest.mark.parametrize("n", [0, 1])
def test_hardly_any_images(n: int) -> None:
    found = find(np.zeros((n, 48, 48), np.uint8))
    assert found.exact.tolist() == found.near.tolist() == [-1] * n


# --- groups


def chain() -> Bytes:
    """a, b, c with a near b and b near c but a not near c: the same scene moved by 2 and by 4 pixels."""
    image = scenes(1, seed=11)[0]
    return np.stack([crop(image, 2, 0), crop(image, 2, 2), crop(image, 2, 4)])


def test_groups_are_connected_components() -> None:
    a, b, c = chain()
    assert find(np.stack([a, b])).near.tolist() == [0, 0]
    assert find(np.stack([b, c])).near.tolist() == [0, 0]
    assert find(np.stack([a, b, c])).near.tolist() == [0, 0, 0]


def test_near_groups_hold_exact_groups_and_are_numbered_by_first_row() -> None:
    x, y, z = (crop(image) for image in scenes(3))
    found = find(np.stack([x, x, z, y, y // 2, y, x]))
    assert found.exact.tolist() == [0, 0, -1, 1, -1, 1, 0]
    assert found.near.tolist() == [0, 0, -1, 1, 1, 1, 0]


def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    many = [crop(image) for image in scenes(30)]
    images = np.stack([*many, *(image[:, ::-1] for image in many[::2]), *(jpeg(image, 50) for image in many[::3])])
    whole = find(images)
    assert (whole.near >= 0).sum() > 30
    original = duplicates._candidates
    monkeypatch.setattr(duplicates, "_candidates", lambda a, b: original(a, b, chunk=7))
    chunked = find(images)
    np.testing.assert_array_equal(chunked.near, whole.near)
    np.testing.assert_array_equal(chunked.exact, whole.exact)


GROUPS = np.array([0, 0, 1, 1, -1, 1, 2, 2, 3, 3, 4, 4])
SPLITS_OF_ROWS = "ttttpvptvppp"
LABELS_OF_ROWS = [3, 3, 0, 0, 5, 1, 2, 2, 6, 6, 4, 4]


def grouped() -> FerData:
    return data_of(np.zeros((12, 48, 48), np.uint8), SPLITS_OF_ROWS, LABELS_OF_ROWS)


def test_summary_counts() -> None:
    assert summary(GROUPS, grouped()) == {
        "distinct_images": 6,  # five groups and the one image alone
        "groups": 5,
        "conflicting_groups": 1,  # group 1: angry and disgust
        "cross_split_groups": 3,  # groups 1, 2 and 3
        "test_with_train_twin": 1,  # row 6; row 9's twin is in val
    }


def test_summary_without_duplicates() -> None:
    counts = summary(np.full(12, -1), grouped())
    assert counts.pop("distinct_images") == 12
    assert set(counts.values()) == {0}


def test_train_twins_are_the_val_and_test_rows_with_a_training_row_in_their_group() -> None:
    assert np.flatnonzero(near_duplicates_of_training(GROUPS, grouped().splits)).tolist() == [5, 6]


def test_counts_against_a_plain_computation() -> None:
    rng = np.random.default_rng(0)
    splits, labels = rng.integers(0, 3, 400).astype(np.uint8), rng.integers(0, 7, 400).astype(np.uint8)
    raw = rng.integers(-1, 150, 400)
    members = {g: np.flatnonzero(raw == g) for g in range(150)}
    groups = np.full(400, -1)
    kept = sorted((rows for rows in members.values() if len(rows) > 1), key=lambda rows: rows[0])
    for number, rows in enumerate(kept):
        groups[rows] = number
    data = FerData(np.zeros((400, 48, 48), np.uint8), labels, splits)
    twins = [s for rows in kept for s in rows if splits[s] != 0 and (splits[rows] == 0).any()]
    assert summary(groups, data) == {
        "distinct_images": 400 - sum(len(rows) - 1 for rows in kept),
        "groups": len(kept),
        "conflicting_groups": sum(len(set(labels[rows])) > 1 for rows in kept),
        "cross_split_groups": sum(len(set(splits[rows])) > 1 for rows in kept),
        "test_with_train_twin": sum(splits[s] == 2 for s in twins),
    }
    np.testing.assert_array_equal(np.flatnonzero(near_duplicates_of_training(groups, splits)), sorted(twins))


# --- duplicates.csv


def test_the_table_lists_every_member_of_every_group() -> None:
    exact = np.where(GROUPS == 0, 0, -1)
    rows = list(table(Duplicates(exact, GROUPS), grouped()))
    assert rows[:3] == [
        (0, "exact", 0, "train", "happy", 0, 0),
        (0, "exact", 1, "train", "happy", 0, 0),
        (0, "near", 0, "train", "happy", 0, 0),
    ]
    assert (1, "near", 5, "val", "disgust", 1, 1) in rows
    assert (2, "near", 6, "test", "fear", 0, 1) in rows
    near = [row for row in rows if row[1] == "near"]
    assert [row[2] for row in near] == np.flatnonzero(GROUPS >= 0).tolist()
    assert all(row[0] == GROUPS[row[2]] for row in near)
    assert {row[3] for row in near} <= set(SPLITS)
    assert {row[4] for row in near} <= set(LABELS)


def test_twins_come_back_from_the_file(tmp_path: Path) -> None:
    data = grouped()
    exact = np.array([-1, -1, -1, -1, -1, -1, 1, 1, 0, 0, -1, -1])  # numbered apart from the near groups
    rows = list(table(Duplicates(exact, GROUPS), data))
    for order in (rows, rows[::-1]):
        write_csv(tmp_path / "duplicates.csv", COLUMNS, order)
        twins = read_near_duplicates(tmp_path / "duplicates.csv", 12)
        assert twins.dtype == np.bool_
        np.testing.assert_array_equal(twins, near_duplicates_of_training(GROUPS, data.splits))


def test_a_file_without_duplicates_marks_nothing(tmp_path: Path) -> None:
    write_csv(tmp_path / "duplicates.csv", COLUMNS, [])
    assert read_near_duplicates(tmp_path / "duplicates.csv", 3).tolist() == [False] * 3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "line 1: the header must be group,kind,index"),
        ("group,index\n", "line 1: the header must be group,kind,index"),
        (",".join(COLUMNS) + "\n0,near,12,test,sad,0,1\n", "line 2: there are only 12 images"),
        (",".join(COLUMNS) + "\n0,near,-1,test,sad,0,1\n", "line 2: there are only 12 images"),
        (",".join(COLUMNS) + "\n0,near,1,test,sad,0,1\n0,near,x,test,sad,0,1\n", "line 3: "),
        (",".join(COLUMNS) + "\n0,near,1,holdout,sad,0,1\n", "line 2: "),
        (",".join(COLUMNS) + "\n0,near\n", "line 2: "),
    ],
)
def test_a_file_that_does_not_fit_is_refused(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "duplicates.csv").write_text(text)
    with pytest.raises(UserError) as caught:
        read_near_duplicates(tmp_path / "duplicates.csv", 12)
    assert says in str(caught.value)
    assert "dvc repro prepare" in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"duplicates\.csv is missing: run `dvc repro prepare`"):
        read_near_duplicates(tmp_path / "duplicates.csv", 12)
