"""Take frames from a video at regular times, with PyAV (FFmpeg)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from pipeline.errors import UserError

if TYPE_CHECKING:
    from av.container import InputContainer

SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".m2v", ".wmv", ".asf", ".flv", ".f4v", ".3gp",
    ".3g2", ".ogv", ".mts", ".m2ts", ".vob", ".mxf",
)  # fmt: skip
"""Not .ts, which is TypeScript's too."""
WIDEST_PIXEL = 4
"""Of a pixel, width to height or height to width; more is damage."""
MAX_PIXELS = 1 << 26
"""Of a frame: 8K has half of them."""


def frames(path: Path, where: str, every: float) -> Iterator[tuple[float, Image.Image]]:
    """Yield the time in seconds and the picture, upright, of the first frame and of one every so many seconds.

    Raises UserError, which begins with `where`, if the video cannot be read, or no further.
    """
    with _opened(path, where) as container:
        if not container.streams.video or container.format.name == "concat":  # a list of other files
            raise UserError(f"{where} has no pictures: name a video.")
        stream = container.streams.video[0]
        stream.thread_count = 1  # with several, FFmpeg's report of damage and Python's lock wait for each other
        if stream.width * stream.height > MAX_PIXELS:
            raise UserError(f"{where} has frames of {stream.width} x {stream.height} pixels: make them smaller.")
        start, due, last = None, 0.0, 0.0
        for frame in container.decode(stream):
            time = frame.time if frame.time is not None else last
            start = time if start is None else start
            last = time
            if time - start + 1e-6 < due:
                continue
            due = (math.floor((time - start) / every + 1e-6) + 1) * every
            image = _with_square_pixels(frame.to_image(), stream.sample_aspect_ratio)
            yield round(time - start, 3), _upright(image, int(frame.rotation))
        if start is None:
            raise UserError(f"{where} has no frame that can be read: replace or remove it.")


def length(path: Path, every: float) -> int:
    """Return about how many frames there will be; 1 if that is unknown."""
    try:
        with _opened(path, "") as container:
            seconds = (container.duration or 0) / 1_000_000
    except UserError:
        return 1
    return max(1, math.ceil(seconds / every))


def _with_square_pixels(image: Image.Image, ratio: Fraction | None) -> Image.Image:
    """Stretch a frame whose pixels are wider or higher than they are long: ratio is width to height, as on DVDs."""
    if ratio is None or ratio == 1 or not WIDEST_PIXEL**-1 <= ratio <= WIDEST_PIXEL:
        return image
    width, height = (image.width * ratio, image.height) if ratio > 1 else (image.width, image.height / ratio)
    return image.resize((round(width), round(height)), Image.Resampling.BICUBIC)


def _upright(image: Image.Image, degrees: int) -> Image.Image:
    """Turn a frame as its video says, counterclockwise; phones store how they were held."""
    turns = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}
    turn = turns.get(degrees % 360)
    return image if turn is None else image.transpose(turn)


@contextmanager
def _opened(path: Path, where: str) -> Iterator[InputContainer]:
    """Open a video. Raises UserError if PyAV is missing or FFmpeg finds a fault, also within the block."""
    try:
        import av
    except ImportError:
        raise UserError(f"{where} is a video, and PyAV is not installed: run `python -m pip install av`.") from None
    try:
        with av.open(str(path.absolute())) as container:  # or what is before a colon would be a protocol
            yield container
    except UserError:
        raise
    except (av.FFmpegError, OSError, ValueError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{where} cannot be read as a video ({reason}): replace or remove it.") from error
