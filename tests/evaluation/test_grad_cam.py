"""Heat maps against Grad-CAM written out with plain autograd."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.evaluation import grad_cam
from pipeline.evaluation.grad_cam import heat_maps
from pipeline.training.losses import LOSSES, Loss
from pipeline.training.model import FerNet
from tests.factories import loss_of

CLASSES = 7


def network(outputs: int = CLASSES) -> FerNet:
    torch.manual_seed(0)
    made = FerNet([4, 6, 8], outputs, mean=127.5, std=70.0).train()
    made(faces(8).float())
    return made.eval()


def faces(count: int, size: int = 48) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(256, (count, 1, size, size), generator=generator, dtype=torch.uint8)


def make(name: str = "cross_entropy") -> Loss:
    return loss_of(name, torch.eye(CLASSES))


def plain_grad_cam(made: FerNet, loss: Loss, image: Tensor, label: int) -> Tensor:
    """ReLU of the sum over channels of (mean over places of d score / d A) times A, A the last pooling's input."""
    outputs: list[Tensor] = []
    layer = made.blocks[-1].conv1
    assert isinstance(layer, nn.Module)
    layer.register_forward_hook(lambda layer, inputs, output: outputs.append(output))
    score = loss.scores(made(image.float()[None]))[0, label]
    features = outputs[0]
    (gradient,) = torch.autograd.grad(score, features)
    coarse = torch.zeros(features.shape[2:])
    for channel in range(features.shape[1]):
        coarse += gradient[0, channel].mean() * features[0, channel].detach()
    coarse = coarse.clamp_min(0)[None, None]
    fine = F.interpolate(coarse, image.shape[-2:], mode="bilinear", align_corners=False)[0, 0]
    return fine / fine.max() if fine.max() > 0 else fine


@pytest.mark.parametrize("name", [name for name in LOSSES if not name.startswith("original")])
def test_maps_are_grad_cam(name: str) -> None:
    """Of the scores, whatever the network outputs: logits, a vector, or both."""
    images, labels, loss = faces(7), torch.arange(7), make(name)
    found = heat_maps(network(loss.output_dim), loss, images, labels)
    assert found.shape == (7, 48, 48)
    assert found.dtype == torch.float32
    assert not found.requires_grad
    for image, label, each in zip(images, labels.tolist(), found, strict=True):
        torch.testing.assert_close(
            each, plain_grad_cam(network(loss.output_dim), loss, image, label), atol=1e-4, rtol=1e-4
        )


def test_each_map_reaches_from_zero_to_one_or_is_empty() -> None:
    found = heat_maps(network(), make(), faces(40), torch.arange(40) % CLASSES)
    highest = found.amax(dim=(1, 2))
    assert found.min() >= 0
    assert set(highest.tolist()) <= {0.0, 1.0}
    assert (highest == 1).sum() > 20


def test_maps_depend_on_the_class_asked_about() -> None:
    images = faces(1).repeat(CLASSES, 1, 1, 1)
    found = heat_maps(network(), make(), images, torch.arange(CLASSES))
    assert any(not torch.allclose(found[0], other, atol=0.05) for other in found[1:])


def test_an_image_without_support_gets_an_empty_map() -> None:
    made = network()
    torch.nn.init.zeros_(made.head.weight)
    assert torch.equal(heat_maps(made, make(), faces(3), torch.arange(3)), torch.zeros(3, 48, 48))


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = faces(7), torch.arange(7)
    whole = heat_maps(network(), make(), images, labels)
    monkeypatch.setattr(grad_cam, "CHUNK", 3)
    torch.testing.assert_close(heat_maps(network(), make(), images, labels), whole)


def test_looking_leaves_network_and_images_alone() -> None:
    made, images = network(), faces(4)
    state, pixels = copy.deepcopy(made.state_dict()), images.clone()
    heat_maps(made, make(), images, torch.arange(4))
    assert torch.equal(images, pixels)
    assert all(torch.equal(state[name], tensor) for name, tensor in made.state_dict().items())
    assert all(parameter.grad is None for parameter in made.parameters())
    assert not made.blocks[-1]._forward_hooks
