"""A run as it is kept in git: what comes back is what was measured, with all that a test of it needs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score

from pipeline.comparison.records import RunRecord, entries, values_by_image
from pipeline.data.fer import LABELS
from pipeline.errors import UserError
from pipeline.files import write_csv, write_json
from pipeline.workspace import RunKey
from tests.factories import study

RUN_KEY = RunKey("w2v", 3)
ACTUAL = ["angry", "sad", "happy", "neutral"]
OWN = ["angry", "sad", "fear", "fear"]
MAJORITY = ["happy", "", "happy", "happy"]
OTHER = ["fear", "sad", "happy", "fear"]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One image of PublicTest and three of PrivateTest, the last but one with a twin in Training."""
    monkeypatch.chdir(tmp_path)
    write_json(
        RUN_KEY.metrics,
        {
            "seed": RUN_KEY.seed,
            "settings": {},
            "machine": {},
            "settings_digest": "0123456789ab",
            "decoder": "argmax",
            "decoders": {"crm.human": {"test": {"accuracy": 2 / 3}}},
            "test": {"accuracy": 1 / 3},
        },
    )
    write_json(RUN_KEY.models / "model.json", {"settings_digest": "0123456789ab"})
    write_csv(RUN_KEY.history, ["epoch", "val_accuracy"], [[0, 0.5], [1, 0.75]])
    header = [
        "index", "split", "actual", "near_duplicate", "majority", "uncertainty", "predicted",
        "predicted.crm.human", "predicted_flip", "predicted_flip.crm.human",
    ]  # fmt: skip
    probabilities = [f"{k / 21:.6f}" for k in range(7)]
    rows = [
        [
            5 + n,
            "test" if n else "val",
            ACTUAL[n],
            int(n == 2),
            MAJORITY[n],
            "1.250000",
            OWN[n],
            OTHER[n],
            OTHER[n],
            OWN[n],
            *probabilities,
        ]
        for n in range(4)
    ]
    write_csv(RUN_KEY.predictions, [*header, *LABELS], rows)
    return tmp_path


def test_the_workspace_says_what_was_right_under_each_decoder(workspace: Path) -> None:
    run = RunRecord.of_workspace(RUN_KEY)
    assert run.decoders == ["argmax", "crm.human"]
    assert run.metrics["history"] == [{"epoch": 0, "val_accuracy": 0.5}, {"epoch": 1, "val_accuracy": 0.75}]
    assert run.index.tolist() == [5, 6, 7, 8]
    assert run.test.tolist() == [False, True, True, True]
    assert run.clean.tolist() == [True, True, False, True]
    assert [LABELS[k] for k in run.predicted["argmax"]] == OWN
    assert [LABELS[k] for k in run.actual] == ACTUAL
    assert run.right("argmax").tolist() == [True, True, False, False]
    assert run.right("crm.human").tolist() == [False, True, True, False]
    assert run.right_flip["argmax"].tolist() == run.right("crm.human").tolist()
    assert run.voted.tolist() == [True, False, True, True]
    assert run.right_votes["crm.human"].tolist() == [False, False, True, False]
    assert run.of("argmax")["test"]["accuracy"] == pytest.approx(1 / 3)
    assert run.of("crm.human")["test"]["accuracy"] == pytest.approx(2 / 3)


def test_what_is_kept_comes_back_and_is_the_same_bytes_every_time(workspace: Path) -> None:
    run = RunRecord.of_workspace(RUN_KEY)
    run.keep(workspace / "kept", RUN_KEY.name)
    first = (workspace / f"kept/{RUN_KEY.name}.npz").read_bytes()
    back = RunRecord.kept(workspace / "kept", RUN_KEY.name)
    for field in dataclasses.fields(RunRecord):
        before, after = getattr(run, field.name), getattr(back, field.name)
        if isinstance(before, np.ndarray):
            np.testing.assert_array_equal(before, after)
            assert before.dtype == after.dtype, field.name
        elif field.name == "metrics":
            assert before == after
        else:
            assert list(before) == list(after)
            for name in before:
                np.testing.assert_array_equal(before[name], after[name])
    back.keep(workspace / "again", RUN_KEY.name)
    assert (workspace / f"again/{RUN_KEY.name}.npz").read_bytes() == first


