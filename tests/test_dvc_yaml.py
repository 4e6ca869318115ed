"""dvc.yaml against what it cannot check itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]


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
    assert list(curves) == [f"models/{model}-{seed}/history.csv" for model in params["grid"]["models"]]


def test_every_dependency_in_the_repository_exists(dvc: dict[str, Any]) -> None:
    outputs = ("data/", "models", "metrics", "predictions", "${")
    deps = [dep for stage in dvc["stages"].values() for dep in stage["deps"]]
    missing = [dep for dep in deps if not dep.startswith(outputs) and not (ROOT / dep).exists()]
    assert missing == []


def test_training_depends_on_the_code_that_names_its_run(dvc: dict[str, Any]) -> None:
    """The digest of a run covers the same modules as DVC's own dependencies."""
    from stages.cell import CODE

    modules = {str(Path(str(module.__file__)).relative_to(ROOT)) for module in CODE}
    assert modules <= set(dvc["stages"]["train"]["deps"])
