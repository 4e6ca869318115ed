"""Compare what a prediction costs, from a uint8 face to a class: PyTorch, torch.compile, ONNX Runtime, OpenVINO.

    python -m benchmarks.inference [MODEL_FOLDER] [--data outputs/prepared] [--threads 1] [--rounds 5]

Single faces and batches of 64 and 256, in turns within one run; ratios are against PyTorch as the stage evaluate runs
it. Accuracy is on PublicTest; changed decisions are counted on PublicTest and PrivateTest. int8 is ONNX Runtime's
static quantisation, calibrated on faces of Training. OpenVINO is compared where it is installed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
import torch

from benchmarks.machine import header
from benchmarks.timing import alternate, table
from pipeline import cli
from pipeline.cli import FOLDER, Number
from pipeline.data.fer import FerData
from pipeline.export.onnx_file import export
from pipeline.export.quantised import CALIBRATION, quantise
from pipeline.inference.engine import Engine
from pipeline.inference.model_file import INPUT
from pipeline.training.model import Classifier
from pipeline.training.saved_model import load_trained
from pipeline.workspace import PREPARED, RunKey

BATCHES = (1, 64, 256)

Faces = npt.NDArray[np.uint8]
Predict = Callable[[Faces], npt.NDArray[np.float32]]
"""Faces, uint8 [N, 48, 48] -> probabilities [N, K]."""


def engines(model: Path, calibration: Faces, threads: int, folder: Path) -> dict[str, Predict]:
    """Return every way to run a trained model that is installed, PyTorch first; files are written to `folder`."""
    network, loss = load_trained(model)
    module = Classifier(network, loss.scores).eval()
    plain, small = folder / "fp32.onnx", folder / "int8.onnx"
    export(model, plain)
    quantise(plain, calibration, small)
    found = {
        "PyTorch": _of_torch(module),
        "torch.compile": _of_torch(torch.compile(module, dynamic=False)),
        "ONNX Runtime, fp32": Engine(plain, threads).probabilities,
        "ONNX Runtime, int8": Engine(small, threads).probabilities,
    }
    if find_spec("openvino"):
        found |= {
            f"OpenVINO, {name}": _of_openvino(file, threads) for name, file in (("default", plain), ("int8", small))
        }
    return found


def _of_torch(module: Callable[[torch.Tensor], torch.Tensor]) -> Predict:
    def predict(faces: Faces) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            return module(torch.from_numpy(faces)[:, None].float()).numpy()

    return predict


def _of_openvino(file: Path, threads: int) -> Predict:
    """Return OpenVINO in the number format that it prefers on this processor, set for latency."""
    import openvino

    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    compiled = openvino.Core().compile_model(file, "CPU", settings)

    def predict(faces: Faces) -> npt.NDArray[np.float32]:
        return np.asarray(compiled({INPUT: faces})[0])

    return predict


def in_batches(predict: Predict, faces: Faces, size: int) -> npt.NDArray[np.float32]:
    """Return probabilities [N, K], computed in batches of one size: torch.compile recompiles for each other size."""
    filled = np.resize(faces, (-(-len(faces) // size) * size, *faces.shape[1:]))  # with the first ones again
    found = [predict(filled[start : start + size]) for start in range(0, len(filled), size)]
    return np.concatenate(found)[: len(faces)]


def lines_of(
    found: dict[str, Predict], faces: Faces, labels: npt.NDArray[np.uint8], rounds: int
) -> Iterator[list[str]]:
    """Yield the lines of the table: accuracy and times of each engine.

    faces: those that are decided, of which the first have these labels.
    """
    size = min(BATCHES[1], len(faces))
    decided = {name: in_batches(predict, faces, size).argmax(1) for name, predict in found.items()}
    first = next(iter(decided.values()))
    repeated = np.resize(faces, (max(BATCHES), *faces.shape[1:]))
    seconds = {
        batch: alternate({name: partial(_decide, predict, repeated[:batch]) for name, predict in found.items()}, rounds)
        for batch in BATCHES
    }
    for name, decisions in decided.items():
        times = [f"{1000 * seconds[1][name]:.2f}"]
        times += [f"{batch / seconds[batch][name]:,.0f}" for batch in BATCHES[1:]]
        ratios = [f"{seconds[batch]['PyTorch'] / seconds[batch][name]:.1f}" for batch in BATCHES]
        right = (decisions[: len(labels)] == labels).mean()
        yield [name, f"{100 * right:.2f}", str((decisions != first).sum()), *times, *ratios]


def _decide(predict: Predict, faces: Faces) -> npt.NDArray[np.intp]:
    return np.asarray(predict(faces).argmax(1))


MODEL = click.Argument(
    ["model"], type=FOLDER, default=RunKey("baseline", 0).models, help="The folder of a trained model."
)
DATA = click.Option(["--data"], type=FOLDER, default=PREPARED, help="The folder with the prepared data.")
THREADS = click.Option(["--threads"], type=Number(), default=1, help="Threads of every engine.")
ROUNDS = click.Option(["--rounds"], type=Number(), default=5, help="How many turns each engine has.")


def main(model: Path, data: Path, threads: int, rounds: int) -> None:
    known = FerData.load(data)
    torch.set_num_threads(threads)
    calibration, val = known.images[known.rows("train")[:CALIBRATION]], known.rows("val")
    decided = known.images[np.concatenate([val, known.rows("test")])]
    with tempfile.TemporaryDirectory() as folder:
        found = engines(model, calibration, threads, Path(folder))
        lines = list(lines_of(found, decided, known.labels[val], rounds))
    print(header("onnxruntime", "openvino"))
    print(f"{model}, {threads} thread{'s' * (threads > 1)}; ms for one face, faces a second in batches")
    print(f"changed: decisions that differ from PyTorch's, of {len(decided):,}\n")
    ratios = [f"x PyTorch, {batch}" for batch in BATCHES]
    print(
        table(["engine", "PublicTest", "changed", "ms", *(f"/s at {batch}" for batch in BATCHES[1:]), *ratios], lines)
    )


if __name__ == "__main__":
    cli.script(main, MODEL, DATA, THREADS, ROUNDS, example="outputs/models/baseline-0")
