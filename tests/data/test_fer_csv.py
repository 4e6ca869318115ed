"""Reading FER-2013's CSV: against a plain reader, in every accepted dress, and refusing what is wrong."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from pipeline.data import fer_csv
from pipeline.data.fer import USAGES, FerData
from pipeline.errors import UserError


def random_rows(n: int, seed: int = 0) -> list[list[str]]:
    """Rows of emotion, pixels, Usage; some images dark, some light, so that numbers have 1 to 3 digits."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        top = rng.choice([1, 10, 12, 100, 256])
        pixels = rng.integers(0, top, 2304) + (rng.choice([0, 256 - top]))
        rows.append([str(rng.integers(7)), " ".join(map(str, pixels)), str(rng.choice(USAGES))])
    return rows


def to_csv(rows: list[list[str]], header: str = "emotion,pixels,Usage", end: str = "\n") -> bytes:
    return "".join(line + end for line in [header, *(",".join(row) for row in rows)]).encode()


def read_plainly(data: bytes) -> FerData:
    """The same file read the slow and obvious way."""
    rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"))))
    return FerData(
        np.array([[int(p) for p in row["pixels"].split()] for row in rows], np.uint8).reshape(-1, 48, 48),
        np.array([int(row["emotion"]) for row in rows], np.uint8),
        np.array([USAGES.index(row["Usage"]) for row in rows], np.uint8),
    )


def assert_same(actual: FerData, expected: FerData) -> None:
    for name in ("images", "labels", "splits"):
        got, wanted = getattr(actual, name), getattr(expected, name)
        assert got.dtype == np.uint8
        np.testing.assert_array_equal(got, wanted)
    assert actual.votes is None


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n", [1, 2, 63, 200])
def test_reads_what_a_plain_reader_reads(n: int, seed: int) -> None:
    data = to_csv(random_rows(n, seed))
    assert_same(fer_csv.parse(data), read_plainly(data))


def test_every_value_in_every_place() -> None:
    values = np.arange(9 * 256).reshape(9, 256) % 256
    rows = [["0", " ".join(map(str, np.roll(values.ravel(), shift))), "Training"] for shift in range(256)]
    images = fer_csv.parse(to_csv(rows)).images.reshape(256, 2304)
    for shift in range(256):
        np.testing.assert_array_equal(images[shift], np.roll(values.ravel(), shift))


def test_blocks_of_any_size_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    data = to_csv(random_rows(20))
    expected = fer_csv.parse(data)
    for size in (1, 5_000, 30_000):
        monkeypatch.setattr(fer_csv, "_BLOCK", size)
        assert_same(fer_csv.parse(data), expected)


def test_reads_a_stream() -> None:
    data = to_csv(random_rows(100))
    assert_same(fer_csv.parse(io.BufferedReader(io.BytesIO(data), 1000)), fer_csv.parse(data))


ROWS = random_rows(5, seed=7)
PUBLISHED = to_csv(ROWS)
DRESSES = {
    "windows line ends": to_csv(ROWS, end="\r\n"),
    "no last line end": PUBLISHED[:-1],
    "no last line end, windows": to_csv(ROWS, end="\r\n")[:-2],
    "quoted pixels": to_csv([[e, f'"{p}"', u] for e, p, u in ROWS]),
    "everything quoted": to_csv([[f'"{x}"' for x in row] for row in ROWS], header='"emotion","pixels","Usage"'),
    "other column order": to_csv([[u, e, p] for e, p, u in ROWS], header="Usage,emotion,pixels"),
    "pixels last, windows": to_csv([[e, u, p] for e, p, u in ROWS], "emotion, Usage, pixels", end="\r\n"),
    "byte order mark": b"\xef\xbb\xbf" + PUBLISHED,
    "blank lines at the end": PUBLISHED + b"\n\r\n   \n",
    "a blank line between": to_csv(ROWS[:2]) + b"\n" + to_csv(ROWS[2:]).split(b"\n", 1)[1],
    "label with a blank": to_csv([[f" {e}", p, u] for e, p, u in ROWS]),
    "doubled blanks": to_csv([[e, p.replace(" ", "  "), u] for e, p, u in ROWS]),
    "blanks around pixels": to_csv([[e, f" {p}  ", u] for e, p, u in ROWS]),
    "leading zeros": to_csv([[e, " ".join(f"{int(x):03d}" for x in p.split()), u] for e, p, u in ROWS]),
}


