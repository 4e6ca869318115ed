"""How a study computes: chosen once, as kept runs have it, and never in two ways for one seed."""

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
    folder, params = tmp_path / "results", config.load(ROOT / "params.yaml")
    other = {name: value for name, value in KEPT.items() if name != "threads"}
    rows = ("baseline", "w2v_cosine", "hog")
    assert publish.numerics_in(folder) == {}

    def keep(name: str, seed: int, machine: dict[str, Any], **recipe: Any) -> None:
        run = {"seed": seed, "settings": recipe, "machine": machine}
        write_json(folder / f"runs/{name}-{seed}.json", run)

    def require(model: str, *seeds: int, machine: dict[str, Any]) -> None:
        sweep.require_same_machine(folder, rows, [RunKey(model, seed) for seed in seeds], machine, params)

    keep("baseline", 0, KEPT, recipe={})
    keep("hog", 11, {"processor": "that"})
    assert publish.numerics_in(folder) == KEPT
    keep("baseline", 10, other, recipe={})
    assert publish.numerics_in(folder, {0}) == KEPT
    assert publish.numerics_in(folder, {10, 11}) == other

    require("w2v_cosine", 0, machine=KEPT)
    require("w2v_cosine", 1, 10, 11, machine=other)
    require("hog", 0, machine=other)  # no network
    require("baseline", 0, machine=other)  # the kept one is out of date
    for machine, seed, model in ((other, 0, "w2v_cosine"), (KEPT, 10, "w2v_cosine")):
        with pytest.raises(
            UserError, match=rf"^baseline-{seed} .*\(threads\).* seed {seed} out with `--seed`"
        ):
            require(model, 1, seed, machine=machine)
