"""Tiny networks as stored models, and drawn faces to show them: for tests of what is done with a model."""

from __future__ import annotations

import atexit
import shutil
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from benchmarks.detectors import paste
from pipeline.data.fer import LABELS, FerData
from pipeline.data.synthetic import dataset
from pipeline.export.onnx_file import export
from pipeline.training.losses import make_loss
from pipeline.training.model import FerNet, Pool
from pipeline.training.saved_model import save_trained

TARGETS = np.linalg.qr(np.random.default_rng(0).standard_normal((12, 7)))[0].T.copy()
OPTIONS: dict[str, dict[str, Any]] = {"relative_uncertainty": {"dimensions": 3}, "scaled_cosine": {"scale": 2.0}}
STEPS = 40
"""Of training: an untrained network hardly tells faces apart."""


def drawn_faces(count: int) -> npt.NDArray[np.uint8]:
    """Drawn faces, uint8 [N, 48, 48]."""
    return drawn(count).images[:count]


def drawn(count: int, val: int = 1, test: int = 1) -> FerData:
    return dataset.draw(dataset.Synthetic(seed=3, train=count, val=val, test=test, ambiguity=0.3))


def scrambled(network: FerNet) -> FerNet:
    """The network with scales and shifts as after a training, some scales negative."""
    for norm in (module for module in network.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, -1.0, 2.0)
        nn.init.normal_(norm.bias, 0.0, 0.3)
    return network


def save_model(folder: Path, loss: str = "cross_entropy", pool: Pool = "max") -> Path:
    """Train a tiny network for a moment, so that the scores of its loss tell faces apart, and write its folder."""
    options, data = OPTIONS.get(loss, {}), drawn(60)
    made = make_loss(loss, options, TARGETS)
    torch.manual_seed(1)
    arguments: dict[str, Any] = {
        "widths": [6, 8, 10],
        "output_dim": made.output_dim,
        "mean": 120.0,
        "std": 60.0,
        "pool": pool,
    }
    network = scrambled(FerNet(**arguments)).train()
    images = torch.from_numpy(data.images[:60])[:, None].float()
    labels = torch.from_numpy(data.labels[:60]).long()
    optimizer = torch.optim.Adam(network.parameters(), 0.03)
    for _ in range(STEPS):
        optimizer.zero_grad()
        F.cross_entropy(made.scores(network(images)), labels).backward()
        optimizer.step()
    described = {
        "model": folder.name.rpartition("-")[0], "seed": 0, "inputs_digest": "0123456789ab", "settings_digest": "ba98",
        "classes": LABELS, "settings": {"model": {"loss": loss}, "recipe": {}, "data": {"path": "secret"}},
        "network": arguments, "loss": {"name": loss, "options": options, "targets": "word2vec"},
        "training": {"epochs": 1}, "machine": {"device": "cpu"},
    }  # fmt: skip
    save_trained(folder, network.state_dict(), TARGETS, described)
    return folder


def exported_file(root: Path) -> Path:
    """A trained and exported model below a folder; its ONNX file."""
    exported_model(root)
    return root / "onnx" / "baseline-0.onnx"


def exported_model(root: Path) -> Path:
    """A trained and exported model below a folder; the folder of the model."""
    shutil.copytree(exported("baseline-0"), root, dirs_exist_ok=True)
    return root / "models" / "baseline-0"


def two_models(root: Path) -> Path:
    """The same and another, which has the scaled cosine loss."""
    exported_model(root)
    shutil.copytree(exported("other-0", "scaled_cosine"), root, dirs_exist_ok=True)
    return root


@cache
def exported(name: str, loss: str = "cross_entropy", pool: Pool = "max") -> Path:
    """A folder with models/<name> and onnx/<name>.onnx, to be read alone: it takes seconds, once in a process."""
    made = TemporaryDirectory(prefix="fer-model-")
    atexit.register(made.cleanup)
    root = Path(made.name)
    export(save_model(root / "models" / name, loss, pool), root / "onnx" / f"{name}.onnx")
    return root


def photograph(faces: npt.NDArray[np.uint8], size: tuple[int, int] = (640, 400), side: int = 160) -> Image.Image:
    """A grey wall with faces side by side, at half its height."""
    picture = Image.new("RGB", size, (150, 160, 170))
    for number, face in enumerate(faces):
        left = round((number + 0.5) * size[0] / len(faces) - side / 2)
        paste(picture, face, (left, (size[1] - side) // 2, side))
    return picture
