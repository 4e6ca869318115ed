"""Make what a training knows of its images: their labels, and which of them have similar landmarks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.data.fer import FerData
from pipeline.labels.truth import LabelSpec, TrainingLabels
from pipeline.landmarks.neighbours import Neighbours
from pipeline.workspace import NEIGHBOURS, PREPARED

PERMUTATION = 30
"""The stream of random numbers that permutes neighbours: those below 30 make labels (`labels.truth`)."""


def truth_of(labels: str, memory: Mapping[str, Any], seed: int) -> TrainingLabels:
    """Make the truth of a row of params.yaml, `models.<name>.labels` and `models.<name>.memory`.

    Reads the prepared data, and the neighbours if the memory asks for them. Raises UserError if they lack something.
    """
    truth = LabelSpec.parse(labels).make(FerData.load(PREPARED), seed) if labels else TrainingLabels()
    if memory.get("kind") != "neighbours":
        return truth
    near = Neighbours.load(NEIGHBOURS)
    if memory.get("permuted"):
        near = near.permuted(np.random.default_rng([seed, PERMUTATION]))
    return dataclasses.replace(truth, neighbours=near.index, affinities=near.weight)
