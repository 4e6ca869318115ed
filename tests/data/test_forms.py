"""The forms in which people have FER-2013 and FER+: all read as the same data, or refused for the real cause.

One small data set is put into every form; nothing here depends on the names under which files are kept.
"""

from __future__ import annotations

import bz2
import functools
import gzip
import lzma
import pickle
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.data import archives, sources, votes
from pipeline.data.fer import VOTE_COLUMNS, VOTES_OF_LABELS, FerData
from pipeline.data.sources import fetch_archive, fetch_votes, in_published_order, read_raw
from pipeline.data.synthetic.dataset import to_fer_csv, to_votes_csv
from pipeline.errors import UserError
from tests import packed
from tests.packed import Files, put, tarred, zipped

# --- one data set, and what it is packed with


def faces() -> FerData:
    return packed.noise(21)


@functools.cache
def table() -> bytes:
    return to_fer_csv(faces())


@functools.cache
def ballots() -> bytes:
    return to_votes_csv(faces())


def rows_of(data: bytes) -> list[list[str]]:
    return [line.split(",") for line in data.decode().splitlines()]


def saved(rows: list[list[str]], delimiter: str = ",", end: str = "\n") -> bytes:
    return "".join(delimiter.join(row) + end for row in rows).encode()


@functools.cache
def images(separator: str = "/") -> Files:
    """Kaggle's folder set, sorted as it is read: its numbers count within a split."""
    return packed.folder_set(faces(), separator)


def with_column(header: str, values: Callable[[int], str], data: bytes) -> bytes:
    """With another column in front; `values` of row 1, 2, ..."""
    return saved([[values(n) if n else header, *row] for n, row in enumerate(rows_of(data))])


def v7(files: Files) -> bytes:
    """A tar as of 1979: no mark in its headers."""
    content = bytearray()
    for name, data in files.items():
        info = tarfile.TarInfo(name)
        info.size = len(data)
        header = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
        header[257:512] = bytes(255)
        header[148:156] = b" " * 8
        header[148:156] = f"{sum(header):06o}\0 ".encode()
        content += bytes(header) + data + bytes(-len(data) % 512)
    return bytes(content) + bytes(1024)


def with_label(data: bytes) -> bytes:
    """GNU tar's --label: a header of its own kind in front."""
    info = tarfile.TarInfo("FER-2013, disk 1")
    info.type = b"V"
    return info.tobuf(tarfile.GNU_FORMAT) + data


def empty_folder(folder: Path) -> Path:
    (folder / "given").mkdir()
    return folder / "given"


def unpacked(files: Files) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        for name, data in files.items():
            put(folder / "given" / name, data)
        return folder / "given"

    return write


def without(columns: int, data: bytes) -> bytes:
    """Without the last columns, as the competition's train.csv and test.csv are."""
    return saved([row[:-columns] for row in rows_of(data)])


def competition() -> Files:
    """The competition's download."""
    rows = rows_of(table())
    spaced = [["emotion", " Usage", " pixels"], *([e, u, p] for e, p, u in rows[1:])]
    return {
        "example_submission.csv": b"id,emotion\n0,3\n",
        "fer2013.tar.gz": tarred({"fer2013/README": b"about", "fer2013/fer2013.csv": table()}, "w:gz"),
        "icml_face_data.csv": saved(spaced),
        "test.csv": saved([["pixels"], *([p] for _, p, _ in rows[1:])]),
        "train.csv": without(1, table()),
    }


def only(*names: str) -> Files:
    return {name: data for name, data in competition().items() if name in names}


MACOS = {
    "__MACOSX/fer/._fer2013.csv": b"\0\5\26\7",
    "fer/.DS_Store": b"\0\0\0\1Bud1",
    "fer/._fer2013.csv": b"\0\5\26\7",
}
ELSEWHERE = {"README.md": b"# Faces", "notes/labels.txt": b"0 angry\n", "Thumbs.db": b"\xd0\xcf\x11\xe0"}
FERPLUS = {
    "FERPlus-master/README.md": b"# FER+",
    "FERPlus-master/FER+vsFER.png": b"\x89PNG\r\n\x1a\n",
    "FERPlus-master/data/FER2013Train/label.csv": b'fer0000000.png,"(0, 0, 48, 48)",4,0,0,1,3,2,0,0,0,0\n',
    "FERPlus-master/data/FER2013Test/label.csv": b'fer0032220.png,"(0, 0, 48, 48)",4,0,0,1,3,2,0,0,0,0\n',
}


def given(path: Path, content: bytes | Callable[[Path], Path], name: str = "given.bin") -> Path:
    """A form, as a file of any name or as what unpacks itself."""
    return content(path) if callable(content) else put(path / "in" / name, content)


def refusal(path: Path, folder: Path, fetch: Callable[[Path, Path], object] = fetch_archive) -> str:
    """Fetching ends in one sentence of one line, and nothing is kept."""
    with pytest.raises(UserError) as caught:
        fetch(path, folder)
    assert not folder.exists() or list(folder.iterdir()) == []
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- forms of the table

