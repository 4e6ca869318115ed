"""Store a fitted classifier as a folder that loads anywhere: arrays as safetensors, the rest as JSON."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from pipeline.classical.classifiers import CLASSIFIERS, Fitted
from pipeline.errors import UserError
from pipeline.files import JsonDict, read_json, replacing, write_json


def save_fitted(folder: Path, fitted: Fitted, description: JsonDict) -> None:
    """Write `model.safetensors`, then `model.json`, whose `loss` names the classifier and its options."""
    arrays = {name: np.ascontiguousarray(array) for name, array in fitted.arrays().items()}
    with replacing(folder / "model.safetensors") as temporary:
        save_file(arrays, temporary)
    write_json(folder / "model.json", description)


def load_fitted(folder: Path) -> Fitted:
    """Load what `save_fitted` wrote. Raises UserError if a file is missing or damaged."""
    weights, description = folder / "model.safetensors", folder / "model.json"
    for path in (weights, description):
        if not path.exists():
            raise UserError(f"{path} is missing: run `dvc repro` to train this model.")
    try:
        loss = read_json(description)["loss"]
        classifier = CLASSIFIERS[loss["classifier"]](**loss["options"])
        return Fitted.of(classifier, load_file(weights))
    except (SafetensorError, ValueError, LookupError, TypeError) as error:
        raise UserError(
            f"The model in {folder} cannot be read ({' '.join(str(error).split())}): remove the folder and run "
            "`dvc repro`."
        ) from error
