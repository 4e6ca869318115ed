"""The stage embed where no model of the grid uses words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline import config
from pipeline.data.fer import FerData
from pipeline.workspace import LABELS_FOLDER, PREPARED
from stages import embed
from tests.clone import ROOT

PARAMS = config.load(ROOT / "params.yaml")


def test_without_words_the_folder_is_there_and_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC fails for an output that is missing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FER_TRACKING", "off")
    image = np.zeros((1, 48, 48), np.uint8)
    FerData(image, np.zeros(1, np.uint8), np.zeros(1, np.uint8), classes=("calm", "cross")).save(PREPARED)
    folder = replace(PARAMS.data, source="folder", path="faces")
    wordless = replace(PARAMS, data=folder, grid=config.Grid(("hog",), (0,)), compare=config.CompareParams("hog", 100))
    monkeypatch.setattr(config, "load", lambda: wordless)
    embed.main()
    assert list(LABELS_FOLDER.iterdir()) == []
