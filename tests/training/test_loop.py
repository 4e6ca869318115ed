"""The training loop: exact repetition, exact resumption, and each of its rules against plain arithmetic."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import chain, count
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline import config
from pipeline.errors import UserError
from pipeline.labels.truth import TrainingLabels
from pipeline.training import hardware, loop
from pipeline.training.augment import augment, flips
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.cuda_graph import WARM_UP
from pipeline.training.distributed import Group
from pipeline.training.hardware import Hardware, set_up
from pipeline.training.images import BatchLabels, Images
from pipeline.training.loop import (
    PLAIN,
    Epoch,
    EpochPlan,
    Trainer,
    augmented,
    decay_groups,
    epoch_flop,
    records_steps,
    train,
    train_step,
    update_ema,
    validate,
)
from pipeline.training.losses import LOSSES, Cosine, CosineAndCrossEntropy, CrossEntropy, LogitLoss, Loss, make_loss
from pipeline.training.memory import Memory, Neighbours, Relabel, SmallLoss, SoftTargets, TemporalEnsemble
from pipeline.training.method import AutoAugment, Method
from pipeline.training.mix import CutMix, MixUp
from pipeline.training.model import FerNet
from pipeline.training.recipe import Augment, Recipe, learning_rate_at
from pipeline.training.saved_model import predict
from pipeline.trouble import in_one_sentence
from tests.factories import METHODS, loss_of, with_neighbours

pytestmark = pytest.mark.usefixtures("one_thread")

NO_AUGMENT = Augment(rotation=0, zoom=0, shift=0, brightness=0, contrast=0, cutout=0)
RECIPE = Recipe(
    widths=(4, 8), epochs=4, batch_size=16, sizes=(12, 16), momentum=0.9, weight_decay=1e-3, warmup=0.2,
    ema_decay=0.9, self_distillation=0.0,
    augment=Augment(rotation=5, zoom=0.05, shift=0.05, brightness=5, contrast=0.1, cutout=0.2),
)  # fmt: skip
DISTILLING = replace(RECIPE, self_distillation=0.8)
SHIPPED = config.load(Path(__file__).parents[2] / "params.yaml").recipes
CPU = Hardware("cpu", "fp32")
CLASSES = 7
RATE = 0.05


def small(recipe: Recipe) -> Recipe:
    """A recipe of params.yaml with as few and small numbers as the images here need."""
    widths = tuple(range(4, 4 + len(recipe.widths)))
    return replace(recipe, widths=widths, epochs=4, batch_size=16, sizes=(12, 16))


def textures(count: int, seed: int) -> Images:
    """Noisy 16x16 images of four textures (stripes down, stripes across, checks, none), classes 0 to 3."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 4
    row, column = torch.arange(16)[:, None] // 2 % 2, torch.arange(16)[None] // 2 % 2
    patterns = [column + 0 * row, row + 0 * column, row ^ column, 0 * row * column]
    clean = 100 + 60 * torch.stack(patterns)[labels].float()
    noisy = clean + 20 * torch.randn(count, 16, 16, generator=generator)
    return Images(noisy.clamp(0, 255).to(torch.uint8)[:, None], labels)


TRAINING, VALIDATION = textures(70, 0), textures(24, 1)


def fresh(seed: int = 0, output_dim: int = CLASSES, widths: tuple[int, ...] = RECIPE.widths) -> FerNet:
    torch.manual_seed(seed)
    return FerNet(widths, output_dim, mean=115.0, std=30.0)


def vectors() -> Tensor:
    """Targets of the classes, in a space of more dimensions than there are classes."""
    rows = torch.randn(CLASSES, 9, generator=torch.Generator().manual_seed(7))
    return torch.nn.functional.normalize(rows, dim=1)


def cross_entropy() -> CrossEntropy:
    return CrossEntropy(torch.eye(CLASSES), label_smoothing=0.1)


class Outcome:
    """One training with everything that can be compared."""

    def __init__(
        self,
        folder: Path,
        *,
        network: FerNet | None = None,
        loss: Loss | None = None,
        recipe: Recipe = RECIPE,
        images: Images = TRAINING,
        seed: int = 0,
        rate: float = RATE,
        hardware: Hardware = CPU,
        on_epoch: Callable[[Epoch], None] = lambda row: None,
        method: Method = PLAIN,
    ) -> None:
        self.rows: list[Epoch] = []
        self.network = network or fresh(widths=recipe.widths)
        self.checkpoint = Checkpoint(folder / "state.safetensors")

        def note(row: Epoch) -> None:
            self.rows.append(row)
            on_epoch(row)

        self.best, self.progress = train(
            self.network, loss or cross_entropy(), images, VALIDATION, recipe, rate, seed, hardware,
            self.checkpoint, note, method=method,
        )  # fmt: skip


