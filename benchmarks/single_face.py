"""Show what holds a single face back: where its time goes, and what the machine could do.

    python -m benchmarks.single_face [MODEL] [--threads 1] [--rounds 5]

The time of each part is ONNX Runtime's own measurement of its kernels, scaled to the time of a call that is not
measured: measuring takes time too. Beside it, by the same threads: the network's operations at the speed of large
matrix products, its weights at the speed of a copy, and the face in a batch, where every kernel has enough to do.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from benchmarks.machine import header
from benchmarks.timing import Case, alternate, rounds_option, table
from pipeline import cli
from pipeline.cli import Number
from pipeline.data.fer import IMAGE_SIZE
from pipeline.data.pictures import cut
from pipeline.export.onnx_file import OPSET
from pipeline.inference.bundled_model import bundled_model
from pipeline.inference.engine import Engine
from pipeline.inference.model_file import INPUT, OUTPUT, find

CROP = 160
"""Side of the square that a face is cut from, in pixels."""
BATCH = 256
CALLS = 400
"""Measured calls, after a quarter as many that are not counted."""
SIDE = 1024
"""Of the large matrices."""
COPIED = 2**28
"""Bytes, far more than any cache holds."""
FIRST, OTHERS = "first convolution", "other convolutions"
BEFORE, BETWEEN = "standardise, 2 x 2 pixels to channels", "GELU, pooling, conversions"
HEAD, DISPATCH = "head, class maps, softmax", "between kernels"
PARTS = (BEFORE, FIRST, OTHERS, BETWEEN, HEAD, DISPATCH)

Faces = npt.NDArray[np.uint8]


def session(model: Path | bytes, threads: int, profile: str = "") -> onnxruntime.InferenceSession:
    """Return the model in memory. profile: the beginning of the file for the times of its kernels, none if empty."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, profile
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def parts_in_order(kernels: Sequence[str]) -> list[str]:
    """Return the part that each kernel of a call belongs to, by its operation. The head begins after the last GELU."""
    convolutions = [place for place, kernel in enumerate(kernels) if "Conv" in kernel]
    body = max(place for place, kernel in enumerate(kernels) if "Conv" in kernel or "Gelu" in kernel)
    found = []
    for place in range(len(kernels)):
        if place in convolutions:
            found.append(FIRST if place == convolutions[0] else OTHERS)
        elif place < convolutions[0]:
            found.append(BEFORE)
        else:
            found.append(BETWEEN if place <= body else HEAD)
    return found


def parts_of(events: list[dict[str, Any]]) -> dict[str, float]:
    """Return the median seconds of each part over the last `CALLS` calls of a profile."""
    in_time = sorted(events, key=lambda event: event["ts"])
    kernels = [e for e in in_time if e["cat"] == "Node" and e["name"].endswith("_kernel_time")]
    found, end = list[Counter[str]](), 0
    for call in (event for event in in_time if event["name"] == "model_run"):
        start = end
        while end < len(kernels) and kernels[end]["ts"] < call["ts"] + call["dur"]:
            end += 1
        own, spent = kernels[start:end], Counter[str]()
        for part, kernel in zip(parts_in_order([e["args"]["op_name"] for e in own]), own, strict=True):
            spent[part] += kernel["dur"]
        spent[DISPATCH] = call["dur"] - sum(spent.values())
        found.append(spent)
    return {name: float(np.median([call[name] for call in found[-CALLS:]])) / 1e6 for name in PARTS}


