"""Compare the ready-made package `fer` from PyPI with trained models of this project, on the same faces.

`fer` cannot be installed beside this project (its facenet-pytorch asks for an older torch and numpy), so it
answers from a Python of its own: benchmarks.fer_worker. Both sides run on the processor with the threads
they take by themselves, and take turns; `taskset -c 0` before the command leaves them one core. --figure draws
accuracy on PrivateTest against the time for one face, and the front: what nothing else beats in both.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import IO, Any, NamedTuple, Protocol, cast

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.ticker import FuncFormatter, PercentFormatter
from sklearn.metrics import accuracy_score, f1_score

from benchmarks import fer_worker
from benchmarks.fer_worker import Images, timed
from benchmarks.machine import header
from benchmarks.timing import table
from pipeline.data.fer import LABELS, SPLITS, USAGES, FerData
from pipeline.errors import UserError
from pipeline.figures.canvas import COLOURS, canvas
from pipeline.inference.engine import Engine
from pipeline.training.hardware import EVALUATION
from pipeline.training.saved_model import load_trained, predict

INSTALL = (
    "pip install tensorflow-cpu 'opencv-python-headless<5' requests pillow 'setuptools<81', "
    "then pip install --no-deps fer==25.10.3"
)
"""What `fer` needs to classify faces; its full dependencies also bring a second torch, moviepy and more."""

BATCHES = (64, 256)

Classes = npt.NDArray[np.integer]


class Classifier(Protocol):
    """Classify the first `batch` of the images that it was given, `calls` times."""

    def answer(self, batch: int, calls: int) -> tuple[list[int], list[float]]:
        """Return the classes and the seconds of every call."""


@dataclass(frozen=True)
class Ours:
    """Run a model in this process: one view, no mirror image. decide: images [N, 48, 48] -> classes."""

    decide: Callable[[Images], list[int]]
    images: Images

    def answer(self, batch: int, calls: int) -> tuple[list[int], list[float]]:
        return timed(self.decide, self.images[:batch], calls)


def ours(model: Path, images: Images) -> Ours:
    """Return a trained model in fp32 as the stage evaluate runs it, or an exported one as `fer predict` does."""
    if model.is_dir():
        network, loss = load_trained(model)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

        def scores(faces: Images) -> npt.NDArray[np.float32]:
            output = predict(network, torch.from_numpy(faces)[:, None], EVALUATION)
            return np.asarray(loss.scores(output))

    else:
        scores = Engine(model, torch.get_num_threads()).probabilities
    return Ours(lambda faces: [int(k) for k in scores(faces).argmax(1)], images)


class Theirs:
    """Run the package in its own process, which answers line by line."""

    def __init__(self, python: str, questions: IO[str], answers: IO[str], errors: IO[str]) -> None:
        self.python, self.questions, self.answers, self.errors = python, questions, answers, errors
        self.versions: dict[str, str] = self.read()

    def answer(self, batch: int, calls: int) -> tuple[list[int], list[float]]:
        print(json.dumps([batch, calls]), file=self.questions, flush=True)
        decided, seconds = self.read()
        return decided, seconds

    def read(self) -> Any:
        """Return the next answer. Raises UserError with the process's last words if there is none."""
        if line := self.answers.readline():
            return json.loads(line)
        self.errors.seek(0)
        reason = (self.errors.read().strip().splitlines() or ["no message"])[-1]
        raise UserError(
            f"The package fer does not run in {self.python} ({reason}): make an environment for it "
            f"(python -m venv FOLDER, in it {INSTALL}) and give its Python as --python."
        )


@contextmanager
def theirs(python: str, kind: str, images: Path) -> Iterator[Theirs]:
    """Start `fer` in the given Python, with its quantised TensorFlow Lite model (its default) or its Keras model."""
    command = [python, fer_worker.__file__, kind, str(images)]
    with tempfile.TemporaryFile("w+") as errors:
        try:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True)
        except OSError as error:
            raise UserError(f"--python: {python} cannot be run ({error}).") from error
        with process:  # closes the pipes, at which the process ends
            yield Theirs(python, cast(IO[str], process.stdin), cast(IO[str], process.stdout), errors)


class Speed(NamedTuple):
    """Seconds for a single image (median), and for a batch of each size (best)."""

    single: float
    batches: Mapping[int, float]


class Point(NamedTuple):
    """What the figure shows of a classifier: seconds for one image, and accuracy on PrivateTest as a fraction."""

    seconds: float
    accuracy: float