def assert_same_weights(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    for name in first:  # on a GPU, too, weights that were saved come back to the processor
        assert torch.equal(first[name].cpu(), second[name].cpu()), name


def assert_same(first: Outcome, second: Outcome) -> None:
    assert first.progress.history == second.progress.history
    assert first.progress.best_epoch == second.progress.best_epoch
    assert_same_weights(first.best, second.best)
    assert_same_weights(first.network.state_dict(), second.network.state_dict())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("layout", ["channels_last", "contiguous"])
def test_one_seed_gives_one_result(tmp_path: Path, precision: Any, layout: Any) -> None:
    hardware = Hardware("cpu", precision, layout)
    first = Outcome(tmp_path / "a", hardware=hardware)
    network = fresh()
    torch.manual_seed(99)  # the global generator plays no part
    assert_same(first, Outcome(tmp_path / "b", network=network, hardware=hardware))


@pytest.mark.parametrize("name", SHIPPED)
def test_every_recipe_is_repeated_and_resumed_exactly(tmp_path: Path, name: str) -> None:
    recipe = small(SHIPPED[name])
    first = Outcome(tmp_path / "a", recipe=recipe, seed=3)
    assert_same(first, Outcome(tmp_path / "b", recipe=recipe, seed=3))
    with pytest.raises(InterruptionError):
        Outcome(tmp_path / "c", recipe=recipe, seed=3, loss=Interrupting(10))
    resumed = Outcome(tmp_path / "c", recipe=recipe, seed=3, network=fresh(seed=5, widths=recipe.widths))
    assert_same(first, resumed)
    assert [row.epoch for row in resumed.rows] == [2, 3]


@pytest.mark.parametrize("layout", ["channels_last", "contiguous"])
def test_weights_and_images_lie_in_memory_as_wished(layout: Any) -> None:
    hardware = Hardware("cpu", "fp32", layout)
    trainer = Trainer(fresh(), cross_entropy(), RECIPE, hardware)
    seen: list[tuple[int, ...]] = []
    trainer.network.blocks[0].register_forward_pre_hook(lambda block, inputs: seen.append(inputs[0].stride()))
    trainer.step(VALIDATION.pixels.float(), BatchLabels(VALIDATION.labels), torch.tensor(RATE), torch.tensor(0.9))
    assert seen == [{"channels_last": (256, 1, 32, 4), "contiguous": (256, 64, 8, 1)}[layout]]
    for network in (trainer.network, trainer.averaged):
        conv = network.blocks[0].conv2
        assert isinstance(conv, nn.Conv2d)
        assert conv.weight.is_contiguous(memory_format=hardware.layout)


def test_the_memory_format_changes_roundings_only(tmp_path: Path) -> None:
    layouts: tuple[Any, ...] = ("channels_last", "contiguous")
    rows = [Outcome(tmp_path / layout, hardware=Hardware("cpu", "fp32", layout)).progress.history for layout in layouts]
    for first, second in zip(*rows, strict=True):
        assert asdict(first) == pytest.approx(asdict(second), rel=1e-3)


@pytest.mark.parametrize("compiled", [False, True])
def test_the_network_is_compiled_only_if_wished(monkeypatch: pytest.MonkeyPatch, compiled: bool) -> None:
    compile_, seen = torch.compile, list[FerNet]()

    def compiling(model: FerNet) -> Any:
        seen.append(model)
        return compile_(model, backend="eager")

    monkeypatch.setattr(torch, "compile", compiling)
    trainer = Trainer(fresh(), cross_entropy(), RECIPE, replace(CPU, compile=compiled))
    before = copy.deepcopy(trainer.network.state_dict())
    trainer.step(VALIDATION.pixels.float(), BatchLabels(VALIDATION.labels), torch.tensor(RATE), torch.tensor(0.9))
    assert seen == ([trainer.network] if compiled else [])
    assert trainer.network.state_dict().keys() == before.keys()  # no prefix: a checkpoint fits both
    assert not torch.equal(trainer.network.head.weight, before["head.weight"])


def test_another_seed_gives_another_result_from_the_same_start(tmp_path: Path) -> None:
    first, second = Outcome(tmp_path / "a", seed=0), Outcome(tmp_path / "b", seed=1)
    assert first.progress.history != second.progress.history
    assert not torch.equal(first.best["head.weight"], second.best["head.weight"])


class InterruptionError(Exception):
    pass


class Interrupting(LogitLoss):
    """Cross-entropy that breaks off, or breaks down, in one of its calls."""

    probabilistic: ClassVar[bool] = True

    def __init__(self, call: int, value: float | None = None, error: Exception | None = None) -> None:
        self.inner, self.left, self.value, self.error = (cross_entropy(), call, value, error or InterruptionError())
        self.targets = self.inner.targets

    def __call__(self, output: Tensor, labels: Tensor) -> Tensor:
        self.left -= 1
        if self.left == 0 and self.value is None:
            raise self.error
        return self.inner(output, labels) * (self.value if self.left == 0 and self.value else 1)


@pytest.mark.parametrize("last", range(RECIPE.epochs))
def test_interrupted_after_an_epoch_and_resumed_is_as_if_nothing_had_happened(tmp_path: Path, last: int) -> None:
    whole = Outcome(tmp_path / "whole")

    def stop(row: Epoch) -> None:
        if row.epoch == last:
            raise InterruptionError

    with pytest.raises(InterruptionError):
        Outcome(tmp_path / "broken", on_epoch=stop)
    # Weights that are not in the checkpoint would show: this network starts elsewhere.
    resumed = Outcome(tmp_path / "broken", network=fresh(seed=5))
    assert_same(whole, resumed)
    assert resumed.rows == whole.rows[last + 1 :]


def test_interrupted_within_an_epoch_and_resumed_is_as_if_nothing_had_happened(tmp_path: Path) -> None:
    whole = Outcome(tmp_path / "whole")
    batches = len(TRAINING.labels) // RECIPE.batch_size
    with pytest.raises(InterruptionError):
        Outcome(tmp_path / "broken", loss=Interrupting(2 * batches + 2))
    resumed = Outcome(tmp_path / "broken", network=fresh(seed=5))
    assert_same(whole, resumed)
    assert [row.epoch for row in resumed.rows] == [2, 3]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        torch.AcceleratorError("CUDA error: unspecified launch failure"),
        MemoryError(),
    ],
)
def test_a_full_memory_and_a_broken_gpu_leave_the_checkpoint_that_their_sentence_speaks_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    batches = len(TRAINING.labels) // RECIPE.batch_size
    with pytest.raises(SystemExit), in_one_sentence():
        Outcome(tmp_path / "broken", loss=Interrupting(batches + 2, error=error))
    assert "resumes after its last complete epoch" in capsys.readouterr().err
    resumed = Outcome(tmp_path / "broken", network=fresh(seed=5))
    assert [row.epoch for row in resumed.rows] == [1, 2, 3]


def test_what_the_network_thought_before_an_interruption_still_counts_after_it(tmp_path: Path) -> None:
    whole = Outcome(tmp_path / "whole", recipe=DISTILLING)
    with pytest.raises(InterruptionError):
        Outcome(tmp_path / "broken", recipe=DISTILLING, loss=Interrupting(14))
    saved = Checkpoint(tmp_path / "broken" / "state.safetensors").load()
    assert saved is not None
    ensemble = saved[0]["ensemble"]["mean"]
    assert (ensemble - 1 / CLASSES).abs().amax(1).gt(0).sum() >= 64
    assert_same(whole, Outcome(tmp_path / "broken", recipe=DISTILLING, network=fresh(seed=5)))


