"""Where the images come from: bringing an archive in under its digest, and reading it afterwards.

Known forms, told apart by their first bytes and never by their names: FER-2013's CSV file, plain, `.gz` or
`.xz`, or as a member of a `.zip`, `.tar`, `.tar.gz` or `.tar.xz`; and the folder set that Kaggle offers
(`train/<class>/Training_<id>.jpg`, `test/<class>/{PublicTest,PrivateTest}_<id>.jpg`), which is kept as a zip.

An archive is somebody else's: its members are read as streams and never written to disk, at most
`MAX_BYTES` are decompressed, and names or members that reach outside the archive are refused.
"""

from __future__ import annotations

import gzip
import importlib
import io
import lzma
import os
import re
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.data import fer_csv
from pipeline.data.fer import IMAGE_SIZE, LABELS, USAGES, FerData
from pipeline.errors import UserError
from pipeline.files import sha256

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

KAGGLE_SET = "msambare/fer2013"
CSV_NAME = "fer2013.csv"

MAX_BYTES = 2 << 30
"""What a file may decompress to; FER-2013 is 0.3 GB of text."""
MAX_MEMBERS = 200_000
"""How many members an archive may have; the folder set has 35,887."""

Stream = IO[bytes] | io.BufferedIOBase
_CHUNK = 1 << 20
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
_IMAGE_NAME = re.compile(r"(Training|PublicTest|PrivateTest)_([0-9]{1,18})\.(?i:jpe?g|png)")
_LAYOUT = "train/<class>/Training_<id>.jpg or test/<class>/{PublicTest,PrivateTest}_<id>.jpg"
_OTHER_WAYS = "set data.source=archive and data.path=<a copy you have>, or data.source=synthetic"


@dataclass(frozen=True)
class Provenance:
    """Where a kept file came from: `source` (archive, kaggle, ...), `name` (its own, without folders),
    `bytes`, `sha256` (hexadecimal) and `file` (its name in the folder it was brought to)."""

    source: str
    name: str
    bytes: int
    sha256: str
    file: str


def fetch_archive(path: Path, folder: Path, expected_sha256: str | None = None) -> Provenance:
    """Copy a file, or pack a folder set, into `folder` as `sha256-<first 16 digits>.<suffixes>`.

    A folder set is packed into a zip whose bytes depend on the images and their names only; the digest,
    expected or recorded, is that of the zip. The file is read to its end, but not parsed.

    Raises UserError, with nothing left in `folder`, if the digest is not the expected one, or the file
    is missing, unsafe, damaged, or none of the known forms.
    """
    name = path.resolve().name
    if path.is_dir():
        return _keep(folder, "archive", name, lambda copy: _pack(path, copy), expected_sha256)
    if not path.is_file():
        raise UserError(f"{path} is neither a file nor a folder: set data.path to the archive to be used.")
    if path.stat().st_size > MAX_BYTES:
        raise _too_large(name)
    return _keep(folder, "archive", name, lambda copy: shutil.copyfile(path, copy), expected_sha256)


def fetch_kaggle(folder: Path, expected_sha256: str | None = None) -> Provenance:
    """Download Kaggle's folder set through `kagglehub` (an optional extra); then as `fetch_archive`."""
    try:
        kagglehub = importlib.import_module("kagglehub")
    except ImportError as error:
        raise UserError(f"kagglehub cannot be imported ({error}): install it, or {_OTHER_WAYS}.") from error
    try:
        downloaded = Path(kagglehub.dataset_download(KAGGLE_SET))
    # What it raises for no network, no credential or no such set has no common base class.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise UserError(
            f"Kaggle's {KAGGLE_SET} cannot be downloaded ({reason}): check the network and your Kaggle"
            f" credential, or {_OTHER_WAYS}."
        ) from error
    return _keep(folder, "kaggle", KAGGLE_SET, lambda copy: _pack(downloaded, copy), expected_sha256)


def fetch_bytes(data: bytes, source: str, name: str, folder: Path) -> Provenance:
    """Keep data that was made rather than found (a synthetic set) in the same way as `fetch_archive`."""
    return _keep(folder, source, name, lambda copy: copy.write_bytes(data), None)


def read_raw(path: Path, name: str | None = None) -> FerData:
    """Read a file that a `fetch_` function brought in: images, labels and splits, without votes.

    Errors call the file `name`, which should be the user's name for it, and not the one under which it is kept.

    CSV rows keep their order. The folder set has lost it: its rows are sorted by split, then by the
    number in the file name, then by class. Raises UserError if the file cannot be read as either.
    """
    name = name or path.name
    with _open(path, name) as (_, content):
        if isinstance(content, zipfile.ZipFile):
            return _read_images(content, name)
        return fer_csv.parse(content, name)


def in_published_order(path: Path) -> bool:
    """Whether rows come in the published CSV's order, which FER+'s votes need; False for a folder set."""
    if not zipfile.is_zipfile(path):
        return True
    with _open(path, path.name) as (_, content):
        return not isinstance(content, zipfile.ZipFile)


