"""Stage evaluate: measure one trained model, and show what it gets wrong and where it looks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import confusion_matrix
from torch import Tensor

from pipeline import cli, config, workspace
from pipeline.cli import Model, Seed
from pipeline.data.duplicates import read_twins
from pipeline.data.fer import LABELS, SPLITS, FerData
from pipeline.evaluation.decoders import Answer, Decoder, softmax
from pipeline.evaluation.metrics import CLASSES, fit_temperature, split_metrics
from pipeline.evaluation.predictions import Predictions
from pipeline.figures.model_page import draw
from pipeline.files import write_csv, write_json
from pipeline.fingerprint import evaluation_digest
from pipeline.labels.distances import affective_distance, cosine_distance, human_distance
from pipeline.labels.vectors import LabelVectors
from pipeline.tracking.runs import log_model_run
from pipeline.training.hardware import EVALUATION
from pipeline.training.losses import Loss, WithVector
from pipeline.training.model import FerNet
from pipeline.training.saved_model import load_trained, predict
from pipeline.workspace import PREPARED, Cell, dataset_name, label_vectors
from stages.targets import decoder

Floats = npt.NDArray[np.float64]


def main(model: Model, seed: Seed) -> None:
    params, cell = config.load(), Cell(model, seed)
    wanted = params.model(model).decoders
    network, loss = load_trained(cell.models)
    data = FerData.load(PREPARED)
    decoders = {name: decoder(name, cell.seed) for name in wanted}

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


def decide(network: FerNet, loss: Loss, data: FerData, decoders: Mapping[str, Decoder]) -> Predictions:
    """What the network says of PublicTest and PrivateTest, under each decoder, the model's own first."""
    rows = np.concatenate([data.rows("val"), data.rows("test")])
    pixels = pixels_of(data, rows)
    answer = answer_of(loss, predict(network, pixels, EVALUATION))
    averaged = answer.averaged(answer_of(loss, predict(network, pixels, EVALUATION, flip=True)))
    return Predictions(
        index=rows,
        split=data.splits[rows],
        actual=data.labels[rows].astype(np.int64),
        probabilities=answer.probabilities,
        predicted={name: decode(answer) for name, decode in decoders.items()},
        predicted_flip={name: decode(averaged) for name, decode in decoders.items()},
    )


def pixels_of(data: FerData, rows: npt.NDArray[np.integer]) -> Tensor:
    """uint8 [N, 1, H, W]"""
    return torch.from_numpy(data.images[rows])[:, None]


def answer_of(loss: Loss, output: Tensor) -> Answer:
    """What the outputs [N, O] of a network say under its loss."""
    scores = loss.scores(output).numpy().astype(np.float64)
    cosines = loss.cosines(output).numpy().astype(np.float64) if isinstance(loss, WithVector) else None
    return Answer(scores, softmax(scores), cosines)


def measure(found: Predictions, data: FerData, distances: Mapping[str, Floats]) -> dict[str, Any]:
    """Every metric on PublicTest, PrivateTest and PrivateTest without twins, of each decoder."""
    val, test = (found.split == SPLITS.index(name) for name in ("val", "test"))
    clean = ~read_twins(PREPARED / "duplicates.csv", len(data.labels))[found.index]
    temperature = fit_temperature(found.actual[val], found.probabilities[val])
    metrics = {
        decoder: {
            name: split_metrics(
                found.actual[chosen], found.predicted[decoder][chosen], found.predicted_flip[decoder][chosen],
                found.probabilities[chosen], temperature,
                distances, None if data.votes is None else data.votes[found.index][chosen],
            )
            for name, chosen in {"val": val, "test": test, "test_clean": test & clean}.items()
        }
        for decoder in found.predicted
    }  # fmt: skip
    own, *others = metrics
    confusion = confusion_matrix(found.actual[test], found.predicted[own][test], labels=CLASSES)
    return {
        "decoder": own,
        "temperature": temperature,
        "confusion": confusion.tolist(),
        **metrics[own],
        "decoders": {name: metrics[name] for name in others},
    }


def reference_distances(data: FerData, words: Iterable[str]) -> dict[str, Floats]:
    """The distances by which mistakes are weighed: of the sets of words, and two that no model trains on as
    such, the affective and the human one (from Training votes alone)."""
    distances = {"affective": affective_distance()}
    for name in words:
        distances[name] = cosine_distance(LabelVectors.load(label_vectors(name)).gram_of(LABELS))
    if data.votes is not None:
        training = data.rows("train")
        human = human_distance(data.labels[training], data.votes[training])
        if human is not None:
            distances["human"] = human
    return distances


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
