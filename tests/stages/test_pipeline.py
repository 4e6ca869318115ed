"""What `dvc` users do, end to end: repro, change a parameter, queue experiments, compare, lose the database."""

from __future__ import annotations

import csv
import json
import shutil
import sys
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path

import mlflow
import numpy as np
import numpy.typing as npt
import pytest
import yaml

from pipeline.data.fer import LABELS, SPLITS, FerData
from pipeline.evaluation.measure import reference_distances
from pipeline.files import sha256
from pipeline.labels.targets import TargetSpec
from pipeline.labels.vectors import LabelVectors
from pipeline.workspace import PREPARED
from tests.clone import PICTURES, Clone, stages_run

pytestmark = pytest.mark.slow

CELLS = ("baseline-0", "w2v_cosine-0")


def test_first_repro_writes_every_output(finished: Clone) -> None:
    for run_key in CELLS:
        metrics = json.loads((finished.path / f"outputs/metrics/{run_key}.json").read_text())
        assert metrics["dataset"] == "synthetic"
        assert {"accuracy", "accuracy_flip", "macro_f1", "severity", "votes"} <= metrics["test"].keys()
        assert {"affective", "human"} <= metrics["test"]["severity"].keys()
        with (finished.path / f"outputs/predictions/{run_key}.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 35 + 42
        assert sum(float(rows[0][label]) for label in LABELS) == pytest.approx(1, abs=1e-5)
        right = [row["actual"] == row["predicted"] for row in rows if row["split"] == "test"]
        assert sum(right) / len(right) == pytest.approx(metrics["test"]["accuracy"])
        assert len(list((finished.path / f"outputs/figures/{run_key}").glob("*.png"))) == PICTURES
    rows = json.loads((finished.path / "outputs/reports/ablation.json").read_text())
    assert [row["model"] for row in rows] == ["baseline", "baseline", "w2v_cosine"]
    assert {"mean", "std", "half_width", "difference", "p", "p_holm"} <= rows[2]["test.accuracy"].keys()
    assert "drawn faces" in (finished.path / "outputs/reports/ablation.md").read_text()


def test_every_decoder_is_a_row_without_a_training_of_its_own(finished: Clone) -> None:
    """Word2Vec's costs on top of the baseline: measured, in the predictions, in the table."""
    metrics = json.loads((finished.path / "outputs/metrics/baseline-0.json").read_text())
    assert metrics["decoder"] == "argmax"
    assert list(metrics["decoders"]) == ["crm.word2vec"]
    gram = LabelVectors.load(finished.path / "outputs/labels/word2vec/label_vectors.npz").gram_of(LABELS)
    with (finished.path / "outputs/predictions/baseline-0.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    right = 0
    for row in rows:
        costs = [sum((1 - gram[k][j]) * float(row[LABELS[j]]) for j in range(7)) for k in range(7)]
        assert row["predicted.crm.word2vec"] == LABELS[costs.index(min(costs))]
        right += row["predicted.crm.word2vec"] == row["actual"]
    assert metrics["decoders"]["crm.word2vec"]["test"]["accuracy"] == pytest.approx(right / len(rows))
    assert "| baseline + crm.word2vec |" in (finished.path / "outputs/reports/ablation.md").read_text()


def test_human_targets_read_training_alone(finished: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other labels and votes in the test splits change neither the human targets nor the human distance."""
    shutil.copytree(finished.path / PREPARED, tmp_path / PREPARED)
    monkeypatch.chdir(tmp_path)

    def human() -> list[npt.NDArray[np.float64]]:
        return [TargetSpec("human").load(0), reference_distances(FerData.load(PREPARED), [])["human"]]

    before = human()
    test_splits = np.load(PREPARED / "split.npy") != SPLITS.index("train")
    for name in ("labels", "votes"):
        values = np.load(PREPARED / f"{name}.npy")
        values[test_splits] = 3
        np.save(PREPARED / f"{name}.npy", values)
    for ours, theirs in zip(human(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert not np.isnan(ours).any()


def test_second_repro_runs_nothing(finished: Clone) -> None:
    assert stages_run(finished.dvc("repro")) == []
    finished.dvc("status", "-q")  # exits 1 when anything is stale


def test_editing_a_variant_runs_that_variant_only(finished: Clone, tmp_path: Path) -> None:
    clone = finished.copy(tmp_path / "fer", FER_TRACKING="off")
    clone.set({"models.w2v_cosine.learning_rate": 0.123})
    ran = stages_run(clone.dvc("repro"))
    assert ran == ["targets", "train@w2v_cosine-0", "export@w2v_cosine-0", "evaluate@w2v_cosine-0", "compare"]
    changed = clone.dvc("params", "diff")
    assert "models.w2v_cosine.learning_rate" in changed
    clone.dvc("metrics", "diff")
    clone.dvc("exp", "show", "--csv")


def test_another_set_of_words_trains_nothing_again(finished: Clone, tmp_path: Path) -> None:
    """Severity is measured under every set of words, so all are evaluated again."""
    clone = finished.copy(tmp_path / "fer", FER_TRACKING="off")
    words = yaml.safe_load((clone.path / "params.yaml").read_text())["labels"]["nouns"]
    clone.set({"labels.others": words})
    evaluations = [f"evaluate@{run_key}" for run_key in CELLS]
    assert stages_run(clone.dvc("repro")) == ["embed", "targets", *evaluations, "compare"]
    metrics = json.loads((clone.path / f"outputs/metrics/{CELLS[0]}.json").read_text())
    severity = metrics["test"]["severity"]
    assert severity["others"] == severity["nouns"]


def test_plots_show_draws_the_curves_of_every_model(finished: Clone, tmp_path: Path) -> None:
    finished.dvc("plots", "show", "--out", str(tmp_path / "plots"))
    page = (tmp_path / "plots" / "index.html").read_text()
    curves = [f"{run_key}/history.csv" for run_key in CELLS]  # DVC leaves out what all names have in common
    assert all(curve in page for curve in curves)
    assert "Baseline, seed 0" in page


def test_mlflow_has_one_run_per_model_with_equal_keys(original: Clone) -> None:
    runs = original.runs()
    assert {run.info.run_name for run in runs["data"]} == {"fetch", "prepare", "embed"}
    models = {run.info.run_name: run for run in runs["synthetic"] if run.data.tags["kind"] == "model"}
    assert set(models) == set(CELLS)
    assert [run.data.tags["kind"] for run in runs["synthetic"]].count("comparison") == 1
    lock = yaml.safe_load((original.path / "dvc.lock").read_text())
    prepared = lock["stages"]["prepare"]["outs"][0]["md5"]
    keys = []
    for run_key, run in models.items():
        assert run.info.status == "FINISHED"
        assert run.data.tags["fer.complete"] == f"{sha256(original.path / f'outputs/metrics/{run_key}.json')[:12]}-onnx"
        assert run.data.tags["git.dirty"] == "false"
        assert run.data.tags["git.commit"] == original.run("git", "rev-parse", "HEAD~1").stdout.strip()
        assert run.inputs is not None
        assert run.inputs.dataset_inputs[0].dataset.digest == prepared == run.data.tags["digest.prepared"]
        metrics = json.loads((original.path / f"outputs/metrics/{run_key}.json").read_text())
        assert run.data.metrics["test.accuracy"] == pytest.approx(metrics["test"]["accuracy"])
        assert run.data.params["recipe.epochs"] == "3"
        artifacts = Path(run.info.artifact_uri.removeprefix("file://"))
        assert artifacts.is_relative_to(original.path / "mlartifacts")
        assert (artifacts / "figures" / "confusion.png").exists()
        keys.append({name for name in run.data.metrics if not name.startswith("system/")})
    assert keys[0] == keys[1]
    assert {"val_accuracy", "train_loss", "test_clean.macro_f1", "training.seconds"} <= keys[0]


def test_logged_model_is_free_of_pickle_and_gives_probabilities(original: Clone) -> None:
    """A user loads the model from MLflow and gets what the predictions file says."""
    models = list((original.path / "mlartifacts").glob("*/models/*/artifacts"))
    models += list((original.path / "mlartifacts").glob("models/*/artifacts"))
    assert len(models) == len(CELLS)
    description = yaml.safe_load((models[0] / "MLmodel").read_text())
    assert set(description["flavors"]) == {"onnx", "python_function"}
    assert [path for path in models[0].rglob("*") if path.suffix in (".pkl", ".pickle", ".pt", ".pth")] == []
    model, example = mlflow.pyfunc.load_model(str(models[0])), mlflow.models.Model.load(str(models[0]))
    (first, second) = model.predict(example.load_input_example(str(models[0])))
    assert set(first["faces"][0]["probabilities"]) == set(description["metadata"]["classes"])
    for answer in (first, second):
        assert sum(answer["faces"][0]["probabilities"].values()) == pytest.approx(1, abs=1e-4)


def test_backfill_restores_a_lost_database_once(original: Clone, tmp_path: Path) -> None:
    """Each model under its own settings: those of params.yaml may have been edited since."""
    clone = original.copy(tmp_path / "fer")
    clone.set({"models.baseline.learning_rate": 0.123})
    assert not (clone.path / "mlflow.db").exists()
    assert "6 runs restored, 0 were complete" in clone.fer("backfill").stdout
    before, after = original.runs(), clone.runs()
    for experiment, runs in before.items():
        restored = {run.info.run_name: run for run in after[experiment]}
        assert set(restored) == {run.info.run_name for run in runs}
        for run in runs:
            measured = {k: v for k, v in run.data.metrics.items() if not k.startswith("system/")}
            assert restored[run.info.run_name].data.metrics == measured
            assert restored[run.info.run_name].data.params == run.data.params
            if run.info.run_name == "baseline-0":
                assert run.data.params["model.learning_rate"] == "0.1"
    assert "0 runs restored, 6 were complete" in clone.fer("backfill").stdout
    assert {e: len(runs) for e, runs in clone.runs().items()} == {e: len(runs) for e, runs in before.items()}


def test_queued_experiments_in_parallel_log_into_the_parent(
    make_clone: Callable[..., Clone], warm_python: dict[str, str], tmp_path: Path
) -> None:
    """Two at once, on a fresh checkout where neither DVC's cache nor MLflow's database exists."""
    clone = make_clone({"grid.models": ["baseline"], "compare.baseline": "baseline"})
    if warm_python:  # DVC's queue sets a path of modules of its own, so that the stages' Python has to find ours
        python = tmp_path / "python"
        python.write_text(
            f'#!/bin/sh\nPYTHONPATH="{warm_python["PYTHONPATH"]}:$PYTHONPATH" exec {sys.executable} "$@"\n'
        )
        python.chmod(0o755)
        clone.environment["PATH"] = f"{tmp_path}:{clone.env()['PATH']}"
    # The comparison logs as the evaluation does.
    rates = ("-S", "models.baseline.learning_rate=0.01,0.02")
    clone.dvc("exp", "run", "--queue", *rates, "evaluate@baseline-0")
    clone.dvc("queue", "start", "-j", "2")
    deadline = time.monotonic() + 600
    while (status := clone.dvc("queue", "status")).count("Success") < 2 and time.monotonic() < deadline:
        assert "Failed" not in status, status + clone.dvc("queue", "logs", status.split()[6], expect=None)
        time.sleep(8)  # to ask takes a second of one of two cores
    assert status.count("Success") == 2, status
    models = [run for run in clone.runs()["synthetic"] if run.data.tags["kind"] == "model"]
    assert sorted(run.data.params["model.learning_rate"] for run in models) == ["0.01", "0.02"]
    assert len({run.data.tags["dvc.exp_name"] for run in models} - {""}) == 2
    for run in models:
        artifacts = Path(run.info.artifact_uri.removeprefix("file://"))
        assert artifacts.is_relative_to(clone.path / "mlartifacts")
        assert (artifacts / "training" / "history.csv").exists()
        assert (artifacts / "figures" / "heat_maps.png").exists()
    shown = clone.dvc("exp", "show", "--csv")
    assert "0.01" in shown
    assert "0.02" in shown


def test_paired_difference_is_the_difference_of_the_means(finished: Clone) -> None:
    """Whatever the statistics do, they must compare the images that the metrics are about."""
    baseline, *variants = json.loads((finished.path / "outputs/reports/ablation.json").read_text())
    for variant, metric in product(variants, ("test.accuracy", "test.accuracy_flip", "test_clean.accuracy")):
        expected = variant[metric]["mean"] - baseline[metric]["mean"]
        assert variant[metric]["difference"] == pytest.approx(expected, abs=1e-9), metric
