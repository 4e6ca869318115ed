"""A folder of pictures: every layout comes back as the same data, and anything else is one sentence."""

from __future__ import annotations

import io
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from pipeline.data import folder_set
from pipeline.data.classes import MOST
from pipeline.data.folder_set import Pictures
from pipeline.data.sources import Provenance, fetch_folder
from pipeline.data.splits import UNDECIDED
from pipeline.errors import UserError

CLASSES = ("calm", "happily surprised", "wide-eyed (é)")


def noise(seed: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (48, 48)).astype(np.uint8)


def put(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    Image.fromarray(noise(seed)).save(content, "PNG")
    path.write_bytes(content.getvalue())


def fill(root: Path, *folders: str, of_each: int = 2) -> Path:
    """Put pictures into these folders, whose seeds are their places in the order of all paths."""
    for folder in folders:
        for number in range(of_each):
            put(root / folder / f"{number}.png", seed=sum(map(ord, f"{folder}/{number}")))
    return root


def splits_of(root: Path) -> Path:
    return fill(root, *(f"{split}/{name}" for split in ("train", "val", "test") for name in CLASSES))


def fetched(root: Path, tmp_path: Path, *classes: str) -> tuple[Pictures, Provenance]:
    raw = tmp_path / "raw"
    kept = fetch_folder(root, raw, classes, note=lambda _: None)
    assert [path.name for path in raw.iterdir()] == [kept.file]
    return Pictures.load(raw / kept.file), kept


def test_what_is_kept_is_what_was_in_the_folder(tmp_path: Path) -> None:
    pictures, kept = fetched(splits_of(tmp_path / "own"), tmp_path)
    assert pictures.data.classes == CLASSES
    assert pictures.data.splits.tolist() == [0] * 6 + [1] * 6 + [2] * 6
    assert pictures.data.labels.tolist() == [0, 0, 1, 1, 2, 2] * 3
    assert pictures.files == tuple(
        f"{split}/{name}/{n}.png" for split in ("train", "val", "test") for name in CLASSES for n in range(2)
    )
    for image, file in zip(pictures.data.images, pictures.files, strict=True):
        np.testing.assert_array_equal(image, noise(sum(map(ord, file.removesuffix(".png")))))
    assert (kept.source, kept.name, kept.file) == ("folder", "own", f"sha256-{kept.sha256[:16]}.npz")
    assert not kept.in_published_order


def test_the_digest_depends_on_pictures_and_names_alone(tmp_path: Path) -> None:
    first = fetch_folder(splits_of(tmp_path / "a"), tmp_path / "raw")
    again = tmp_path / "b"
    for path in sorted((tmp_path / "a").rglob("*.png"), reverse=True):  # in another order
        other = again / path.relative_to(tmp_path / "a")
        other.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).save(other, "PNG", compress_level=0)
    (again / "notes.txt").touch()
    assert fetch_folder(again, tmp_path / "raw").sha256 == first.sha256
    assert fetch_folder(again, tmp_path / "raw", expected_sha256=first.sha256.upper()).sha256 == first.sha256
    put(again / "val/calm/1.png", seed=1)
    assert fetch_folder(again, tmp_path / "raw").sha256 != first.sha256
    with pytest.raises(UserError, match="use the file with that digest"):
        fetch_folder(again, tmp_path / "raw", expected_sha256=first.sha256)


def test_named_classes_have_their_order_and_any_case(tmp_path: Path) -> None:
    root = fill(tmp_path / "own", "TRAIN/Calm", "TRAIN/cross", "Validation/calm", "validation/CROSS", "test/cALM")
    pictures, _ = fetched(root, tmp_path, "cross", "calm")
    assert pictures.data.classes == ("cross", "calm")
    assert pictures.data.splits.tolist() == [0] * 4 + [1] * 4 + [2] * 2
    assert pictures.data.labels.tolist() == [0, 0, 1, 1, 0, 0, 1, 1, 1, 1]
    unnamed, _ = fetched(root, tmp_path / "unnamed")
    assert unnamed.data.classes == ("CROSS", "Calm")  # the first spelling of each


