"""The stage targets: a file for each cell, as the library makes them, and refusals before anything is trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline import config
from pipeline.data.fer import LABELS, VOTE_COLUMNS, FerData
from pipeline.errors import UserError
from pipeline.labels.vectors import embed
from pipeline.workspace import PREPARED, RunKey, label_vectors
from stages import targets

ROOT = Path(__file__).parents[2]
PARAMS = config.load(ROOT / "params.yaml")


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three images of each class in Training, one in each other split, with votes; the words of params.yaml."""
    monkeypatch.chdir(tmp_path)
    labels = np.tile(np.arange(7, dtype=np.uint8), 5)
    splits = np.repeat([0, 0, 0, 1, 2], 7).astype(np.uint8)
    votes = np.random.default_rng(0).integers(0, 5, (35, len(VOTE_COLUMNS))).astype(np.uint8)
    FerData(np.zeros((35, 48, 48), np.uint8), labels, splits, votes).save(PREPARED)
    for name, words in PARAMS.labels.items():
        embed(ROOT / words.vectors, words.words, name).save(label_vectors(name))
    return tmp_path


def run(
    monkeypatch: pytest.MonkeyPatch, *models: str, seeds: tuple[int, ...] = (0, 3), params: config.Params = PARAMS
) -> None:
    params = replace(params, grid=config.Grid(models, seeds))
    monkeypatch.setattr(config, "load", lambda: params)
    targets.main()


def test_every_cell_has_the_targets_of_its_model_and_seed(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("baseline", "cosine_random", "cosine_human", "w2v_cosine", "w2v_permuted")
    run(monkeypatch, *names)
    found = {run_key: np.load(run_key.targets) for name in names for run_key in (RunKey(name, 0), RunKey(name, 3))}
    for vectors in found.values():
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1)
    for name, others in (
        ("baseline", False),
        ("cosine_human", False),
        ("w2v_cosine", False),
        ("w2v_permuted", True),
        ("cosine_random", True),
    ):
        assert np.array_equal(found[RunKey(name, 0)], found[RunKey(name, 3)]) != others
    words = found[RunKey("w2v_cosine", 0)]
    gram = words @ words.T
    assert gram[LABELS.index("angry"), LABELS.index("disgust")] > gram[LABELS.index("angry"), LABELS.index("happy")]
    assert sorted(map(tuple, found[RunKey("w2v_permuted", 3)])) == sorted(map(tuple, words))


def test_another_set_of_words_changes_no_other_file(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, "baseline", "w2v_cosine", "cosine_glove")
    before = {path.name: path.read_bytes() for path in Path("outputs/targets").iterdir()}
    nouns = PARAMS.labels["nouns"]
    embed(ROOT / nouns.vectors, nouns.words, "glove").save(label_vectors("glove"))
    run(monkeypatch, "baseline", "w2v_cosine", "cosine_glove")
    changed = {name for name, content in before.items() if Path("outputs/targets", name).read_bytes() != content}
    assert changed == {"cosine_glove-0.npy", "cosine_glove-3.npy"}


def test_two_equal_targets_are_refused_before_training(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = PARAMS.labels["word2vec"]
    embed(ROOT / words.vectors, {**words.words, "fear": "sad"}, "word2vec").save(label_vectors("word2vec"))
    with pytest.raises(UserError, match="The targets 'word2vec' of 'fear' and 'sad' are equal"):
        run(monkeypatch, "w2v_cosine")
    assert not Path("outputs/targets").exists()


def test_what_a_decoder_weighs_by_must_exist_before_training(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """cross_entropy decides with crm.human too, which needs a vote for every class."""
    data = FerData.load(PREPARED)
    assert data.votes is not None
    replace(data, votes=np.zeros_like(data.votes)).save(PREPARED)
    with pytest.raises(UserError, match=r"The targets 'human' need FER\+ votes for every class of Training"):
        run(monkeypatch, "cross_entropy")
    assert not Path("outputs/targets").exists()


def test_cosines_without_an_inverse_are_refused_before_training(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = {name: replace(PARAMS.model(name), decoders=("argmax", "inverse")) for name in PARAMS.models}
    params = replace(PARAMS, models=models)
    run(monkeypatch, "w2v_cosine", params=params)
    with pytest.raises(UserError, match=r"^models\.w2v_centred: The decoder 'inverse' needs"):
        run(monkeypatch, "w2v_centred", params=params)
