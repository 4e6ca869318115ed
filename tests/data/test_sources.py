"""Bringing archives in: every form comes back as the same data, and nothing unsafe or broken is kept."""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import lzma
import os
import struct
import sys
import tarfile
import types
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.data import archives, sources
from pipeline.data.fer import LABELS, PUBLISHED_COUNTS, SPLITS, FerData
from pipeline.data.sources import Provenance, fetch_archive, fetch_bytes, fetch_kaggle, in_published_order, read_raw
from pipeline.data.synthetic.dataset import to_fer_csv
from pipeline.errors import UserError
from tests import packed
from tests.packed import picture, put, tarred, zipped

ARCHIVE = Path(__file__).parents[3] / "shared/data/fer2013/fer2013.tar.gz"


def faces() -> FerData:
    return packed.noise(12)


@functools.cache
def csv_bytes() -> bytes:
    return to_fer_csv(faces())


CHALLENGE = {"fer2013/README": b"about,these\n", "fer2013/fer2013.bib": b"@misc{}", "fer2013/fer2013.csv": csv_bytes()}
FORMS: dict[str, tuple[bytes, str]] = {
    "fer2013.csv": (csv_bytes(), ".csv"),
    "fer2013.csv.gz": (gzip.compress(csv_bytes()), ".csv.gz"),
    "fer2013.csv.xz": (lzma.compress(csv_bytes()), ".csv.xz"),
    "fer2013.zip": (zipped({"fer2013.csv": csv_bytes()}), ".zip"),
    "other-name.zip": (zipped({"icml_face_data.csv": csv_bytes(), "notes.txt": b"x"}), ".zip"),
    "stored.zip": (zipped({"a/fer2013.csv": csv_bytes(), "b.csv": b"1"}, zipfile.ZIP_STORED), ".zip"),
    "fer2013.tar": (tarred(CHALLENGE), ".tar"),
    "fer2013.tar.gz": (tarred(CHALLENGE, "w:gz"), ".tar.gz"),
    "fer2013.tgz": (tarred(CHALLENGE, "w:gz"), ".tar.gz"),
    "fer2013.tar.xz": (tarred(CHALLENGE, "w:xz"), ".tar.xz"),
    "no-suffix": (tarred(CHALLENGE, "w:gz"), ".tar.gz"),
    "wrong-suffix.zip": (csv_bytes(), ".csv"),
}


def of_size(side: int, png: bytes) -> bytes:
    """A PNG file that claims to be a square of so many pixels."""
    header = b"IHDR" + struct.pack(">II", side, side) + png[24:29]
    return png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]


def folder_set(root: Path) -> FerData:
    """Write `faces` as Kaggle's folders, numbered so that text order and number order differ."""
    data = faces()
    for name, content in packed.folder_set(data, step=7).items():
        put(root / name, content)
    order = np.argsort(data.splits, kind="stable")
    return FerData(data.images[order], data.labels[order], data.splits[order])


def assert_same(actual: FerData, expected: FerData) -> None:
    for name in ("images", "labels", "splits"):
        assert getattr(actual, name).dtype == np.uint8
        np.testing.assert_array_equal(getattr(actual, name), getattr(expected, name))


def refuse(path: Path, says: str, folder: Path, **more: str) -> str:
    """Fetching must end in a UserError that says so in one line and leaves nothing in the folder."""
    with pytest.raises(UserError) as caught:
        fetch_archive(path, folder, **more)
    message = str(caught.value)
    assert says in message
    assert "\n" not in message
    assert not folder.exists() or list(folder.iterdir()) == []
    return message


# --- what is accepted


@pytest.mark.parametrize("name", FORMS)
def test_every_form_comes_back_as_the_same_data(name: str, tmp_path: Path) -> None:
    content, suffix = FORMS[name]
    found = fetch_archive(put(tmp_path / "given" / name, content), tmp_path / "raw")
    digest = hashlib.sha256(content).hexdigest()
    assert found == Provenance("archive", name, len(content), digest, f"sha256-{digest[:16]}{suffix}")
    assert [path.name for path in (tmp_path / "raw").iterdir()] == [found.file]
    kept = tmp_path / "raw" / found.file
    assert kept.read_bytes() == content
    assert_same(read_raw(kept), faces())
    assert in_published_order(kept)