def test_decomposed_names_of_macos_are_the_same_class(tmp_path: Path) -> None:
    root = fill(tmp_path / "own", unicodedata.normalize("NFD", "Ärger"), "calm")
    assert fetched(root, tmp_path, "Ärger", "calm")[0].data.classes == ("Ärger", "calm")
    assert fetched(root, tmp_path / "unnamed")[0].data.classes == ("calm", "Ärger")


@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        (["calm", "cross"], [UNDECIDED] * 4),
        (["train/calm", "train/cross"], [UNDECIDED] * 4),
        (["train/calm", "train/cross", "test/calm", "test/cross"], [2] * 4 + [UNDECIDED] * 4),
        (["train/calm", "train/cross", "val/calm", "val/cross"], [1] * 4 + [UNDECIDED] * 4),
        (["faces/calm", "faces/cross"], [UNDECIDED] * 4),
        (["faces/set/train/calm", "faces/set/train/cross"], [UNDECIDED] * 4),
    ],
)
def test_splits_that_are_not_there_are_left_open(tmp_path: Path, folders: list[str], splits: list[int]) -> None:
    pictures, _ = fetched(fill(tmp_path / "own", *folders), tmp_path)
    assert pictures.data.classes == ("calm", "cross")
    assert pictures.data.splits.tolist() == splits


def test_what_systems_leave_behind_is_left_alone(tmp_path: Path) -> None:
    root = splits_of(tmp_path / "own")
    before = fetch_folder(root, tmp_path / "raw").sha256
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", ".hidden.png", "._0.png"):
        (root / name).touch()
        (root / "train" / name).touch()
        (root / "train/calm" / name).touch()
    put(root / "__MACOSX/train/calm/0.png")
    put(root / ".ipynb_checkpoints/x.png")
    put(root / "train/.ipynb_checkpoints/x.png")
    os.mkfifo(root / "train/calm/pipe.png")
    assert fetch_folder(root, tmp_path / "raw").sha256 == before


def test_other_files_are_left_out_and_counted(tmp_path: Path) -> None:
    root, said = splits_of(tmp_path / "own"), list[str]()
    for number in range(2500):  # more than an archive may have that could be tables
        (root / "train/calm" / f"{number}.txt").touch()
    fetch_folder(root, tmp_path / "raw", note=said.append)
    assert said == [
        "files left out because their names are not those of pictures: 2,500, such as train/calm/0.txt,"
        " train/calm/1.txt, train/calm/10.txt",
        "pictures: calm 6, happily surprised 6, wide-eyed (é) 6",
    ]


def broken(root: Path) -> None:
    (root / "train/calm/bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing")


def linked(root: Path) -> None:
    (root / "train/calm/link.png").symlink_to(root / "train/calm/0.png")


def linked_folder(root: Path) -> None:
    (root / "train/link").symlink_to(root / "train/calm")


def forbidden(root: Path) -> None:
    fill(root, "train/a:b")


def many(root: Path) -> None:
    fill(root, *(f"train/{k}" for k in range(MOST)))


