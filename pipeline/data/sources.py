"""Copy the images' archive into the workspace under its digest, and read it afterwards.

Accepted formats, recognised by their first bytes and never by their names: FER-2013's CSV file, plain, `.gz` or `.xz`,
or as a member of a `.zip`, `.tar`, `.tar.gz` or `.tar.xz`, or of one of these in another, such as the competition's
download; and Kaggle's folder set (`train/<class>/Training_<id>.jpg`, `test/<class>/{PublicTest,PrivateTest}_<id>.jpg`),
as a folder, which is kept as a zip, or in one of these archives.

Other pictures are read from a folder with one folder per class (`pipeline.data.folder_set`), and kept in the form in
which they are used: as grey images of 48 x 48 pixels, without what else their files tell of people and places.

Archives come from unknown sources: `pipeline.data.archives` reads them safely.
"""

from __future__ import annotations

import importlib
import io
import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from pipeline.data import archives, fer_csv, folder_set, kinds, votes
from pipeline.data.archives import HEAD, Bundle, Entry, FolderBundle, Found, Search, Wanted, shown
from pipeline.data.fer import IMAGE_SIZE, LABELS, USAGES, FerData
from pipeline.data.pictures import opened
from pipeline.errors import UserError, first_line
from pipeline.files import naming, sha256

KAGGLE_SET = "msambare/fer2013"
CSV_NAME = "fer2013.csv"
COMPETITION_NAME = "icml_face_data.csv"
VOTES_NAME = "fer2013new.csv"

MAX_VOTES_BYTES = 64 << 20
"""Maximum size of the votes; FER+ has 1.6 MB."""
MAX_IMAGE_BYTES = 1 << 20
"""Maximum size of an image file; 48 x 48 pixels take 2 KB."""

_IMAGE_NAME = re.compile(r"(Training|PublicTest|PrivateTest)_([0-9]{1,18})\.(?i:jpe?g|png)")
_LAYOUT = "train/<class>/Training_<id>.jpg or test/<class>/{PublicTest,PrivateTest}_<id>.jpg"
_OTHER_WAYS = "set data.source=archive and data.path=<a copy you have>, or data.source=synthetic"
_START = 1 << 16
"""Bytes that contain the header and the first row of a table."""


@dataclass(frozen=True)
class Provenance:
    """The origin of a kept file.

    source: archive, kaggle, ...; name: its original name without folders; bytes; sha256: hexadecimal; file: its name in
    the folder that keeps it. used: the member that was taken if there was a choice; in_published_order: whether rows
    have the order of the published CSV file, which FER+'s votes need.
    """

    source: str
    name: str
    bytes: int
    sha256: str
    file: str
    used: str | None = field(default=None, compare=False)
    in_published_order: bool = field(default=True, compare=False)

    def facts(self) -> dict[str, str | int]:
        """Return the recorded facts: `used` only if there was a choice; nothing that the file itself shows."""
        facts = {name: getattr(self, name) for name in ("source", "name", "bytes", "sha256", "file")}
        return facts | ({"used": self.used} if self.used else {})


def fetch_archive(path: Path, folder: Path, expected_sha256: str | None = None) -> Provenance:
    """Copy a file, or pack a folder set, into `folder` as `sha256-<first 16 digits>.<suffixes>`.

    If a folder contains a CSV file or an archive, that file is copied. A folder set is packed into a zip whose bytes
    depend on the images and their names only; the digest, expected or recorded, is that of the kept file. The file is
    read to its end, but of a table only the header and the first row are parsed.

    Raises UserError, with nothing left in `folder`, if the digest is not the expected one, or if the file is missing,
    unsafe, damaged or in no accepted format.
    """
    name = shown(path.resolve().name)
    if path.is_dir():
        with ExitStack() as stack:
            search = Search(_FACES, stack)
            bundle = FolderBundle(path, search.budget)
            found = search.in_bundle(bundle)
            if found.entry is None:
                return _keep(folder, "archive", name, lambda copy: _pack(bundle, copy), expected_sha256)
            chosen = Path(found.entry.key)
        return _keep_copy(chosen, folder, expected_sha256, f"{shown(found.entry.path)} of {name}")
    if not path.is_file():
        raise _missing(path, "data.path", "the archive to be used")
    return _keep_copy(path, folder, expected_sha256)


