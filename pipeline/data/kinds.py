"""Name a foreign file by its first bytes, so that a rejection says what the file is.

Nothing here opens a file: pickles, among others, run code when they are loaded.
"""

from __future__ import annotations

from collections.abc import Iterable

HEAD = 4096
"""Number of first bytes that identify every kind here."""

_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (0, b"Rar!\x1a\x07", "a RAR archive"),
    (0, b"BZh", "a bzip2 file"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard file"),
    (0, b"\x04\x22\x4d\x18", "an LZ4 file"),
    (0, b"LZIP", "an lzip file"),
    (0, b"\x5d\x00\x00", "a file of the old .lzma form"),
    (0, b"\x1f\x9d", "a file of compress (.Z)"),
    (0, b"\xff\x06\x00\x00sNaPpY", "a Snappy file"),
    (0, b"MSCF", "a Windows cabinet"),
    (0, b"xar!", "a xar archive"),
    (0, b"PK\x07\x08", "one part of a split zip"),
    (0, b"070701", "a cpio archive"),
    (0, b"070707", "a cpio archive"),
    (0, b"\x78\x9c", "a zlib stream, such as joblib writes"),
    (0, b"\x78\xda", "a zlib stream, such as joblib writes"),
    (0, b"!<arch>\n", "a Unix library or Debian package"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (0, b"CDF\x01", "a NetCDF file"),
    (0, b"CDF\x02", "a NetCDF file"),
    (0, b"PAR1", "a Parquet file"),
    (0, b"ARROW1", "an Arrow or Feather file"),
    (0, b"FEA1", "a Feather file"),
    (0, b"ORC", "an ORC file"),
    (0, b"Obj\x01", "an Avro file"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"MATLAB 5.0 MAT-file", "a MATLAB file"),
    (0, b"RDX", "an R data file"),
    (0, b"SQLite format 3\x00", "an SQLite database"),
    (16, b"\xde\xc0\xef\xbe", "an LMDB database"),
    (5, b'\x00\x00\x00{"', "a safetensors file"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel or Office file"),
    (0, b"%PDF-", "a PDF document"),
    (0, b"{\\rtf", "an RTF document"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (0, b"GIF8", "a GIF image"),
    (0, b"II*\x00", "a TIFF image"),
    (0, b"MM\x00*", "a TIFF image"),
    (8, b"WEBP", "a WebP image"),
    (4, b"ftyp", "a video or HEIF image"),
    (8, b"AVI ", "a video"),
    (0, b"\x1aE\xdf\xa3", "a video"),
    (0, b"\x7fELF", "a program"),
    (0, b"MZ", "a Windows program"),
    (0, b"bplist00", "a property list of macOS"),
    (0, b"\x00\x05\x16\x07", "a `._` file of macOS, which accompanies the real one"),
    (0, b"[InternetShortcut]", "a shortcut, not what it points to"),
    (0, b"[Desktop Entry]", "a shortcut, not what it points to"),
    (0, b"L\x00\x00\x00\x01\x14\x02\x00", "a shortcut of Windows, not what it points to"),
    (0, b"d8:announce", "a torrent, not what it downloads"),
    (0, b"version https://git-lfs.github.com/spec/", "a Git LFS pointer, not the file (`git lfs pull` gets it)"),
    (0, b"version https://hawser.github.com/spec/", "a Git LFS pointer, not the file (`git lfs pull` gets it)"),
    (0, b"/annex/objects/", "a git-annex pointer, not the file (`git annex get` gets it)"),
    (0, b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "a PyTorch file (a pickle, which is never loaded)"),
)

_PICKLE = "a Python pickle, which is never loaded"
_TEXT_PICKLES = (b"(dp0\n", b"(lp0\n", b"(dp1\n", b"(lp1\n", b"ccopy_reg\n", b"cnumpy", b"c__builtin__\n")
_XML = (b"<?xml", b"<error>", b"<svg")


def describe(head: bytes) -> str | None:
    """Return the kind of a file with these first bytes, as the end of a sentence; None if unknown or text."""
    for offset, magic, kind in _MAGIC:
        if head.startswith(magic, offset):
            return kind
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return _PICKLE
    if head.startswith(_TEXT_PICKLES):
        return _PICKLE
    if head.startswith(b"BM") and b"\x00" in head[:32]:
        return "a BMP image"
    return _of_text(head)


def _of_text(head: bytes) -> str | None:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<script", b"<!--")) or (
        text.startswith(_XML) and b"<html" in text
    ):
        return "a web page (often the result of a download without the required login)"
    if text.startswith(_XML):
        return "an XML document"
    if text.startswith((b'{"', b"[{", b"{\n", b"{\r\n", b"{}")):
        return "JSON (often the result of a failed download)"
    if text.startswith(b"outs:"):
        return "a .dvc pointer, not the file (`dvc pull` gets it)"
    return None


def describe_zip(members: Iterable[str]) -> str | None:
    """Return the kind of a zip with these members if it is another program's file, else None."""
    names = set(members)
    if any(name == "data.pkl" or name.endswith("/data.pkl") for name in names):
        return "a PyTorch file (it holds a pickle, which is never loaded)"
    if names and all(name.endswith(".npy") for name in names):
        return "an .npz file of NumPy"
    if "[Content_Types].xml" in names:
        workbook = any(name.startswith("xl/") for name in names)
        return "an Excel workbook (save it as CSV UTF-8)" if workbook else "an Office document"
    if "content.xml" in names and "mimetype" in names:
        return "an OpenDocument file (save it as CSV)"
    if "model.weights.h5" in names:
        return "a Keras model"
    return None
