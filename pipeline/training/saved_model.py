"""Store a trained network as a folder that loads anywhere: weights and targets as safetensors, the rest as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.data.fer import LABELS
from pipeline.errors import UserError
from pipeline.files import JsonDict, read_json, replacing, write_json
from pipeline.training.hardware import Hardware
from pipeline.training.losses import Loss, make_loss
from pipeline.training.model import FerNet

CHUNK = 512
"""Images per forward pass: limits memory."""


def save_trained(
    folder: Path, weights: Mapping[str, Tensor], targets: npt.NDArray[np.float64], description: JsonDict
) -> None:
    """Write `model.safetensors`, then `model.json`.

    weights: the network's, by name; targets: [K, D], those it was trained towards. The description tells how to rebuild
    both: `network` has the arguments of `FerNet`, `loss` the name and the options of the loss.
    """
    # Copies: safetensors refuses channels_last memory and tensors that share storage.
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    with replacing(folder / "model.safetensors") as temporary:
        save_file(tensors | {"targets": torch.tensor(targets)}, temporary)
    write_json(folder / "model.json", description)


def load_trained(folder: Path, device: str = "cpu") -> tuple[FerNet, Loss]:
    """Load the network that `save_trained` wrote, ready to predict, and its loss, which gives the output its meaning.

    Nothing is ever unpickled. Raises UserError if a file is missing or damaged.
    """
    weights, description = folder / "model.safetensors", folder / "model.json"
    for path in (weights, description):
        if not path.exists():
            raise UserError(f"{path} is missing: run `dvc repro` to train this model.")
    try:
        facts, tensors = read_json(description), load_file(weights)
        loss = make_loss(facts["loss"]["name"], facts["loss"]["options"], tensors.pop("targets").numpy(), device)
        network = FerNet(**facts["network"])
        network.load_state_dict(tensors)
    except (SafetensorError, ValueError, LookupError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())  # PyTorch lists what does not fit, line by line
        raise UserError(
            f"The model in {folder} cannot be read ({reason}): remove the folder and run `dvc repro`."
        ) from error
    return network.eval().to(device), loss


def classes_of(folder: Path) -> tuple[str, ...]:
    """Return the names of the classes of a trained model in the order of its scores; FER-2013's where it names none."""
    return tuple(read_json(folder / "model.json").get("classes", LABELS))


@torch.no_grad()
def predict(network: FerNet, pixels: Tensor, hardware: Hardware, flip: bool = False) -> Tensor:
    """Return outputs float32 [N, O] for uint8 images [N, 1, H, W], for their mirror images if `flip`."""
    network.eval()
    outputs = []
    for chunk in pixels.split(CHUNK):
        images = chunk.to(hardware.device).float()
        images = (images.flip(3) if flip else images).contiguous(memory_format=hardware.layout)
        with hardware.autocast():
            outputs.append(network(images))
    return torch.cat(outputs)
