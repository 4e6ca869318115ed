"""The second reading against plain counts on small ballots."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from pipeline.data.fer import LABELS, VOTE_COLUMNS, VOTES_OF_LABELS
from pipeline.evaluation import pairs
from pipeline.evaluation.pairs import COMPOUNDS, NEUTRAL, halves, pair_metrics, pair_table, pairs_of, usual_partners


def ballot(**counts: int) -> list[int]:
    """Ten votes by the class's name; what is left is for *unknown*."""
    row = [0] * len(VOTE_COLUMNS)
    for label, count in counts.items():
        row[VOTES_OF_LABELS[LABELS.index(label)]] = count
    row[VOTE_COLUMNS.index("unknown")] = 10 - sum(counts.values())
    return row


def chances(*ranked: str) -> list[float]:
    """Probabilities that fall in that order of classes."""
    order = [*ranked, *(label for label in LABELS if label not in ranked)]
    return [2.0 ** -order.index(label) / (2 - 2.0**-6) for label in LABELS]


VOTES = np.array(
    [
        ballot(fear=5, surprise=5),
        ballot(fear=6, surprise=3, sad=1),
        ballot(happy=7, neutral=3),
        ballot(angry=4, sad=3, fear=3),  # the second is not ahead of the third
        ballot(happy=8, sad=2),  # too few for a second
        ballot(happy=10),
        ballot(),  # nothing of the seven
    ],
    np.uint8,
)
GUESSES = np.array(
    [
        chances("surprise", "fear"),
        chances("fear", "sad"),
        chances("neutral", "happy"),
        chances("angry", "sad"),
        chances("happy", "sad"),
        chances("happy", "sad"),
        chances("happy", "sad"),
    ]
)


PARTNERS = np.array(
    [LABELS.index(label) for label in ("sad", "angry", "surprise", "neutral", "neutral", "fear", "happy")]
)
"""A partner of every class: angry and sad, disgust and angry, fear and surprise, and so on."""


def test_a_pair_needs_votes_and_a_lead() -> None:
    found, has_pair = pairs_of(VOTES)
    assert has_pair.tolist() == [True, True, True, False, False, False, False]
    assert [[LABELS[k] for k in row] for row in found[:3]] == [
        ["fear", "surprise"], ["fear", "surprise"], ["happy", "neutral"],
    ]  # fmt: skip


def test_pairs_are_compared_as_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "ENOUGH", 2)
    found = pair_metrics(GUESSES, VOTES, PARTNERS)
    assert found["images"] == 3
    assert found["exact"] == pytest.approx(2 / 3)
    assert found["jaccard"] == pytest.approx((1 + 1 / 3 + 1) / 3)
    assert found["emotions"]["images"] == 2
    assert found["emotions"]["exact"] == 0.5
    assert found["emotions"]["jaccard"] == pytest.approx((1 + 1 / 3) / 2)
    assert (found["pairs"], found["macro"]) == (1, 0.5)  # of fear and surprise alone there are two


def test_the_second_probability_tells_who_has_a_second_reading() -> None:
    random = np.random.default_rng(0)
    votes = np.array([random.multinomial(10, np.full(10, 0.1)) for _ in range(300)], np.uint8)
    votes[::2, VOTES_OF_LABELS[3]] += 10
    guesses = random.dirichlet(np.ones(7), 300)
    _, has_pair = pairs_of(votes)
    voted = votes[:, list(VOTES_OF_LABELS)].sum(axis=1) > 0
    second = np.array([sorted(row)[-2] for row in guesses])
    assert pair_metrics(guesses, votes, PARTNERS)["auc"] == pytest.approx(roc_auc_score(has_pair[voted], second[voted]))


def test_the_six_measures_are_those_of_plain_arithmetic() -> None:
    random = np.random.default_rng(1)
    votes = np.array([random.multinomial(10, random.dirichlet(np.ones(10))) for _ in range(20)], np.uint8)
    guesses = random.dirichlet(np.ones(7), 20)
    plain: dict[str, list[float]] = {
        name: [] for name in ("chebyshev", "clark", "canberra", "kl", "cosine", "intersection")
    }
    for row, p in zip(votes.tolist(), guesses.tolist(), strict=True):
        counts = [row[column] for column in VOTES_OF_LABELS]
        if not sum(counts):
            continue
        d = [count / sum(counts) for count in counts]
        both = list(zip(d, p, strict=True))
        plain["chebyshev"].append(max(abs(a - b) for a, b in both))
        plain["clark"].append(math.sqrt(sum(((a - b) / (a + b)) ** 2 for a, b in both)))
        plain["canberra"].append(sum(abs(a - b) / (a + b) for a, b in both))
        plain["kl"].append(sum(a * math.log(a / b) for a, b in both if a))
        plain["cosine"].append(sum(a * b for a, b in both) / math.hypot(*d) / math.hypot(*p))
        plain["intersection"].append(sum(min(a, b) for a, b in both))
    found = pair_metrics(guesses, votes, PARTNERS)["ldl"]
    assert found == {name: pytest.approx(sum(values) / len(values), rel=1e-5) for name, values in plain.items()}


def test_nobody_who_agrees_or_votes_is_no_error() -> None:
    nobody = pair_metrics(GUESSES[:1], np.array([ballot()], np.uint8), PARTNERS)
    assert nobody["images"] == nobody["exact"] == nobody["auc"] == nobody["macro"] == 0
    assert set(nobody["ldl"].values()) == {0.0}


