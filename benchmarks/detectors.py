"""Compare face detectors: recall by size, false positives and time, on FER-2013's faces pasted into photographs.

    python -m benchmarks.detectors [--data outputs/prepared] [--scenes 40]

Faces of Training on which nobody voted *not a face* are pasted, in seven sizes, into photographs without people that
scikit-learn and scikit-image carry. A face counts as found if the centre of a box lies inside it and the box is neither
much smaller nor much larger; any other box is a false positive. The last columns say how a detector frames a face: its
centre and side as shares of the pasted square, medians. OpenCV's cascades are compared where OpenCV 4 is installed (5
has none). One thread each. No image is kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.machine import header
from benchmarks.timing import table
from pipeline import cli
from pipeline.cli import FOLDER, Number
from pipeline.data.fer import FerData
from pipeline.inference.detection import Box, DlibDetector
from pipeline.workspace import PREPARED

SIZES = (32, 48, 64, 96, 128, 192, 256)
"""Sides of the pasted faces, in pixels of a scene."""
WIDTH = 1280
"""Pixels of a scene's width."""
EDGE = 0.08
"""Of a face's side: the border in which it fades into the scene, so that no straight edge is there to be found."""
CASCADES = ("frontalface_default", "frontalface_alt", "frontalface_alt2")
NEIGHBOURS = 5
"""Overlapping hits that a cascade must have for a face."""

Find = Callable[[Image.Image], list[Box]]
Square = tuple[int, int, int]
"""Left, top and side."""


def backgrounds() -> list[Image.Image]:
    """Return photographs without people, `WIDTH` pixels wide."""
    import sklearn.datasets
    from skimage import data

    pictures = [Image.fromarray(image) for image in sklearn.datasets.load_sample_images().images]
    names = ("coffee", "chelsea", "brick", "grass", "rocket")
    pictures += [Image.fromarray(getattr(data, name)()) for name in names]
    return [
        picture.convert("RGB").resize((WIDTH, round(WIDTH * picture.height / picture.width))) for picture in pictures
    ]


def paste(scene: Image.Image, face: npt.NDArray[np.uint8], square: Square) -> None:
    """Paste a face of any size into a scene, its border fading."""
    left, top, side = square
    to_border = np.minimum(np.arange(side), np.arange(side)[::-1])
    opacity = np.minimum(np.minimum.outer(to_border, to_border) / (EDGE * side), 1)
    large = Image.fromarray(face).resize((side, side), Image.Resampling.BICUBIC).convert("RGB")
    scene.paste(large, (left, top), Image.fromarray((255 * opacity).astype(np.uint8)))


def make_scenes(faces: npt.NDArray[np.uint8], count: int) -> Iterator[tuple[Image.Image, list[Square]]]:
    """Yield scenes with a face of every size that finds room, and where they are."""
    rng, empty = np.random.default_rng(0), backgrounds()
    for number in range(count):
        scene, placed = empty[number % len(empty)].copy(), list[Square]()
        for side in sorted(SIZES, reverse=True):
            for _ in range(100):
                left, top = (int(rng.integers(0, length - side)) for length in scene.size)
                if all(
                    abs(2 * (left - x) + side - s) > side + s or abs(2 * (top - y) + side - s) > side + s
                    for x, y, s in placed
                ):
                    paste(scene, faces[rng.integers(len(faces))], (left, top, side))
                    placed.append((left, top, side))
                    break
        yield scene, placed


@dataclass
class Score:
    """Count what a detector found."""

    seconds: float = 0.0
    extra: int = 0
    found: dict[int, list[bool]] = field(default_factory=lambda: {side: [] for side in SIZES})
    framing: list[tuple[float, float, float]] = field(default_factory=list)

    def add(self, squares: Sequence[Square], boxes: Sequence[Box]) -> None:
        """Count the boxes of a scene; each belongs to one face at most."""
        left = list(boxes)
        for x, y, side in squares:
            box = next((box for box in left if _is_of(box, (x, y, side))), None)
            self.found[side].append(box is not None)
            if box:
                left.remove(box)
                centre = box.left + box.width / 2 - x, box.top + box.height / 2 - y
                self.framing.append((centre[0] / side, centre[1] / side, box.width / side))
        self.extra += len(left)


def _is_of(box: Box, square: Square) -> bool:
    left, top, side = square
    inside = 0 < box.left + box.width / 2 - left < side and 0 < box.top + box.height / 2 - top < side
    return inside and side / 2 < box.width < 3 / 2 * side


def detectors() -> dict[str, Find]:
    """Return every detector that is installed, by name."""
    import dlib

    plain = dlib.get_frontal_face_detector()

    def once(picture: Image.Image) -> list[Box]:
        boxes = plain(np.asarray(picture.convert("L")), 0)
        return [Box(box.left(), box.top(), box.width(), box.height()) for box in boxes]

    found: dict[str, Find] = {"dlib, picture doubled (ours)": DlibDetector(), "dlib, picture as it is": once}
    if find_spec("cv2"):
        import cv2

        cv2.setNumThreads(1)
        if hasattr(cv2, "CascadeClassifier"):
            found |= {f"OpenCV {name}": _cascade(cv2, name) for name in CASCADES}
    return found


def _cascade(cv2: Any, name: str) -> Find:
    classifier = cv2.CascadeClassifier(f"{cv2.data.haarcascades}haarcascade_{name}.xml")

    def find(picture: Image.Image) -> list[Box]:
        boxes = classifier.detectMultiScale(np.asarray(picture.convert("L")), 1.1, NEIGHBOURS, minSize=(24, 24))
        return [Box(*map(int, box)) for box in boxes]

    return find


DATA = click.Option(
    ["--data"], type=FOLDER, default=str(PREPARED), help="The folder with the prepared data whose faces are pasted."
)
SCENES = click.Option(["--scenes"], type=Number(), default=40, help="How many scenes to make.")


def main(data: Path, scenes: int) -> None:
    known = FerData.load(data)
    rows = known.rows("train")
    if known.votes is not None:
        rows = rows[known.votes[rows, -1] == 0]
    finders = detectors()
    scores = {name: Score() for name in finders}
    for scene, squares in make_scenes(known.images[rows], scenes):
        for name, find in finders.items():
            start = time.perf_counter()
            boxes = find(scene)
            scores[name].seconds += time.perf_counter() - start
            scores[name].add(squares, boxes)
    print(header("dlib-bin", "opencv-python-headless"))
    print(f"{scenes} scenes, {WIDTH} pixels wide; faces found, in per cent, by the side of the face in pixels\n")
    print(
        table(
            ["detector", *map(str, SIZES), "false/scene", "ms/scene", "centre x", "y", "side"], _lines(scores, scenes)
        )
    )


def _lines(scores: dict[str, Score], count: int) -> Iterator[list[str]]:
    for name, score in scores.items():
        shares = [f"{100 * np.mean(found):.0f}" if found else "" for found in score.found.values()]
        framing = np.median(score.framing, axis=0) if score.framing else np.full(3, np.nan)
        yield [
            name, *shares, f"{score.extra / count:.2f}", f"{1000 * score.seconds / count:.0f}",
            *(f"{value:.2f}" for value in framing),
        ]  # fmt: skip


if __name__ == "__main__":
    cli.script(main, DATA, SCENES, example="--scenes 10")
