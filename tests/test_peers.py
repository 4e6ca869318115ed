"""The peers: their crops, and their operations against counts by hand and published ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import package
from benchmarks.fer_worker import timed
from benchmarks.package import Point, front
from benchmarks.peers import Peer, crops
from benchmarks.per_flop import PLACES
from benchmarks.published import SYSTEMS, forward_flop, resnet18, vgg_khaireddin
from pipeline.training.hardware import Hardware
from tests.models import drawn_faces, exported_model


def convolution_flop(inputs: int, outputs: int, side: int, kernel: int = 3) -> int:
    return 2 * kernel**2 * inputs * outputs * side**2


def test_ten_crops_are_centre_corners_and_their_mirror_images() -> None:
    images = torch.randn(2, 1, 48, 48)
    found, plain = crops(images, 40, 10).numpy(), images.numpy()
    places = [(4, 4), (0, 0), (0, 8), (8, 0), (8, 8)]
    corners = [plain[:, :, top : top + 40, left : left + 40] for top, left in places]
    np.testing.assert_array_equal(found, np.concatenate([*corners, *(view[..., ::-1] for view in corners)]))


def test_operations_of_the_peers_are_those_counted_by_hand() -> None:
    vgg = resnet = convolution_flop(1, 64, 40)
    resnet += 4 * convolution_flop(64, 64, 40) + 2 * 512 * 7
    vgg += convolution_flop(64, 64, 40) + 2 * (2048 * 4096 + 4096 * 4096 + 4096 * 7)
    for inputs, outputs, side in [(64, 128, 20), (128, 256, 10), (256, 512, 5)]:
        pair = convolution_flop(inputs, outputs, side) + convolution_flop(outputs, outputs, side)
        vgg += pair
        resnet += pair + 2 * convolution_flop(outputs, outputs, side) + convolution_flop(inputs, outputs, side, 1)
    assert forward_flop(vgg_khaireddin, 1, 40) == vgg
    assert forward_flop(resnet18, 1, 40) == resnet


@pytest.mark.parametrize(("name", "published"), [("EmoNeXt-T", 4.5e9), ("EmoNeXt-XL", 60.9e9)])
def test_convnext_costs_what_its_paper_says(name: str, published: float) -> None:
    """Liu et al. 2022, table 12, at 224 px; the paper counts a multiply-add as one operation."""
    training = next(system.training for system in SYSTEMS if system.name == name)
    assert training is not None
    assert forward_flop(training.network, 3, 224) / 2 == pytest.approx(published, rel=0.02)


def test_every_system_with_a_budget_has_a_place_in_the_figure() -> None:
    assert set(PLACES) == {system.name for system in SYSTEMS if system.training is not None}


def test_a_peers_step_trains() -> None:
    training = next(system.training for system in SYSTEMS if "LetheSec" in system.name)
    assert training is not None
    peer = Peer(training, Hardware("cpu", "fp32", "contiguous"), batch=1)
    before = [parameter.detach().clone() for parameter in peer.network.parameters()]
    peer.step()
    moved = [(a != b).any() for a, b in zip(before, peer.network.parameters(), strict=True)]
    assert all(moved)


def test_every_call_is_timed() -> None:
    decided, seconds = timed(lambda images: images[:, 0, 0].tolist(), np.arange(12, dtype=np.uint8).reshape(3, 2, 2), 4)
    assert decided == [0, 4, 8]
    assert len(seconds) == 4


@pytest.mark.medium
@pytest.mark.usefixtures("one_thread")
def test_a_trained_and_an_exported_model_give_the_same_answers(tmp_path: Path) -> None:
    faces = drawn_faces(9)
    folder = exported_model(tmp_path)
    trained, exported = (package.ours(path, faces) for path in (folder, tmp_path / "onnx/baseline-0.onnx"))
    decided, seconds = trained.answer(7, 2)
    assert decided == exported.answer(7, 1)[0]
    assert len(set(decided)) > 1
    assert (len(decided), len(seconds)) == (7, 2)


def test_the_front_is_what_nothing_else_beats() -> None:
    points = {
        "slow and good": Point(4.0, 0.72),
        "fast and fair": Point(1.0, 0.66),
        "its twin": Point(1.0, 0.66),
        "beaten by a faster one": Point(2.0, 0.66),
        "beaten by a better one": Point(4.0, 0.71),
        "between": Point(2.0, 0.70),
    }
    assert front(points) == ["fast and fair", "its twin", "between", "slow and good"]