def test_fetching_twice_changes_nothing(tmp_path: Path) -> None:
    path = put(tmp_path / "fer2013.csv", csv_bytes())
    assert fetch_archive(path, tmp_path / "raw") == fetch_archive(path, tmp_path / "raw")
    assert len(list((tmp_path / "raw").iterdir())) == 1


def test_the_expected_digest_is_accepted_in_either_case(tmp_path: Path) -> None:
    path = put(tmp_path / "fer2013.csv", csv_bytes())
    digest = hashlib.sha256(csv_bytes()).hexdigest()
    for expected in (digest, digest.upper(), "", None):
        assert fetch_archive(path, tmp_path / "raw", expected).sha256 == digest


def test_made_data_is_kept_like_found_data(tmp_path: Path) -> None:
    kept = fetch_bytes(csv_bytes(), "synthetic", "faces.csv", tmp_path)
    assert (kept.source, kept.name, kept.bytes) == ("synthetic", "faces.csv", len(csv_bytes()))
    assert_same(read_raw(tmp_path / kept.file), faces())


def test_a_folder_set_becomes_one_zip_in_order_of_split_and_number(tmp_path: Path) -> None:
    expected = folder_set(tmp_path / "kaggle")
    put(tmp_path / "kaggle/README.md", b"not an image")
    put(tmp_path / "kaggle/train/angry/._Training_0.png", b"left by macOS")
    found = fetch_archive(tmp_path / "kaggle", tmp_path / "raw")
    assert (found.source, found.name) == ("archive", "kaggle")
    assert found.file == f"sha256-{found.sha256[:16]}.zip"
    kept = tmp_path / "raw" / found.file
    assert_same(read_raw(kept), expected)
    assert not in_published_order(kept)
    with zipfile.ZipFile(kept) as archive:
        names = archive.namelist()
        assert names == sorted(names)
        assert len(names) == 12
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}


def test_a_packed_folder_does_not_depend_on_times_modes_or_place(tmp_path: Path) -> None:
    folder_set(tmp_path / "one")
    folder_set(tmp_path / "deep/er/two")
    for age, path in enumerate(sorted((tmp_path / "deep").rglob("*.png"))):
        path.chmod(0o600)
        os.utime(path, (1_000_000_000 + age, 1_000_000_000 + age))
    one, two = (fetch_archive(tmp_path / name, tmp_path / "raw") for name in ("one", "deep/er/two"))
    assert one.sha256 == two.sha256
    put(tmp_path / "one/train/angry/Training_999.png", picture(faces().images[0]))
    assert fetch_archive(tmp_path / "one", tmp_path / "raw").sha256 != one.sha256


def test_a_zip_of_the_folder_set_is_accepted_with_or_without_an_outer_folder(tmp_path: Path) -> None:
    expected = folder_set(tmp_path / "kaggle")
    files = {
        p.relative_to(tmp_path / "kaggle").as_posix(): p.read_bytes() for p in (tmp_path / "kaggle").rglob("*.png")
    }
    for outer in ("", "fer2013/"):
        path = put(tmp_path / "archive.zip", zipped({outer + name: data for name, data in files.items()}))
        kept = fetch_archive(path, tmp_path / "raw")
        assert kept.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert_same(read_raw(tmp_path / "raw" / kept.file), expected)


def test_jpeg_images_are_read(tmp_path: Path) -> None:
    flat = np.full((48, 48), 77, np.uint8)
    put(tmp_path / "k/train/sad/Training_3.jpg", picture(flat, "JPEG"))
    put(tmp_path / "k/test/happy/PrivateTest_2.JPEG", picture(flat, "JPEG"))
    data = read_raw(tmp_path / fetch_archive(tmp_path / "k", tmp_path).file)
    assert [SPLITS[s] for s in data.splits] == ["train", "test"]
    assert [LABELS[s] for s in data.labels] == ["sad", "happy"]
    np.testing.assert_array_equal(data.images, [flat, flat])


def test_sorts_by_number_not_by_text(tmp_path: Path) -> None:
    for number in (10, 9, 100):
        put(tmp_path / f"k/train/sad/Training_{number}.png", picture(np.full((48, 48), number, np.uint8)))
    data = read_raw(tmp_path / fetch_archive(tmp_path / "k", tmp_path).file)
    assert data.images[:, 0, 0].tolist() == [9, 10, 100]


# --- digests and missing files


