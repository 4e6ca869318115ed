"""Run an exported model with ONNX Runtime."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.data.fer import IMAGE_SIZE
from pipeline.errors import UserError, first_line
from pipeline.inference.model_file import INPUT, MAPS, OUTPUT, SUFFIX, Facts, find, require_export_of

Faces = npt.NDArray[np.uint8]
BATCH = 256
"""Faces per call of ONNX Runtime: limits memory."""
_ONLY_ERRORS = 3
"""ONNX Runtime's severity: its warnings are about graphs, not about what a user can change."""


class Engine:
    """An exported model in memory. facts: what it says of itself."""

    def __init__(self, model: Path, threads: int = 0) -> None:
        """Load a file of the stage export, or that of a trained model's folder. threads: 0 for one per core.

        Raises UserError if there is none or it is not an exported model.
        """
        try:
            import onnxruntime
        except ImportError as error:
            what = f"cannot be imported ({error})" if find_spec("onnxruntime") else "is not installed"
            raise UserError(f"ONNX Runtime {what}: run `python -m pip install 'onnxruntime>=1.23'`.") from error
        file = find(model)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = _ONLY_ERRORS
        try:
            self._session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
            self.facts = Facts.of_metadata(self._session.get_modelmeta().custom_metadata_map)
            faces = np.zeros((2, IMAGE_SIZE, IMAGE_SIZE), np.uint8)
            for found in (self.probabilities(faces), self.class_maps(faces)[..., 0, 0]):
                if found.shape != (2, len(self.facts.classes)):
                    raise ValueError(f"an output has the shape {found.shape}")
                if not np.isfinite(found).all():
                    raise ValueError("its weights are not finite numbers")
        except (LookupError, ValueError, TypeError, RuntimeError) as error:
            raise _unreadable(file, error) from error
        except Exception as error:  # ONNX Runtime's own have no common base
            if not type(error).__module__.startswith("onnxruntime"):
                raise
            raise _unreadable(file, error) from error
        if model.is_dir():
            require_export_of(model, file, self.facts)

    def probabilities(self, faces: Faces) -> npt.NDArray[np.float32]:
        """Return the probabilities [N, K] of faces, uint8 [N, 48, 48]."""
        chunks = [faces[start : start + BATCH] for start in range(0, len(faces), BATCH)]
        found = [self._run(OUTPUT, chunk) for chunk in chunks]
        return np.concatenate(found) if found else np.empty((0, len(self.facts.classes)), np.float32)

    def class_maps(self, faces: Faces) -> npt.NDArray[np.float32]:
        """Return the class maps [N, K, h, w] of at least one and at most `BATCH` faces, uint8 [N, 48, 48]."""
        return self._run(MAPS, faces)

    def _run(self, output: str, faces: Faces) -> npt.NDArray[np.float32]:
        return np.asarray(self._session.run([output], {INPUT: faces})[0])


def _unreadable(file: Path, error: Exception) -> UserError:
    return UserError(
        f"{file} is not a model that the stage export wrote, or ONNX Runtime is older than 1.23 "
        f"({first_line(error, 200)}): name a file of outputs/onnx that ends in {SUFFIX}, run `dvc repro` to write it "
        "again, or update onnxruntime."
    )
