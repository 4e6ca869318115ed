"""Set PrivateTest accuracy against the floating point operations of the training, of published systems and this one.

All operations are counted alike: 3 times those of a forward pass, per image, crop and epoch, on FER-2013 alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from benchmarks.published import SYSTEMS, Published, Training
from benchmarks.timing import table
from benchmarks.workload import TRAINING
from pipeline.figures.canvas import COLOURS, canvas
from pipeline.files import read_json

Run = Mapping[str, Any]
"""One entry of results/<data set>/speedrun.json (`fer speedrun`)."""

HEADINGS = (
    "system", "PrivateTest", "flipped", "FLOP", "MFLOP/image", "crops x px", "epochs", "chosen on", "starts from",
)  # fmt: skip

HUMAN = 0.65
"""What people reach on FER-2013, give or take 0.05 (Goodfellow et al. 2013)."""

Place = tuple[int, int, str]
"""Where a text stands next to its point: points to the right, points up, which end of it."""

PLACES: dict[str, Place] = {
    "VGG-19 (WuJie1010)": (0, -15, "center"),
    "VGG (Khaireddin & Chen)": (-4, -17, "left"),
    "ResNet-18 (LetheSec)": (9, -2, "left"),
    "Residual Masking Network": (-9, -3, "right"),
    "EmoNeXt-T": (7, 5, "left"),
    "EmoNeXt-XL": (-9, -3, "right"),
}


def show(runs: Path, path: Path) -> None:
    """Draw the figure to `path` and print the same as a table, with a note on every published system."""
    ours: list[Run] = read_json(runs) if runs.exists() else []
    if not ours:
        print(f"{runs} is missing, so only published systems are shown: run `make speedrun` for ours.\n")
    with canvas(path, 9, 5.5) as figure:
        draw(figure.add_subplot(), ours)
    print(table(HEADINGS, [*map(published_row, SYSTEMS), *map(our_row, ours)]), end="\n\n")
    for system in SYSTEMS:
        print(f"- {system.name}: {system.note}. {system.source}")
    print(f"\n{path}")


def published_row(system: Published) -> list[str]:
    training, cost = system.training, ["unknown", "", "", ""]
    if training is not None:
        cost = [
            " to ".join(f"{training.flop(epochs):.1e}" for epochs in training.epoch_range()),
            f"{training.image_flop() / 1e6:,.0f}",
            f"{training.crops} x {training.size}",
            " to ".join(map(str, training.epoch_range())),
        ]
    start = "ImageNet" if system.pretrained else "nothing"
    return [system.name, f"{100 * system.accuracy:.2f}", "", *cost, system.chosen_on, start]


def our_row(run: Run) -> list[str]:
    accuracies = [f"{100 * run[name]:.2f}" for name in ("test_accuracy", "test_accuracy_flip")]
    per_image = run["flop"] / run["epochs"] / TRAINING / 1e6
    sizes = sorted({run["settings"]["recipe"]["sizes"][0], run["settings"]["recipe"]["sizes"][-1]})
    return [
        f"ours, {run['recipe']}, seed {run['seed']}", *accuracies, f"{run['flop']:.1e}", f"{per_image:,.0f}",
        f"1 x {' to '.join(map(str, sizes))}", str(run["epochs"]), "PublicTest", "nothing",
    ]  # fmt: skip


def draw(axis: Axes, ours: Sequence[Run]) -> None:
    axis.set_xscale("log")
    for system in SYSTEMS:
        if system.training is not None:
            draw_published(axis, system, system.training)
    recipes = dict.fromkeys(run["recipe"] for run in ours)
    for colour, recipe in zip(COLOURS[1:], recipes, strict=False):
        draw_ours(axis, [run for run in ours if run["recipe"] == recipe], colour)
    axis.margins(x=0.1)
    axis.axhline(HUMAN, color="#999999", linestyle=":", linewidth=1)
    label(axis, "people, 65 ± 5", axis.get_xlim()[1], HUMAN, (-2, 4, "right"), "#777777")
    axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axis.grid(axis="y")
    axis.set_xlabel("FLOP of the whole training on FER-2013")
    axis.set_title("Accuracy on PrivateTest against the arithmetic of the training")
    axis.legend(handles=list(keys()), loc="lower right", bbox_to_anchor=(1, 0.08), fontsize=9)


def draw_published(axis: Axes, system: Published, training: Training) -> None:
    """Draw a mark, or a line between two where early stopping leaves the number of epochs open."""
    flop = [training.flop(epochs) for epochs in training.epoch_range()]
    axis.plot(
        flop, [system.accuracy] * len(flop), "s-" if system.pretrained else "o", color=COLOURS[0], linewidth=1,
        markerfacecolor="white" if system.chosen_on == "PrivateTest" else COLOURS[0],
        zorder=2 if training.fewest_epochs else 3,
    )  # fmt: skip
    label(axis, system.name, flop[0], system.accuracy, PLACES[system.name], COLOURS[0])


def draw_ours(axis: Axes, runs: Sequence[Run], colour: str) -> None:
    """Draw all seeds of one recipe."""
    for run in runs:
        once, flipped = run["test_accuracy"], run["test_accuracy_flip"]
        axis.plot([run["flop"]] * 2, [once, flipped], "-", color=colour, linewidth=1)
        axis.plot(run["flop"], once, "o", color=colour)
        axis.plot(run["flop"], flipped, "_", color=colour, markersize=9)
    seeds = f", {len(runs)} seeds" if len(runs) > 1 else ""
    middle = fmean(run["test_accuracy"] for run in runs)
    label(axis, f"ours, {runs[0]['recipe']}{seeds}", runs[0]["flop"], middle, (9, -3, "left"), colour)


def label(axis: Axes, text: str, x: float, y: float, place: Place, colour: str) -> None:
    right, up, end = place
    axis.annotate(text, (x, y), (right, up), textcoords="offset points", ha=end, color=colour)


def keys() -> Iterator[Line2D]:
    """Return the keys to the marks."""
    blue, orange = COLOURS[:2]
    for text, marker, joined, colour, face in (
        ("trained from nothing", "o", False, blue, blue),
        ("from ImageNet weights, whose training is not counted", "s", False, blue, blue),
        ("early stopping: from the fewest to the most epochs", "s", True, blue, blue),
        ("epoch chosen on PrivateTest itself", "o", False, blue, "white"),
        ("ours: one view; dash: averaged with its mirror image", "o", False, orange, orange),
    ):
        yield Line2D(
            [], [], linestyle="-" if joined else "", marker=marker, color=colour, markerfacecolor=face, label=text
        )