def test_a_wrong_digest_is_refused_before_anything_is_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path / "fer2013.csv", csv_bytes())
    monkeypatch.setattr(sources, "_read_to_end", lambda *_: pytest.fail("it was read"))
    digest = hashlib.sha256(csv_bytes()).hexdigest()
    message = refuse(path, digest, tmp_path / "raw", expected_sha256="0" * 64)
    assert "0" * 64 in message
    assert "fer2013.csv" in message


def test_a_failed_fetch_leaves_what_was_there(tmp_path: Path) -> None:
    kept = fetch_archive(put(tmp_path / "a.csv", csv_bytes()), tmp_path / "raw")
    with pytest.raises(UserError):
        fetch_archive(put(tmp_path / "b.gz", gzip.compress(csv_bytes())[:-9]), tmp_path / "raw")
    assert [path.name for path in (tmp_path / "raw").iterdir()] == [kept.file]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    refuse(tmp_path / "nowhere.csv", "nowhere.csv is neither a file nor a folder: set data.path", tmp_path / "raw")
    with pytest.raises(UserError, match=r"sha256-0\.csv is missing: run `dvc repro fetch`"):
        read_raw(tmp_path / "sha256-0.csv")


# --- damaged archives


@pytest.mark.parametrize("content", [b"", gzip.compress(b""), lzma.compress(b"")], ids=["plain", "gz", "xz"])
def test_an_empty_file_is_refused(content: bytes, tmp_path: Path) -> None:
    refuse(put(tmp_path / "faces", content), "faces is empty", tmp_path / "raw")


@pytest.mark.parametrize(
    "name", ["fer2013.csv.gz", "fer2013.csv.xz", "fer2013.zip", "fer2013.tar.gz", "fer2013.tar.xz"]
)
def test_cut_short_anywhere_it_is_refused(name: str, tmp_path: Path) -> None:
    content = FORMS[name][0]
    step = len(content) // 23
    lengths = {*range(6, 40), *range(40, len(content), step), *range(len(content) - 30, len(content))}
    for length in sorted(lengths):
        message = refuse(put(tmp_path / "cut", content[:length]), "", tmp_path / "raw")
        assert "truncated or damaged" in message or "is empty" in message


def test_a_tar_cut_in_its_csv_is_refused(tmp_path: Path) -> None:
    content = tarred({"fer2013.csv": csv_bytes()})
    for length in range(1024, 512 + len(csv_bytes()), 4999):
        refuse(put(tmp_path / "cut", content[:length]), "truncated or damaged", tmp_path / "raw")


@pytest.mark.parametrize("name", [name for name in FORMS if name.startswith("fer2013.") and name != "fer2013.csv"])
def test_a_flipped_bit_is_noticed_or_harmless(name: str, tmp_path: Path) -> None:
    """Whatever is damaged: either one clear sentence, or the same data as before. Never a traceback."""
    content = FORMS[name][0]
    rng = np.random.default_rng(1)
    offsets = {*range(0, 30), *range(len(content) - 60, len(content)), *rng.integers(0, len(content), 30).tolist()}
    checksummed = name != "fer2013.tar"  # a plain tar says nothing about its members' contents
    for offset in sorted(offsets):
        damaged = bytearray(content)
        damaged[offset] ^= 1 << int(rng.integers(8))
        try:
            kept = fetch_archive(put(tmp_path / "damaged", bytes(damaged)), tmp_path / "raw")
            data = read_raw(tmp_path / "raw" / kept.file)
        except UserError:
            continue
        assert not checksummed or np.array_equal(data.images, faces().images)


def test_a_damaged_image_in_a_zip_is_refused(tmp_path: Path) -> None:
    content = bytearray(zipped({"train/sad/Training_1.png": picture(faces().images[0])}, zipfile.ZIP_STORED))
    content[200] ^= 1
    refuse(put(tmp_path / "k.zip", bytes(content)), "k.zip is damaged at train/sad/Training_1.png", tmp_path / "raw")


# --- archives that mean harm