def _keep(
    folder: Path, source: str, name: str, fill: Callable[[Path], object], expected_sha256: str | None
) -> Provenance:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as temporary:
        copy = Path(temporary) / "archive"
        fill(copy)
        digest = sha256(copy)
        if expected_sha256 and digest != expected_sha256.lower():
            raise UserError(
                f"{name} has the SHA-256 digest {digest}, but {expected_sha256} is expected:"
                " use the file that belongs to that digest, or change data.sha256."
            )
        suffix = _read_to_end(copy, name)
        final = folder / f"sha256-{digest[:16]}{suffix}"
        copy.replace(final)
        return Provenance(source, name, final.stat().st_size, digest, final.name)


def _pack(folder: Path, target: Path) -> None:
    """Write the images below `folder` as an uncompressed zip with sorted names and one fixed time."""
    files: dict[str, Path] = {}
    for root, folders, names in os.walk(folder):
        for entry in (*folders, *names):
            if Path(root, entry).is_symlink():
                raise UserError(
                    f"{Path(root, entry)} is a link, and links are not followed: copy the images themselves."
                )
        files |= {Path(root, n).relative_to(folder).as_posix(): Path(root, n) for n in names if _is_image(n)}
    for member in files:
        _place(member, folder.name)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for member in sorted(files):
            info = zipfile.ZipInfo(member, date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system, info.external_attr = 3, 0o644 << 16  # alike on every system
            archive.writestr(info, files[member].read_bytes())


def _read_to_end(path: Path, name: str) -> str:
    """The suffix for what the file is. Raises UserError if any of it cannot be read."""
    with _open(path, name) as (suffix, content):
        if isinstance(content, zipfile.ZipFile):
            _image_members(content, name)
            with _explained(name):
                damaged = content.testzip()
            if damaged is not None:
                raise UserError(f"{name} is damaged at {damaged}: fetch it again.")
        else:
            while content.read(_CHUNK):
                pass
    return suffix


# --- opening what somebody else has packed


@contextmanager
def _open(path: Path, name: str) -> Iterator[tuple[str, io.BufferedReader | zipfile.ZipFile]]:
    """What the file is, as a suffix, and its content: the CSV as a stream, or a folder set as its zip."""
    if not path.is_file():
        raise UserError(f"{path} is missing: run `dvc repro fetch` first.")
    with ExitStack() as stack:
        with _explained(name):
            file = stack.enter_context(path.open("rb"))
            opened = _content(file, name, stack)
        yield opened


def _content(
    file: io.BufferedReader, name: str, stack: ExitStack
) -> tuple[str, io.BufferedReader | zipfile.ZipFile]:
    magic = file.read(6)
    file.seek(0)
    if magic.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        archive = stack.enter_context(zipfile.ZipFile(file))
        members = _zip_members(archive, name)
        if _csv_names(members) or not any(map(_is_image, members)):
            return ".zip", _guarded(stack.enter_context(archive.open(_only_csv(members, name))), name)
        return ".zip", archive

    compression = ""
    stream: Stream = file
    if magic.startswith(b"\x1f\x8b"):
        compression, stream = ".gz", gzip.GzipFile(fileobj=file)
    elif magic == b"\xfd7zXZ\x00":
        compression, stream = ".xz", lzma.LZMAFile(file)  # noqa: SIM115 (holds nothing but `file`)
    plain = _guarded(stream, name)
    head = plain.peek(tarfile.BLOCKSIZE)
    if not head:
        raise UserError(f"{name} is empty: fetch it again.")
    if head[257:262] != b"ustar":
        return f".csv{compression}", plain
    tar = stack.enter_context(tarfile.TarFile(fileobj=plain))
    member = tar.extractfile(_only_csv(_tar_members(tar, name), name))
    assert member is not None  # _tar_members has let files and folders through only
    return f".tar{compression}", _guarded(member, name)


class _Guarded(io.RawIOBase):
    """A stream from an archive: it stops at `MAX_BYTES`, and failure to read it is a UserError."""

    def __init__(self, stream: Stream, name: str) -> None:
        self._stream, self._name = stream, name

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._stream.seekable()

    def readinto(self, buffer: WriteableBuffer) -> int:
        target = memoryview(buffer).cast("B")
        with _explained(self._name):
            data = self._stream.read(len(target))
        self._check(self._stream.tell())
        target[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        # Seeking forward in a compressed stream decompresses all that is passed over.
        self._check(offset)
        with _explained(self._name):
            return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def _check(self, position: int) -> None:
        if position > MAX_BYTES:
            raise _too_large(self._name)


def _guarded(stream: Stream, name: str) -> io.BufferedReader:
    return io.BufferedReader(_Guarded(stream, name), buffer_size=_CHUNK)


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn what the readers of archives raise for a bad file into one sentence."""
    try:
        yield
    except (
        EOFError,
        OSError,
        ValueError,
        NotImplementedError,
        zlib.error,
        lzma.LZMAError,
        zipfile.BadZipFile,
        tarfile.TarError,
    ) as error:
        raise UserError(
            f"{name} cannot be read, it may be cut short or damaged ({error}): fetch it again."
        ) from error


def _too_large(name: str) -> UserError:
    return UserError(
        f"{name} holds more than {MAX_BYTES / 2**30:.2g} GiB and was not read further: it is not FER-2013."
    )


def _zip_members(archive: zipfile.ZipFile, name: str) -> list[str]:
    members = archive.infolist()
    _check_count(len(members), name)
    for member in members:
        _check_member(member.filename, stat.S_ISLNK(member.external_attr >> 16), name)
        if member.flag_bits & 1:
            raise UserError(
                f"{name} is encrypted (at {member.filename!r}): pack it again without a password."
            )
    if sum(member.file_size for member in members) > MAX_BYTES:
        raise _too_large(name)
    return [member.filename for member in members if not member.is_dir()]


def _tar_members(archive: tarfile.TarFile, name: str) -> list[str]:
    names = []
    for count, member in enumerate(archive, start=1):
        _check_count(count, name)
        _check_member(member.name, not (member.isfile() or member.isdir()), name)
        if member.isfile():
            names.append(member.name)
    return names


def _check_count(count: int, name: str) -> None:
    if count > MAX_MEMBERS:
        raise UserError(f"{name} has more than {MAX_MEMBERS} members: it is not FER-2013.")


def _check_member(member: str, is_link: bool, name: str) -> None:
    parts = member.replace("\\", "/").split("/")
    if parts[0] == "" or parts[0].endswith(":") or ".." in parts:
        raise UserError(
            f"{name} has a member outside the archive, {member!r}: it is not safe and was not read."
        )
    if is_link:
        raise UserError(
            f"{name} has a link or a device as a member, {member!r}: it is not safe and was not read."
        )


def _csv_names(members: Sequence[str]) -> list[str]:
    """The members named fer2013.csv; if there are none, every CSV file."""
    named = [member for member in members if PurePosixPath(member).name == CSV_NAME]
    return named or [member for member in members if member.lower().endswith(".csv")]


def _only_csv(members: Sequence[str], name: str) -> str:
    found = _csv_names(members)
    if not found:
        raise UserError(
            f"{name} holds neither {CSV_NAME} nor images named {_LAYOUT}: set data.path to another file."
        )
    if len(found) > 1:
        raise UserError(
            f"{name} holds {len(found)} CSV files ({', '.join(found[:4])}):"
            f" unpack it and set data.path to the one that is {CSV_NAME}."
        )
    return found[0]


# --- the folder set


def _is_image(member: str) -> bool:
    path = PurePosixPath(member)
    # macOS adds a `._name` of its own beside each file that it packs.
    return path.suffix.lower() in _IMAGE_SUFFIXES and not path.name.startswith("._")


def _place(member: str, name: str) -> tuple[int, int, int]:
    """The split, the number and the label that the name of an image states."""
    *_, top, folder, file = ("", "", *PurePosixPath(member).parts)
    match = _IMAGE_NAME.fullmatch(file)
    if match is None:
        raise UserError(
            f"{name}: the name of {member!r} does not tell its split; images are named {_LAYOUT}."
        )
    usage, number = match.groups()
    expected_top = "train" if usage == "Training" else "test"
    if top != expected_top:
        raise UserError(
            f"{name}: {member!r} is in folder {top!r}, but {usage} images belong in {expected_top!r}."
        )
    if folder not in LABELS:
        raise UserError(f"{name}: {member!r} is in class folder {folder!r}; classes are {', '.join(LABELS)}.")
    return USAGES.index(usage), int(number), LABELS.index(folder)


def _image_members(archive: zipfile.ZipFile, name: str) -> list[tuple[int, int, int, str]]:
    """Split, number, label and member of every image, sorted."""
    members = [info.filename for info in archive.infolist() if _is_image(info.filename)]
    images = sorted((*_place(member, name), member) for member in members)
    for image, following in pairwise(images):
        if image[:3] == following[:3]:
            raise UserError(f"{name} holds the same image twice: {image[3]!r} and {following[3]!r}.")
    return images


def _read_images(archive: zipfile.ZipFile, name: str) -> FerData:
    members = _image_members(archive, name)
    images = np.empty((len(members), IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    for row, (_, _, _, member) in enumerate(members):
        with _explained(name):
            data = archive.read(member)
        images[row] = _decode(data, member, name)
    splits, _, labels = np.array([image[:3] for image in members]).T.astype(np.uint8)
    return FerData(images, labels, splits)


def _decode(data: bytes, member: str, name: str) -> npt.NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as image:
            found = f"{image.width} x {image.height} pixels in mode {image.mode}"
            fits = image.mode == "L" and image.size == (IMAGE_SIZE, IMAGE_SIZE)
            pixels = np.asarray(image) if fits else None
    # PNG's reader raises SyntaxError for a broken file.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{name}: image {member!r} cannot be read ({error}): fetch the set again.") from error
    if pixels is None:
        raise UserError(
            f"{name}: image {member!r} has {found}; {IMAGE_SIZE} x {IMAGE_SIZE} in grey (L) are needed."
        )
    return pixels
