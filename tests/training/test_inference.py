"""A trained network at work: the same outputs whatever the chunks, mirrored ones on request."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from pipeline.training import saved_model
from pipeline.training.hardware import Hardware
from pipeline.training.model import FerNet
from pipeline.training.saved_model import predict

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = Hardware("cpu", "fp32")
PIXELS = torch.randint(256, (24, 1, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def network(outputs: int) -> FerNet:
    torch.manual_seed(0)
    return FerNet((4, 8), outputs, 120.0, 60.0)


@pytest.mark.parametrize("outputs", [7, 16])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_predict_with_flip_is_predict_on_mirrored_images(outputs: int, precision: Any) -> None:
    made, hardware = network(outputs), Hardware("cpu", precision)
    straight = predict(made, PIXELS, hardware)
    mirrored = predict(made, PIXELS, hardware, flip=True)
    assert straight.shape == (24, outputs)
    assert straight.dtype == torch.float32
    assert not straight.requires_grad
    assert torch.equal(mirrored, predict(made, PIXELS.flip(3), hardware))
    assert not torch.allclose(mirrored, straight)


def test_predict_works_in_chunks_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    made = network(7).train()
    before = copy.deepcopy(made.state_dict())
    whole = predict(made, PIXELS, CPU)
    monkeypatch.setattr(saved_model, "CHUNK", 5)
    parts = predict(made, PIXELS, CPU)
    torch.testing.assert_close(parts, whole)
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.state_dict().items())
    with torch.no_grad():
        torch.testing.assert_close(whole, made.eval()(PIXELS.float()))