def fetch_kaggle(folder: Path, expected_sha256: str | None = None) -> Provenance:
    """Download Kaggle's folder set through `kagglehub` (an optional extra) and keep it like `fetch_archive`."""
    try:
        kagglehub = importlib.import_module("kagglehub")
    except ImportError as error:
        raise UserError(f"kagglehub cannot be imported ({error}): install it, or {_OTHER_WAYS}.") from error
    try:
        downloaded = Path(kagglehub.dataset_download(KAGGLE_SET))
    # Its exceptions for no network, no credential or no such set have no common base class.
    except Exception as error:
        raise UserError(
            f"Kaggle's {KAGGLE_SET} cannot be downloaded ({first_line(error, 200)}): check the network and your Kaggle"
            f" credential, or {_OTHER_WAYS}."
        ) from error
    bundle = FolderBundle(downloaded, archives.Budget())
    return _keep(folder, "kaggle", KAGGLE_SET, lambda copy: _pack(bundle, copy), expected_sha256)


def fetch_folder(
    path: Path, folder: Path, classes: Sequence[str] = (), expected_sha256: str | None = None,
    note: Callable[[str], object] = print,
) -> Provenance:  # fmt: skip
    """Keep the pictures of a folder with one folder per class as `sha256-<first 16 digits>.npz`.

    classes: their names in order; without, the names of the folders, sorted. `note` is called with how many there are,
    and with files that are left out. Raises UserError, with nothing left in `folder`, if the folder or a picture cannot
    be read.
    """
    name = shown(path.resolve().name)
    if path.is_file():
        raise UserError(
            f"{name} is a file, but the source 'folder' takes a folder of pictures: unpack it first, or set data.source"
            " to archive if it is FER-2013."
        )
    if not path.is_dir():
        raise _missing(path, "data.path", "a folder of pictures")
    pictures = folder_set.read(path, classes, note)
    note(f"pictures: {folder_set.count_by_class(pictures)}")
    with _filled(folder, pictures.save, name, expected_sha256) as (copy, digest):
        final = copy.replace(folder / f"sha256-{digest[:16]}.npz")
        return Provenance("folder", name, final.stat().st_size, digest, final.name, in_published_order=False)


def fetch_votes(path: Path, folder: Path) -> Provenance:
    """Keep FER+'s table of votes, in any accepted format, as a plain CSV file.

    Raises UserError, with nothing left in `folder`, if there is no such table, or if its header or first row is wrong.
    """
    with ExitStack() as stack:
        search = Search(_VOTES, stack)
        name = shown(path.resolve().name)
        if path.is_dir():
            found = search.in_bundle(FolderBundle(path, search.budget))
        elif path.is_file():
            with archives.explained(name):
                file = stack.enter_context(path.open("rb"))
            found = search.in_file(file, name)
        else:
            raise _missing(path, "data.votes", f"FER+'s {VOTES_NAME}")
        assert isinstance(found.content, io.BufferedReader)  # no images are wanted
        data = archives.read_all(found.content, MAX_VOTES_BYTES)
    if len(data) > MAX_VOTES_BYTES:
        raise UserError(f"{found.name} has more than {MAX_VOTES_BYTES >> 20} MiB: it is not FER+'s {VOTES_NAME}.")
    if not data:
        raise UserError(f"{found.name} is empty: fetch it again.")
    votes.check_start(data[:_START], found.name)
    own = PurePosixPath(found.entry.path).name if found.entry else path.resolve().name
    file_name = own if found.suffix == ".csv" or own.lower().endswith(".csv") else VOTES_NAME
    return _keep_bytes(data, "archive", file_name, folder, found.name if found.choice else None)


