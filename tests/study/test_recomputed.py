"""The printed tests of the study once more, from the committed runs, by numpy and scipy alone.

Nothing of the project is imported: whoever doubts its statistics reads this file instead. Differences, intervals, p
values and bounds agree to the last digit that is printed.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

STUDY = Path(__file__).parents[2] / "results/fer2013"
BLOCKS = sorted(STUDY.glob("[A-Z]*/ablation.md"))
SEEDS = range(5)
CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
FAMILIES = {
    "words": (
        "cosine_glove", "cosine_captions", "w2v_cosine", "w2v_centred", "w2v_nouns", "w2v_softmax", "w2v_cosine_ce",
        "w2v_soft_labels", "w2v_hinge", "w2v_abs", "original_first",
    ),
    "controls": (
        "cross_entropy", "softmax_one_hot", "cosine_one_hot", "cosine_random", "cosine_affective", "cosine_human",
        "w2v_permuted", "w2v_whitened", "original_second",
    ),
    "decoders": (
        "baseline + crm.word2vec", "cross_entropy + crm.word2vec", "cross_entropy + crm.affective",
        "cross_entropy + crm.human", "w2v_cosine_ce + nearest",
    ),
}  # fmt: skip

Table = npt.NDArray[np.float64]


class Result(NamedTuple):
    mean: float
    error: float
    dof: int
    p: float

    def quantile(self, level: float) -> float:
        return float(stats.t(self.dof).ppf(level)) * self.error


@cache
def images(row: str, folder: Path = STUDY, seeds: Sequence[int] = SEEDS) -> dict[str, Table]:
    """For each seed and image of PrivateTest: the label, the decision and whether it is the label, [5, 3589]."""
    model, _, decoder = row.partition(" + ")
    found: dict[str, list[Table]] = {"label": [], "decision": []}
    for seed in seeds:
        with np.load(folder / f"runs/{model}-{seed}.npz") as archive:
            test = archive["test"]
            found["label"].append(archive["actual"][test].astype(float))
            found["decision"].append(archive[f"predicted.{decoder or 'argmax'}"][test].astype(float))
    label, decision = (np.array(found[name]) for name in ("label", "decision"))
    return {"label": label, "decision": decision, "right": (label == decision).astype(float)}


def crossed(d: Table) -> Result:
    """Two-way analysis of variance of differences [seeds, images], both factors random."""
    s, n = d.shape
    grand = d.sum() ** 2 / (s * n)
    between_seeds = (d.sum(axis=1) ** 2).sum() / n - grand
    between_images = (d.sum(axis=0) ** 2).sum() / s - grand
    rest = (d**2).sum() - grand - between_seeds - between_images
    seeds, of_images, left = (
        square / freedom / (s * n)
        for square, freedom in ((between_seeds, s - 1), (between_images, n - 1), (rest, (s - 1) * (n - 1)))
    )
    own = max(of_images - left, 0)
    error = math.sqrt(max(seeds, left / 4) + own)
    wide = max(seeds, left)
    dof = (wide + own) ** 2 / (wide**2 / (s - 1) + of_images**2 / (n - 1) + left**2 / ((s - 1) * (n - 1)))
    freedom = max(s - 1, math.floor(dof))
    mean = float(d.mean())
    return Result(mean, error, freedom, float(2 * stats.t(freedom).cdf(-abs(mean) / error)))


def holm(p: Sequence[float]) -> list[float]:
    order = sorted(range(len(p)), key=lambda k: p[k])
    steps = [(len(p) - rank) * p[k] for rank, k in enumerate(order)]
    return [min(1.0, max(steps[: order.index(k) + 1])) for k in range(len(p))]


def printed_p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def printed(one: Result, p: float) -> list[str]:
    """The two cells that a difference has."""
    half = one.quantile(0.975)
    low, high = one.mean - half, one.mean + half
    return [f"{100 * one.mean:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]", printed_p(p)]


def cells(text: str) -> list[list[str]]:
    """The cells of a table, row by row, without its headings."""
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line[:2] == "| "]
    return [[cell.strip() for cell in row] for row in rows[1:]]


def lines(block: str) -> dict[str, list[str]]:
    """The cells of a table of the results page, by row."""
    page = (STUDY / "README.md").read_text(encoding="utf-8")
    text = page.split(f"<!-- begin {block} -->")[1].split(f"<!-- end {block} -->")[0]
    return {row[0]: row[1:] for row in cells(text)}


@cache
def accuracies(family: str) -> dict[str, Result]:
    return {row: crossed(images(row)["right"] - images("baseline")["right"]) for row in FAMILIES[family]}


def test_the_families_hold_every_row_of_the_table() -> None:
    named = {row for rows in FAMILIES.values() for row in rows}
    assert named | {"baseline"} == set(lines("table"))
    assert {row: cells[0] for row, cells in lines("bounds").items()} == {
        row: family for family, rows in FAMILIES.items() for row in rows
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_accuracies_differences_and_p_of_the_main_table(family: str) -> None:
    table = lines("table")
    tests = accuracies(family)
    for (row, one), p in zip(tests.items(), holm([one.p for one in tests.values()]), strict=True):
        right = 100 * images(row)["right"].mean(axis=1)
        assert table[row][:2] == ["5", f"{right.mean():.2f} ± {right.std(ddof=1):.2f}"], row
        assert table[row][-2:] == printed(one, p), row


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_ruled_out_and_what_would_have_been_found(family: str) -> None:
    table = lines("bounds")
    tests = accuracies(family)
    size = len(tests)
    within = [float(stats.t(one.dof).cdf(-(0.01 - abs(one.mean)) / one.error)) for one in tests.values()]
    for (row, one), p in zip(tests.items(), holm(within), strict=True):
        upper = one.mean + one.quantile(1 - 0.05 / size)
        detectable = one.quantile(1 - 0.025 / size) + one.quantile(0.8)
        assert table[row][3:6] == [f"{100 * upper:+.2f}", f"{100 * detectable:.2f}", printed_p(p)], row


def test_recalls_of_losses_on_words() -> None:
    table = lines("recalls")
    tests = []
    for row in FAMILIES["words"]:
        d = images(row)["right"] - images("baseline")["right"]
        label = images("baseline")["label"][0]
        tests += [crossed(d[:, label == k]) for k in range(len(CLASSES))]
    p_values = holm([one.p for one in tests])
    expected = [cell for one, p in zip(tests, p_values, strict=True) for cell in printed(one, p)]
    for number, row in enumerate(FAMILIES["words"]):
        assert table[row] == expected[14 * number : 14 * (number + 1)], row


def test_severity_of_losses_on_words() -> None:
    """Under the human distance, which stands in the file of each run."""
    table = lines("differences")
    distance = np.array(json.loads((STUDY / "runs/baseline-0.json").read_text())["distances"]["human"])

    def costs(row: str) -> Table:
        of = images(row)
        return np.asarray(distance[of["label"].astype(int), of["decision"].astype(int)])

    tests = [crossed(costs(row) - costs("baseline")) for row in FAMILIES["words"]]
    for row, one, p in zip(FAMILIES["words"], tests, holm([one.p for one in tests]), strict=True):
        half = one.quantile(0.975)
        difference = f"{one.mean:+.3f} [{one.mean - half:+.3f}, {one.mean + half:+.3f}]"
        assert table[row][-4:-2] == [difference, printed_p(p)], row


def seeds_of(row: str, folder: Path) -> set[int]:
    model = row.partition(" + ")[0]
    return {int(path.stem.rpartition("-")[2]) for path in folder.glob(f"runs/{model}-*.npz")}


def difference(one: str, other: str, metric: str, folder: Path) -> tuple[Result, int]:
    """The test of two rows of a block over the seeds that both have, and their number."""
    seeds = tuple(sorted(seeds_of(one, folder) & seeds_of(other, folder)))
    first, second = (images(row, folder, seeds) for row in (one, other))
    d = first["right"] - second["right"]
    if metric != "test.accuracy":
        name = re.fullmatch(r"test\.per_class\.(\w+)\.recall", metric)
        assert name is not None
        d = d[:, first["label"][0] == CLASSES.index(name[1])]
    return crossed(d), len(seeds)


@pytest.mark.parametrize("page", BLOCKS, ids=lambda page: page.parent.name)
def test_planned_contrasts_of_a_block(page: Path) -> None:
    sections = re.split(r"^## ", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    planned = [section for section in sections if "planned contrasts" in section.splitlines()[0]]
    assert planned
    for section in planned:
        metric = section.splitlines()[0].split("`")[1]
        table = cells(section)
        tests = [difference(one, other, metric, page.parent) for one, other, *_ in table]
        p_values = holm([result.p for result, _ in tests])
        for row, (result, seeds), p in zip(table, tests, p_values, strict=True):
            upper = result.mean + result.quantile(1 - 0.05 / len(table))
            detectable = result.quantile(1 - 0.025 / len(table)) + result.quantile(0.8)
            bounds = [f"{100 * upper:+.2f}", f"{100 * detectable:.2f}"]
            assert row[2:] == [str(seeds), *printed(result, p), *bounds], row