VOTES_ZIP = zipped({"fer2013new.csv": ballots()})
CSV_ZIP = zipped({"fer2013.csv": table()})
pixels_last = [[u, e, p] for e, p, u in rows_of(table())]
TABLES: dict[str, tuple[bytes | Callable[[Path], Path], str | None]] = {
    "competition, zip": (zipped(competition()), "icml_face_data.csv of given.bin"),
    "competition, unpacked": (unpacked(competition()), "icml_face_data.csv of given"),
    "competition, tar": (tarred(competition()), "icml_face_data.csv of given.bin"),
    "competition, tar.xz": (tarred(competition(), "w:xz"), "icml_face_data.csv of given.bin"),
    "competition in a folder in a zip": (
        zipped({f"challenges/{name}": data for name, data in competition().items()}),
        "challenges/icml_face_data.csv of given.bin",
    ),
    "competition with its zip beside": (
        unpacked(competition() | {"challenges.zip": zipped(competition())}),
        "icml_face_data.csv of given",
    ),
    "competition with the tar unpacked beside": (
        unpacked(competition() | {"fer2013/fer2013.csv": table()}),
        "fer2013/fer2013.csv of given",
    ),
    "train, test and the tar in a zip": (
        zipped(only("train.csv", "test.csv", "fer2013.tar.gz")),
        "fer2013/fer2013.csv of fer2013.tar.gz of given.bin",
    ),
    "train, test and the tar in a folder": (
        unpacked(only("train.csv", "test.csv", "fer2013.tar.gz")),
        "fer2013/fer2013.csv of fer2013.tar.gz of given",
    ),
    "the tar alone in a zip": (zipped(only("fer2013.tar.gz")), None),
    "folder of the csv": (unpacked({"fer2013.csv": table()}), "fer2013.csv of given"),
    "folder of the csv among other files": (unpacked({"a/fer2013.csv": table()} | ELSEWHERE), "a/fer2013.csv of given"),
    "folder of the tar.gz": (
        unpacked({"fer2013.tar.gz": tarred({"fer2013/fer2013.csv": table()}, "w:gz")}),
        "fer2013/fer2013.csv of fer2013.tar.gz of given",
    ),
    "folder of csv.gz": (unpacked({"fer2013.csv.gz": gzip.compress(table())}), "fer2013.csv.gz of given"),
    "folder of csv.xz": (unpacked({"faces.csv.xz": lzma.compress(table())}), "faces.csv.xz of given"),
    "folder of a zip": (unpacked({"archive.zip": CSV_ZIP}), "fer2013.csv of archive.zip of given"),
    "folder with the votes": (
        unpacked({"fer2013.csv": table(), "fer2013new.csv": ballots(), "ferplus.zip": VOTES_ZIP}),
        "fer2013.csv of given",
    ),
    "folder of two names": (unpacked({"fer2013.csv": table(), "fer2013 (1).csv": table()}), "fer2013.csv of given"),
    "zip made on macOS": (zipped({"fer/fer2013.csv": table()} | MACOS), None),
    "tar made on macOS": (tarred({"./._fer": b"\0\5\26\7", "./fer/fer2013.csv": table()} | MACOS, "w:gz"), None),
    "folder from macOS": (unpacked({"fer/fer2013.csv": table()} | MACOS), "fer/fer2013.csv of given"),
    "notebook's checkpoints": (zipped({"fer2013.csv": table(), ".ipynb_checkpoints/fer2013.csv": table()}), None),
    "v7 tar": (v7({"fer2013/README": b"x", "fer2013/fer2013.csv": table()}), None),
    "v7 tar.gz": (gzip.compress(v7({"fer2013/fer2013.csv": table()})), None),
    "gnu tar": (tarred({f"{'long/' * 40}fer2013.csv": table()}, form=tarfile.GNU_FORMAT), None),
    "ustar": (tarred({"fer2013.csv": table()}, form=tarfile.USTAR_FORMAT), None),
    "pax tar": (tarred({f"{'long/' * 40}fer2013.csv": table()}, pax_headers={"comment": "of git archive"}), None),
    "labelled gnu tar": (with_label(tarred({"fer2013.csv": table()}, form=tarfile.GNU_FORMAT)), None),
    "backslashes in a zip": (zipped({"fer2013\\notes.txt": b"x", "fer2013\\fer2013.csv": table()}), None),
    "backslashes in a tar": (tarred({"fer2013\\fer2013.csv": table()}), None),
    "dots in front": (tarred({"./fer2013.csv": table()}), None),
    "names that are no UTF-8": (tarred({"caf\udce9/fer2013.csv": table()}, form=tarfile.GNU_FORMAT), None),
    "zip in a zip": (zipped({"archive.zip": zipped({"fer2013.csv": table()})}), None),
    "gzipped zip": (gzip.compress(zipped({"fer2013.csv": table()})), None),
    "gzipped csv in a tar": (tarred({"fer2013.csv.gz": gzip.compress(table())}), None),
    "another table beside": (zipped({"labels.csv": b"0,angry\n", "fer2013.csv": table()}), "fer2013.csv of given.bin"),
    "no suffix": (zipped({"faces": table()}), None),
    "index column": (with_column("", lambda n: str(n - 1), table()), None),
    "index column of a second saving": (with_column("", str, with_column("Unnamed: 0", str, table())), None),
    "column id": (with_column("id", str, table()), None),
    "usage in lower case": (table().replace(b"Usage", b"usage", 1), None),
    "capitals": (table().replace(b"emotion,pixels,Usage", b"Emotion,Pixels,USAGE", 1), None),
    "quotes": (saved([[f'"{field}"' for field in row] for row in rows_of(table())]), None),
    "crlf and bom": (b"\xef\xbb\xbf" + saved(rows_of(table()), end="\r\n"), None),
    "bom and quotes": (b"\xef\xbb\xbf" + saved([[f'"{field}"' for field in row] for row in rows_of(table())]), None),
    "semicolons": (saved(rows_of(table()), ";"), None),
    "tabs": (saved(rows_of(table()), "\t", "\r\n"), None),
    "a comment with commas": (with_column("comment", lambda n: '"dark, blurred"', table()), None),
    "empty columns of a spreadsheet": (saved([[*row, "", ""] for row in rows_of(table())]), None),
    "beside images": (unpacked(images() | {"faces.csv": table()}), "faces.csv of given"),
    "split first": (saved(pixels_last), None),
}