def test_seconds_are_kept_by_epoch_over_interruptions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = count()  # one second passes between any two looks at it, and each epoch looks twice
    monkeypatch.setattr("pipeline.training.loop.time.perf_counter", lambda: float(next(clock)))
    with pytest.raises(InterruptionError):
        Outcome(tmp_path, loss=Interrupting(9))
    assert Outcome(tmp_path).progress.seconds == RECIPE.epochs * [1.0]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_and_keeps_the_last_checkpoint(tmp_path: Path, value: float) -> None:
    batches = len(TRAINING.labels) // RECIPE.batch_size
    with pytest.raises(UserError) as error:
        Outcome(tmp_path, loss=Interrupting(batches + 3, value))
    assert str(error.value) == (
        "The loss is no longer a number since batch 2 of epoch 1: try a learning rate below 0.05 "
        "(models.<name>.learning_rate) or machine.precision: fp32."
    )
    assert_same(Outcome(tmp_path / "whole"), Outcome(tmp_path, network=fresh(seed=5)))


class Derailing(Interrupting):
    """Cross-entropy with a gradient that is no number in one of its calls."""

    def __call__(self, output: Tensor, labels: Tensor) -> Tensor:
        self.left -= 1
        value = self.inner(output, labels)
        return value if self.left else value + (0 * output).sum().abs().sqrt()


def test_weights_that_the_last_step_of_an_epoch_breaks_are_not_kept(tmp_path: Path) -> None:
    batches = len(TRAINING.labels) // RECIPE.batch_size
    with pytest.raises(UserError, match=rf"no longer a number since batch {batches} of epoch 1"):
        Outcome(tmp_path, loss=Derailing(2 * batches))
    assert_same(Outcome(tmp_path / "whole"), Outcome(tmp_path, network=fresh(seed=5)))


def test_a_learning_rate_far_too_high_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no longer a number since batch \d+ of epoch \d+: .* below 1e\+30"):
        Outcome(tmp_path, rate=1e30)


@pytest.mark.medium
@pytest.mark.parametrize(
    ("name", "rate"),
    [
        ("cross_entropy", 0.05), ("cosine", 0.5), ("scaled_cosine", 0.05), ("cosine_and_cross_entropy", 0.5),
        ("hinge_rank", 0.1), ("soft_labels", 0.05),
    ],
)  # fmt: skip
def test_training_learns_what_can_be_learned(tmp_path: Path, name: str, rate: float) -> None:
    recipe = replace(RECIPE, epochs=10, sizes=(16,), augment=NO_AUGMENT)
    loss = loss_of(name, vectors())
    outcome = Outcome(
        tmp_path, network=fresh(output_dim=loss.output_dim), loss=loss, recipe=recipe, images=textures(256, 2),
        rate=rate,
    )  # fmt: skip
    history = outcome.progress.history
    assert history[-1].train_loss < 0.5 * history[0].train_loss
    assert max(row.val_accuracy for row in history) > 0.75  # chance: 0.25


def test_the_best_epoch_is_the_first_with_the_highest_accuracy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accuracies = iter([0.2, 0.5, 0.5, 0.4])
    monkeypatch.setattr(loop, "validate", lambda *args: (1.0, next(accuracies)))
    averages: list[dict[str, Tensor]] = []

    def keep(row: Epoch) -> None:
        saved = Checkpoint(tmp_path / "state.safetensors").load()
        assert saved is not None
        averages.append(saved[0]["average"])

    outcome = Outcome(tmp_path, on_epoch=keep)
    assert outcome.progress.best_epoch == 1
    assert_same_weights(outcome.best, averages[1])
    assert not torch.equal(outcome.best["head.weight"], averages[2]["head.weight"])


def test_the_weights_returned_have_the_accuracy_reported(tmp_path: Path) -> None:
    outcome = Outcome(tmp_path)
    again = fresh(seed=5)
    again.load_state_dict(outcome.best)
    row = outcome.progress.history[outcome.progress.best_epoch]
    val_loss, val_accuracy = validate(again, cross_entropy(), VALIDATION, CPU)
    assert val_accuracy == row.val_accuracy == max(row.val_accuracy for row in outcome.progress.history)
    assert val_loss == pytest.approx(row.val_loss, rel=1e-6)


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    first = Outcome(tmp_path)
    second = Outcome(tmp_path, network=fresh(seed=5))
    assert_same(first, second)
    assert second.rows == []


class Recording(Interrupting):
    """Cross-entropy that notes which images come in which batch; their labels are their numbers."""

    def __init__(self) -> None:
        super().__init__(0)
        self.batches: list[list[int]] = []

    def __call__(self, output: Tensor, labels: Tensor) -> Tensor:
        self.batches.append(labels.tolist())
        return self.inner(output, labels % CLASSES)


def test_every_epoch_shuffles_and_leaves_the_incomplete_batch_out(tmp_path: Path) -> None:
    loss = Recording()
    Outcome(tmp_path, loss=loss, images=replace(TRAINING, labels=torch.arange(70)))
    assert [len(batch) for batch in loss.batches] == [16] * 4 * RECIPE.epochs
    epochs = [list(chain(*loss.batches[4 * epoch : 4 * epoch + 4])) for epoch in range(RECIPE.epochs)]
    for i, order in enumerate(epochs):
        assert len(set(order)) == 64  # no image twice
        assert order != sorted(order)
        assert all(order != other for other in epochs[:i])
    assert set().union(*epochs) == set(range(70))


def test_fewer_images_than_a_batch_are_one_batch(tmp_path: Path) -> None:
    loss = Recording()
    Outcome(tmp_path, loss=loss, images=Images(TRAINING.pixels[:5], torch.arange(5)))
    assert [sorted(batch) for batch in loss.batches] == [[0, 1, 2, 3, 4]] * RECIPE.epochs


def test_history_tells_size_and_learning_rate(tmp_path: Path) -> None:
    history = Outcome(tmp_path).progress.history
    assert [(row.epoch, row.size) for row in history] == [(0, 12), (1, 12), (2, 16), (3, 16)]
    assert [row.learning_rate for row in history] == [learning_rate_at(step, 16, RATE, 0.2) for step in (3, 7, 11, 15)]


