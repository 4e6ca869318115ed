"""What is concluded from runs, on made-up runs whose answers are known."""

from __future__ import annotations

import statistics
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from pipeline import config
from pipeline.comparison import findings
from pipeline.comparison.findings import RowId
from pipeline.comparison.paired import compare
from pipeline.comparison.records import RunRecord, entries
from pipeline.comparison.registry import recall as recall_of
from pipeline.comparison.rows import PairedTest
from pipeline.comparison.statistics import holm
from pipeline.data.fer import LABELS
from tests.factories import IMAGES, made_up, row, study


def test_public_test_chooses_whom_private_test_is_asked_about() -> None:
    rows = [row("a", 0.02, val=0.66), row("b", -0.01, val=0.67)]
    assert findings.best_of(rows).model == "b"


def test_the_prediction_is_tested_on_shared_seeds_of_cosine_models() -> None:
    rows = {row.model: row for row in findings.predictions(study(), "cross_entropy")}
    assert list(rows) == ["cosine_one_hot", "w2v_cosine", "w2v_permuted"]
    assert [row.seeds for row in rows.values()] == [2, 2, 1]


def test_equal_cosines_predict_the_arg_max() -> None:
    row = findings.predictions(study(), "cross_entropy")[0]
    assert row.as_costs == row.as_posterior
    assert row.spread == 0


def test_probabilities_that_rounding_made_equal_do_not_tell_the_two_agreements_apart() -> None:
    models = study()
    for run in models["cross_entropy"].values():
        run.probabilities[:] = 1 / 7  # the decisions that are stored were made before rounding
    row = findings.predictions(models, "cross_entropy")[0]
    assert row.as_costs == row.as_posterior


def test_agreement_and_shares_are_those_of_a_plain_count() -> None:
    models = study()
    row = findings.predictions(models, "cross_entropy")[1]
    agree: list[float] = []
    neutral: list[float] = []
    for seed in (1, 2):
        gram = models["w2v_cosine"][seed].metrics["gram"]
        decided = []
        for p in models["cross_entropy"][seed].probabilities.astype(float).tolist():
            sums = [sum(gram[k][j] * p[j] for j in range(7)) for k in range(7)]
            decided.append(sums.index(max(sums)))
        mine = models["w2v_cosine"][seed].predicted["argmax"].tolist()
        agree.append(sum(a == b for a, b in zip(mine, decided, strict=True)) / IMAGES)
        neutral.append(decided.count(6) / IMAGES)
    assert row.as_costs.mean == pytest.approx(sum(agree) / 2)
    assert row.as_costs.std == pytest.approx(statistics.stdev(agree))
    assert row.predicted[6] == pytest.approx(sum(neutral) / 2)
    assert row.found.sum() == pytest.approx(1)


def test_where_the_two_rules_differ_the_sides_are_counted() -> None:
    models = study()
    row = findings.predictions(models, "cross_entropy")[1]
    differing = with_costs = with_posterior = 0
    for seed in (1, 2):
        gram = np.array(models["w2v_cosine"][seed].metrics["gram"])
        p = models["cross_entropy"][seed].probabilities.astype(float)
        for mine, posterior in zip(models["w2v_cosine"][seed].predicted["argmax"], p, strict=True):
            by_costs, plain = (gram @ posterior).argmax(), posterior.argmax()
            differing += by_costs != plain
            with_costs += by_costs != plain and mine == by_costs
            with_posterior += by_costs != plain and mine == plain
    assert (row.differing, row.with_costs, row.with_posterior) == (differing, with_costs, with_posterior)
    assert 0 < with_costs < differing
    assert row.difference.mean == pytest.approx((with_costs - with_posterior) / (2 * IMAGES))
    assert row.plain.sum() == pytest.approx(1)


def test_scores_are_predicted_from_the_posterior_of_the_same_seed_at_its_temperature() -> None:
    models = study()
    for seed, run in models["w2v_cosine"].items():
        if seed in models["cross_entropy"]:
            posterior = models["cross_entropy"][seed]
            posterior.metrics["temperature"] = 1.7
            p = np.maximum(posterior.probabilities.astype(np.float64), 2e-16) ** (1 / 1.7)
            p /= p.sum(axis=1, keepdims=True)
            gram = np.array(run.metrics["gram"])
            scores = p @ gram / np.sqrt(np.einsum("nj,jk,nk->n", p, gram, p))[:, None]
            run.probabilities[:] = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    rows = {row.model: row for row in findings.score_fits(models, "cross_entropy")}
    assert {name: row.seeds for name, row in rows.items()} == {"cosine_one_hot": 2, "w2v_cosine": 2, "w2v_permuted": 1}
    fitting, plain = rows["w2v_cosine"], rows["cosine_one_hot"]
    assert fitting.similarities.mean == pytest.approx(1, abs=1e-3)  # they are kept in half precision
    assert fitting.alone.mean < fitting.scaled.mean < 0.99
    # Both similar pairs, the classes within each and the three others may change places without changing S.
    assert fitting.p == pytest.approx((2 * 2 * 2) * 6 / 5040)
    assert plain.similarities == plain.alone
    assert (plain.p, plain.p_holm) == (None, None)
    tested = [row for row in rows.values() if row.p is not None]
    assert [row.p_holm for row in tested] == pytest.approx(holm([row.p for row in tested if row.p]))


def test_a_row_is_found_by_model_and_decoder() -> None:
    models = study()
    found = findings.row_entry(models, RowId("w2v_cosine"))
    assert found is not None
    assert (found.model, found.decoder, found.seeds) == ("w2v_cosine", "argmax", [1, 2, 5])
    assert findings.row_entry(models, RowId("w2v_cosine", "crm.word2vec")) is None  # not evaluated
    assert findings.row_entry(models, RowId("unheard_of")) is None