@pytest.mark.parametrize("form", TABLES)
def test_a_form_of_the_table_is_read_as_the_same_data(form: str, tmp_path: Path) -> None:
    content, used = TABLES[form]
    path = given(tmp_path, content)
    before = {file: file.read_bytes() for file in path.parent.rglob("*") if file.is_file()}
    kept = fetch_archive(path, tmp_path / "raw")
    assert kept.used == used
    assert kept.in_published_order
    assert [file.name for file in (tmp_path / "raw").iterdir()] == [kept.file]
    assert in_published_order(tmp_path / "raw" / kept.file)
    data = read_raw(tmp_path / "raw" / kept.file, kept.name)
    for name in ("images", "labels", "splits"):
        np.testing.assert_array_equal(getattr(data, name), getattr(faces(), name))
    after = {file: file.read_bytes() for file in path.parent.rglob("*") if file.is_file() and file in before}
    assert after == before, "what is given is not touched"


IMAGE_SETS: dict[str, bytes | Callable[[Path], Path]] = {
    "folder": unpacked(images()),
    "zip": zipped(images()),
    "tar": tarred(images()),
    "tar.gz": tarred(images(), "w:gz"),
    "tar.xz, not in order": tarred(dict(reversed(images().items())), "w:xz"),
    "v7 tar": v7(images()),
    "backslashes in a zip": zipped(images("\\")),
    "backslashes in a tar": tarred(images("\\"), "w:gz"),
    "in a folder in a zip": zipped({f"archive/fer2013/{name}": data for name, data in images().items()}),
    "index beside it, folder": unpacked(images() | {"labels.csv": b"path,label\na,1\n"}),
    "index beside it, zip": zipped(images() | {"labels.csv": b"path,label\na,1\n"}),
    "index beside it, tar": tarred(images() | {"labels.csv": b"path,label\na,1\n"}),
    "two indexes": zipped(images() | {"train.csv": b"path,label\n", "test.csv": b"path,label\n"}),
    "zip from macOS": zipped({"__MACOSX/train/sad/._Training_1.png": b"\0\5\26\7"} | images() | MACOS),
    "tar from macOS": tarred({"train/sad/._Training_1.png": b"\0\5\26\7"} | images() | MACOS),
    "its zip in a zip": zipped({"archive.zip": zipped(images())}),
    "its zip in a folder": unpacked({"archive.zip": zipped(images())}),
    "its tar in a zip": zipped({"archive.tar.gz": tarred(images(), "w:gz")}),
    "unpacked, its zip beside it": unpacked(images() | {"archive.zip": zipped(images())}),
}


@pytest.mark.parametrize("form", IMAGE_SETS)
def test_a_form_of_the_folder_set_is_read_as_the_same_data(form: str, tmp_path: Path) -> None:
    kept = fetch_archive(given(tmp_path, IMAGE_SETS[form]), tmp_path / "raw")
    assert not kept.in_published_order
    assert not in_published_order(tmp_path / "raw" / kept.file)
    data = read_raw(tmp_path / "raw" / kept.file, kept.name)
    order = np.argsort(faces().splits, kind="stable")
    for name in ("images", "labels", "splits"):
        np.testing.assert_array_equal(getattr(data, name), getattr(faces(), name)[order])


def test_folders_of_the_same_images_are_kept_under_one_digest(tmp_path: Path) -> None:
    """Whatever else is beside them."""
    plain = fetch_archive(given(tmp_path / "a", IMAGE_SETS["folder"]), tmp_path / "raw")
    more = fetch_archive(given(tmp_path / "b", IMAGE_SETS["index beside it, folder"]), tmp_path / "raw")
    assert plain == more


# --- votes