def test_a_kept_run_holds_what_tests_need_and_no_picture(workspace: Path) -> None:
    RunRecord.of_workspace(RUN_KEY).keep(workspace / "kept", RUN_KEY.name)
    with np.load(workspace / f"kept/{RUN_KEY.name}.npz") as archive:
        names = set(archive)
    assert names == {
        "index", "actual", "test", "clean", "voted", "probabilities",
        *("predicted.argmax", "right_flip.argmax", "right_votes.argmax"),
        *("predicted.crm.human", "right_flip.crm.human", "right_votes.crm.human"),
    }  # fmt: skip
    assert json.loads((workspace / f"kept/{RUN_KEY.name}.json").read_text())["decoder"] == "argmax"


def test_a_run_kept_without_labels_says_what_to_do(workspace: Path) -> None:
    RunRecord.of_workspace(RUN_KEY).keep(workspace / "kept", RUN_KEY.name)
    file = workspace / f"kept/{RUN_KEY.name}.npz"
    with np.load(file) as archive:
        arrays = {name: archive[name] for name in archive if name != "actual"}
    np.savez(file, **arrays)
    with pytest.raises(UserError, match=r"w2v-3.npz was kept by an earlier version.*publish w2v-3 again"):
        RunRecord.kept(workspace / "kept", RUN_KEY.name)


