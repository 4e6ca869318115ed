"""The figures of one model: where it errs, how sure it is, and where it looks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import confusion_matrix
from torch import Tensor

from pipeline import config
from pipeline.data.fer import LABELS
from pipeline.evaluation.grad_cam import heat_maps
from pipeline.evaluation.metrics import CLASSES
from pipeline.figures import model as figures
from pipeline.training.losses import Loss
from pipeline.training.model import FerNet

Ints = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float64]


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
