"""Stage targets: the vectors that each cell of the grid is trained towards, a file each.

A file of its own keeps cells apart: another set of words, or FER+ votes that came later, changes the files of those
models that use them, and DVC trains no other.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from pipeline import cli, config, workspace
from pipeline.data.fer import LABELS, FerData
from pipeline.evaluation.decoders import DECODERS, Decoder
from pipeline.files import write_npy
from pipeline.labels.targets import SOURCES, Training, source_of, transformed
from pipeline.labels.vectors import LabelVectors
from pipeline.workspace import PREPARED, TARGETS, Cell, label_vectors


def main() -> None:
    params, made = config.load(), {}
    for cell in (Cell(*pair) for pair in params.grid.cells()):
        model = params.model(cell.model)
        for name in model.decoders:
            decoder(name, cell.seed)  # what cannot be made is said now, not after the training
        made[cell.targets] = targets(model.targets, cell.seed)
    workspace.clear(TARGETS)
    for file, vectors in made.items():
        write_npy(file, vectors)


def targets(name: str, seed: int) -> npt.NDArray[np.float64]:
    """The targets [K, D] of that name in the order of `LABELS`: from embed's output or from `SOURCES`."""
    source = source_of(name)
    if source in SOURCES:
        data = FerData.load(PREPARED)
        rows = data.rows("train")
        votes = None if data.votes is None else data.votes[rows]
        vectors = SOURCES[source](Training(data.labels[rows], votes, seed))
    else:
        vectors = LabelVectors.load(label_vectors(source)).of(LABELS).astype(np.float64)
    return transformed(name, vectors, seed)


def decoder(name: str, seed: int) -> Decoder:
    """The decoder of that name, with the cosines of the targets it is to weigh mistakes by."""
    rule, _, weights = name.partition(".")
    make: Callable[..., Decoder] = DECODERS[rule]
    if not weights:
        return make()
    vectors = targets(weights, seed)
    return make(vectors @ vectors.T)


if __name__ == "__main__":
    cli.run(main)
