"""Read FER+ (Barsoum et al. 2016), ten annotators' votes per image, as counts, majority and distribution."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.data.fer import LABELS, SPLITS, USAGES, VOTE_COLUMNS, VOTES_OF_LABELS
from pipeline.errors import UserError

ANNOTATORS = 10
HEADER = ("Usage", "Image name", *VOTE_COLUMNS)
_VOTE_OF = {str(count): count for count in range(ANNOTATORS + 1)}
_DELIMITERS = (",", ";", "\t")
_LABEL_CSV = re.compile(rb'(?:\xef\xbb\xbf)?"?fer[0-9]+\.png"?\s*,\s*"?\([0-9, ]+\)')
_START = 4096
"""Bytes that contain the header."""
BLOCK = 500
"""Rows of votes that must be in order on their own: enough to distinguish order from chance."""
CHANCE_DEVIATIONS = 4
"""Minimum agreement of ordered rows above the mean of shuffled rows, in standard deviations."""


def read_votes(source: Path | bytes, splits: npt.NDArray[np.uint8], name: str | None = None) -> npt.NDArray[np.uint8]:
    """Read `fer2013new.csv` as uint8 [N, 10] (columns: `VOTE_COLUMNS`), one row per image.

    Row i of the file belongs to row i of fer2013.csv and nothing in it identifies the image, so `splits` (uint8 [N],
    indices into `SPLITS`) must come from data in that order: see `sources.in_published_order`. Rows without a file name
    (images that FER+ removed) keep their votes. Votes that do not sum to ten are accepted here and reported by
    `checks.check`; the order of rows within a split is checked by `check_order`.

    The columns are found by name, case-insensitively and among others; the ten vote columns must keep their order.
    Raises UserError, naming the file (as `name`, if given), line and column, if the file does not fit.
    """
    name = name or (source.name if isinstance(source, Path) else "the votes file")
    if isinstance(source, Path):
        if not source.is_file():
            raise UserError(f"{source} is not a file: set data.votes to FER+'s fer2013new.csv, or leave it empty.")
        source = source.read_bytes()
    rows = list(_rows(source, name, splits))
    if len(rows) != len(splits):
        raise UserError(
            f"{name} has {len(rows)} rows for {len(splits)} images: it belongs to another data set;"
            " set data.votes to the file for this one."
        )
    return np.array(rows, np.uint8).reshape(-1, len(VOTE_COLUMNS))


def check_start(head: bytes, name: str) -> None:
    """Raise UserError if the header and the first whole row of `head` are not those of FER+."""
    pick, delimiter = _header(head, name)
    lines = head.decode("utf-8-sig", errors="replace").splitlines(keepends=True)[1:]
    for number, line in enumerate(lines, start=2):
        if not line.isspace() and line.endswith(("\n", "\r")):
            row = next(csv.reader([line], delimiter=delimiter), [])
            _votes_of(row, pick, number, name)
            usage = row[pick[0]].strip()
            if usage not in USAGES:
                raise UserError(
                    f"{name}, line {number}, column Usage: {usage[:20]!r} is not one of {', '.join(USAGES)}."
                )
            return


def read_header(head: bytes, name: str) -> None:
    """Raise UserError if `head` does not start with the header of FER+."""
    _header(head, name)


Pick = tuple[int, tuple[int, ...], int]
"""Positions of `Usage` and of each of `VOTE_COLUMNS`, and the number of columns."""


def _header(head: bytes, name: str) -> tuple[Pick, str]:
    must = f"{name}, line 1: the header must be {','.join(HEADER)}"
    if _LABEL_CSV.match(head):
        raise UserError(
            f"{name} is a label.csv of FER+, which covers one split and lacks the images that FER+ removed,"
            " so its rows cannot be matched to images: use fer2013new.csv from the same repository."
        )
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UserError(f"{must}, as UTF-8 text and not UTF-16: save it as CSV in UTF-8.")
    line = (head.decode("utf-8-sig", errors="replace").splitlines() or [""])[0]
    for delimiter in _DELIMITERS:
        try:
            names = [field.strip().casefold() for field in next(csv.reader([line], delimiter=delimiter), [])]
        except csv.Error:
            continue
        wanted = [column.casefold() for column in ("Usage", *VOTE_COLUMNS)]
        if all(names.count(column) == 1 for column in wanted):
            usage, *votes = map(names.index, wanted)
            if votes == sorted(votes):
                return (usage, tuple(votes), len(names)), delimiter
    hint = ": this is FER-2013 itself, which belongs in data.path" if "pixels" in line[:200] else ""
    raise UserError(f"{must}, not {line.strip()[:60]!r}{hint}.")


def _rows(source: bytes, name: str, splits: npt.NDArray[np.uint8]) -> Iterator[list[int]]:
    pick, delimiter = _header(source[:_START], name)
    text = source.decode("utf-8-sig", errors="replace")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        next(reader)
        # An extra row is counted by the caller: it has no image to be compared with.
        usages = [USAGES[split] for split in splits]
        for index, row in enumerate(filter(None, reader)):
            line = reader.line_num
            votes = _votes_of(row, pick, line, name)
            usage = row[pick[0]].strip()
            if index < len(usages) and usage != usages[index]:
                raise UserError(
                    f"{name}, line {line}, column Usage: {usage[:20]!r}, but image {index} is {usages[index]}:"
                    " votes and images are not in the same order; use FER+'s fer2013new.csv as published."
                )
            yield votes
    except csv.Error as error:
        raise UserError(f"{name}, after line {line}: not a CSV file ({error}).") from error


def _votes_of(row: list[str], pick: Pick, line: int, name: str) -> list[int]:
    """Return the votes of a row. Raises UserError if a vote or the number of columns is wrong."""
    _, votes_at, width = pick
    if len(row) != width:
        raise UserError(f"{name}, line {line}: {len(row)} columns instead of {width}.")
    votes = [row[place].strip() for place in votes_at]
    for column, vote in zip(VOTE_COLUMNS, votes, strict=True):
        if vote not in _VOTE_OF:
            raise UserError(
                f"{name}, line {line}, column {column}: {vote[:20]!r} is not a number of votes (0 to {ANNOTATORS})."
            )
    return [_VOTE_OF[vote] for vote in votes]


def check_order(
    votes: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8], splits: npt.NDArray[np.uint8], name: str
) -> None:
    """Raise UserError if votes [N, 10] agree with labels [N] no better than rows in a random order would.

    Nothing in a row of votes names its image, but in the right order a majority matches the label far more often than
    by chance. The level of chance: let n images have a_k labels of class k and b_k majorities for it. If the rows of
    votes are put in a random order, every order equally likely, the number of agreements has the mean m = S / n with S
    = sum_k a_k b_k, and the variance

        (S - sum_k a_k b_k (a_k + b_k) / n + S^2 / n^2) / (n - 1),

    the sum of squares of the doubly centred table of agreements, as in Hoeffding's combinatorial central limit theorem
    (1951), by which it is close to normal. Agreement up to `CHANCE_DEVIATIONS` standard deviations above m is
    consistent with chance (rows out of order pass one time in 30,000) and is rejected.

    Each block of `BLOCK` rows and each split are tested on their own, since a file may be partly out of order, and then
    all splits together, shuffled within splits. Where there are so few images, or so many of one class, that agreement
    halfway from chance to the best possible, sum_k min(a_k, b_k), would not pass either, the test cannot decide and
    nothing is rejected. FER+ in its own order lies 213, 76 and 75 deviations above chance in the three splits; drawn
    faces of 20 images and more pass at any ambiguity.
    """
    agreed = majority(votes)
    groups, blocks = [], []
    for split in range(len(SPLITS)):
        rows = np.flatnonzero(splits == split)
        groups.append((SPLITS[split], *_agreement(agreed[rows], labels[rows])))
        for block in np.array_split(rows, max(1, len(rows) // BLOCK)):
            if len(block) < len(rows):
                where = f"rows {block[0]} to {block[-1]} of {SPLITS[split]}"
                blocks.append((where, *_agreement(agreed[block], labels[block])))
    total = tuple(sum(column) for column in list(zip(*groups, strict=True))[1:])
    for where, count, hits, mean, variance, best in (*groups, ("all splits", *total), *blocks):
        limit = mean + CHANCE_DEVIATIONS * variance**0.5
        if hits <= limit < (mean + best) / 2:
            raise UserError(
                f"{name}: the majority vote matches the label of {hits} of {count} images ({where}), no more"
                f" than rows in random order may ({mean:.0f} on average): its rows are not in the order of the"
                " images; use FER+'s fer2013new.csv as published."
            )


def _agreement(agreed: npt.NDArray[np.int64], labels: npt.NDArray[np.uint8]) -> tuple[int, int, float, float, int]:
    """Return the number of images, the number on which majority and label agree, and `_by_chance`."""
    return len(labels), int((agreed == labels).sum()), *_by_chance(agreed, labels)


def _by_chance(agreed: npt.NDArray[np.int64], labels: npt.NDArray[np.uint8]) -> tuple[float, float, int]:
    """Return mean and variance of the number of agreements in a random order, and its maximum."""
    n = len(labels)
    if n < 2:
        return float(n), 0.0, n
    a = np.bincount(labels, minlength=len(LABELS)).astype(np.float64)
    b = np.bincount(agreed[agreed >= 0], minlength=len(LABELS)).astype(np.float64)
    pairs = a * b
    variance = (pairs.sum() - (pairs * (a + b)).sum() / n + (pairs.sum() / n) ** 2) / (n - 1)
    return float(pairs.sum() / n), max(float(variance), 0.0), int(np.minimum(a, b).sum())


def majority(votes: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Return the class (index into `LABELS`) that FER+ agrees on per image, int64 [N]; -1 where there is none.

    A class is agreed on if its column has strictly more votes than each of the nine others. An image whose top votes
    are tied, or are for contempt, unknown or not-a-face, has none.
    """
    class_of_column = np.full(len(VOTE_COLUMNS), -1)
    class_of_column[list(VOTES_OF_LABELS)] = np.arange(len(VOTES_OF_LABELS))
    most = votes.max(axis=1, keepdims=True)
    alone = (votes == most).sum(axis=1) == 1
    return np.where(alone, class_of_column[votes.argmax(axis=1)], -1).astype(np.int64)


