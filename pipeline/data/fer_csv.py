"""Read FER-2013's CSV file (`emotion,pixels,Usage`, possibly among other columns) into arrays, block by block.

The file is 301 MB of text for 83 MB of pixels. Python only splits rows at their commas; the numbers are parsed by array
operations on the bytes of a whole block (`_PixelReader`), which only report whether the block is valid. If it is not,
`_complain` reads the block again, row by row, and names the place.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import BinaryIO, NoReturn

import numpy as np
import numpy.typing as npt

from pipeline.data.fer import IMAGE_SIZE, LABELS, USAGES, FerData
from pipeline.errors import UserError

COLUMNS = ("emotion", "pixels", "Usage")
PIXELS = IMAGE_SIZE * IMAGE_SIZE

_LABEL_OF = {str(index).encode(): index for index in range(len(LABELS))}
_SPLIT_OF = {usage.encode(): index for index, usage in enumerate(USAGES)}
_BLOCK = 1 << 18
"""Bytes of text converted at once: about 32 rows."""
_LONGEST_HEADER = 1 << 16
_DELIMITERS = (",", ";", "\t")
"""Field delimiters. Pixels are separated by spaces, so none of the three occurs within one of the three columns."""

Bytes = npt.NDArray[np.uint8]

_LONGEST_LINE = 1 << 17
"""Maximum bytes of one line; a row has some 9,000. A small archive can hold a line that fills the memory."""
_MOST_LINES = 1_000_000
"""Twice the rows of the largest file that is read. A small archive can hold a billion blank lines."""
_SHORTEST = 64
"""Minimum bytes that a line counts for: each is a Python object."""


def parse(source: bytes | BinaryIO, name: str = "fer2013.csv") -> FerData:
    """Read a whole CSV file, given as bytes or as an open binary stream. It contains no votes.

    The header is required. Its three columns are found by name, case-insensitively, in any order and among others;
    fields may be separated by commas, semicolons or tabs. Lines may end in `\\n` or `\\r\\n`, and the last line end may
    be missing. Blank lines are skipped; fields may be quoted and surrounded by spaces, and pixels may be separated by
    more than one space. `name` is the file's name in messages.

    Raises UserError, naming line and column, for anything else.
    """
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    layout = read_header(file.readline(_LONGEST_HEADER), name)
    blocks: list[tuple[Bytes, Bytes, Bytes]] = []
    reader = _PixelReader()
    lines_before = 1
    while lines := _next_lines(file, lines_before + 1, name):
        rows = {
            number: _fields(line, layout)
            for number, line in enumerate(lines, start=lines_before + 1)
            if not line.isspace()
        }
        if rows:
            blocks.append(_convert(rows.values(), layout, reader) or _complain(rows, layout, name))
        lines_before += len(lines)
        if lines_before > _MOST_LINES:
            raise UserError(f"{name} has more than {_MOST_LINES:,} lines, most of them blank: fetch the file again.")
    if not blocks:
        raise _no_rows(name)
    labels, images, splits = (np.concatenate(column) for column in zip(*blocks, strict=True))
    return FerData(images.reshape(-1, IMAGE_SIZE, IMAGE_SIZE), labels, splits)


@dataclass(frozen=True)
class Layout:
    """The layout of a CSV file: delimiter, number of fields per row, and the positions of `COLUMNS`."""

    delimiter: bytes
    width: int
    places: tuple[int, ...]


def read_header(line: bytes, name: str) -> Layout:
    """Return the layout of a header. Raises UserError naming the column if the three columns cannot be identified."""
    if not line:
        raise UserError(f"{name} is empty: fetch the file again.")
    must = f"{name}, line 1: the header must be {','.join(COLUMNS)} (in any order)"
    if line.isspace():
        raise UserError(f"{must}: remove the blank lines before it.")
    foreign = _encoding(line[:8])
    if foreign:
        raise UserError(f"{must}, as UTF-8 text and not {foreign}: save it as CSV in UTF-8, or fetch it again.")
    text = line.decode("utf-8-sig", errors="replace")
    headers = {
        delimiter: [field.strip().strip('"').strip().casefold() for field in text.split(delimiter)]
        for delimiter in _DELIMITERS
    }
    wanted = [column.casefold() for column in COLUMNS]
    delimiter, names = max(headers.items(), key=lambda item: sum(column in item[1] for column in wanted))
    if all(names.count(column) == 1 for column in wanted):
        places = tuple(names.index(column) for column in wanted)
        return Layout(delimiter.encode(), len(names), places)
    raise UserError(f"{must}, not {text.strip()[:60]!r}: {_fault(text, names)}.")


def _encoding(start: bytes) -> str | None:
    """Return what a file is if its start is not UTF-8 text, else None."""
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16"
    if b"\x00" not in start:
        return None
    if not start.strip(b"\x00"):
        return "zeros, as in an empty archive or an incomplete download"
    alternate = not start[::2].strip(b"\x00") or not start[1::2].strip(b"\x00")
    return "UTF-16" if alternate else "binary data"


def _fault(text: str, names: list[str]) -> str:
    """Return the fault of a header that lacks a column or repeats one."""
    twice = [column for column in COLUMNS if names.count(column.casefold()) > 1]
    missing = [column for column in COLUMNS if column.casefold() not in names]
    if "\r" in text.rstrip("\r\n"):
        return "its lines end in CR alone; save it with Unix or Windows line ends"
    if len(missing) == len(COLUMNS) and text[:1].isdigit() and any(name.count(" ") > 99 for name in names):
        return "this is already a row of data; put the header above it"
    if twice:
        return f"column {twice[0]} occurs twice"
    if missing == ["Usage"]:
        return (
            "column Usage is missing (the competition's train.csv and test.csv have no splits;"
            " icml_face_data.csv and fer2013.tar.gz of the same download have them)"
        )
    if missing == ["emotion", "Usage"]:
        return (
            "columns emotion and Usage are missing (the competition's test.csv has neither;"
            " icml_face_data.csv and fer2013.tar.gz of the same download have both)"
        )
    return f"column {missing[0]} is missing" if len(missing) == 1 else f"columns {', '.join(missing)} are missing"


def check_start(head: bytes, whole: bool, name: str) -> None:
    """Check the header and the first row, if `head` holds all of it. whole: whether `head` is the whole file.

    Raises UserError as `parse` would.
    """
    header, *lines = io.BytesIO(head).readlines() or [b""]
    layout = read_header(header, name)
    if lines and not (whole or lines[-1].endswith(b"\n")):
        lines.pop()
    for number, line in enumerate(lines, start=2):
        if not line.isspace():
            row = _fields(line, layout)
            if _convert([row], layout, _PixelReader()) is None:
                _complain({number: row}, layout, name)
            return
    if whole:
        raise _no_rows(name)


def _no_rows(name: str) -> UserError:
    return UserError(f"{name} has a header but no rows: fetch the file again.")


def _fields(line: bytes, layout: Layout) -> list[bytes]:
    fields = line.split(layout.delimiter)
    if len(fields) > layout.width and b'"' in line:
        fields = _quoted_fields(line, layout) or fields
    return [field.strip(b' \t\r\n"') for field in fields]


def _quoted_fields(line: bytes, layout: Layout) -> list[bytes] | None:
    """Return the fields of a row in which a quoted field contains the delimiter."""
    try:
        (row,) = csv.reader([line.decode("latin-1")], delimiter=layout.delimiter.decode(), strict=True)
    except (csv.Error, ValueError):
        return None
    return [field.encode("latin-1") for field in row]


def _convert(
    rows: Iterable[Sequence[bytes]], layout: Layout, reader: _PixelReader
) -> tuple[Bytes, Bytes, Bytes] | None:
    """Return labels [n], pixels [n, 2304] and splits [n] of a block of rows, or None if any row is invalid."""
    if any(len(row) != layout.width for row in rows):
        return None
    columns = tuple(zip(*rows, strict=True))
    emotions, pixels, usages = (columns[position] for position in layout.places)
    images = reader.read(pixels)
    if images is None or not (_LABEL_OF.keys() >= set(emotions) and _SPLIT_OF.keys() >= set(usages)):
        return None
    labels = np.array([_LABEL_OF[text] for text in emotions], np.uint8)
    splits = np.array([_SPLIT_OF[text] for text in usages], np.uint8)
    return labels, images, splits


class _PixelReader:
    """Parse blocks of pixel fields in reused work arrays.

    Blocks fit the processor's cache, so parsing is fast: allocating fresh memory for every intermediate result was
    measured to take longer than all of it.
    """

    def __init__(self) -> None:
        self._make_room(0)

    def _make_room(self, size: int) -> None:
        self._digit, self._value, self._hundreds = (np.empty(size, np.uint8) for _ in range(3))
        self._is_digit, self._flag = (np.empty(size, np.bool_) for _ in range(2))

    def read(self, fields: Sequence[bytes]) -> Bytes | None:
        """Return the numbers of n fields as uint8 [n, 2304]; None if any field is not 2304 numbers of 0 to 255.

        Every byte is treated as if a number ended there, its value being its digit + 10 times the digit before + 100
        times the one before that, up to the first byte that is not a digit. Then the bytes that do end a number are
        selected.
        """
        # Three spaces in front let every byte look three back; the line end at the end closes the last number.
        text = np.frombuffer(b"   " + b"\n".join(fields) + b"\n", np.uint8)
        size = len(text)
        if size > len(self._digit):
            self._make_room(size)
        digit = np.subtract(text, ord("0"), out=self._digit[:size])  # wraps around for what is not a digit
        is_digit = np.less(digit, 10, out=self._is_digit[:size])
        digit *= is_digit

        # [0] holds the bytes themselves, [1] to [3] those one to three places before them.
        digits = [digit[3 - back : size - 1 - back] for back in range(4)]
        are_digits = [is_digit[3 - back : size - 1 - back] for back in range(4)]
        flag = self._flag[: size - 4]
        value = np.multiply(digits[1], 10, out=self._value[: size - 4])
        value += digits[0]
        hundreds = np.multiply(digits[2], are_digits[1], out=self._hundreds[: size - 4])
        ends = np.flatnonzero(np.greater(are_digits[0], is_digit[4:], out=flag))

        np.logical_and(are_digits[0], are_digits[1], out=flag)
        flag &= are_digits[2]
        flag &= are_digits[3]
        has_four_digits = flag.any()
        blanks = np.count_nonzero(np.equal(text[3:-1], ord(" "), out=flag))
        others = size - 4 - np.count_nonzero(is_digit) - blanks - (len(fields) - 1)
        last_of_field = np.cumsum([len(field) + 1 for field in fields]) - 2
        # The text ends with a field, so if every 2304th number ends one too, no number is left over.
        if has_four_digits or others or not np.array_equal(ends[PIXELS - 1 :: PIXELS], last_of_field):
            return None
        numbers = value.take(ends).astype(np.uint16)
        numbers += np.uint16(100) * hundreds.take(ends)
        return None if numbers.max() > 255 else numbers.astype(np.uint8).reshape(-1, PIXELS)


def _complain(rows: dict[int, list[bytes]], layout: Layout, name: str) -> NoReturn:
    """Raise UserError for the first wrong row; `rows` maps line numbers to fields."""
    for line, row in rows.items():
        if len(row) != layout.width:
            raise UserError(f"{name}, line {line}: {len(row)} columns instead of {layout.width}.")
        emotion, pixels, usage = (row[position] for position in layout.places)
        if emotion not in _LABEL_OF:
            raise UserError(
                f"{name}, line {line}, column emotion: {_quoted(emotion)} is not a class number"
                f" from 0 to {len(LABELS) - 1} ({', '.join(LABELS)})."
            )
        if usage not in _SPLIT_OF:
            raise UserError(f"{name}, line {line}, column Usage: {_quoted(usage)} is not one of {', '.join(USAGES)}.")
        numbers = [number for number in pixels.split(b" ") if number]
        for position, number in enumerate(numbers, start=1):
            if not (number.isdigit() and len(number) <= 3 and int(number) <= 255):
                raise UserError(
                    f"{name}, line {line}, column pixels: number {position} is {_quoted(number)},"
                    " not a whole number from 0 to 255."
                )
        if len(numbers) != PIXELS:
            raise UserError(
                f"{name}, line {line}, column pixels: {len(numbers)} numbers instead of"
                f" {IMAGE_SIZE} x {IMAGE_SIZE} = {PIXELS}."
            )
    raise AssertionError("_convert refused rows in which _complain finds no fault")


def _next_lines(file: BinaryIO, number: int, name: str) -> list[bytes]:
    """Return a block of lines that starts at line `number`. Raises UserError for an impossibly long line."""
    lines: list[bytes] = []
    size = 0
    while size < _BLOCK and (line := file.readline(_LONGEST_LINE + 1)):
        if len(line) > _LONGEST_LINE:
            raise UserError(
                f"{name}, line {number + len(lines)}: it has more than {_LONGEST_LINE:,} characters, which no row"
                " of FER-2013 has: fetch the file again."
            )
        lines.append(line)
        size += max(len(line), _SHORTEST)
    return lines


def _quoted(field: bytes) -> str:
    return repr(field[:20].decode("utf-8", errors="replace"))
