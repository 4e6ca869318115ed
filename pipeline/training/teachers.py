"""Find the teachers of a distillation, and tell whether they are still the same.

They are folders of finished trainings (`outputs/models/<key>`) in the folder that `teachers` in params.yaml names.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline import files
from pipeline.errors import UserError

FILES = ("model.json", "model.safetensors")
"""What a teacher consists of."""


def teachers_in(folder: Path) -> list[Path]:
    """Return the folders of the teachers, sorted. Raises UserError if there is none, or one without its weights."""
    found = sorted(path.parent for path in folder.glob("*/model.json"))
    if not found:
        raise UserError(
            f"{folder} has no teachers: copy folders of outputs/models there, or name another folder by `teachers` in "
            "params.yaml."
        )
    for teacher in found:
        if not (teacher / "model.safetensors").exists():
            raise UserError(f"{teacher} has no model.safetensors: copy the whole folder of the trained network.")
    return found


def teacher_digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of the teachers, by its path in the folder."""
    return {f"{teacher.name}/{name}": files.sha256(teacher / name) for teacher in teachers_in(folder) for name in FILES}


def require_unchanged(folder: Path, expected: Mapping[str, str]) -> None:
    """Raise UserError if the teachers are not those of these digests, by which a training is identified."""
    if teacher_digests(folder) != expected:
        raise UserError(f"The teachers in {folder} have changed: run `dvc repro targets` first.")
