"""Try options of the classifiers without a network, on PublicTest.

    python -m benchmarks.classical [--rows geometry,hog] [--seed 0]

Reads outputs/prepared and, for geometry, outputs/landmarks. Every value of `TRIED` is tried alone, the other options as
in params.yaml. PrivateTest is not read.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from benchmarks.machine import header
from benchmarks.timing import table
from pipeline import cli, config
from pipeline.classical.training import fit
from pipeline.cli import Number
from pipeline.data.fer import FerData
from pipeline.landmarks.points import Landmarks
from pipeline.workspace import LANDMARKS, PREPARED, dataset_name

TRIED: dict[str, dict[str, tuple[float, ...]]] = {
    "geometry": {"stumps": (100, 300), "gamma": (0.1, 0.33, 1.0), "C": (3.0, 9.0, 27.0)},
    "hog": {"C": (0.03, 0.1, 0.3)},
    "hog_boost": {"stumps": (200, 600)},
}
"""Values of each option by row, that of params.yaml among them."""


def main(rows: str, seed: int) -> None:
    params, data = config.load(), FerData.load(PREPARED)
    names = rows.split(",")
    cli.known(names, list(TRIED), "row to try")
    lines = []
    print(f"{header()}\n{dataset_name()}, seed {seed}, one thread\n")
    for name in names:
        model = params.model(name)
        landmarks = Landmarks.load(LANDMARKS) if model.uses_landmarks else None
        for options in trials(model.options, TRIED[name]):
            classifier = replace(model, options=options).make_classifier()
            outcome = fit(classifier, data, landmarks, seed, threads=1)
            shown = ", ".join(f"{option} {value:g}" for option, value in options.items())
            lines.append([f"{name}: {shown}", f"{100 * outcome.val_accuracy:.2f}", f"{outcome.seconds:.0f}"])
            print(*lines[-1], flush=True)
    print(table(["row", "PublicTest, %", "seconds"], lines))


def trials(chosen: dict[str, Any], tried: dict[str, tuple[float, ...]]) -> list[dict[str, Any]]:
    """Return the options as chosen, then with every other value of each option."""
    others = [
        chosen | {option: value} for option, values in tried.items() for value in values if value != chosen[option]
    ]
    return [chosen, *others]


if __name__ == "__main__":
    cli.script(
        main,
        click.Option(["--rows"], default=",".join(TRIED), help="Rows, joined by commas."),
        click.Option(["--seed"], type=Number(0), default=0, help="The seed of every fit."),
    )
