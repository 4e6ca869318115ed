"""Distillation against plain arithmetic, and what a folder of teachers may not be."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.errors import UserError
from pipeline.training.distillation import Distillation, Teachers, load_teachers
from pipeline.training.hardware import Hardware
from pipeline.training.images import Images
from pipeline.training.loop import epoch_flop, train
from pipeline.training.losses import CrossEntropy
from pipeline.training.memory import SoftTargets
from pipeline.training.method import Method
from pipeline.training.model import FerNet
from pipeline.training.recipe import Augment, Recipe
from pipeline.training.saved_model import load_trained, save_trained
from pipeline.training.teachers import require_unchanged, teacher_digests

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = Hardware("cpu", "fp32")
CLASSES = ("left", "middle", "right")
VECTORS = torch.tensor([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.2]])
RECIPE = Recipe(
    widths=(4, 8), epochs=2, batch_size=8, sizes=(12,), momentum=0.9, weight_decay=1e-3, warmup=0.2, ema_decay=0.9,
    self_distillation=0.0,
    augment=Augment(rotation=5, zoom=0.05, shift=0.05, brightness=5, contrast=0.1, cutout=0.2),
)  # fmt: skip


def faces(count: int) -> Tensor:
    return torch.randint(256, (count, 1, 12, 12), generator=torch.Generator().manual_seed(1)).float()


def put(folder: Path, seed: int, loss: str, output_dim: int, **facts: Any) -> Path:
    """Save a network with random weights as a finished training does."""
    torch.manual_seed(seed)
    arguments: dict[str, Any] = {"widths": [4, 6, 8], "output_dim": output_dim, "mean": 120.0, "std": 60.0}
    description = {"network": arguments, "loss": {"name": loss, "options": {}}, "classes": CLASSES}
    targets = VECTORS if loss == "cosine" else torch.eye(3)
    save_trained(folder, FerNet(**arguments).state_dict(), targets.double().numpy(), description | facts)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    put(tmp_path / "one-0", 0, "cross_entropy", 3)
    put(tmp_path / "two-0", 1, "cosine", 2)
    (tmp_path / "README.md").write_text("no teacher")
    return tmp_path


def softmax(scores: Any) -> Any:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_the_value_and_its_gradient_are_those_of_the_formula() -> None:
    rng = np.random.default_rng(0)
    z, p, value, weight, temperature = rng.normal(size=(4, 3)), rng.dirichlet(np.ones(3), 4), 0.7, 0.8, 2.5

    def plain(scores: Any) -> float:
        entropy = -(p * np.log(softmax(scores / temperature))).sum(axis=1).mean()
        return float((1 - weight) * value + weight * temperature**2 * entropy)

    scores = torch.tensor(z, requires_grad=True)
    found = SoftTargets(torch.tensor(p), weight, temperature).mix_into(torch.tensor(value), scores)
    assert float(found.detach()) == pytest.approx(plain(z))
    found.backward()
    assert scores.grad is not None
    for place in np.ndindex(z.shape):
        step = np.zeros_like(z)
        step[place] = 1e-6
        slope = (plain(z + step) - plain(z - step)) / 2e-6
        assert float(scores.grad[place]) == pytest.approx(slope, abs=1e-7)


def test_teachers_of_any_loss_are_averaged_at_the_temperature(folder: Path) -> None:
    teachers = load_teachers(folder, CLASSES, Distillation(0.3, 4.0), CPU)
    images = faces(5)
    with torch.no_grad():
        logits = load_trained(folder / "one-0")[0](images).double().numpy()
        vectors = load_trained(folder / "two-0")[0](images).double().numpy()
    unit = VECTORS.double().numpy() / np.linalg.norm(VECTORS.double().numpy(), axis=1, keepdims=True)
    cosines = vectors / np.linalg.norm(vectors, axis=1, keepdims=True) @ unit.T
    found = teachers.of(images)
    expected = (softmax(logits / 4) + softmax(cosines / 4)) / 2
    np.testing.assert_allclose(found.probabilities.numpy(), expected, atol=1e-6)
    assert (found.weight, found.temperature) == (0.3, 4.0)
    assert not found.probabilities.requires_grad


def test_what_the_teachers_say_replaces_as_much_of_the_labels_as_the_weight(folder: Path) -> None:
    one, other = [0, 1, 2, 0] * 4, [2, 2, 0, 1] * 4
    wholly = load_teachers(folder, CLASSES, Distillation(1.0), CPU)
    partly = load_teachers(folder, CLASSES, Distillation(0.5), CPU)
    head = "head.weight"
    last = [network_after(teachers, labels) for teachers in (wholly, partly) for labels in (one, other)]
    assert torch.equal(last[0][head], last[1][head]), "with a weight of one, labels do not matter"
    assert not torch.equal(last[2][head], last[3][head])
    assert not torch.equal(last[0][head], last[2][head])


def network_after(teachers: Teachers | None, labels: list[int]) -> dict[str, Tensor]:
    torch.manual_seed(3)
    network = FerNet([4, 8], 3, 120.0, 60.0)
    images = Images(faces(16).to(torch.uint8), torch.tensor(labels))
    spec = teachers.spec if teachers else None
    train(
        network, CrossEntropy(torch.eye(3)), images, images, RECIPE, 0.05, 0, CPU, None, lambda row: None,
        method=Method(distillation=spec), teachers=teachers,
    )  # fmt: skip
    return network.state_dict()


def test_a_student_with_a_network_like_its_teachers_comes_to_agree_with_it(folder: Path) -> None:
    shutil.rmtree(folder / "two-0")
    teachers = load_teachers(folder, CLASSES, Distillation(1.0, 1.0), CPU)
    calm = replace(RECIPE, widths=(8, 16), epochs=40, augment=Augment(0, 0, 0, 0, 0, 0), weight_decay=0.0)
    torch.manual_seed(3)
    student = FerNet([8, 16], 3, 120.0, 60.0)
    images = Images(faces(16).to(torch.uint8), torch.zeros(16, dtype=torch.int64))
    said = teachers.of(images.pixels.float()).probabilities

    def distance() -> float:
        with torch.no_grad():
            own = student.eval()(images.pixels.float()).log_softmax(1)
        return float((said * (said.log() - own)).sum(1).mean())

    before = distance()
    train(
        student, CrossEntropy(torch.eye(3)), images, images, calm, 0.05, 0, CPU, None, lambda row: None,
        method=Method(distillation=teachers.spec), teachers=teachers,
    )  # fmt: skip
    assert distance() < before / 5


def test_each_teacher_costs_a_forward_pass(folder: Path) -> None:
    network, (teacher, _) = FerNet([4, 8], 3, 120.0, 60.0), load_trained(folder / "one-0")
    alone = epoch_flop(network, RECIPE, 16)
    other = [flop // 3 for flop in epoch_flop(teacher, RECIPE, 16)]
    assert epoch_flop(network, RECIPE, 16, teachers=[teacher, teacher]) == [
        own + 2 * more for own, more in zip(alone, other, strict=True)
    ]


def test_teachers_have_the_classes_of_the_data_and_all_of_their_files(folder: Path, tmp_path: Path) -> None:
    spec = Distillation()
    with pytest.raises(UserError, match=r"one-0 tells left, middle, right apart, but the data have a, b, c"):
        load_teachers(folder, ("a", "b", "c"), spec, CPU)
    (tmp_path / "empty").mkdir()
    for nothing in (tmp_path / "empty", tmp_path / "missing"):
        with pytest.raises(UserError, match="has no teachers"):
            teacher_digests(nothing)
    before = teacher_digests(folder)
    assert sorted({key.split("/")[0] for key in before}) == ["one-0", "two-0"]
    require_unchanged(folder, before)
    put(folder / "two-0", 2, "cosine", 2)
    with pytest.raises(UserError, match="have changed: run `dvc repro targets`"):
        require_unchanged(folder, before)
    (folder / "two-0/model.safetensors").unlink()
    with pytest.raises(UserError, match=r"two-0 has no model.safetensors"):
        load_teachers(folder, CLASSES, spec, CPU)
