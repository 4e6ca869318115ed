"""Stage targets: write what each run of the grid is trained with: vectors, labels, landmarks, choices.

Separate files keep runs independent: another set of words, FER+ votes added later, or landmarks, change only the files
of the models that use them, and DVC retrains no other. The choices of a model are written for DVC alone, which cannot
depend on a key that params.yaml may lack.
"""

from __future__ import annotations

from pipeline import cli, config, workspace
from pipeline.classical import code
from pipeline.data.fer import FerData
from pipeline.evaluation.decoders import DecoderSpec
from pipeline.files import write_json, write_npy
from pipeline.labels.targets import TargetSpec
from pipeline.labels.truth import LabelSpec, Truth
from pipeline.landmarks.points import Landmarks, save_none
from pipeline.workspace import LANDMARKS, PREPARED, TARGETS, RunKey


def main() -> None:
    params = config.load()
    vectors, labels, landmarks, choices = {}, {}, {}, {}
    for run_key in (RunKey(*pair) for pair in params.grid.pairs()):
        model, seed = params.model(run_key.model), run_key.seed
        for name in model.decoders:
            DecoderSpec.parse(name).make(seed)  # what cannot be made is reported before the training
        if model.classifier:
            model.make_classifier().features.require_packages()
        vectors[run_key.targets] = TargetSpec.parse(model.targets).load(seed)
        labels[run_key.labels] = (
            LabelSpec.parse(model.labels).make(FerData.load(PREPARED), seed) if model.labels else Truth()
        )
        landmarks[run_key.landmarks] = Landmarks.load(LANDMARKS) if model.uses_landmarks else None
        own = {"code": code.digests()} if model.classifier else {}
        choices[run_key.choices] = model.of_training() | own
    workspace.clear(TARGETS)
    for file, array in vectors.items():
        write_npy(file, array)
    for file, truth in labels.items():
        truth.save(file)
    for file, points in landmarks.items():
        points.save(file) if points else save_none(file)
    for file, values in choices.items():
        write_json(file, values)


if __name__ == "__main__":
    cli.script(main)