@pytest.mark.parametrize("dress", DRESSES)
def test_accepts(dress: str) -> None:
    assert_same(fer_csv.parse(DRESSES[dress]), read_plainly(PUBLISHED))


MANY_ROWS = random_rows(150)


def wrong(line: int, column: int, value: str) -> bytes:
    """A file of more than one block in which one field is replaced; line 1 is the header."""
    rows = [list(row) for row in MANY_ROWS]
    rows[line - 2][column] = value
    return to_csv(rows)


def with_pixel(position: int, value: str) -> str:
    """2304 pixels, the one at a position (from 1) replaced."""
    pixels = ["7"] * 2304
    pixels[position - 1] = value
    return " ".join(pixels)


@pytest.mark.parametrize("line", [2, 3, 61, 140, 151])
@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        (0, "7", "column emotion: '7' is not a class number from 0 to 6 ("),
        (0, "-1", "column emotion: '-1'"),
        (0, "3.0", "column emotion: '3.0'"),
        (0, "", "column emotion: ''"),
        (0, "happy", "column emotion: 'happy'"),
        (1, with_pixel(17, "256"), "column pixels: number 17 is '256', not a whole number from 0 to 255"),
        (1, with_pixel(1, "999"), "column pixels: number 1 is '999'"),
        (1, with_pixel(2304, "1000"), "column pixels: number 2304 is '1000'"),
        (1, with_pixel(5, "0012"), "column pixels: number 5 is '0012'"),
        (1, with_pixel(5, "65536"), "column pixels: number 5 is '65536'"),
        (1, with_pixel(1, "-1"), "column pixels: number 1 is '-1'"),
        (1, with_pixel(9, "1.5"), "column pixels: number 9 is '1.5'"),
        (1, with_pixel(2304, "x"), "column pixels: number 2304 is 'x'"),
        (1, with_pixel(3, "1e2"), "column pixels: number 3 is '1e2'"),
        (1, with_pixel(3, "\N{ARABIC-INDIC DIGIT THREE}"), "column pixels: number 3 is '\N{ARABIC-INDIC DIGIT THREE}'"),
        (1, with_pixel(3, "1\t2"), r"column pixels: number 3 is '1\t2'"),
        (1, with_pixel(3, '1"2'), "column pixels: number 3 is '1\"2'"),
        (1, " ".join(["7"] * 2303), "column pixels: 2303 numbers instead of 48 x 48 = 2304"),
        (1, " ".join(["7"] * 2305), "column pixels: 2305 numbers instead of"),
        (1, "", "column pixels: 0 numbers instead of"),
        (2, "train", "column Usage: 'train' is not one of Training, PublicTest, PrivateTest"),
        (2, "training", "column Usage: 'training'"),
        (2, "", "column Usage: ''"),
        (2, "Training,", "4 columns instead of 3"),
        (1, "1,2", "4 columns instead of 3"),
    ],
)
def test_names_line_and_column(line: int, column: int, value: str, says: str) -> None:
    with pytest.raises(UserError, match=rf"faces\.csv, line {line}\D.*") as caught:
        fer_csv.parse(wrong(line, column, value), "faces.csv")
    assert says in str(caught.value)