@pytest.mark.parametrize("form", ["csv.gz", "csv.xz", "zip", "tar.gz", "tar.xz", "before", "images", "csv"])
def test_a_bomb_stops_at_the_limit(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit, zeros = 3_000_000, bytes(40_000_000)
    bomb = {
        "csv": lambda: bytes(3_000_001),
        "csv.gz": lambda: gzip.compress(zeros),
        "csv.xz": lambda: lzma.compress(zeros),
        "zip": lambda: zipped({"fer2013.csv": zeros}),
        "tar.gz": lambda: tarred({"fer2013.csv": zeros}, "w:gz"),
        "tar.xz": lambda: tarred({"fer2013.csv": zeros}, "w:xz"),
        "before": lambda: tarred({"padding": zeros, "fer2013.csv": csv_bytes()}, "w:gz"),
        "images": lambda: zipped({f"train/sad/Training_{i}.png": zeros[:2_000_000] for i in range(2)}),
    }[form]()
    read = 0
    decompress = gzip._GzipReader.read

    def counted(self: gzip._GzipReader, size: int = -1) -> bytes:
        nonlocal read
        data = decompress(self, size)
        read += len(data)
        return data

    monkeypatch.setattr(gzip._GzipReader, "read", counted)
    monkeypatch.setattr(archives, "MAX_BYTES", limit)
    refuse(put(tmp_path / "bomb", bomb), "holds more than", tmp_path / "raw")
    assert read <= limit + 2 * archives._CHUNK


def test_a_file_over_the_limit_is_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_BYTES", 100)
    monkeypatch.setattr("pipeline.data.sources.shutil.copyfileobj", lambda *_: pytest.fail("it was copied"))
    refuse(put(tmp_path / "big.csv", bytes(101)), "big.csv holds more than", tmp_path / "raw")


def test_a_zip_that_lies_about_a_size_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory claims 100 bytes for a member that unpacks to 40 MB: no more than those are read."""
    content = bytearray(zipped({"fer2013.csv": bytes(40_000_000)}))
    directory = content.rindex(b"PK\x01\x02")
    content[directory + 24 : directory + 28] = (100).to_bytes(4, "little")
    refuse(put(tmp_path / "liar.zip", bytes(content)), "truncated or damaged", tmp_path / "raw")


def test_a_sparse_tar_member_stops_at_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GNU's sparse files state a size of which next to nothing is stored."""
    info = tarfile.TarInfo("fer2013.csv")
    info.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[483:495] = f"{1 << 32:011o}\0".encode()
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    refuse(put(tmp_path / "sparse.tar", bytes(header) + bytes(1024)), "holds more than 2 GiB", tmp_path / "raw")


def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    members = {f"{i}.txt": b"" for i in range(4)}
    for name, content in (("a.zip", zipped(members)), ("a.tar.gz", tarred(members, "w:gz"))):
        refuse(put(tmp_path / name, content), f"{name} has more than 3 members", tmp_path / "raw")


@pytest.mark.parametrize(
    "member",
    ["../fer2013.csv", "/fer2013.csv", "a/../../fer2013.csv", "..\\fer2013.csv", "C:/fer2013.csv", "C:\\x.csv"],
)
@pytest.mark.parametrize("pack", [zipped, tarred])
def test_a_member_outside_the_archive_is_refused(
    member: str, pack: Callable[[dict[str, bytes]], bytes], tmp_path: Path
) -> None:
    content = pack({"fer2013.csv": csv_bytes(), member: csv_bytes()})
    message = refuse(put(tmp_path / "in/evil", content), "evil has a member outside the archive", tmp_path / "raw")
    assert "not safe" in message
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["evil"]


@pytest.mark.parametrize(
    ("kind", "target"),
    [(tarfile.SYMTYPE, "/etc/passwd"), (tarfile.LNKTYPE, "other.csv"), (tarfile.FIFOTYPE, ""), (tarfile.CHRTYPE, "")],
)
@pytest.mark.parametrize("name", ["fer2013.csv", "README"])
def test_a_link_or_device_in_a_tar_is_refused(name: str, kind: bytes, target: str, tmp_path: Path) -> None:
    content = tarred({"other.csv": csv_bytes()}, "w:gz", links={name: (kind, target)})
    refuse(put(tmp_path / "evil.tgz", content), f"has a link or a device as a member, {name!r}", tmp_path / "raw")


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("fer2013.csv")
    info.create_system, info.external_attr = 3, 0o120777 << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(info, "/etc/passwd")
    refuse(put(tmp_path / "evil.zip", buffer.getvalue()), "has a link or a device as a member", tmp_path / "raw")


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    content = bytearray(zipped({"fer2013.csv": csv_bytes()}))
    for start, flags in ((0, 6), (content.rindex(b"PK\x01\x02"), 8)):
        content[start + flags] |= 1
    refuse(put(tmp_path / "locked.zip", bytes(content)), "locked.zip is encrypted (at 'fer2013.csv')", tmp_path / "raw")


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_more_than_one_candidate_is_refused(pack: Callable[[dict[str, bytes]], bytes], tmp_path: Path) -> None:
    content = pack({"a/fer2013.csv": csv_bytes(), "b/fer2013.csv": csv_bytes()})
    message = refuse(
        put(tmp_path / "two", content),
        "two holds 2 candidate CSV files (a/fer2013.csv, b/fer2013.csv)",
        tmp_path / "raw",
    )
    assert "data.path" in message


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_an_archive_of_something_else_is_refused(pack: Callable[[dict[str, bytes]], bytes], tmp_path: Path) -> None:
    message = refuse(
        put(tmp_path / "other", pack({"cat.txt": b"miaow"})), "holds neither fer2013.csv nor", tmp_path / "raw"
    )
    assert "train/<class>/Training_<id>.jpg" in message


# --- folder sets that do not fit


@pytest.mark.parametrize(
    ("member", "says"),
    [
        ("train/angry/1.png", "'train/angry/1.png' does not give its split"),
        ("train/angry/Test_1.png", "does not give its split"),
        ("train/angry/Training_x.png", "does not give its split"),
        ("train/angry/Training_\N{ARABIC-INDIC DIGIT THREE}.png", "does not give its split"),
        (f"train/angry/Training_{'9' * 5000}.png", "does not give its split"),
        ("test/angry/Training_1.png", "in folder 'test', but Training images belong in 'train'"),
        ("train/angry/PrivateTest_1.png", "in folder 'train', but PrivateTest images belong in 'test'"),
        ("valid/angry/PublicTest_1.png", "in folder 'valid', but PublicTest images belong in 'test'"),
        ("Training_1.png", "in folder '', but Training images belong in 'train'"),
        ("train/Training_1.png", "in folder '', but"),
        ("train/contempt/Training_1.png", "in class folder 'contempt'; classes are angry, disgust"),
        ("train/Angry/Training_1.png", "in class folder 'Angry'"),
    ],
)
def test_an_image_in_the_wrong_place_is_named(member: str, says: str, tmp_path: Path) -> None:
    good = {"train/sad/Training_5.png": picture(faces().images[0])}
    refuse(put(tmp_path / "k.zip", zipped(good | {member: picture(faces().images[1])})), says, tmp_path / "raw")
    if len(member) < 200:
        for name in (*good, member):
            put(tmp_path / "k" / name, picture(faces().images[0]))
        refuse(tmp_path / "k", says, tmp_path / "raw")


def test_the_same_image_twice_is_refused(tmp_path: Path) -> None:
    content = zipped({f"{outer}/train/sad/Training_5.png": picture(faces().images[0]) for outer in ("a", "b")})
    refuse(put(tmp_path / "k.zip", content), "holds the same image twice: 'a/train/", tmp_path / "raw")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (picture(np.zeros((48, 47), np.uint8)), "has 47 x 48 pixels in mode L, but must have 48 x 48 in grey"),
        (picture(np.zeros((48, 48, 3), np.uint8), "JPEG"), "has 48 x 48 pixels in mode RGB"),
        (picture(np.zeros((48, 48), np.uint8))[:60], "cannot be read"),
        (picture(np.zeros((48, 48), np.uint8), "JPEG")[:-200], "cannot be read"),
        (picture(np.zeros((48, 48), np.uint8), "GIF"), "cannot be read"),
        (b"", "cannot be read"),
        (b"not an image", "cannot be read"),
        (of_size(20_000, picture(np.zeros((48, 48), np.uint8))), "more than 89 million pixels"),
    ],
    ids=["size", "colour", "png cut", "jpeg cut", "gif", "empty", "text", "bomb"],
)
def test_an_image_that_does_not_fit_is_named(content: bytes, says: str, tmp_path: Path) -> None:
    put(tmp_path / "k/train/sad/Training_4.png", picture(faces().images[0]))
    put(tmp_path / "k/train/sad/Training_5.png", content)
    kept = fetch_archive(tmp_path / "k", tmp_path / "raw")
    with pytest.raises(UserError) as caught:
        read_raw(tmp_path / "raw" / kept.file)
    assert "image 'train/sad/Training_5.png'" in str(caught.value)
    assert says in str(caught.value)
    assert "object at" not in str(caught.value), "Pillow names what it reads by its place in memory"


