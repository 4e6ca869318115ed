"""Somebody follows "Your own faces and classes" in docs/data.md to the letter, up to the table."""

from __future__ import annotations

import csv
import json
import re
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import yaml

from pipeline.data.duplicates import read_near_duplicates
from pipeline.data.fer import SPLITS, FerData
from pipeline.files import flatten
from pipeline.training.saved_model import classes_of, load_trained
from tests.clone import PICTURES, ROOT, Clone

pytestmark = pytest.mark.slow


def example(language: str) -> str:
    """The one block of code in that language in the section."""
    page = (ROOT / "docs/data.md").read_text(encoding="utf-8")
    section = page.split("\n## Your own faces and classes\n")[1].split("\n## ")[0]
    (block,) = re.findall(rf"```{language}\n(.*?)```", section, flags=re.DOTALL)
    return textwrap.dedent(block)


def changes() -> dict[str, Any]:
    """What the page changes in params.yaml."""
    edited = yaml.safe_load(example("yaml"))
    words = edited["labels"]["word2vec"].pop("words")
    return {**flatten(edited["data"], "data."), "labels.word2vec.words": words}


def test_own_pictures_reach_the_table(make_clone: Callable[..., Clone]) -> None:
    row = yaml.safe_load((ROOT / "params.yaml").read_text())["models"]["w2v_softmax"]
    quick = {
        "grid.models": ["w2v_softmax"],
        "models.w2v_softmax": row | {"decoders": ["argmax", "crm.word2vec"]},
        "compare.baseline": "w2v_softmax",
        "compare.resamples": 100,
        "recipes.fast.epochs": 1,
        "recipes.fast.sizes": [16],
        "evaluate.heat_maps": 2,
    }
    clone = make_clone(quick | changes())
    names = changes()["data.labels"]
    drawing = example("python")
    clone.run(sys.executable, "-c", drawing.replace("train=400", "train=150"))  # which takes seconds less
    places = ("outputs/raw/fer2013.csv", "outputs/prepared/mine.npy", "data/raw/fer2013.csv")
    mine = [clone.path / name for name in places]
    for place in mine:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("mine")
    # Names in MLflow have a test of their own, in seconds.
    told = clone.dvc("repro", FER_TRACKING="off", FER_TEST_PICTURES="drawn")
    assert f"pictures: {names[0]} " in told
    assert all(place.read_text() == "mine" for place in mine), "the first run of a clone spares what lies there"

    data = FerData.load(clone.path / "outputs/prepared")
    assert data.classes == tuple(names)
    assert len(data.labels) == len(list((clone.path / "data/faces").glob("*/*.png"))) > 80
    for k in range(len(names)):
        assert np.bincount(data.splits[data.labels == k], minlength=3).min() >= 1
    twins = read_near_duplicates(clone.path / "outputs/prepared/duplicates.csv", len(data.labels))
    assert not twins.any()  # none of them on two sides
    with (clone.path / "outputs/prepared/files.csv").open(encoding="utf-8") as file:
        files = list(csv.DictReader(file))
    for kept, split, label in zip(files, data.splits, data.labels, strict=True):
        assert (kept["split"], kept["class"]) == (SPLITS[split], data.classes[label])
        assert kept["file"].split("/")[0] == kept["class"]

    model = clone.path / "outputs/models/w2v_softmax-0"
    assert classes_of(model) == tuple(names)
    assert load_trained(model)[1].targets.shape == (len(names), 300)
    metrics = json.loads((clone.path / "outputs/metrics/w2v_softmax-0.json").read_text())
    assert metrics["dataset"].startswith("custom-")
    assert list(metrics["test"]["per_class"]) == names
    assert list(metrics["test"]["severity"]) == ["word2vec"]  # neither affective nor FER-2013's other words
    table = json.loads((clone.path / "outputs/reports/ablation.json").read_text())
    assert [entry["decoder"] for entry in table] == ["argmax", "crm.word2vec"]
    assert len(list((clone.path / "outputs/figures/w2v_softmax-0").glob("*.png"))) == PICTURES