@pytest.mark.parametrize(
    ("sizes", "epochs", "expected"),
    [
        ((12, 16), 4, [12, 12, 16, 16]),
        ((8, 10, 12), 6, [8, 8, 10, 10, 12, 12]),
        ((8, 10, 12), 4, [8, 8, 10, 12]),
        ((8, 10), 1, [8]),
    ],
)
def test_each_size_has_its_share_of_the_epochs(sizes: tuple[int, ...], epochs: int, expected: list[int]) -> None:
    recipe = replace(RECIPE, sizes=sizes, epochs=epochs)
    assert [recipe.size_in(epoch) for epoch in range(epochs)] == expected


def test_steps_are_nesterovs_with_weight_decay_on_convolutions_and_head(tmp_path: Path) -> None:
    """Three steps on all images at once, so that their order does not matter, by the textbook's formula."""
    recipe = replace(RECIPE, epochs=3, batch_size=70, sizes=(16,), augment=NO_AUGMENT, ema_decay=0.0)
    outcome = Outcome(tmp_path, recipe=recipe, seed=3)

    network, loss = fresh().train(), cross_entropy()
    velocity = {name: torch.zeros_like(parameter) for name, parameter in network.named_parameters()}
    for step in range(3):
        mirrored = flips(70, step, torch.Generator().manual_seed(3))[:, None, None, None]
        images = torch.where(mirrored, TRAINING.pixels.flip(3), TRAINING.pixels).float()
        value = loss(network(images), TRAINING.labels)
        gradients = torch.autograd.grad(value, list(network.parameters()))
        rate = learning_rate_at(step, 3, RATE, recipe.warmup)
        with torch.no_grad():
            for (name, parameter), gradient in zip(network.named_parameters(), gradients, strict=True):
                decayed = gradient + (recipe.weight_decay * parameter if parameter.ndim > 1 else 0)
                velocity[name] = recipe.momentum * velocity[name] + decayed
                parameter.sub_(rate * (decayed + recipe.momentum * velocity[name]))
        assert outcome.progress.history[step].train_loss == pytest.approx(value.item(), rel=1e-4)

    for name, parameter in network.named_parameters():
        torch.testing.assert_close(outcome.network.state_dict()[name], parameter.detach(), atol=2e-4, rtol=1e-3)


def test_weight_decay_spares_normalisations_and_biases() -> None:
    network = fresh()
    decayed, spared = decay_groups(network, RECIPE)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    of_group = [{names[id(p)] for p in group["params"]} for group in (decayed, spared)]  # type: ignore[attr-defined]
    assert of_group[0] == {"stem.1.weight", "blocks.0.conv1.weight", "blocks.0.conv2.weight", "head.weight"}
    assert of_group[0] | of_group[1] == set(names.values())
    assert (decayed["weight_decay"], spared["weight_decay"]) == (RECIPE.weight_decay, 0)


def test_the_learning_rate_rises_in_a_straight_line_then_falls_along_half_a_cosine() -> None:
    """Eight steps, two of them rising: thirds of the peak, the peak, then cosines of sixths of pi."""
    rates = [learning_rate_at(step, 8, 0.6, 0.25) for step in range(8)]
    falling = [0.3 * (1 + math.cos(math.pi * sixth / 6)) for sixth in range(6)]
    assert rates == pytest.approx([0.2, 0.4, *falling])
    assert falling[0] == 0.6


def test_without_warmup_the_learning_rate_starts_at_its_peak() -> None:
    rates = [learning_rate_at(step, 5, 1.0, 0.0) for step in range(5)]
    assert rates[0] == 1
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize("steps", [1, 2, 7, 100, 257])
@pytest.mark.parametrize("warmup", [0.0, 0.15, 0.5, 0.99])
def test_the_learning_rate_has_one_hill_between_zero_and_its_peak(steps: int, warmup: float) -> None:
    rates = [learning_rate_at(step, steps, 0.5, warmup) for step in range(steps)]
    assert all(0 < rate <= 0.5 for rate in rates)
    top = rates.index(max(rates))
    assert rates == sorted(rates[:top]) + sorted(rates[top:], reverse=True)
    assert abs(top - warmup * steps) <= 1


def test_the_average_follows_the_plain_formula() -> None:
    network = fresh().train()
    average = copy.deepcopy(network.state_dict())
    expected = {name: tensor.double() for name, tensor in average.items()}
    for decay in (0.1, 0.5, 0.9, 0.998):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter))
        network(TRAINING.pixels[:8].float())  # moves the normalisation statistics
        update_ema(average, network, torch.tensor(decay, dtype=torch.float64))
        for name, current in network.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * current.double()
    for name, tensor in average.items():
        if name.endswith("num_batches_tracked"):
            assert tensor == 0  # a whole number has no average
        else:
            torch.testing.assert_close(tensor.double(), expected[name], rtol=1e-5, atol=1e-5)


def test_the_average_follows_closely_at_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decays: list[float] = []
    monkeypatch.setattr(loop, "update_ema", lambda average, network, decay: decays.append(decay))
    Outcome(tmp_path, recipe=replace(RECIPE, ema_decay=0.5))
    assert decays[:3] == pytest.approx([1 / 10, 2 / 11, 3 / 12])
    assert decays[8:] == [0.5] * 8  # (1 + 8) / (10 + 8) is the first that reaches it


def test_without_averaging_the_network_itself_is_judged(tmp_path: Path) -> None:
    Outcome(tmp_path, recipe=replace(RECIPE, ema_decay=0.0))
    saved = Checkpoint(tmp_path / "state.safetensors").load()
    assert saved is not None
    for name, tensor in saved[0]["average"].items():
        assert name.endswith("num_batches_tracked") or torch.equal(tensor, saved[0]["network"][name])


