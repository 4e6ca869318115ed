"""The benchmarks compare like with like: what they time against each other gives the same numbers."""

from __future__ import annotations

import importlib
import pkgutil
import random
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import ndimage
from torch import Tensor

import benchmarks
from benchmarks.augmentation import image_by_image
from benchmarks.detectors import SIZES, Score, make_scenes
from benchmarks.inference import in_batches
from benchmarks.losses import LOOPS, run_loop
from benchmarks.operators import (
    BACKWARD,
    BETWEEN,
    DATA_GRADIENT,
    FORWARD,
    OTHER,
    WEIGHT_GRADIENT,
    convolutions,
    kind_of,
    reorders,
    spent,
)
from benchmarks.policies import INVERSIONS, MOVES, added_bytes, share
from benchmarks.timing import alternate, table
from benchmarks.views import accuracies, moved
from benchmarks.workload import Workload, random_images
from pipeline import config
from pipeline.inference.detection import Box
from pipeline.training.augment import DRAWS, augment
from pipeline.training.hardware import Hardware
from pipeline.training.loop import Epoch
from pipeline.training.losses import make_loss
from pipeline.training.model import FerNet
from pipeline.training.policies import POLICIES, Policy, apply_sub_policies
from pipeline.training.recipe import Augment
from tests.factories import loss_of

MODULES = sorted(module.name for module in pkgutil.iter_modules(benchmarks.__path__))


@pytest.mark.parametrize("name", MODULES)
def test_every_benchmark_can_be_imported(name: str) -> None:
    assert importlib.import_module(f"benchmarks.{name}").__doc__


def test_cases_take_turns() -> None:
    seen: list[str] = []
    best = alternate({"a": lambda: seen.append("a"), "b": lambda: seen.append("b")}, rounds=3, turn=0)
    assert seen == ["a", "b"] * 3
    assert all(0 < seconds < 1 for seconds in best.values())


def test_a_turn_repeats_a_short_case() -> None:
    calls = {"short": 0, "long": 0}

    def short() -> None:
        calls["short"] += 1

    def long() -> None:
        calls["long"] += 1
        sum(range(200_000))

    alternate({"short": short, "long": long}, rounds=1, turn=1e-4)
    assert calls["long"] == 3  # twice before, once in its turn
    assert calls["short"] > calls["long"]


