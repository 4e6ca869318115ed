"""Mutated archives against fetch: `python -m tests.soak.archives --cases 10000 --seed 0`.

Each case packs a tiny FER-2013 in one of the forms that people have, does something to it (to the packed bytes, to
what is packed, to names and members, or it is a bomb from the start) and brings it in. It must be read, or refused
in one sentence that leaves nothing behind; where a form has checksums, what is read must be what was packed.
"""

from __future__ import annotations

import bz2
import functools
import gzip
import io
import lzma
import random
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.data import sources
from pipeline.data.fer import LABELS, USAGES, FerData
from pipeline.data.synthetic.dataset import to_fer_csv
from pipeline.errors import UserError
from pipeline.files import sha256
from tests.packed import Files, folder_set, noise
from tests.soak.mutations import MUTATIONS
from tests.soak.pool import BrokenPromiseError, command

ROWS = 9

HOSTILE_NAMES = (
    *("../fer2013.csv", "/etc/fer2013.csv", "a/../../fer2013.csv", "..\\fer2013.csv", "C:\\fer2013.csv"),
    *("\\\\host\\share\\fer2013.csv", "./fer2013.csv", "fer2013.csv/", "", ".", "..", "/", "//fer2013.csv"),
    *("fer2013.csv\n", "fer\x1b[31m2013.csv", "fer2013.csv\x00.exe", "a\tb.csv", "é张/fer2013.csv", "\u202efer.csv"),
    *("a" * 5_000 + ".csv", "d/" * 2_000 + "fer2013.csv", "CON.csv", "fer2013.CSV", " fer2013.csv ", "-rf.csv"),
    *("train/happy/Training_999999999999999999.png", "train/happy/Training_1.png/x.csv", "train/joy/Training_1.png"),
    *("test/happy/Training_1.png", "train/happy/../Training_1.png", "x/train/happy/Training_1.jpg", "happy/1.png"),
    *("__MACOSX/._fer2013.csv", ".DS_Store", "train.csv", "icml_face_data.csv", "fer2013new.csv", "Thumbs.db"),
    "\udc80\udcff.csv",
)


def faces() -> FerData:
    """A data set of noise, every split in it."""
    return noise(ROWS, sorted_splits=True)


@functools.cache
def as_csv() -> bytes:
    return to_fer_csv(faces())


@functools.cache
def as_images() -> Files:
    """The folder set, without loss and in the order in which it is read: by split, number and class."""
    return folder_set(faces())


# --- how files are packed. Each function takes names and contents.


def to_zip(rng: random.Random, files: Files, method: int | None = None) -> bytes:
    methods = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", rng.choice(methods) if method is None else method) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo("x")
            entry.filename = name.encode("utf-8", "replace").decode()  # set here, as ZipInfo cuts names at \0
            entry.compress_type = archive.compression
            entry.external_attr = rng.choice([0o644, 0o100644, stat.S_IFREG | 0o600]) << 16
            archive.writestr(entry, data)
    return content.getvalue()


