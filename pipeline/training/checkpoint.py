"""Save the state that an interrupted training needs to continue: one safetensors file, replaced after every epoch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pipeline.errors import UserError
from pipeline.files import JsonDict, replacing

Groups = Mapping[str, Mapping[str, Tensor]]
"""Tensors by group ("network", "average", ...) and name."""


@dataclass(frozen=True)
class Checkpoint:
    """The file with the state of one training. A crash while saving leaves the previous state in place."""

    path: Path

    def save(self, groups: Groups, facts: JsonDict) -> None:
        """Write the state, atomically."""
        tensors = {
            f"{group}/{name}": tensor.detach().cpu().contiguous()
            for group, named in groups.items()
            for name, tensor in named.items()
        }
        with replacing(self.path) as temporary:
            save_file(tensors, temporary, metadata={"facts": json.dumps(facts)})

    def load(self) -> tuple[dict[str, dict[str, Tensor]], JsonDict] | None:
        """Return what `save` wrote last, or None if there is nothing. Raises UserError if the file is damaged."""
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                facts = json.loads(file.metadata()["facts"])
                groups: dict[str, dict[str, Tensor]] = {}
                for key in file.keys():  # noqa: SIM118 (a safetensors file is not iterable)
                    group, name = key.split("/", 1)
                    groups.setdefault(group, {})[name] = file.get_tensor(key)
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"The checkpoint {self.path} is damaged ({error}): remove it to train from the start."
            ) from error
        return groups, facts

    def remove(self) -> None:
        """Remove the state, once the outputs are safely written."""
        for leftover in self.path.parent.glob(f".{self.path.name}.*"):  # of a process killed while saving
            leftover.unlink()
        self.path.unlink(missing_ok=True)