VOTES: dict[str, bytes | Callable[[Path], Path]] = {
    "plain": ballots(),
    "gz": gzip.compress(ballots()),
    "xz": lzma.compress(ballots()),
    "zip": zipped({"fer2013new.csv": ballots()}),
    "tar.gz": tarred({"fer2013new.csv": ballots()}, "w:gz"),
    "v7 tar": v7({"fer2013new.csv": ballots()}),
    "zip from macOS": zipped({"fer/fer2013new.csv": ballots()} | MACOS),
    "folder": unpacked({"fer2013new.csv": ballots()}),
    "folder with the archive": unpacked(only("fer2013.tar.gz") | {"fer2013new.csv": ballots()}),
    "folder with the images' table": unpacked({"fer2013.csv": table(), "fer2013new.csv": ballots()}),
    "folder with a zip": unpacked({"FERPlus-master.zip": zipped({"FERPlus-master/fer2013new.csv": ballots()})}),
    "FERPlus, zip": zipped(FERPLUS | {"FERPlus-master/fer2013new.csv": ballots()}),
    "FERPlus, tar.gz": tarred(FERPLUS | {"FERPlus-master/fer2013new.csv": ballots()}, "w:gz"),
    "FERPlus, folder": unpacked(FERPLUS | {"FERPlus-master/fer2013new.csv": ballots()}),
}
SAVED_VOTES: dict[str, bytes] = {
    "crlf and bom": b"\xef\xbb\xbf" + saved(rows_of(ballots()), end="\r\n"),
    "semicolons": saved(rows_of(ballots()), ";"),
    "tabs": saved(rows_of(ballots()), "\t"),
    "index column": with_column("", str, ballots()),
    "quotes": saved([[f'"{field}"' for field in row] for row in rows_of(ballots())]),
    "lower case": ballots().replace(b"Usage,Image name", b"usage,image name", 1).replace(b"NF", b"nf", 1),
    "without names": saved([[row[0], *row[2:]] for row in rows_of(ballots())]),
}


@pytest.mark.parametrize("form", VOTES)
def test_votes_are_kept_as_the_same_table_whatever_they_come_in(form: str, tmp_path: Path) -> None:
    kept = fetch_votes(given(tmp_path, VOTES[form]), tmp_path / "raw")
    assert (tmp_path / "raw" / kept.file).read_bytes() == ballots()
    assert kept.file.endswith(".csv")
    assert [file.name for file in (tmp_path / "raw").iterdir()] == [kept.file]


@pytest.mark.parametrize("form", SAVED_VOTES)
def test_votes_saved_again_are_read(form: str, tmp_path: Path) -> None:
    kept = fetch_votes(given(tmp_path, SAVED_VOTES[form], "fer2013new.csv"), tmp_path / "raw")
    read = votes.read_votes(tmp_path / "raw" / kept.file, faces().splits)
    np.testing.assert_array_equal(read, faces().votes)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (FERPLUS["FERPlus-master/data/FER2013Test/label.csv"], ["label.csv of FER+", "fer2013new.csv"]),
        (zipped(FERPLUS), ["label.csv of FER+", "fer2013new.csv"]),
        (unpacked(FERPLUS), ["label.csv of FER+", "fer2013new.csv"]),
        (table(), ["line 1: the header", "belongs in data.path"]),
        (zipped({"fer2013.csv": table()}), ["fer2013.csv of given.bin", "belongs in data.path"]),
        (zipped({"readme.txt": b"votes"}), ["given.bin does not hold FER+'s fer2013new.csv", "data.votes"]),
        (unpacked({"readme.txt": b"votes"}), ["given does not hold FER+'s fer2013new.csv", "data.votes"]),
        (unpacked({"a/fer2013new.csv": ballots(), "b/fer2013new.csv": ballots()}), ["candidate CSV", "data.votes"]),
        (ballots().replace(b",happiness", b"", 1), ["line 1: the header"]),
        (saved([row if n != 1 else row[:-1] for n, row in enumerate(rows_of(ballots()))]), ["line 2: 11 columns"]),
        (ballots().replace(b"Training,fer", b"train,fer", 1), ["line 2, column Usage: 'train'"]),
        (ballots().decode().encode("utf-16"), ["UTF-16"]),
        (b"", ["empty"]),
        (gzip.compress(b""), ["empty"]),
        (gzip.compress(ballots())[:-9], ["truncated or damaged"]),
        (b"<!DOCTYPE html><html>", ["web page", "data.votes"]),
        (b"version https://git-lfs.github.com/spec/v1\n", ["Git LFS", "data.votes"]),
        (b"\x89HDF\r\n\x1a\n", ["HDF5", "data.votes"]),
        (zipped({"xl/workbook.xml": b"", "[Content_Types].xml": b""}), ["Excel", "data.votes"]),
        (zipped({"../fer2013new.csv": ballots()}), ["outside the archive"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "given",  # not bytes, which hold the time
)
def test_votes_are_refused_for_the_real_cause(
    content: bytes | Callable[[Path], Path], words: list[str], tmp_path: Path
) -> None:
    message = refusal(given(tmp_path, content), tmp_path / "raw", fetch_votes)
    for word in (*words, "given"):
        assert word in message
    assert "data.path to" not in message


def test_too_long_a_table_of_votes_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MAX_VOTES_BYTES", 100)
    assert "MiB" in refusal(put(tmp_path / "votes.csv", ballots()), tmp_path / "raw", fetch_votes)


# --- the order of votes


def drawn_ballots(labels: np.ndarray, ambiguity: float, seed: int) -> np.ndarray:
    """Votes that are split between the label and another class, and in part for neither."""
    rng = np.random.default_rng(seed)
    ballots = np.zeros((len(labels), len(VOTE_COLUMNS)), np.uint8)
    for row, label in enumerate(labels):
        shares = np.full(len(VOTE_COLUMNS), 0.01)
        shares[VOTES_OF_LABELS[label]] = 1
        shares[rng.integers(len(VOTE_COLUMNS))] += ambiguity * 2 * rng.random()
        ballots[row] = rng.multinomial(10, shares / shares.sum())
    return ballots


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [3, 21, 60, 600])
def test_votes_in_order_pass_at_any_size(size: int, seed: int) -> None:
    labels, splits = (np.arange(size) % 7).astype(np.uint8), (np.arange(size) % 3).astype(np.uint8)
    for ambiguity in (0.0, 0.5, 1.0):
        votes.check_order(drawn_ballots(labels, ambiguity, seed), labels, splits, "votes.csv")


ORDERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "shuffled": lambda rows: np.random.default_rng(0).permutation(rows),
    "shifted by one": lambda rows: np.roll(rows, 1),
    "reversed": lambda rows: rows[::-1],
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("where", ["all", 0, 1, 2])
@pytest.mark.parametrize("size", [90, 900])
def test_votes_in_another_order_are_refused(order: str, where: int | str, size: int) -> None:
    """Rows keep their split, so `Usage` says nothing; one split out of order is enough."""
    labels = np.random.default_rng(1).integers(0, 7, size).astype(np.uint8)
    splits = np.repeat(np.arange(3), size // 3).astype(np.uint8)
    rows = np.arange(size)
    for split in range(3) if where == "all" else [int(where)]:
        rows[splits == split] = ORDERS[order](np.flatnonzero(splits == split))
    ballots = drawn_ballots(labels, 0.5, 0)
    votes.check_order(ballots, labels, splits, "votes.csv")
    with pytest.raises(UserError, match=r"votes\.csv: .*order"):
        votes.check_order(ballots[rows], labels, splits, "votes.csv")


def test_a_split_of_one_class_tells_nothing_about_the_order() -> None:
    labels, splits = np.full(90, 3, np.uint8), np.repeat(np.arange(3), 30).astype(np.uint8)
    votes.check_order(drawn_ballots(labels, 1.0, 0), labels, splits, "votes.csv")


def test_agreement_by_chance_is_that_of_random_orders() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice(7, 200, p=[0.3, 0.1, 0.2, 0.1, 0.1, 0.1, 0.1]).astype(np.uint8)
    agreed = np.where(rng.random(200) < 0.8, labels, rng.integers(-1, 7, 200)).astype(np.int64)
    mean, variance, best = votes._by_chance(agreed, labels)
    hits = np.array([(rng.permutation(agreed) == labels).sum() for _ in range(20_000)])
    assert abs(hits.mean() - mean) < 4 * (variance / len(hits)) ** 0.5
    assert variance == pytest.approx(hits.var(), rel=0.05)
    assert best >= (agreed == labels).sum()


# --- foreign files and other refusals

FOREIGN: dict[str, tuple[bytes, str]] = {
    "7z": (b"7z\xbc\xaf\x27\x1c\x00\x04" + bytes(50), "7-Zip"),
    "rar": (b"Rar!\x1a\x07\x01\x00" + bytes(50), "RAR"),
    "bz2": (bz2.compress(table()), "bzip2"),
    "tar.bz2": (tarred({"fer2013.csv": table()}, "w:bz2"), "bzip2"),
    "zst": (b"\x28\xb5\x2f\xfd\x04\x58" + bytes(50), "Zstandard"),
    "lz4": (b"\x04\x22\x4d\x18\x64\x40" + bytes(50), "LZ4"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(50), "HDF5"),
    "parquet": (b"PAR1\x15\x04" + bytes(50), "Parquet"),
    "feather": (b"ARROW1\x00\x00" + bytes(50), "Arrow"),
    "pt": (zipped({"fer/data.pkl": b"\x80\x02.", "fer/version": b"3"}), "PyTorch"),
    "old pt": (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "PyTorch"),
    "pickle": (pickle.dumps([1, 2]), "pickle"),
    "old pickle": (pickle.dumps({"a": 1}, protocol=0), "pickle"),
    "npy": (b"\x93NUMPY\x01\x00" + bytes(50), "NumPy"),
    "npz": (zipped({"images.npy": b"\x93NUMPY", "labels.npy": b"\x93NUMPY"}), "NumPy"),
    "gzipped pickle": (gzip.compress(pickle.dumps([1])), "pickle"),
    "web page": (b"\n\n <!DOCTYPE html>\n<html><title>Kaggle: log in</title>", "web page"),
    "web page in xml": (b'<?xml version="1.0"?><!DOCTYPE html><html xmlns="">', "web page"),
    "xml": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML"),
    "json": (b'{"code":401,"message":"Unauthenticated"}', "JSON"),
    "git lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n", "Git LFS"),
    "annex": (b"/annex/objects/MD5E-s301072714--x.csv\n", "git-annex"),
    "dvc": (b"outs:\n- md5: 0123\n  path: fer2013.csv\n", ".dvc pointer"),
    "pdf": (b"%PDF-1.7\n", "PDF"),
    "jpeg": (b"\xff\xd8\xff\xe0" + bytes(50), "JPEG"),
    "png": (next(iter(images().values())), "PNG"),
    "xlsx": (zipped({"[Content_Types].xml": b"", "xl/workbook.xml": b""}), "Excel"),
    "xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(50), "Excel"),
    "ods": (zipped({"mimetype": b"application/vnd.oasis", "content.xml": b""}), "OpenDocument"),
    "sqlite": (b"SQLite format 3\x00" + bytes(50), "SQLite"),
    "matlab": (b"MATLAB 5.0 MAT-file, Platform: GLNXA64", "MATLAB"),
    "safetensors": (b"\x40\0\0\0\0\0\0\0" + b'{"images":{}}', "safetensors"),
    "elf": (b"\x7fELF\x02" + bytes(50), "program"),
    "torrent": (b"d8:announce35:udp://tracker", "torrent"),
    "apple double": (b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X", "macOS"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_file_is_named_for_what_it_is(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickle, "load", lambda *_, **__: pytest.fail("it was unpickled"))
    monkeypatch.setattr(pickle, "loads", lambda *_, **__: pytest.fail("it was unpickled"))
    content, kind = FOREIGN[name]
    message = refusal(put(tmp_path / "fer2013.csv", content), tmp_path / "raw")
    assert message.startswith("fer2013.csv is ")
    for word in (kind, "data.path", "fer2013.csv or icml_face_data.csv"):
        assert word in message


@pytest.mark.parametrize("pack", [zipped, tarred, unpacked])
def test_a_foreign_file_in_an_archive_is_named_too(pack: Callable[[Files], Any], tmp_path: Path) -> None:
    message = refusal(given(tmp_path, pack({"data/fer2013.h5": b"\x89HDF\r\n\x1a\n", "a.md": b"x"})), tmp_path / "raw")
    assert "data/fer2013.h5 is an HDF5 file" in message
    assert "data.path" in message


HINT = ["icml_face_data.csv", "fer2013.tar.gz"]
TWO_ARCHIVES = {
    "fer2013.zip": zipped({"fer2013.csv": table()}),
    "fer2013.tar.gz": tarred({"fer2013.csv": table()}, "w:gz"),
}
CUT = {"fer2013.tar.gz": competition()["fer2013.tar.gz"][:-500]}
REFUSED: dict[str, tuple[bytes | Callable[[Path], Path], list[str]]] = {
    "train.csv": (without(1, table()), ["column Usage is missing", *HINT]),
    "test.csv": (competition()["test.csv"], ["emotion and Usage are missing", *HINT]),
    "train.csv in a zip": (zipped(only("train.csv")), ["train.csv of given.bin", "Usage", *HINT]),
    "train and test, zip": (zipped(only("train.csv", "test.csv")), ["Usage", *HINT]),
    "train and test, folder": (unpacked(only("train.csv", "test.csv", "example_submission.csv")), ["Usage", *HINT]),
    "column twice": (table().replace(b"emotion", b"Usage", 1), ["column Usage occurs twice"]),
    "column twice but for its case": (
        saved([[*row, row[2].lower()] for row in rows_of(table())]), ["column Usage occurs twice"],
    ),
    "split under another name": (table().replace(b"Usage", b"split", 1), ["column Usage is missing"]),
    "label under another name": (table().replace(b"emotion", b"label", 1), ["column emotion is missing"]),
    "a column per pixel": (
        saved([["emotion", "Usage", *(f"pixel_{n}" for n in range(2304))]]), ["column pixels is missing"],
    ),
    "no header": (table().split(b"\n", 1)[1], ["line 1", "this is already a row of data"]),
    "old macs": (table().replace(b"\n", b"\r"), ["line 1", "CR alone"]),
    "utf-16": (table().decode().encode("utf-16"), ["UTF-16", "UTF-8"]),
    "utf-16 without a mark": (table().decode().encode("utf-16-le"), ["UTF-16", "UTF-8"]),
    "utf-16 of big ends": (table().decode().encode("utf-16-be"), ["UTF-16", "UTF-8"]),
    "zeros": (bytes(5000), ["zeros"]),
    "header alone": (b"emotion,pixels,Usage\n", ["no rows"]),
    "bad first row": (table().replace(b"\n0,", b"\n9,", 1), ["line 2, column emotion: '9'"]),
    "few pixels in the first row": (b"emotion,pixels,Usage\n0,1 2 3,Training\n", ["line 2, column pixels: 3 numbers"]),
    "bad first row in a zip": (
        zipped({"fer2013.csv": table().replace(b"\n0,", b"\n9,", 1)}), ["of given.bin, line 2, column emotion"]
    ),
    "not found": (b"404: Not Found", ["404: Not Found"]),
    "votes": (ballots(), ["FER+'s votes", "data.votes"]),
    "votes in a zip": (zipped(FERPLUS | {"FERPlus-master/fer2013new.csv": ballots()}), ["FER+'s votes", "data.votes"]),
    "votes in a folder": (unpacked({"fer2013new.csv": ballots()}), ["FER+'s votes", "data.votes"]),
    "empty in a zip": (zipped({"fer2013.csv": b""}), ["fer2013.csv of given.bin is empty"]),
    "empty folder": (empty_folder, ["holds neither", "data.path"]),
    "empty zip": (zipped({}), ["holds neither", "data.path"]),
    "two archives": (unpacked(TWO_ARCHIVES), ["2 candidate archives", "data.path"]),
    "split into files": (
        zipped({"train.csv": table(), "val.csv": table()}), ["train.csv, val.csv", "data.path"],
    ),
    "damaged among others": (
        unpacked(CUT | {"fer2013new.csv": ballots(), "notes.zip": b"PK\3\4"}), ["fer2013.tar.gz of given", "damaged"]
    ),
    "one archive of something else": (
        unpacked({"notes.zip": zipped({"a.txt": b"x"})}), ["notes.zip of given holds neither"]
    ),
    "damaged inside": (zipped(CUT), ["fer2013.tar.gz of given.bin", "damaged"]),
    "hostile inside": (zipped({"a.tar": tarred({"../fer2013.csv": table()})}), ["outside the archive"]),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_refused_by_fetch_for_the_real_cause(case: str, tmp_path: Path) -> None:
    content, words = REFUSED[case]
    message = refusal(given(tmp_path, content), tmp_path / "raw")
    for word in words:
        assert word in message


def test_links_are_named_where_nothing_else_is_found(tmp_path: Path) -> None:
    real = put(tmp_path / "blobs/abc", table())
    folder = put(tmp_path / "snapshot/README.md", b"x").parent
    (folder / "fer2013.csv").symlink_to(real)
    assert "fer2013.csv is a link" in refusal(folder, tmp_path / "raw")
    assert fetch_archive(folder / "fer2013.csv", tmp_path / "raw").bytes == len(table())
    put(folder / "fer2013/fer2013.csv", table())
    assert fetch_archive(folder, tmp_path / "raw").used == "fer2013/fer2013.csv of snapshot"


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path / "in/fer2013.csv", table())
    open_ = Path.open

    def guarded(self: Path, *arguments: Any, **more: Any) -> Any:
        if self.name == path.name:  # tests may run as root, who may read everything
            raise PermissionError(13, "Permission denied")
        return open_(self, *arguments, **more)

    monkeypatch.setattr(Path, "open", guarded)
    for place in (path, path.parent):
        assert "cannot be read" in refusal(place, tmp_path / "raw")
    assert "cannot be read" in refusal(path, tmp_path / "raw", fetch_votes)


def test_an_address_is_no_path(tmp_path: Path) -> None:
    address = tmp_path / "https://www.kaggle.com/fer2013.zip"
    assert "data.path is an address (https:/" in refusal(address, tmp_path / "raw")
    assert "data.votes is an address (https:/" in refusal(address, tmp_path / "raw", fetch_votes)


# --- limits


def test_archives_in_archives_end_at_a_depth(tmp_path: Path) -> None:
    content = table()
    for _ in range(archives.MAX_DEPTH):
        content = gzip.compress(content)
    fetch_archive(put(tmp_path / "deep.gz", content), tmp_path / "raw")
    assert "packed in more than" in refusal(put(tmp_path / "deeper.gz", gzip.compress(content)), tmp_path / "raw2")
    russian = table()
    for _ in range(archives.MAX_DEPTH + 2):
        russian = zipped({"a.zip": russian}) if russian != table() else zipped({"fer2013.csv": russian})
    assert "packed in more than" in refusal(put(tmp_path / "dolls.zip", russian), tmp_path / "raw2")


def test_archives_in_archives_end_at_a_number(tmp_path: Path) -> None:
    many = {f"{n}.zip": zipped({"a.txt": b"x"}) for n in range(archives.MAX_NESTED + 1)}
    assert "more than 16 archives" in refusal(put(tmp_path / "many.zip", zipped(many)), tmp_path / "raw")


@pytest.mark.parametrize("inner", ["gz", "zip", "tar.gz"])
@pytest.mark.parametrize("outer", [zipped, tarred])
def test_a_bomb_in_an_archive_stops_at_the_limit(
    outer: Callable[[Files], bytes], inner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zeros = bytes(40_000_000)
    bomb = {
        "gz": lambda: gzip.compress(table() + zeros),
        "zip": lambda: zipped({"fer2013.csv": zeros}),
        "tar.gz": lambda: tarred({"fer2013.csv": zeros}, "w:gz"),
    }[inner]()
    monkeypatch.setattr(archives, "MAX_BYTES", 3_000_000)
    message = refusal(put(tmp_path / "bomb", outer({f"fer2013.{inner}": bomb})), tmp_path / "raw")
    assert "holds more than" in message


def test_layers_share_one_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 256, 2_000_000, np.uint8).tobytes()
    parts = {f"{n}.gz": gzip.compress(noise, 1) for n in range(4)}
    monkeypatch.setattr(archives, "MAX_BYTES", 10_000_000)
    assert "holds" in refusal(put(tmp_path / "parts.tar", tarred(parts)), tmp_path / "raw")


def test_a_tar_header_that_claims_gigabytes_is_not_read_at_once(tmp_path: Path) -> None:
    info = tarfile.TarInfo("././@PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, 1 << 30
    path = tmp_path / "pax.tar.gz"
    with gzip.open(path, "wb", 1) as file:
        file.write(info.tobuf(tarfile.USTAR_FORMAT) + bytes(30 << 20))
    assert "a header claims" in refusal(path, tmp_path / "raw")


def test_tar_headers_upon_headers_are_damage(tmp_path: Path) -> None:
    info = tarfile.TarInfo("././@PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, 0
    content = info.tobuf(tarfile.USTAR_FORMAT) * 3000 + bytes(1024)
    assert "cannot be read" in refusal(put(tmp_path / "chain.tar", content), tmp_path / "raw")


def test_a_zip_directory_that_fills_the_memory_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = zipped({f"{n}.txt": b"" for n in range(50)})
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("it was read"))
    monkeypatch.setattr(archives, "_MAX_DIRECTORY", 1000)
    assert "names fill" in refusal(put(tmp_path / "a.zip", content), tmp_path / "raw")


def test_an_image_of_megabytes_is_not_read(tmp_path: Path) -> None:
    files = images() | {"train/sad/Training_900.png": bytes(2_000_000)}
    for pack, file in ((zipped, "a.zip"), (tarred, "a.tar")):
        kept = fetch_archive(put(tmp_path / file, pack(files)), tmp_path / "raw")
        with pytest.raises(UserError, match=r"Training_900\.png' cannot be read"):
            read_raw(tmp_path / "raw" / kept.file)
    assert "cannot be read" in refusal(given(tmp_path, unpacked(files)), tmp_path / "raw2")


def test_a_zip_packed_in_a_way_that_python_cannot_read_says_so(tmp_path: Path) -> None:
    content = bytearray(zipped({"fer2013.csv": table()}))
    for start, method in ((0, 8), (content.rindex(b"PK\x01\x02"), 10)):
        content[start + method] = 9
    assert "method 9" in refusal(put(tmp_path / "explorer.zip", bytes(content)), tmp_path / "raw")


# --- a Python without lzma


def test_only_xz_needs_lzma(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import sys; sys.modules['lzma'] = sys.modules['_lzma'] = None\n"
        "from pathlib import Path; from pipeline.data.sources import fetch_archive, read_raw\n"
        "for name in sys.argv[2:]:\n"
        "    kept = fetch_archive(Path(name), Path(sys.argv[1])); read_raw(Path(sys.argv[1], kept.file))\n"
    )
    forms = {
        "a.csv": table(),
        "b.gz": gzip.compress(table()),
        "c.zip": zipped(competition()),
        "d.tgz": tarred({"fer2013.csv": table()}, "w:gz"),
    }
    paths = [str(put(tmp_path / name, data)) for name, data in forms.items()]
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "raw"), *paths], cwd=root, check=True)
    monkeypatch.setitem(sys.modules, "lzma", None)
    xz = put(tmp_path / "fer2013.csv.xz", lzma.compress(table()))
    assert "needs Python's module lzma" in refusal(xz, tmp_path / "raw2")
    assert "needs Python's module lzma" in refusal(
        put(tmp_path / "in.zip", zipped({"fer2013.csv.xz": xz.read_bytes()})), tmp_path / "raw2"
    )