def to_tar(rng: random.Random, files: Files, dialect: int | None = None) -> bytes:
    if dialect is None:
        dialect = rng.choice([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=dialect, errors="surrogateescape") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            try:
                archive.addfile(entry, io.BytesIO(data))
            except ValueError:  # a name that USTAR cannot hold
                entry.name = name[-90:].lstrip("/")
                archive.addfile(entry, io.BytesIO(data))
    return content.getvalue()


def compress(rng: random.Random, data: bytes) -> bytes:
    return rng.choice([lambda d: gzip.compress(d, 6), lzma.compress, bz2.compress])(data)


@dataclass(frozen=True)
class Packed:
    """What a person has: a file or a folder, and whether its form would notice any damage."""

    form: str
    content: bytes | Files
    checked: bool = False


def pack(rng: random.Random) -> Packed:
    """The data set, whole and in one of its forms."""
    csv, images = as_csv(), as_images()
    folder = rng.choice(["", "", "fer2013/", "a/b c/é/"])
    named = {f"{folder}fer2013.csv": csv}
    beside = {**named, f"{folder}README": b"hello", f"{folder}fer2013.bib": b"@x{}"}
    mac = {**named, f"__MACOSX/{folder}._fer2013.csv": b"\0\5\x16\7" + bytes(200), ".DS_Store": bytes(100)}
    files = rng.choice([named, beside, mac, {f"{folder}{name}": data for name, data in images.items()}])
    forms: list[Callable[[], Packed]] = [
        lambda: Packed("csv", csv),
        lambda: Packed("csv.gz", gzip.compress(csv, 1), True),
        lambda: Packed("csv.xz", lzma.compress(csv, preset=0), True),
        lambda: Packed("csv.bz2", bz2.compress(csv, 1), True),
        lambda: Packed("zip", to_zip(rng, files), True),
        lambda: Packed("zip", to_zip(rng, files), True),
        lambda: Packed("tar", to_tar(rng, files)),
        lambda: Packed("tar.gz", gzip.compress(to_tar(rng, files), 1), True),
        lambda: Packed("tar.gz", gzip.compress(to_tar(rng, files), 1), True),
        lambda: Packed("tar.xz", lzma.compress(to_tar(rng, files), preset=0), True),
        lambda: Packed("zip of tar.gz", to_zip(rng, {"fer2013.tar.gz": gzip.compress(to_tar(rng, named))}), True),
        lambda: Packed("zip of csv.gz", to_zip(rng, {"fer2013.csv.gz": gzip.compress(csv)}), True),
        lambda: Packed("zip of zip", to_zip(rng, {"fer2013.zip": to_zip(rng, named)}), True),
        lambda: Packed("folder", files),
        lambda: Packed("folder of tar.gz", {"fer2013.tar.gz": gzip.compress(to_tar(rng, named))}),
    ]
    return rng.choice(forms)()


# --- what is done to it


def damaged(rng: random.Random) -> tuple[str, Packed]:
    """The bytes of the archive change on their way."""
    packed, names = pack(rng), []
    content = packed.content
    for mutation in rng.choices(MUTATIONS, k=rng.choice([1, 1, 1, 2, 5])):
        names.append(mutation.__name__)
        if isinstance(content, bytes):
            content = mutation(rng, content)
        else:
            name = rng.choice(list(content))
            content = {**content, name: mutation(rng, content[name])}
    return f"{packed.form}, {' and '.join(names)}", Packed(packed.form, content, packed.checked)


def damaged_within(rng: random.Random) -> tuple[str, Packed]:
    """What is packed is damaged before it is packed: every checksum is right."""
    csv, images = as_csv(), dict(as_images())
    mutation = rng.choice(MUTATIONS)
    files: Files
    if rng.random() < 0.5:
        files = {"fer2013.csv": mutation(rng, csv)}
    else:
        name = rng.choice(list(images))
        images[name] = rng.choice([mutation(rng, images[name]), odd_image(rng)])
        files = images
    packers: list[Callable[[], Packed]] = [
        lambda: Packed("zip", to_zip(rng, files)),
        lambda: Packed("folder", files),
        lambda: Packed("tar.gz", gzip.compress(to_tar(rng, files))),
        lambda: Packed("zip of tar.gz", to_zip(rng, {"x.tar.gz": mutation(rng, gzip.compress(to_tar(rng, files)))})),
        lambda: Packed("gz of tar", gzip.compress(mutation(rng, to_tar(rng, files)))),
        lambda: Packed("gz of gz", gzip.compress(mutation(rng, gzip.compress(csv)))),
    ]
    return f"{mutation.__name__} within", rng.choice(packers)()


def odd_image(rng: random.Random) -> bytes:
    size = rng.choice([(0, 0), (1, 1), (48, 47), (480, 480), (48, 48)])
    mode = rng.choice(["L", "RGB", "RGBA", "P", "1", "I;16", "CMYK", "LA"])
    form = rng.choice(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
    content = io.BytesIO()
    try:
        Image.new(mode, size).save(content, form)
    except (OSError, ValueError, SystemError, MemoryError):  # no such image in that format
        return png_of(rng.choice([1, 48, 9_000, 14_000, 60_000, 2**31 - 1, 2**32 - 1]))
    return content.getvalue()


def png_of(side: int) -> bytes:
    """A few bytes that claim to be a grey image of any size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(1 << 20))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def hostile(rng: random.Random) -> tuple[str, Packed]:
    """Names and members that no honest archive has."""
    kind = rng.choice(["name", "name", "member", "twin", "many", "headers", "flags", "link"])
    files: Files = {"fer2013.csv": as_csv()} if rng.random() < 0.7 else dict(as_images())
    if kind == "name":
        name = rng.choice(HOSTILE_NAMES)
        files = rng.choice([{name: as_csv()}, {**files, name: rng.choice([as_csv(), b"x", b""])}])
        content = rng.choice([to_zip, to_tar])(rng, files)
    elif kind == "member":
        content = tar_with(rng, files, rng.choice([b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"S", b"D", b"M"]))
    elif kind == "twin":
        content = zip_with_twins(rng, files)
    elif kind == "many":
        # Stored: it is their number that is tried.
        many = {f"{rng.choice(['', 'd/'])}{n}.csv": b"" for n in range(rng.choice([300, 3000]))}
        content = rng.choice([to_zip(rng, files | many, zipfile.ZIP_STORED), to_tar(rng, files | many)])
    elif kind == "headers":
        content = tar_of_headers(rng)
    elif kind == "flags":
        content = zip_with_flags(rng, files)
    else:
        content = zip_with_link(rng, files)
    if rng.random() < 0.3:
        content = compress(rng, content)
    return f"hostile {kind}", Packed(kind, content)


def tar_with(rng: random.Random, files: Files, kind: bytes) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.GNU_FORMAT) as archive:
        odd = tarfile.TarInfo(rng.choice(["fer2013.csv", "x", "a/fer2013.csv"]))
        odd.type, odd.linkname = kind, rng.choice(["/etc/passwd", "fer2013.csv", "../../x", "x"])
        odd.size = rng.choice([0, 0, 512, 1 << 40])
        archive.addfile(odd)
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return content.getvalue()


def tar_of_headers(rng: random.Random) -> bytes:
    """Extended headers: long names, one after the other, of sizes and with records that cannot be."""
    records = [
        b"30 path=../../fer2013.csv\n",
        b"19 size=99999999999999\n",
        b"12 size=-12\n",
        b"10 size=x\n",
        b"999999999999 path=x\n",
        b"0 path=x\n",
        b"25 GNU.sparse.size=1e99\n",
        b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n30 GNU.sparse.name=x.csv\n",
        b"27 GNU.sparse.map=1,2,3,x\n",
        b"21 hdrcharset=BINARY\n16 path=\xff\xfe\x80\n",
        b"20 mtime=1e999999999\n",
        b"11 mtime=nan\n",
    ]
    blocks = b""
    kinds = rng.choice([b"L", b"K", b"x", b"g", b"xL", b"X", b"S"])
    for number in range(rng.choice([1, 2, 50, 3000])):
        data = rng.choice(records) if rng.random() < 0.8 else rng.randbytes(rng.choice([0, 1, 600]))
        entry = tarfile.TarInfo("././@LongLink")
        entry.type = kinds[number % len(kinds)].to_bytes(1, "big")
        entry.size = len(data) if rng.random() < 0.9 else rng.choice([0, 1 << 33, 1 << 45, (1 << 63) - 1])
        blocks += entry.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512)
    return blocks + rng.choice([b"", to_tar(rng, {"fer2013.csv": as_csv()}, tarfile.GNU_FORMAT)])


def zip_with_twins(rng: random.Random, files: Files) -> bytes:
    import warnings

    content = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(content, "w") as archive:
        warnings.simplefilter("ignore")
        for _ in range(2):
            for name, data in files.items():
                archive.writestr(rng.choice([name, name, name.upper(), f"./{name}"]), data)
    return content.getvalue()


def zip_with_flags(rng: random.Random, files: Files) -> bytes:
    """Encrypted, of an unknown method or version, with fields of 64 bits that lie."""
    data = bytearray(to_zip(rng, files))
    start = data.rfind(b"PK\x01\x02")
    offset, form, value = rng.choice(
        [
            (8, "<H", 1),
            (8, "<H", 0x41),
            (8, "<H", 0xFFFF),
            (10, "<H", rng.choice([1, 6, 9, 93, 95, 96, 97, 98, 99, 0xFFFF])),
            (6, "<H", 0xFF),
            (20, "<I", 0xFFFFFFFF),
            (24, "<I", rng.choice([0, 1, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF])),
            (28, "<H", 0xFFFF),
            (30, "<H", rng.choice([4, 0xFFFF])),
            (42, "<I", rng.choice([0xFFFFFFFF, 1, len(data)])),
            (12, "<I", 0),
            (38, "<I", (stat.S_IFIFO | 0o644) << 16),
        ]
    )
    struct.pack_into(form, data, start + offset, value)
    return bytes(data)


def zip_with_link(rng: random.Random, files: Files) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        entry = zipfile.ZipInfo(rng.choice(["fer2013.csv", "train/happy/Training_1.png", "x"]))
        entry.external_attr = (rng.choice([stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK]) | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
        for name, data in files.items():
            if name != entry.filename:
                archive.writestr(name, data)
    return content.getvalue()


def bomb(rng: random.Random) -> tuple[str, Packed]:
    """A small file that would fill the memory or the disk, or take hours."""
    piece = rng.choice([b"\0", b"1", b" ", b"\n", b",", b'"', b"1 ", b"0,1 2,Training\n", b"emotion,pixels,Usage"])
    head = rng.choice([b"", b"emotion,pixels,Usage\n", as_csv()])
    size = rng.choice([20, 60, 200, 200, 700, 3000]) << 20
    gz = repeated(head, piece, size)
    kind = rng.choice(["gz", "gz", "tar.gz", "zip", "gz of gz", "xz", "dictionary", "image", "zip that lies"])
    if kind == "gz":
        content = gz
    elif kind == "tar.gz":
        name = tarfile.TarInfo(rng.choice(["fer2013.csv", "x.csv", "README"]))
        name.size = rng.choice([len(head) + size, 1 << 40])
        content = gzip.compress(name.tobuf(tarfile.GNU_FORMAT)) + gz
    elif kind in ("zip", "zip that lies"):
        size = min(size, 200 << 20)
        content = to_zip(rng, {"fer2013.csv": head + piece * (size // len(piece))}, zipfile.ZIP_DEFLATED)
        if kind == "zip that lies":
            content = content.replace(struct.pack("<I", len(head) + size // len(piece) * len(piece)), b"\1\0\0\0")
    elif kind == "gz of gz":
        content = gzip.compress(gz)
    elif kind == "xz":
        block = lzma.compress(piece * ((16 << 20) // len(piece)))
        content = lzma.compress(head) + block * min(size // (16 << 20), 60)
    elif kind == "dictionary":
        filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 4096}]
        small = bytearray(lzma.compress(as_csv(), filters=filters))
        place = small.index(b"\x21\x01", 12)
        small[place + 2] = rng.choice([30, 36, 38, 39, 40])  # up to 4 GiB
        small_header = bytes(small[12 : 12 + (small[12] + 1) * 4 - 4])
        small[12 + len(small_header) : 16 + len(small_header)] = struct.pack("<I", zlib.crc32(small_header))
        content = bytes(small)
    else:
        content = to_zip(rng, {**as_images(), "train/sad/Training_77.png": png_of(rng.choice([20_000, 13_000]))})
    return f"bomb, {kind}", Packed(kind, content)


def repeated(head: bytes, piece: bytes, size: int) -> bytes:
    """A gzip file of `size` bytes of one pattern, made without writing them out."""
    block = gzip.compress(piece * ((16 << 20) // len(piece)), 6)
    return gzip.compress(head) + block * (size // (16 << 20))


def whole(rng: random.Random) -> tuple[str, Packed]:
    packed = pack(rng)
    return f"{packed.form}, whole", packed


KINDS = ((damaged, 0.60), (damaged_within, 0.17), (hostile, 0.17), (whole, 0.05), (bomb, 0.01))
READ_WHOLE = ("csv", "csv.gz", "csv.xz", "zip", "tar", "tar.gz", "tar.xz")
"""Forms of a CSV file, or of images in a zip, that must be read when nothing happened to them."""


def run(seed: int, case: int, folder: Path) -> str:
    """One case. See `tests.soak.pool.Case`."""
    rng = random.Random(f"archives {seed} {case}")
    (make,) = rng.choices([kind for kind, _ in KINDS], [weight for _, weight in KINDS])
    what, packed = make(rng)
    path = written(packed, folder, rng)
    return bring(path, folder / "raw", packed, make is whole, what)


def written(packed: Packed, folder: Path, rng: random.Random) -> Path:
    # Any name: forms are told apart by what they are.
    if isinstance(packed.content, bytes):
        path = folder / rng.choice(["fer2013.csv", "fer2013.tar.gz", "archive.zip", "download", "fer (1).csv", "é张"])
        path.write_bytes(packed.content)
        return path
    path = folder / "a folder"
    for name, data in packed.content.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def bring(path: Path, raw: Path, packed: Packed, untouched: bool, what: str) -> str:
    """Fetch and read; hold the promises of both."""
    before = listing(path.parent)
    try:
        kept = sources.fetch_archive(path, raw)
    except UserError:
        left = [name for name in listing(path.parent) if name not in before and name != "raw"]
        if left:
            raise BrokenPromiseError(f"{what}: refused, but left {left}") from None
        if untouched and packed.form in READ_WHOLE and not is_image_tar(packed):
            raise BrokenPromiseError(f"{what}: refused") from None
        raise
    present = {name: size for name, size in listing(path.parent).items() if name not in before and name != "raw"}
    if present != {f"raw/{kept.file}": kept.bytes} or sha256(raw / kept.file) != kept.sha256:
        raise BrokenPromiseError(f"{what}: kept {present}, but says {kept}")
    if {name: size for name, size in listing(path.parent).items() if name in before} != before:
        raise BrokenPromiseError(f"{what}: the user's own file has changed")
    read = sources.read_raw(raw / kept.file, kept.name)
    n = len(read.labels)
    if read.images.shape != (n, 48, 48) or read.splits.shape != (n,) or n == 0:
        raise BrokenPromiseError(f"{what}: read as {read.images.shape}, {read.splits.shape}, {n} labels")
    if read.labels.max() >= len(LABELS) or read.splits.max() >= len(USAGES):
        raise BrokenPromiseError(f"{what}: labels or splits out of range")
    if (packed.checked or untouched) and not same(read, faces()):
        raise BrokenPromiseError(f"{what}: read, but not what was packed")
    return what


def is_image_tar(packed: Packed) -> bool:
    """Images in a tar are no form that is offered anywhere."""
    return packed.form.startswith("tar") and b".png" in _first(packed.content)


def _first(content: bytes | Files) -> bytes:
    assert isinstance(content, bytes)
    for opened in (gzip.decompress, lzma.decompress):
        try:
            return opened(content)[:2000]
        except (OSError, lzma.LZMAError):
            continue
    return content[:2000]


def listing(folder: Path) -> dict[str, int]:
    """Every file and folder below, with the sizes of files."""
    return {
        path.relative_to(folder).as_posix(): path.stat().st_size if path.is_file() else -1 for path in folder.rglob("*")
    }


def same(one: FerData, other: FerData) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("images", "labels", "splits"))


if __name__ == "__main__":
    command("archives", run)()
