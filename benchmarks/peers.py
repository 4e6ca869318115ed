"""Compare this project with what others publish for FER-2013: cost of training, accuracy per operation, a package.

    python -m benchmarks.peers {steps,figure,package} [--help]

steps times whole training steps: the peers' published recipes that start from nothing (benchmarks.published)
against ours, each in fp32 as the peers' code computes on a processor (their mixed precision is for GPUs
only), and in the format chosen for this machine. figure sets PrivateTest accuracy against the operations of
the training (benchmarks.per_flop). package is described in benchmarks.package.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import package as fer
from benchmarks import per_flop
from benchmarks.machine import header
from benchmarks.published import CLASSES, SYSTEMS, Training
from benchmarks.timing import Case, alternate, table, waiting
from benchmarks.workload import TRAINING, Workload
from pipeline import cli, config
from pipeline.cli import FILE, NewFile, Number
from pipeline.data.fer import IMAGE_SIZE
from pipeline.training import autotune, hardware
from pipeline.training.hardware import Hardware
from pipeline.workspace import PREPARED

NAME = "python -m benchmarks.peers"
RESULTS = Path("results/fer2013")
ROUNDS = click.option("--rounds", type=Number(), default=3, help="How many turns each case has.")

peers = click.Group(NAME, no_args_is_help=False, help=__doc__)


def crops(images: Tensor, size: int, count: int) -> Tensor:
    """Crop [B, C, 48, 48] to [count B, C, size, size]: the centre, then the four corners, then all five mirrored."""
    far, middle = IMAGE_SIZE - size, (IMAGE_SIZE - size) // 2
    places = [(middle, middle), (0, 0), (0, far), (far, 0), (far, far)]
    views = [images[..., top : top + size, left : left + size] for top, left in places]
    return torch.cat([*views, *(view.flip(3) for view in views)][:count])


class Peer:
    """Train a peer's network: crops, forward, cross-entropy, backward, SGD with Nesterov momentum.

    Its augmentation is left out, in its favour: it runs image by image, in other processes.
    """

    def __init__(self, training: Training, hardware: Hardware, batch: int) -> None:
        torch.manual_seed(0)
        self.training, self.hardware = training, hardware
        self.network = training.network().to(hardware.device, memory_format=hardware.layout)  # type: ignore[call-overload]
        self.optimizer = torch.optim.SGD(
            self.network.parameters(), 0.01, momentum=0.9, weight_decay=1e-4, nesterov=True
        )
        shape = (batch, training.channels, IMAGE_SIZE, IMAGE_SIZE)
        self.pixels = torch.randint(256, shape, dtype=torch.uint8, device=hardware.device)
        self.labels = torch.randint(CLASSES, (batch,), device=hardware.device)

    def step(self) -> None:
        images = crops(self.pixels.float() / 255, self.training.size, self.training.crops)
        with self.hardware.autocast():
            output = self.network(images.contiguous(memory_format=self.hardware.layout))
        loss = F.cross_entropy(output.float(), self.labels.repeat(self.training.crops))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()


@dataclass(frozen=True)
class Part:
    """The epochs of a training whose steps are alike. `name` is unique; `image_flop` is of one image and epoch."""

    name: str
    epochs: int
    step: Case
    image_flop: float


@dataclass(frozen=True)
class Schedule:
    """A whole training, in batches of `batch` images."""

    name: str
    batch: int
    parts: list[Part]

    @property
    def epochs(self) -> int:
        return sum(part.epochs for part in self.parts)

    def image_seconds(self, step_seconds: dict[str, float]) -> float:
        """Return the seconds that one image takes, averaged over all epochs, from those of a step of each part."""
        return sum(part.epochs * step_seconds[part.name] for part in self.parts) / self.epochs / self.batch

    def image_flop(self) -> float:
        """Return the floating point operations of one image, on average over all epochs."""
        return sum(part.epochs * part.image_flop for part in self.parts) / self.epochs


def peer_schedule(name: str, training: Training, hardware: Hardware, batch: int) -> Schedule:
    step = under(hardware, waiting(Peer(training, hardware, batch).step))
    return Schedule(name, batch, [Part(name, training.epochs, step, training.image_flop())])


def our_schedule(name: str, params: config.Params, recipe_name: str, hardware: Hardware) -> Schedule:
    recipe = params.recipes[recipe_name]
    workload = Workload(params, recipe_name, hardware)
    sizes = [recipe.size_in(epoch) for epoch in range(recipe.epochs)]
    parts = [
        Part(
            f"{name}, {size} px",
            sizes.count(size),
            under(hardware, waiting(partial(workload.step, size)), deterministic=True),
            workload.flop(size) / recipe.batch_size,
        )
        for size in sorted(set(sizes))
    ]
    return Schedule(name, recipe.batch_size, parts)


def under(hardware: Hardware, step: Case, deterministic: bool = False) -> Case:
    """Return a step with the settings of its training; ours is deterministic (stages.train), the peers' are not."""

    def case() -> None:
        torch.set_num_threads(hardware.threads)
        torch.use_deterministic_algorithms(deterministic)
        step()

    return case


