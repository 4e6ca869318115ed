"""Print how far each kind of labels is from FER-2013's own, for the prepared data.

    python -m benchmarks.labels

Reads outputs/prepared (`dvc repro prepare`). Nothing is trained; one seed.
"""

from __future__ import annotations

import numpy as np

from benchmarks.machine import header
from benchmarks.timing import table
from pipeline import cli
from pipeline.data.fer import FerData
from pipeline.errors import UserError
from pipeline.labels.truth import LabelSpec, TrainingLabels
from pipeline.workspace import PREPARED, dataset_name

NAMES = (
    "votes", "votes.drawn", "majority", "given.noisy10", "given.noisy20", "given.noisy30", "given.noisy_votes",
    "given.certain", "given.weighted", "given.balanced", "given.few25", "given.few100",
)  # fmt: skip


def main() -> None:
    data = FerData.load(PREPARED)
    given = data.labels[data.rows("train")]
    rows = []
    for name in NAMES:
        try:
            truth = LabelSpec.parse(name).make(data, 0)
        except UserError as error:
            rows.append([name, str(error), "", ""])
            continue
        used = np.arange(len(given)) if truth.rows is None else np.unique(truth.rows)
        weights = np.ones(len(given)) if truth.weights is None else truth.weights
        rows.append([name, f"{100 * kept(truth, given):.1f}", f"{len(used):,}", f"{weights.mean():.2f}"])
    print(f"{header()}\n{dataset_name()}, Training of {len(given):,} images, seed 0\n")
    print(table(["labels", "left on the given label, %", "images used", "mean weight"], rows))


def kept(truth: TrainingLabels, given: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> float:
    """Return the mean share of an image's label that its given class has."""
    if truth.soft is not None:
        return float(truth.soft[np.arange(len(given)), given].mean())
    return 1.0 if truth.labels is None else float((truth.labels == given).mean())


if __name__ == "__main__":
    cli.script(main, example="")
