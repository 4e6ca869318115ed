"""FER+ votes: read in the images' order or refused, and turned into majorities and distributions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.data.fer import LABELS, SPLITS, USAGES, VOTE_COLUMNS
from pipeline.data.votes import CONTEMPT, barsoum_majority, distribution, majority, read_votes
from pipeline.errors import UserError

REAL = Path(__file__).parents[3] / "shared/data/fer2013/fer2013new.csv"
HEADER = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
SPLITS_OF_ROWS = np.array([0, 0, 1, 2], np.uint8)
ROWS = (
    "Training,fer0000000.png,4,0,0,1,3,2,0,0,0,0",
    "Training,,0,0,0,0,0,0,0,0,0,10",
    "PublicTest,fer0000002.png,0,10,0,0,0,0,0,0,0,0",
    "PrivateTest,fer0000003.png,1,1,1,1,1,1,1,1,1,0",
)


def votes_csv(*rows: str, header: str = HEADER, end: str = "\n") -> bytes:
    return "".join(line + end for line in (header, *rows)).encode()


def ballot(**votes: int) -> list[int]:
    return [votes.get(column, 0) for column in VOTE_COLUMNS]


def test_reads_counts_in_the_files_order() -> None:
    votes = read_votes(votes_csv(*ROWS), SPLITS_OF_ROWS)
    assert votes.dtype == np.uint8
    assert votes.tolist() == [[int(v) for v in row.split(",")[2:]] for row in ROWS]


def test_reads_a_path(tmp_path: Path) -> None:
    (tmp_path / "fer2013new.csv").write_bytes(votes_csv(*ROWS))
    expected = read_votes(votes_csv(*ROWS), SPLITS_OF_ROWS)
    np.testing.assert_array_equal(read_votes(tmp_path / "fer2013new.csv", SPLITS_OF_ROWS), expected)


@pytest.mark.parametrize(
    "data",
    [
        votes_csv(*ROWS, end="\r\n"),
        votes_csv(*ROWS)[:-1],
        b"\xef\xbb\xbf" + votes_csv(*ROWS),
        votes_csv(*ROWS) + b"\n\n",
        votes_csv(*(row.replace(",", " , ") for row in ROWS)),
    ],
    ids=["windows", "no last line end", "byte order mark", "blank lines", "blanks"],
)
def test_accepts(data: bytes) -> None:
    expected = read_votes(votes_csv(*ROWS), SPLITS_OF_ROWS)
    np.testing.assert_array_equal(read_votes(data, SPLITS_OF_ROWS), expected)


def test_no_images_and_no_rows_go_together() -> None:
    assert read_votes(votes_csv(), np.zeros(0, np.uint8)).shape == (0, 10)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "line 1: the header must be Usage,Image name,neutral"),
        (votes_csv(*ROWS, header=HEADER.replace("neutral,happiness", "happiness,neutral")), "line 1: the header"),
        (votes_csv(*ROWS[:3]), "3 rows for 4 images"),
        (votes_csv(*ROWS, ROWS[3]), "5 rows for 4 images"),
        (votes_csv(ROWS[0], ROWS[2], ROWS[1], ROWS[3]), "line 3, column Usage: 'PublicTest', but image 1 is Training"),
        (votes_csv(*ROWS[:3], ROWS[3].replace("PrivateTest", "test")), "line 5, column Usage: 'test', but image 3"),
        (votes_csv(ROWS[0].replace(",4,", ",4.5,"), *ROWS[1:]), "line 2, column neutral: '4.5' is not a number of"),
        (votes_csv(ROWS[0].replace(",3,", ",-3,"), *ROWS[1:]), "line 2, column anger: '-3' is not a number of votes"),
        (votes_csv(*ROWS[:1], ROWS[1][:-2] + "11", *ROWS[2:]), "line 3, column NF: '11' is not a number of votes"),
        (votes_csv(ROWS[0], "", "", ROWS[1][:-2] + "11"), "line 5, column NF: '11' is not a number of votes"),
        (votes_csv(ROWS[0], "", ROWS[2], ROWS[1], ROWS[3]), "line 4, column Usage: 'PublicTest', but image 1 is"),
        (votes_csv(*ROWS[:1], ROWS[1][:-2] + "", *ROWS[2:]), "line 3, column NF: '' is not"),
        (votes_csv(*ROWS[:1], ROWS[1][:-2] + "many", *ROWS[2:]), "line 3, column NF: 'many' is not"),
        (votes_csv(*ROWS[:2], ROWS[2] + ",0", ROWS[3]), "line 4: 13 columns instead of 12"),
        (votes_csv(*ROWS[:2], "PublicTest", ROWS[3]), "line 4: 1 columns instead of 12"),
        (votes_csv(*ROWS[:3], ROWS[3] + '"'), "line 5"),
        (votes_csv(*ROWS[:3], 'PrivateTest,"fer'), "not a CSV file"),
    ],
)
def test_names_line_and_column(data: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "fer2013new.csv").write_bytes(data)
    with pytest.raises(UserError) as caught:
        read_votes(tmp_path / "fer2013new.csv", SPLITS_OF_ROWS)
    assert says in str(caught.value)
    assert "fer2013new.csv" in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"set data\.votes"):
        read_votes(tmp_path / "fer2013new.csv", SPLITS_OF_ROWS)


def test_each_class_has_its_own_column() -> None:
    columns = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
    votes = np.array([ballot(**{column: 10}) for column in columns], np.uint8)
    assert majority(votes).tolist() == list(range(7))
    assert majority(votes).dtype == np.int64
    shares, has_votes = distribution(votes)
    np.testing.assert_array_equal(shares, np.eye(7))
    assert has_votes.all()


@pytest.mark.parametrize(
    ("votes", "label"),
    [
        (ballot(anger=4, neutral=3, fear=3), "angry"),
        (ballot(anger=4, neutral=4, fear=2), None),
        (ballot(anger=4, unknown=4, fear=2), None),
        (ballot(contempt=6, anger=4), None),
        (ballot(NF=10), None),
        (ballot(unknown=5, happiness=5), None),
        (ballot(happiness=6, NF=4), "happy"),
        (ballot(sadness=2), "sad"),
        (ballot(), None),
    ],
)
def test_a_majority_has_strictly_more_votes_than_every_other_column(votes: list[int], label: str | None) -> None:
    expected = -1 if label is None else LABELS.index(label)
    assert majority(np.array([votes], np.uint8)).tolist() == [expected]


def test_majority_and_distribution_against_a_plain_computation() -> None:
    rng = np.random.default_rng(0)
    votes = rng.multinomial(10, rng.dirichlet(np.full(10, 0.3), 500).clip(1e-9)[0], 500).astype(np.uint8)
    columns = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
    shares, has_votes = distribution(votes)
    for row, ballots in enumerate(votes.tolist()):
        named = dict(zip(VOTE_COLUMNS, ballots, strict=True))
        winners = [c for c in columns if all(named[c] > v for other, v in named.items() if other != c)]
        assert majority(votes)[row] == (columns.index(winners[0]) if winners else -1)
        total = sum(named[c] for c in columns)
        assert has_votes[row] == (total > 0)
        np.testing.assert_allclose(shares[row], [named[c] / total if total else 0.0 for c in columns])


@pytest.mark.parametrize(
    ("votes", "label"),
    [
        (ballot(anger=6, neutral=4), LABELS.index("angry")),
        (ballot(anger=5, neutral=5), -1),
        (ballot(anger=4, neutral=3, fear=3), -1),  # a majority here, but no half of the votes
        (ballot(anger=5, neutral=3, fear=1, sadness=1), LABELS.index("angry")),  # 5 of 8 without single votes
        (ballot(anger=5, unknown=4, fear=1), LABELS.index("angry")),  # 5 of 9
        (ballot(anger=4, unknown=4, fear=2), -1),
        (ballot(contempt=6, anger=4), CONTEMPT),
        (ballot(unknown=6, anger=4), -1),
        (ballot(NF=10), -1),
        (ballot(anger=1), -1),
        (ballot(), -1),
    ],
)
def test_fer_plus_leaves_out_what_less_than_half_of_the_votes_agree_on(votes: list[int], label: int) -> None:
    assert barsoum_majority(np.array([votes], np.uint8)).tolist() == [label]


def test_without_a_vote_for_the_seven_classes_there_is_no_distribution() -> None:
    shares, has_votes = distribution(np.array([ballot(NF=6, contempt=4), ballot(fear=1, NF=9)], np.uint8))
    assert has_votes.tolist() == [False, True]
    assert shares[0].tolist() == [0.0] * 7
    assert shares[1][LABELS.index("fear")] == 1.0


@pytest.mark.skipif(not REAL.exists(), reason="needs FER+ at ../shared/data/fer2013/fer2013new.csv")
def test_real_votes() -> None:
    sizes = {"Training": 28_709, "PublicTest": 3_589, "PrivateTest": 3_589}
    splits = np.repeat(np.arange(3), [sizes[usage] for usage in USAGES]).astype(np.uint8)
    votes = read_votes(REAL, splits)
    assert votes.shape == (35_887, 10)
    sums = votes.sum(axis=1)
    assert (sums == 10).sum() == 35_886
    assert sums.min() == 9
    train = votes[splits == SPLITS.index("train")]
    assert (train.argmax(axis=1) == VOTE_COLUMNS.index("fear")).sum() == 652
    left = [(barsoum_majority(votes[splits == split]) >= 0).sum() for split in range(3)]
    assert left == [25_060, 3_199, 3_153]