@pytest.mark.parametrize("kind", [CrossEntropy, Cosine, CosineAndCrossEntropy])
def test_validation_is_mean_cross_entropy_of_the_scores_and_share_of_hits(kind: Callable[[Tensor], Loss]) -> None:
    loss = kind(vectors())
    network = fresh(output_dim=loss.output_dim)
    scores = loss.scores(predict(network, VALIDATION.pixels, CPU)).tolist()
    labels = VALIDATION.labels.tolist()
    entropies = [math.log(sum(map(math.exp, row))) - row[label] for row, label in zip(scores, labels, strict=True)]
    hits = sum(max(range(CLASSES), key=row.__getitem__) == label for row, label in zip(scores, labels, strict=True))
    val_loss, val_accuracy = validate(network, loss, VALIDATION, CPU)
    assert val_loss == pytest.approx(sum(entropies) / 24, rel=1e-5)
    assert val_accuracy == pytest.approx(hits / 24)


def step_by_hand(soft_targets: SoftTargets | None) -> tuple[Trainer, Tensor, Tensor]:
    """One step on one batch, with what the loss must be and the scores that it was computed from."""
    trainer = Trainer(fresh(), cross_entropy(), RECIPE, CPU)
    trainer.network.train()
    scores = copy.deepcopy(trainer.network)(VALIDATION.pixels.float()).detach()
    value, found = trainer.step(
        VALIDATION.pixels.float(), BatchLabels(VALIDATION.labels), torch.tensor(RATE), torch.tensor(0.9), soft_targets
    )
    torch.testing.assert_close(found, scores)
    assert not value.requires_grad
    assert not found.requires_grad
    return trainer, value, scores


def test_a_step_gives_the_loss_and_the_scores_of_its_batch() -> None:
    _, value, scores = step_by_hand(None)
    assert value.item() == pytest.approx(cross_entropy()(scores, VALIDATION.labels).item(), rel=1e-5)


def test_an_opinion_counts_by_its_weight() -> None:
    """(1 - w) loss - w mean over the batch of sum_k p_k log softmax(scores)_k."""
    generator = torch.Generator().manual_seed(0)
    soft_targets = SoftTargets(torch.rand(24, CLASSES, generator=generator).softmax(1), 0.3)
    trainer, value, scores = step_by_hand(soft_targets)
    alone, without, _ = step_by_hand(None)
    own = -(soft_targets.probabilities * scores.log_softmax(1)).sum(1).mean()
    assert value.item() == pytest.approx(0.7 * without.item() + 0.3 * own.item(), rel=1e-5)
    assert not torch.equal(trainer.network.head.weight, alone.network.head.weight)


