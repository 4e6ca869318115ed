"""A trained network as a folder: it comes back exactly, with its loss, and safely."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.data.fer import LABELS
from pipeline.errors import UserError
from pipeline.files import read_json, write_json
from pipeline.training.losses import ScaledCosine
from pipeline.training.model import FerNet
from pipeline.training.saved_model import classes_of, load_trained, save_trained

DESCRIPTION: dict[str, Any] = {"widths": [4, 6, 8], "output_dim": 5, "mean": 120.0, "std": 60.0}
LOSS: dict[str, Any] = {"name": "scaled_cosine", "options": {"scale": 3.0}, "targets": "some"}
FACTS: dict[str, Any] = {"network": DESCRIPTION, "loss": LOSS}
TARGETS = np.linalg.qr(np.random.default_rng(0).standard_normal((5, 5)))[0][:3]


def network() -> FerNet:
    """A small network with statistics and biases that are not those of a fresh one."""
    torch.manual_seed(0)
    made = FerNet(**DESCRIPTION)
    made.train()
    for _ in range(3):
        made(faces(4))
    return made.eval()


def faces(count: int) -> torch.Tensor:
    return torch.randint(256, (count, 1, 48, 48), generator=torch.Generator().manual_seed(1)).float()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_saved_model_comes_back_exactly(tmp_path: Path, memory_format: torch.memory_format) -> None:
    made = network().to(memory_format=memory_format)  # type: ignore[call-overload]
    save_trained(tmp_path / "new", made.state_dict(), TARGETS, FACTS)
    again, loss = load_trained(tmp_path / "new")
    assert isinstance(loss, ScaledCosine)
    assert loss.scale == LOSS["options"]["scale"]
    torch.testing.assert_close(loss.targets.double(), torch.tensor(TARGETS))
    assert not again.training
    assert again.state_dict().keys() == made.state_dict().keys()
    for name, tensor in made.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)
        assert again.state_dict()[name].dtype == tensor.dtype
    plain = made.to(memory_format=torch.contiguous_format)
    with torch.no_grad():
        assert torch.equal(again(faces(3)), plain(faces(3)))


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        save_trained(tmp_path / name, network().state_dict(), TARGETS, FACTS)
    for name in ("model.safetensors", "model.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def saved(folder: Path) -> Path:
    save_trained(folder, network().state_dict(), TARGETS, FACTS)
    return folder


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_a_missing_file_says_what_to_run(tmp_path: Path, name: str) -> None:
    (saved(tmp_path) / name).unlink()
    with pytest.raises(UserError, match=f"{name} is missing: run `dvc repro` to train this model"):
        load_trained(tmp_path)


def refuse(folder: Path) -> None:
    with pytest.raises(UserError, match=r"The model in .* cannot be read .*: remove the folder and run `dvc repro`"):
        load_trained(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
@pytest.mark.parametrize("share", [0, 0.02, 0.5, 0.99])
def test_a_file_cut_short_is_refused(tmp_path: Path, name: str, share: float) -> None:
    path = saved(tmp_path) / name
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    refuse(tmp_path)


@pytest.mark.parametrize(
    "facts",
    [
        [],
        {},
        {"loss": LOSS},
        FACTS | {"network": None},
        FACTS | {"network": {"widths": [4, 6, 8]}},
        FACTS | {"network": {**DESCRIPTION, "depth": 3}},
        FACTS | {"network": {**DESCRIPTION, "widths": []}},
        FACTS | {"network": {**DESCRIPTION, "widths": "abc"}},
        FACTS | {"network": {**DESCRIPTION, "widths": [4, -6, 8]}},
        FACTS | {"network": {**DESCRIPTION, "widths": [4, 6, 9]}},
        FACTS | {"network": {**DESCRIPTION, "output_dim": 7}},
        FACTS | {"network": {**DESCRIPTION, "mean": "grey"}},
        {"network": DESCRIPTION},
        FACTS | {"loss": None},
        FACTS | {"loss": {**LOSS, "name": "unheard of"}},
        FACTS | {"loss": {**LOSS, "options": {"temperature": 1.0}}},
    ],
)
def test_a_description_that_does_not_fit_is_refused(tmp_path: Path, facts: Any) -> None:
    write_json(saved(tmp_path) / "model.json", facts)
    refuse(tmp_path)


@pytest.mark.parametrize("content", [b"\x00\xff\xfe", b"{", b"null"])
def test_a_description_that_is_no_json_object_is_refused(tmp_path: Path, content: bytes) -> None:
    (saved(tmp_path) / "model.json").write_bytes(content)
    refuse(tmp_path)


@pytest.mark.parametrize("name", ["head.bias", "targets"])
def test_weights_that_do_not_fit_are_refused(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path) / "model.safetensors"
    weights = load_file(path)
    del weights[name]
    save_file(weights, path)
    refuse(tmp_path)


class Bomb:
    """Unpickling this makes a folder: proof that somebody did."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_a_pickle_in_the_place_of_the_weights_is_refused_unread(tmp_path: Path, writer: str) -> None:
    path, crater = saved(tmp_path / "model") / "model.safetensors", tmp_path / "crater"
    if writer == "pickle":
        path.write_bytes(pickle.dumps(Bomb(crater)))
    else:
        torch.save({"head.weight": Bomb(crater)}, path)
    refuse(tmp_path / "model")
    assert not crater.exists()


def test_a_folder_with_a_pickled_model_alone_is_refused(tmp_path: Path) -> None:
    (saved(tmp_path) / "model.safetensors").unlink()
    for name in ("model.pt", "model.pth", "pytorch_model.bin"):
        torch.save(network().state_dict(), tmp_path / name)
    with pytest.raises(UserError, match=r"model\.safetensors is missing"):
        load_trained(tmp_path)


def test_loading_never_unpickles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*args: object, **kwargs: object) -> None:
        raise AssertionError("something was unpickled")

    saved(tmp_path)
    for module, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
        monkeypatch.setattr(module, name, forbidden)
    load_trained(tmp_path)


def test_the_description_is_plain_json(tmp_path: Path) -> None:
    text = (saved(tmp_path) / "model.json").read_text(encoding="utf-8")
    assert json.loads(text) == read_json(tmp_path / "model.json") == FACTS


def test_a_saved_model_knows_its_classes(tmp_path: Path) -> None:
    names = ("calm", "cross", "슬픔")
    save_trained(tmp_path / "new", network().state_dict(), TARGETS, FACTS | {"classes": names})
    assert classes_of(tmp_path / "new") == names
    save_trained(tmp_path / "old", network().state_dict(), TARGETS, FACTS)
    assert classes_of(tmp_path / "old") == LABELS