def measured_parts(model: Path, threads: int, face: Faces) -> dict[str, float]:
    """Return the seconds of each part of a call by ONNX Runtime's profile, medians over the calls."""
    with tempfile.TemporaryDirectory() as folder:
        made = session(model, threads, str(Path(folder) / "profile"))
        for _ in range(CALLS + CALLS // 4):
            made.run([OUTPUT], {INPUT: face})
        return parts_of(json.loads(Path(made.end_profiling()).read_text()))


def operations(model: Path) -> tuple[int, int]:
    """Return the floating point operations of a face's convolutions, and the bytes of all weights."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(model)).graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    made_by = {output: node for node in graph.node for output in node.output}
    shapes = {value.name: value.type.tensor_type.shape.dim for value in graph.value_info}
    flop = 0
    for node in graph.node:
        if node.op_type == "Conv":
            name = node.input[1]
            weight = weights[name if name in weights else made_by[name].input[0]]  # as it is, or in int8
            flop += 2 * prod(weight.dims) * prod(dim.dim_value for dim in shapes[node.output[0]][2:])
    return flop, sum(len(numpy_helper.to_array(tensor).tobytes()) for tensor in graph.initializer)


def product(form: str, threads: int) -> Case:
    """Return a large product with a constant matrix, as weights are: fp32, or uint8 by int8."""
    values = np.random.default_rng(0).integers(0, 128, (SIDE, SIDE))
    whole = form == "int8"
    left = values.astype(np.uint8 if whole else np.float32)
    right = numpy_helper.from_array(values.astype(np.int8 if whole else np.float32), "right")
    taken, given = (TensorProto.UINT8, TensorProto.INT32) if whole else (TensorProto.FLOAT, TensorProto.FLOAT)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger" if whole else "MatMul", ["left", "right"], ["product"])],
        form,
        [helper.make_tensor_value_info("left", taken, [SIDE, SIDE])],
        [helper.make_tensor_value_info("product", given, [SIDE, SIDE])],
        [right],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    return partial(session(model.SerializeToString(), threads).run, None, {"left": left})


MODEL = click.Argument(
    ["model"],
    type=click.Path(path_type=Path),
    required=False,
    help="A file of outputs/onnx, or the folder of a trained model; by default the bundled model.",
)
THREADS = click.Option(["--threads"], type=Number(), default=1, help="Threads of the model.")


def main(model: Path | None, threads: int, rounds: int) -> None:
    file = bundled_model() if model is None else find(model)
    Engine(file)  # or a sentence why not
    faces = np.random.default_rng(0).integers(0, 256, (BATCH, IMAGE_SIZE, IMAGE_SIZE)).astype(np.uint8)
    picture = Image.fromarray(np.tile(faces[0], (4, 4))[:CROP, :CROP])
    run, source = session(file, threads).run, np.ones(COPIED, np.uint8)
    seconds = alternate(
        {
            "cut": partial(cut, picture, (0, 0, CROP)),
            "one": partial(run, [OUTPUT], {INPUT: faces[:1]}),
            "many": partial(run, [OUTPUT], {INPUT: faces}),
            "fp32": product("fp32", threads),
            "int8": product("int8", threads),
            "copy": partial(np.copyto, np.empty_like(source), source),
        },
        rounds,
    )
    parts = measured_parts(file, threads, faces[:1])
    scale = seconds["one"] / sum(parts.values())
    spent = {f"cut from {CROP} x {CROP} pixels and resize": seconds["cut"]}
    spent |= {name: scale * value for name, value in parts.items()}
    total = sum(spent.values())
    flop, size = operations(file)
    beside = {
        f"{flop / 1e6:.1f} MFLOP at the speed of a large product in {form}": flop * seconds[form] / (2 * SIDE**3)
        for form in ("fp32", "int8")
    }
    beside[f"{size / 1e6:.2f} MB of weights at the speed of a copy"] = size * seconds["copy"] / COPIED
    beside[f"the model's share of a face in a batch of {BATCH}"] = seconds["many"] / BATCH
    print(header("onnxruntime"))
    print(f"{file.name}, {threads} thread{'s' * (threads > 1)}\n")
    rows = [[name, f"{1e6 * value:,.0f}", f"{100 * value / total:.0f}"] for name, value in spent.items()]
    print(table(["part of a face", "µs", "%"], [*rows, ["all", f"{1e6 * total:,.0f}", "100"]]), end="\n\n")
    print(table(["for comparison", "µs"], [[name, f"{1e6 * value:,.0f}"] for name, value in beside.items()]))


if __name__ == "__main__":
    cli.script(main, MODEL, THREADS, rounds_option(5), example="outputs/models/baseline-0")
