"""FER-2013's CSV file (`emotion,pixels,Usage`) to arrays, a block of rows at a time.

The file is 301 MB of text for 83 MB of pixels. Python takes a row apart at its commas and no further;
the numbers are read by array arithmetic on the bytes of a whole block (`_pixels`), which only says
whether all is well. If it is not, `_complain` looks at the block again, row by row, and names the place.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import BinaryIO, NoReturn

import numpy as np
import numpy.typing as npt

from pipeline.data.fer import IMAGE_SIZE, LABELS, USAGES, FerData
from pipeline.errors import UserError

COLUMNS = ("emotion", "pixels", "Usage")
PIXELS = IMAGE_SIZE * IMAGE_SIZE

_LABEL_OF = {str(index).encode(): index for index in range(len(LABELS))}
_SPLIT_OF = {usage.encode(): index for index, usage in enumerate(USAGES)}
_BLOCK = 1 << 19
"""Bytes of text converted at once: about 60 rows, so that the work arrays stay in the processor's cache."""

Bytes = npt.NDArray[np.uint8]


def parse(source: bytes | BinaryIO, name: str = "fer2013.csv") -> FerData:
    """Read a whole CSV file, given as bytes or as an open binary stream. There are no votes in it.

    The header is required and its three columns may come in any order. Line ends may be `\\n` or
    `\\r\\n`, the last may be missing, blank lines are skipped; fields may be quoted and have blanks
    around them, and pixels may be more than one blank apart. `name` is the file's name in messages.

    Raises UserError, naming line and column, for anything else.
    """
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    order = _header(file.readline(1000), name)
    blocks: list[tuple[Bytes, Bytes, Bytes]] = []
    lines_before = 1
    while lines := file.readlines(_BLOCK):
        rows = {
            number: [field.strip(b' \t\r\n"') for field in line.split(b",")]
            for number, line in enumerate(lines, start=lines_before + 1)
            if not line.isspace()
        }
        if rows:
            blocks.append(_convert(rows.values(), order) or _complain(rows, order, name))
        lines_before += len(lines)
    if not blocks:
        raise UserError(f"{name} has a header but no rows: fetch the file again.")
    labels, images, splits = (np.concatenate(column) for column in zip(*blocks, strict=True))
    return FerData(images.reshape(-1, IMAGE_SIZE, IMAGE_SIZE), labels, splits)


def _header(line: bytes, name: str) -> tuple[int, ...]:
    """Where each of `COLUMNS` stands in the file."""
    if not line:
        raise UserError(f"{name} is empty: fetch the file again.")
    text = line.decode("utf-8-sig", errors="replace")
    names = [field.strip(' \t\r\n"') for field in text.split(",")]
    if sorted(names) != sorted(COLUMNS):
        raise UserError(
            f"{name}, line 1: the header must be {','.join(COLUMNS)} (in any order), not {text.strip()[:60]!r}."
        )
    return tuple(names.index(column) for column in COLUMNS)


def _convert(rows: Iterable[Sequence[bytes]], order: tuple[int, ...]) -> tuple[Bytes, Bytes, Bytes] | None:
    """Labels [n], pixels [n, 2304] and splits [n] of a block of rows, or None if any row is wrong."""
    if any(len(row) != len(COLUMNS) for row in rows):
        return None
    columns = tuple(zip(*rows, strict=True))
    emotions, pixels, usages = (columns[position] for position in order)
    images = _pixels(pixels)
    if images is None or not (_LABEL_OF.keys() >= set(emotions) and _SPLIT_OF.keys() >= set(usages)):
        return None
    labels = np.array([_LABEL_OF[text] for text in emotions], np.uint8)
    splits = np.array([_SPLIT_OF[text] for text in usages], np.uint8)
    return labels, images, splits


def _pixels(fields: Sequence[bytes]) -> Bytes | None:
    """The numbers of n fields as uint8 [n, 2304], or None if any field is not 2304 numbers of 0 to 255.

    Every byte is treated as if a number ended there, its value being digit + 10 digit before + 100 digit
    before that, as far as the digits are unbroken; then the bytes where a number does end are picked.
    """
    # Three blanks in front let every byte look three back; the line end behind closes the last number.
    text = np.frombuffer(b"   " + b"\n".join(fields) + b"\n", np.uint8)
    digit = text - np.uint8(ord("0"))  # wraps around for what is not a digit
    is_digit = digit < 10
    digit *= is_digit

    two = is_digit[1:-3] & is_digit[2:-2]
    value = (digit[3:-1] + np.uint8(10) * digit[2:-2]).astype(np.uint16)
    value += np.uint16(100) * (digit[1:-3] * is_digit[2:-2])
    ends = np.flatnonzero(is_digit[3:-1] & ~is_digit[4:])

    last_of_row = np.cumsum([len(field) + 1 for field in fields]) - 2
    only_digits_and_blanks = np.count_nonzero(is_digit) + np.count_nonzero(text == ord(" ")) + len(
        fields
    ) == len(text)
    at_most_three_digits = not (two & is_digit[:-4] & is_digit[3:-1]).any()
    if not (
        only_digits_and_blanks
        and at_most_three_digits
        and len(ends) == PIXELS * len(fields)
        and np.array_equal(ends[PIXELS - 1 :: PIXELS], last_of_row)
    ):
        return None
    numbers = value[ends]
    return None if numbers.max() > 255 else numbers.astype(np.uint8).reshape(-1, PIXELS)


def _complain(rows: dict[int, list[bytes]], order: tuple[int, ...], name: str) -> NoReturn:
    """Raise UserError for the first wrong row; `rows` maps line numbers to fields."""
    for line, row in rows.items():
        if len(row) != len(COLUMNS):
            raise UserError(f"{name}, line {line}: {len(row)} columns instead of {len(COLUMNS)}.")
        emotion, pixels, usage = (row[position] for position in order)
        if emotion not in _LABEL_OF:
            raise UserError(
                f"{name}, line {line}, column emotion: {_quoted(emotion)} is not a class number;"
                f" 0 to {len(LABELS) - 1} are ({', '.join(LABELS)})."
            )
        if usage not in _SPLIT_OF:
            raise UserError(
                f"{name}, line {line}, column Usage: {_quoted(usage)} is not a split; {', '.join(USAGES)} are."
            )
        numbers = [number for number in pixels.split(b" ") if number]
        for position, number in enumerate(numbers, start=1):
            if not (number.isdigit() and len(number) <= 3 and int(number) <= 255):
                raise UserError(
                    f"{name}, line {line}, column pixels: number {position} is {_quoted(number)},"
                    " not a whole number of 0 to 255."
                )
        if len(numbers) != PIXELS:
            raise UserError(
                f"{name}, line {line}, column pixels: {len(numbers)} numbers instead of"
                f" {IMAGE_SIZE} x {IMAGE_SIZE} = {PIXELS}."
            )
    raise AssertionError("_convert refused rows in which _complain finds no fault")


def _quoted(field: bytes) -> str:
    return repr(field[:20].decode("utf-8", errors="replace"))
