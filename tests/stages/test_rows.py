"""Every row of params.yaml trains, is measured and compared; some of them as a user would run them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

from tests.clone import ROOT, Clone

pytestmark = pytest.mark.slow

MODELS: dict[str, dict[str, object]] = yaml.safe_load((ROOT / "params.yaml").read_text())["models"]
SYSTEMS = [name for name, row in MODELS.items() if row.keys() & {"labels", "mix", "policy", "memory", "consistency"}]
SYSTEMS += [name for name, row in MODELS.items() if row.get("loss") in ("relative_uncertainty", "self_cure")]
SYSTEMS += ["mean_pool", "twice_the_epochs"]

STAGES = """
import sys
from stages import compare, evaluate, targets, train

evaluate.draw = lambda *_: None  # most of the time; drawing has tests of its own
targets.main()
for model in sys.argv[1:]:
    train.main(model, 0)
    evaluate.main(model, 0)
compare.main()
"""
"""The stages from targets on, in one process."""


def test_every_system_trains_and_is_compared(finished: Clone, tmp_path: Path) -> None:
    clone = finished.copy(tmp_path / "fer", FER_TRACKING="off")
    names = list(dict.fromkeys(["baseline", *SYSTEMS]))
    assert len(names) > 25
    clone.set({"grid.models": names, "recipes.fast.epochs": 2, "machine.threads": 1})
    clone.run(sys.executable, "-c", STAGES, *names)
    table = json.loads((clone.path / "outputs/reports/ablation.json").read_text())
    assert list(dict.fromkeys(row["model"] for row in table)) == names
    for row in table[2:]:
        assert 0 <= row["test.accuracy"]["mean"] <= 1
        assert "difference" in row["test.accuracy"]
    for name in names:
        history = (clone.path / f"outputs/models/{name}-0/history.csv").read_text().splitlines()
        assert len(history) == 1 + (4 if name == "twice_the_epochs" else 2)
        metrics = json.loads((clone.path / f"outputs/metrics/{name}-0.json").read_text())
        own = name in ("rul", "rul_equal", "scn", "scn_relabel")
        assert (metrics["test"]["votes"]["uncertainty"] != metrics["test"]["votes"]["entropy"]) == own
    described = json.loads((clone.path / "outputs/models/eac-0/model.json").read_text())
    assert described["loss"]["consistency"] == MODELS["eac"]["consistency"]
    flop = {
        name: json.loads((clone.path / f"outputs/models/{name}-0/model.json").read_text())["training"]["flop"]
        for name in ("baseline", "eac", "twice_the_epochs")
    }
    assert flop["eac"] == flop["twice_the_epochs"] == 2 * flop["baseline"]


def test_an_experiment_adds_a_system_to_the_table_and_a_choice_makes_its_model_alone_stale(
    finished: Clone, tmp_path: Path
) -> None:
    clone = finished.copy(tmp_path / "fer")
    clone.dvc("exp", "run", "-S", "grid.models=[baseline,scn_relabel]")
    assert "scn_relabel" in (clone.path / "outputs/reports/ablation.md").read_text()
    runs = {run.info.run_name: run for run in clone.runs()["synthetic"]}
    assert runs["scn_relabel-0"].data.params["model.memory.margin"] == "0.2"
    assert "test.votes.uncertainty" in runs["scn_relabel-0"].data.metrics

    clone.set({"models.scn_relabel.memory.margin": 0.3})
    clone.dvc("repro", "targets")  # which passes on to each training what concerns it
    stale = json.loads(clone.dvc("status", "--json"))
    assert {name for name in stale if name.startswith("train@")} == {"train@scn_relabel-0"}
