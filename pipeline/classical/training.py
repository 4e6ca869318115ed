"""Fit a classifier to Training and measure it on PublicTest."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

import numpy as np
import sklearn
import torch
from threadpoolctl import threadpool_limits

from pipeline.classical.classifiers import Classifier, Fitted
from pipeline.classical.faces import Faces
from pipeline.data.fer import FerData
from pipeline.files import JsonDict
from pipeline.landmarks.points import Landmarks
from pipeline.training.hardware import processor


@dataclass(frozen=True)
class Outcome:
    """A fitted classifier, its accuracy on PublicTest, the seconds of the fit and the images that it saw."""

    fitted: Fitted
    val_accuracy: float
    seconds: float
    images: int

    def cost(self) -> JsonDict:
        """Return the cost of the fit under the names that a network's training has."""
        return {
            "seconds": round(self.seconds, 2),
            "epochs": 1,
            "best_epoch": 0,
            "images_per_second": round(self.images / self.seconds, 1),
            "precision": "fp64",
            "device": "cpu",
        }


def fit(classifier: Classifier, data: FerData, landmarks: Landmarks | None, seed: int, threads: int) -> Outcome:
    """Fit with this many threads. Raises UserError if Training lacks a class, or a package is missing."""
    classifier.features.require_packages()
    training, validation = data.rows("train"), data.rows("val")
    start = time.perf_counter()
    with threadpool_limits(threads):
        fitted = classifier.fit(Faces.of(data, training, landmarks), data.labels[training], seed, data.classes)
        seconds = time.perf_counter() - start
        scores = fitted.scores(Faces.of(data, validation, landmarks))
    right = scores.argmax(axis=1) == data.labels[validation]
    return Outcome(fitted, float(np.mean(right)), seconds, len(training))


def machine(threads: int | Literal["auto"]) -> JsonDict:
    """Return what a fit runs on, with as many threads as are requested and PyTorch would use at most."""
    most = torch.get_num_threads()
    return {
        "processor": processor(),
        "device": "cpu",
        "threads": most if threads == "auto" else min(threads, most),
        "scikit-learn": sklearn.__version__,
    }
