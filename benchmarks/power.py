"""What the study's test finds and what it makes up, on simulated recipes whose truth is known.

    python -m benchmarks.power [--simulations 400]

Two recipes, 66 % accurate, of which one alone is right on 13 % of 3,589 images, as of two networks on PrivateTest.
By number of seeds and by how much the seeds' true accuracies differ: how often `paired_bootstrap` rejects that they are
equal when they are, how often a bootstrap of the images alone would, and how often a difference of 2 points is found,
by itself and after Holm's correction for 24 rows. Some minutes.
"""

from __future__ import annotations

import click
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from benchmarks.machine import header
from benchmarks.timing import table
from pipeline import cli
from pipeline.cli import Number
from pipeline.comparison.statistics import ALPHA, minimum_detectable_difference, paired_bootstrap

Bools = npt.NDArray[np.bool_]

IMAGES, ROWS, RESAMPLES, POINTS = 3589, 24, 2000, 2.0
SEEDS = (1, 2, 3, 5)
SEED_POINTS = (0.0, 0.4, 0.8)
"""Standard deviation of the seeds' true accuracy, in points; the baseline of the study has about 0.4 in all."""


PER_POINT = 1 / 34.9
"""Shift of `two_models`' scores that moves accuracy by one point, where it is about 66 %."""


def two_models(
    rng: np.random.Generator, seeds: int, images: int, points: float = 0.0, seed_points: float = 0.0
) -> tuple[Bools, Bools]:
    """Right or wrong [seeds, images] for two recipes with 66 % accuracy, as the models of the study have.

    Of two runs of one recipe one alone is right on 12 % of images, of two recipes on 13 %, about as in the study. An
    image is right where difficulty + recipe's taste + run's noise + seed's luck exceeds zero. `points`: by how much
    the first recipe is better. `seed_points`: standard deviation of the seeds' true accuracy.
    """
    difficulty = rng.normal(0.433, 1.0, images)

    def right(better: float) -> Bools:
        taste = rng.normal(0, 0.1, images)
        luck = rng.normal(0, 1, (seeds, 1)) * seed_points
        noise = rng.normal(0, 0.31, (seeds, images))
        return difficulty + taste + noise + (luck + better) * PER_POINT > 0

    return right(points), right(0.0)


def simulate(seeds: int, seed_points: float, simulations: int) -> list[float]:
    """One line of the table, as fractions: four rates, the mean detectable difference, how often that is found."""
    rng = np.random.default_rng([seeds, int(10 * seed_points)])
    false: list[float] = []
    images_alone: list[float] = []
    found: list[float] = []
    corrected: list[float] = []
    detectable: list[float] = []
    for _ in range(simulations):
        a, b = two_models(rng, seeds, IMAGES, 0.0, seed_points)
        false.append(paired_bootstrap(a, b, RESAMPLES).p <= ALPHA)
        alone = paired_bootstrap(a.mean(axis=0, keepdims=True), b.mean(axis=0, keepdims=True), RESAMPLES)
        images_alone.append(alone.p <= ALPHA)
        a, b = two_models(rng, seeds, IMAGES, POINTS, seed_points)
        difference = paired_bootstrap(a, b, RESAMPLES)
        found.append(difference.p <= ALPHA)
        corrected.append(difference.p * ROWS <= ALPHA)  # the most that Holm asks: no other row differs
        detectable.append(minimum_detectable_difference(difference))
    size = float(np.mean(detectable))
    planted = [two_models(rng, seeds, IMAGES, 100 * size, seed_points) for _ in range(simulations)]
    found_at_size = [paired_bootstrap(a, b, RESAMPLES).p <= ALPHA for a, b in planted]
    rates = [float(np.mean(values)) for values in (false, images_alone, found, corrected)]
    return [*rates, size, float(np.mean(found_at_size))]


SIMULATIONS = click.Option(
    ["--simulations"], type=Number(), default=400, help="How many a line of the table has."
)


def main(simulations: int) -> None:
    lines = []
    cases = [(seeds, points) for seeds in SEEDS for points in SEED_POINTS]
    for seeds, points in tqdm(cases):
        *rates, detectable, found = simulate(seeds, points, simulations)
        cells = [f"{100 * rate:.1f} %" for rate in rates]
        lines.append([str(seeds), f"{points:.1f}", *cells, f"{100 * detectable:.1f}", f"{100 * found:.1f} %"])
    print(header("scipy"))
    print(f"{simulations} simulations a line, {RESAMPLES} resamples each\n")
    heads = [
        "seeds", "differ by, points", "equal: rejected", "images alone: rejected", f"{POINTS:g} points: found",
        f"after Holm for {ROWS}", "detectable, points", "that: found",
    ]  # fmt: skip
    print(table(heads, lines))


if __name__ == "__main__":
    cli.script(main, SIMULATIONS, example="--simulations 400")
