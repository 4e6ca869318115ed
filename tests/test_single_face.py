"""Where the time of a single face goes: each kernel in one part, all parts together the whole call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.single_face import BEFORE, BETWEEN, DISPATCH, FIRST, HEAD, OTHERS, measured_parts, operations, parts_of
from pipeline.export.quantised import quantise
from pipeline.training.saved_model import load_trained
from tests.models import drawn_faces, exported_model

ORDER = ["Cast", "Sub", "QLinearConv", "Gelu", "FusedConv", "NhwcMaxPool", "Gelu", "Gemm", "Softmax"]


def a_call(start: int) -> list[dict[str, Any]]:
    """What ONNX Runtime writes of a call of 250 µs, its kernels 10, 11, 12, ... µs long."""
    kernels, now = list[dict[str, Any]](), start + 5
    for number, operation in enumerate(ORDER):
        name = f"node_{number}_kernel_time"
        kernels.append({"cat": "Node", "name": name, "ts": now, "dur": 10 + number, "args": {"op_name": operation}})
        now += 12 + number
    return [{"cat": "Session", "name": "model_run", "ts": start, "dur": 250}, *kernels]


def test_every_kernel_counts_in_one_part() -> None:
    found = parts_of([event for call in range(5) for event in reversed(a_call(1000 * call))])
    expected = {BEFORE: 10 + 11, FIRST: 12, BETWEEN: 13 + 15 + 16, OTHERS: 14, HEAD: 17 + 18}
    expected[DISPATCH] = 250 - sum(expected.values())
    assert found == pytest.approx({name: value / 1e6 for name, value in expected.items()})


@pytest.mark.usefixtures("one_thread")
def test_a_model_has_all_parts_and_the_operations_of_its_network(tmp_path: Path) -> None:
    """In 32 bits and in 8; PyTorch counts the operations on its own."""
    folder, faces = exported_model(tmp_path), drawn_faces(8)
    plain, small = tmp_path / "onnx" / "baseline-0.onnx", tmp_path / "small.onnx"
    quantise(plain, faces, small)
    network, _ = load_trained(folder)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.from_numpy(faces[:1])[:, None].float())
    by_kind = counter.get_flop_counts()["Global"]
    convolutions = sum(flop for kind, flop in by_kind.items() if "conv" in str(kind))
    for file in (plain, small):
        parts = measured_parts(file, 1, np.ascontiguousarray(faces[:1]))
        assert all(parts[name] > 0 for name in (BEFORE, FIRST, OTHERS, BETWEEN, HEAD, DISPATCH))
        flop, size = operations(file)
        assert flop == convolutions
        assert 0 < size < file.stat().st_size
