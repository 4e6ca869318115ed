"""AutoAugment against Pillow, one image and one operation after the other, and the promises about randomness."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from pipeline.training import policies
from pipeline.training.policies import DRAWS, OPERATIONS, POLICIES, Policy, apply_policy, apply_sub_policies

Picture = Image.Image
LEVELS = range(10)
BLENDS = {"Brightness", "Color", "Contrast", "Sharpness"}
"""Pillow computes them in floats, which compilers for some processors round in other places."""


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def uniform(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, DRAWS, generator=seeded(seed), dtype=torch.float64)


def noise(count: int, height: int = 24, width: int = 20) -> Tensor:
    return torch.randint(256, (count, 1, height, width), dtype=torch.uint8, generator=seeded(1))


def various(height: int = 48, width: int = 48) -> Tensor:
    """Images of all grey levels, of a few neighbouring ones, of few and far ones, smooth, and of one level."""
    every = noise(6, height, width)
    ramp = torch.arange(height)[:, None] * 2 + torch.arange(width) * 3
    parts = [every, every // 8 + 90, every // 64 * 50, ramp.to(torch.uint8).expand(1, 1, -1, -1)]
    return torch.cat([*parts, torch.full((1, 1, height, width), 77, dtype=torch.uint8)])


def affine(picture: Picture, coefficients: tuple[float, ...]) -> Picture:
    return picture.transform(picture.size, Image.Transform.AFFINE, coefficients, fillcolor=128)


def enhanced(kind: Callable[[Picture], ImageEnhance._Enhance]) -> Callable[[Picture, float], Picture]:
    return lambda picture, factor: kind(picture).enhance(factor)


PILLOW: dict[str, Callable[[Picture, float], Picture]] = {
    "ShearX": lambda picture, slope: affine(picture, (1, slope, 0, 0, 1, 0)),
    "ShearY": lambda picture, slope: affine(picture, (1, 0, 0, slope, 1, 0)),
    "TranslateX": lambda picture, share: affine(picture, (1, 0, share * picture.width, 0, 1, 0)),
    "TranslateY": lambda picture, share: affine(picture, (1, 0, 0, 0, 1, share * picture.height)),
    "Rotate": lambda picture, degrees: picture.rotate(degrees, fillcolor=128),
    "AutoContrast": lambda picture, _: ImageOps.autocontrast(picture),
    "Invert": lambda picture, _: ImageOps.invert(picture),
    "Equalize": lambda picture, _: ImageOps.equalize(picture),
    "Solarize": lambda picture, threshold: ImageOps.solarize(picture, threshold),  # type: ignore[arg-type]
    "Posterize": lambda picture, bits: ImageOps.posterize(picture, round(bits)),
    "Contrast": enhanced(ImageEnhance.Contrast),
    "Color": enhanced(ImageEnhance.Color),
    "Brightness": enhanced(ImageEnhance.Brightness),
    "Sharpness": enhanced(ImageEnhance.Sharpness),
}


def pillow(name: str, images: Tensor, magnitude: float) -> Tensor:
    pictures = (Image.fromarray(image) for image in images[:, 0].numpy())
    changed = [np.asarray(PILLOW[name](picture, magnitude)) for picture in pictures]
    return torch.from_numpy(np.stack(changed))[:, None]


def plain(images: Tensor, policy: Policy, draws: Tensor) -> Tensor:
    """The policy image by image: what is drawn for each, and Pillow."""
    results = []
    for image, (which, *others) in zip(images, draws.tolist(), strict=True):
        changed = image[None]
        steps = policy[int(which * len(policy))]
        for (name, probability, level), applies, sign in zip(steps, others[:2], others[2:], strict=True):
            if applies < probability:
                magnitude = OPERATIONS[name].magnitude(level)
                negative = OPERATIONS[name].signed and sign < 0.5
                changed = pillow(name, changed, -magnitude if negative else magnitude)
        results.append(changed)
    return torch.cat(results)


def off_by(found: Tensor, expected: Tensor) -> int:
    return int((found.int() - expected.int()).abs().max())


@pytest.mark.parametrize("size", [(48, 48), (24, 41), (2, 3)], ids=str)
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_pillows_at_every_level(name: str, size: tuple[int, int]) -> None:
    operation, images = OPERATIONS[name], various(*size)
    for level in LEVELS:
        for sign in (1, -1) if operation.signed else (1,):
            magnitude = sign * operation.magnitude(level)
            found = operation.change(images, magnitude)
            assert found.dtype == torch.uint8
            assert off_by(found, pillow(name, images, magnitude)) <= (name in BLENDS), (level, sign)


def test_autocontrast_is_pillows_for_every_darkest_and_brightest_level() -> None:
    """Its products are often whole numbers, which the slightest difference rounds down to the next."""
    levels = torch.arange(256).view(16, 16)
    images = [levels.clamp(low, high) for low in range(0, 256, 5) for high in range(low, 256)]
    stretched = torch.stack(images)[:, None].to(torch.uint8)
    found = OPERATIONS["AutoContrast"].change(stretched, 0)
    assert torch.equal(found, pillow("AutoContrast", stretched, 0))


@pytest.mark.parametrize(
    ("name", "expected"),
    {
        "ShearX": [0.3 * level / 9 for level in LEVELS],
        "ShearY": [0.3 * level / 9 for level in LEVELS],
        "TranslateX": [150 / 331 * level / 9 for level in LEVELS],
        "TranslateY": [150 / 331 * level / 9 for level in LEVELS],
        "Rotate": [30 * level / 9 for level in LEVELS],
        "Solarize": [256 * (9 - level) / 9 for level in LEVELS],
        "Posterize": [8 - 4 * level / 9 for level in LEVELS],
        "Contrast": [0.1, 0.3, 0.5, 0.7, 0.9, 1.1, 1.3, 1.5, 1.7, 1.9],
        "Color": [0.1, 0.3, 0.5, 0.7, 0.9, 1.1, 1.3, 1.5, 1.7, 1.9],
        "Brightness": [0.1, 0.3, 0.5, 0.7, 0.9, 1.1, 1.3, 1.5, 1.7, 1.9],
        "Sharpness": [0.1, 0.3, 0.5, 0.7, 0.9, 1.1, 1.3, 1.5, 1.7, 1.9],
    }.items(),
)
def test_magnitudes_are_the_papers(name: str, expected: list[float]) -> None:
    assert [OPERATIONS[name].magnitude(level) for level in LEVELS] == pytest.approx(expected)


def test_posterize_keeps_eight_to_four_bits() -> None:
    operation, levels = OPERATIONS["Posterize"], torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    kept = [len(operation.change(levels, operation.magnitude(level)).unique()) for level in LEVELS]
    assert kept == [2**bits for bits in (8, 8, 7, 7, 6, 6, 5, 5, 4, 4)]


def test_only_moves_have_a_sign() -> None:
    signed = {name for name, operation in OPERATIONS.items() if operation.signed}
    assert signed == {"ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"}


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_is_25_pairs_of_known_operations(name: str) -> None:
    policy = POLICIES[name]
    assert len(policy) == 25
    for operation, probability, level in (step for steps in policy for step in steps):
        assert operation in OPERATIONS
        assert round(10 * probability) == pytest.approx(10 * probability)
        assert 0 <= probability <= 1
        assert level in LEVELS
    assert all(len(steps) == 2 for steps in policy)


def test_imagenets_last_five_sub_policies_repeat_earlier_ones() -> None:
    policy = POLICIES["imagenet"]
    assert policy[20:] == tuple(policy[earlier] for earlier in (4, 1, 13, 14, 2))
    assert len(set(policy)) == 20


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_is_pillows_image_by_image(name: str) -> None:
    """Every sub-policy with every combination of its draws, most likely more than once."""
    images, draws = noise(1000), uniform(1000, seed=3)
    found = apply_sub_policies(images, POLICIES[name], draws)
    assert (found != images).flatten(1).any(1).float().mean() > 0.5
    difference = (found.int() - plain(images, POLICIES[name], draws).int()).abs()
    # A grey level of a blend may become another one in the next operation; Pillow's blends are exact on x86.
    assert (difference > 0).float().mean() < 0.001


def test_apply_policy_draws_the_numbers_that_apply_sub_policies_takes() -> None:
    images, generator = noise(50), seeded(4)
    found = apply_policy(images, "svhn", generator)
    draws = torch.rand(50, DRAWS, generator=seeded(4), dtype=torch.float64)
    assert torch.equal(found, apply_sub_policies(images, POLICIES["svhn"], draws))


@pytest.mark.parametrize("name", POLICIES)
def test_the_generator_alone_decides(name: str) -> None:
    images = noise(200)
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = apply_policy(images, name, seeded(5))
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(apply_policy(images, name, seeded(5)), first)
    assert not torch.equal(apply_policy(images, name, seeded(6)), first)


def test_what_is_drawn_does_not_depend_on_policy_or_images() -> None:
    states = []
    for name, images in (("imagenet", noise(30)), ("svhn", noise(30, 16, 18) // 2)):
        generator = seeded(7)
        apply_policy(images, name, generator)
        states.append(generator.get_state())
    assert torch.equal(*states)


def test_what_is_given_stays_as_it_was() -> None:
    images, draws = noise(100), uniform(100)
    before = images.clone(), draws.clone()
    apply_sub_policies(images, POLICIES["cifar10"], draws)
    assert torch.equal(images, before[0])
    assert torch.equal(draws, before[1])


@pytest.mark.parametrize("chunk", [1, 7])
@pytest.mark.parametrize("name", POLICIES)
def test_chunks_change_nothing(name: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    images = noise(300)
    whole = apply_policy(images, name, seeded(8))
    monkeypatch.setattr(policies, "CHUNK", chunk)
    assert torch.equal(apply_policy(images, name, seeded(8)), whole)


@pytest.mark.parametrize("part", [slice(0, 90), slice(90, 91), [150, 0, 33, 32]], ids=str)
@pytest.mark.parametrize("name", POLICIES)
def test_a_part_of_the_images_is_changed_as_in_the_whole(name: str, part: slice | list[int]) -> None:
    images, draws = noise(200), uniform(200)
    whole = apply_sub_policies(images, POLICIES[name], draws)
    assert torch.equal(apply_sub_policies(images[part], POLICIES[name], draws[part]), whole[part])


@pytest.mark.parametrize("column", range(DRAWS))
def test_every_image_depends_on_its_own_draws_only(column: int) -> None:
    """And on each of them: there is no number that is drawn for nothing."""
    policy: Policy = ((("ShearX", 0.5, 9), ("TranslateY", 0.5, 5)), (("Rotate", 0.5, 9), ("ShearY", 0.5, 5)))
    images, draws = noise(5), torch.full((5, DRAWS), 0.25, dtype=torch.float64)
    before = apply_sub_policies(images, policy, draws)
    draws[3, column] = 0.75
    changed = (apply_sub_policies(images, policy, draws) != before).flatten(1).any(1)
    assert changed.tolist() == [False, False, False, True, False]


def test_no_image_is_an_answer() -> None:
    assert apply_policy(noise(0), "imagenet", seeded()).shape == (0, 1, 24, 20)


@pytest.mark.parametrize("name", OPERATIONS)
def test_with_probability_zero_no_image_changes(name: str) -> None:
    images, policy = noise(200), (((name, 0.0, 9), (name, 0.0, 0)),)
    assert torch.equal(apply_sub_policies(images, policy, uniform(200)), images)


def test_with_probability_one_every_image_changes() -> None:
    images, policy = noise(200), ((("Invert", 1.0, 0), ("Posterize", 1.0, 9)),)
    assert torch.equal(apply_sub_policies(images, policy, uniform(200)), 255 - images & 0xF0)


def test_color_does_nothing_to_grey_images() -> None:
    images, policy = noise(20), ((("Color", 1.0, 0), ("Color", 1.0, 9)),)
    assert torch.equal(apply_sub_policies(images, policy, uniform(20)), images)


def within_five_errors(share: float, expected: float, count: int) -> bool:
    return abs(share - expected) < 5 * math.sqrt(expected * (1 - expected) / count)


def test_sub_policies_are_equally_frequent() -> None:
    """Each of nine leaves another grey level."""
    policy: Policy = tuple((("Brightness", 1.0, level), ("Color", 1.0, 0)) for level in range(1, 10))
    images = torch.full((9000, 1, 1, 1), 100, dtype=torch.uint8)
    found, counts = apply_sub_policies(images, policy, uniform(9000)).unique(return_counts=True)
    assert len(found) == 9
    assert all(within_five_errors(count / 9000, 1 / 9, 9000) for count in counts.tolist())


def test_operations_are_applied_with_their_probabilities_independently() -> None:
    images = torch.full((10_000, 1, 1, 1), 100, dtype=torch.uint8)
    found = apply_sub_policies(images, ((("Invert", 0.3, 0), ("Posterize", 0.8, 9)),), uniform(10_000))
    shares = {100: 0.7 * 0.2, 155: 0.3 * 0.2, 96: 0.7 * 0.8, 144: 0.3 * 0.8}
    assert set(found.flatten().tolist()) == set(shares)
    for level, expected in shares.items():
        assert within_five_errors(float((found == level).double().mean()), expected, 10_000)


@pytest.mark.parametrize("name", ["TranslateX", "TranslateY", "ShearX", "ShearY", "Rotate"])
def test_half_of_the_signs_are_negative(name: str) -> None:
    count, operation = 2000, OPERATIONS[name]
    image = noise(1, 12, 12)
    found = apply_sub_policies(image.expand(count, -1, -1, -1), (((name, 1.0, 9), (name, 0.0, 9)),), uniform(count))
    forth, back = (operation.change(image, sign * operation.magnitude(9)) for sign in (1, -1))
    shares = [float((found == view).flatten(1).all(1).double().mean()) for view in (forth, back)]
    assert sum(shares) == pytest.approx(1)
    assert within_five_errors(shares[0], 0.5, count)


@pytest.mark.parametrize("images", [noise(2).float(), noise(2)[:, 0], noise(2).expand(-1, 3, -1, -1)])
def test_images_of_another_type_or_shape_are_rejected(images: Tensor) -> None:
    with pytest.raises(ValueError, match="uint8"):
        apply_policy(images, "imagenet", seeded())


def test_an_unknown_policy_is_rejected_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'mnist'.*imagenet.*cifar10.*svhn"):
        apply_policy(noise(2), "mnist", seeded())


@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - {"Equalize"}))
def test_an_operation_stays_on_the_device_of_its_images(name: str) -> None:
    """PyTorch's device without memory refuses tensors of another one; it cannot count (`bincount`)."""
    operation = OPERATIONS[name]
    found = operation.change(noise(3).to("meta"), operation.magnitude(4))
    assert (found.device.type, found.dtype, found.shape) == ("meta", torch.uint8, (3, 1, 24, 20))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU here")
@pytest.mark.parametrize("name", POLICIES)
def test_a_gpu_gives_the_same_bits(name: str) -> None:
    images = torch.cat([various(), noise(3000, 48, 48)])
    expected = apply_policy(images, name, seeded(9))
    assert torch.equal(apply_policy(images.cuda(), name, seeded(9)).cpu(), expected)
