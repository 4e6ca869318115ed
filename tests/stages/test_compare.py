"""The table that readers see, from rows that are easy to check by hand, and the measurements behind a row."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.data.fer import LABELS
from stages.compare import entries, markdown
from stages.findings import row_name
from stages.runs import Run


def run(model: str, seed: int, right: list[bool], decoders: tuple[str, ...] = ("argmax",)) -> Run:
    """One image of PublicTest, then some of PrivateTest, of which the last has a twin in Training."""
    count = len(right) + 1
    facts = {"accuracy": float(np.mean(right))}
    own, *others = decoders
    return Run(
        metrics={
            "model": model, "seed": seed, "decoder": own, "val": facts, "test": facts, "test_clean": facts,
            "decoders": {name: {"val": facts, "test": facts, "test_clean": facts} for name in others},
            "training": {"epochs": 3},
        },
        index=np.arange(10, 10 + count, dtype=np.int32),
        test=np.array([False] + [True] * len(right)),
        clean=np.array([True] * len(right) + [False]),
        voted=np.array([True, False] + [True] * (len(right) - 1)),
        probabilities=np.full((count, len(LABELS)), 1 / len(LABELS), np.float16),
        predicted={name: np.zeros(count, np.uint8) for name in decoders},
        right={name: np.array([True, *right]) for name in decoders},
        right_flip={name: np.array([True, *(not ok for ok in right)]) for name in decoders},
        right_votes={name: np.array([True, *right]) for name in decoders},
    )  # fmt: skip


def test_a_row_is_about_test_images_and_leaves_twins_out() -> None:
    (entry,) = entries(
        {"a": {0: run("a", 0, [True, False, True]), 1: run("a", 1, [False, False, True])}}, "a"
    )
    assert entry.index.tolist() == [11, 12, 13]
    assert entry.seeds == [0, 1]
    right = {
        metric: {seed: row.tolist() for seed, row in seeds.items()} for metric, seeds in entry.right.items()
    }
    assert right == {
        "test.accuracy": {0: [True, False, True], 1: [False, False, True]},
        "test.accuracy_flip": {0: [False, True, False], 1: [True, True, False]},
        "test_clean.accuracy": {0: [True, False], 1: [False, False]},
        "test.votes.accuracy": {0: [False, True], 1: [False, True]},
    }


def test_every_decoder_is_a_row_and_the_baseline_comes_first() -> None:
    found = {
        "a": {0: run("a", 0, [True], ("argmax", "nearest"))},
        "b": {0: run("b", 0, [True], ("argmax", "crm.word2vec"))},
    }
    assert [(entry.model, entry.decoder) for entry in entries(found, "b")] == [
        ("b", "argmax"), ("b", "crm.word2vec"), ("a", "argmax"), ("a", "nearest"),
    ]  # fmt: skip


def row(
    model: str, accuracy: float, std: float | None, decoder: str = "argmax", **against: float
) -> dict[str, Any]:
    return {
        "model": model,
        "decoder": decoder,
        "seeds": [0] if std is None else [0, 1],
        "test.accuracy": {"mean": accuracy, "std": std, "ci95": None, **against},
        "test.severity.human.all": {"mean": 0.25, "std": None, "ci95": None},
    }


def test_a_row_is_named_after_a_decoder_that_is_not_the_models_own() -> None:
    rows = [row("a", 0.6, None), row("a", 0.6, None, "crm.word2vec")]
    assert [row_name(one, rows) for one in rows] == ["a", "a + crm.word2vec"]


def test_table_gives_per_cent_points_and_the_verdict() -> None:
    variant = row("w2v", 0.64, None, difference=-0.02, low=-0.03, high=-0.01, p=0.0002, p_holm=0.0004)
    text = markdown([row("baseline", 0.66, None), variant], "fer2013", 3589, "baseline")
    assert "2 models, 1 seed" in text
    assert "| baseline | 66.00 | 0.250 |  |  |" in text
    assert "| w2v | 64.00 | 0.250 | -2.00 [-3.00, -1.00] | < 0.001 |" in text
    assert "standard error of 0.8 points" in text
    assert "drawn faces" not in text


def test_table_of_drawn_faces_says_so_and_seeds_have_deviations() -> None:
    text = markdown([row("baseline", 0.66, 0.005)], "synthetic", 210, "baseline")
    assert "drawn faces" in text
    assert "| baseline | 2 | 66.00 ± 0.50 |" in text
    assert "One seed" not in text
