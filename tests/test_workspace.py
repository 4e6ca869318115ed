"""Files of the user in and around the folder of outputs: nothing removes them, and DVC does not see them."""

from __future__ import annotations

from pathlib import Path

import dvc.repo
import pytest

from pipeline import workspace
from pipeline.errors import UserError
from pipeline.workspace import OUTPUTS, WRITTEN

ROOT = Path(__file__).parents[1]
KEYS = ["baseline-0", "w2v_cosine-12"]
OURS = [
    "raw/source.json",
    "raw/sha256-0123456789abcdef.tar.gz",
    "prepared/images.npy",
    "labels/word2vec/label_vectors.npz",
    "targets/w2v_cosine-12.npy",
    "models/baseline-0/model.safetensors",
    "onnx/baseline-0.onnx",
    "figures/w2v_cosine-12/confusion.png",
    "reports/severity_human.png",
]
HALF_WRITTEN = ["prepared/.images.npy.a1b2.npy", "models/baseline-0/.model.json.x_y.json", "raw/.fetch-q1/archive"]
FOREIGN = [
    "raw/fer2013.csv",
    "raw/archive/source.json",
    "prepared/images.npy.bak",
    "prepared/.env",
    "labels/label_vectors.npz",
    "labels/mine/notes.txt",
    "targets/mine.npy",
    "models/baseline-0/model-best.safetensors",
    "models/baseline-0/old/model.json",
    "onnx/mine.onnx",
    "figures/baseline-0/figure1.png",
    "reports/notes.md",
    "reports/2026/ablation.md",
]


@pytest.fixture(autouse=True)
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return tmp_path


def put(name: str) -> Path:
    path = OUTPUTS / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("kept")
    return path


FOLDERS = ["raw", "prepared", "labels", "targets", "reports", "models/baseline-0", "onnx", "figures/w2v_cosine-12"]


def test_clear_removes_outputs_finished_or_half_written_and_nothing_else() -> None:
    ours = [put(name) for name in (*OURS, *HALF_WRITTEN)]
    foreign = [put(name) for name in FOREIGN]
    assert sorted(path for name in FOLDERS for path in workspace.written(OUTPUTS / name)) == sorted(
        OUTPUTS / name for name in OURS
    )
    for name in FOLDERS:
        workspace.clear(OUTPUTS / name)
    assert not any(path.exists() for path in ours)
    assert all(path.read_text() == "kept" for path in foreign)


def test_clear_leaves_no_empty_folder() -> None:
    for name in (*OURS, *HALF_WRITTEN):
        put(name)
    for name in FOLDERS:
        workspace.clear(OUTPUTS / name)
        assert not (OUTPUTS / name).exists()
        workspace.clear(OUTPUTS / name)  # there is nothing to do


def test_a_link_in_place_of_an_output_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    OUTPUTS.mkdir()
    (OUTPUTS / "raw").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with pytest.raises(UserError, match="outputs/raw"):
        workspace.clear(OUTPUTS / "raw")


def test_a_linked_folder_inside_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    kept = tmp_path / "elsewhere" / "label_vectors.npz"
    kept.write_text("kept")
    (OUTPUTS / "labels").mkdir(parents=True)
    (OUTPUTS / "labels" / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    workspace.clear(OUTPUTS / "labels")
    assert kept.exists()


@pytest.mark.parametrize(
    "path",
    [
        "outputs/raw/fer2013.csv",
        "./outputs/prepared",
        "outputs",
        "data/../outputs/x.csv",
        "{root}/outputs/raw/fer2013.csv",
        "link/fer2013.csv",
        "file.csv",
    ],
)
def test_a_path_into_the_outputs_is_refused_with_its_key(path: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    put("raw/fer2013.csv")
    Path("link").symlink_to(tmp_path / "outputs" / "raw", target_is_directory=True)
    Path("file.csv").symlink_to(tmp_path / "outputs" / "raw" / "fer2013.csv")
    with pytest.raises(UserError, match=r"^data\.votes: .*outputs/"):
        workspace.refuse_paths_in_outputs({"data.path": "", "data.votes": path.format(root=tmp_path)})


@pytest.mark.parametrize("path", ["data/raw/fer2013.csv", "my outputs/x.csv", "outputs.csv", "../outputs/x.csv", ""])
def test_other_paths_are_allowed(path: str) -> None:
    OUTPUTS.mkdir()
    workspace.refuse_paths_in_outputs({"data.path": path})


def test_in_a_copy_that_dvc_made_the_repository_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "repository").mkdir()
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "repository"))
    with pytest.raises(UserError, match=r"data\.path"):
        workspace.refuse_paths_in_outputs({"data.path": "outputs/raw/fer2013.csv"})


def test_clean_removes_what_the_pipeline_made_and_nothing_else() -> None:
    made = [put(name) for name in (*OURS, *HALF_WRITTEN, "metrics/baseline-0.json")]
    foreign = [put(name) for name in (*FOREIGN, "notes.txt", "metrics/mine.json", "models/copy-2026/model.json")]
    foreign += [Path("data/raw/fer2013.csv"), Path("models/mine.pt"), Path(".checkpoints/my-1.safetensors")]
    made += [Path(".checkpoints/baseline-0-0123456789ab-cpu.safetensors"), Path(".machine/speed.json")]
    for path in (*foreign, *made):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("kept")
    stays = workspace.clean(KEYS)
    assert not any(path.exists() for path in made)
    assert all(path.read_text() == "kept" for path in foreign)
    assert set(stays) == {path for path in foreign if path.is_relative_to(OUTPUTS)}


@pytest.mark.parametrize(
    "content", [b"<<<<<<< HEAD\nschema: '2.0'\n=======\na: b: c\n", b"- a\n", b"\xff\n", b"stages: [1]\n"]
)
def test_clean_removes_nothing_if_the_lock_is_damaged(content: bytes) -> None:
    """It says which runs are ours."""
    put("models/baseline-0/model.json")
    Path("dvc.lock").write_bytes(content)
    with pytest.raises(UserError, match=r"dvc\.lock is "):
        workspace.clean(KEYS)
    assert (OUTPUTS / "models/baseline-0/model.json").exists()


def test_clean_leaves_no_empty_folder() -> None:
    for name in (*OURS, "predictions/baseline-0.csv"):
        put(name)
    assert workspace.clean(KEYS) == []
    assert not OUTPUTS.exists()


def test_dvc_sees_what_the_pipeline_writes_and_nothing_else() -> None:
    """A foreign file in an output folder must not change a digest, nor be taken into DVC's cache."""
    ignored = dvc.repo.Repo(ROOT).dvcignore.is_ignored_file
    seen = [f"{folder}/{pattern}" for folder, patterns in WRITTEN.items() for pattern in patterns]
    names = [name.replace("*-[0-9]*", "baseline-0").replace("*", "word") for name in seen]
    for name in names:
        assert workspace._is_ours(OUTPUTS / name)
    assert [name for name in (*names, *OURS) if ignored(str(ROOT / OUTPUTS / name))] == []
    assert [name for name in (*FOREIGN, *HALF_WRITTEN) if not ignored(str(ROOT / OUTPUTS / name))] == []
