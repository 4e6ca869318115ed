"""The network's shapes and number formats, and that a saved one comes back exactly and safely."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.errors import UserError
from pipeline.files import read_json, write_json
from pipeline.model import Block, Classifier, FerNet, load_model, save_model

DESCRIPTION: dict[str, Any] = {"widths": [4, 6, 8], "outputs": 5, "mean": 120.0, "std": 60.0}


def network(seed: int = 0) -> FerNet:
    """A small network with statistics and biases that are not those of a fresh one."""
    torch.manual_seed(seed)
    made = FerNet(**DESCRIPTION)
    made.train()
    for _ in range(3):
        made(faces(4))
    return made.eval()


def faces(count: int, size: int = 48, seed: int = 1) -> torch.Tensor:
    return torch.randint(256, (count, 1, size, size), generator=torch.Generator().manual_seed(seed)).float()


@pytest.mark.parametrize("size", [48, 44, 40, 36, 18, 8, 2])
def test_any_even_size_gives_one_row_of_outputs_per_image(size: int) -> None:
    with torch.no_grad():
        output = network()(faces(3, size))
    assert output.shape == (3, 5)
    assert output.dtype == torch.float32
    assert torch.isfinite(output).all()


@pytest.mark.parametrize(("size", "halved"), [(24, 12), (22, 11), (11, 6), (9, 5), (1, 1)])
def test_a_block_halves_the_size_and_rounds_up(size: int, halved: int) -> None:
    assert Block(4, 6).eval()(torch.zeros(2, 4, size, size)).shape == (2, 6, halved, halved)


def test_odd_sizes_lose_no_pixel() -> None:
    """The last row and column of 44 -> 22 -> 11 -> 6 still reach the output."""
    block = Block(1, 1).eval()
    torch.nn.init.ones_(block.conv1.weight)
    torch.nn.init.ones_(block.conv2.weight)
    corner = torch.zeros(1, 1, 11, 11)
    corner[..., -1, -1] = 1
    assert block(corner)[0, 0, -1, -1] > 0


def test_images_are_standardised_by_the_network_itself() -> None:
    images, made = faces(3), network()
    plain = FerNet(**{**DESCRIPTION, "mean": 0.0, "std": 1.0})
    plain.load_state_dict({**made.state_dict(), "mean": torch.tensor(0.0), "std": torch.tensor(1.0)})
    with torch.no_grad():
        torch.testing.assert_close(made(images), plain.eval()((images - 120) / 60))


def test_no_place_in_the_image_is_preferred() -> None:
    """The maximum over positions: a pattern far from the border gives the same output anywhere."""
    made = network()
    images = torch.full((2, 1, 96, 96), 120.0)
    patch = faces(1, 12)[0, 0]
    images[0, 0, 40:52, 40:52] = patch
    images[1, 0, 32:44, 48:60] = patch  # moved by 8 pixels, the stride of the whole network
    with torch.no_grad():
        first, second = made(images)
    torch.testing.assert_close(first, second)


def test_channels_last_gives_the_same_output() -> None:
    images, made = faces(3), network()
    with torch.no_grad():
        expected = made(images)
        made = made.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        found = made(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_the_head_stays_in_float32_under_autocast() -> None:
    made, seen = network(), []
    made.blocks.register_forward_hook(lambda *args: seen.append(args[2].dtype))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        output = made(faces(3))
    with torch.no_grad():
        exact = made(faces(3))
    assert seen == [torch.bfloat16, torch.float32]
    assert output.dtype == torch.float32
    torch.testing.assert_close(output, exact, atol=0.05, rtol=0.05)


def test_a_classifier_gives_probabilities() -> None:
    made = network()
    classifier = Classifier(made, lambda output: 3 * output).eval()
    with torch.no_grad():
        found, expected = classifier(faces(4)), (3 * made(faces(4))).softmax(1)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found.sum(1), torch.ones(4))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_saved_model_comes_back_exactly(tmp_path: Path, memory_format: torch.memory_format) -> None:
    made = network().to(memory_format=memory_format)  # type: ignore[call-overload]
    facts = {"network": DESCRIPTION, "model": "baseline", "training": {"seconds": 1.5}}
    save_model(tmp_path / "new", made.state_dict(), facts)
    again, read = load_model(tmp_path / "new")
    assert read == facts
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
        save_model(tmp_path / name, network().state_dict(), {"network": DESCRIPTION})
    for name in ("model.safetensors", "model.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def saved(folder: Path) -> Path:
    save_model(folder, network().state_dict(), {"network": DESCRIPTION})
    return folder


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_a_missing_file_says_what_to_run(tmp_path: Path, name: str) -> None:
    (saved(tmp_path) / name).unlink()
    with pytest.raises(UserError, match=f"{name} is missing: run `dvc repro` to train this model"):
        load_model(tmp_path)


def refuse(folder: Path) -> None:
    with pytest.raises(
        UserError, match=r"The model in .* cannot be read .*: remove the folder and run `dvc repro`"
    ):
        load_model(folder)


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
        {"network": None},
        {"network": {"widths": [4, 6, 8]}},
        {"network": {**DESCRIPTION, "depth": 3}},
        {"network": {**DESCRIPTION, "widths": []}},
        {"network": {**DESCRIPTION, "widths": "abc"}},
        {"network": {**DESCRIPTION, "widths": [4, -6, 8]}},
        {"network": {**DESCRIPTION, "widths": [4, 6, 9]}},
        {"network": {**DESCRIPTION, "outputs": 7}},
        {"network": {**DESCRIPTION, "mean": "grey"}},
    ],
)
def test_a_description_that_does_not_fit_is_refused(tmp_path: Path, facts: Any) -> None:
    write_json(saved(tmp_path) / "model.json", facts)
    refuse(tmp_path)


@pytest.mark.parametrize("content", [b"\x00\xff\xfe", b"{", b"null"])
def test_a_description_that_is_no_json_object_is_refused(tmp_path: Path, content: bytes) -> None:
    (saved(tmp_path) / "model.json").write_bytes(content)
    refuse(tmp_path)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path) / "model.safetensors"
    weights = load_file(path)
    del weights["head.bias"]
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
        load_model(tmp_path)


def test_loading_never_unpickles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*args: object, **kwargs: object) -> None:
        raise AssertionError("something was unpickled")

    saved(tmp_path)
    for module, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
        monkeypatch.setattr(module, name, forbidden)
    load_model(tmp_path)


def test_the_description_is_plain_json(tmp_path: Path) -> None:
    text = (saved(tmp_path) / "model.json").read_text(encoding="utf-8")
    assert json.loads(text) == read_json(tmp_path / "model.json") == {"network": DESCRIPTION}
