"""An exported model in 8 bits: smaller, nearly the same, with the same facts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.export.quantised import quantise
from pipeline.inference.engine import Engine
from tests.models import drawn_faces, exported_model


@pytest.mark.medium
def test_integers_decide_nearly_as_floating_point_numbers_do(tmp_path: Path) -> None:
    exported_model(tmp_path)
    file, small = tmp_path / "onnx" / "baseline-0.onnx", tmp_path / "int8.onnx"
    faces = drawn_faces(200)
    quantise(file, faces[:100], small)
    whole, integers = Engine(file, 1), Engine(small, 1)
    assert integers.facts == whole.facts
    expected, found = (engine.probabilities(faces[100:]) for engine in (whole, integers))
    assert 0 < np.abs(found - expected).max() < 0.25
    assert (found.argmax(1) == expected.argmax(1)).mean() > 0.7  # few channels; chance is a seventh