@pytest.mark.parametrize(
    ("change", "classes", "sentence"),
    [
        (broken, "", "Picture train/calm/bad.jpg of own cannot be read"),
        (linked, "", "link.png is a link, and links are not followed"),
        (linked_folder, "", "link is a link, and links are not followed"),
        (forbidden, "", "class folder 'a:b', but the name of a class must be a name without"),
        (many, "", f"own has pictures of {MOST + 3} classes"),
        (lambda root: put(root / "x.png"), "", "Picture x.png of own is in no class folder"),
        (lambda root: put(root / "train/x.png"), "", "Picture train/x.png of own is in no class folder"),
        (
            lambda root: put(root / "train/calm/p1/x.png"), "",
            "Picture train/calm/p1/x.png of own is in a folder within a class folder",
        ),
        (lambda root: put(root / "extra/calm/x.png"), "", "is in 'extra', next to folders for splits"),
        (lambda root: (root / "train/empty").mkdir(), "", "no picture in the class folder 'empty'"),
        (lambda root: put(root / "val/rare/x.png"), "", "no picture of class 'rare' in train"),
        (lambda root: (root / "train/calm/x.heic").touch(), "", "train/calm/x.heic of own is a picture of a kind"),
        (lambda root: fill(root, "train/a+b", "train/a&b"), "", "'a&b' and 'a+b', too much alike"),
        (lambda root: None, "calm, cross", "class folder 'happily surprised', but data.labels names calm, cross"),
        (lambda root: None, ", ".join([*CLASSES, "x"]), "no picture of class 'x', which data.labels names"),
        (lambda root: (root / "train/x").mkdir(), ", ".join(CLASSES), "class folder 'x', but data.labels names"),
        (lambda root: (root / "train/calm/0.png").write_bytes(b""), "", "train/calm/0.png of own cannot be read"),
    ],
)  # fmt: skip
def test_anything_else_is_one_sentence_and_nothing_is_kept(
    tmp_path: Path, change: Callable[[Path], object], classes: str, sentence: str
) -> None:
    root = splits_of(tmp_path / "own")
    change(root)
    with pytest.raises(UserError) as error:
        fetch_folder(root, tmp_path / "raw", classes.split(", ") if classes else ())
    assert sentence in str(error.value)
    assert str(error.value).endswith(".")
    assert not list(tmp_path.glob("raw/*"))


@pytest.mark.parametrize(
    ("folders", "sentence"),
    [
        ([], "own has no pictures in folders: it must hold <class>/<picture> or train"),
        (["val/calm", "val/cross", "test/calm"], "own has no pictures in a folder train"),
        (["calm"], r"own has pictures of 1 class \(calm\): from 2 to"),
        (["train/calm", "test/calm"], r"own has pictures of 1 class \(calm\): from 2 to"),
        (["one/calm", "two/calm"], "own is in a folder within a class folder"),
    ],
)
def test_a_folder_of_another_kind_is_one_sentence(tmp_path: Path, folders: list[str], sentence: str) -> None:
    (tmp_path / "own").mkdir()
    with pytest.raises(UserError, match=sentence):
        fetch_folder(fill(tmp_path / "own", *folders), tmp_path / "raw")


def test_an_empty_class_of_one_split_is_no_empty_class(tmp_path: Path) -> None:
    root = splits_of(tmp_path / "own")
    for path in (root / "test/calm").iterdir():
        path.unlink()
    assert fetched(root, tmp_path)[0].data.classes == CLASSES


def test_a_file_and_a_missing_folder_are_said(tmp_path: Path) -> None:
    (tmp_path / "faces.zip").touch()
    with pytest.raises(UserError, match=r"faces.zip is a file, but the source 'folder' takes a folder"):
        fetch_folder(tmp_path / "faces.zip", tmp_path / "raw")
    with pytest.raises(UserError, match=r"is neither a file nor a folder: set data\.path to a folder of pictures"):
        fetch_folder(tmp_path / "nowhere", tmp_path / "raw")


def test_a_huge_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_set, "MAX_BYTES", 3 << 20)
    root = splits_of(tmp_path / "own")
    with (root / "train/calm/0.png").open("r+b") as file:
        file.truncate((3 << 20) + 1)
    with pytest.raises(UserError, match=r"has 3,145,729 bytes: make it smaller than 3 MiB"):
        fetch_folder(root, tmp_path / "raw")


def test_more_files_than_any_set_has_are_not_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_set, "MAX_FILES", 10)
    with pytest.raises(UserError, match=r"own has more than 10 members: is it the right folder\?"):
        fetch_folder(splits_of(tmp_path / "own"), tmp_path / "raw")
