"""Digests: they change with what a result depends on and with nothing else."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline import config, fingerprint
from pipeline.classical import code
from pipeline.errors import UserError
from pipeline.fingerprint import RunSettings
from pipeline.workspace import LABELS_FOLDER, PREPARED, RunKey

PARAMS = config.load(Path(__file__).parents[1] / "params.yaml")
RUN_KEY = RunKey("w2v_cosine", 1)
TARGETS = np.eye(7)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    PREPARED.mkdir(parents=True)
    for name in ("images", "labels", "split", "votes"):
        np.save(PREPARED / f"{name}.npy", np.arange(3))
    (PREPARED / "checks.json").write_text("{}")
    (LABELS_FOLDER / "word2vec").mkdir(parents=True)
    np.savez(LABELS_FOLDER / "word2vec/label_vectors.npz", vectors=np.eye(2))
    return tmp_path


def inputs(
    run_key: RunKey = RUN_KEY,
    params: config.Params = PARAMS,
    targets: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = TARGETS,
) -> str:
    return fingerprint.digest(fingerprint.training_inputs(RunSettings.of(params, run_key), targets))


def test_inputs_are_settings_targets_data_and_code(workspace: Path) -> None:
    before = inputs()
    assert inputs() == before
    assert inputs(targets=TARGETS + 1e-9) == before  # the last bits depend on the machine
    changed = [
        inputs(RunKey("w2v_cosine", 2)),
        inputs(targets=TARGETS[::-1]),
        inputs(params=replace(PARAMS, recipe="full")),
    ]
    rates = {**PARAMS.models, RUN_KEY.model: replace(PARAMS.models[RUN_KEY.model], learning_rate=0.77)}
    changed.append(inputs(params=replace(PARAMS, models=rates)))
    np.save(PREPARED / "labels.npy", np.arange(4))
    changed.append(inputs())
    assert len({before, *changed}) == 6


def test_the_digests_of_the_committed_settings_stay(workspace: Path) -> None:
    """Kept results and runs are found by them: code that reads params.yaml otherwise must not move them."""
    inputs = fingerprint.training_inputs(RunSettings.of(PARAMS, RUN_KEY), TARGETS)
    assert fingerprint.settings_digest(inputs) == "6ce080f28a80"
    shown = json.dumps(fingerprint.shown_settings(RunSettings.of(PARAMS, RUN_KEY), PARAMS))  # in the order of the keys
    assert hashlib.sha256(shown.encode()).hexdigest()[:12] == "d1b9123c857b"


def test_neither_votes_nor_other_models_are_inputs(workspace: Path) -> None:
    before = inputs()
    np.save(PREPARED / "votes.npy", np.arange(5))
    rates = {**PARAMS.models, "baseline": replace(PARAMS.models["baseline"], learning_rate=0.77)}
    assert inputs(params=replace(PARAMS, models=rates)) == before


def test_the_digest_of_settings_leaves_the_code_out(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint.training_inputs(RunSettings.of(PARAMS, RUN_KEY), TARGETS)
    monkeypatch.setattr(fingerprint, "CODE", fingerprint.CODE[1:])
    after = fingerprint.training_inputs(RunSettings.of(PARAMS, RUN_KEY), TARGETS)
    assert fingerprint.digest(before) != fingerprint.digest(after)
    assert fingerprint.settings_digest(before) == fingerprint.settings_digest(after)


@pytest.mark.parametrize("name", ["stages/train.py", "pipeline/data/fer.py", "pipeline/training/losses.py"])
def test_every_file_of_the_code_counts(workspace: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for source in fingerprint.code_digests():
        copy = workspace / "code" / source
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(fingerprint.SOURCES / source, copy)
    before = inputs()
    monkeypatch.setattr(fingerprint, "SOURCES", workspace / "code")
    assert inputs() == before
    with (workspace / "code" / name).open("a") as file:
        file.write("# edited\n")
    assert inputs() != before


def test_a_classifier_depends_on_its_landmarks_options_and_code_but_on_no_recipe(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_key = RunKey("geometry", 0)
    run_key.landmarks.parent.mkdir(parents=True)
    np.savez(run_key.landmarks, points=np.zeros(3))
    before = inputs(run_key)
    assert inputs(run_key, replace(PARAMS, recipe="full")) == before
    models = {**PARAMS.models, "geometry": replace(PARAMS.models["geometry"], options={"C": 9.0})}
    changed = [inputs(run_key, replace(PARAMS, models=models))]
    np.savez(run_key.landmarks, points=np.ones(3))
    changed.append(inputs(run_key))
    monkeypatch.setattr(code, "digests", lambda: {"pipeline/classical/x.py": "0"})
    changed.append(inputs(run_key))
    assert len({before, *changed}) == 4
    run_key.landmarks.unlink()
    with pytest.raises(UserError, match=r"geometry-0.landmarks.npz is missing: run `dvc repro targets` first"):
        inputs(run_key)


@pytest.mark.parametrize(("model", "counts"), [("ldl_alsg", True), ("ldl_votes", False), ("baseline", False)])
def test_neighbours_are_inputs_of_the_rows_that_have_some(workspace: Path, model: str, counts: bool) -> None:
    run_key = RunKey(model, 0)
    run_key.labels.parent.mkdir(parents=True)
    np.savez(run_key.labels, neighbours=np.zeros(3))
    before = inputs(run_key)
    np.savez(run_key.labels, neighbours=np.ones(3))
    assert (inputs(run_key) != before) == counts


@pytest.mark.parametrize(("model", "counts"), [("ldl_votes", True), ("majority", True), ("noisy20", False)])
def test_votes_are_inputs_of_the_rows_whose_labels_are_made_of_them(workspace: Path, model: str, counts: bool) -> None:
    before = inputs(RunKey(model, 0))
    np.save(PREPARED / "votes.npy", np.arange(5))
    assert (inputs(RunKey(model, 0)) != before) == counts


def test_missing_data_is_said(workspace: Path) -> None:
    (PREPARED / "split.npy").unlink()
    with pytest.raises(UserError, match=r"outputs/prepared/split.npy is missing: run `dvc repro targets` first"):
        inputs()


@pytest.mark.parametrize(
    "name", ["outputs/prepared/votes.npy", "outputs/prepared/checks.json", "outputs/labels/word2vec/label_vectors.npz"]
)
def test_evaluation_depends_on_votes_twins_and_words(workspace: Path, name: str) -> None:
    before = fingerprint.evaluation_digest()
    assert fingerprint.evaluation_digest() == before
    (workspace / name).write_bytes(b"other")
    assert fingerprint.evaluation_digest() != before
