"""The predictions file: what is written is what is read, under the column names that others rely on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.data.fer import LABELS
from pipeline.evaluation.predictions import Predictions


def test_what_is_written_comes_back_under_every_decoder(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    decoders = ["argmax", "nearest", "crm.word2vec"]
    some = Predictions(
        index=np.array([7, 3, 12]),
        split=np.array([1, 2, 2], np.uint8),
        actual=np.array([0, 6, 3]),
        near_duplicate=np.array([False, True, False]),
        majority=np.array([3, -1, 0]),
        probabilities=generator.dirichlet(np.ones(len(LABELS)), 3),
        uncertainty=np.array([0.25, 1.75, 0.5]),
        predicted={name: generator.integers(7, size=3) for name in decoders},
        predicted_flip={name: generator.integers(7, size=3) for name in decoders},
    )
    path = tmp_path / "some.csv"
    some.write(path)
    header, first, *_ = path.read_text().splitlines()
    assert header == (
        "index,split,actual,near_duplicate,majority,uncertainty,predicted,predicted.nearest,predicted.crm.word2vec,"
        f"predicted_flip,predicted_flip.nearest,predicted_flip.crm.word2vec,{','.join(LABELS)}"
    )
    assert first.startswith(f"7,val,angry,0,happy,0.250000,{LABELS[some.predicted['argmax'][0]]},")
    again = Predictions.read(path, decoders)
    for name in ("index", "split", "actual", "near_duplicate", "majority"):
        assert getattr(again, name).tolist() == getattr(some, name).tolist()
    np.testing.assert_allclose(again.probabilities, some.probabilities, atol=5e-7)
    assert again.uncertainty.tolist() == some.uncertainty.tolist()
    for name in decoders:
        assert again.predicted[name].tolist() == some.predicted[name].tolist()
        assert again.predicted_flip[name].tolist() == some.predicted_flip[name].tolist()


def test_the_file_names_classes_of_its_own(tmp_path: Path) -> None:
    names = ("calm, cool", 'a "b" c', "슬픔")
    some = Predictions(
        index=np.arange(3), split=np.array([1, 2, 2], np.uint8), actual=np.array([2, 0, 1]),
        near_duplicate=np.zeros(3, bool), majority=np.full(3, -1), probabilities=np.eye(3), uncertainty=np.zeros(3),
        predicted={"argmax": np.array([0, 1, 2])}, predicted_flip={"argmax": np.array([1, 1, 2])}, classes=names,
    )  # fmt: skip
    some.write(tmp_path / "some.csv")
    again = Predictions.read(tmp_path / "some.csv", ["argmax"])
    assert again.classes == names
    assert again.actual.tolist() == [2, 0, 1]
    assert again.predicted["argmax"].tolist() == [0, 1, 2]
    np.testing.assert_array_equal(again.probabilities, np.eye(3))
