"""A folder of somebody's own pictures and classes, from `dvc repro` to the table, as docs/data.md says."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from pipeline.data.duplicates import read_near_duplicates
from pipeline.data.fer import LABELS, SPLITS, FerData
from pipeline.data.synthetic.dataset import Synthetic, draw
from pipeline.training.saved_model import classes_of, load_trained
from tests.clone import Clone

pytestmark = pytest.mark.slow

WORDS: dict[str, Any] = {
    "happily surprised": ["happy", "surprised"],
    "calm": "calm",
    "wide-eyed (é)": "very frightened",
    "Cross": "mad",
}
"""Four classes in an order of their own; one of them with a name that MLflow does not take."""
DRAWN = {"happy": "happily surprised", "neutral": "Calm", "surprise": "wide-eyed (é)", "angry": "cross"}
"""The drawn emotion in each folder."""
SIZES = {"png": (48, 48), "jpg": (90, 120), "webp": (64, 40), "bmp": (31, 31)}


def pictures(folder: Path) -> int:
    """Write drawn faces of four emotions, each in one of several forms and sizes; return how many."""
    data = draw(Synthetic(seed=1, train=150, val=7, test=7, ambiguity=0.0))
    count = 0
    for row, (image, label) in enumerate(zip(data.images, data.labels, strict=True)):
        if (name := DRAWN.get(LABELS[label])) is None:
            continue
        suffix = list(SIZES)[row % len(SIZES)]
        (folder / name).mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(image).convert("RGB" if row % 2 else "L").resize(SIZES[suffix])
        picture.save(folder / name / f"{row}.{suffix}")
        count += 1
    return count


def test_own_pictures_reach_the_table(make_clone: Callable[..., Clone], tmp_path: Path) -> None:
    count = pictures(tmp_path / "my faces")
    model = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())["models"]["w2v_softmax"]
    clone = make_clone(
        {
            "data.source": "folder",
            "data.path": str(tmp_path / "my faces"),
            "data.labels": list(WORDS),
            "labels.word2vec.words": WORDS,
            "grid.models": ["w2v_softmax"],
            "models.w2v_softmax": model | {"decoders": ["argmax", "crm.word2vec"]},
            "compare.baseline": "w2v_softmax",
            "compare.resamples": 100,
            "recipes.fast.epochs": 1,
            "recipes.fast.sizes": [16],
            "evaluate.heat_maps": 2,
        }
    )
    told = clone.dvc("repro", FER_TRACKING="off")  # names in MLflow have a test of their own, in seconds
    assert "pictures: happily surprised " in told

    data = FerData.load(clone.path / "outputs/prepared")
    assert data.classes == tuple(WORDS)
    assert len(data.labels) == count
    for k in range(len(WORDS)):
        sizes = np.bincount(data.splits[data.labels == k], minlength=3)
        assert sizes.min() >= 1
        assert sizes.sum() > 8
    twins = read_near_duplicates(clone.path / "outputs/prepared/duplicates.csv", count)
    assert not twins.any()  # none of them on two sides
    with (clone.path / "outputs/prepared/files.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row, split, label in zip(rows, data.splits, data.labels, strict=True):
        assert (row["split"], row["class"]) == (SPLITS[split], data.classes[label])
        assert row["file"].split("/")[0].casefold() == row["class"].casefold()

    run = clone.path / "outputs/models/w2v_softmax-0"
    assert classes_of(run) == tuple(WORDS)
    assert load_trained(run)[1].targets.shape == (4, 300)
    metrics = json.loads((clone.path / "outputs/metrics/w2v_softmax-0.json").read_text())
    assert metrics["dataset"].startswith("custom-")
    assert list(metrics["test"]["per_class"]) == list(WORDS)
    assert list(metrics["test"]["severity"]) == ["word2vec"]  # neither affective nor FER-2013's other words
    table = json.loads((clone.path / "outputs/reports/ablation.json").read_text())
    assert [row["decoder"] for row in table] == ["argmax", "crm.word2vec"]
    assert len(list((clone.path / "outputs/figures/w2v_softmax-0").glob("*.png"))) == 7
