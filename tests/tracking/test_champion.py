"""Who becomes champion: the network that PublicTest prefers, and of its seeds the best."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.files import write_json
from pipeline.tracking.champion import champion
from pipeline.workspace import RunKey
from tests.factories import row

ACCURACIES = {("baseline", 0): 0.71, ("baseline", 1): 0.69, ("words", 0): 0.6, ("words", 1): 0.9, ("hog", 0): 0.99}


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for (model, seed), accuracy in ACCURACIES.items():
        run_key = RunKey(model, seed)
        loss = {"classifier": "hog"} if model == "hog" else {"name": "cross_entropy"}
        write_json(run_key.models / "model.json", {"loss": loss})
        # PrivateTest, which must not count, prefers the others.
        write_json(run_key.metrics, {"val": {"accuracy": accuracy}, "test": {"accuracy": 1 - accuracy}})


@pytest.mark.usefixtures("outputs")
def test_public_test_chooses_the_model_then_the_seed() -> None:
    rows = [
        row("baseline", None, val=0.7, seeds=(0, 1)),
        row("words", -0.1, val=0.75, seeds=(0, 1)),
        row("words", 0.2, val=0.8, seeds=(0, 1), decoder="nearest"),
        row("hog", 0.3, val=0.99, seeds=(0,)),
    ]
    found = champion(rows)
    assert found is not None
    assert (found.run_key.name, found.accuracy) == ("words-1", 0.9)
    other = champion([rows[0], row("words", 0.3, val=0.65, seeds=(0, 1)), *rows[2:]])
    assert other is not None
    assert other.run_key.name == "baseline-0", "a row under another decoder does not count"


@pytest.mark.usefixtures("outputs")
def test_a_comparison_without_a_network_has_none() -> None:
    assert champion([row("hog", None, val=0.99, seeds=(0,))]) is None