def test_an_archive_that_asks_for_too_much_memory_is_refused() -> None:
    """As an xz file can that names a dictionary of gigabytes."""
    with pytest.raises(UserError, match="needs more memory"), archives.explained("fer2013.csv.xz"):
        raise MemoryError


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "k/readme.txt", b"")
    refuse(tmp_path / "k", "k holds neither fer2013.csv nor images named train/<class>", tmp_path / "raw")


@pytest.mark.parametrize("what", ["file", "folder", "dangling"])
def test_links_in_a_folder_set_are_not_followed(what: str, tmp_path: Path) -> None:
    folder_set(tmp_path / "k")
    secret = put(tmp_path / "elsewhere/Training_77.png", picture(faces().images[0]))
    link = tmp_path / "k/train" / ("fear" if what == "folder" else "angry/Training_77.png")
    if what == "folder":
        link = tmp_path / "k/train/elsewhere"
    link.symlink_to({"file": secret, "folder": secret.parent, "dangling": tmp_path / "nowhere"}[what])
    refuse(tmp_path / "k", f"{link} is a link, and links are not followed", tmp_path / "raw")


# --- Kaggle


def fake_kagglehub(monkeypatch: pytest.MonkeyPatch, download: Callable[[str], str]) -> None:
    module = types.ModuleType("kagglehub")
    module.dataset_download = download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kagglehub", module)


