"""What lies in .study/ may be damaged or of another time: it is made again, and what a user keeps is never guessed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import yaml

from pipeline import config
from pipeline.comparison.records import RunRecord
from pipeline.errors import UserError
from pipeline.study import block_folder, publish, sweep, trial, worker
from pipeline.workspace import RunKey
from tests.clone import Clone

RUN = RunKey("baseline", 0)


@pytest.fixture(scope="module")
def trained(finished: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    return finished.copy(tmp_path_factory.mktemp("trained") / "fer", FER_TRACKING="off")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def write(content: str) -> Callable[[Path], object]:
    return lambda file: file.write_text(content)


@pytest.mark.medium
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(("name", "damage"), [
    ("model.safetensors", cut), ("model.safetensors", Path.unlink), ("model.json", cut), ("model.json", write("{}")),
    ("model.json", write("[]")), ("history.csv", Path.unlink), ("history.csv", write("")),
    ("history.csv", write("epoch,val_accuracy\n0,x\n")),
])  # fmt: skip
def test_a_damaged_network_is_trained_again(
    name: str, damage: Callable[[Path], object], trained: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained.path)
    monkeypatch.setenv("DVC_ROOT", str(trained.path))
    params, file = config.load(), RUN.models / name
    assert worker.is_trained(RUN, params)
    whole = file.read_bytes()
    damage(file)
    try:
        assert not worker.is_trained(RUN, params)
    finally:
        file.write_bytes(whole)
    assert worker.is_trained(RUN, params)


def test_data_that_are_damaged_are_prepared_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made, file = list[int](), Path("outputs/prepared/images.npy")

    class Stage:
        @staticmethod
        def main() -> None:
            made.append(len(made))
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("faces")

    monkeypatch.setattr(block_folder, "DATA_STAGES", [Stage])
    monkeypatch.setattr(block_folder, "made_of", lambda settings: {"settings": settings["data"]})

    def times(settings: dict[str, int]) -> int:
        block_folder.bring_data(settings)
        return len(made)

    assert [times({"data": 1}), times({"data": 1}), times({"data": 2})] == [1, 1, 2]
    damages: list[Callable[[], object]] = [
        lambda: cut(file), file.unlink, lambda: os.utime(file, (1, 1)),
        *(partial(block_folder.PREPARED_WITH.write_text, content) for content in ("", "{", "[]", "{}")),
    ]  # fmt: skip
    for number, damage in enumerate(damages, 3):
        damage()
        assert [times({"data": 2}), times({"data": 2})] == [number, number]


@pytest.mark.parametrize("content", ["", "{", "a: 1", "machine: 3", "machine: {speed: 9}", "\xff"])
def test_settings_that_are_damaged_say_nothing_about_the_machine(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert block_folder.former_machine() == {}
    Path("params.yaml").write_text(content, encoding="latin-1")
    assert block_folder.former_machine() == {}
    machine = {"precision": "fp32", "memory_format": "auto", "threads": 1, "compile": False}
    Path("params.yaml").write_text(yaml.safe_dump({"machine": machine}))
    assert block_folder.former_machine() == {"precision": "fp32", "threads": 1, "compile": False}


@pytest.mark.parametrize("content", [{}, [], [1], None, "x", {"seed": 0, "settings": {}}])
def test_a_kept_file_of_another_form_is_named(content: object, tmp_path: Path) -> None:
    file, trials = tmp_path / "runs/baseline-0.json", tmp_path / "learning_rates.json"
    file.parent.mkdir()
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"runs/baseline-0\.json is not what"):
        publish.numerics_in(tmp_path)
    file.with_suffix(".npz").touch()
    with pytest.raises(UserError, match=r"runs/baseline-0\.json is not what"):
        RunRecord.kept(file.parent, RUN.name)
    if content != []:
        trials.write_text(json.dumps(content))
        with pytest.raises(UserError, match=r"learning_rates\.json is not a list"):
            trial.kept(trials)


def test_a_sentence_names_the_outputs_that_it_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    said = "outputs/prepared, not /a/outputs/prepared, is damaged"
    expected = r"^\.study/T/outputs/prepared, not /a/outputs/prepared, is damaged$"
    with pytest.raises(UserError, match=expected), block_folder.entered("T"):
        raise UserError(said)


def test_a_name_that_is_given_twice_counts_once() -> None:
    settings = {"grid": {"models": ["a", "b"]}}
    assert sweep.rows_named(["b", "a", "b"], None, settings) == ["b", "a"]