def plain_halves(row: list[int]) -> tuple[Fraction, Fraction]:
    """Every way to divide the voters, and every pair of a half: no class outside has more votes than one inside."""
    voters = [column for column, count in enumerate(row) for _ in range(count)]
    exact = jaccard = Fraction(0)
    splits = list(combinations(range(len(voters)), len(voters) // 2))
    for half in splits:
        read = []
        for side in (half, [n for n in range(len(voters)) if n not in half]):
            counts = [sum(voters[n] == column for n in side) for column in VOTES_OF_LABELS]
            read.append([
                {i, j} for i, j in combinations(range(7), 2)
                if all(count <= min(counts[i], counts[j]) for k, count in enumerate(counts) if k not in (i, j))
            ])  # fmt: skip
        ways = Fraction(1, len(read[0]) * len(read[1]) * len(splits))
        for one in read[0]:
            for other in read[1]:
                exact += ways * (one == other)
                jaccard += ways * Fraction(len(one & other), len(one | other))
    return exact, jaccard


def test_halves_agree_as_often_as_in_every_way_to_divide_the_annotators() -> None:
    rows = [
        ballot(fear=5, surprise=5), ballot(happy=6, neutral=4), ballot(angry=4, disgust=3, fear=1),
        ballot(fear=6, surprise=3, sad=1), ballot(sad=4, neutral=3, fear=2, angry=1), ballot(happy=10),
        ballot(angry=4, sad=3, fear=1),
    ]  # fmt: skip
    rows[-1][VOTE_COLUMNS.index("unknown")] -= 1  # nine votes
    found = halves(np.array(rows, np.uint8))
    for row, (exact, jaccard) in zip(rows, found.tolist(), strict=True):
        assert (exact, jaccard) == pytest.approx(tuple(map(float, plain_halves(row))))
    assert found[0, 0] > found[3, 0] > found[4, 0]  # the clearer the two readings, the more halves see both


def test_which_classes_have_the_votes_does_not_matter_to_halves_and_more_than_ten_are_not_divided() -> None:
    rows = np.array([ballot(fear=6, surprise=3, sad=1), ballot(sad=6, angry=3, neutral=1)], np.uint8)
    assert halves(rows)[0].tolist() == halves(rows)[1].tolist()
    assert np.isnan(halves(2 * rows)).all()


def test_the_usual_partner_is_that_of_most_pairs() -> None:
    votes = np.array(
        [ballot(fear=5, surprise=4)] * 3 + [ballot(fear=4, sad=5)] * 2 + [ballot(surprise=6, happy=4)]
        + [ballot(disgust=6, sad=1)] * 9, np.uint8,
    )  # fmt: skip
    partners = {LABELS[k]: LABELS[other] for k, other in enumerate(usual_partners(votes))}
    assert [partners[name] for name in ("fear", "surprise", "sad", "happy")] == ["surprise", "fear", "fear", "surprise"]
    assert partners["disgust"] == partners["neutral"] == "fear"  # without a pair: fear is in five, surprise in four
    assert all(partner != label for label, partner in partners.items())
    assert (usual_partners(votes[-1:]) != np.arange(7)).all()  # nobody has a pair


def test_references_are_measured_on_the_images_of_the_model() -> None:
    found = pair_metrics(GUESSES, VOTES, PARTNERS)
    # First choices surprise, fear and neutral, whose partners here are fear, surprise and happy.
    assert found["prior"] == {"exact": 1, "jaccard": 1}
    every = [plain_halves(row) for row in VOTES[:3].tolist()]
    for group, of in ((found, every), (found["emotions"], every[:2])):
        assert group["halves"] == {
            "exact": pytest.approx(float(sum(exact for exact, _ in of) / len(of))),
            "jaccard": pytest.approx(float(sum(jaccard for _, jaccard in of) / len(of))),
        }
    other = PARTNERS.copy()
    other[LABELS.index("fear")] = LABELS.index("sad")
    assert pair_metrics(GUESSES, VOTES, other)["prior"]["exact"] == pytest.approx(2 / 3)


def test_the_compounds_name_twelve_pairs_of_the_six_emotions() -> None:
    emotions = set(LABELS) - {LABELS[NEUTRAL]}
    pairs = {frozenset(pair) for pair in combinations(emotions, 2)}
    assert len(pairs) == 15
    assert pairs - set(COMPOUNDS) == {frozenset({"happy", other}) for other in ("angry", "fear", "sad")}
    assert set(COMPOUNDS) <= pairs
    names = [name for entry in COMPOUNDS.values() for name in entry.split(", ")]
    assert len(names) == len(set(names)) == 15


def test_the_table_divides_the_metrics_by_pair() -> None:
    random = np.random.default_rng(2)
    votes = np.array([random.multinomial(10, random.dirichlet(np.full(10, 0.4))) for _ in range(200)], np.uint8)
    guesses = random.dirichlet(np.ones(7), 200)
    rows, all_pairs = pair_table(guesses, votes, PARTNERS), pair_metrics(guesses, votes, PARTNERS)
    images = [row.images for row in rows]
    assert sum(images) == all_pairs["images"] > 20
    assert images == sorted(images, reverse=True)
    assert len({frozenset({row.first, row.second}) for row in rows}) == len(rows)
    for column, whole in (
        ("exact", all_pairs["exact"]), ("jaccard", all_pairs["jaccard"]),
        ("halves_exact", all_pairs["halves"]["exact"]), ("prior_jaccard", all_pairs["prior"]["jaccard"]),
    ):  # fmt: skip
        assert np.average([getattr(row, column) for row in rows], weights=images) == pytest.approx(whole)
    assert {row.compound for row in rows if row.second == "neutral"} == {""}
    (row,) = pair_table(GUESSES, VOTES, PARTNERS)[:1]
    assert (row.first, row.second, row.images, row.exact) == ("fear", "surprise", 2, 0.5)
    assert "fearfully surprised" in row.compound
    assert pair_table(GUESSES[:1], np.array([ballot()], np.uint8), PARTNERS) == []