def test_a_pixel_too_few_is_not_made_up_for_by_the_next_row() -> None:
    rows = random_rows(4)
    rows[1][1] = " ".join(["7"] * 2303)
    rows[2][1] = " ".join(["7"] * 2305)
    with pytest.raises(UserError, match=r"line 3, column pixels: 2303 numbers"):
        fer_csv.parse(to_csv(rows))


@pytest.mark.parametrize("block", [1, 1 << 18])
def test_a_blank_line_counts_as_a_line(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fer_csv, "_BLOCK", block)
    rows = random_rows(3)
    rows[2][0] = "9"
    data = to_csv(rows).replace(b"\n", b"\n\n", 1)
    with pytest.raises(UserError, match="line 5, column emotion"):
        fer_csv.parse(data)


def test_the_first_fault_is_named() -> None:
    rows = random_rows(30)
    rows[20][0] = "9"
    rows[10][1] = "1 2"
    rows[25][2] = "test"
    with pytest.raises(UserError, match="line 12, column pixels"):
        fer_csv.parse(to_csv(rows))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "faces.csv is empty"),
        (b"emotion,pixels,Usage\n", "has a header but no rows"),
        (b"emotion,pixels,Usage\n\n\n", "has a header but no rows"),
        (PUBLISHED.split(b"\n", 1)[1], "line 1: the header must be emotion,pixels,Usage"),
        (b"emotion,pixels\n" + PUBLISHED, "not 'emotion,pixels'"),
        (b"pixels\n1 2 3\n", "line 1: the header must be"),
        (b"emotion,emotion,pixels,Usage\n", "line 1: the header must be"),
        (b"\n" + PUBLISHED, "line 1: the header must be"),
        (b"\xff\xfe\x00\x01" * 500, "line 1: the header must be"),
        (PUBLISHED.replace(b"\n", b"\r"), "line 1: the header must be"),
    ],
)
def test_names_what_is_wrong_with_the_file(data: bytes, says: str) -> None:
    with pytest.raises(UserError) as caught:
        fer_csv.parse(data, "faces.csv")
    assert says in str(caught.value)
    assert len(str(caught.value)) < 300


def test_cut_anywhere_it_reads_whole_rows_or_complains() -> None:
    data = to_csv(random_rows(3))
    whole = read_plainly(data)
    for length in [*range(0, len(data), 397), *range(len(data) - 20, len(data))]:
        try:
            rows = fer_csv.parse(data[:length])
        except UserError:
            continue
        # A cut may fall between two rows, and only there may it go unnoticed.
        assert data[length:].startswith(b"\n") or data[:length].endswith(b"\n")
        images, labels, splits = (a[: len(rows.labels)] for a in (whole.images, whole.labels, whole.splits))
        assert_same(rows, FerData(images, labels, splits))


def test_a_line_without_end_is_refused_before_it_fills_the_memory() -> None:
    """What a small archive can unpack to."""

    class Endless(io.RawIOBase):
        given = 0

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
            self.given += len(buffer)
            assert self.given < 8 << 20, "read on and on"
            buffer[:] = b"1 " * (len(buffer) // 2) + b" " * (len(buffer) % 2)
            return len(buffer)

    start = io.BytesIO(to_csv(random_rows(3)))
    with pytest.raises(UserError, match=r"line 5.*characters"):
        fer_csv.parse(io.BufferedReader(Chained(start, Endless())))


def test_blank_lines_without_end_are_refused_before_they_take_hours() -> None:
    with pytest.raises(UserError, match="more than 1,000,000 lines"):
        fer_csv.parse(to_csv(random_rows(3)) + b"\n" * 1_300_000)
    assert len(fer_csv.parse(to_csv(random_rows(3)) + b"\n" * 1000).labels) == 3


class Chained(io.RawIOBase):
    """One stream after the other."""

    def __init__(self, *streams: io.RawIOBase | io.BytesIO) -> None:
        self.streams = list(streams)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while self.streams:
            if read := self.streams[0].readinto(buffer):
                return read
            self.streams.pop(0)
        return 0