def test_kaggle_downloads_and_packs_its_folder_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = folder_set(tmp_path / "cache/1")
    asked = []

    def download(handle: str) -> str:
        asked.append(handle)
        return str(tmp_path / "cache/1")

    fake_kagglehub(monkeypatch, download)
    found = fetch_kaggle(tmp_path / "raw")
    assert asked == ["msambare/fer2013"]
    assert (found.source, found.name) == ("kaggle", "msambare/fer2013")
    assert_same(read_raw(tmp_path / "raw" / found.file), expected)
    assert fetch_kaggle(tmp_path / "raw", found.sha256) == found
    with pytest.raises(UserError, match=found.sha256):
        fetch_kaggle(tmp_path / "raw2", "0" * 64)
    assert list((tmp_path / "raw2").iterdir()) == []


def test_without_kagglehub_the_other_ways_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(UserError, match="kagglehub cannot be imported") as caught:
        fetch_kaggle(tmp_path / "raw")
    for way in ("data.source=archive", "data.path=", "data.source=synthetic"):
        assert way in str(caught.value)
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (ConnectionError("no route to host"), "no route to host"),
        (PermissionError("403 Client Error.\n\nPlease make sure you are authenticated"), "403 Client Error"),
        (ValueError(), "ValueError"),
        (RuntimeError("x" * 5000), "x" * 200),
    ],
)
def test_when_kaggle_fails_the_other_ways_are_named(
    failure: Exception, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(handle: str) -> str:
        raise failure

    fake_kagglehub(monkeypatch, download)
    with pytest.raises(UserError) as caught:
        fetch_kaggle(tmp_path / "raw")
    message = str(caught.value)
    assert f"({reason})" in message
    assert "\n" not in message
    for way in ("credential", "data.source=archive", "data.path=", "data.source=synthetic"):
        assert way in message
    assert not (tmp_path / "raw").exists()


# --- the real thing


@pytest.mark.skipif(not ARCHIVE.exists(), reason="needs FER-2013 at ../shared/data/fer2013/fer2013.tar.gz")
@pytest.mark.medium
def test_the_challenge_archive_holds_what_was_published(tmp_path: Path) -> None:
    found = fetch_archive(ARCHIVE, tmp_path)
    assert (found.name, found.bytes) == ("fer2013.tar.gz", ARCHIVE.stat().st_size)
    assert found.file.endswith(".tar.gz")
    data = read_raw(tmp_path / found.file)
    assert data.images.shape == (35_887, 48, 48)
    for split in SPLITS:
        counts = np.bincount(data.labels[data.rows(split)], minlength=len(LABELS))
        assert tuple(counts) == PUBLISHED_COUNTS[split]
