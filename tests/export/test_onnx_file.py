"""An exported file decides as PyTorch does, and says what it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch

from pipeline.data.fer import LABELS
from pipeline.evaluation.class_maps import mirrored_maps
from pipeline.evaluation.models import model_output
from pipeline.export import onnx_file
from pipeline.export.folding import folded
from pipeline.export.onnx_file import export
from pipeline.files import sha256
from pipeline.inference.engine import Engine
from pipeline.training.hardware import EVALUATION
from pipeline.training.losses import LOSSES
from pipeline.training.model import FerNet, Pool
from pipeline.training.saved_model import load_trained, predict
from tests.models import drawn_faces, exported, save_model

pytestmark = pytest.mark.usefixtures("one_thread")
KINDS = {kind.scores: name for name, kind in reversed(LOSSES.items())}.values()
"""One loss for each way from the network's output to scores."""


def evaluated(model: Path, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """The probabilities that the stage evaluate writes."""
    network, loss = load_trained(model)
    return model_output(loss, predict(network, torch.from_numpy(faces)[:, None], EVALUATION)).probabilities


def trained_and_exported(loss: str, pool: Pool = "max") -> tuple[Path, Path]:
    """The folder of a model and its ONNX file."""
    folder = exported("some-0", loss, pool)
    return folder / "models/some-0", folder / "onnx/some-0.onnx"


@pytest.mark.parametrize("loss", KINDS)
def test_probabilities_and_decisions_are_pytorchs(loss: str) -> None:
    (model, file), faces = trained_and_exported(loss), drawn_faces(300)
    found, expected = Engine(file, 1).probabilities(faces), evaluated(model, faces)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    decisions = found.argmax(1)
    np.testing.assert_array_equal(decisions, expected.argmax(1))
    assert len(np.unique(decisions)) > 2


@pytest.mark.parametrize(
    ("loss", "pool"), [("cross_entropy", "max"), ("cross_entropy", "mean"), ("relative_uncertainty", "max")]
)
def test_class_maps_are_those_that_evaluate_draws(loss: str, pool: Pool) -> None:
    (model, file), faces = trained_and_exported(loss, pool), drawn_faces(5)
    found = Engine(file, 1).class_maps(faces)
    network, of_loss = load_trained(model)
    images = torch.from_numpy(faces)[:, None].float()
    for k in range(len(LABELS)):
        expected = mirrored_maps(network, of_loss, images, torch.full((5,), k)).own
        np.testing.assert_allclose(found[:, k], expected, rtol=1e-4, atol=1e-4)
    assert np.ptp(found, axis=(2, 3)).min() > 0


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_any_number_of_faces_is_taken(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (model, file), faces = trained_and_exported("cross_entropy", "mean"), drawn_faces(9)
    monkeypatch.setattr("pipeline.inference.engine.BATCH", 3)  # in several calls
    engine = Engine(file, 1)
    found = engine.probabilities(faces[:count])
    assert found.shape == (count, 7)
    np.testing.assert_allclose(found, evaluated(model, faces)[:count], rtol=0, atol=1e-5)


def test_a_file_is_the_same_every_time_and_tells_no_path(tmp_path: Path) -> None:
    model = save_model(tmp_path / "some-0")
    for name in ("a", "b"):
        export(model, tmp_path / f"{name}.onnx")
    content = (tmp_path / "a.onnx").read_bytes()
    assert content == (tmp_path / "b.onnx").read_bytes()
    for secret in (str(tmp_path), str(Path(__file__).parents[2]), "secret", ".py"):
        assert secret.encode() not in content
    assert {path.name for path in tmp_path.iterdir()} == {"some-0", "a.onnx", "b.onnx"}


def test_it_is_valid_onnx_with_its_facts(tmp_path: Path) -> None:
    model = save_model(tmp_path / "some-0")
    export(model, tmp_path / "some-0.onnx")
    read = onnx.load(tmp_path / "some-0.onnx")
    onnx.checker.check_model(read, full_check=True)
    (taken,), (given, maps) = read.graph.input, read.graph.output
    assert (given.name, maps.name) == ("probabilities", "class_maps")
    assert taken.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [dim.dim_value for dim in taken.type.tensor_type.shape.dim] == [0, 48, 48]
    assert [dim.dim_value for dim in given.type.tensor_type.shape.dim] == [0, 7]
    assert "BatchNormalization" not in {node.op_type for node in read.graph.node}
    facts = Engine(tmp_path / "some-0.onnx").facts
    assert facts.classes == LABELS
    assert (facts.model, facts.seed, facts.inputs_digest) == ("some", 0, "0123456789ab")
    assert facts.weights == sha256(model / "model.safetensors")
    assert facts.settings == {"model": {"loss": "cross_entropy"}, "recipe": {}}


def test_what_differs_from_pytorch_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(network: FerNet) -> FerNet:
        made = folded(network)
        with torch.no_grad():
            made.head.bias[0] += 0.01
        return made

    monkeypatch.setattr(onnx_file, "folded", wrong)
    with pytest.raises(RuntimeError, match="differs from PyTorch"):
        export(save_model(tmp_path / "some-0"), tmp_path / "some-0.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["some-0"]
