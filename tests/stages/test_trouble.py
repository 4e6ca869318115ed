"""The promises that matter when something goes wrong: a kill, no MLflow, a bad archive, a bad parameter."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import mlflow
import numpy as np
import pytest
from PIL import Image

from pipeline import cli
from pipeline.data.synthetic.dataset import Synthetic, draw, to_fer_csv, to_votes_csv
from pipeline.training.checkpoint import Checkpoint
from pipeline.workspace import PREPARED, RAW, SOURCE
from stages import fetch, prepare, train
from tests.clone import Clone

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_killed_training_resumes_to_the_same_history(finished: Clone, tmp_path: Path) -> None:
    """kill -9 in the middle, `dvc repro`: the file is that of a training nobody disturbed."""
    undisturbed = untrained(finished, tmp_path / "undisturbed")
    killed = undisturbed.copy(tmp_path / "killed")
    run_key = ("repro", "--single-item", "train@baseline-0")
    undisturbed.dvc(*run_key, FER_TRACKING="off")

    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", *run_key], cwd=killed.path, env=killed.env(), start_new_session=True
    )
    checkpoints = killed.path / ".checkpoints"
    complete = "[!.]*.safetensors"  # a file that is being written starts with a dot
    deadline = time.monotonic() + 300
    while not list(checkpoints.glob(complete)):
        assert process.poll() is None, "training ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (checkpoint,) = checkpoints.glob(complete)
    saved = Checkpoint(checkpoint).load()
    assert saved is not None
    done = len(saved[1]["history"])
    assert 0 < done < 12
    assert not (killed.path / "outputs/models/baseline-0/history.csv").exists()

    shown = killed.dvc(*run_key)
    epochs = [int(line.split()[0]) for line in shown.splitlines() if line[:5].strip().isdigit()]
    assert epochs == list(range(done, 12))
    assert f"resumes from {checkpoint.name}" in shown
    for name in ("history.csv", "model.safetensors"):
        ours, theirs = (clone.path / "outputs/models/baseline-0" / name for clone in (killed, undisturbed))
        assert ours.read_bytes() == theirs.read_bytes(), name
    assert not list(checkpoints.glob("*.safetensors"))
    runs = [run for run in killed.runs()["synthetic"] if run.data.params.get("recipe.epochs") == "12"]
    assert len(runs) == 1, "the resumed training continues its own run"
    assert runs[0].info.status == "FINISHED"
    assert curve(killed, runs[0]) == history(killed)


@pytest.mark.slow
def test_a_training_that_another_one_began_starts_anew_in_a_run_of_its_own(finished: Clone, tmp_path: Path) -> None:
    """Another are other code, any file that decides what a training ends with, and other hardware."""
    clone = untrained(finished, tmp_path / "fer")
    run_key = [sys.executable, "-m", "stages.train", "baseline", "0"]

    def begin() -> list[str]:
        """What the training prints until its second line of an epoch, at which it is killed."""
        process = subprocess.Popen(run_key, cwd=clone.path, env=clone.env(), stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        shown: list[str] = []
        while sum(line[:5].strip().isdigit() for line in shown) < 2:
            shown.append(process.stdout.readline())
            assert shown[-1], "training ended before it could be killed"
        process.kill()
        process.wait()
        return shown

    def anew(shown: list[str]) -> bool:
        said = any("is of other settings, data, code or hardware" in line for line in shown)
        return said and any(line.startswith("    0 ") for line in shown)

    assert not anew(begin())
    for edited in ("stages/train.py", "pipeline/data/fer.py"):  # the stage itself, and the form of the data
        with (clone.path / edited).open("a") as file:
            file.write("# Another training.\n")
        assert anew(begin()), edited
    clone.set({"machine.memory_format": "contiguous"})
    assert anew(clone.stage("train", "baseline", "0").stdout.splitlines())

    done, *abandoned = clone.runs()["synthetic"]
    assert done.info.status == "FINISHED"
    assert done.data.tags["memory_format"] == "contiguous"
    assert curve(clone, done) == history(clone)
    assert [run.info.status for run in abandoned] == 3 * ["RUNNING"]
    for run in abandoned:
        assert run.data.tags["memory_format"] == "channels_last", "known from the start"


def untrained(finished: Clone, path: Path) -> Clone:
    """A copy in which the baseline is to be trained, with enough epochs to be killed in one of them."""
    clone = finished.copy(path)
    clone.set({"recipes.fast.epochs": 12, "recipes.fast.batch_size": 7})
    shutil.rmtree(clone.path / "outputs/models/baseline-0")
    return clone


def curve(clone: Clone, run: Any) -> list[float]:
    """The accuracy by epoch that MLflow shows."""
    client = mlflow.MlflowClient(f"sqlite:///{clone.path / 'mlflow.db'}")
    logged = client.get_metric_history(run.info.run_id, "val_accuracy")
    return [metric.value for metric in sorted(logged, key=lambda metric: metric.step)]


def history(clone: Clone) -> list[float]:
    with (clone.path / "outputs/models/baseline-0/history.csv").open() as file:
        return [float(row["val_accuracy"]) for row in csv.DictReader(file)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [
        pytest.param({"FER_TRACKING": "off"}, id="switched off"),
        pytest.param({"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}, id="server down"),
        pytest.param({"MLFLOW_TRACKING_URI": "sqlite:////proc/no-such-place/mlflow.db"}, id="no database"),
        pytest.param({}, id="artifacts cannot be written"),
    ],
)
def test_outputs_do_not_depend_on_mlflow(finished: Clone, tmp_path: Path, environment: dict[str, str]) -> None:
    clone = finished.copy(tmp_path / "fer", FER_TEST_PICTURES="drawn")
    outputs = [
        *(
            "outputs/models/baseline-0/history.csv",
            "outputs/models/baseline-0/model.safetensors",
            "outputs/predictions/baseline-0.csv",
        ),
        *("outputs/figures/baseline-0/confusion.png", "outputs/reports/accuracy.png"),
    ]
    for name in (*outputs, "outputs/metrics/baseline-0.json", "outputs/reports/ablation.json"):
        (clone.path / name).unlink()
    if not environment:
        (clone.path / "mlartifacts").touch()  # where MLflow wants a folder: it fails in the middle of a run
    clone.environment |= environment
    for stage in ("train baseline 0", "evaluate baseline 0", "compare"):
        said = clone.stage(*stage.split()).stderr
        warnings = [line for line in said.splitlines() if line.startswith("warning: MLflow")]
        assert len(warnings) == (0 if "FER_TRACKING" in environment else 1), said
        assert "Traceback" not in said
    for name in outputs:
        assert (clone.path / name).read_bytes() == (finished.path / name).read_bytes(), name
    ours, theirs = (json.loads((c.path / "outputs/metrics/baseline-0.json").read_text()) for c in (clone, finished))
    assert ours["test"] == theirs["test"]
    ours, theirs = (json.loads((c.path / "outputs/reports/ablation.json").read_text()) for c in (clone, finished))
    assert [row["test.accuracy"] for row in ours] == [row["test.accuracy"] for row in theirs]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params.yaml in which stages run in this process."""
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FER_TRACKING", "off")
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def rows() -> list[bytes]:
    """The lines of a small FER-2013 CSV file, the header first."""
    return to_fer_csv(draw(Synthetic(0, 14, 7, 7, 0.0))).splitlines(keepends=True)


