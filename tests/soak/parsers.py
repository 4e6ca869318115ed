"""The CSV and votes parsers against slow, plain readers: `python -m tests.soak.parsers --cases 5000 --seed 0`.

Files are generated within what the parsers promise to read, and often broken in one place. Parser and plain reader
must give the same arrays, or both refuse.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click
import hypothesis
import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from pipeline.data import fer_csv
from pipeline.data.fer import LABELS, USAGES, VOTE_COLUMNS, FerData
from pipeline.data.votes import read_votes
from pipeline.errors import UserError
from tests.soak.pool import check_sentence

HEADER = ("emotion", "pixels", "Usage")
PIXELS = 48 * 48

# --- plain readers


class Refused(Exception):  # noqa: N818 (an answer, not an error)
    """The plain reader finds a fault."""


def refuse_unless(holds: bool) -> None:
    if not holds:
        raise Refused


def fields_of(line: str) -> list[str]:
    """The fields of one line. None of them has a comma within quotes; quotes and blanks around them are dress."""
    return [field.strip(' \t"') for field in line.split(",")]


def lines_of(data: bytes) -> list[str]:
    text = data.decode("utf-8-sig")
    return [line.removesuffix("\r") for line in text.split("\n")]


def read_csv_plainly(data: bytes) -> FerData:
    """FER-2013's CSV a number at a time."""
    header, *lines = lines_of(data)
    names = fields_of(header)
    refuse_unless(sorted(names) == sorted(HEADER))
    images, labels, splits = [], [], []
    for line in lines:
        if not line.strip():
            continue
        fields = fields_of(line)
        refuse_unless(len(fields) == 3)
        row = dict(zip(names, fields, strict=True))
        refuse_unless(row["emotion"] in [str(label) for label in range(len(LABELS))])
        refuse_unless(row["Usage"] in USAGES)
        numbers = [number for number in row["pixels"].split(" ") if number]
        refuse_unless(len(numbers) == PIXELS)
        for number in numbers:
            refuse_unless(0 < len(number) <= 3 and all(digit in "0123456789" for digit in number))
            refuse_unless(int(number) <= 255)
        images.append([int(number) for number in numbers])
        labels.append(int(row["emotion"]))
        splits.append(USAGES.index(row["Usage"]))
    refuse_unless(bool(images))
    return FerData(
        np.array(images, np.uint8).reshape(-1, 48, 48), np.array(labels, np.uint8), np.array(splits, np.uint8)
    )


def read_votes_plainly(data: bytes, splits: list[int]) -> npt.NDArray[np.uint8]:
    """FER+'s file a number at a time."""
    header, *lines = lines_of(data)
    refuse_unless(fields_of(header) == ["Usage", "Image name", *VOTE_COLUMNS])
    rows = [fields_of(line) for line in lines if line]
    refuse_unless(len(rows) == len(splits))
    for row, split in zip(rows, splits, strict=True):
        refuse_unless(len(row) == 12 and row[0] == USAGES[split])
        refuse_unless(all(vote in [str(count) for count in range(11)] for vote in row[2:]))
    return np.array([[int(vote) for vote in row[2:]] for row in rows], np.uint8).reshape(-1, 10)


# --- files


@dataclass(frozen=True)
class Dress:
    """How a file is written, which does not change what it says."""

    end: str
    quotes: tuple[bool, ...]
    blank: tuple[str, ...]
    last_end: bool
    mark: bool

    def field(self, column: int, text: str) -> str:
        quote = '"' if self.quotes[column % len(self.quotes)] else ""
        blank = self.blank[column % len(self.blank)]
        return f"{blank}{quote}{text}{quote}{blank}" if not quote else f"{quote}{blank}{text}{quote}"

    def file(self, rows: list[list[str]]) -> bytes:
        lines = [",".join(self.field(column, text) for column, text in enumerate(row)) for row in rows]
        text = self.end.join(lines) + (self.end if self.last_end else "")
        return (b"\xef\xbb\xbf" if self.mark else b"") + text.encode()


dresses = st.builds(
    Dress,
    end=st.sampled_from(["\n", "\r\n"]),
    quotes=st.one_of(st.just((False,)), st.tuples(st.booleans(), st.booleans(), st.booleans())),
    blank=st.one_of(st.just(("",)), st.tuples(*[st.sampled_from(["", " ", "  "])] * 3)),
    last_end=st.booleans(),
    mark=st.booleans(),
)
ODD_NUMBERS = (
    "256",
    "999",
    "1000",
    "0255",
    "00",
    "007",
    "-1",
    "+1",
    "1.0",
    "1e1",
    "x",
    "\u0661",
    "\xb2",
    "0x1",
    "",
    "1_0",
    "\t1",
    "12 3",
)
ODD_LABELS = ("7", "-1", "00", "0 1", "", "x", "6.0", "\u0663", "9" * 40, "\0")
ODD_USAGES = ("Test", "", "0", "Training Training", "PublicTest,PrivateTest", "\xa0Training", "Trainin", "\0Training")