def test_models_that_findings_name_are_in_params() -> None:
    params = config.load(Path(__file__).parents[2] / "params.yaml")
    assert findings.POSTERIOR in params.models
    for model, decoder in chain.from_iterable(findings.CONTRASTS):
        assert not decoder or decoder in params.model(model).decoders


def test_two_seeds_agree_on_what_both_get_right() -> None:
    models = study()
    runs = [run.predicted["argmax"] for run in models["cross_entropy"].values()]
    pairs = [(runs[0] == runs[1]).mean(), (runs[0] == runs[2]).mean(), (runs[1] == runs[2]).mean()]
    common = findings.between_seeds(models, "cross_entropy")
    assert common is not None
    assert common.mean == pytest.approx(np.mean(pairs))
    assert common.std == pytest.approx(statistics.stdev(pairs))
    assert findings.between_seeds(models, "w2v_permuted") is None


def test_recalls_are_tested_for_every_row_and_class() -> None:
    models = study()
    rows = compare(entries(models, "cross_entropy"))
    found = {row.model: tests for row, tests in findings.recall_tests(rows, LABELS)}
    assert list(found) == ["cosine_one_hot", "w2v_cosine", "w2v_permuted"]
    for model, seeds in (("cosine_one_hot", (0, 1)), ("w2v_permuted", (1,))):
        for label in LABELS:
            plain = np.mean(
                [recall(models[model][seed], label) - recall(models["cross_entropy"][seed], label) for seed in seeds]
            )
            test = found[model][label]
            assert test.difference == pytest.approx(plain, abs=1e-9)
            assert test.low < test.difference < test.high


def test_four_judges_stand_side_by_side() -> None:
    models = {"baseline": {seed: made_up(seed, 0.68, loss="cross_entropy") for seed in (0, 1, 2)}, **study()}
    rows = compare(entries(models, "baseline"))
    judged = {one.row.model: one for one in findings.judges(rows, models)}
    assert list(judged) == list(models)
    assert judged["baseline"].tests[:3] == (None, None, None)
    assert judged["cross_entropy"].tests[3] is None
    one = judged["w2v_cosine"]
    by_labels, clean, votes, plain = one.tests
    assert (by_labels, clean) == (one.row["test.accuracy"].test, one.row["test_clean.accuracy"].test)
    assert votes is None  # nobody voted
    again = compare(entries(models, "cross_entropy"))
    assert plain == next(row for row in again if row.model == "w2v_cosine").test()
    assert findings.judges(again, models) == []


def recall(run: RunRecord, label: str) -> float:
    return float(run.metrics["test"]["per_class"][label]["recall"])


def test_cosines_correlate_with_the_confusion_they_were_made_from() -> None:
    models = study()
    confusion = np.sum([run.metrics["confusion"] for run in models["cross_entropy"].values()], axis=0)
    rates = confusion / confusion.sum(axis=1, keepdims=True)
    gram = (rates + rates.T) / 2
    models["made"] = {0: made_up(0, 0.6, "made", gram=gram)}
    models["drawn"] = {0: made_up(0, 0.6, "random", gram=gram)}
    rows = {name: (rho, p) for name, rho, p in findings.correlations(models, "cross_entropy")}
    assert set(rows) == {"word2vec", "made"}, "neither equal cosines nor those that are drawn anew for every seed"
    assert rows["made"][0] == pytest.approx(1)
    assert rows["made"][1] < 0.01


def test_nothing_correlates_with_the_confusion_of_a_class_without_images() -> None:
    models = study()
    for run in models["cross_entropy"].values():
        run.metrics["confusion"][2] = [0] * 7
    assert findings.correlations(models, "cross_entropy") == []


def test_the_contrasts_have_a_test_of_their_own() -> None:
    models = study()
    found = findings.contrasts(models)
    assert [(str(one.model), str(one.against)) for one in found] == [
        ("w2v_cosine", "cross_entropy"), ("cosine_one_hot", "cross_entropy"),
        ("w2v_cosine", "cosine_one_hot"), ("w2v_cosine", "w2v_permuted"),
    ]  # fmt: skip
    mine, theirs = (models[name][1].right("argmax").mean() for name in ("w2v_cosine", "cosine_one_hot"))
    assert found[2].row.test().difference == pytest.approx(mine - theirs)
    p_values = [one.row.test().p for one in found]
    assert [one.row.test().p_holm for one in found] == pytest.approx(holm(p_values))
    again = findings.contrasts(models, [(RowId("w2v_cosine"), RowId("cross_entropy"))], [recall_of("disgust")])
    assert [one.row.test(recall_of("disgust")).tests for one in again] == [1]


@pytest.mark.parametrize(("difference", "p", "said"), [(0.02, 0.01, 1), (-0.02, 0.01, -1), (0.02, 0.2, 0)])
def test_the_verdict_is_the_corrected_tests(difference: float, p: float, said: int) -> None:
    assert PairedTest(difference, difference - 0.01, difference + 0.01, p=0.001, p_holm=p).verdict == said


def test_rows_are_matched_by_model_and_decoder() -> None:
    rows = [row(name, None) for name in ("baseline", "a", "b")]
    rows.insert(1, row("baseline", 0.0, decoder="crm"))
    others = [row(name, 0.01) for name in ("baseline", "b", "c")] + [row("baseline", 0.01, decoder="crm")]
    pairs = findings.in_both(rows, others)
    assert [(mine.model, mine.decoder) for mine, _ in pairs] == [("baseline", "crm"), ("b", "argmax")]
    assert all((mine.model, mine.decoder) == (other.model, other.decoder) for mine, other in pairs)
    assert all(other.paired_seeds for _, other in pairs)
