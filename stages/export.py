"""Stage export: write one trained network as an ONNX file, `python -m stages.export MODEL SEED`.

A classifier without a network is not exported: its file is empty.
"""

from __future__ import annotations

from pipeline import cli, config
from pipeline.export.onnx_file import export
from pipeline.files import write_text
from pipeline.workspace import RunKey


def main(model: str, seed: int) -> None:
    run_key = RunKey(model, seed)
    if config.load().model(model).classifier:
        write_text(run_key.exported, "")
        print(f"{run_key.name} has no network: {run_key.exported} is empty")
        return
    difference = export(run_key.models, run_key.exported)
    size = run_key.exported.stat().st_size
    print(f"{run_key.exported}: {size:,} bytes, at most {difference:.0e} from PyTorch's probabilities")


if __name__ == "__main__":
    cli.script(main, cli.MODEL, cli.SEED, example="baseline 0")
