"""Count what the study's test finds and what it makes up, on simulated recipes whose truth is known.

    python -m benchmarks.power [--simulations 4000] [--resampled 400]

Two recipes, 66 % accurate, of which one alone is right on 13 % of 3,589 images, as of two networks on PrivateTest; the
differences of their seeds and images have the variance components of the study's rows. By number of seeds and by how
much the seeds' true accuracies deviate: how often `crossed_t` rejects that the two are equal when they are, at 5 % and
at the level that Holm asks of the first of 11 rows; how often a bootstrap of images and seeds, and a t test of images
alone, would; how often a difference of 1.5 points is found; and how large the difference is that should be found in
80 % of cases, and how often it is. Half an hour.
"""

from __future__ import annotations

from collections.abc import Callable

import click
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from benchmarks.machine import header
from benchmarks.timing import table
from pipeline import cli
from pipeline.cli import Number
from pipeline.comparison.bootstrap import paired_bootstrap
from pipeline.comparison.statistics import ALPHA, Difference, crossed_t, minimum_detectable_difference

Bools = npt.NDArray[np.bool_]
Test = Callable[[Bools, Bools], Difference]

IMAGES, ROWS, RESAMPLES, POINTS = 3589, 11, 2000, 1.5
"""As many rows as the study has losses on words."""
SEEDS = (1, 2, 3, 5, 10)
SEED_POINTS = (0.0, 0.25, 0.5, 0.8, 1.5)
"""Standard deviation of the seeds' true accuracy, in points; about .2 for most rows of the study."""

TASTE, NOISE = 0.17, 0.30
"""Deviations of an image's difficulty, 1 among images, between recipes and between runs of one recipe."""
PER_POINT = 1 / 35.3
"""Shift of `two_models`' scores that moves accuracy by one point, where it is about 66 %."""


def two_models(
    rng: np.random.Generator, seeds: int, images: int, points: float = 0.0, seed_points: float = 0.0
) -> tuple[Bools, Bools]:
    """Draw right or wrong [seeds, images] for two recipes with 66 % accuracy, as the models of the study have.

    Of two runs of one recipe one alone is right on 12 % of images, of two recipes on 13 %, about as in the study. An
    image is right where difficulty + recipe's taste + run's noise + seed's luck exceeds zero. `points`: by how much
    the first recipe is better. `seed_points`: standard deviation of the seeds' true accuracy.
    """

    def normal(*shape: int) -> npt.NDArray[np.float32]:
        return rng.standard_normal(shape, np.float32)

    difficulty = np.float32(0.44) + normal(images)

    def right(better: float) -> Bools:
        shift = np.float32(PER_POINT) * (np.float32(seed_points) * normal(seeds, 1) + np.float32(better))
        score = difficulty + np.float32(TASTE) * normal(images) + np.float32(NOISE) * normal(seeds, images)
        return np.asarray(score + shift > 0)

    return right(points), right(0.0)


def images_alone(a: Bools, b: Bools) -> Difference:
    """Test the images of the mean over seeds, as if these seeds were all."""
    return crossed_t(a.mean(axis=0, keepdims=True), b.mean(axis=0, keepdims=True))


def both(a: Bools, b: Bools) -> Difference:
    """Resample images and seeds."""
    return paired_bootstrap(a, b, RESAMPLES)


def results(
    test: Test, simulations: int, seeds: int, points: float = 0.0, seed_points: float = 0.0
) -> list[Difference]:
    """Test as many simulated pairs of recipes, the same ones for every test."""
    rng = np.random.default_rng([seeds, int(100 * seed_points), int(1000 * points)])
    return [test(*two_models(rng, seeds, IMAGES, points, seed_points)) for _ in range(simulations)]


def rejected(found: list[Difference], level: float = ALPHA) -> float:
    """Return the share of the tests whose p is at most the level."""
    return float(np.mean([difference.p <= level for difference in found]))


def simulate(seeds: int, seed_points: float, simulations: int, resampled: int) -> list[float]:
    """Return one line of the table, as fractions: four rates without a difference, three with one, the size found."""
    equal = results(crossed_t, simulations, seeds, 0.0, seed_points)
    differ = results(crossed_t, simulations, seeds, POINTS, seed_points)
    size = float(np.mean([minimum_detectable_difference(one) for one in differ]))
    found_at_size = results(crossed_t, simulations, seeds, 100 * size, seed_points)
    return [
        rejected(equal),
        rejected(equal, ALPHA / ROWS),  # the most that Holm asks: no other row differs
        rejected(results(both, resampled, seeds, 0.0, seed_points)),
        rejected(results(images_alone, simulations, seeds, 0.0, seed_points)),
        rejected(differ),
        rejected(differ, ALPHA / ROWS),
        rejected(results(both, resampled, seeds, POINTS, seed_points)),
        size,
        rejected(found_at_size),
    ]


SIMULATIONS = click.Option(["--simulations"], type=Number(), default=4000, help="How many a line of the table has.")
RESAMPLED = click.Option(
    ["--resampled"], type=Number(), default=400, help="How many of them are resampled too, which takes longer."
)


def main(simulations: int, resampled: int) -> None:
    lines = []
    cases = [(seeds, points) for seeds in SEEDS for points in SEED_POINTS]
    for seeds, points in tqdm(cases):
        *rates, detectable, found = simulate(seeds, points, simulations, resampled)
        cells = [f"{100 * rate:.1f} %" for rate in rates]
        lines.append([str(seeds), f"{points:.2f}", *cells, f"{100 * detectable:.1f}", f"{100 * found:.0f} %"])
    print(header("scipy"))
    print(f"{simulations} simulations a line, {resampled} of them with {RESAMPLES} resamples each\n")
    heads = [
        "seeds", "differ by, points", "equal: rejected", f"as first of {ROWS}", "by bootstrap", "by images alone",
        f"{POINTS:g} points: found", f"as first of {ROWS}", "by bootstrap", "detectable, points", "that: found",
    ]  # fmt: skip
    print(table(heads, lines))


if __name__ == "__main__":
    cli.script(main, SIMULATIONS, RESAMPLED, example="--simulations 400 --resampled 40")