def fetch_bytes(data: bytes, source: str, name: str, folder: Path) -> Provenance:
    """Keep generated CSV content (a synthetic set) under its digest."""
    return _keep_bytes(data, source, name, folder, None)


def read_raw(path: Path, name: str | None = None) -> FerData:
    """Read a file that a `fetch_` function kept: images, labels and splits, without votes.

    name: the file's name in errors, which should be the user's own.

    CSV rows keep their order. The folder set has lost it: its rows are sorted by split, then by the number in the file
    name, then by class. Raises UserError if the file cannot be read as either.
    """
    with ExitStack() as stack:
        found = _open(path, name or path.name, stack)
        if isinstance(found.content, Bundle):
            return _read_images(found.content)
        return fer_csv.parse(found.content, found.name)


def in_published_order(path: Path) -> bool:
    """Return whether rows have the published CSV's order, which FER+'s votes need; False for a folder set."""
    with ExitStack() as stack:
        return not isinstance(_open(path, path.name, stack).content, Bundle)


def _open(path: Path, name: str, stack: ExitStack) -> Found:
    if not path.is_file():
        raise UserError(f"{path} is missing: run `dvc repro fetch` first.")
    with archives.explained(name):
        file = stack.enter_context(path.open("rb"))
    return Search(_FACES, stack).in_file(file, name)


def _missing(path: Path, key: str, what: str) -> UserError:
    address = re.search(r"(https?|s3|gs):/", str(path))
    if address:
        return UserError(
            f"{key} is an address ({str(path)[address.start() :]}): download it, and set {key} to the file."
        )
    return UserError(f"{path} is neither a file nor a folder: set {key} to {what}.")


# --- keeping


def _keep_copy(path: Path, folder: Path, expected_sha256: str | None, label: str | None = None) -> Provenance:
    """Keep a copy of a file that messages call `label`."""
    name = shown(path.resolve().name)
    if path.stat().st_size > archives.MAX_BYTES:
        raise archives.too_large(label or name)

    def copy_to(copy: Path) -> None:
        with archives.explained(label or name):
            file = path.open("rb")
        with file, copy.open("wb") as target:
            shutil.copyfileobj(file, target, 1 << 20)

    return _keep(folder, "archive", name, copy_to, expected_sha256, label)


def _keep(
    folder: Path,
    source: str,
    name: str,
    fill: Callable[[Path], object],
    expected_sha256: str | None,
    label: str | None = None,
) -> Provenance:
    with _filled(folder, fill, label or name, expected_sha256) as (copy, digest):
        found = _read_to_end(copy, label or name)
        final = folder / f"sha256-{digest[:16]}{found.suffix}"
        copy.replace(final)
        return Provenance(
            source,
            name,
            final.stat().st_size,
            digest,
            final.name,
            found.name if found.choice or label else None,
            not isinstance(found.content, Bundle),
        )


