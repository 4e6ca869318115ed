"""Targets against their definitions, and what each may look at."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.fer import CLASSES_FILE, LABELS
from pipeline.errors import UserError
from pipeline.files import write_json
from pipeline.labels.distances import AFFECT
from pipeline.labels.targets import SOURCES, TRANSFORMS, TargetSpec, Training, names, unit, vectors_of_gram
from pipeline.labels.vectors import LabelVectors
from pipeline.workspace import PREPARED, label_vectors

K = len(LABELS)


def training(seed: int = 0, images: int = 70) -> Training:
    rng = np.random.default_rng(9)
    labels = (np.arange(images) % K).astype(np.uint8)
    return Training(labels, rng.multinomial(10, np.full(10, 0.1), size=images).astype(np.uint8), seed)


def words(seed: int = 0, dimensions: int = 12) -> np.ndarray:
    """Unit vectors with much in common, as words have."""
    rows = np.random.default_rng(seed).normal(size=(K, dimensions)) + 1
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


@pytest.mark.parametrize("name", SOURCES)
def test_sources_are_unit_vectors_that_repeat(name: str) -> None:
    vectors = SOURCES[name](training())
    assert vectors.dtype == np.float64
    assert len(vectors) == K
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), np.ones(K))
    np.testing.assert_array_equal(vectors, SOURCES[name](training()))


@pytest.mark.parametrize("name", SOURCES)
def test_sources_depend_on_what_they_say_they_do(name: str) -> None:
    data, source = training(), SOURCES[name]
    assert data.votes is not None
    others = replace(data, votes=data.votes[::-1].copy())
    again = source(replace(data, seed=1))
    assert source.uses_seed == TargetSpec.parse(name).uses_seed
    assert np.array_equal(source(data), again) != source.uses_seed
    assert np.array_equal(source(data), source(others)) != source.uses_votes
    if not source.uses_votes:
        np.testing.assert_array_equal(source(data), source(replace(data, votes=None)))


def test_permuted_targets_use_the_seed() -> None:
    assert TargetSpec.parse("word2vec.permuted").uses_seed
    assert not TargetSpec.parse("word2vec.centred").uses_seed


def test_every_name_is_a_source_or_a_change_of_one() -> None:
    found = names(["word2vec", "glove"])
    sources = ["word2vec", "glove", *SOURCES]
    assert found[: len(sources)] == sources  # the plain ones first
    assert sorted(found) == sorted(
        name for s in sources for name in (s, f"{s}.centred", f"{s}.whitened", f"{s}.permuted")
    )


@pytest.mark.parametrize("name", names(["word2vec"]))
def test_a_name_says_of_what_and_how_targets_are_made(name: str) -> None:
    source, _, transform = name.partition(".")
    assert TargetSpec.parse(name) == TargetSpec(source, transform)
    assert str(TargetSpec.parse(name)) == name
    vectors = words()
    found = TargetSpec.parse(name).of(vectors, 5)
    expected = TRANSFORMS[transform](vectors, 5) if transform else vectors
    np.testing.assert_array_equal(found, expected)


def test_targets_that_are_not_changed_are_those_of_their_source() -> None:
    vectors = words()
    assert TargetSpec.parse("word2vec").of(vectors, 5) is vectors


@pytest.mark.parametrize("name", names([]))
def test_what_is_made_of_no_words_can_be_changed_in_every_way(name: str) -> None:
    found = TargetSpec.parse(name).of(SOURCES[TargetSpec.parse(name).source](training()), 2)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), np.ones(K))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_keep_unit_length_and_the_input(name: str) -> None:
    vectors = words()
    before = vectors.copy()
    found = TRANSFORMS[name](vectors, 3)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), np.ones(K))
    np.testing.assert_array_equal(vectors, before)
    np.testing.assert_array_equal(found, TRANSFORMS[name](vectors, 3))


def test_random_differs_by_seed_and_is_nearly_orthogonal() -> None:
    first, second = SOURCES["random"](training(0)), SOURCES["random"](training(1))
    assert not np.allclose(first, second)
    off = (first @ first.T)[np.triu_indices(K, 1)]
    assert np.abs(off).max() < 0.25  # four standard deviations of 1 / sqrt(300)


def test_affective_cosines_are_a_kernel_of_the_distances() -> None:
    vectors = SOURCES["affective"](training())
    distances = {(a, b): math.dist(AFFECT[a], AFFECT[b]) for a in LABELS for b in LABELS if a < b}
    median = sorted(distances.values())[len(distances) // 2]
    for (a, b), distance in distances.items():
        cosine = vectors[LABELS.index(a)] @ vectors[LABELS.index(b)]
        assert cosine == pytest.approx(math.exp(-(distance**2) / (2 * median**2)), abs=1e-9)


def test_human_targets_are_the_mean_votes_of_the_classes() -> None:
    data = training()
    votes = np.zeros((K, 10), np.uint8)
    votes[np.arange(K), [4, 5, 6, 1, 3, 2, 0]] = 10  # FER+ columns in the order of LABELS
    vectors = SOURCES["human"](Training(np.arange(K, dtype=np.uint8), votes, 0))
    np.testing.assert_allclose(vectors, np.eye(K))
    mixed = SOURCES["human"](data)
    assert data.votes is not None
    shares = []
    for label in range(K):
        of_class = [row for row, y in zip(data.votes.tolist(), data.labels, strict=True) if y == label]
        ours = [[row[c] for c in (4, 5, 6, 1, 3, 2, 0)] for row in of_class]
        shares.append(np.mean([[v / sum(row) for v in row] for row in ours if sum(row)], axis=0))
    for row, mean in zip(mixed, shares, strict=True):
        np.testing.assert_allclose(row, mean / np.linalg.norm(mean))


def test_human_targets_need_votes() -> None:
    with pytest.raises(UserError, match="'human' need FER\\+ votes"):
        SOURCES["human"](Training(training().labels, None, 0))
    with pytest.raises(UserError, match="for every class"):
        SOURCES["human"](Training(np.zeros(3, np.uint8), np.full((3, 10), 1, np.uint8), 0))


def test_human_targets_depend_on_every_row_they_are_given() -> None:
    """So the rows must be those of Training: tests/stages/test_pipeline.py changes all others."""
    data = training(images=140)
    assert data.votes is not None
    labels, votes = data.labels.copy(), data.votes.copy()
    before = SOURCES["human"](Training(labels[:70], votes[:70], 0))
    labels[70:], votes[70:] = 0, 9
    assert not np.allclose(SOURCES["human"](Training(labels, votes, 0)), before)


def test_centred_has_what_is_common_taken_out() -> None:
    vectors = words()
    found = TRANSFORMS["centred"](vectors, 0)
    for row, original in zip(found, vectors, strict=True):
        difference = original - vectors.mean(axis=0)
        np.testing.assert_allclose(row, difference / np.linalg.norm(difference))
    common = np.triu_indices(K, 1)
    assert (found @ found.T)[common].mean() < 0 < (vectors @ vectors.T)[common].mean()


def test_whitened_is_orthonormal_and_no_orthonormal_set_is_nearer() -> None:
    vectors = words()
    found = TRANSFORMS["whitened"](vectors, 0)
    np.testing.assert_allclose(found @ found.T, np.eye(K), atol=1e-12)
    distance = np.linalg.norm(found - vectors)
    for seed in range(20):
        turn = np.linalg.qr(np.eye(12) + 0.05 * np.random.default_rng(seed).normal(size=(12, 12)))[0]
        assert np.linalg.norm(found @ turn - vectors) >= distance - 1e-12


def test_whitened_can_be_anything_but_dependent() -> None:
    """Words that are nearly alike (a cosine of .9999) still are seven directions."""
    vectors = words()
    vectors[3] = vectors[5] + 0.0141 * np.linalg.svd(vectors)[2][-1]
    vectors[3] /= np.linalg.norm(vectors[3])
    assert vectors[3] @ vectors[5] == pytest.approx(0.9999, abs=1e-5)
    found = TRANSFORMS["whitened"](vectors, 0)
    np.testing.assert_allclose(found @ found.T, np.eye(K), atol=1e-9)


def equal_words() -> np.ndarray:
    vectors = words()
    vectors[3] = vectors[5]
    return vectors


def mean_of_two_others() -> np.ndarray:
    vectors = words()
    vectors[3] = (vectors[5] + vectors[6]) / np.linalg.norm(vectors[5] + vectors[6])
    return vectors


def too_few_dimensions() -> np.ndarray:
    return words(dimensions=K - 1)


@pytest.mark.parametrize("make", [equal_words, mean_of_two_others, too_few_dimensions])
def test_dependent_vectors_cannot_be_whitened(make: Callable[[], np.ndarray]) -> None:
    with pytest.raises(UserError) as error:
        TRANSFORMS["whitened"](make(), 0)
    assert str(error.value) == (
        "The label vectors are linearly dependent (two of them may be equal), so they cannot be whitened: "
        "choose other words or another transform."
    )


def test_two_equal_targets_are_refused() -> None:
    with pytest.raises(UserError) as error:
        TargetSpec.parse("nouns").of(equal_words(), 0)
    one, other = LABELS[3], LABELS[5]
    assert str(error.value) == (
        f"The targets 'nouns' of '{one}' and '{other}' are equal, so the two classes could not be told apart: "
        "choose another word for one of them."
    )


def test_permuted_gives_every_label_the_vector_of_another() -> None:
    vectors = words()
    seen = set()
    for seed in range(50):
        found = TRANSFORMS["permuted"](vectors, seed)
        order = tuple(int(np.flatnonzero((vectors == row).all(axis=1))[0]) for row in found)
        assert sorted(order) == list(range(K))
        assert all(place != k for k, place in enumerate(order))
        np.testing.assert_array_equal(TRANSFORMS["permuted"](vectors, seed), found)
        seen.add(order)
    assert len(seen) > 40  # 1,854 derangements of seven


def test_permuted_keeps_all_cosines_and_gives_them_to_other_pairs() -> None:
    vectors = words()
    before, after = (rows @ rows.T for rows in (vectors, TRANSFORMS["permuted"](vectors, 0)))
    pairs = np.triu_indices(K, 1)
    np.testing.assert_allclose(np.sort(before[pairs]), np.sort(after[pairs]))
    assert not np.allclose(before, after, atol=0.01)


def test_a_zero_vector_is_named() -> None:
    vectors = words()
    vectors[2] = 0
    with pytest.raises(UserError, match="The captions vector of class 2 is zero"):
        unit(vectors, "captions")


def test_equal_words_cannot_be_centred() -> None:
    with pytest.raises(UserError, match=r"The centred vector of '[a-z]+' is zero, so it has no direction"):
        TargetSpec.parse("word2vec.centred").of(np.tile(words()[:1], (K, 1)), 0)


def test_a_word_that_is_the_mean_of_all_cannot_be_centred() -> None:
    vectors = words()
    others = np.delete(vectors, LABELS.index("sad"), axis=0)
    others -= others.mean(axis=0)
    vectors = np.insert(others, LABELS.index("sad"), 0, axis=0) + 1
    with pytest.raises(UserError, match="The centred vector of 'sad' is zero"):
        TargetSpec.parse("word2vec.centred").of(vectors, 0)


def test_vectors_of_a_gram_matrix_have_its_cosines() -> None:
    for vectors in (words(), words(dimensions=3)):  # of full rank and not
        gram = vectors @ vectors.T
        found = vectors_of_gram(gram)
        np.testing.assert_allclose(found @ found.T, gram, atol=1e-9)


def test_a_matrix_that_is_no_gram_matrix_is_refused() -> None:
    gram = np.eye(3)
    gram[0, 1] = gram[1, 0] = gram[1, 2] = gram[2, 1] = 0.9
    with pytest.raises(UserError) as error:
        vectors_of_gram(gram)
    # 1 - .9 sqrt(2), by hand
    assert str(error.value) == ("No vectors have these cosines: the Gram matrix has the negative eigenvalue -0.273.")


OTHERS = ("calm", "cross", "happily surprised")


def test_sources_have_a_vector_for_each_class_whatever_their_number() -> None:
    data = Training(np.arange(9, dtype=np.uint8) % 3, None, 4, OTHERS)
    np.testing.assert_array_equal(SOURCES["one_hot"](data), np.eye(3))
    seven = SOURCES["random"](Training(data.labels, None, 4))
    np.testing.assert_array_equal(SOURCES["random"](data), seven[:3])


def test_affective_targets_are_those_of_the_seven_in_any_order() -> None:
    for classes in (OTHERS, LABELS[:6], (*LABELS, "calm")):
        with pytest.raises(UserError, match=r"'affective' are known for FER-2013's classes alone"):
            SOURCES["affective"](replace(training(), classes=classes))
    turned = SOURCES["affective"](replace(training(), classes=LABELS[::-1]))
    found = SOURCES["affective"](training())
    np.testing.assert_allclose((turned @ turned.T)[::-1, ::-1], found @ found.T, atol=1e-9)
    with pytest.raises(UserError, match="'human' need FER\\+ votes"):
        SOURCES["human"](replace(training(), votes=None, classes=OTHERS))


def test_words_come_in_the_order_of_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    vectors = words()[:3].astype(np.float32)
    LabelVectors(OTHERS, OTHERS, vectors, np.eye(3), {}).save(label_vectors("mine"))
    with pytest.raises(UserError, match="run `dvc repro prepare` first"):
        TargetSpec.parse("mine").load(0)
    write_json(PREPARED / CLASSES_FILE, OTHERS[::-1])
    np.testing.assert_array_equal(TargetSpec.parse("mine").load(0), vectors[::-1].astype(float))


def test_errors_name_classes_of_any_data() -> None:
    equal = np.tile(words()[:1], (3, 1))
    with pytest.raises(UserError, match="of 'calm' and 'cross' are equal"):
        TargetSpec.parse("mine").of(equal, 0, OTHERS)
    with pytest.raises(UserError, match="The centred vector of 'calm' is zero"):
        TargetSpec.parse("mine.centred").of(equal, 0, OTHERS)
