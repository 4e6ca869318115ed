"""The folder of a model in MLflow: complete in itself, without pickle, the same by every way of loading it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import onnxruntime
import pytest
from mlflow.models import Model

from pipeline.data.fer import LABELS
from pipeline.inference.engine import Engine
from pipeline.tracking.model_format import save_model
from tests.models import drawn_faces, exported_file

pytestmark = pytest.mark.medium
FACES = drawn_faces(4)

LOADED = """
import json, sys
from pathlib import Path

sys.modules["torch"] = None  # so that neither it nor a GPU has a say
import mlflow

folder = sys.argv[1]
model = mlflow.pyfunc.load_model(folder)
found = model.predict(mlflow.models.Model.load(folder).load_input_example(folder))
used = [module.__file__ for name, module in sys.modules.items() if name.split(".")[0] == "pipeline"]
print(json.dumps([found, [file for file in used if not Path(file).is_relative_to(folder)]]))
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported_file(tmp_path_factory.mktemp("outputs"))


@pytest.fixture(scope="module")
def folder(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("mlflow") / "model"
    save_model(str(made), Model(metadata={"classes": [*LABELS]}), file, FACES[:2])
    return made


def test_it_has_signature_example_and_both_flavours_and_no_pickle(folder: Path) -> None:
    model = Model.load(str(folder))
    assert set(model.flavors) == {"python_function", "onnx"}
    assert model.signature is not None
    assert model.signature.inputs.input_names() == ["image", "pixels"]
    assert model.signature.params.to_dict()[0]["name"] == "detect"
    example: Any = model.load_input_example(str(folder))
    np.testing.assert_array_equal(np.array(example["pixels"].tolist()), FACES[:2])
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} <= {
        "", ".json", ".onnx", ".py", ".txt", ".yaml",
    }  # fmt: skip
    assert sum(path.stat().st_size for path in (folder / "code").rglob("*.py")) < 1e5


def test_it_loads_by_itself_without_pytorch(folder: Path, file: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED, str(folder)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found, foreign = json.loads(done.stdout.splitlines()[-1])
    assert foreign == [], "code that does not come with the model"
    probabilities = [list(answer["faces"][0]["probabilities"].values()) for answer in found]
    np.testing.assert_allclose(probabilities, Engine(file, 1).probabilities(FACES[:2]), rtol=0, atol=1e-5)


def test_mlflow_loads_its_onnx_file(folder: Path, file: Path) -> None:
    loaded = mlflow.onnx.load_model(str(folder)).SerializeToString()
    session = onnxruntime.InferenceSession(loaded, providers=["CPUExecutionProvider"])
    (found,) = session.run(["probabilities"], {"images": FACES})
    np.testing.assert_allclose(found, Engine(file, 1).probabilities(FACES), rtol=0, atol=1e-5)
