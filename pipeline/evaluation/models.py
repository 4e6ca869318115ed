"""Trained models as evaluation sees them: a network or a classifier, each answers for rows of the data set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.classical.classifiers import Fitted
from pipeline.classical.faces import Faces
from pipeline.classical.saved import load_fitted
from pipeline.data.fer import FerData
from pipeline.evaluation import grad_cam
from pipeline.evaluation.class_maps import MirroredMaps, mirrored_maps
from pipeline.evaluation.decoders import ModelOutput, softmax
from pipeline.landmarks.points import Landmarks
from pipeline.training.hardware import EVALUATION
from pipeline.training.losses import EmbeddingLoss, Loss, UncertaintyLoss
from pipeline.training.model import FerNet
from pipeline.training.saved_model import load_trained, predict
from pipeline.workspace import RunKey

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]


class Model(Protocol):
    """A trained model and the data set that it is measured on."""

    @property
    def targets(self) -> npt.NDArray[np.float64]:
        """The vectors that it was trained towards: [K, D]."""

    def outputs(self, rows: Ints, flip: bool = False) -> ModelOutput:
        """Return its output for these rows of the data set, for their mirror images if `flip`."""

    def heat_maps(self, rows: Ints, classes: Ints) -> Floats:
        """Return where in each image that lies which speaks for `classes` [N]: [N, 48, 48], the largest value 1."""

    def class_maps(self, faces: Floats) -> MirroredMaps | None:
        """Return the class maps of a face [K, 48, 48] for each of the K classes; None if it has no such maps."""


@dataclass(frozen=True)
class Network:
    """A network with its loss."""

    network: FerNet
    loss: Loss
    data: FerData

    @property
    def targets(self) -> npt.NDArray[np.float64]:
        return np.asarray(self.loss.targets.double().numpy())

    def outputs(self, rows: Ints, flip: bool = False) -> ModelOutput:
        return model_output(self.loss, predict(self.network, self._pixels(rows), EVALUATION, flip=flip))

    def heat_maps(self, rows: Ints, classes: Ints) -> Floats:
        """Grad-CAM."""
        wanted = torch.from_numpy(np.asarray(classes, np.int64))
        return grad_cam.heat_maps(self.network, self.loss, self._pixels(rows), wanted).numpy()

    def class_maps(self, faces: Floats) -> MirroredMaps:
        images = torch.from_numpy(faces).float()[:, None]
        return mirrored_maps(self.network, self.loss, images, torch.arange(len(faces)))

    def _pixels(self, rows: Ints) -> Tensor:
        return torch.from_numpy(self.data.images[rows])[:, None]


@dataclass(frozen=True)
class Classical:
    """A classifier without a network. Its scores are no posterior: their softmax only ranks the classes as it does."""

    fitted: Fitted
    data: FerData
    landmarks: Landmarks | None

    @property
    def targets(self) -> npt.NDArray[np.float64]:
        return np.eye(len(self.data.classes))

    def outputs(self, rows: Ints, flip: bool = False) -> ModelOutput:
        faces = self._faces(rows)
        scores = self.fitted.scores(faces.mirrored() if flip else faces)
        return ModelOutput(np.asarray(scores, np.float64), softmax(scores), cosines=None)

    def heat_maps(self, rows: Ints, classes: Ints) -> Floats:
        """The contributions of the features to the score of the class, where they lie."""
        maps = self.fitted.maps(self._faces(rows), classes)
        return np.asarray(maps / np.maximum(maps.max(axis=(1, 2), keepdims=True), 1e-12))

    def class_maps(self, faces: Floats) -> None:
        """It has none."""

    def _faces(self, rows: Ints) -> Faces:
        return Faces.of(self.data, rows, self.landmarks)


def load_model(run_key: RunKey, data: FerData) -> Model:
    """Load what the stage train wrote. Raises UserError if it is missing or damaged."""
    if (run_key.models / "model.json").exists() and "classifier" in run_key.facts()["loss"]:
        return Classical(load_fitted(run_key.models), data, Landmarks.load(run_key.landmarks))
    return Network(*load_trained(run_key.models), data)


def model_output(loss: Loss, output: Tensor) -> ModelOutput:
    """Interpret the outputs [N, O] of a network under its loss."""
    scores = loss.scores(output).numpy().astype(np.float64)
    cosines = loss.cosines(output).numpy().astype(np.float64) if isinstance(loss, EmbeddingLoss) else None
    own = loss.uncertainty(output).numpy().astype(np.float64) if isinstance(loss, UncertaintyLoss) else None
    return ModelOutput(scores, softmax(scores), cosines, own)
