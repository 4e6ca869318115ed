"""Stage targets: write what each run of the grid is trained with: vectors, labels, landmarks, choices.

Separate files keep runs independent: another set of words, FER+ votes added later, or landmarks, change only the files
of the models that use them, and DVC retrains no other. The choices of a model are written for DVC alone, which cannot
depend on a key that params.yaml may lack.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline import cli, config, workspace
from pipeline.classical import code
from pipeline.errors import UserError
from pipeline.evaluation.decoders import DecoderSpec
from pipeline.files import JsonDict, write_json, write_npy
from pipeline.labels.targets import TargetSpec
from pipeline.labels.truth import TrainingLabels
from pipeline.landmarks.points import Landmarks, save_none
from pipeline.landmarks.truth import truth_of
from pipeline.training.teachers import teacher_digests
from pipeline.workspace import LANDMARKS, TARGETS, RunKey, resolve


def main() -> None:
    params = config.load()
    teachers = resolve(params.teachers)
    made = {
        run_key: make(params.model(run_key.model), run_key, teachers)
        for run_key in (RunKey(*pair) for pair in params.grid.pairs())
    }
    workspace.clear(TARGETS)
    for run_key, (vectors, truth, landmarks, choices) in made.items():
        write_npy(run_key.targets, vectors)
        truth.save(run_key.labels)
        landmarks.save(run_key.landmarks) if landmarks else save_none(run_key.landmarks)
        write_json(run_key.choices, choices)


def make(
    model: config.ModelParams, run_key: RunKey, teachers: Path
) -> tuple[npt.NDArray[np.float64], TrainingLabels, Landmarks | None, JsonDict]:
    """Return what the four files of a run hold. Raises UserError, before anything is trained, for what cannot be."""
    vectors = TargetSpec.parse(model.targets).load(run_key.seed)
    for name in model.decoders:
        try:
            DecoderSpec.parse(name).make(run_key.seed, vectors)
        except UserError as error:
            raise UserError(f"models.{run_key.model}: {error}") from None
    truth = truth_of(model.labels, model.memory, run_key.seed)
    if model.classifier:
        model.make_classifier().features.require_packages()
    landmarks = Landmarks.load(LANDMARKS) if model.uses_landmarks else None
    own: JsonDict = {"code": code.digests()} if model.classifier else {"epoch_factor": model.epoch_factor}
    if model.distillation:
        own["teachers"] = teacher_digests(teachers)
    return vectors, truth, landmarks, model.of_training | own


if __name__ == "__main__":
    cli.script(main)
