"""Turn any picture of a face into FER-2013's form: 48 x 48 grey levels.

The steps, the same for every picture:

1. Upright, as its EXIF data say; of an animation or a file of several pages, the first picture.
2. Transparent parts become white.
3. Grey: L = 0.299 R + 0.587 G + 0.114 B (ITU-R 601); 16-bit values are divided by 257.
4. The largest square in the middle, resized to 48 x 48 with Pillow's bicubic filter, which is anti-aliased: when it
   shrinks a picture, every pixel counts. A grey picture of 48 x 48 stays as it is.

Training on a folder of pictures and predicting from photographs both go through here. Where faces are searched for, the
square of step 4 is around a face (`cut`).
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.data.fer import IMAGE_SIZE
from pipeline.errors import UserError

FORMATS = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "BMP": (".bmp",),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".pgm", ".ppm", ".pnm", ".pbm"),
}
"""Pillow's names of the formats that are read, with their suffixes. The content decides, not the suffix."""
SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
NOT_READ = (
    ".heic", ".heif", ".hif", ".avif", ".jxl", ".jxr", ".jp2", ".j2k", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".rw2",
    ".orf", ".raf", ".pef", ".srw", ".psd", ".xcf", ".tga", ".exr", ".svg", ".ico",
)  # fmt: skip
"""Suffixes of pictures that are not read: to leave them out in silence would lose data."""

MAX_BYTES = 64 << 20
"""Maximum size of a picture's file. That of its pixels is Pillow's: 89 million."""

_SIGNS_OF_DAMAGE = (
    OSError, EOFError, SyntaxError, ValueError, ArithmeticError, LookupError, TypeError, struct.error, zlib.error,
)  # fmt: skip
"""What Pillow's readers raise for a bad file: PNG's a SyntaxError, for one."""

Bytes = npt.NDArray[np.uint8]


@contextmanager
def opened(data: bytes, where: str, formats: Sequence[str], remedy: str) -> Iterator[Image.Image]:
    """Open a picture from an unknown source. Raises UserError, also for what is found inside the block.

    where: the beginning of the error; remedy: its end.
    """
    *others, last = formats
    with _damage_told(where, remedy):
        try:
            image = Image.open(io.BytesIO(data), formats=tuple(formats))
        except UnidentifiedImageError as error:  # whose message has the address of an object in it
            raise ValueError(f"it is not a {', '.join(others)} or {last} file") from error
        with image:
            yield image


@contextmanager
def _damage_told(where: str, remedy: str) -> Iterator[None]:
    """Turn what Pillow raises in the block into UserError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is odd and harmless, such as incomplete EXIF data
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        most = (Image.MAX_IMAGE_PIXELS or 0) / 1e6
        raise UserError(f"{where} has more than {most:.0f} million pixels: make it smaller.") from error
    except _SIGNS_OF_DAMAGE as error:
        raise UserError(f"{where} cannot be read ({error}): {remedy}.") from error


Square = tuple[int, int, int]
"""Left, top and side of a square, in pixels."""


def as_face(data: bytes, where: str) -> Bytes:
    """Return a picture as uint8 [48, 48]; see the steps above. Raises UserError, which begins with `where`."""
    picture = read_picture(data, where)
    return cut(picture, middle(picture))


def read_picture(data: bytes, where: str) -> Image.Image:
    """Return a picture upright, opaque and in 8 bits, grey (L) or RGB. Raises UserError, which begins with `where`."""
    if len(data) > MAX_BYTES:
        raise UserError(f"{where} has more than {MAX_BYTES >> 20} MiB: make it smaller.")
    with opened(data, where, tuple(FORMATS), "replace or remove it") as image:
        return _plain(ImageOps.exif_transpose(image))


def read_image(image: Image.Image, where: str) -> Image.Image:
    """Return an image of Pillow's as `read_picture` does a file. Raises UserError, which begins with `where`."""
    with _damage_told(where, "replace or convert it"):
        if not all(image.size):
            raise ValueError("it has no pixels")
        return _plain(ImageOps.exif_transpose(image))


def _plain(image: Image.Image) -> Image.Image:
    """Return a picture of any mode opaque and in 8 bits, grey (L) or RGB."""
    if image.mode[0] in "IF":
        levels = np.asarray(image)
        grey, hole = _eight_bits(levels), image.info.get("transparency")
        return Image.fromarray(np.where(levels == hole, np.uint8(255), grey) if isinstance(hole, int) else grey)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == "L" else image.convert("RGB")


def middle(picture: Image.Image) -> Square:
    """Return the largest square in the middle of a picture."""
    side = min(picture.size)
    left, top = ((length - side) // 2 for length in picture.size)
    return left, top, side


def cut(picture: Image.Image, square: Square) -> Bytes:
    """Return a square of a plain picture, within its borders, as a face: grey levels, uint8 [48, 48]."""
    left, top, side = square
    face = picture.crop((left, top, left + side, top + side)).convert("L")
    return np.array(face.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC), np.uint8)


def _eight_bits(values: npt.NDArray[np.generic]) -> Bytes:
    """Return 16-bit grey levels as 8-bit ones. Raises ValueError for floating-point numbers and wider integers."""
    if values.dtype.kind not in "iu" or values.min() < 0 or values.max() > 0xFFFF:
        raise ValueError("its grey levels are neither 8-bit nor 16-bit numbers")
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