@contextmanager
def _filled(
    folder: Path, fill: Callable[[Path], object], label: str, expected_sha256: str | None = None
) -> Iterator[tuple[Path, str]]:
    """Yield a temporary file in `folder` that `fill` wrote, and its digest. The block moves it to its place.

    Raises UserError if the digest is not the expected one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with naming(folder), tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as temporary:
        copy = Path(temporary) / "archive"
        fill(copy)
        digest = sha256(copy)
        if expected_sha256 and digest != expected_sha256.lower():
            raise UserError(
                f"{label} has the SHA-256 digest {digest}, but {expected_sha256} is expected:"
                " use the file with that digest, or change data.sha256."
            )
        yield copy, digest


def _keep_bytes(data: bytes, source: str, name: str, folder: Path, used: str | None) -> Provenance:
    with _filled(folder, lambda copy: copy.write_bytes(data), name) as (copy, digest):
        final = copy.replace(folder / f"sha256-{digest[:16]}.csv")
    return Provenance(source, name, len(data), digest, final.name, used)


def _pack(folder: FolderBundle, target: Path) -> None:
    """Write the images of a folder as an uncompressed zip with sorted names and one fixed time."""
    for link in folder.links:
        raise UserError(f"{link} is a link, and links are not followed: copy the images themselves.")
    images = sorted((entry for entry in folder.entries if entry.is_image), key=lambda entry: entry.path)
    for entry in images:
        _place(entry.path, folder.name)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for entry in images:
            info = zipfile.ZipInfo(entry.path, date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system, info.external_attr = 3, 0o644 << 16  # identical on every system
            archive.writestr(info, _image_bytes(folder, entry))


def _read_to_end(path: Path, name: str) -> Found:
    """Return what a file is. Raises UserError if any of it cannot be read or if its beginning is wrong."""
    with ExitStack() as stack:
        found = _open(path, name, stack)
        if isinstance(found.content, Bundle):
            images = _image_members(found.content)
            found.content.verify()
            for *_, entry in images[:1]:
                _decode(_image_bytes(found.content, entry), entry.path, found.name)
        else:
            head = found.content.peek(_START)[:_START]
            archives.drain(found.content)
            _check_faces(head, len(head) < _START, found.name)
    return found


# --- searches


def _header_of_faces(head: bytes, name: str) -> None:
    if _is_votes(head):
        raise UserError(f"{name} holds FER+'s votes and no images: it belongs in data.votes, not in data.path.")
    fer_csv.read_header(head.partition(b"\n")[0], name)


def _check_faces(head: bytes, whole: bool, name: str) -> None:
    _header_of_faces(head, name)
    fer_csv.check_start(head, whole, name)


def _is_votes(head: bytes) -> bool:
    try:
        votes.read_header(head[:HEAD], "")
    except UserError:
        return False
    return True


def _holds(bundle: Bundle) -> str:
    """Return the foreign files of a bundle, as a clause to follow its name."""
    known = [(entry, kinds.describe(entry.head)) for entry in bundle.entries]
    foreign = [f"{shown(entry.path)} is {kind}" for entry, kind in known if kind]
    return f" ({'; '.join(foreign[:2])})" if foreign else ""


def _linked(bundle: Bundle) -> UserError | None:
    for link in bundle.links if isinstance(bundle, FolderBundle) else ():
        return UserError(f"{link} is a link, and links inside a folder are not followed: name the file itself.")
    return None


def _no_faces(bundle: Bundle, faults: Sequence[UserError]) -> UserError:
    tables = [entry for entry in bundle.entries if entry.path.lower().endswith(".csv")]
    for entry in tables:
        if _is_votes(entry.head):
            return UserError(
                f"{bundle.name} holds FER+'s votes ({shown(entry.path)}) and no images:"
                " it belongs in data.votes, and data.path needs FER-2013 itself."
            )
    for entry in tables:
        try:
            fer_csv.read_header(entry.head.partition(b"\n")[0], f"{shown(entry.path)} of {bundle.name}")
        except UserError as error:
            if "Usage" in str(error) and b"pixels" in entry.head[:200]:
                return error
    if len(faults) == 1:
        return faults[0]
    return _linked(bundle) or UserError(
        f"{bundle.name} holds neither {CSV_NAME} nor images named {_LAYOUT}{_holds(bundle)}:"
        " set data.path to another file."
    )


def _no_votes(bundle: Bundle, faults: Sequence[UserError]) -> UserError:
    for entry in bundle.entries:
        if entry.file.lower() == "label.csv":
            try:
                votes.read_header(entry.head, f"{shown(entry.path)} of {bundle.name}")
            except UserError as error:
                return error
    if len(faults) == 1:
        return faults[0]
    return _linked(bundle) or UserError(
        f"{bundle.name} does not hold FER+'s {VOTES_NAME}{_holds(bundle)}: set data.votes to that file,"
        ' to a folder or an archive that holds it, or to "" for none.'
    )


_FACES = Wanted(
    key="data.path",
    check=_header_of_faces,
    names=(CSV_NAME, COMPETITION_NAME),
    archives=re.compile(r"fer[-_ ]?2013(?!new)|^icml|challenges-in-representation", re.IGNORECASE),
    forms=(
        f"FER-2013 is read as {CSV_NAME} or {COMPETITION_NAME}, plain, .gz, .xz or in a .zip or .tar(.gz, .xz),"
        " and as Kaggle's folders of images: set data.path to one of these"
    ),
    image=re.compile(rf"(?:^|/){_IMAGE_NAME.pattern}$"),
    explain=_no_faces,
)
_VOTES = Wanted(
    key="data.votes",
    check=lambda head, name: votes.read_header(head[:HEAD], name),
    names=(VOTES_NAME,),
    archives=re.compile(r"fer[-_ ]?2013new|fer[-_ ]?plus|fer\+", re.IGNORECASE),
    forms=(
        f"FER+'s votes are read as {VOTES_NAME}, plain, .gz, .xz or in a folder, a .zip or a .tar(.gz, .xz):"
        " set data.votes to one of these"
    ),
    image=None,
    explain=_no_votes,
)


# --- the folder set


def _place(member: str, name: str) -> tuple[int, int, int]:
    """Return the split, number and label encoded in an image's path."""
    *_, top, folder, file = ("", "", *PurePosixPath(member).parts)
    match = _IMAGE_NAME.fullmatch(file)
    if match is None:
        raise UserError(
            f"{name}: the name of {member!r} does not give its split; images must be named {_LAYOUT}"
            " (for pictures of your own, set data.source to folder)."
        )
    usage, number = match.groups()
    expected_top = "train" if usage == "Training" else "test"
    if top != expected_top:
        raise UserError(f"{name}: {member!r} is in folder {top!r}, but {usage} images belong in {expected_top!r}.")
    if folder not in LABELS:
        raise UserError(f"{name}: {member!r} is in class folder {folder!r}; classes are {', '.join(LABELS)}.")
    return USAGES.index(usage), int(number), LABELS.index(folder)


