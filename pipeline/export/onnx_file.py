"""Export a trained network: fold it, trace it, describe it, and hold the file to what PyTorch computes."""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.data.fer import IMAGE_SIZE
from pipeline.errors import UserError
from pipeline.export.folding import folded
from pipeline.files import read_json, replacing, sha256
from pipeline.inference.engine import Engine
from pipeline.inference.model_file import INPUT, MAPS, OUTPUT, Facts
from pipeline.training.losses import Loss
from pipeline.training.model import HEAD_SCALE, Classifier, FerNet
from pipeline.training.saved_model import classes_of, load_trained

OPSET = 23
"""ONNX's version of the operators: of 2025, which ONNX Runtime reads from 1.23 on."""
TOLERANCE = 1e-5
"""Largest difference from PyTorch's probabilities: some hundred times what rounding makes."""


class Pixels(nn.Module):
    """A network that takes pixels as they are stored: uint8 [N, 48, 48] -> probabilities [N, K], maps [N, K, h, w]."""

    def __init__(self, network: FerNet, scores: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.network, self.scores = network, scores

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.network.features(images[:, None].float())
        scores = self.scores(self.network.classify(features))
        return scores.softmax(dim=1), self._maps(features)

    def _maps(self, features: Tensor) -> Tensor:
        """Return the scores at each position, as the stage evaluate draws them (`evaluation.class_maps`)."""
        height, width = features.shape[2:]
        positions = HEAD_SCALE[self.network.pool] * features.permute(0, 2, 3, 1).flatten(0, 2)
        scores = self.scores(self.network.head(positions))
        return scores.reshape(-1, height, width, scores.shape[1]).permute(0, 3, 1, 2)


def export(model: Path, file: Path) -> float:
    """Write the network in a trained model's folder as an ONNX file; return its largest difference from PyTorch's.

    Raises UserError if there is no such network, RuntimeError if the file does not compute what PyTorch does.
    """
    network, loss = load_trained(model)
    content = _traced(network, loss, _facts(model))
    with replacing(file) as temporary:
        temporary.write_bytes(content)
        difference = difference_from_pytorch(network, loss, temporary)
        if not difference <= TOLERANCE:  # it may be no number
            raise RuntimeError(f"{file} differs from PyTorch by {difference:.1e}")
    return difference


def is_exported(model: Path, file: Path) -> bool:
    """Return whether a file says that it is the export of this network, by this code: its metadata count, no more."""
    try:
        return Engine(file).facts == _facts(model)
    except UserError:
        return False


@torch.no_grad()
def difference_from_pytorch(network: FerNet, loss: Loss, file: Path) -> float:
    """Return the largest difference between the probabilities of an exported file and PyTorch's, for noise."""
    noise = np.random.default_rng(0).integers(0, 256, (16, IMAGE_SIZE, IMAGE_SIZE)).astype(np.uint8)
    expected = Classifier(network, loss.scores)(torch.from_numpy(noise)[:, None].float()).numpy()
    return float(np.abs(Engine(file).probabilities(noise) - expected).max())


def _traced(network: FerNet, loss: Loss, facts: Facts) -> bytes:
    """Return the ONNX model as bytes: the same for the same network and facts."""
    module = Pixels(folded(network), loss.scores).eval()
    example = torch.zeros((2, IMAGE_SIZE, IMAGE_SIZE), dtype=torch.uint8)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # that torchvision is not installed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch warns of its own code
        program = torch.onnx.export(
            module, (example,), dynamo=True, opset_version=OPSET, verbose=False,
            input_names=[INPUT], output_names=[OUTPUT, MAPS], dynamic_shapes=({0: torch.export.Dim("N")},),
        )  # fmt: skip
    assert program is not None
    model = program.model_proto
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]  # the lines of code that an operation comes from, with their folder
    for key, value in sorted(facts.to_metadata().items()):
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    return bytes(model.SerializeToString(deterministic=True))


def _facts(model: Path) -> Facts:
    described = read_json(model / "model.json")
    return Facts(
        classes=classes_of(model),
        **{name: described[name] for name in ("model", "seed", "inputs_digest", "settings_digest")},
        weights=sha256(model / "model.safetensors"),
        code=_code_digest(),
        settings={name: described["settings"][name] for name in ("model", "recipe")},
    )


def _code_digest() -> str:
    """Return twelve digits of the code of this package, which writes the file; training's is in inputs_digest."""
    digests = [sha256(path) for path in sorted(Path(__file__).parent.glob("*.py"))]
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:12]