def test_table_is_aligned_markdown() -> None:
    assert table(["name", "s"], [["a", "10.5"], ["longer", "2"]]).splitlines() == [
        "| name   |    s |",
        "|--------|-----:|",
        "| a      | 10.5 |",
        "| longer |    2 |",
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 64])
@pytest.mark.parametrize(("name", "way"), [(name, way) for name, loops in LOOPS.items() for way in loops])
def test_the_readmes_loops_give_what_our_losses_give(name: str, way: str, size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    targets = torch.nn.functional.normalize(torch.randn(7, 30, generator=generator), dim=1)
    output, labels = (torch.randn(size, 30, generator=generator), torch.randint(7, (size,), generator=generator))
    expected = loss_of(name, targets)(output, labels).item()
    assert run_loop(LOOPS[name][way], targets, output, labels) == pytest.approx(expected, rel=1e-4, abs=1e-5)


class UpperEnd(random.Random):
    """Draws the upper end of every range."""

    def uniform(self, a: float, b: float) -> float:
        return b


@pytest.mark.parametrize("size", [48, 40])
def test_pillow_moves_images_as_augment_does(size: int) -> None:
    """With equal parameters the two differ by rounding to whole grey levels, apart from the border."""
    noise = np.random.default_rng(0).normal(size=(2, 48, 48))
    smooth = np.stack([ndimage.gaussian_filter(image, 3) for image in noise])
    pixels = (127.5 + 400 * smooth).clip(0, 255).astype(np.uint8)
    spec = Augment(rotation=12, zoom=0.1, shift=0.05, brightness=0, contrast=0, cutout=0)
    flip = torch.tensor([True, False])
    found = image_by_image(pixels, flip.tolist(), size, spec, UpperEnd())
    expected = augment(torch.from_numpy(pixels)[:, None].float(), flip, size, spec, torch.ones(2, DRAWS))
    assert found.shape == expected.shape == (2, 1, size, size)
    inner = slice(size // 4, -size // 4)
    torch.testing.assert_close(found[..., inner, inner], expected[..., inner, inner], atol=1.01, rtol=0)


@pytest.fixture
def workload() -> Workload:
    params = config.load()
    recipe = replace(params.chosen_recipe, widths=(4, 8), batch_size=6, self_distillation=0.5)
    return Workload(replace(params, recipes={params.recipe: recipe}), params.recipe, Hardware("cpu", "fp32"), 20)


def test_a_timed_step_trains_and_averages(workload: Workload) -> None:
    weight, average = workload.trainer.network.head.weight, workload.trainer.average["head.weight"]
    before = weight.detach().clone()
    workload.step(16)
    moved = weight.detach() - before
    assert moved.abs().max() > 0
    torch.testing.assert_close(average, before + (1 - float(workload.plan.decays[0])) * moved)


def test_operations_are_those_counted_by_hand(workload: Workload) -> None:
    """Two per multiply-add; backward costs forward twice, except that images need no gradient."""
    first, second = workload.recipe.widths
    stem = 2 * 4 * first * 9 * 8 * 8  # a 16 x 16 image becomes 4 channels of 8 x 8
    block = 2 * first * second * 9 * 8 * 8 + 2 * second * second * 9 * 4 * 4
    head = 2 * second * 7
    assert workload.flop(16) == workload.recipe.batch_size * (2 * stem + 3 * (block + head))


def test_convolutions_alone_are_those_of_the_step(workload: Workload) -> None:
    """Same layers, same numbers, and all directions together the operations of the step but for the head."""
    network, rows = workload.trainer.network, workload.next_rows()
    images = workload.augment(rows, 16)
    layers = convolutions(network, images, torch.float32, torch.channels_last)
    assert [layer.name for layer in layers] == ["stem.1", "blocks.0.conv1", "blocks.0.conv2"]
    for layer in layers:
        inputs, weight = (tensor.clone().requires_grad_() for tensor in (layer.images, layer.weight))
        output = torch.nn.functional.conv2d(inputs, weight, padding=1)
        output.backward(layer.gradient)
        cases = layer.cases()
        torch.testing.assert_close(cases[FORWARD](), output.detach())
        torch.testing.assert_close(cases[WEIGHT_GRADIENT](), (None, weight.grad, None))
        if layer is not layers[0]:
            torch.testing.assert_close(cases[DATA_GRADIENT](), (inputs.grad, None, None))
    head = 3 * 2 * workload.recipe.widths[-1] * 7 * len(rows)
    assert sum(layer.flop * len(layer.cases()) for layer in layers) == workload.flop(16) - head


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("augmentation", ["aten::copy_", "aten::to", "augmentation", "step"]),
        ("optimiser", ["aten::add_", "Optimizer.step#SGD.step", "step"]),
        ("new memory", ["aten::fill_", "aten::empty", "aten::native_batch_norm", "step"]),
        ("copies and casts", ["aten::_to_copy", "aten::conv2d", "step"]),
        ("convolution, forward", ["aten::mkldnn_convolution", "aten::_convolution", "step"]),
        (BACKWARD, ["aten::convolution_backward", "ConvolutionBackward0", "step"]),
        ("head and loss", ["aten::div", "AmaxBackward0", "step"]),
        (BETWEEN, ["autograd::engine::evaluate_function: ConvolutionBackward0", "step"]),
        (OTHER, ["aten::sub", "step"]),
    ],
)
def test_an_operators_time_belongs_to_its_kind_or_its_callers(kind: str, names: list[str]) -> None:
    assert kind_of(names) == kind


def test_a_profile_covers_the_whole_step(workload: Workload) -> None:
    found = spent(lambda: workload.step(16), steps=2)
    named = {"normalisation", "activation", "augmentation", "optimiser", "moving average", "head and loss"}
    assert named | {"convolution, forward", BACKWARD, BETWEEN} <= found.seconds.keys()
    assert all(seconds > 0 for seconds in found.seconds.values())


def test_reorders_are_read_from_onednn(workload: Workload, capfd: pytest.CaptureFixture[str]) -> None:
    """Weights are kept in one order and multiplied in another, so there are some; standard output stays clean."""
    found = reorders(lambda: workload.step(16))
    print("after")
    assert capfd.readouterr().out == "after\n"
    if found is None:
        pytest.skip("PyTorch was built without oneDNN")
    count, seconds = found
    assert count > 0
    assert 0 < seconds < 1


def clipped(images: Tensor, down: int, right: int) -> Tensor:
    """The images moved by so many pixels, each pixel looked up in the nearest that exists."""
    rows = torch.tensor([min(max(row - down, 0), images.shape[2] - 1) for row in range(images.shape[2])])
    columns = torch.tensor([min(max(x - right, 0), images.shape[3] - 1) for x in range(images.shape[3])])
    return images[:, :, rows][:, :, :, columns]


@pytest.mark.parametrize("shift", [1, 2])
def test_views_are_the_face_in_its_place_and_towards_the_corners(shift: int) -> None:
    images = torch.randint(256, (3, 1, 8, 6), dtype=torch.uint8)
    expected = [(0, 0), (-shift, -shift), (-shift, shift), (shift, -shift), (shift, shift)]
    views = list(moved(images, shift))
    assert len(views) == len(expected)
    for view, (down, right) in zip(views, expected, strict=True):
        assert torch.equal(view, clipped(images, down, right).float())


