"""Draw conclusions from the kept runs of a study: the numbers behind the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.comparison import theory
from pipeline.comparison.paired import Entry, compare
from pipeline.comparison.records import RunRecord, entries, entry
from pipeline.comparison.registry import FRACTIONS, recall
from pipeline.comparison.rows import ComparisonRow, PairedTest, corrected
from pipeline.comparison.statistics import Difference, Interval, crossed_t, holm, interval95
from pipeline.evaluation.decoders import CostSensitive, ModelOutput
from pipeline.evaluation.metrics import apply_temperature
from pipeline.files import JsonDict
from pipeline.labels.targets import TargetSpec

Models = Mapping[str, Mapping[int, RunRecord]]
"""Every run by model and seed."""

POSTERIOR = "cross_entropy"
"""The model whose probabilities stand for the posterior p: without label smoothing, which would distort them."""


MIN_SEEDS = 3
"""Minimum seeds to judge a row: with fewer the test is about networks, not recipes (docs/benchmarks.md)."""
IDEA = "w2v_cosine"
"""The idea as it was meant, without a second term: the cosine loss towards the words' vectors."""
WHITENED = "w2v_whitened"
"""`IDEA` with the similarities removed from the vectors."""
UNEQUAL = 1e-3
"""Spread of the cosines above which they differ: their rounding in a metrics file is below it."""


class RowId(NamedTuple):
    """A row of the table: a model under a decoder, the model's own if empty."""

    model: str
    decoder: str = ""

    def __str__(self) -> str:
        return f"{self.model} + {self.decoder}" if self.decoder else self.model

    @property
    def key(self) -> str:
        """The row in MLflow's keys, which may hold no +."""
        return f"{self.model}.{self.decoder}" if self.decoder else self.model


CONTRASTS = (
    (RowId(IDEA), RowId("cross_entropy")),
    (RowId(IDEA), RowId("cross_entropy", "crm.word2vec")),
    (RowId("cosine_one_hot"), RowId("cross_entropy")),
    (RowId(IDEA), RowId("cosine_one_hot")),
    (RowId(IDEA), RowId("cosine_random")),
    (RowId(IDEA), RowId("w2v_permuted")),
    (RowId("w2v_softmax"), RowId("softmax_one_hot")),
    (RowId(IDEA), RowId(WHITENED)),
    (RowId(WHITENED), RowId("cosine_one_hot")),
)
"""The idea against plain cross-entropy, and against the decoder that it should be equivalent to (docs/losses.md);
the loss without words; what the words add to a loss; and whether their meaning matters. Four pairs were added when
results were known: the second, the third and the last two (what the similarities add to vectors of words, and whether
equal cosines in 300 dimensions do the same as in 7)."""


class Contrast(NamedTuple):
    """One pair of rows with its own tests: the row of `model` against the other, corrected over all pairs."""

    model: RowId
    against: RowId
    row: ComparisonRow


@dataclass(frozen=True)
class Prediction:
    """One model with the cosine loss, compared with the decisions of cross-entropy and costs: means over shared seeds.

    as_posterior, as_costs: share of PrivateTest decided as arg-max p and as arg-max S p of the posterior of the same
    seed; difference: the second minus the first, over images and seeds. differing: images, over all seeds, on which the
    two rules differ; with_costs, with_posterior: images among them on which the model decides as either. found,
    predicted, plain: share of each class, [K], among the decisions of the model, of arg-max S p and of arg-max p.
    spread: standard deviation of the cosines between the targets. accuracy: on PrivateTest.
    """

    model: str
    seeds: int
    as_posterior: Interval
    as_costs: Interval
    difference: Difference
    differing: int
    with_costs: int
    with_posterior: int
    found: npt.NDArray[np.float64]
    predicted: npt.NDArray[np.float64]
    plain: npt.NDArray[np.float64]
    spread: float
    accuracy: Interval


@dataclass(frozen=True)
class ScoreFit:
    """How well a model's scores on PrivateTest are predicted from the posterior of the same seed: means over seeds.

    similarities: R^2 of the prediction with the model's own S; alone: with S = I; scaled: with S = I and one fitted
    factor (`theory.score_fit`, `theory.scaled_score_fit`). p: share of relabellings of S whose mean R^2 is as high, and
    p_holm corrected for all models; None if the cosines are equal, so that relabelling changes nothing.
    """

    model: str
    seeds: int
    similarities: Interval
    alone: Interval
    scaled: Interval
    p: float | None
    p_holm: float | None = None


def first(runs: Mapping[int, RunRecord]) -> JsonDict:
    """Return the metrics of a model's first seed, for values that do not depend on the seed."""
    return next(iter(runs.values())).metrics


def classes_of(models: Models) -> tuple[str, ...]:
    """Return the names of the classes, which are the same in all runs."""
    return tuple(first(next(iter(models.values())))["test"]["per_class"])