CONTEMPT = len(LABELS)
"""The number of the eighth class of FER+, which FER-2013 does not have."""


def barsoum_majority(votes: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Return the class per image in the test of Barsoum et al. (ICMI 2016), int64 [N]; -1 for an image left out.

    Classes are those of `LABELS` and `CONTEMPT`. A column with a single vote counts as none; a class must then have
    more than half of the votes that are left, those for unknown and not-a-face among them.
    """
    counts = np.where(votes > 1, votes, 0).astype(np.int64)
    class_of_column = np.full(len(VOTE_COLUMNS), -1)
    class_of_column[[*VOTES_OF_LABELS, VOTE_COLUMNS.index("contempt")]] = range(CONTEMPT + 1)
    clear = 2 * counts.max(axis=1) > counts.sum(axis=1)
    return np.where(clear, class_of_column[counts.argmax(axis=1)], -1).astype(np.int64)


def distribution(votes: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Return the votes for the seven classes as shares: float64 [N, 7] in the order of `LABELS`, rows sum to 1.

    Also returns a bool [N] mask: False where none of the seven has a vote; that row is all zeros.
    """
    counts = votes[:, list(VOTES_OF_LABELS)].astype(np.float64)
    total = counts.sum(axis=1, keepdims=True)
    has_votes = total[:, 0] > 0
    return np.divide(counts, total, out=np.zeros_like(counts), where=total > 0), has_votes
