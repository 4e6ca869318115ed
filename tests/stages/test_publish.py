"""What publish keeps in git: made as params.yaml says, no single person, no folder of its owner."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.publish import without_folders
from tests.clone import Clone


@pytest.mark.slow
@pytest.mark.xdist_group("pipeline")
def test_publish_keeps_what_shows_no_single_person(finished: Clone, tmp_path: Path) -> None:
    clone = finished.copy(tmp_path / "fer")
    clone.stage("publish")
    kept = {
        str(path.relative_to(clone.path / "results/synthetic"))
        for path in clone.path.glob("results/synthetic/**/*.*")
    }
    assert {"params.yaml", "dvc.lock", "runs/baseline-0.json", "runs/baseline-0.npz"} <= kept
    assert "figures/baseline-0/class_heat_maps.png" in kept
    assert not [name for name in kept if "mistakes" in name or name.endswith("/heat_maps.png")]

    clone.set({"recipes.fast.weight_decay": 0.123})
    refused = clone.stage("publish", expect=1)
    assert refused.stderr.startswith(
        "error: baseline-0, w2v_cosine-0: not made with what params.yaml says now"
    )


def test_what_is_kept_does_not_tell_where_the_data_are() -> None:
    text = "  path: /home/me/my data/fer2013.csv # archive\n  votes: ../fer2013new.csv\n- path: outputs/raw\n"
    for path in ("/home/me/my data/fer2013.csv", "../fer2013new.csv", "", ".", "data"):
        text = without_folders(text, path)
    assert text == "  path: fer2013.csv # archive\n  votes: fer2013new.csv\n- path: outputs/raw\n"
    assert (
        without_folders("        data.path: ~/faces.zip\n", "~/faces.zip") == "        data.path: faces.zip\n"
    )
