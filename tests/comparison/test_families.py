"""Which rows are corrected together: it follows from their settings beside the baseline's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline import config
from pipeline.comparison.families import QUESTIONS, family_of
from pipeline.fingerprint import RunSettings
from pipeline.workspace import RunKey

PARAMS = config.load(Path(__file__).parents[2] / "params.yaml")


def settings(model: str, **choices: Any) -> dict[str, Any]:
    """What the metrics file of such a run says of its settings."""
    found = RunSettings.of(PARAMS, RunKey(model, 0)).to_dict()
    return {**found, "loss": {**found["loss"], **choices}}


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("w2v_cosine", "words"), ("w2v_centred", "words"), ("cosine_glove", "words"), ("original_first", "words"),
        ("w2v_permuted", "controls"), ("w2v_whitened", "controls"), ("original_second", "controls"),
        ("cosine_affective", "controls"), ("cross_entropy", "controls"), ("softmax_one_hot", "controls"),
        ("rul", "systems"), ("scn", "systems"), ("cutmix", "systems"), ("ldl_votes", "systems"),
        ("mean_pool", "systems"), ("twice_the_epochs", "systems"), ("hog", "systems"),
    ],
)  # fmt: skip
def test_a_row_belongs_where_its_settings_say(model: str, family: str) -> None:
    assert family_of(settings(model), settings("baseline"), own_decoder=True) == family
    assert family_of(settings(model), settings("baseline"), own_decoder=False) == "decoders"


def test_a_choice_that_the_baseline_makes_too_is_no_difference() -> None:
    few = {"labels": "given.few25"}
    assert family_of(settings("w2v_cosine", **few), settings("baseline", **few), own_decoder=True) == "words"
    assert family_of(settings("w2v_cosine", **few), settings("baseline"), own_decoder=True) == "systems"


def test_every_model_has_a_family_with_a_question() -> None:
    found = {family_of(settings(model), settings("baseline"), own_decoder=True) for model in PARAMS.models}
    assert found | {"decoders"} == set(QUESTIONS)