def _image_members(bundle: Bundle) -> list[tuple[int, int, int, Entry]]:
    """Return split, number, label and entry of every image, sorted."""
    places = ((*_place(entry.path, bundle.name), entry) for entry in bundle.entries if entry.is_image)
    images = sorted(places, key=lambda image: (*image[:3], image[3].path))
    for image, following in pairwise(images):
        if image[:3] == following[:3]:
            raise UserError(f"{bundle.name} holds the same image twice: {image[3].path!r} and {following[3].path!r}.")
    return images


def _read_images(bundle: Bundle) -> FerData:
    members = _image_members(bundle)
    row_of = {entry.path: row for row, (*_, entry) in enumerate(members)}
    images = np.empty((len(members), IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    # In the archive's own order, so that a compressed tar is read once.
    for entry in bundle.entries:
        if entry.is_image:
            images[row_of[entry.path]] = _decode(_image_bytes(bundle, entry), entry.path, bundle.name)
    splits, _, labels = np.array([image[:3] for image in members]).T.astype(np.uint8)
    return FerData(images, labels, splits)


def _image_bytes(bundle: Bundle, entry: Entry) -> bytes:
    if entry.size > MAX_IMAGE_BYTES:
        raise UserError(
            f"{bundle.name}: image {shown(entry.path)!r} cannot be read: it has {entry.size} bytes, and"
            f" {IMAGE_SIZE} x {IMAGE_SIZE} pixels need no more than {MAX_IMAGE_BYTES}."
        )
    with bundle.open(entry) as content:
        return content.read(MAX_IMAGE_BYTES + 1)


def _decode(data: bytes, member: str, name: str) -> npt.NDArray[np.uint8]:
    with opened(data, f"{name}: image {member!r}", ("JPEG", "PNG"), "fetch the set again") as image:
        found = f"{image.width} x {image.height} pixels in mode {image.mode}"
        fits = image.mode == "L" and image.size == (IMAGE_SIZE, IMAGE_SIZE)
        pixels = np.asarray(image) if fits else None
    if pixels is None:
        raise UserError(f"{name}: image {member!r} has {found}, but must have {IMAGE_SIZE} x {IMAGE_SIZE} in grey (L).")
    return pixels