@peers.command(epilog=f"Example: {NAME} steps --batch 8")
@ROUNDS
@click.option("--batch", type=Number(), help="Images per batch of the peers, instead of their own.")
def steps(rounds: int, batch: int | None) -> None:
    """Print images per second, and what follows from it for whole trainings, of the peers and our recipes."""
    params = config.load()
    threads = torch.get_num_threads()  # before ours are set, which may be fewer
    chosen = autotune.choose(params.machine)
    hardware.set_up(chosen, 0)
    usual = Hardware(chosen.device, "fp32", "contiguous", threads)
    ways = list(dict.fromkeys([usual, chosen]))
    schedules = [
        peer_schedule(f"{system.name}, {way}", system.training, way, batch or system.training.batch_size)
        for system in SYSTEMS
        if system.training and not system.pretrained
        for way in ways
    ]
    schedules += [our_schedule(f"ours, {name}, {way}", params, name, way) for name in params.recipes for way in ways]
    cases = {part.name: part.step for schedule in schedules for part in schedule.parts}
    step_seconds = alternate(cases, rounds, turn=1)
    image_seconds = [schedule.image_seconds(step_seconds) for schedule in schedules]
    hours = [s.epochs * TRAINING * seconds / 3600 for s, seconds in zip(schedules, image_seconds, strict=True)]

    print(header())
    print(f"Whole steps, best of {rounds}; the peers' batches: {batch or 'as published'}\n")
    headings = ["system", "images/s", "GFLOP/s", "MFLOP/image", "s/epoch", "epochs", "hours", "times the last"]
    rows = [
        [
            schedule.name, f"{1 / seconds:,.1f}", f"{schedule.image_flop() / seconds / 1e9:,.0f}",
            f"{schedule.image_flop() / 1e6:,.0f}", f"{TRAINING * seconds:,.0f}", str(schedule.epochs),
            f"{total:,.2f}", f"{total / hours[-1]:,.1f}",
        ]
        for schedule, seconds, total in zip(schedules, image_seconds, hours, strict=True)
    ]  # fmt: skip
    print(table(headings, rows))
    print("\nHours are extrapolated: seconds per epoch times epochs, steps alone.")


@peers.command(epilog=f"Example: {NAME} figure")
@click.option("--runs", type=FILE, default=RESULTS / "speedrun.json", help="Our runs, as `fer speedrun` keeps them.")
@click.option("--to", type=NewFile(".png"), default=RESULTS / "accuracy_per_flop.png", help="Where the picture goes.")
def figure(runs: Path, to: Path) -> None:
    """Show accuracy against FLOP, as a table and a PNG."""
    per_flop.show(runs, to)


@peers.command(epilog=f"\b\nExample: {NAME} package --python fer-env/bin/python outputs/models/baseline-0")
@click.argument(
    "models",
    type=click.Path(exists=True, path_type=Path),
    nargs=-1,
    help="Folders of trained models, and ONNX files of exported ones.",
)
@click.option("--python", required=True, help="A Python that has fer.")
@click.option("--data", type=click.Path(path_type=Path), default=PREPARED, help="What prepare wrote.")
@ROUNDS
@click.option("--limit", type=Number(), help="Images of each split, for a quick try.")
@click.option("--figure", type=NewFile(".png"), help="Draw accuracy against the time for one face.")
def package(
    models: Sequence[Path], python: str, data: Path, rounds: int, limit: int | None, figure: Path | None
) -> None:
    """Compare the package fer with trained models."""
    fer.compare(python, models, data, rounds, limit, figure)


if __name__ == "__main__":
    cli.run(peers)
