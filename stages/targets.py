"""Stage targets: write what each run of the grid is trained towards, its target vectors and its labels.

Separate files keep runs independent: another set of words, or FER+ votes added later, change only the files of the
models that use them, and DVC retrains no other. The optional choices of a model are written for DVC alone, which cannot
depend on a key that params.yaml may lack.
"""

from __future__ import annotations

from pathlib import Path

from pipeline import cli, config, workspace
from pipeline.data.fer import FerData
from pipeline.errors import UserError
from pipeline.evaluation.decoders import DecoderSpec
from pipeline.files import JsonDict, write_json, write_npy
from pipeline.labels.targets import TargetSpec
from pipeline.labels.truth import LabelSpec, Truth
from pipeline.workspace import PREPARED, TARGETS, RunKey


def main() -> None:
    params = config.load()
    vectors, labels, choices = {}, {}, dict[Path, JsonDict]()
    for run_key in (RunKey(*pair) for pair in params.grid.pairs()):
        model, seed = params.model(run_key.model), run_key.seed
        own = TargetSpec.parse(model.targets).load(seed)
        for name in model.decoders:  # what cannot be made is reported before the training
            try:
                DecoderSpec.parse(name).make(seed, own)
            except UserError as error:
                raise UserError(f"models.{run_key.model}: {error}") from None
        vectors[run_key.targets] = own
        labels[run_key.labels] = (
            LabelSpec.parse(model.labels).make(FerData.load(PREPARED), seed) if model.labels else Truth()
        )
        choices[run_key.choices] = model.choices | {"epoch_factor": model.epoch_factor}
    workspace.clear(TARGETS)
    for file, array in vectors.items():
        write_npy(file, array)
    for file, truth in labels.items():
        truth.save(file)
    for file, chosen in choices.items():
        write_json(file, chosen)


if __name__ == "__main__":
    cli.script(main)