def row_id(row: ComparisonRow, rows: Sequence[ComparisonRow]) -> RowId:
    """Return the model, and the decoder if it is not the model's own."""
    own = next(other.decoder for other in rows if other.model == row.model)
    return RowId(row.model, "" if row.decoder == own else row.decoder)


def row_name(row: ComparisonRow, rows: Sequence[ComparisonRow]) -> str:
    """Return the row as tables show it."""
    return str(row_id(row, rows))


def contrasts(
    models: Models, pairs: Sequence[tuple[RowId, RowId]] = CONTRASTS, metrics: Sequence[str] = ("test.accuracy",)
) -> list[Contrast]:
    """Return the pairs that have been run with a shared seed; the tests of each metric are corrected for each other."""
    found = []
    for model, against in pairs:
        mine, theirs = row_entry(models, model), row_entry(models, against)
        if mine and theirs and set(mine.seeds) & set(theirs.seeds):
            found.append(Contrast(model, against, compare([theirs, mine])[1]))
    for metric in metrics:
        tests = corrected([contrast.row.test(metric) for contrast in found], metric in FRACTIONS)
        found = [
            contrast._replace(row=contrast.row.with_test(metric, test))
            for contrast, test in zip(found, tests, strict=True)
        ]
    return found


JUDGES = {
    "labels": "by the labels",
    "without near duplicates": "without near duplicates",
    "FER+ majority": "by the FER+ majority",
    "against plain cross-entropy": "against plain cross-entropy",
}
"""What a row is judged by: the heading of its column and its part of a sentence.

Accuracy by the labels, by the labels of images without a near duplicate in Training, and by the FER+ majority, against
the study's baseline; then by the labels against plain cross-entropy.
"""


class Judged(NamedTuple):
    """A row before `JUDGES`, with the test of each, in their order; None where there is none."""

    row: ComparisonRow
    tests: tuple[PairedTest | None, ...]


def judges(rows: Sequence[ComparisonRow], models: Models) -> list[Judged]:
    """Put every row of a comparison, the baseline included, before four judges; empty without plain cross-entropy."""
    if rows[0].model == POSTERIOR or POSTERIOR not in models:
        return []
    shared = {model: runs for model, runs in models.items() if set(runs) & set(models[POSTERIOR])}
    plain = {(row.model, row.decoder): row for row in compare(entries(shared, POSTERIOR))}
    found = []
    for row in rows:
        again = plain.get((row.model, row.decoder))
        by_baseline = [
            row[name].test if name in row else None
            for name in ("test.accuracy", "test_clean.accuracy", "test.votes.accuracy")
        ]
        found.append(Judged(row, (*by_baseline, again["test.accuracy"].test if again else None)))
    return found


def row_entry(models: Models, row: RowId) -> Entry | None:
    """Return the measurements behind a row of the table; None if it has not been run."""
    if row.model not in models:
        return None
    known = next(iter(models[row.model].values())).decoders
    decoder = row.decoder or known[0]
    return entry(row.model, decoder, models[row.model]) if decoder in known else None


def posterior_of(models: Models, baseline: str) -> str:
    """Return `POSTERIOR` if it has been run, else the baseline."""
    return POSTERIOR if POSTERIOR in models else baseline


def predictions(models: Models, posterior: str) -> list[Prediction]:
    """Test the prediction of docs/losses.md for every cosine model that shares a seed with the posterior."""
    rows = []
    for model, runs in models.items():
        shared = [seed for seed in runs if seed in models[posterior]]
        if first(runs)["loss"] != "cosine" or not shared:
            continue
        pairs = [(runs[seed], models[posterior][seed]) for seed in shared]
        grams = [np.array(run.metrics["gram"]) for run, _ in pairs]
        mine = [run.predicted[run.decoders[0]][run.test] for run, _ in pairs]
        posteriors = [base.probabilities[base.test].astype(np.float64) for _, base in pairs]
        # Of the same rounded p as below, not as stored: equal cosines must give equal agreements.
        theirs = [p.argmax(axis=1) for p in posteriors]
        by_costs = [CostSensitive(gram)(ModelOutput(p, p, None)) for p, gram in zip(posteriors, grams, strict=True)]
        like_costs, like_posterior = np.equal(mine, by_costs), np.equal(mine, theirs)
        rows.append(
            Prediction(
                model=model,
                seeds=len(shared),
                as_posterior=interval95([theory.agreement(a, b) for a, b in zip(mine, theirs, strict=True)]),
                as_costs=interval95([theory.agreement(a, b) for a, b in zip(mine, by_costs, strict=True)]),
                difference=crossed_t(like_costs, like_posterior),
                differing=int(np.not_equal(by_costs, theirs).sum()),
                with_costs=int((like_costs & ~like_posterior).sum()),
                with_posterior=int((like_posterior & ~like_costs).sum()),
                found=np.mean([theory.shares(decided, len(grams[0])) for decided in mine], axis=0),
                predicted=np.mean([theory.shares(decided, len(grams[0])) for decided in by_costs], axis=0),
                plain=np.mean([theory.shares(decided, len(grams[0])) for decided in theirs], axis=0),
                spread=float(np.mean([theory.spread(gram) for gram in grams])),
                accuracy=interval95([run.metrics["test"]["accuracy"] for run, _ in pairs]),
            )
        )
    return rows


