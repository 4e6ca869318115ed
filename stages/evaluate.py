"""Stage evaluate: measure one trained model, and show what it gets wrong and where it looks."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline import cli, config, workspace
from pipeline.cli import Model, Seed
from pipeline.data.fer import LABELS, SPLITS, FerData
from pipeline.evaluation.decoders import make_decoder
from pipeline.evaluation.measure import decide, measure, pixels_of, reference_distances
from pipeline.figures.model import draw
from pipeline.files import write_csv, write_json
from pipeline.fingerprint import evaluation_digest
from pipeline.tracking.runs import log_model_run
from pipeline.training.losses import Loss
from pipeline.training.saved_model import load_trained
from pipeline.workspace import PREPARED, Cell, dataset_name

Floats = npt.NDArray[np.float64]


def main(model: Model, seed: Seed) -> None:
    params, cell = config.load(), Cell(model, seed)
    wanted = params.model(model).decoders
    network, loss = load_trained(cell.models)
    data = FerData.load(PREPARED)
    decoders = {name: make_decoder(name, cell.seed) for name in wanted}

    found = decide(network, loss, data, decoders)
    found.write(cell.predictions)
    measured = measure(found, data, reference_distances(data, params.labels))

    workspace.clear(cell.figures)
    own, test = next(iter(decoders)), found.split == SPLITS.index("test")
    actual, predicted = found.actual[test], found.predicted[own][test]
    write_csv(  # for DVC's plot of the confusion, which cannot choose rows
        cell.figures / "decisions.csv",
        ["actual", "predicted"],
        ([LABELS[y], LABELS[k]] for y, k in zip(actual, predicted, strict=True)),
    )
    draw(
        cell.figures, f"{model}, seed {seed}, PrivateTest", network, loss, pixels_of(data, found.index[test]),
        actual, predicted, found.probabilities[test], measured["test"], params.evaluate,
    )  # fmt: skip
    write_json(cell.metrics, described(cell, loss) | measured | made(cell))  # last: it marks all as complete
    log_model_run(cell, stage="evaluate")


def described(cell: Cell, loss: Loss) -> dict[str, Any]:
    """Which model this is, and what it was trained towards."""
    facts = cell.facts()
    return {
        "model": cell.model,
        "seed": cell.seed,
        "dataset": dataset_name(),
        "loss": facts["loss"]["name"],
        "targets": facts["loss"]["targets"],
        "settings": {
            "loss": facts["loss"],
            "learning_rate": facts["settings"]["model"]["learning_rate"],
            "recipe": facts["settings"]["recipe"],
        },
        "gram": (loss.targets @ loss.targets.T).double().numpy().round(6).tolist(),
    }


def made(cell: Cell) -> dict[str, Any]:
    """What the training took, where it ran, and of what."""
    facts = cell.facts()
    return {name: facts[name] for name in ("training", "machine", "settings_digest")} | {
        "evaluation_digest": evaluation_digest()
    }


if __name__ == "__main__":
    cli.run(main)