def test_the_ensemble_holds_means_of_predictions_the_latest_counting_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All images are one batch: each epoch's predictions p_e change an image's mean m to (m + p_e) / 2."""
    given: list[SoftTargets | None] = []
    predicted: list[Tensor] = []
    step = Trainer.step

    def noting(
        self: Trainer,
        images: Tensor,
        labels: BatchLabels,
        rate: Tensor,
        decay: Tensor,
        soft_targets: SoftTargets | None,
        boxes: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        given.append(soft_targets)
        value, scores = step(self, images, labels, rate, decay, soft_targets, boxes)
        predicted.append(torch.empty_like(scores).index_copy_(0, labels.hard, scores).softmax(1))
        return value, scores

    monkeypatch.setattr(Trainer, "step", noting)
    numbered = replace(TRAINING, labels=torch.arange(70))  # a label tells which image it is
    Outcome(tmp_path, recipe=replace(DISTILLING, batch_size=70), images=numbered, loss=Recording())
    assert given[0] is None  # nothing is known before the first epoch
    mean = torch.full((70, CLASSES), 1 / CLASSES)
    order = [torch.randperm(70, generator=torch.Generator().manual_seed(epoch)) for epoch in range(4)]
    for epoch in range(1, 4):
        mean = (mean + predicted[epoch - 1]) / 2
        soft_targets = given[epoch]
        assert soft_targets is not None
        assert soft_targets.weight == pytest.approx(0.8 * epoch / 3)  # all of it in the last epoch
        torch.testing.assert_close(soft_targets.probabilities, mean[order[epoch]])


def forward_flop(size: int) -> int:
    """A multiplication and an addition per weight and place, for widths 4 and 8 and seven outputs, by hand."""
    unshuffled = size // 2
    pooled = math.ceil(unshuffled / 2)
    stem = 2 * 9 * 4 * 4 * unshuffled**2
    first, second = 2 * 9 * 4 * 8 * unshuffled**2, 2 * 9 * 8 * 8 * pooled**2
    head = 2 * 8 * 7
    return stem + first + second + head


@pytest.mark.parametrize(
    ("sizes", "epochs", "images", "seen"),
    [((16,), 1, 16, 16), ((16,), 1, 70, 64), ((16,), 1, 5, 5), ((10, 16), 4, 70, 64), ((12,), 3, 32, 32)],
)
def test_flop_of_each_epoch_by_hand(sizes: tuple[int, ...], epochs: int, images: int, seen: int) -> None:
    recipe = replace(RECIPE, sizes=sizes, epochs=epochs)
    expected = [3 * seen * forward_flop(recipe.size_in(epoch)) for epoch in range(epochs)]
    assert epoch_flop(fresh(), recipe, images) == expected


def test_grey_levels_are_mean_and_deviation_of_all_pixels() -> None:
    pixels = TRAINING.pixels.double()
    expected = pixels.mean().item(), pixels.std(correction=0).item()
    assert TRAINING.grey_levels() == pytest.approx(expected, abs=5.1e-5)


def test_counting_operations_leaves_the_network_alone() -> None:
    network = fresh().train()
    before = copy.deepcopy(network.state_dict())
    epoch_flop(network, RECIPE, 70)
    assert_same_weights(network.state_dict(), before)
    assert network.training


gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU here")
"""What only a GPU can show."""


@gpu
@pytest.mark.parametrize("recipe", [RECIPE, DISTILLING], ids=["plain", "distilling"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_one_seed_gives_one_result_on_a_gpu_also_after_an_interruption(
    tmp_path: Path, recipe: Recipe, precision: Any
) -> None:
    hardware = Hardware("cuda", precision)
    set_up(hardware, seed=0)
    whole = Outcome(tmp_path / "a", recipe=recipe, hardware=hardware)
    assert_same(whole, Outcome(tmp_path / "b", recipe=recipe, hardware=hardware))
    with pytest.raises(InterruptionError):
        Outcome(tmp_path / "c", recipe=recipe, hardware=hardware, loss=Interrupting(10))
    resumed = Outcome(tmp_path / "c", recipe=recipe, hardware=hardware, network=fresh(seed=5))
    assert_same(whole, resumed)


@gpu
def test_a_gpu_computes_what_a_processor_does(tmp_path: Path) -> None:
    hardware.set_up(Hardware("cuda", "fp32"), seed=0)  # or its convolutions round to TF32
    ours = Outcome(tmp_path / "cpu", recipe=replace(RECIPE, epochs=1, sizes=(16,)))
    its = Outcome(tmp_path / "gpu", recipe=replace(RECIPE, epochs=1, sizes=(16,)), hardware=Hardware("cuda", "fp32"))
    assert its.rows[0].train_loss == pytest.approx(ours.rows[0].train_loss, rel=1e-4)
    for name, weights in ours.best.items():
        torch.testing.assert_close(its.best[name].cpu(), weights, rtol=1e-3, atol=1e-3)


@gpu
@pytest.mark.parametrize("recipe", [RECIPE, DISTILLING], ids=["plain", "distilling"])
@pytest.mark.parametrize("name", LOSSES)
def test_no_step_waits_for_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: Recipe, name: str) -> None:
    steps = []
    monkeypatch.setattr(loop, "records_steps", lambda hardware, group: False)  # each step from Python
    hardware.set_up(Hardware("cuda", "bf16"), seed=0)  # deterministic algorithms are others, which could wait

    def first_of_a_step(*arguments: Any) -> Tensor:
        torch.cuda.set_sync_debug_mode("error")  # from here on a wait is an error
        steps.append(arguments)
        return augment(*arguments)

    def after_the_steps(*arguments: Any) -> tuple[float, float]:
        torch.cuda.set_sync_debug_mode("default")
        return validate(*arguments)

    monkeypatch.setattr(loop, "augment", first_of_a_step)
    monkeypatch.setattr(loop, "validate", after_the_steps)
    loss = make_loss(name, {}, vectors().double().numpy(), "cuda")
    try:
        Outcome(
            tmp_path, network=fresh(output_dim=loss.output_dim), loss=loss, recipe=recipe, rate=1e-4,
            hardware=Hardware("cuda", "bf16"),
        )  # fmt: skip
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(steps) == RECIPE.epochs * (70 // RECIPE.batch_size)


@gpu
@pytest.mark.parametrize("recipe", [RECIPE, DISTILLING], ids=["plain", "distilling"])
def test_recorded_steps_are_those_that_python_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: Recipe
) -> None:
    hardware = Hardware("cuda", "bf16")
    set_up(hardware, seed=0)
    replays = []
    replay = torch.cuda.CUDAGraph.replay

    def counted(graph: torch.cuda.CUDAGraph) -> None:
        replays.append(graph)
        replay(graph)

    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", counted)
    images = textures(220, 0)  # 13 steps in an epoch
    recorded = Outcome(tmp_path / "a", images=images, recipe=recipe, hardware=hardware)
    assert len(replays) == recipe.epochs * (13 - WARM_UP)
    monkeypatch.setattr(loop, "records_steps", lambda hardware, group: False)
    assert_same(recorded, Outcome(tmp_path / "b", images=images, recipe=recipe, hardware=hardware))
    assert len(replays) == recipe.epochs * (13 - WARM_UP)


class Peeping(LogitLoss):
    """Cross-entropy that looks at a value on the way."""

    probabilistic: ClassVar[bool] = True

    def __init__(self) -> None:
        self.inner = cross_entropy()
        self.targets = self.inner.targets

    def __call__(self, output: Tensor, labels: Tensor) -> Tensor:
        value = self.inner(output, labels)
        return value if value.item() > 0 else 2 * value


@gpu  # the last of them: a recording that failed leaves PyTorch's memory in disorder
def test_a_loss_that_waits_for_the_gpu_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be recorded for the GPU \(.*captur.*\), most often because"):
        Outcome(tmp_path, loss=Peeping(), images=textures(220, 0), hardware=Hardware("cuda", "fp32"))


def test_steps_are_recorded_on_a_gpu_by_a_process_of_its_own_without_compilation() -> None:
    gpu = Hardware("cuda", "bf16")
    assert records_steps(gpu, Group())
    assert not records_steps(gpu, Group(rank=0, world_size=2))
    assert not records_steps(replace(gpu, compile=True), Group())
    assert not records_steps(CPU, Group())


def soft_images(truth: TrainingLabels) -> Images:
    return TRAINING.with_labels(truth, "train")


def numbers(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(CLASSES), len(TRAINING.labels)).astype(np.float32)


def test_one_hot_soft_labels_train_as_the_labels_do(tmp_path: Path) -> None:
    """They differ in how sums are rounded alone, and so does nothing else."""
    one_hot = torch.nn.functional.one_hot(TRAINING.labels, CLASSES).numpy().astype(np.float32)
    plain = Outcome(tmp_path / "a")
    soft = Outcome(tmp_path / "b", images=soft_images(TrainingLabels(soft=one_hot)))
    weighted = Outcome(tmp_path / "c", images=soft_images(TrainingLabels(weights=np.ones(len(one_hot), np.float32))))
    for other in (soft, weighted):
        for mine, theirs in zip(plain.rows, other.rows, strict=True):
            assert mine.train_loss == pytest.approx(theirs.train_loss, rel=1e-4)
        for name, tensor in plain.network.state_dict().items():
            torch.testing.assert_close(tensor, other.network.state_dict()[name], rtol=1e-3, atol=1e-4)


def test_places_that_hold_their_own_images_change_nothing(tmp_path: Path) -> None:
    rows = np.arange(len(TRAINING.labels), dtype=np.int32)
    assert_same(Outcome(tmp_path / "a"), Outcome(tmp_path / "b", images=soft_images(TrainingLabels(rows=rows))))


def test_an_image_that_stands_in_two_places_is_moved_differently_in_each() -> None:
    images = soft_images(TrainingLabels(rows=np.zeros(len(TRAINING.labels), np.int32)))
    plan = EpochPlan.of(RECIPE, 0, images, RATE, 0, "cpu")
    moved = augmented(images, torch.arange(2), plan, RECIPE.augment)
    assert not torch.equal(moved[0], moved[1])
    assert images.batch(torch.arange(2), plan.labels).hard.tolist() == [int(TRAINING.labels[0])] * 2


def test_a_policy_changes_an_image_anew_in_each_of_its_places() -> None:
    count = len(TRAINING.labels)
    images = soft_images(TrainingLabels(rows=np.full(count, 3, np.int32), weights=np.arange(count, dtype=np.float32)))
    seen = METHODS["autoaugment"].before_epoch(images, 0, 0)
    plan = EpochPlan.of(RECIPE, 0, seen, RATE, 0, "cpu")
    assert len({seen.pixels[seen.images_in(place)].numpy().tobytes() for place in torch.arange(count)}) > 5
    batch = seen.batch(torch.arange(4), plan.labels)
    assert batch.hard.tolist() == [int(TRAINING.labels[3])] * 4
    assert batch.weights is not None
    assert batch.weights.tolist() == [3, 3, 3, 3]


def test_labels_of_an_epoch_are_drawn_from_their_shares() -> None:
    shares = numbers()
    images = soft_images(TrainingLabels(soft=shares, drawn=np.ones(1, bool)))
    drawn = torch.stack([images.labels_in(epoch, seed=3) for epoch in range(400)])
    found = torch.nn.functional.one_hot(drawn, CLASSES).double().mean(0).numpy()
    assert np.abs(found - shares).max() < 5 * 0.5 / 400**0.5
    assert torch.equal(drawn[7], images.labels_in(7, seed=3))
    assert not torch.equal(drawn[7], images.labels_in(7, seed=4))
    batch = images.batch(torch.arange(5), drawn[7])
    assert batch.soft is None
    assert torch.equal(batch.hard, drawn[7][:5])


@pytest.mark.parametrize(
    "truth",
    [
        TrainingLabels(soft=numbers()),
        TrainingLabels(soft=numbers(), drawn=np.ones(1, bool)),
        TrainingLabels(weights=numbers()[:, 0], rows=np.arange(len(TRAINING.labels), dtype=np.int32)[::-1].copy()),
        TrainingLabels(labels=np.zeros(len(TRAINING.labels), np.uint8), val_labels=np.ones(24, np.uint8)),
    ],
    ids=["soft", "drawn", "weights and rows", "other labels"],
)
def test_a_training_under_other_labels_is_resumed_exactly(tmp_path: Path, truth: TrainingLabels) -> None:
    images = soft_images(truth)
    first = Outcome(tmp_path / "a", images=images)
    assert [row.train_loss for row in first.rows] != [row.train_loss for row in Outcome(tmp_path / "b").rows]

    def interrupt(row: Epoch) -> None:
        if row.epoch == 1:
            raise InterruptionError

    with pytest.raises(InterruptionError):
        Outcome(tmp_path / "c", images=images, on_epoch=interrupt)
    assert_same(first, Outcome(tmp_path / "c", images=images, network=fresh(seed=5)))


def test_other_labels_of_public_test_choose_the_epoch_by_them() -> None:
    truth = TrainingLabels(val_labels=np.ones(24, np.uint8))
    assert VALIDATION.with_labels(truth, "val").labels.tolist() == [1] * 24
    assert VALIDATION.with_labels(TrainingLabels(), "val") is VALIDATION


def of_method(folder: Path, method: Method, **changes: Any) -> Outcome:
    return Outcome(folder, images=with_neighbours(TRAINING), method=method, **changes)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_repeated_and_resumed_exactly_and_is_not_plain_training(tmp_path: Path, name: str) -> None:
    method = METHODS[name]
    first = of_method(tmp_path / "a", method, seed=3)
    assert_same(first, of_method(tmp_path / "b", method, seed=3))
    assert first.progress.history != of_method(tmp_path / "plain", PLAIN, seed=3).progress.history

    def stop(row: Epoch) -> None:
        if row.epoch == 1:
            raise InterruptionError

    with pytest.raises(InterruptionError):
        of_method(tmp_path / "c", method, seed=3, on_epoch=stop)
    resumed = of_method(tmp_path / "c", method, seed=3, network=fresh(seed=5))
    assert_same(first, resumed)
    assert [row.epoch for row in resumed.rows] == [2, 3]


@pytest.mark.parametrize(
    "method",
    [
        Method(mix=CutMix(share=0.0)),
        Method(memory=Relabel(margin=1.0)),
        Method(memory=SmallLoss(dropped=0.0)),
        Method(memory=Neighbours(weight=0.0)),
    ],
    ids=["cutmix", "relabel", "small loss", "neighbours"],
)
def test_a_method_of_no_strength_is_plain_training(tmp_path: Path, method: Method) -> None:
    """To rounding: soft labels are summed in another order than hard ones."""
    plain, found = of_method(tmp_path / "a", PLAIN), of_method(tmp_path / "b", method)
    for first, second in zip(plain.progress.history, found.progress.history, strict=True):
        assert asdict(second) == pytest.approx(asdict(first), rel=1e-4)


class Noting(Trainer):
    """Notes what a step is given instead of learning; its scores are the mean grey levels of the images."""

    images: Tensor
    labels: BatchLabels
    boxes: Tensor | None

    def step(
        self, images: Tensor, labels: BatchLabels, learning_rate: Tensor, decay: Tensor,
        soft_targets: SoftTargets | None = None, boxes: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        self.images, self.labels, self.boxes = images, labels, boxes
        return torch.zeros(()), images.mean((1, 2, 3))[:, None].expand(-1, CLASSES)


class Listening:
    """A memory that notes what it is asked and told."""

    tensors: ClassVar[dict[str, Tensor]] = {}
    asked: tuple[Tensor, BatchLabels]
    told: tuple[Tensor, Tensor]

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Nothing to prepare."""

    def labels(self, rows: Tensor, labels: BatchLabels) -> BatchLabels:
        self.asked = rows, labels
        return labels

    def add(self, rows: Tensor, scores: Tensor) -> None:
        self.told = rows, scores