def test_votes_out_of_order_in_a_part_are_refused() -> None:
    """One row that moved shifts all rows behind it: the rest of the split still agrees."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 7, 4000).astype(np.uint8)
    counts = np.zeros((len(labels), 10), np.uint8)
    counts[np.arange(len(labels)), np.array(VOTES_OF_LABELS)[labels]] = 10
    splits = np.zeros(len(labels), np.uint8)
    votes.check_order(counts, labels, splits, "votes")
    shifted = np.concatenate([counts[:3000], counts[3001:], counts[3000:3001]])
    with pytest.raises(UserError, match="rows 3000 to 3499 of train"):
        votes.check_order(shifted, labels, splits, "votes")


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"repo/data/fer2013.csv": LFS}, ["fer2013.csv", "Git LFS"]),
        ({"fer2013.csv": table().decode().encode("utf-16"), "demo.csv": table()}, ["fer2013.csv", "UTF-16"]),
        ({"subset.csv": table(), "fer2013.tar.gz": tarred({"fer2013.csv": table()})}, ["subset.csv", "fer2013.tar"]),
    ],
    ids=["pointer", "wrong one of the right name", "stranger beside the archive"],
)
def test_no_other_file_is_taken_for_the_one_that_is_meant(
    members: dict[str, bytes], words: list[str], tmp_path: Path
) -> None:
    for form in (zipped(members), unpacked(members)):
        with pytest.raises(UserError) as refused:
            fetch_archive(given(tmp_path, form), tmp_path / "raw")
        assert all(word in str(refused.value) for word in words)
