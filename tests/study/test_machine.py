"""How a study computes: chosen once, as kept runs have it, and never in two ways for one seed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml

from pipeline import config
from pipeline.errors import UserError
from pipeline.files import write_json
from pipeline.study import block_folder, publish, sweep
from pipeline.study.executor import Executor, Processes
from pipeline.study.jobs import Job
from pipeline.training import autotune
from pipeline.training.autotune import MachineParams
from pipeline.training.hardware import Hardware
from pipeline.workspace import RunKey

ROOT = Path(__file__).parents[2]
KEPT = {"processor": "this", "precision": "fp32", "memory_format": "contiguous", "threads": 1, "compile": False}


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
)
def test_what_was_chosen_is_not_measured_again(
    former: dict[str, Any], threads: int, known: dict[str, Any], asked: list[MachineParams]
) -> None:
    params = config.load(ROOT / "params.yaml")
    found, _ = sweep.machine(params, Processes(1, threads), former)
    assert asked == [replace(params.machine, **known)]
    assert found == {"precision": "bf16", "memory_format": "channels_last", "threads": 2, "compile": False}


def test_what_params_yaml_says_is_never_replaced(asked: list[MachineParams]) -> None:
    params = config.load(ROOT / "params.yaml")
    mine = MachineParams("bf16", "channels_last", 2, True)
    sweep.machine(replace(params, machine=mine), Processes(1, 4), KEPT)
    assert asked == [mine]


HERE = Processes(1, 1)
CLUSTER = cast(Executor, SimpleNamespace(chooses_machines=True))


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

    def require(model: str, *seeds: int, machine: dict[str, Any], executor: Executor = HERE) -> dict[int, Any]:
        missing = [RunKey(model, seed) for seed in seeds]
        return sweep.machines_of_seeds(folder, rows, missing, machine | {"instructions": "1a2b"}, params, executor)

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
        for executor in (HERE, CLUSTER):
            with pytest.raises(UserError, match=rf"^baseline-{seed} .*\(threads\).* seed {seed} out with `--seed`"):
                require(model, 1, seed, machine=machine, executor=executor)

    # On a cluster, where the first node that answers may be of another kind, each seed keeps its own.
    params = replace(params, machine=MachineParams("fp32", "contiguous", 1, False))
    measured = KEPT | {"processor": "another"}
    with pytest.raises(UserError, match=r"\(processor\)"):
        require("w2v_cosine", 0, machine=measured)
    assert require("w2v_cosine", 0, 1, machine=measured, executor=CLUSTER) == {0: KEPT}

    # Also where that node cannot compute as the settings say, but only runs that were computed as they say.
    without_bf16 = measured | {"precision": "fp32"}
    keep("baseline", 12, KEPT | {"precision": "bf16"}, recipe={})
    params = replace(params, machine=MachineParams("bf16", "contiguous", 1, False))
    assert require("w2v_cosine", 12, machine=without_bf16, executor=CLUSTER) == {12: KEPT | {"precision": "bf16"}}
    with pytest.raises(UserError, match=r"\(processor\)"):
        require("w2v_cosine", 0, machine=without_bf16, executor=CLUSTER)


def test_a_node_that_cannot_compute_so_changes_nothing_for_the_others(asked: list[MachineParams]) -> None:
    """It falls back to fp32, also where runs are kept in bf16."""
    params = config.load(ROOT / "params.yaml")
    measured = Hardware("cpu", "fp32", "contiguous", 1)
    chosen = {"precision": "fp32", "memory_format": "contiguous", "threads": 1, "compile": False}
    answer = {"chosen": chosen, "environment": asdict(measured), "instructions": "1a2b"}
    former = KEPT | {"precision": "bf16"}
    for chooses, expected in ((True, "bf16"), (False, "fp32")):
        one = SimpleNamespace(threads=1, chooses_machines=chooses, measure=lambda requested: answer)
        found, environment = sweep.machine(params, cast(Executor, one), former)
        assert found == chosen | {"precision": expected}
        assert (environment["precision"], environment["instructions"]) == ("fp32", "1a2b")


class Listening:
    """An executor that computes as it is asked to, and does no job."""

    threads, place, options, chooses_machines = 1, "nowhere", (), False

    @contextlib.contextmanager
    def executor(self) -> Iterator[Listening]:
        yield self

    def measure(self, requested: MachineParams) -> dict[str, Any]:
        chosen = {name: getattr(requested, name) for name in ("precision", "memory_format", "threads")}
        return {"chosen": chosen | {"compile": False}, "environment": KEPT | chosen, "instructions": "1a2b"}


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """The jobs of a sweep or a search in a repository whose seed 0 was trained in bf16 and seed 1 in fp32."""
    found: list[Job] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    settings = yaml.safe_load((ROOT / "params.yaml").read_text())
    settings["grid"] = {"models": ["baseline", "w2v_cosine"], "seeds": [0, 1]}
    settings["machine"] |= {"precision": "auto", "memory_format": "contiguous", "threads": 1}
    Path("params.yaml").write_text(yaml.safe_dump(settings))
    for seed, precision in ((0, "bf16"), (1, "fp32")):
        for row in ("baseline", "w2v_cosine"):
            run = {"seed": seed, "settings": {"recipe": {}}, "machine": KEPT | {"precision": precision}}
            write_json(tmp_path / f"results/drawn/runs/{row}-{seed}.json", run)
    monkeypatch.setattr(sweep, "dataset_name", lambda: "drawn")
    monkeypatch.setattr(block_folder, "entered", lambda name: contextlib.nullcontext())
    monkeypatch.setattr(block_folder, "bring_data", lambda settings: None)
    monkeypatch.setattr(block_folder, "write_targets", lambda: None)
    monkeypatch.setattr(sweep, "carry_out", lambda made, *_: found.extend(made))
    return found


@pytest.mark.parametrize(("seed", "precision"), [(0, "bf16"), (1, "fp32")])
def test_a_run_that_is_out_of_date_is_made_as_the_others_of_its_seed_were(
    seed: int, precision: str, jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    stale = RunKey("w2v_cosine", seed)
    monkeypatch.setattr(publish, "is_kept", lambda folder, run_key, params: run_key != stale)
    sweep.sweep(None, cast(Any, Listening()))
    assert [(job.name, job.environment["precision"]) for job in jobs] == [(stale.name, precision)]


def test_a_search_is_done_on_one_kind_of_machine_too(jobs: list[Job]) -> None:
    block = {"question": "?", "recipe": "fast", "seeds": [0], "baseline": "baseline", "models": ["baseline"]}
    Path("study.yaml").write_text(yaml.safe_dump({"blocks": {"T": block | {"search": {}}}}))
    sweep.search("T", cast(Any, Listening()))
    assert [job.environment["processor"] for job in jobs] == [KEPT["processor"]]