@st.composite
def fer_csv_files(draw: st.DrawFn) -> bytes:
    """FER-2013's CSV with a few rows, in any dress, whole or wrong in a few places."""
    rng = random.Random(draw(st.integers(0, 2**32)))
    top = draw(st.sampled_from([1, 10, 100, 256]))
    rows = []
    for _ in range(draw(st.integers(0, 6))):
        numbers = [str(rng.randrange(top)) for _ in range(PIXELS)]
        pixels = [*numbers]
        kinds = ["zeros", "blanks", "zeros", "blanks", "number", "more", "fewer"]
        changed = draw(st.integers(0, 3)) == 0
        for kind in draw(st.lists(st.sampled_from(kinds), max_size=2)) if changed else []:
            place = draw(st.sampled_from([0, 1, PIXELS // 2, PIXELS - 2, PIXELS - 1]))
            if kind == "number":
                pixels[place % len(pixels)] = draw(st.sampled_from(ODD_NUMBERS))
            elif kind == "more":
                pixels.insert(place, draw(st.sampled_from(["0", "255"])))
            elif kind == "fewer":
                del pixels[place % len(pixels)]
            elif kind == "zeros":
                pixels[place % len(pixels)] = pixels[place % len(pixels)].zfill(3)
            else:
                pixels[place % len(pixels)] += " " * draw(st.integers(1, 3))
        odd = draw(st.integers(0, 39))
        label = draw(st.sampled_from(ODD_LABELS)) if odd == 0 else str(rng.randrange(7))
        usage = draw(st.sampled_from(ODD_USAGES)) if odd == 1 else rng.choice(USAGES)
        rows.append([label, " ".join(pixels), usage, *(["1"] if odd == 2 else [])])
    order = draw(st.permutations(range(3)))
    if draw(st.integers(0, 19)) == 0:
        order = order[:2]
    table = [[row[column] for column in order] + row[3:] for row in [list(HEADER), *rows]]
    data = draw(dresses).file(table)
    return _with_blank_lines(draw, data)


@st.composite
def votes_files(draw: st.DrawFn) -> tuple[bytes, list[int]]:
    """FER+'s file and the splits of the images that it is about."""
    rng = random.Random(draw(st.integers(0, 2**32)))
    splits = [rng.randrange(3) for _ in range(draw(st.integers(0, 30)))]
    rows: list[list[str]] = []
    for number, split in enumerate(splits):
        votes = [str(rng.choice([0, 0, 1, 5, 10])) for _ in range(10)]
        rows.append([USAGES[split], rng.choice(["", f"fer{number:07d}.png"]), *votes])
    if rows != [] and draw(st.booleans()):
        row = draw(st.sampled_from(rows))
        kind = draw(st.sampled_from(["vote", "usage", "more", "fewer", "row", "no row"]))
        if kind == "vote":
            row[draw(st.integers(2, 11))] = draw(
                st.sampled_from(["11", "-1", "", "x", "1.0", "01", "\u0661", " 3 ", "1e0"])
            )
        elif kind == "usage":
            row[0] = draw(st.sampled_from([*USAGES, "Test", "", "training x"]))
        elif kind == "more":
            row.append("0")
        elif kind == "fewer":
            row.pop()
        elif kind == "row":
            rows.append(row)
        else:
            rows.remove(row)
    header = ["Usage", "Image name", *VOTE_COLUMNS]
    if draw(st.integers(0, 19)) == 0:
        header = draw(st.permutations(header)) if draw(st.booleans()) else header[:-1]
    dress = draw(dresses)
    # A votes file goes through the csv module, for which blanks before a quote are part of the field.
    dress = Dress(dress.end, dress.quotes, ("",) if any(dress.quotes) else dress.blank, dress.last_end, dress.mark)
    return dress.file([header, *rows]), splits


def _with_blank_lines(draw: st.DrawFn, data: bytes) -> bytes:
    if draw(st.integers(0, 3)):
        return data
    header, *lines = data.split(b"\n")
    lines.insert(draw(st.integers(0, len(lines))), draw(st.sampled_from([b"", b"\r", b"   "])))
    return b"\n".join([header, *lines])


# --- the properties


def check_csv(data: bytes) -> None:
    expected = _or_refused(lambda: read_csv_plainly(data))
    actual = _or_refused(lambda: fer_csv.parse(data))
    assert (actual is None) == (expected is None), data[:300]
    if actual is not None and expected is not None:
        for name in ("images", "labels", "splits"):
            np.testing.assert_array_equal(getattr(actual, name), getattr(expected, name))


def check_votes(file: tuple[bytes, list[int]]) -> None:
    data, splits = file
    expected = _or_refused(lambda: read_votes_plainly(data, splits))
    actual = _or_refused(lambda: read_votes(data, np.array(splits, np.uint8)))
    assert (actual is None) == (expected is None), data[:600]
    if actual is not None and expected is not None:
        np.testing.assert_array_equal(actual, expected)


def _or_refused(read: Callable[[], FerData | npt.NDArray[np.uint8]]) -> FerData | npt.NDArray[np.uint8] | None:
    """What was read; None where it was refused, in a sentence."""
    try:
        return read()
    except Refused:
        return None
    except UserError as error:
        check_sentence(error)
        return None


PROPERTIES: dict[str, tuple[st.SearchStrategy[Any], Callable[[Any], None], Callable[..., object]]] = {
    "csv": (fer_csv_files(), check_csv, read_csv_plainly),
    "votes": (votes_files(), check_votes, read_votes_plainly),
}


def search(name: str, cases: int, seed: int) -> int:
    """Hold one parser to its plain reader in so many files; how many of them were read and not refused."""
    strategy, check, plain = PROPERTIES[name]
    read = 0

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=cases, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck)
    )
    @hypothesis.given(strategy)
    def property_(file: object) -> None:
        nonlocal read
        check(file)
        try:
            plain(*(file if isinstance(file, tuple) else (file,)))
        except Refused:
            return
        read += 1

    property_()
    return read


@click.command(context_settings={"show_default": True})
@click.option("--cases", default=5000, help="Files for each parser.")
@click.option("--seed", default=0)
def main(cases: int, seed: int) -> None:
    for name in PROPERTIES:
        read = search(name, cases, seed)
        print(f"parsers, {name}: {cases:,} files, {read:,} read by both and the others refused by both")


if __name__ == "__main__":
    main()
