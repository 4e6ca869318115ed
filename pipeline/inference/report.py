"""Show what was found: a table, JSON lines, CSV, or the picture with boxes."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from PIL import Image, ImageDraw, ImageFont

from pipeline.files import MAX_NAME_BYTES, JsonDict, replacing
from pipeline.inference.recogniser import DIGITS, Face
from pipeline.inference.sources import STANDARD_INPUT, Item

COLUMNS = ("picture", "seconds", "left", "top", "width", "height", "expression")
"""Of the CSV table, before a column per class."""
WIDEST = 48
"""Characters of a name in the table; longer ones are cut on the left, where folders are."""
COLOUR = "#00e000"
SMALLEST_TEXT = 12
"""Pixels."""
LARGEST_JPEG = 65_500
"""Pixels of a side; what is larger is saved as PNG."""


class Report(Protocol):
    """Takes each item with its faces as soon as they are known."""

    def add(self, item: Item, faces: Sequence[Face]) -> None: ...


class Table:
    """Lines for a terminal: a face a line, with its two most probable classes. root: as of `below`."""

    def __init__(self, names: Sequence[str], root: Path) -> None:
        self.root = root
        self.width = min(WIDEST, max((len(str(below(name, root))) for name in names), default=0))

    def add(self, item: Item, faces: Sequence[Face]) -> None:
        if item.image is None:
            return  # its sentence is on standard error
        time = "" if item.seconds is None else f"{item.seconds:>8.2f} s"
        name = str(below(item.name, self.root))
        if not name.isprintable():  # a name may hold what moves the cursor
            name = name.encode("unicode_escape").decode()
        name = name if len(name) <= WIDEST else f"...{name[3 - WIDEST :]}"
        for line in map(_line, faces) if faces else ["no face found"]:
            print(f"{name:<{self.width}}{time}  {line}")


def below(name: str, root: Path) -> Path:
    """Return the path of a picture below the folder that was given; of a single file, its name."""
    path = Path(name)
    return Path(path.name) if path == root else path.relative_to(root)


def _line(face: Face) -> str:
    box = face.box
    said = [f"{name} {100 * face.probabilities[name]:.0f} %" for name in face.ranked[:2]]
    return f"{said[0]:<16} {said[1]:<16} {box.width} x {box.height} at {box.left}, {box.top}"


class Json:
    """A JSON object a line: a picture with its faces, or with the sentence why it cannot be read."""

    def __init__(self) -> None:
        # An output without Unicode would get escapes of Python's, which JSON does not know.
        self.ascii = "utf" not in (sys.stdout.encoding or "").lower()

    def add(self, item: Item, faces: Sequence[Face]) -> None:
        print(json.dumps(described(item, faces), ensure_ascii=self.ascii))


def described(item: Item, faces: Sequence[Face]) -> JsonDict:
    """Return an item as the JSON line shows it."""
    found: JsonDict = {"picture": item.name}
    if item.seconds is not None:
        found["seconds"] = item.seconds
    if item.error is not None:
        return found | {"error": item.error}
    return found | {"faces": [face.to_dict() for face in faces]}


class Csv:
    """A row per face; a picture without one has a row with its name alone."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.writer = csv.writer(sys.stdout, lineterminator="\n")
        self.writer.writerow([*COLUMNS, *classes])
        self.classes = classes

    def add(self, item: Item, faces: Sequence[Face]) -> None:
        if item.image is None:
            return
        place = [item.name, "" if item.seconds is None else item.seconds]
        for face in faces:
            numbers = [f"{p:.{DIGITS}f}" for p in face.probabilities.values()]
            self.writer.writerow([*place, *face.box, face.expression, *numbers])
        if not faces:
            self.writer.writerow([*place, *[""] * (5 + len(self.classes))])


class Saved:
    """Copies of the pictures with boxes, in a folder. root: as of `below`."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder, self.root = folder, root
        self.taken = set[str]()

    def add(self, item: Item, faces: Sequence[Face]) -> None:
        if item.image is None:
            return
        large = max(item.image.size) > LARGEST_JPEG
        path = self.path(item)
        content = io.BytesIO()  # Pillow writes a JPEG without looking whether the disk takes it
        drawn(item.image, faces).save(content, "PNG" if large else "JPEG", quality=90)
        with replacing(self.free(path.with_suffix(".png") if large else path)) as temporary:
            temporary.write_bytes(content.getvalue())

    def free(self, path: Path) -> Path:
        """Return the path, with a number if a copy is there: `scan.png.2.jpg` where `scan.png` has `scan.png.jpg`."""
        place, number = path, 2
        while (name := str(place).casefold()) in self.taken:  # some file systems know no capitals
            place, number = path.with_suffix(f".{number}{path.suffix}"), number + 1
        self.taken.add(name)
        return place

    def path(self, item: Item) -> Path:
        """Return where the copy of a picture goes: `photo.jpg`, `scan.png.jpg`, `clip.mp4.00012.000.jpg`."""
        path = below(item.name, self.root)
        name = "picture" if path == STANDARD_INPUT else path.name
        if item.seconds is not None:
            name += f".{item.seconds:09.3f}"
        while len(name.encode(errors="surrogateescape")) > MAX_NAME_BYTES:
            name = name[1:]
        return self.folder / path.parent / (name if name.lower().endswith((".jpg", ".jpeg")) else f"{name}.jpg")


def drawn(picture: Image.Image, faces: Sequence[Face]) -> Image.Image:
    """Return a copy of a picture with a box around each face and its most probable class above it."""
    copy = picture.convert("RGB")
    draw = ImageDraw.Draw(copy)
    for face in faces:
        left, top, width, height = face.box
        line = max(1, width // 40)
        draw.rectangle((left, top, left + width, top + height), outline=COLOUR, width=line)
        text = f"{face.expression} {100 * face.probabilities[face.expression]:.0f} %"
        font = ImageFont.load_default(max(SMALLEST_TEXT, width // 7))
        x, y, right, bottom = draw.textbbox((left, 0), text, font)
        up = top - (bottom - y) - 4 * line
        start = (min(left, max(0, copy.width - (right - x))), up if up >= 0 else top + height + line)
        draw.rectangle(draw.textbbox(start, text, font), fill="black")
        draw.text(start, text, COLOUR, font)
    return copy