def compare(
    python: str, paths: Sequence[Path], prepared: Path, rounds: int, limit: int | None, figure: Path | None
) -> None:
    """Print accuracy and macro-F1 on each split (its first `limit` images), then latency and throughput.

    Draws accuracy against time to `figure` if it is given.
    """
    data = FerData.load(prepared)
    rows = [data.rows(split)[:limit] for split in SPLITS]
    chosen = np.concatenate(rows)
    images, actual = data.images[chosen], data.labels[chosen]
    if len(images) < max(BATCHES):
        raise UserError(f"--limit leaves {len(images)} images: batches of {max(BATCHES)} need more.")
    with ExitStack() as stack:
        file = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "images.npy"
        np.save(file, images)
        packages = {
            name: stack.enter_context(theirs(python, kind, file))
            for kind, name in {"tflite": "fer, TensorFlow Lite", "keras": "fer, Keras"}.items()
        }
        models = {path.as_posix(): ours(path, images) for path in paths}
        classifiers: dict[str, Classifier] = {**packages, **models}
        print(header("scikit-learn"))
        versions = next(iter(packages.values())).versions
        print(f"Beside it: {', '.join(f'{name} {number}' for name, number in versions.items())}\n")

        splits = np.repeat(np.arange(len(SPLITS)), [len(part) for part in rows])
        decided = {name: np.array(one.answer(len(images), 1)[0]) for name, one in classifiers.items()}
        headings = [f"{usage}, {metric}" for usage in USAGES for metric in ("accuracy", "macro-F1")]
        scored = [[name, *scores(actual, found, splits)] for name, found in decided.items()]
        print(table(["per cent", *headings], scored), end="\n\n")
        print(f"Latency: median of single images; throughput: best of {rounds}\n")
        measured = speeds(classifiers, rounds)
        headings = ["on the processor", "one image, ms", *(f"images/s, {batch} at once" for batch in BATCHES)]
        lines = [
            [name, f"{1000 * speed.single:.2f}", *(f"{size / seconds:,.0f}" for size, seconds in speed.batches.items())]
            for name, speed in measured.items()
        ]
        print(table(headings, lines))
    if figure:
        test = splits == SPLITS.index("test")
        points = {
            name: Point(measured[name].single, float(accuracy_score(actual[test], found[test])))
            for name, found in decided.items()
        }
        draw(points, figure)
        print(f"\n{figure}")


def front(points: Mapping[str, Point]) -> list[str]:
    """Return the names of the points that no other point beats in one thing and equals or beats in the other.

    The fastest comes first.
    """
    return [
        name
        for name, (seconds, accuracy) in sorted(points.items(), key=lambda item: item[1])
        if not any(
            other.seconds <= seconds and other.accuracy >= accuracy and other != (seconds, accuracy)
            for other in points.values()
        )
    ]


def draw(points: Mapping[str, Point], path: Path) -> None:
    """Draw accuracy on PrivateTest against the time for one face: filled and connected if on the front."""
    best = front(points)
    with canvas(path, 8.0, 4.8, "Accuracy on PrivateTest against the time for one face") as picture:
        axis = picture.add_subplot()
        axis.step(
            *zip(*((1000 * points[name].seconds, points[name].accuracy) for name in best), strict=True),
            where="post", color=COLOURS[0], linewidth=1, linestyle=":",
        )  # fmt: skip
        for name, (seconds, accuracy) in points.items():
            colour = COLOURS[0] if name in best else "white"
            axis.plot(1000 * seconds, accuracy, "o", color=COLOURS[0], markerfacecolor=colour)
            axis.annotate(name, (1000 * seconds, accuracy), (6, 4), textcoords="offset points", fontsize=8)
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.yaxis.set_major_formatter(PercentFormatter(1))
        axis.set_xlabel("milliseconds (filled: nothing else is both faster and more accurate)")
        axis.margins(0.12, 0.1)
        axis.grid()


def scores(actual: Classes, decided: Classes, splits: Classes) -> Iterator[str]:
    """Return accuracy and macro F1 in per cent, split by split."""
    for split in range(len(SPLITS)):
        pair = actual[splits == split], decided[splits == split]
        macro_f1 = f1_score(*pair, labels=range(len(LABELS)), average="macro", zero_division=0)
        yield f"{100 * accuracy_score(*pair):.2f}"
        yield f"{100 * macro_f1:.2f}"


def speeds(classifiers: Mapping[str, Classifier], rounds: int, calls: int = 50) -> dict[str, Speed]:
    """Return the speed of every classifier. In each round every one has its turn at every batch size."""
    single: dict[str, list[float]] = {name: [] for name in classifiers}
    best = {name: dict.fromkeys(BATCHES, float("inf")) for name in classifiers}
    for _ in range(rounds):
        for name, classifier in classifiers.items():
            single[name] += classifier.answer(1, calls)[1]
            for batch in BATCHES:
                best[name][batch] = min(best[name][batch], *classifier.answer(batch, 2)[1])
    return {name: Speed(median(single[name]), best[name]) for name in classifiers}
