"""The network's shapes and number formats."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pipeline.training.model import Block, Classifier, FerNet

DESCRIPTION: dict[str, Any] = {"widths": [4, 6, 8], "output_dim": 5, "mean": 120.0, "std": 60.0}


def network(seed: int = 0) -> FerNet:
    """A small network with statistics and biases that are not those of a fresh one."""
    torch.manual_seed(seed)
    made = FerNet(**DESCRIPTION)
    made.train()
    for _ in range(3):
        made(faces(4))
    return made.eval()


def faces(count: int, size: int = 48, seed: int = 1) -> torch.Tensor:
    return torch.randint(256, (count, 1, size, size), generator=torch.Generator().manual_seed(seed)).float()


@pytest.mark.parametrize("size", [48, 44, 40, 36, 18, 8, 2])
def test_any_even_size_gives_one_row_of_outputs_per_image(size: int) -> None:
    with torch.no_grad():
        output = network()(faces(3, size))
    assert output.shape == (3, 5)
    assert output.dtype == torch.float32
    assert torch.isfinite(output).all()


@pytest.mark.parametrize(("size", "halved"), [(24, 12), (22, 11), (11, 6), (9, 5), (1, 1)])
def test_a_block_halves_the_size_and_rounds_up(size: int, halved: int) -> None:
    assert Block(4, 6).eval()(torch.zeros(2, 4, size, size)).shape == (2, 6, halved, halved)


def test_odd_sizes_lose_no_pixel() -> None:
    """The last row and column of 44 -> 22 -> 11 -> 6 still reach the output."""
    block = Block(1, 1).eval()
    torch.nn.init.ones_(block.conv1.weight)
    torch.nn.init.ones_(block.conv2.weight)
    corner = torch.zeros(1, 1, 11, 11)
    corner[..., -1, -1] = 1
    assert block(corner)[0, 0, -1, -1] > 0


def test_images_are_standardised_by_the_network_itself() -> None:
    images, made = faces(3), network()
    plain = FerNet(**{**DESCRIPTION, "mean": 0.0, "std": 1.0})
    plain.load_state_dict({**made.state_dict(), "mean": torch.tensor(0.0), "std": torch.tensor(1.0)})
    with torch.no_grad():
        torch.testing.assert_close(made(images), plain.eval()((images - 120) / 60))


def test_no_place_in_the_image_is_preferred() -> None:
    """The maximum over positions: a pattern far from the border gives the same output anywhere."""
    made = network()
    images = torch.full((2, 1, 96, 96), 120.0)
    patch = faces(1, 12)[0, 0]
    images[0, 0, 40:52, 40:52] = patch
    images[1, 0, 32:44, 48:60] = patch  # moved by 8 pixels, the stride of the whole network
    with torch.no_grad():
        first, second = made(images)
    torch.testing.assert_close(first, second)


def test_channels_last_gives_the_same_output() -> None:
    images, made = faces(3), network()
    with torch.no_grad():
        expected = made(images)
        made = made.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        found = made(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_the_head_stays_in_float32_under_autocast() -> None:
    made, seen = network(), []
    made.blocks.register_forward_hook(lambda *args: seen.append(args[2].dtype))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        output = made(faces(3))
    with torch.no_grad():
        exact = made(faces(3))
    assert seen == [torch.bfloat16, torch.float32]
    assert output.dtype == torch.float32
    torch.testing.assert_close(output, exact, atol=0.05, rtol=0.05)


def test_a_classifier_gives_probabilities() -> None:
    made = network()
    classifier = Classifier(made, lambda output: 3 * output).eval()
    with torch.no_grad():
        found, expected = classifier(faces(4)), (3 * made(faces(4))).softmax(1)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found.sum(1), torch.ones(4))
