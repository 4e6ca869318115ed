"""Learn from trained networks as well as from the labels: knowledge distillation, `models.<name>.distillation`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from pipeline.errors import UserError
from pipeline.schema import Positive
from pipeline.training.hardware import Hardware
from pipeline.training.losses import Loss
from pipeline.training.memory import SoftTargets
from pipeline.training.model import FerNet
from pipeline.training.saved_model import classes_of, load_trained
from pipeline.training.teachers import teachers_in


@dataclass(frozen=True)
class Distillation:
    """Follow the mean prediction p of the teachers (Hinton, Vinyals & Dean 2015):

        (1 - weight) loss + weight T^2 CE(p, softmax(z / T)),   p = mean over teachers of softmax(z_t / T)

    z, z_t: scores of student and teachers; T: temperature. The teachers see the images as the student does, augmented
    and mixed alike (Beyer et al., CVPR 2022), those of Training alone.
    """

    weight: Annotated[float, Field(gt=0, le=1)] = 0.9
    temperature: Positive = 2.0


DISTILLATIONS: dict[str, type[Distillation]] = {"teachers": Distillation}
"""The names that `models.<name>.distillation.kind` in params.yaml may use."""


class Teachers:
    """Trained networks with their losses, which give the outputs their meaning, on the device of a training."""

    def __init__(self, members: Sequence[tuple[FerNet, Loss]], spec: Distillation, hardware: Hardware) -> None:
        self.members, self.spec, self.hardware = members, spec, hardware
        for network, _ in members:
            network.to(memory_format=hardware.layout)  # type: ignore[call-overload]

    @torch.no_grad()
    def of(self, images: Tensor) -> SoftTargets:
        """Return their mean prediction for images float32 [B, 1, H, W] as soft targets [B, K]."""
        inputs, temperature = images.contiguous(memory_format=self.hardware.layout), self.spec.temperature
        found = []
        for network, loss in self.members:
            with self.hardware.autocast():
                output = network(inputs)
            found.append((loss.scores(output) / temperature).softmax(1))
        return SoftTargets(torch.stack(found).mean(0), self.spec.weight, temperature)


def load_teachers(folder: Path, classes: Sequence[str], spec: Distillation, hardware: Hardware) -> Teachers:
    """Load the teachers. Raises UserError if one was trained for other classes, or is no network."""
    members = []
    for teacher in teachers_in(folder):
        own = classes_of(teacher)
        if own != tuple(classes):
            raise UserError(
                f"The teacher {teacher} tells {', '.join(own)} apart, but the data have {', '.join(classes)}: "
                "take it away."
            )
        members.append(load_trained(teacher, hardware.device))
    return Teachers(members, spec, hardware)