def score_fits(models: Models, posterior: str) -> list[ScoreFit]:
    """Predict the scores of every cosine model that shares a seed with the posterior, at the posterior's temperature.

    The temperature is that of the posterior's metrics file, fitted on PublicTest.
    """
    found = []
    for model, runs in models.items():
        shared = [seed for seed in runs if seed in models[posterior]]
        if first(runs)["loss"] != "cosine" or not shared:
            continue
        sides = [_scores_posterior_gram(runs[seed], models[posterior][seed]) for seed in shared]
        tested = all(theory.spread(gram) > UNEQUAL for _, _, gram in sides)
        fits = [theory.relabelled_fits(*side) for side in sides] if tested else []
        found.append(
            ScoreFit(
                model=model,
                seeds=len(shared),
                similarities=interval95([theory.score_fit(*side) for side in sides]),
                alone=interval95([theory.score_fit(c, p, np.eye(len(gram))) for c, p, gram in sides]),
                scaled=interval95([theory.scaled_score_fit(c, p, np.eye(len(gram))) for c, p, gram in sides]),
                p=theory.relabelling_p(np.mean(fits, axis=0)) if tested else None,
            )
        )
    p_values = iter(holm([row.p for row in found if row.p is not None]))
    return [row if row.p is None else replace(row, p_holm=float(next(p_values))) for row in found]


def _scores_posterior_gram(
    run: RunRecord, posterior: RunRecord
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return a cosine model's scores up to a constant per image, the posterior of these images, and S."""
    # The softmax of cosines is at least e^-2 / K: only made-up probabilities reach the floor.
    kept = np.maximum(run.probabilities[run.test].astype(np.float64), np.finfo(np.float16).tiny)
    p = posterior.probabilities[posterior.test].astype(np.float64)
    return np.log(kept), apply_temperature(p, posterior.metrics["temperature"]), np.array(run.metrics["gram"])


def corrected_p(rows: Sequence[Prediction]) -> dict[str, float]:
    """Return the Holm-corrected p of each model's difference, where the rules differ and there are enough seeds."""
    tested = [row for row in rows if row.differing and row.seeds >= MIN_SEEDS]
    p_values = holm([row.difference.p for row in tested])
    return {row.model: float(p) for row, p in zip(tested, p_values, strict=True)}


def between_seeds(models: Models, model: str) -> Interval | None:
    """Return how often two trainings of one model decide alike, over all pairs of seeds; None with a single seed."""
    decisions = [run.predicted[run.decoders[0]][run.test] for run in models[model].values()]
    pairs = [theory.agreement(a, b) for a, b in combinations(decisions, 2)]
    return interval95(pairs) if pairs else None


def correlations(models: Models, baseline: str) -> list[tuple[str, float, float]]:
    """Correlate every set of targets with the baseline's confusion: Spearman's rho and Mantel's p (Holm).

    Leaves out targets drawn for each seed, and equal cosines, for which no correlation is defined. Empty if a class has
    no images.
    """
    confusion = np.sum([run.metrics["confusion"] for run in models[baseline].values()], axis=0)
    grams = {first(runs)["targets"]: np.array(first(runs)["gram"]) for runs in models.values()}
    grams = {
        name: gram
        for name, gram in grams.items()
        if theory.spread(gram) > UNEQUAL and not TargetSpec.parse(name).uses_seed
    }
    if not grams or not confusion.sum(axis=1).all():
        return []
    found = {name: theory.confusion_correlation(gram, confusion) for name, gram in grams.items()}
    p_values = holm([p for _, p in found.values()])
    return [(name, rho, float(p)) for (name, (rho, _)), p in zip(found.items(), p_values, strict=True)]


def recall_tests(
    rows: Sequence[ComparisonRow], classes: Sequence[str]
) -> list[tuple[ComparisonRow, dict[str, PairedTest]]]:
    """Return the test of each class's recall against the baseline's, for every row that has them."""
    found = []
    for row in rows[1:]:
        tests = {
            label: test for label in classes if recall(label) in row and (test := row[recall(label)].test) is not None
        }
        if tests:
            found.append((row, tests))
    return found


def in_both(
    rows: Sequence[ComparisonRow], others: Sequence[ComparisonRow]
) -> list[tuple[ComparisonRow, ComparisonRow]]:
    """Return the pairs of rows of two comparisons with the same model and decoder, without the baseline's own."""
    found = {(row.model, row.decoder): row for row in others}
    return [(row, found[key]) for row in rows[1:] if (key := (row.model, row.decoder)) in found]


def best_of(rows: Sequence[ComparisonRow]) -> ComparisonRow:
    """Return the row with the best accuracy on PublicTest: PrivateTest must not choose the row that it then judges."""
    return max(rows, key=lambda row: row["val.accuracy"].mean)
