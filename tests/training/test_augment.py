"""Augmentation against SciPy's resampling, and the promises about randomness."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from pipeline.training.augment import DRAWS, GREY, augment, cutout, flips
from pipeline.training.recipe import Augment

NONE = Augment(rotation=0, zoom=0, shift=0, brightness=0, contrast=0, cutout=0)
ALL = Augment(rotation=15, zoom=0.1, shift=0.1, brightness=10, contrast=0.2, cutout=0.2)
SIZE = 48


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def smooth(count: int = 1) -> Tensor:
    """Grey images without jumps, different in every direction."""
    noise = np.random.default_rng(0).normal(size=(count, SIZE, SIZE))
    blurred = np.stack([ndimage.gaussian_filter(image, 3) for image in noise])
    return torch.from_numpy(127.5 + 400 * blurred).float()[:, None]


def uniform(count: int, columns: int = DRAWS, seed: int = 0) -> Tensor:
    return torch.rand(count, columns, generator=seeded(seed))


def apply(images: Tensor, spec: Augment, flip: bool = False, size: int = SIZE, draws: Tensor | None = None) -> Tensor:
    """All images mirrored or none; random numbers unless they are given."""
    draws = uniform(len(images)) if draws is None else draws
    return augment(images, torch.full((len(images),), flip), size, spec, draws)


@pytest.fixture
def extreme() -> Tensor:
    """Draws for one image with every parameter at the upper end of its range."""
    return torch.ones(1, DRAWS)


@pytest.mark.parametrize("size", [48, 44, 40, 24, 96])
def test_without_changes_only_the_size_changes(size: int) -> None:
    images = smooth(3)
    found = apply(images, NONE, size=size)
    expected = F.interpolate(images, (size, size), mode="bilinear", align_corners=False)
    assert found.shape == (3, 1, size, size)
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)
    if size == SIZE:
        torch.testing.assert_close(found, images, atol=1e-3, rtol=0)


def test_flipped_images_are_mirrored_and_the_others_are_not() -> None:
    images = smooth(4)
    flip = torch.tensor([True, False, False, True])
    found = augment(images, flip, SIZE, NONE, uniform(4))
    expected = torch.stack([image.flip(2) if mirrored else image for image, mirrored in zip(images, flip, strict=True)])
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("degrees", [7.0, 30.0, 90.0])
def test_rotation_is_scipys(degrees: float, extreme: Tensor) -> None:
    image = smooth()
    found = apply(image, replace(NONE, rotation=degrees), draws=extreme)[0, 0].numpy()
    expected = ndimage.rotate(image[0, 0].numpy(), degrees, reshape=False, order=1, mode="nearest")
    np.testing.assert_allclose(found, expected, atol=0.01)


def test_zoom_is_the_logarithm_of_the_scale(extreme: Tensor) -> None:
    image = smooth()
    scale, centre = 1.2, (SIZE - 1) / 2
    found = apply(image, replace(NONE, zoom=float(np.log(scale))), draws=extreme)[0, 0].numpy()
    matrix, offset = np.eye(2) * scale, centre - scale * centre
    expected = ndimage.affine_transform(image[0, 0].numpy(), matrix, offset, order=1, mode="nearest")
    np.testing.assert_allclose(found, expected, atol=0.01)


def test_shift_is_a_share_of_the_width_in_both_directions(extreme: Tensor) -> None:
    image = smooth()
    found = apply(image, replace(NONE, shift=0.1), draws=extreme)[0, 0].numpy()
    expected = ndimage.shift(image[0, 0].numpy(), (-0.1 * SIZE, -0.1 * SIZE), order=1, mode="nearest")
    np.testing.assert_allclose(found, expected, atol=0.01)


@pytest.mark.parametrize("flip", [False, True])
def test_all_movements_at_once_are_one_resampling(flip: bool, extreme: Tensor) -> None:
    """Where a pixel of the result comes from: mirror, rotate and scale about the centre, then shift."""
    image = smooth()
    degrees, scale, shift = 20.0, 1.1, 0.05
    spec = replace(NONE, rotation=degrees, zoom=float(np.log(scale)), shift=shift)
    found = apply(image, spec, flip, draws=extreme)[0, 0]

    angle, centre = np.radians(degrees), np.full(2, (SIZE - 1) / 2)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])  # acts on (row, column)
    mirror = np.diag([1.0, -1.0 if flip else 1.0])
    matrix = scale * turn @ mirror
    offset = centre - matrix @ centre + shift * SIZE
    expected = ndimage.affine_transform(image[0, 0].numpy(), matrix, offset, order=1, mode="nearest")
    np.testing.assert_allclose(found.numpy(), expected, atol=0.01)


def test_brightness_adds_up_to_the_limit_in_both_directions() -> None:
    images = torch.full((400, 1, 8, 8), 90.0)
    found = apply(images, replace(NONE, brightness=12), size=8)
    assert (found.amax((1, 2, 3)) - found.amin((1, 2, 3))).max() < 1e-3  # the same for all pixels of an image
    added = found[:, 0, 0, 0] - 90
    assert -12.001 < added.min() < -11.5
    assert 11.5 < added.max() < 12.001


def test_contrast_scales_about_grey_up_to_the_limit_in_both_directions() -> None:
    images = torch.full((400, 1, 8, 8), GREY + 50)
    images[:, :, :, :4] = GREY - 20
    found = apply(images, replace(NONE, contrast=0.2), size=8)
    bright, dark = found[:, 0, 0, 7] - GREY, GREY - found[:, 0, 0, 0]
    torch.testing.assert_close(bright / dark, torch.full((400,), 2.5), atol=1e-3, rtol=0)
    exponent = (bright / 50).log()
    assert -0.2001 < exponent.min() < -0.19
    assert 0.19 < exponent.max() < 0.2001


def test_contrast_comes_before_brightness(extreme: Tensor) -> None:
    spec = replace(NONE, contrast=0.2, brightness=12)
    found = apply(torch.full((1, 1, 8, 8), 100.0), spec, size=8, draws=extreme)
    assert found[0, 0, 0, 0].item() == pytest.approx(GREY + (100 - GREY) * np.exp(0.2) + 12, abs=1e-3)


@pytest.mark.parametrize("field", ["rotation", "zoom", "shift", "brightness", "contrast", "cutout"])
def test_every_image_gets_its_own_parameters(field: str) -> None:
    images = smooth().repeat(6, 1, 1, 1)
    found = apply(images, replace(NONE, **{field: getattr(ALL, field)}))
    for i in range(6):
        assert not torch.allclose(found[i], images[i], atol=0.01)
        for j in range(i):
            assert not torch.allclose(found[i], found[j], atol=0.01)


def test_the_draws_alone_decide() -> None:
    images, draws = smooth(5), uniform(5, seed=3)
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = apply(images, ALL, draws=draws)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(apply(images, ALL, draws=draws), first)
    assert not torch.equal(apply(images, ALL, draws=uniform(5, seed=4)), first)


@pytest.mark.parametrize("column", range(DRAWS))
def test_every_image_depends_on_its_own_draws_only(column: int) -> None:
    """And on each of them: there is no number that is drawn for nothing."""
    images, draws = smooth(5), uniform(5)
    before = apply(images, ALL, draws=draws)
    draws[3, column] = (draws[3, column] + 0.5) % 1
    changed = [not torch.equal(a, b) for a, b in zip(apply(images, ALL, draws=draws), before, strict=True)]
    assert changed == [False, False, False, True, False]


@pytest.mark.parametrize("part", [slice(0, 3), slice(3, 6), slice(2, 3), [5, 0, 4]], ids=str)
def test_a_part_of_a_batch_is_augmented_as_in_the_whole(part: slice | list[int]) -> None:
    """Bit for bit: processes that share a batch augment their own part only."""
    images, flip, draws = smooth(6), torch.tensor([True, False, False, True, True, False]), uniform(6)
    whole = augment(images, flip, 40, ALL, draws)
    assert torch.equal(augment(images[part], flip[part], 40, ALL, draws[part]), whole[part])


def test_what_is_given_stays_as_it_was() -> None:
    images, draws = smooth(5), uniform(5)
    before = images.clone(), draws.clone()
    apply(images, ALL, draws=draws)
    cutout(images, 8, draws[:, :2])
    assert torch.equal(images, before[0])
    assert torch.equal(draws, before[1])


@pytest.mark.parametrize("side", [0, 1, 7, 8])
def test_cutout_blanks_one_square_around_a_pixel_of_the_image(side: int) -> None:
    """So at least half of its side is inside the image, and most often all of it."""
    images = torch.zeros(3000, 1, 10, 12)
    blank = cutout(images, side, uniform(3000, 2))[:, 0] == GREY
    heights, widths = blank.any(2).sum(1), blank.any(1).sum(1)
    assert torch.equal(blank.sum((1, 2)), heights * widths)  # a rectangle
    assert set(heights.tolist()) == set(range((side + 1) // 2, side + 1))
    assert set(widths.tolist()) == set(range((side + 1) // 2, side + 1))
    if side:
        assert blank.float().mean(0).min() > 0  # no place is spared


def test_cutout_of_an_odd_side_treats_opposite_edges_alike() -> None:
    blank = cutout(torch.zeros(20_000, 1, 15, 15), 5, uniform(20_000, 2))[:, 0] == GREY
    often = blank.float().mean(0)
    for mirrored in (often.flip(0), often.flip(1)):
        assert (often - mirrored).abs().max() < 0.015  # five standard errors


@pytest.mark.parametrize(
    ("draws", "rows", "columns"),
    [
        ((0.0, 0.0), [0, 1], [0, 1]),
        ((0.5, 0.25), [3, 4, 5, 6], [1, 2, 3, 4]),
        ((1 - 2**-24, 1 - 2**-24), [7, 8, 9], [9, 10, 11]),
    ],
)
def test_cutouts_first_draw_goes_from_top_to_bottom_the_second_from_left_to_right(
    draws: tuple[float, float], rows: list[int], columns: list[int]
) -> None:
    """A square of four pixels reaches from two before its pixel of the image, the first or the last at the ends."""
    blank = cutout(torch.zeros(1, 1, 10, 12), 4, torch.tensor([draws]))[0, 0] == GREY
    assert blank.any(1).nonzero().flatten().tolist() == rows
    assert blank.any(0).nonzero().flatten().tolist() == columns


def test_cutout_is_measured_by_the_size_of_the_result() -> None:
    found = apply(torch.zeros(200, 1, SIZE, SIZE), replace(NONE, cutout=0.25), size=24)
    assert (found == GREY).sum((1, 2, 3)).max() == 6 * 6


def test_cutout_comes_after_light() -> None:
    found = apply(torch.zeros(50, 1, SIZE, SIZE), replace(ALL, cutout=0.5))
    assert ((found == GREY).sum((1, 2, 3)) > 0).all()


def test_every_image_is_mirrored_every_other_epoch() -> None:
    by_epoch = torch.stack([flips(1000, epoch, seeded(5)) for epoch in range(4)])
    assert by_epoch.dtype == torch.bool
    assert (by_epoch[0] ^ by_epoch[1]).all()
    assert torch.equal(by_epoch[0], by_epoch[2])
    assert torch.equal(by_epoch[1], by_epoch[3])
    assert 400 < by_epoch[0].sum() < 600  # which half comes first is random
    assert not torch.equal(by_epoch[0], flips(1000, 0, seeded(6)))
