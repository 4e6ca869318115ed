"""Write a model as MLflow keeps it: one ONNX file, which `mlflow.onnx` loads and `mlflow models serve` answers with.

Beside the file lies the code that answers (`served`), so that a model can be served wherever MLflow and a few packages
are installed. It runs on the processor, with a GPU present or without one.
"""

from __future__ import annotations

import shutil
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

import pipeline

if TYPE_CHECKING:  # MLflow takes seconds to import
    from mlflow.models import Model, ModelSignature

CODE = (
    "__init__.py", "errors.py", "files.py", "trouble.py", "workspace.py",
    "data/__init__.py", "data/fer.py", "data/pictures.py",
    "inference/__init__.py", "inference/bundled_model.py", "inference/detection.py", "inference/engine.py",
    "inference/model_file.py", "inference/recogniser.py", "tracking/__init__.py", "tracking/served.py",
)  # fmt: skip
"""What is stored of this package: `served` and everything that it imports."""
PACKAGES = ("onnxruntime", "numpy", "pandas", "pillow", "pyyaml", "dlib-bin")
"""What that needs besides MLflow; given explicitly, because MLflow spends minutes guessing."""
FILE = "model.onnx"
MODEL_FORMAT = "onnx"
"""What a model is logged as: part of a run's content, so that `fer backfill` logs models of earlier versions again."""


def save_model(path: str, mlflow_model: Model, onnx_file: Path, faces: npt.NDArray[np.uint8]) -> None:
    """Write the folder of a model. faces: the input example, uint8 [N, 48, 48]."""
    import mlflow.pyfunc
    import onnx
    import pandas as pd

    with tempfile.TemporaryDirectory() as folder:
        code, data = Path(folder) / "pipeline", Path(folder) / FILE
        _copy_code(code)
        shutil.copyfile(onnx_file, data)
        mlflow.pyfunc.save_model(
            path=path,
            mlflow_model=mlflow_model,
            loader_module="pipeline.tracking.served",
            data_path=str(data),
            code_paths=[str(code)],
            signature=_signature(),
            input_example=pd.DataFrame({"pixels": faces.tolist()}),
            pip_requirements=list(_requirements()),
        )
    settings = {"providers": ["CPUExecutionProvider"], "onnx_session_options": None, "code": None}
    mlflow_model.add_flavor("onnx", onnx_version=onnx.__version__, data=f"data/{FILE}", **settings)
    mlflow_model.save(str(Path(path) / "MLmodel"))


def _copy_code(target: Path) -> None:
    source = Path(pipeline.__file__).parent
    for name in CODE:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)


def _signature() -> ModelSignature:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import AnyType

    from pipeline.tracking.served import DETECT, IMAGE, PIXELS

    return ModelSignature(
        Schema([ColSpec(DataType.string, IMAGE, required=False), ColSpec(AnyType(), PIXELS, required=False)]),
        Schema([ColSpec(AnyType(), "faces")]),
        ParamSchema([ParamSpec(DETECT, DataType.boolean, True)]),
    )


def _requirements() -> list[str]:
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package}=={version(package)}")
        except PackageNotFoundError:  # of the detector: arrays are answered without it
            continue
    return found
