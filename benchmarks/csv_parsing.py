"""Compare how fast FER-2013's CSV becomes arrays: this project's parser against what is usually done.

    python -m benchmarks.csv_parsing [--csv fer2013.csv | --rows 5000] [--repeats 3]

The readers take turns, so that a slow minute of the machine hits them all, and each keeps its best time.
The text is in memory, so no disk is measured. pandas comes with the development extra.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks.machine import header
from benchmarks.timing import rounds_option
from pipeline import cli
from pipeline.cli import FILE, Number
from pipeline.data import fer_csv
from pipeline.data.fer import USAGES

Reader = Callable[[bytes], npt.NDArray[np.uint8]]


def ours(data: bytes) -> npt.NDArray[np.uint8]:
    return fer_csv.parse(data).images


def pandas_and_fromstring(data: bytes) -> npt.NDArray[np.uint8]:
    table = pd.read_csv(io.BytesIO(data))
    rows = [np.fromstring(pixels, dtype=np.uint8, sep=" ") for pixels in table["pixels"]]
    return np.stack(rows).reshape(-1, 48, 48)


def pandas_and_split(data: bytes) -> npt.NDArray[np.uint8]:
    table = pd.read_csv(io.BytesIO(data))
    rows = [np.array(pixels.split(" "), dtype=np.uint8) for pixels in table["pixels"]]
    return np.stack(rows).reshape(-1, 48, 48)


def plain_python(data: bytes) -> npt.NDArray[np.uint8]:
    table = csv.DictReader(io.StringIO(data.decode()))
    return np.array([[int(p) for p in row["pixels"].split()] for row in table], np.uint8).reshape(-1, 48, 48)


READERS: dict[str, Reader] = {
    "pipeline.data.fer_csv": ours,
    "pandas, np.fromstring per row": pandas_and_fromstring,
    "pandas, str.split per row": pandas_and_split,
    "csv module, int per pixel": plain_python,
}


def synthesise(rows: int) -> bytes:
    """Return a CSV of random images whose numbers are about as long as the real ones (mean 129)."""
    rng = np.random.default_rng(0)
    digits = np.array([str(value) for value in range(256)])
    images = digits[rng.normal(129, 64, (rows, 2304)).clip(0, 255).astype(np.uint8)]
    lines = (f"{row % 7},{' '.join(image)},{USAGES[row % 3]}\n" for row, image in enumerate(images))
    return ("emotion,pixels,Usage\n" + "".join(lines)).encode()


CSV = click.Option(["--csv"], type=FILE, help="A fer2013.csv; without it random rows are made up.")
ROWS = click.Option(["--rows"], type=Number(), default=5000, help="How many rows to make up.")


def main(csv: Path | None, rows: int, repeats: int) -> None:
    data = csv.read_bytes() if csv else synthesise(rows)

    seconds = dict.fromkeys(READERS, float("inf"))
    images: dict[str, npt.NDArray[np.uint8]] = {}
    for _ in range(repeats):
        for name, read in READERS.items():
            start = time.perf_counter()
            images[name] = read(data)
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    first, *others = images.values()
    if not all(np.array_equal(first, other) for other in others):
        raise SystemExit("The readers do not agree on the pixels: the times mean nothing.")

    print(header("pandas"))
    print(f"{len(first)} rows, {len(data) / 1e6:.0f} MB, best of {repeats}\n")
    print(f"| {'reader':<30} | {'seconds':>8} | {'rows/s':>8} | {'MB/s':>6} | {'times ours':>10} |")
    print(f"|{'-' * 32}|{'-' * 10}|{'-' * 10}|{'-' * 8}|{'-' * 12}|")
    base = next(iter(seconds.values()))
    for name, spent in seconds.items():
        rate = f"{len(first) / spent:>8.0f} | {len(data) / 1e6 / spent:>6.0f}"
        print(f"| {name:<30} | {spent:>8.3f} | {rate} | {spent / base:>10.1f} |")


if __name__ == "__main__":
    cli.script(main, CSV, ROWS, rounds_option(3, "repeats"), example="--rows 5000")
