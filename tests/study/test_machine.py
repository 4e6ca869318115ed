"""How a study computes: chosen once, as kept runs have it, and never in two ways in one folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline import config
from pipeline.errors import UserError
from pipeline.files import write_json
from pipeline.study import publish, sweep
from pipeline.study.engine import Processes
from pipeline.training import autotune
from pipeline.training.autotune import MachineParams
from pipeline.training.hardware import Hardware
from pipeline.workspace import RunKey

ROOT = Path(__file__).parents[2]
KEPT = {
    "processor": "this",
    "precision": "fp32",
    "memory_format": "contiguous",
    "threads": 1,
    "compile": False,
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[MachineParams]:
    """What is asked of the measurement, in turn."""
    found: list[MachineParams] = []

    def choose(requested: MachineParams) -> Hardware:
        found.append(requested)
        return Hardware("cpu", "bf16", "channels_last", 2)

    monkeypatch.setattr(autotune, "choose", choose)
    return found


@pytest.mark.parametrize(
    ("former", "threads", "known"),
    [
        ({}, 4, {}),
        (KEPT, 4, {"precision": "fp32", "memory_format": "contiguous", "threads": 1}),
        (KEPT | {"threads": 8}, 4, {"precision": "fp32", "memory_format": "contiguous"}),
        ({"precision": "bf16"}, 4, {"precision": "bf16"}),
    ],
)  # fmt: skip
def test_what_was_chosen_is_not_measured_again(
    former: dict[str, Any], threads: int, known: dict[str, Any], asked: list[MachineParams]
) -> None:
    params = config.load(ROOT / "params.yaml")
    found = sweep.machine(params, Processes(1, threads), former)
    assert asked == [replace(params.machine, **known)]
    assert found == {"precision": "bf16", "memory_format": "channels_last", "threads": 2, "compile": False}


def test_what_params_yaml_says_is_never_replaced(asked: list[MachineParams]) -> None:
    params = config.load(ROOT / "params.yaml")
    mine = MachineParams("bf16", "channels_last", 2, True)
    sweep.machine(replace(params, machine=mine), Processes(1, 4), KEPT)
    assert asked == [mine]


def test_networks_of_another_machine_are_refused_beside_those_of_their_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder, network, classifier = tmp_path / "results", RunKey("baseline", 0), RunKey("hog", 0)
    assert publish.numerics_in(folder) == {}
    write_json(folder / "runs/baseline-0.json", {"seed": 0, "settings": {"recipe": {}}, "machine": KEPT})
    write_json(folder / "runs/hog-0.json", {"seed": 0, "settings": {}, "machine": {"processor": "that"}})
    assert publish.numerics_in(folder) == KEPT
    other, later = KEPT | {"threads": 2}, RunKey("baseline", 1)
    sweep.require_same_machine(folder, {network, classifier}, [RunKey("w2v_cosine", 0)], KEPT)
    sweep.require_same_machine(folder, {classifier}, [RunKey("w2v_cosine", 0)], other)
    sweep.require_same_machine(folder, {network, classifier}, [later], other)
    with pytest.raises(UserError, match=r"baseline-0 .*\(threads\).* runs of seed 0 "):
        sweep.require_same_machine(folder, {network, classifier}, [later, RunKey("w2v_cosine", 0)], other)
    write_json(folder / "runs/baseline-10.json", {"seed": 10, "settings": {"recipe": {}}, "machine": other})
    write_json(folder / "runs/baseline-2.json", {"seed": 2, "settings": {"recipe": {}}, "machine": KEPT})
    assert publish.numerics_in(folder) == other
