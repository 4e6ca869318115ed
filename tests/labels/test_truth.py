"""Labels other than FER-2013's own against plain counts, and that they change nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.data.fer import LABELS, VOTE_COLUMNS, VOTES_OF_LABELS, FerData
from pipeline.errors import UserError
from pipeline.labels.truth import CERTAIN, LABEL_KINDS, LabelSpec, TrainingLabels

K, N = len(LABELS), 700


def data(with_votes: bool = True, seed: int = 0) -> FerData:
    """Images of Training, PublicTest and PrivateTest; ten votes each, half of them for the label."""
    random = np.random.default_rng(seed)
    labels = random.choice(K, N + 60, p=[0.3, 0.02, 0.1, 0.2, 0.13, 0.1, 0.15]).astype(np.uint8)
    splits = np.repeat([0, 1, 2], [N, 30, 30]).astype(np.uint8)
    shares = np.full((len(labels), len(VOTE_COLUMNS)), 0.5 / len(VOTE_COLUMNS))
    shares[np.arange(len(labels)), np.array(VOTES_OF_LABELS)[labels]] += 0.5
    votes = np.array([random.multinomial(10, row) for row in shares], np.uint8)
    votes[0] = 0
    votes[0, VOTE_COLUMNS.index("NF")] = 10  # no face: no vote for any of the seven
    return FerData(np.zeros((len(labels), 48, 48), np.uint8), labels, splits, votes if with_votes else None)


def made(name: str, seed: int = 0) -> TrainingLabels:
    return LabelSpec.parse(name).make(data(), seed)


def given() -> np.ndarray:
    return data().labels[:N]


def ballots() -> np.ndarray:
    votes = data().votes
    assert votes is not None
    return votes[:N].astype(int)


EVERY = [f"{name}{kind.numbers[4]}" if kind.numbers else name for name, kind in LABEL_KINDS.items()]


@pytest.mark.parametrize("name", EVERY)
def test_labels_repeat_have_their_shapes_and_come_back_from_a_file(name: str, tmp_path: Path) -> None:
    truth = made(name)
    for path in (tmp_path / "a.npz", tmp_path / "b.npz"):
        made(name).save(path)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    back = TrainingLabels.load(tmp_path / "a.npz")
    for field, shape in (("labels", (N,)), ("val_labels", (30,)), ("soft", (N, K)), ("weights", (N,)), ("rows", (N,))):
        array = getattr(truth, field)
        if array is None:
            assert getattr(back, field) is None
        else:
            assert array.shape == shape
            np.testing.assert_array_equal(getattr(back, field), array)
    assert (back.drawn is None) == (truth.drawn is None)
    kind = LabelSpec.parse(name).kind
    assert kind.is_soft == (truth.weights is not None or (truth.soft is not None and truth.drawn is None))


@pytest.mark.parametrize("name", EVERY)
def test_what_needs_votes_says_so(name: str) -> None:
    spec = LabelSpec.parse(name)
    if spec.kind.uses_votes:
        with pytest.raises(UserError, match=r"set data\.votes"):
            spec.make(data(with_votes=False), 0)
    else:
        spec.make(data(with_votes=False), 0)


def test_votes_are_the_shares_of_the_seven_and_no_vote_is_the_label() -> None:
    soft = made("votes").soft
    assert soft is not None
    for row in (1, 5, 99):
        seven = [int(ballots()[row][column]) for column in VOTES_OF_LABELS]
        assert soft[row].tolist() == pytest.approx([count / sum(seven) for count in seven])
    assert soft[0].tolist() == [float(k == given()[0]) for k in range(K)]
    drawn = made("votes.drawn")
    assert drawn.soft is not None
    np.testing.assert_array_equal(drawn.soft, soft)


def test_the_majority_is_what_more_voted_for_than_for_each_other_answer() -> None:
    labels = made("majority").labels
    assert labels is not None
    for row in range(N):
        counts = ballots()[row].tolist()
        first = max(counts)
        winner = counts.index(first)
        agreed = counts.count(first) == 1 and winner in VOTES_OF_LABELS
        assert labels[row] == (VOTES_OF_LABELS.index(winner) if agreed else given()[row])


@pytest.mark.parametrize("share", [10, 30, 60])
def test_noise_changes_its_share_of_labels_evenly_in_both_splits(share: int) -> None:
    truth = made(f"given.noisy{share}")
    assert truth.labels is not None
    assert truth.val_labels is not None
    changed = truth.labels != given()
    assert changed.mean() == pytest.approx(share / 100, abs=4 * (share / 100 * (1 - share / 100) / N) ** 0.5)
    steps = np.bincount((truth.labels[changed].astype(int) - given()[changed]) % K, minlength=K)
    assert steps[0] == 0
    assert steps[1:].min() > 0  # every other class
    assert (truth.val_labels != data().labels[N : N + 30]).any()
    other = made(f"given.noisy{share}", seed=1).labels
    assert other is not None
    assert not np.array_equal(truth.labels, other)


def test_noise_by_votes_draws_what_some_annotator_said() -> None:
    truth = made("given.noisy_votes")
    assert truth.labels is not None
    seven = ballots()[:, list(VOTES_OF_LABELS)]
    said = seven[np.arange(N), truth.labels]
    assert (said[1:] > 0).all()
    assert truth.labels[0] == given()[0]  # nobody voted for any of the seven
    expected = (seven / seven.sum(axis=1, keepdims=True).clip(1))[np.arange(N), given()].mean()
    assert (truth.labels == given()).mean() == pytest.approx(expected, abs=0.06)


def test_uncertain_images_make_room_for_the_others() -> None:
    rows = made("given.certain").rows
    assert rows is not None
    kept = {row for row in range(N) if ballots()[row].max() >= CERTAIN}
    assert set(rows.tolist()) == kept
    assert 0 < len(kept) < N
    counts = np.bincount(rows)[sorted(kept)]
    assert counts.max() - counts.min() <= 1


def test_weights_are_the_share_of_the_first_answer() -> None:
    weights = made("given.weighted").weights
    assert weights is not None
    for row in (0, 1, 50):
        assert weights[row] == pytest.approx(ballots()[row].max() / 10)


def test_balanced_classes_weigh_the_same() -> None:
    weights = made("given.balanced").weights
    assert weights is not None
    sums = [weights[given() == k].sum() for k in range(K)]
    assert sums == pytest.approx([N / K] * K)


def test_few_images_are_nested_and_as_many_of_each_class_as_there_are() -> None:
    chosen = {number: set(map(int, rows)) for number in (2, 5, 20)
              if (rows := made(f"given.few{number}").rows) is not None}  # fmt: skip
    assert chosen[2] < chosen[5] < chosen[20]
    for number, images in chosen.items():
        counts = np.bincount(given()[sorted(images)], minlength=K)
        assert counts.tolist() == np.minimum(number, np.bincount(given(), minlength=K)).tolist()
    other = made("given.few5", seed=1).rows
    assert other is not None
    assert set(map(int, other)) != chosen[5]


@pytest.mark.parametrize(
    "text", ["", "given", "noisy20", "given.noisy", "given.noisy0", "given.noisy91", "given.noisy020", "votes20",
             "given.few0", "given.few", "given.noisy20 ", "votes.", "GIVEN.few5", "given.few1234567"]
)  # fmt: skip
def test_what_is_no_kind_of_labels_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be one of .*votes, .*given\.noisy<1 to 90>"):
        LabelSpec.parse(text)


def of_four() -> FerData:
    """Four classes, 400, 200, 100 and 20 images of Training."""
    labels = np.repeat([0, 1, 2, 3], [400, 200, 100, 20]).astype(np.uint8)
    labels = np.concatenate([labels, np.arange(30) % 4]).astype(np.uint8)
    splits = np.repeat([0, 1], [720, 30]).astype(np.uint8)
    return FerData(np.zeros((750, 48, 48), np.uint8), labels, splits, classes=("a", "b", "c", "d"))


def test_noise_reaches_every_other_class_and_no_further() -> None:
    truth, own = LabelSpec.parse("given.noisy60").make(of_four(), 0), of_four().labels[:720].astype(int)
    assert truth.labels is not None
    assert truth.labels.max() == 3
    moved = (truth.labels.astype(int) - own) % 4
    np.testing.assert_allclose(np.bincount(moved, minlength=4) / 720, [0.4, 0.2, 0.2, 0.2], atol=0.06)


def test_balance_and_samples_are_those_of_four_classes() -> None:
    own = of_four().labels[:720]
    weights = LabelSpec.parse("given.balanced").make(of_four(), 0).weights
    assert weights is not None
    assert [weights[own == k].sum() for k in range(4)] == pytest.approx([180] * 4)
    rows = LabelSpec.parse("given.few30").make(of_four(), 0).rows
    assert rows is not None
    assert np.bincount(own[np.unique(rows)]).tolist() == [30, 30, 30, 20]


@pytest.mark.parametrize("name", [name for name, kind in LABEL_KINDS.items() if kind.uses_votes])
def test_labels_made_of_votes_are_refused_where_there_are_none(name: str) -> None:
    with pytest.raises(UserError, match="FER\\+ votes, which the data lack"):
        LabelSpec.parse(name).make(of_four(), 0)
