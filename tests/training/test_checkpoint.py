"""A checkpoint gives back exactly what was saved, survives a crash while saving, and knows damage."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from pipeline.errors import UserError
from pipeline.training import checkpoint as module
from pipeline.training.checkpoint import Checkpoint

FACTS = {"history": [{"epoch": 0, "val_loss": 0.1 + 0.2, "learning_rate": 1e-17}], "best_epoch": 0, "seconds": 1 / 3}


def groups() -> dict[str, dict[str, Tensor]]:
    torch.manual_seed(0)
    weight = torch.randn(4, 3, 3, 3).to(memory_format=torch.channels_last)
    return {
        "network": {"stem.1.weight": weight, "norm.num_batches_tracked": torch.tensor(7)},
        "average": {"stem.1.weight": weight, "nothing": torch.zeros(0)},  # the same memory under two names
        "momentum": {"0": torch.randn(5).bfloat16(), "1": torch.randn(2, requires_grad=True)},
    }


def stored(folder: Path) -> Checkpoint:
    checkpoint = Checkpoint(folder / "new" / "state.safetensors")
    checkpoint.save(groups(), FACTS)
    return checkpoint


def test_there_is_nothing_at_first(tmp_path: Path) -> None:
    assert Checkpoint(tmp_path / "state.safetensors").load() is None


def test_what_was_saved_comes_back_exactly(tmp_path: Path) -> None:
    loaded = stored(tmp_path).load()
    assert loaded is not None
    found, facts = loaded
    assert facts == FACTS
    assert {name: set(named) for name, named in found.items()} == {name: set(named) for name, named in groups().items()}
    for group, named in groups().items():
        for name, tensor in named.items():
            assert found[group][name].dtype == tensor.dtype
            assert torch.equal(found[group][name], tensor)


def test_saving_again_replaces_the_state(tmp_path: Path) -> None:
    checkpoint = stored(tmp_path)
    checkpoint.save({"network": {"a": torch.ones(1)}}, {"best_epoch": 3})
    loaded = checkpoint.load()
    assert loaded is not None
    assert set(loaded[0]) == {"network"}
    assert loaded[1] == {"best_epoch": 3}


def test_a_crash_while_saving_leaves_the_previous_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = stored(tmp_path)

    def half(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
        path.write_bytes(b"half a file")
        raise OSError("disk full")

    monkeypatch.setattr(module, "save_file", half)
    with pytest.raises(OSError, match="disk full"):
        checkpoint.save({"network": {"a": torch.ones(1)}}, {})
    loaded = checkpoint.load()
    assert loaded is not None
    assert loaded[1] == FACTS
    assert os.listdir(checkpoint.path.parent) == [checkpoint.path.name]


def test_removing_forgets_and_may_be_repeated(tmp_path: Path) -> None:
    checkpoint = stored(tmp_path)
    checkpoint.remove()
    checkpoint.remove()
    assert checkpoint.load() is None
    assert os.listdir(checkpoint.path.parent) == []


def refuse(checkpoint: Checkpoint) -> None:
    with pytest.raises(UserError, match=r"The checkpoint .* is damaged .*: remove it to train from the start"):
        checkpoint.load()


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_a_file_cut_short_is_refused(tmp_path: Path, share: float) -> None:
    checkpoint = stored(tmp_path)
    content = checkpoint.path.read_bytes()
    checkpoint.path.write_bytes(content[: int(share * len(content))])
    refuse(checkpoint)


@pytest.mark.parametrize("metadata", [None, {}, {"other": "1"}, {"facts": "{"}])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    checkpoint = Checkpoint(tmp_path / "state.safetensors")
    save_file({"network/a": torch.ones(1)}, checkpoint.path, metadata=metadata)
    refuse(checkpoint)


def test_tensors_without_a_group_are_refused(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "state.safetensors")
    save_file({"weight": torch.ones(1)}, checkpoint.path, metadata={"facts": "{}"})
    refuse(checkpoint)
