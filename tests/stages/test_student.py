"""A student through the stages: what it learns from is part of what it is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import config
from pipeline.errors import UserError
from pipeline.fingerprint import RunSettings, training_inputs
from pipeline.labels.truth import read_targets
from pipeline.workspace import RunKey
from stages import embed, fetch, landmarks, prepare, targets, train
from tests.clone import ROOT

PARAMS = config.load(ROOT / "params.yaml")
TINY = replace(PARAMS.chosen_recipe, widths=(4, 6, 8), epochs=1, sizes=(16,))
SMALL = replace(
    PARAMS,
    data=replace(PARAMS.data, synthetic=replace(PARAMS.data.synthetic, train=140, val=35, test=42)),
    grid=config.Grid(("baseline", "student"), (0,)),
    recipes={PARAMS.recipe: TINY},
    machine=replace(PARAMS.machine, threads=1, precision="fp32", memory_format="contiguous"),
    teachers="",
)
TEACHER, STUDENT = RunKey("baseline", 0), RunKey("student", 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A workspace with a trained baseline, and a copy of it to learn from in the folder that is returned."""
    place = tmp_path_factory.mktemp("student")
    with pytest.MonkeyPatch.context() as here:
        here.chdir(place)
        here.setenv("DVC_ROOT", str(ROOT))  # for the files of words
        here.setenv("FER_TRACKING", "off")
        alone = replace(SMALL, grid=config.Grid(("baseline",), (0,)))
        here.setattr(config, "load", lambda: alone)
        for stage in (fetch, prepare, landmarks, embed, targets):
            stage.main()
        train.main("baseline", 0)
        shutil.copytree(TEACHER.models, place / "teachers/first")
        here.setattr(config, "load", lambda: replace(SMALL, teachers=str(place / "teachers")))
        yield place / "teachers"


@pytest.mark.medium
def test_a_student_is_trained_anew_for_other_teachers_and_no_other_row_is(folder: Path) -> None:
    baseline = TEACHER.choices.read_bytes()
    targets.main()
    assert TEACHER.choices.read_bytes() == baseline
    first = json.loads(STUDENT.choices.read_text())["teachers"]
    assert sorted(first) == ["first/model.json", "first/model.safetensors"]
    train.main("student", 0)
    facts = STUDENT.facts()
    assert facts["loss"]["distillation"] == PARAMS.models["student"].distillation
    assert facts["training"]["flop"] > TEACHER.facts()["training"]["flop"]

    shutil.copytree(folder / "first", folder / "second")
    with pytest.raises(UserError, match="have changed: run `dvc repro targets` first"):
        train.main("student", 0)
    targets.main()
    assert TEACHER.choices.read_bytes() == baseline
    settings = RunSettings.of(config.load(), STUDENT)
    data = training_inputs(settings, read_targets(STUDENT)[0])["data"]
    assert "choices.json" in data
    assert set(json.loads(STUDENT.choices.read_text())["teachers"]) > set(first)


@pytest.mark.medium
def test_without_teachers_the_stage_targets_says_what_to_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "load", lambda: replace(SMALL, teachers=str(ROOT / "resources/teachers")))
    with pytest.raises(UserError, match=r"has no teachers: copy folders of outputs/models"):
        targets.main()
