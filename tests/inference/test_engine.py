"""What is loaded as a model, and what is refused in a sentence."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from pipeline.errors import UserError
from pipeline.inference.engine import Engine
from tests.models import drawn_faces, exported_model

FACES = drawn_faces(4)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported_model(tmp_path_factory.mktemp("outputs"))


@pytest.fixture
def file(model: Path, tmp_path: Path) -> Path:
    """A copy of the exported file, to be damaged."""
    copy = tmp_path / "baseline-0.onnx"
    copy.write_bytes((model.parents[1] / "onnx" / "baseline-0.onnx").read_bytes())
    return copy


def test_a_model_is_found_by_its_folder_and_by_its_file(
    model: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = Engine(file, 1).probabilities(FACES)
    monkeypatch.chdir(model)
    for path in (model, Path("."), Path("../baseline-0"), model.parents[1] / "onnx" / "baseline-0.onnx"):
        np.testing.assert_array_equal(Engine(path, 1).probabilities(FACES), expected)


@pytest.mark.parametrize("name", ["no-such.onnx", ".", "models/other-0"])
def test_where_nothing_is_exported_it_says_what_to_run(name: str, tmp_path: Path) -> None:
    (tmp_path / "models" / "other-0").mkdir(parents=True)
    with pytest.raises(UserError, match=r"^There is no exported model .*dvc repro"):
        Engine(tmp_path / name)


def test_a_classifier_without_a_network_is_refused(tmp_path: Path) -> None:
    (tmp_path / "hog-0.onnx").touch()
    with pytest.raises(UserError, match="hog-0 is a classifier without a network"):
        Engine(tmp_path / "hog-0.onnx")


@pytest.mark.parametrize("weights", [b"of the next training", None])
def test_a_folder_whose_export_is_of_another_training_is_refused(
    model: Path, tmp_path: Path, weights: bytes | None
) -> None:
    shutil.copytree(model.parents[1], tmp_path / "outputs")
    model = tmp_path / "outputs/models/baseline-0"
    (model / "model.safetensors").unlink()
    if weights:
        (model / "model.safetensors").write_bytes(weights)
    with pytest.raises(UserError, match=r"another training than the one in .*dvc repro"):
        Engine(model)
    Engine(tmp_path / "outputs/onnx/baseline-0.onnx")


@pytest.mark.parametrize("share", [0.001, 0.5, 0.99])
def test_a_file_cut_short_is_refused(file: Path, share: float) -> None:
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size) + 1])
    with pytest.raises(UserError, match=r"is not a model that the stage export wrote.*\([^\n]+\): "):
        Engine(file)


def other_classes(model: onnx.ModelProto) -> None:
    (entry,) = (entry for entry in model.metadata_props if entry.key == "classes")
    entry.value = '["a", "b", "c"]'


def no_facts(model: onnx.ModelProto) -> None:
    del model.metadata_props[:]


def other_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].name = "pixels"
    for node in model.graph.node:
        node.input[:] = ["pixels" if name == "images" else name for name in node.input]


def no_numbers(model: onnx.ModelProto) -> None:
    bias = next(value for value in model.graph.initializer if value.name.endswith("head.bias"))
    bias.CopyFrom(onnx.numpy_helper.from_array(np.full(tuple(bias.dims), np.nan, np.float32), bias.name))


@pytest.mark.parametrize("change", [other_classes, no_facts, other_input, no_numbers])
def test_another_onnx_model_is_refused(file: Path, change: object) -> None:
    model = onnx.load(file)
    assert callable(change)
    change(model)
    onnx.save(model, file)
    with pytest.raises(UserError, match=r"is not a model that the stage export wrote.*\([^\n]+\): "):
        Engine(file)


def test_without_onnx_runtime_a_sentence_says_how_to_install_it(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match="pip install 'onnxruntime"):
        Engine(file)
