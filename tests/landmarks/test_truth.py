"""What a row of params.yaml with a memory of neighbours is told."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.fer import FerData
from pipeline.labels.truth import LabelSpec, TrainingLabels
from pipeline.landmarks.neighbours import Neighbours, nearest
from pipeline.landmarks.truth import truth_of
from pipeline.workspace import NEIGHBOURS, PREPARED

N = 30
NEAR: Neighbours = nearest(np.random.default_rng(0).normal(size=(N, 3)), np.full(N, -1), np.arange(N) % 6 > 0, k=4)
GRAPH = {"kind": "neighbours", "weight": 0.3}


@pytest.fixture(autouse=True)
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FerData:
    """Training and PublicTest with neighbours, as the stages write them."""
    monkeypatch.chdir(tmp_path)
    labels, splits = (np.arange(N + 10) % 7).astype(np.uint8), np.repeat([0, 1], [N, 10]).astype(np.uint8)
    data = FerData(np.zeros((N + 10, 48, 48), np.uint8), labels, splits)
    data.save(PREPARED)
    NEAR.save(NEIGHBOURS)
    return data


def test_neighbours_are_those_of_the_stage() -> None:
    truth = truth_of("", GRAPH, 0)
    assert truth.labels is None
    np.testing.assert_array_equal(truth.neighbours, NEAR.index)
    np.testing.assert_array_equal(truth.affinities, NEAR.weight)


def test_the_control_has_those_of_other_images_drawn_by_the_seed() -> None:
    permuted = [truth_of("", GRAPH | {"permuted": True}, seed) for seed in (0, 0, 1)]
    first, again, other = (truth.neighbours for truth in permuted)
    assert first is not None
    assert other is not None
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, NEAR.index)
    assert sorted(map(tuple, first.tolist())) == sorted(map(tuple, NEAR.index.tolist()))


def test_labels_and_neighbours_go_together(prepared: FerData) -> None:
    truth, alone = truth_of("given.noisy40", GRAPH, 3), LabelSpec.parse("given.noisy40").make(prepared, 3)
    np.testing.assert_array_equal(truth.labels, alone.labels)
    assert truth.neighbours is not None


@pytest.mark.parametrize("memory", [{}, {"kind": "relabel"}])
def test_other_rows_need_no_neighbours(memory: dict[str, str]) -> None:
    NEIGHBOURS.unlink()
    truth = truth_of("", memory, 0)
    assert all(getattr(truth, field.name) is None for field in fields(TrainingLabels))
