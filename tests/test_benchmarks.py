"""The benchmarks compare like with like: what they time against each other gives the same numbers."""

from __future__ import annotations

import importlib
import pkgutil
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

import benchmarks
from benchmarks.augmentation import image_by_image
from benchmarks.losses import LOOPS, run_loop
from benchmarks.timing import alternate, table
from benchmarks.training_step import Trainer
from pipeline import config
from pipeline.augment import Augment, augment
from pipeline.losses import LOSSES
from pipeline.machine import Hardware

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
    output, labels = (
        torch.randn(size, 30, generator=generator),
        torch.randint(7, (size,), generator=generator),
    )
    expected = LOSSES[name](targets)(output, labels).item()
    assert run_loop(LOOPS[name][way], targets, output, labels) == pytest.approx(expected, rel=1e-4, abs=1e-5)


class UpperEnd(random.Random):
    """Draws the upper end of every range."""

    def uniform(self, a: float, b: float) -> float:
        return b


@pytest.mark.parametrize("size", [48, 40])
def test_pillow_moves_images_as_augment_does(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With equal parameters the two differ by rounding to whole grey levels, apart from the border."""
    noise = np.random.default_rng(0).normal(size=(2, 48, 48))
    smooth = np.stack([ndimage.gaussian_filter(image, 3) for image in noise])
    pixels = (127.5 + 400 * smooth).clip(0, 255).astype(np.uint8)
    spec = Augment(rotation=12, zoom=0.1, shift=0.05, brightness=0, contrast=0, cutout=0)
    flip = torch.tensor([True, False])
    found = image_by_image(pixels, flip.tolist(), size, spec, UpperEnd())
    monkeypatch.setattr(torch, "rand", lambda count, generator: torch.ones(count))
    expected = augment(torch.from_numpy(pixels)[:, None].float(), flip, size, spec, torch.Generator())
    assert found.shape == expected.shape == (2, 1, size, size)
    inner = slice(size // 4, -size // 4)
    torch.testing.assert_close(found[..., inner, inner], expected[..., inner, inner], atol=1.01, rtol=0)


@pytest.fixture
def trainer() -> Trainer:
    params = config.load()
    recipe = replace(params.chosen_recipe, widths=(4, 8), batch_size=6)
    params = replace(params, recipes={params.recipe: recipe})
    return Trainer.fresh(params, Hardware("cpu", "fp32"), images=20)


def test_a_timed_step_trains_and_averages(trainer: Trainer) -> None:
    weight, average = trainer.network.head.weight, trainer.average["head.weight"]
    before = weight.detach().clone()
    trainer.step(16)
    moved = weight.detach() - before
    assert moved.abs().max() > 0
    torch.testing.assert_close(average, before + (1 - trainer.recipe.ema_decay) * moved)


def test_operations_are_those_counted_by_hand(trainer: Trainer) -> None:
    """Two per multiply-add; backward costs forward twice, except that images need no gradient."""
    first, second = trainer.recipe.widths
    stem = 2 * 4 * first * 9 * 8 * 8  # a 16 x 16 image becomes 4 channels of 8 x 8
    block = 2 * first * second * 9 * 8 * 8 + 2 * second * second * 9 * 4 * 4
    head = 2 * second * 7
    assert trainer.flop(16) == trainer.recipe.batch_size * (2 * stem + 3 * (block + head))
