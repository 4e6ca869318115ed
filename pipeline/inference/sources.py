"""Go through what is to be read: a picture, a folder of pictures and videos, a video, or standard input.

What cannot be read is an item too, with a sentence; the next one follows.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from pipeline.data.pictures import MAX_BYTES, NOT_READ, SUFFIXES
from pipeline.errors import UserError
from pipeline.inference import video
from pipeline.inference.recogniser import opened, too_large

STANDARD_INPUT = Path("-")


@dataclass(frozen=True)
class Item:
    """A picture, or a frame of a video at some `seconds`; without `image`, the sentence why it cannot be read."""

    name: str
    image: Image.Image | None = None
    seconds: float | None = None
    error: str | None = None


@dataclass(frozen=True)
class Source:
    """A file. name: as it is shown. error: the sentence why it cannot be read, if that is known already."""

    path: Path
    name: str
    error: str | None = None

    @property
    def is_video(self) -> bool:
        """Whether the name is that of a video."""
        return self.path.suffix.lower() in video.SUFFIXES

    def length(self, every: float) -> int:
        """Return about how many items it will give."""
        return video.length(self.path, every) if self.is_video and self.error is None else 1

    def items(self, every: float) -> Iterator[Item]:
        """Yield the picture, or a frame of the video every so many seconds."""
        try:
            if self.error is not None:
                raise UserError(self.error)
            if self.is_video:
                for seconds, image in video.frames(self.path, self.name, every):
                    yield Item(self.name, image, seconds)
            else:
                yield Item(self.name, self._picture())
        except UserError as error:
            yield Item(self.name, error=str(error))
        except MemoryError:
            yield Item(self.name, error=too_large(self.name))

    def _picture(self) -> Image.Image:
        suffix = self.path.suffix.lower()
        if suffix in NOT_READ:
            raise UserError(f"{self.name} is a picture of a kind that is not read ({suffix}): save it as PNG or JPEG.")
        if self.path == STANDARD_INPUT:
            return opened(sys.stdin.buffer.read(MAX_BYTES + 1), "The picture on standard input")
        return opened(self.path, self.name)


def sources(path: Path) -> list[Source]:
    """Return the file, or every picture and video in a folder and its folders, sorted by name.

    Hidden files and links to folders are left out; a folder that cannot be read is among them, with its error. Raises
    UserError if a folder has no picture and no video.
    """
    if not os.path.isdir(path):
        return [Source(path, str(path))]
    found: list[Source] = []

    def closed(error: OSError) -> None:
        name = str(error.filename)
        found.append(Source(Path(name), name, f"{name} cannot be read ({error.strerror}): check its permissions."))

    def is_file(file: Path) -> bool:  # or a link to nothing, which is named
        try:
            return file.is_file() or (file.is_symlink() and not file.exists())
        except OSError as error:  # of a folder that may be listed but not entered
            closed(error)
            return False

    for folder, folders, names in os.walk(path, onerror=closed):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = Path(folder, name)
            known = file.suffix.lower() in {*SUFFIXES, *NOT_READ, *video.SUFFIXES}
            if known and not name.startswith(".") and is_file(file):
                found.append(Source(file, str(file)))
    if not found:
        raise UserError(f"{path} has no pictures and no videos: name another folder.")
    return found