FLAT = Images((3 * torch.arange(70, dtype=torch.uint8))[:, None, None, None].repeat(1, 1, 16, 16), torch.arange(70) % 7)
"""Images of one grey level each, by which they can be told apart."""


def noted(method: Method = PLAIN, memory: Memory | None = None, spec: Augment = NO_AUGMENT) -> tuple[EpochPlan, Noting]:
    """The plan of an epoch, and what its first step is given."""
    recipe = replace(RECIPE, sizes=(16,), augment=spec)
    trainer = Noting(fresh(), cross_entropy(), recipe, CPU, method=method)
    plan = EpochPlan.of(recipe, 1, FLAT, RATE, 0, "cpu", method)
    train_step(trainer, TemporalEnsemble(len(FLAT.labels), CLASSES, "cpu"), FLAT, plan, memory)
    return plan, trainer


@pytest.mark.parametrize("mix", [CutMix(share=0.8), MixUp(share=0.8)])
def test_a_step_mixes_image_and_label_alike_with_those_of_the_place_before(mix: CutMix | MixUp) -> None:
    plan, trainer = noted(Method(mix=mix))
    assert plan.mixture is not None
    places = plan.order[0]
    kept, levels = plan.mixture.kept[places], FLAT.pixels[places, 0, 0, 0].float()
    # The share of CutMix is one of the area, so that means mix as mixup's pixels do.
    torch.testing.assert_close(
        trainer.images.mean((1, 2, 3)), kept * levels + (1 - kept) * levels.roll(1), rtol=1e-4, atol=1e-2
    )
    one_hot = torch.eye(CLASSES)[FLAT.labels[places]]
    mixed = kept[:, None] * one_hot + (1 - kept)[:, None] * one_hot.roll(1, 0)
    assert trainer.labels.soft is not None
    torch.testing.assert_close(trainer.labels.soft, mixed)


