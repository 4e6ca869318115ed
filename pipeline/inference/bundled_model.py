"""Find the bundled model: a small network trained on FER-2013 that comes with the package, `bundled/`."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import UserError
from pipeline.files import read_json, sha256

FOLDER = Path(__file__).with_name("bundled")
MODEL = "student.onnx"
FACTS = "model.json"
"""What it is, what was measured, and its SHA-256; `python -m resources.make_model` writes both."""
_ADVICE = "restore it, with git or by installing the project again, or choose another model"


def bundled_model() -> Path:
    """Return its ONNX file. Raises UserError if it is missing or is not the one whose digest is stored next to it."""
    model, facts = FOLDER / MODEL, FOLDER / FACTS
    for file in (model, facts):
        if not file.is_file():
            raise UserError(f"The bundled model is incomplete, there is no {file}: {_ADVICE}.")
    try:
        expected = read_json(facts)["sha256"]
    except (ValueError, TypeError, LookupError) as error:
        raise UserError(f"{facts} is damaged: {_ADVICE}.") from error
    if sha256(model) != expected:
        raise UserError(f"{model} is damaged, its SHA-256 is not the one in {facts.name}: {_ADVICE}.")
    return model