def test_half_a_run_or_a_damaged_one_is_named(workspace: Path) -> None:
    RunRecord.of_workspace(RUN_KEY).keep(workspace / "kept", RUN_KEY.name)
    arrays, metrics = (workspace / f"kept/{RUN_KEY.name}.{kind}" for kind in ("npz", "json"))
    whole = {file: file.read_bytes() for file in (arrays, metrics)}
    for file, content in whole.items():
        for damaged in (b"", b"<<<<<<< HEAD\n", content[: len(content) // 2], b"\xff" + content):
            file.write_bytes(damaged)
            if file == arrays and damaged.startswith(b"\xff"):
                continue  # a zip file may have something before it
            with pytest.raises(UserError, match=f"{file.name} is "):
                RunRecord.kept(workspace / "kept", RUN_KEY.name)
        file.unlink()
        with pytest.raises(UserError, match=f"{file.name} is missing"):
            RunRecord.kept(workspace / "kept", RUN_KEY.name)
        file.write_bytes(content)
    assert RunRecord.kept(workspace / "kept", RUN_KEY.name).metrics


def test_a_run_that_is_not_evaluated_says_what_to_do(workspace: Path) -> None:
    RUN_KEY.predictions.unlink()
    with pytest.raises(UserError, match=r"outputs/predictions/w2v-3.csv is missing: run `dvc repro` to evaluate w2v-3"):
        RunRecord.of_workspace(RUN_KEY)


def test_metrics_of_an_earlier_training_are_refused(workspace: Path) -> None:
    write_json(RUN_KEY.models / "model.json", {"settings_digest": "ba9876543210"})
    with pytest.raises(UserError, match=r"outputs/metrics/w2v-3.json was measured before w2v-3 was retrained"):
        RunRecord.of_workspace(RUN_KEY)


def made_up(model: str, seed: int, right: list[bool], decoders: tuple[str, ...] = ("argmax",)) -> RunRecord:
    """One image of PublicTest, then some of PrivateTest, of which the last has a twin in Training.

    Labels are angry and disgust in turn; a wrong decision is for the other of the two.
    """
    count = len(right) + 1
    actual = np.arange(count, dtype=np.uint8) % 2
    predicted = np.where([True, *right], actual, 1 - actual).astype(np.uint8)
    facts = {"accuracy": float(np.mean(right)), "per_class": {label: {} for label in LABELS}}
    own, *others = decoders
    return RunRecord(
        metrics={
            "model": model, "seed": seed, "decoder": own, "val": facts, "test": facts, "test_clean": facts,
            "decoders": {name: {"val": facts, "test": facts, "test_clean": facts} for name in others},
            "training": {"epochs": 3},
            "settings": {"loss": {"name": "cosine", "options": {}, "targets": "word2vec"}},
            "distances": {"human": (1 - np.eye(7)).tolist()},
        },
        index=np.arange(10, 10 + count, dtype=np.int32),
        actual=actual,
        test=np.array([False] + [True] * len(right)),
        clean=np.array([True] * len(right) + [False]),
        voted=np.array([True, False] + [True] * (len(right) - 1)),
        probabilities=np.full((count, len(LABELS)), 1 / len(LABELS), np.float16),
        predicted=dict.fromkeys(decoders, predicted),
        right_flip={name: np.array([True, *(not ok for ok in right)]) for name in decoders},
        right_votes={name: np.array([True, *right]) for name in decoders},
    )  # fmt: skip


def test_a_row_is_about_test_images_and_leaves_twins_out() -> None:
    (entry,) = entries({"a": {0: made_up("a", 0, [True, False, True]), 1: made_up("a", 1, [False, False, True])}}, "a")
    assert entry.index.tolist() == [11, 12, 13]
    assert entry.seeds == [0, 1]
    assert entry.settings["loss"]["targets"] == "word2vec"
    values = {
        metric: {seed: row.tolist() for seed, row in seeds.items()}
        for metric, seeds in entry.values.items()
        if metric.endswith("accuracy") and "balanced" not in metric
    }
    assert values == {
        "test.accuracy": {0: [True, False, True], 1: [False, False, True]},
        "test_clean.accuracy": {0: [True, False], 1: [False, False]},
        "test.votes.accuracy": {0: [False, True], 1: [False, True]},
    }


def test_each_metric_is_the_mean_of_its_values() -> None:
    run = study()["w2v_cosine"][5]
    run.metrics["distances"] = {"human": np.abs(np.subtract.outer(range(7), range(7))).tolist()}
    values = values_by_image(run, "argmax")
    predicted, wrong = run.predicted["argmax"], ~run.right("argmax")
    cost = np.abs(run.actual.astype(int) - predicted)
    assert values["test.macro_f1"].mean() == pytest.approx(f1_score(run.actual, predicted, average="macro"))
    assert values["test.balanced_accuracy"].mean() == pytest.approx(balanced_accuracy_score(run.actual, predicted))
    assert values["test.severity.human.all"].tolist() == cost.tolist()
    assert values["test.severity.human.mistakes"].mean() == pytest.approx(cost[wrong].mean())
    for label, k in zip(LABELS, range(7), strict=True):
        of_class = run.actual == k
        assert values[f"test.per_class.{label}.recall"].tolist() == (~wrong)[of_class].tolist()
        assert values[f"test.per_class.{label}.recall"].mean() == pytest.approx(
            run.metrics["test"]["per_class"][label]["recall"]
        )


def test_accuracy_at_another_mix_of_classes_is_that_of_a_set_with_this_mix() -> None:
    """Without half of the happy faces, then drawn until there are as many as there were."""
    run = study()["w2v_cosine"][5]
    happy = np.flatnonzero(run.actual == 3)
    clean = run.clean.copy()
    clean[happy[::2]] = False
    lacking = dataclasses.replace(run, clean=clean)
    right = run.right("argmax")
    counts = np.bincount(run.actual, minlength=7)
    wanted = sum(counts[k] * right[clean & (run.actual == k)].mean() for k in range(7)) / len(right)
    assert values_by_image(lacking, "argmax")["test_clean.reweighted_accuracy"].mean() == pytest.approx(wanted)
    (entry,) = entries({"a": {5: lacking}}, "a")
    assert entry.metrics[5]["test_clean"]["reweighted_accuracy"] == pytest.approx(wanted)
    without = dataclasses.replace(run, clean=clean & (run.actual != 3))
    assert "test_clean.reweighted_accuracy" not in values_by_image(without, "argmax")


def test_what_is_about_one_image_or_none_is_not_tested() -> None:
    run = made_up("a", 0, [True, False])
    assert "test.votes.accuracy" not in values_by_image(run, "argmax")
    assert "test.per_class.angry.recall" not in values_by_image(run, "argmax")
    assert "test.accuracy" in values_by_image(run, "argmax")


def test_every_decoder_is_a_row_and_the_baseline_comes_first() -> None:
    found = {
        "a": {0: made_up("a", 0, [True], ("argmax", "nearest"))},
        "b": {0: made_up("b", 0, [True], ("argmax", "crm.word2vec"))},
    }
    assert [(entry.model, entry.decoder) for entry in entries(found, "b")] == [
        ("b", "argmax"), ("b", "crm.word2vec"), ("a", "argmax"), ("a", "nearest"),
    ]  # fmt: skip


def test_runs_on_other_images_or_twins_are_not_compared() -> None:
    a, b = made_up("a", 0, [True, False]), made_up("b", 0, [True, False])
    with pytest.raises(UserError, match="b and a were measured on different images"):
        entries({"a": {0: a}, "b": {0: dataclasses.replace(b, clean=~b.clean)}}, "a")
    with pytest.raises(UserError, match="The seeds of a were measured on different images"):
        entries({"a": {0: a, 1: dataclasses.replace(a, voted=~a.voted)}}, "a")