def test_a_memory_is_asked_and_told_of_the_images_that_are_shown() -> None:
    memory = Listening()
    plan, _ = noted(memory=memory)
    places = plan.order[0]
    (rows, labels), (told, scores) = memory.asked, memory.told
    assert torch.equal(rows, places)
    assert torch.equal(labels.hard, FLAT.labels[places])
    torch.testing.assert_close(scores[:, 0], FLAT.pixels[told, 0, 0, 0].float())
    assert torch.equal(told, places)


def test_a_consistency_gets_the_boxes_of_the_images_that_are_shown() -> None:
    plan, trainer = noted(METHODS["EAC, independent"])
    assert plan.boxes is not None
    assert trainer.boxes is not None
    assert torch.equal(trainer.boxes, plan.boxes[plan.order[0]])


def test_a_policy_may_stand_instead_of_the_recipes_augmentation() -> None:
    brighter = replace(NO_AUGMENT, brightness=20.0)
    changed = []
    for instead in (False, True):
        plan, trainer = noted(Method(policy=AutoAugment(instead=instead)), spec=brighter)
        levels = FLAT.pixels[plan.order[0], 0, 0, 0].float()
        changed.append((trainer.images.mean((1, 2, 3)) - levels).abs().max().item())
    assert changed[0] > 5
    assert changed[1] < 1e-3


class Waiting(TorchDispatchMode):
    """Refuses what makes Python wait for a GPU: reading a value, and shapes that depend on one."""

    FORBIDDEN: ClassVar[set[str]] = {
        "_local_scalar_dense", "nonzero", "masked_select", "equal", "unique_consecutive", "_unique2", "is_nonzero",
    }  # fmt: skip

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in self.FORBIDDEN:
            raise AssertionError(f"{name} waits")
        return func(*args, **(kwargs or {}))


def recordable_step(method: Method, loss: Loss, epoch: int = 3) -> None:
    """Take a step of a later epoch, where everything is at work, without looking at a value."""
    training = with_neighbours(TRAINING)
    trainer = Trainer(fresh(output_dim=loss.output_dim), loss, RECIPE, CPU, method=method)
    memory = method.memory.make(training, CLASSES) if method.memory else None
    plan = EpochPlan.of(RECIPE, epoch, training, RATE, 0, "cpu", method)
    if memory:
        memory.start_epoch(epoch, RECIPE.epochs)
    ensemble = TemporalEnsemble(len(training.labels), CLASSES, "cpu")
    # On a processor, and there alone, the optimiser reads the learning rate.
    with Waiting(), mock.patch.object(trainer.optimizer, "step"):
        train_step(trainer, ensemble, training, plan, memory)


@pytest.mark.parametrize("name", METHODS)
def test_the_step_of_a_method_reads_no_value_back(name: str) -> None:
    recordable_step(METHODS[name], cross_entropy())


@pytest.mark.parametrize("name", LOSSES)
def test_the_step_of_a_loss_reads_no_value_back(name: str) -> None:
    recordable_step(PLAIN, make_loss(name, {}, vectors().double().numpy()))


def test_a_value_that_is_read_back_is_noticed() -> None:
    with pytest.raises(AssertionError, match="_local_scalar_dense waits"):
        recordable_step(PLAIN, Peeping())


def test_flop_count_every_view() -> None:
    network, images = fresh(), len(TRAINING.labels)
    once = epoch_flop(network, RECIPE, images)
    assert epoch_flop(network, RECIPE, images, METHODS["EAC"]) == [2 * flop for flop in once]
    large, small = forward_flop(12), forward_flop(8)
    assert epoch_flop(network, RECIPE, images, METHODS["VAC"])[0] == 3 * 2 * (large + small) * 64


def test_every_epoch_has_draws_of_its_own_for_a_method() -> None:
    """And those of the augmentation stay as they are without it."""
    for name in ("cutmix", "EAC"):
        plans = [
            EpochPlan.of(RECIPE, epoch, TRAINING, RATE, 0, "cpu", method)
            for epoch, method in ((0, PLAIN), (0, METHODS[name]), (0, METHODS[name]), (1, METHODS[name]))
        ]
        assert torch.equal(plans[0].draws, plans[1].draws)
        assert torch.equal(plans[0].order, plans[1].order)
        drawn = [plan.boxes if plan.mixture is None else plan.mixture.boxes for plan in plans[1:]]
        assert drawn[0] is not None
        assert drawn[1] is not None
        assert drawn[2] is not None
        assert torch.equal(drawn[0], drawn[1])
        assert not torch.equal(drawn[0], drawn[2])
