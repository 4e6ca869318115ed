"""What publish keeps in git: made as params.yaml says, no single person, no folder of its owner."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

import pytest
import yaml
from dvc.utils.serialize import dumps_yaml, parse_yaml

from pipeline import cli
from pipeline.__main__ import fer
from pipeline.study import publish
from pipeline.study.publish import without_folders
from pipeline.workspace import PREPARED, RunKey
from tests.clone import ROOT, Clone


@pytest.mark.slow
def test_publish_keeps_what_shows_no_single_person(
    finished: Clone, tmp_path: Path, fer_in: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    clone = finished.copy(tmp_path / "fer", FER_TRACKING="off")
    fer_in(clone, "publish")
    kept = {
        str(path.relative_to(clone.path / "results/synthetic")) for path in clone.path.glob("results/synthetic/**/*.*")
    }
    assert {"params.yaml", "dvc.lock", "runs/baseline-0.json", "runs/baseline-0.npz"} <= kept
    assert "figures/baseline-0/class_heat_maps.png" in kept
    assert not [name for name in kept if "mistakes" in name or name.endswith("/heat_maps.png")]

    clone.set({"recipes.fast.weight_decay": 0.123})
    with pytest.raises(SystemExit):
        fer_in(clone, "publish")
    assert capsys.readouterr().err.startswith(
        "error: baseline-0, w2v_cosine-0: made with other settings than params.yaml has now"
    )


def test_a_name_that_is_none_publishes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is something to publish: the name leads neither elsewhere nor into the study's own folders."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    for file, text in (
        (RunKey("baseline", 0).metrics, "{}"),
        (PREPARED / "checks.json", '{"dataset": "drawn"}'),
        (Path("results/drawn/README.md"), "mine"),
    ):
        file.parent.mkdir(parents=True)
        file.write_text(text)
    kept: list[Path] = []
    monkeypatch.setattr(publish, "as_configured", lambda *_: True)
    monkeypatch.setattr(publish, "keep", lambda folder, finished, origin: kept.append(folder))
    wrong = ["--help", "-h", "--nope", "", " ", ".", "..", "../a", "a/b", "/a", "a\\b"]
    for name in [*wrong, "runs", "figures", "B", "D2", "README.md"]:
        for arguments in ([name], ["--", name]):
            with contextlib.suppress(SystemExit):
                cli.run(fer, ["publish", *arguments])
            assert kept == [], arguments
    cli.run(fer, ["publish", "other processor"])
    cli.run(fer, ["publish"])
    assert kept == [Path("results/drawn/other processor"), Path("results/drawn")]


PATHS = [
    *("/home/me/my data/fer2013.csv", "../fer2013new.csv", "~/faces.zip", "/data/fer (1).csv", "/home/j/it's.csv"),
    *("/home/me/données/张 #1, new.csv", "/mnt/" + "a long folder name " * 12 + "/vectors.bin", "C: x/y: z.csv"),
]


@pytest.mark.parametrize("dump", [yaml.safe_dump, dumps_yaml], ids=["PyYAML", "DVC"])
def test_what_is_kept_does_not_tell_where_the_data_are(dump: Callable[[Any], str]) -> None:
    """However the path is written: plain, in either quotes, or folded over several lines."""
    value = {"data": {"path": PATHS[0], "votes": PATHS[1]}, "data.path": PATHS[2], "list": PATHS, "out": "outputs"}
    kept = yaml.safe_load(without_folders(dump(value), [*PATHS, "", "."]))
    assert kept["list"] == [PurePath(path).name for path in PATHS]
    assert kept["data"] == {"path": "fer2013.csv", "votes": "fer2013new.csv"}
    assert (kept["data.path"], kept["out"]) == ("faces.zip", "outputs")


def test_an_alias_stays_the_alias_of_what_is_kept() -> None:
    text = "a: {x: &v /me/words.bin, y: 1}\nb: {x: *v}\nc: [&w !!str '/me/w 1.bin', *w]\n"
    kept = without_folders(text, ["/me/words.bin", "/me/w 1.bin"])
    assert yaml.safe_load(kept) == {
        "a": {"x": "words.bin", "y": 1}, "b": {"x": "words.bin"}, "c": ["w 1.bin", "w 1.bin"]
    }  # fmt: skip
    assert "*v" in kept


@pytest.mark.parametrize(
    "name", ["2024-05-01", "true", "no", "null", "1e5", "0x1f", "12", "~", "a: b", "é.csv", "b.bin"]
)
def test_a_name_stays_text(name: str) -> None:
    path = f"/me/{name}"
    for load in (yaml.safe_load, lambda text: parse_yaml(text, "params.yaml")):
        assert load(without_folders(f"path: {path!r}\n", [path])) == {"path": name}


def test_a_run_without_figures_of_its_own_has_none_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first, second, folder = RunKey("baseline", 0), RunKey("baseline", 1), Path("results")
    for name in publish.SHOWABLE:
        (first.figures / name).parent.mkdir(parents=True, exist_ok=True)
        (first.figures / name).write_text(name)
    assert not publish.has_figures(folder, first)
    publish.keep_figures(folder, first)
    assert publish.has_figures(folder, first)
    assert {path.name for path in folder.rglob("*.png")} == {*publish.SHOWABLE}
    (folder / "figures/baseline-0/mine.txt").write_text("mine")
    publish.remove_figures(folder, first)
    assert not publish.has_figures(folder, first)
    assert [path.name for path in folder.rglob("*.*")] == ["mine.txt"]
    publish.keep_figures(folder, second)
    assert publish.has_figures(folder, second), "one picture of each model is enough"


def test_comments_and_what_belongs_to_the_repository_stay() -> None:
    text = "data:\n  path: /me/fer2013.csv # archive\nvectors: resources/a.txt # shipped\nx: {path: '/me/2013'}\n"
    kept = without_folders(text, ["/me/fer2013.csv", "resources/a.txt", "/me/2013"])
    assert kept == text.replace("/me/fer2013.csv", "fer2013.csv").replace("'/me/2013'", '"2013"')
