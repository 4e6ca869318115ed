"""Answer benchmarks.package from a Python that has the PyPI package `fer` and nothing of this project.

    python fer_worker.py {tflite,keras} images.npy

First line out: the versions. Then for every line [batch, calls] in, one out: the classes that the package
gives to the first `batch` images, and the seconds of each of `calls` calls.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

CHUNK = 256
"""Faces per call, also where all images are classified."""

Images = npt.NDArray[np.uint8]
Decide = Callable[[Images], list[int]]


def timed(decide: Decide, images: Images, calls: int) -> tuple[list[int], list[float]]:
    """Return the classes of the images and the seconds of every call."""
    seconds = []
    decided: list[int] = []
    for _ in range(calls):
        start = time.perf_counter()
        decided = decide(images)
        seconds.append(time.perf_counter() - start)
    return decided, seconds


class Package:
    """Call `fer` as its users do, with the place of each face given instead of detected.

    The faces of a batch are one below the other in a single picture, so that the package classifies them in
    one call; `offsets=(0, 0)` because its default margin of 10 pixels belongs to detected boxes. The package
    then cuts out each 48 x 48 face, resizes it to 64 x 64 and maps grey levels to -1 .. 1.
    """

    def __init__(self, kind: str) -> None:
        from fer.fer import FER

        self.detector = FER(use_tflite=kind == "tflite", offsets=(0, 0))

    def decide(self, images: Images) -> list[int]:
        """Return the class with the highest score, as the package's own `top_emotion`: the first of equals."""
        decided: list[int] = []
        for start in range(0, len(images), CHUNK):
            faces = images[start : start + CHUNK]
            count, height, width = faces.shape
            picture = np.repeat(faces.reshape(count * height, width, 1), 3, axis=2)  # it expects colours
            boxes = [(0, row * height, width, height) for row in range(count)]
            for face in self.detector.detect_emotions(picture, face_rectangles=boxes):
                scores = list(face["emotions"].values())  # FER-2013's order of classes, as ours
                decided.append(scores.index(max(scores)))
        return decided


class Parser(argparse.ArgumentParser):
    """Parse arguments, and exit with the code that the project's other commands have for a user's error."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(1, f"error: {message}\n")


def main(kind: str, images: Path) -> None:
    # Only answers may go to the caller; whatever TensorFlow prints goes to stderr.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(value: Any) -> None:
        print(json.dumps(value), file=answers, flush=True)

    package, pixels = Package(kind), np.load(images, allow_pickle=False)
    logging.disable(logging.WARNING)
    import tensorflow  # there by now: as tensorflow or tensorflow-cpu

    answer({"fer": version("fer"), "tensorflow": tensorflow.__version__, "numpy": np.__version__})
    for line in sys.stdin:
        batch, calls = json.loads(line)
        answer(timed(package.decide, pixels[:batch], calls))


if __name__ == "__main__":
    raw = argparse.RawDescriptionHelpFormatter
    parser = Parser(description=__doc__, formatter_class=raw, allow_abbrev=False)
    parser.add_argument("kind", choices=("tflite", "keras"), help="which of the package's models")
    parser.add_argument("images", type=Path, help="an array of faces, uint8 [N, H, W]")
    options = parser.parse_args()
    if not options.images.is_file():
        parser.error(f"there is no file '{options.images}'")
    main(options.kind, options.images)
