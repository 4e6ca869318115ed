"""Class maps, views and penalties against plain sums, gradients against finite differences."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.training.augment import GREY
from pipeline.training.consistency import CONSISTENCIES, Consistency, FlipMaps, ScaleMaps, Views
from pipeline.training.images import BatchLabels
from pipeline.training.losses import CrossEntropy
from pipeline.training.method import Method
from pipeline.training.model import HEAD_SCALE, FerNet, Pool

CLASSES, BATCH = 7, 4
POOLS: tuple[Pool, ...] = ("max", "mean")


def network(pool: Pool = "max") -> FerNet:
    """In double precision, with statistics as after training, so that images do not depend on each other."""
    torch.manual_seed(0)
    made = FerNet((4, 8, 16), CLASSES, mean=115.0, std=30.0, pool=pool).double()
    for norm in made.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.normal_(std=0.1)
            norm.running_var.uniform_(0.5, 2)
    return made.eval()


def images(size: int = 24) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return 255 * torch.rand(BATCH, 1, size, size, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("pool", POOLS)
def test_class_maps_are_the_head_at_every_position(pool: Pool) -> None:
    net = network(pool)
    features = net.features(images())
    maps = net.class_maps(features, CLASSES)
    assert maps.shape == (BATCH, CLASSES, 3, 3)
    w, f = net.head.weight.tolist(), features.tolist()
    for k, row, column in ((0, 0, 0), (6, 2, 1), (3, 1, 2)):
        plain = sum(w[k][c] * f[2][c][row][column] for c in range(16))
        assert maps[2, k, row, column].item() == pytest.approx(HEAD_SCALE[pool] * plain, rel=1e-5)


def test_under_mean_pooling_the_mean_of_a_map_and_the_bias_are_the_logit() -> None:
    net = network("mean")
    features = net.features(images())
    found = net.class_maps(features, CLASSES).mean(dim=(2, 3)) + net.head.bias
    torch.testing.assert_close(found, net.classify(features))


def squared(first: Tensor, second: Tensor) -> list[float]:
    """The mean over classes and positions, image by image, by loops."""
    found = []
    for a, b in zip(first.tolist(), second.tolist(), strict=True):
        cells = [
            (x - y) ** 2
            for map_a, map_b in zip(a, b, strict=True)
            for row_a, row_b in zip(map_a, map_b, strict=True)
            for x, y in zip(row_a, row_b, strict=True)
        ]
        found.append(sum(cells) / len(cells))
    return found


def maps_of(net: FerNet, view: Tensor) -> Tensor:
    return net.class_maps(net.features(view), CLASSES)


@pytest.mark.parametrize("pool", POOLS)
def test_flip_maps_compare_an_image_with_its_mirror_image(pool: Pool) -> None:
    net, view = network(pool), images()
    mirrored = torch.tensor(np.ascontiguousarray(view.numpy()[..., ::-1]))
    own, other, penalty = FlipMaps().outputs(net, view, None, CLASSES)
    torch.testing.assert_close(own, net(view))
    torch.testing.assert_close(other, net(mirrored))
    back = torch.tensor(np.ascontiguousarray(maps_of(net, mirrored).detach().numpy()[..., ::-1]))
    assert penalty[:, 0].tolist() == pytest.approx(squared(maps_of(net, view), back), rel=1e-5)


def test_scale_maps_compare_four_views() -> None:
    net, view = network(), images()
    small = torch.nn.functional.interpolate(view, size=16, mode="bilinear", antialias=True)
    *outputs, penalty = ScaleMaps().outputs(net, view, None, CLASSES)
    views = [view, view.flip(3), small, small.flip(3)]
    for output, expected in zip(outputs, views, strict=True):
        torch.testing.assert_close(output, net(expected))
    maps = [maps_of(net, one).detach() for one in views]
    assert [m.shape[-1] for m in maps] == [3, 3, 2, 2]
    on_six = [torch.from_numpy(np.kron(m.numpy(), np.ones((6 // m.shape[-1],) * 2))) for m in maps]
    terms = [squared(maps[0], maps[1].flip(3)), squared(maps[2], maps[3].flip(3)), squared(on_six[0], on_six[2])]
    assert penalty[:, 0].tolist() == pytest.approx([sum(parts) for parts in zip(*terms, strict=True)], rel=1e-5)


def test_a_symmetric_face_disagrees_with_nothing_where_kernels_are_symmetric() -> None:
    net, view = network(), images()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.weight.copy_((module.weight + module.weight.flip(3)) / 2)
        first = net.stem.get_submodule("1").weight  # the unshuffled columns swap, too
        assert isinstance(first, Tensor)
        first.copy_((first + first[:, [1, 0, 3, 2]]) / 2)
    _, _, penalty = FlipMaps().outputs(net, (view + view.flip(3)) / 2, None, CLASSES)
    assert penalty.abs().max() < 1e-20
    _, _, penalty = FlipMaps().outputs(network(), view, None, CLASSES)
    assert penalty.min() > 1e-8


@pytest.mark.parametrize(("erase", "boxes"), [("none", 0), ("shared", 1), ("independent", 2)])
def test_what_is_erased_is_grey_in_the_views(erase: str, boxes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    consistency = FlipMaps(erase=erase)  # type: ignore[arg-type]
    drawn = consistency.draw(40, 24, np.random.default_rng(0))
    assert (drawn is None) if not boxes else (drawn is not None and drawn.shape == (40, 4 * boxes))
    if drawn is None:
        return
    shown: list[Tensor] = []
    net, view = network(), images()
    features = net.features

    def noting(seen: Tensor) -> Tensor:
        shown.append(seen)
        return features(seen)

    monkeypatch.setattr(net, "features", noting)
    where = torch.tensor([[0, 6, 0, 6], [0, 0, 0, 0], [2, 4, 3, 9], [1, 2, 1, 2]])
    elsewhere = where.roll(1, 0)
    consistency.outputs(net, view, where if boxes == 1 else torch.cat([where, elsewhere], 1), CLASSES)
    first, second = shown[0].chunk(2)
    for seen, cut in ((first, where), (second.flip(3), where if boxes == 1 else elsewhere)):
        for n, (top, bottom, left, right) in enumerate(cut.tolist()):
            expected = view[n].clone()
            expected[0, top:bottom, left:right] = GREY
            assert torch.equal(seen[n], expected)


@pytest.mark.parametrize("name", CONSISTENCIES)
@pytest.mark.parametrize("pool", POOLS)
def test_the_gradient_is_that_of_finite_differences(name: str, pool: Pool) -> None:
    consistency = CONSISTENCIES[name]()
    method = Method(consistency=consistency)
    net, view, labels = network(pool), images(), BatchLabels(torch.tensor([0, 3, 6, 1]))
    loss = CrossEntropy(torch.eye(CLASSES, dtype=torch.float64), label_smoothing=0.1)
    fixed = copy.deepcopy(net)

    def value(of: FerNet) -> Tensor:
        return method.objective(loss, Views(of, consistency, CLASSES)(view), labels)[0]

    value(net).backward()
    weight = net.get_parameter("blocks.0.conv1.weight")
    assert weight.grad is not None
    for place in ((0, 0, 0, 0), (3, 2, 1, 2), (7, 3, 2, 1)):
        moved = []
        for step in (1e-5, -1e-5):
            other = copy.deepcopy(fixed)
            with torch.no_grad():
                other.get_parameter("blocks.0.conv1.weight")[place] += step
            moved.append(value(other).item())
        assert weight.grad[place].item() == pytest.approx((moved[0] - moved[1]) / 2e-5, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("name", CONSISTENCIES)
def test_the_value_of_a_batch_is_the_loss_of_the_supervised_views_and_the_weighted_penalty(name: str) -> None:
    net, view, labels = network(), images(), torch.tensor([0, 3, 6, 1])
    loss = CrossEntropy(torch.eye(CLASSES))
    cases: list[Consistency] = [CONSISTENCIES[name](weight=weight) for weight in (0.0, 2.5)]  # type: ignore[call-arg]
    if name == "flip_maps":
        cases.append(FlipMaps(weight=1.0, supervise="all"))
    for consistency in cases:
        output = Views(net, consistency, CLASSES)(view)
        *outputs, penalty = consistency.outputs(net, view, None, CLASSES)
        value, scores = Method(consistency=consistency).objective(loss, output, BatchLabels(labels))
        terms = [-out.log_softmax(1)[n, labels[n]].item() for out in outputs for n in range(BATCH)]
        supervised = terms[: BATCH * consistency.supervised]
        expected = sum(supervised) / len(supervised) + consistency.weight * penalty.mean().item()
        assert value.item() == pytest.approx(expected, rel=1e-5)
        torch.testing.assert_close(scores, outputs[0])
    unasked = Method(consistency=FlipMaps(weight=0.0))
    value, _ = unasked.objective(loss, Views(net, FlipMaps(weight=0.0), CLASSES)(view), BatchLabels(labels))
    assert value.item() == pytest.approx(loss(net(view).float(), labels).item(), abs=1e-6)


def test_sizes_of_the_views_are_what_a_step_pays_for() -> None:
    assert FlipMaps().sizes(48) == [48, 48]
    assert ScaleMaps().sizes(48) == [48, 48, 32, 32]
    assert Method().view_sizes(48) == [48]


@pytest.mark.parametrize("consistency", [FlipMaps(), ScaleMaps()])
def test_the_weights_of_the_maps_are_constants(consistency: Consistency) -> None:
    net = network()
    *_, penalty = consistency.outputs(net, images(), None, CLASSES)
    penalty.mean().backward()
    assert net.head.weight.grad is None
    assert net.get_parameter("blocks.0.conv1.weight").grad is not None
