"""dvc.yaml against what it cannot check itself."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import fingerprint, workspace
from pipeline.classical import code as classical
from pipeline.study import block_folder

ROOT = Path(__file__).parents[1]

NO_EFFECT = {
    "pipeline/cli.py",  # reads the command line, which DVC compares by value
    "pipeline/config.py",  # reads params, which DVC compares by value
    "pipeline/schema.py",  # the same
    "pipeline/console.py",  # what a terminal shows
    "pipeline/errors.py",
    "pipeline/files.py",  # how files are written, not what is in them
    "pipeline/tracking",  # MLflow shows outputs and makes none
    "pipeline/trouble.py",  # sentences on what ends a stage
    "pipeline/workspace.py",  # where files are and which of them are the user's: dvc.yaml names them too
}
"""Code that no output of a stage depends on, or that cannot change without a change that DVC sees."""


@pytest.fixture
def dvc() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "dvc.yaml").read_text()))


@pytest.fixture
def params() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "params.yaml").read_text()))


def test_plots_list_every_model_of_the_grid(dvc: dict[str, Any], params: dict[str, Any]) -> None:
    """`plots:` has no loop, so the list is written by hand: this holds it against params.yaml."""
    curves = dvc["plots"][0]["validation accuracy"]["y"]
    seed = params["grid"]["seeds"][0]
    assert list(curves) == [f"outputs/models/{model}-{seed}/history.csv" for model in params["grid"]["models"]]


def test_every_dependency_in_the_repository_exists(dvc: dict[str, Any]) -> None:
    outputs = ("outputs/", "${")
    deps = [dep for stage in dvc["stages"].values() for dep in stage["deps"]]
    missing = [dep for dep in deps if not dep.startswith(outputs) and not (ROOT / dep).exists()]
    assert missing == []


def imports(file: Path) -> set[Path]:
    """The modules of this repository that a file names in its imports, wherever in it they stand."""
    names: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    candidates = {Path(*name.split(".")).with_suffix(".py") for name in names}
    return {path for path in candidates if (ROOT / path).is_file()}


def covers(entry: str, path: Path) -> bool:
    """Whether a dependency, a file or a folder, holds a module."""
    return path.is_relative_to(entry)


def reached(file: Path) -> set[Path]:
    """All modules that a stage runs through, but for those without effect on its outputs and what only they reach."""
    found: set[Path] = set()
    to_do = [file]
    while to_do:
        path = to_do.pop()
        if path not in found and not any(covers(entry, path) for entry in NO_EFFECT):
            found.add(path)
            to_do += imports(path)
    return found


STAGES = ["fetch", "prepare", "landmarks", "embed", "targets", "train", "export", "evaluate", "compare"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_code_it_runs_through_and_on_no_other(dvc: dict[str, Any], stage: str) -> None:
    """A change of code that can change an output makes it stale. A folder is one dependency.

    The code of classifiers is none of train, which depends on its digests where they matter.
    """
    code = {dep for dep in dvc["stages"][stage]["deps"] if dep.startswith(("pipeline/", "stages/"))}
    if stage == "train":
        assert code.isdisjoint(classical.FOLDERS)
        assert "outputs/targets/${item.model}-${item.seed}.choices.json" in dvc["stages"]["train"]["deps"]
        code |= set(classical.FOLDERS)
    modules = reached(Path(f"stages/{stage}.py"))
    assert {path.as_posix() for path in modules if not any(covers(entry, path) for entry in code)} == set()
    assert {entry for entry in code if not any(covers(entry, path) for path in modules)} == set()


def test_the_stages_are_those_of_the_test_above(dvc: dict[str, Any]) -> None:
    assert list(dvc["stages"]) == STAGES


def test_the_data_of_a_block_are_made_again_for_changes_of_the_code_that_makes_them_for_dvc(
    dvc: dict[str, Any],
) -> None:
    names = [stage.__name__.rpartition(".")[2] for stage in block_folder.DATA_STAGES]
    deps = {dep for name in names for dep in dvc["stages"][name]["deps"] if dep.startswith("pipeline/")}
    assert {dep for dep in deps if not any(covers(entry, Path(dep)) for entry in block_folder.CODE)} == set()


def test_dvc_empties_no_folder_before_a_stage_starts(dvc: dict[str, Any]) -> None:
    """An output is a file, or a folder of which DVC keeps its hands off."""
    for stage in dvc["stages"].values():
        for out in (*stage["outs"], *stage.get("metrics", ())):
            assert Path(out).suffix if isinstance(out, str) else all(how["persist"] for how in out.values())


def test_the_pictures_of_the_data_set_are_not_pushed(dvc: dict[str, Any]) -> None:
    """And everything else is: tests/test_remote.py pushes it."""
    outs = [out for stage in dvc["stages"].values() for out in stage["outs"] if not isinstance(out, str)]
    kept = {name for out in outs for name, how in out.items() if not how.get("push", True)}
    assert kept == {"outputs/raw", "outputs/prepared"}


def test_every_file_of_a_cell_is_an_output(dvc: dict[str, Any]) -> None:
    key = "${item.model}-${item.seed}"
    outs = [out for stage in ("train", "evaluate", "export") for out in dvc["stages"][stage]["outs"]]
    for folder in ("models", "figures", "predictions", "onnx"):
        names = {f"outputs/{folder}/{pattern.replace('*-[0-9]*', key)}" for pattern in workspace.WRITTEN[folder]}
        assert names == {out for out in outs if out.startswith(f"outputs/{folder}/")}


def test_vectors_of_every_set_of_words_are_a_dependency(dvc: dict[str, Any], params: dict[str, Any]) -> None:
    written = {dep for dep in dvc["stages"]["embed"]["deps"] if dep.startswith("${")}
    named = {dep: params["labels"][dep.split(".")[1]]["vectors"] for dep in written}
    assert set(named.values()) == {words["vectors"] for words in params["labels"].values()}


def test_training_depends_on_the_code_that_names_its_run(dvc: dict[str, Any]) -> None:
    """What makes a finished training stale for DVC also keeps an interrupted one from being resumed."""
    deps = dvc["stages"]["train"]["deps"]
    assert list(fingerprint.CODE) == [dep for dep in deps if dep.startswith(("pipeline/", "stages/"))]
    known = fingerprint.code_digests() | classical.digests()
    assert set(known) >= {path.as_posix() for path in reached(Path("stages/train.py"))}
