"""Probabilities in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.data.fer import LABELS
from pipeline.demo.answer import WORDS, model_names, reading
from pipeline.inference.bundled_model import bundled_model


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ({"surprise": 0.7, "fear": 0.25, "happy": 0.05}, "mostly surprised, some also see fear"),
        ({"happy": 0.95, "fear": 0.05}, "happy"),
        ({"sad": 0.4, "neutral": 0.35, "fear": 0.25}, "sadness or a neutral face"),
        ({"cat": 0.2, "dog": 0.8}, "mostly dog, some also see cat"),
    ],
)
def test_the_first_and_the_second_reading_are_named(shares: dict[str, float], said: str) -> None:
    assert reading(shares) == said


def test_every_class_has_words() -> None:
    assert set(WORDS) == set(LABELS)


def test_models_have_names_that_tell_them_apart(tmp_path: Path) -> None:
    one, same, other = (tmp_path / name for name in ("a/baseline-0", "b/baseline-0.onnx", "b/other-0.onnx"))
    assert model_names([bundled_model(), one, other]) == ["bundled", "baseline-0", "other-0"]
    assert model_names([one, same, other]) == [str(one), str(same), "other-0"]
