"""Stage targets: write the vectors that each run of the grid is trained towards, one file per run.

Separate files keep runs independent: another set of words, or FER+ votes added later, change only the files of the
models that use them, and DVC retrains no other.
"""

from __future__ import annotations

from pipeline import cli, config, workspace
from pipeline.evaluation.decoders import DecoderSpec
from pipeline.files import write_npy
from pipeline.labels.targets import TargetSpec
from pipeline.workspace import TARGETS, RunKey


def main() -> None:
    params, made = config.load(), {}
    for run_key in (RunKey(*pair) for pair in params.grid.pairs()):
        model = params.model(run_key.model)
        for name in model.decoders:
            DecoderSpec.parse(name).make(
                run_key.seed
            )  # targets that cannot be made are reported now, not after the training
        made[run_key.targets] = TargetSpec.parse(model.targets).load(run_key.seed)
    workspace.clear(TARGETS)
    for file, vectors in made.items():
        write_npy(file, vectors)


if __name__ == "__main__":
    cli.script(main)
