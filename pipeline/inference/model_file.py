"""Define what an exported model is: an ONNX file with one input, two outputs, and the facts about it as metadata.

Input: grey levels, uint8 [N, 48, 48]. Outputs: probabilities, float32 [N, K], and class maps, float32 [N, K, h, w]: the
scores before pooling, at each position of the last features. Standardisation, batch normalisation, the scores of the
loss and the softmax are inside, so no other file is needed to use it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.errors import UserError
from pipeline.files import JsonDict, sha256
from pipeline.workspace import exported

INPUT = "images"
OUTPUT = "probabilities"
MAPS = "class_maps"
SUFFIX = ".onnx"


@dataclass(frozen=True)
class Facts:
    """What an exported model says of itself.

    classes: the K names in the order of the probabilities. inputs_digest, settings_digest: as in model.json; of the
    training's settings, data and code, and of settings and data. weights: SHA-256 of model.safetensors. code: digest of
    the code that exported it. settings: those of model and recipe; none of the machine, and no path.
    """

    classes: tuple[str, ...]
    model: str
    seed: int
    inputs_digest: str
    settings_digest: str
    weights: str
    code: str
    settings: JsonDict

    def to_metadata(self) -> dict[str, str]:
        """Return the facts as ONNX keeps them: text by key."""
        return {key: json.dumps(value, ensure_ascii=False) for key, value in asdict(self).items()}

    @classmethod
    def of_metadata(cls, texts: Mapping[str, str]) -> Facts:
        """Read what `to_metadata` wrote. Raises LookupError, ValueError or TypeError for anything else."""
        facts = {key: json.loads(texts[key]) for key in cls.__dataclass_fields__}
        classes = tuple(facts.pop("classes"))
        if len(classes) < 2 or not all(isinstance(name, str) for name in classes):
            raise ValueError("it names no classes")
        return cls(classes, **facts)


def find(model: Path) -> Path:
    """Return the ONNX file that a path names: the file itself, or that of a trained model's folder.

    Raises UserError if there is none, or if the model cannot be exported.
    """
    file = exported(model) if model.is_dir() else model
    if not file.is_file():
        raise UserError(
            f"There is no exported model {file}: run `dvc repro` to train and export the models of params.yaml, or"
            f" name a file that ends in {SUFFIX}, or the folder of a trained model, with --model."
        )
    if not file.stat().st_size:
        raise UserError(
            f"{file} is empty: either {file.stem} is a classifier without a network, which is not exported, or a copy"
            " broke off. Choose a model with a network, or run `dvc repro` to write the file again."
        )
    return file


def require_export_of(model: Path, file: Path, facts: Facts) -> None:
    """Raise UserError unless an exported file has the weights of the model in that folder."""
    weights = model / "model.safetensors"
    if not weights.is_file() or sha256(weights) != facts.weights:
        raise UserError(
            f"{file} is the export of another training than the one in {model}: run `dvc repro` to export that, or"
            " name the file itself with --model."
        )