def test_ten_views_decide_by_their_mean_probability() -> None:
    torch.manual_seed(0)
    network = FerNet((4, 8), 7, mean=127.5, std=64.0).eval()
    loss = make_loss("cross_entropy", {"label_smoothing": 0.0}, np.eye(7), "cpu")
    images, labels = torch.randint(256, (200, 1, 16, 16), dtype=torch.uint8), torch.randint(7, (200,))
    with torch.no_grad():  # fresh networks decide alike whatever they see
        network.head.bias.sub_(network(images.float()).mean(0))
    found = accuracies(network, loss, images, labels)
    with torch.no_grad():
        for name, moves in {
            "one view": [],
            "with its mirror image": [(0, 0)],
            "ten, moved by 2 px": [(0, 0), (-2, -2), (-2, 2), (2, -2), (2, 2)],
        }.items():
            views = [images] if not moves else [clipped(images, *move) for move in moves]
            views += [view.flip(3) for view in views] if moves else []
            mean = torch.stack([network(view.float()).softmax(1) for view in views]).mean(0)
            assert found[name] == pytest.approx(float((mean.argmax(1) == labels).float().mean()))
    assert len(set(found.values())) > 1


def test_an_epoch_is_timed_inside_the_trainings_own_loop(workload: Workload, tmp_path: Path) -> None:
    rows: list[Epoch] = []
    for _ in range(2):  # the second does not go on from the checkpoint of the first
        whole, inside = workload.trained_epoch(16, random_images(7), tmp_path, rows.append)
        assert 0 < inside < whole
    assert [(row.epoch, row.size) for row in rows] == [(0, 16), (0, 16)]


def test_an_epoch_meets_every_whole_batch_once(workload: Workload) -> None:
    rows = [workload.next_rows() for _ in range(2 * workload.batches)]
    assert [len(batch) for batch in rows] == [6] * 6
    assert len(torch.cat(rows[:3]).unique()) == 18
    assert torch.equal(rows[0], rows[3])


@pytest.mark.parametrize("names", [MOVES, INVERSIONS], ids=["moved", "inverted"])
@pytest.mark.parametrize("policy", POLICIES)
def test_shares_of_changed_images_are_those_that_happen(policy: str, names: set[str]) -> None:
    """Other operations are left out: they could hide that an image was moved."""
    steps = tuple(tuple(step if step[0] in names else ("Color", 1.0, 0) for step in pair) for pair in POLICIES[policy])
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(20_000, -1, -1, -1)
    draws = torch.rand(20_000, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    changed = (apply_sub_policies(images, cast("Policy", steps), draws) != images).flatten(1).any(1)
    assert float(changed.double().mean()) == pytest.approx(share(POLICIES[policy], names), abs=0.02)


def test_added_memory_is_that_at_the_highest_point() -> None:
    def case() -> None:
        for _ in range(3):
            torch.zeros(200, 1000, 250).add_(1)  # 200 MB, given back each time

    assert 150e6 < added_bytes(case) < 350e6


@pytest.mark.parametrize("count", [1, 5, 6, 7])
def test_every_face_is_decided_though_batches_have_one_size(count: int) -> None:
    seen: list[int] = []

    def predict(faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        seen.append(len(faces))
        return np.stack([faces[:, 0, 0], faces[:, 1, 1]], axis=1).astype(np.float32)

    faces = np.random.default_rng(0).integers(0, 256, (count, 4, 4)).astype(np.uint8)
    found = in_batches(predict, faces, 3)
    assert set(seen) == {3}
    assert np.array_equal(found, np.stack([faces[:, 0, 0], faces[:, 1, 1]], axis=1))


def test_faces_are_pasted_where_it_says_and_apart() -> None:
    pytest.importorskip("skimage")
    faces = np.full((1, 48, 48), 255, np.uint8)
    for scene, squares in make_scenes(faces, 2):
        assert len(squares) == len(SIZES)
        covered = np.zeros((scene.height, scene.width), int)
        for left, top, side in squares:
            covered[top : top + side, left : left + side] += 1
            middle = scene.getpixel((left + side // 2, top + side // 2))
            assert middle == (255, 255, 255)
        assert covered.max() == 1
        assert covered.sum() == sum(side**2 for side in SIZES)


def test_a_box_counts_for_one_face_at_most() -> None:
    score = Score()
    boxes = [Box(10, 14, 80, 80), Box(20, 20, 80, 80), Box(500, 500, 90, 90), Box(300, 300, 20, 20)]
    score.add([(0, 0, 96), (300, 300, 96)], boxes)
    assert score.found[96] == [True, False]
    assert score.extra == 3
    assert score.framing == [(50 / 96, 54 / 96, 80 / 96)]