def fails(stage: Callable[..., None], capsys: pytest.CaptureFixture[str], *words: str) -> None:
    """The stage exits with 1 after one sentence that holds all the words."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        cli.run(click.Command("stage", callback=stage), [])
    assert exit_.value.code == 1
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert message.count("\n") == 1, message
    assert "Traceback" not in message
    for word in words:
        assert word in message


def use_archive(path: Path, **data: Any) -> None:
    clone = Clone(Path.cwd())
    clone.set({"data.source": "archive", "data.path": str(path), **{f"data.{k}": v for k, v in data.items()}})


BAD_ROWS: dict[str, tuple[Callable[[bytes], bytes], list[str]]] = {
    "short row": (lambda line: line.split(b",")[0] + b"," + line.split(b",")[1] + b"\n", ["line 3"]),
    "few pixels": (lambda line: b"0,1 2 3,Training\n", ["line 3", "pixels", "2304"]),
    "letter": (lambda line: line.replace(b" ", b" x", 1), ["line 3", "pixels"]),
    "label 7": (lambda line: b"7" + line[1:], ["line 3", "emotion", "7"]),
    "Usage train": (lambda line: line.rsplit(b",", 1)[0] + b",train\n", ["line 3", "Usage", "PublicTest"]),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_bad_row_names_line_and_column(
    workspace: Path, rows: list[bytes], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    spoil, words = BAD_ROWS[name]
    (workspace / "faces of mine.csv").write_bytes(b"".join([*rows[:2], spoil(rows[2]), *rows[3:]]))
    use_archive(workspace / "faces of mine.csv")
    fetch.main()
    fails(prepare.main, capsys, "faces of mine.csv, ", *words)  # not the digest under which it is kept
    assert not (workspace / "outputs/prepared").exists()


def test_a_bad_row_of_votes_names_key_file_and_line(
    workspace: Path, rows: list[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    (workspace / "fer2013.csv").write_bytes(b"".join(rows))
    ballots = to_votes_csv(draw(Synthetic(0, 14, 7, 7, 0.0))).splitlines(keepends=True)
    votes = workspace / "votes of mine.csv"
    votes.write_bytes(b"".join([*ballots[:5], ballots[5].replace(b".png,", b".png,x"), *ballots[6:]]))
    use_archive(workspace / "fer2013.csv", votes=str(votes))
    fetch.main()
    fails(prepare.main, capsys, "data.votes: votes of mine.csv, line 6")
    assert not PREPARED.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"Usage,Image name,neutral\n", ["votes.csv, line 1", "header"]),
        (b"7z\xbc\xaf\x27\x1c\x00\x04", ["votes.csv is a 7-Zip archive"]),
        (b'fer0000000.png,"(0, 0, 48, 48)",4,0,0,1,3,2,0,0,0,0\n', ["label.csv", "fer2013new.csv"]),
        (None, ["votes.csv", "neither a file nor a folder"]),
    ],
)
def test_bad_votes_stop_fetch_under_their_own_key(
    workspace: Path, rows: list[bytes], capsys: pytest.CaptureFixture[str], content: bytes | None, words: list[str]
) -> None:
    (workspace / "fer2013.csv").write_bytes(b"".join(rows))
    if content is not None:
        (workspace / "votes.csv").write_bytes(content)
    use_archive(workspace / "fer2013.csv", votes=str(workspace / "votes.csv"))
    fails(fetch.main, capsys, "data.votes", *words)
    assert not RAW.exists()


def test_votes_in_another_order_stop_prepare(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn = draw(Synthetic(0, 60, 21, 21, 0.3))
    (workspace / "fer2013.csv").write_bytes(to_fer_csv(drawn))
    header, *ballots = to_votes_csv(drawn).splitlines(keepends=True)
    ballots[:60] = [*ballots[1:60], ballots[0]]  # Training alone, shifted by a row: `Usage` still fits
    (workspace / "fer2013new.csv").write_bytes(b"".join([header, *ballots]))
    use_archive(workspace / "fer2013.csv", votes=str(workspace / "fer2013new.csv"))
    fetch.main()
    fails(prepare.main, capsys, "data.votes: fer2013new.csv", "train", "order")
    assert not PREPARED.exists()


def test_votes_beside_the_folder_set_stop_fetch(
    workspace: Path, rows: list[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    face = io.BytesIO()
    Image.new("L", (48, 48)).save(face, "PNG")
    (workspace / "faces/train/sad").mkdir(parents=True)
    (workspace / "faces/train/sad/Training_1.png").write_bytes(face.getvalue())
    (workspace / "fer2013new.csv").write_bytes(to_votes_csv(draw(Synthetic(0, 14, 7, 7, 0.0))))
    use_archive(workspace / "faces", votes=str(workspace / "fer2013new.csv"))
    fails(fetch.main, capsys, "data.votes", "order")
    assert not RAW.exists()


def test_what_was_chosen_is_said_and_recorded(
    workspace: Path, rows: list[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    with zipfile.ZipFile(workspace / "download.zip", "w") as archive:
        archive.writestr("icml_face_data.csv", b"".join(rows))
        archive.writestr("example_submission.csv", "id,emotion\n")
    folder = workspace / "FERPlus-master"
    folder.mkdir()
    (folder / "fer2013new.csv").write_bytes(to_votes_csv(draw(Synthetic(0, 14, 7, 7, 0.0))))
    (folder / "notes.csv").write_text("a,b\n")
    use_archive(workspace / "download.zip", votes=str(folder))
    fetch.main()
    shown = capsys.readouterr().out
    for used in ("icml_face_data.csv of download.zip", "fer2013new.csv of FERPlus-master"):
        assert f"{used} is used" in shown
    source = json.loads(SOURCE.read_text())
    assert source["archive"]["used"] == "icml_face_data.csv of download.zip"
    prepare.main()
    assert len(np.load(PREPARED / "votes.npy")) == len(rows) - 1


def test_a_bad_row_in_an_archive_names_key_member_and_line(
    workspace: Path, rows: list[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    with zipfile.ZipFile(workspace / "download.zip", "w") as archive:
        archive.writestr("fer2013.csv", b"".join([*rows[:5], b"9" + rows[5][1:], *rows[6:]]))
    use_archive(workspace / "download.zip")
    fetch.main()
    fails(prepare.main, capsys, "data.path: fer2013.csv of download.zip, line 6, column emotion")


@pytest.mark.parametrize("path", ["~nobody-of-this-name/fer2013.csv", "a" * 5000, "nul\0.csv"])
def test_what_cannot_be_a_path_is_one_sentence(workspace: Path, capsys: pytest.CaptureFixture[str], path: str) -> None:
    Clone(workspace).set({"data.source": "archive", "data.path": path})
    fails(fetch.main, capsys, path[:3])


def test_drawn_faces_are_recorded_as_before(workspace: Path) -> None:
    """`source.json` is an output: another key would make every drawn data set another one."""
    Clone(workspace).set({"data.synthetic": {"seed": 3, "train": 21, "val": 7, "test": 7, "ambiguity": 0.3}})
    fetch.main()
    source = json.loads(SOURCE.read_text())
    for facts in source.values():
        assert list(facts) == ["source", "name", "bytes", "sha256", "file"]


def test_bad_archives_stop_fetch_and_leave_nothing(
    workspace: Path, rows: list[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    csv = b"".join(rows)
    truncated = workspace / "truncated.csv.gz"
    truncated.write_bytes(gzip.compress(csv)[:-500])
    empty = workspace / "fer2013.csv"
    empty.touch()
    climbing = workspace / "climbing.zip"
    with zipfile.ZipFile(climbing, "w") as archive:
        archive.writestr("../fer2013.csv", csv)
    page = workspace / "page.csv"
    page.write_text("<!doctype html>\n")
    missing = workspace / "nowhere.csv"
    causes = {truncated: "truncated", empty: "empty", climbing: "../fer2013.csv", page: "web page", missing: "nowhere"}
    for path, word in causes.items():
        use_archive(path)
        fails(fetch.main, capsys, "data.path", word)
        assert not RAW.exists()
    assert not (workspace.parent / "fer2013.csv").exists()


def test_wrong_digest_stops_before_anything_is_kept(
    workspace: Path, rows: list[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    (workspace / "fer2013.csv").write_bytes(b"".join(rows))
    use_archive(workspace / "fer2013.csv", sha256="0" * 64)
    fails(fetch.main, capsys, "data.sha256", "0" * 64)
    assert not RAW.exists()


def test_another_data_set_than_expected_fails(
    workspace: Path, rows: list[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    (workspace / "fer2013.csv").write_bytes(b"".join(rows))
    use_archive(workspace / "fer2013.csv", expect="fer2013")
    fetch.main()
    fails(prepare.main, capsys, "28", "35887")
    assert not (workspace / "outputs/prepared").exists()


@pytest.mark.parametrize(
    ("key", "value"), [("data.sources", "synthetic"), ("recipes.fast.epochs", "ten"), ("recipes.fast.momentum", 2.0)]
)
def test_bad_parameter_is_one_sentence(
    workspace: Path, capsys: pytest.CaptureFixture[str], key: str, value: Any
) -> None:
    Clone(workspace).set({key: value})
    fails(fetch.main, capsys, key)
    assert not (workspace / "data").exists()


def test_a_model_that_params_yaml_does_not_name_is_one_sentence(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fails(partial(train.main, "baselin", 0), capsys, "'baselin'", "params.yaml", "baseline")


def test_prepared_arrays_survive_the_round_trip(workspace: Path) -> None:
    """Fetch and prepare in this process give what was drawn."""
    Clone(workspace).set({"data.synthetic": {"seed": 3, "train": 21, "val": 7, "test": 7, "ambiguity": 0.3}})
    fetch.main()
    prepare.main()
    drawn = draw(Synthetic(3, 21, 7, 7, 0.3))
    assert drawn.votes is not None
    np.testing.assert_array_equal(np.load("outputs/prepared/images.npy"), drawn.images)
    np.testing.assert_array_equal(np.load("outputs/prepared/votes.npy"), drawn.votes)
