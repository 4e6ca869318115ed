"""Stage evaluate: measure one trained model, and show what it gets wrong and where it looks."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import confusion_matrix
from torch import Tensor

from pipeline import config, figures
from pipeline.data.duplicates import read_twins
from pipeline.data.fer import LABELS, SPLITS, FerData
from pipeline.decode import Answer, softmax
from pipeline.explain import heat_maps
from pipeline.files import write_csv, write_json
from pipeline.inference import predict
from pipeline.labels.references import affective_distance, cosine_distance, human_distance
from pipeline.labels.vectors import LabelVectors
from pipeline.losses import Loss, WithVector
from pipeline.machine import EVALUATION
from pipeline.metrics import CLASSES, fit_temperature, split_metrics
from pipeline.model import FerNet
from pipeline.trained import load_trained
from stages import run_stage
from stages.cell import PREPARED, Cell, dataset_name, label_vectors
from stages.identity import evaluation_digest
from stages.logs import log_model_run
from stages.predictions import Predictions
from stages.targets import decoder

Ints = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float64]


def main(model: str, seed: str) -> None:
    params, cell = config.load(), Cell.parse(model, seed)
    settings = params.model(model)
    network, loss = load_trained(cell.models)
    data = FerData.load(PREPARED)
    rows = np.concatenate([data.rows("val"), data.rows("test")])
    pixels, actual = torch.from_numpy(data.images[rows])[:, None], data.labels[rows].astype(np.int64)

    answer = answer_of(loss, predict(network, pixels, EVALUATION))
    averaged = answer.averaged(answer_of(loss, predict(network, pixels, EVALUATION, flip=True)))
    decoders = {name: decoder(name, cell.seed) for name in settings.decoders}
    predicted = {name: decode(answer) for name, decode in decoders.items()}
    predicted_flip = {name: decode(averaged) for name, decode in decoders.items()}

    splits = data.splits[rows]
    clean = ~read_twins(PREPARED / "duplicates.csv", len(data.labels))[rows]
    val, test = splits == SPLITS.index("val"), splits == SPLITS.index("test")
    temperature = fit_temperature(actual[val], answer.probabilities[val])
    distances = reference_distances(data, params.labels)
    metrics = {
        decoder: {
            name: split_metrics(
                actual[chosen], predicted[decoder][chosen], predicted_flip[decoder][chosen],
                answer.probabilities[chosen], temperature,
                distances, None if data.votes is None else data.votes[rows][chosen],
            )
            for name, chosen in {"val": val, "test": test, "test_clean": test & clean}.items()
        }
        for decoder in decoders
    }  # fmt: skip
    own, *others = settings.decoders
    Predictions(rows, splits, actual, answer.probabilities, predicted, predicted_flip).write(cell.predictions)
    write_csv(  # for DVC's plot of the confusion, which cannot choose rows
        cell.figures / "decisions.csv",
        ["actual", "predicted"],
        ([LABELS[y], LABELS[k]] for y, k in zip(actual[test], predicted[own][test], strict=True)),
    )
    draw(
        cell.figures, f"{model}, seed {seed}, PrivateTest", network, loss, pixels[test], actual[test],
        predicted[own][test], answer.probabilities[test], metrics[own]["test"], params.evaluate,
    )  # fmt: skip
    facts = cell.facts()
    write_json(  # last: it marks the evaluation as complete
        cell.metrics,
        {
            "model": model,
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
            "decoder": own,
            "temperature": temperature,
            "confusion": confusion_matrix(actual[test], predicted[own][test], labels=CLASSES).tolist(),
            **metrics[own],
            "decoders": {name: metrics[name] for name in others},
            "training": facts["training"],
            "machine": facts["machine"],
            "settings_digest": facts["settings_digest"],
            "evaluation_digest": evaluation_digest(),
        },
    )

    log_model_run(cell, stage="evaluate")


def answer_of(loss: Loss, output: Tensor) -> Answer:
    """What the outputs [N, O] of a network say under its loss."""
    scores = loss.scores(output).numpy().astype(np.float64)
    cosines = loss.cosines(output).numpy().astype(np.float64) if isinstance(loss, WithVector) else None
    return Answer(scores, softmax(scores), cosines)


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


def draw(
    folder: Path, title: str, network: FerNet, loss: Loss, pixels: Tensor, actual: Ints, predicted: Ints,
    probabilities: Floats, metrics: Mapping[str, Any], settings: config.EvaluateParams,
) -> None:  # fmt: skip
    """All figures of one model, from the test split."""
    counts = confusion_matrix(actual, predicted, labels=CLASSES)
    figures.confusion(counts, LABELS, folder / "confusion.png", normalised=False, title=title)
    figures.confusion(counts, LABELS, folder / "confusion_normalised.png", normalised=True, title=title)
    figures.reliability(actual, probabilities, folder / "reliability.png", title)
    figures.per_class_bars(metrics["per_class"], folder / "per_class.png", title)
    images, confidence = pixels[:, 0].numpy(), probabilities.max(axis=1)
    figures.confident_mistakes(images, actual, predicted, confidence, LABELS, folder / "mistakes.png")

    shown = surest_of_each(actual, predicted, confidence, settings.heat_maps)
    maps = heat_maps(network, loss, pixels[shown], torch.from_numpy(predicted[shown])).numpy()
    captions = [
        f"{LABELS[predicted[n]]} (right)"
        if predicted[n] == actual[n]
        else f"{LABELS[predicted[n]]}, is {LABELS[actual[n]]}"
        for n in shown
    ]
    figures.heat_maps(images[shown], maps, captions, folder / "heat_maps.png")

    sample = np.concatenate(
        [np.flatnonzero(actual == k)[: settings.class_mean_faces] for k in range(len(LABELS))]
    )
    maps = heat_maps(network, loss, pixels[sample], torch.from_numpy(actual[sample])).numpy()
    figures.class_mean_heat_maps(
        class_means(images[sample], actual[sample]), class_means(maps, actual[sample]),
        LABELS, folder / "class_heat_maps.png",
    )  # fmt: skip


def surest_of_each(actual: Ints, predicted: Ints, confidence: Floats, count: int) -> npt.NDArray[np.intp]:
    """Half right, half wrong (fewer where there are not so many): the surest ones, class by class in turn."""
    chosen: list[int] = []
    for right in (True, False):
        pool = np.flatnonzero((actual == predicted) == right)
        pool = pool[np.argsort(-confidence[pool], kind="stable")]
        rank_in_class = np.array(
            [np.sum(actual[pool[:i]] == actual[n]) for i, n in enumerate(pool)], dtype=int
        )
        chosen += pool[np.argsort(rank_in_class, kind="stable")][: (count + 1) // 2].tolist()
    return np.array(chosen, dtype=np.intp)


def class_means(values: npt.NDArray[Any], actual: Ints) -> Floats:
    """The mean over the images of each class: [N, H, W] -> [K, H, W], NaN where a class has no image."""
    empty = np.full(values.shape[1:], np.nan)
    return np.stack(
        [values[actual == k].mean(axis=0) if np.any(actual == k) else empty for k in range(len(LABELS))]
    )


if __name__ == "__main__":
    run_stage(main, *sys.argv[1:])
