"""FER+ (Barsoum et al. 2016): ten annotators' votes per image, as counts, majority and distribution."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.data.fer import USAGES, VOTE_COLUMNS, VOTES_OF_LABELS
from pipeline.errors import UserError

ANNOTATORS = 10
HEADER = ("Usage", "Image name", *VOTE_COLUMNS)
_VOTE_OF = {str(count): count for count in range(ANNOTATORS + 1)}


def read_votes(
    source: Path | bytes, splits: npt.NDArray[np.uint8], name: str | None = None
) -> npt.NDArray[np.uint8]:
    """Read `fer2013new.csv` as uint8 [N, 10] (columns: `VOTE_COLUMNS`), one row per image.

    Row i of the file belongs to row i of fer2013.csv and nothing in it identifies the image, so `splits`
    (uint8 [N], indices into `SPLITS`) must come from data in that order: see `sources.in_published_order`.
    Rows without a file name (images that FER+ removed) keep their votes. Votes that do not sum to ten
    are accepted here and reported by `checks.check`.

    Raises UserError, naming the file (as `name`, if given), line and column, if it does not fit.
    """
    name = name or (source.name if isinstance(source, Path) else "the votes file")
    if isinstance(source, Path):
        if not source.is_file():
            raise UserError(
                f"{source} is not a file: set data.votes to FER+'s fer2013new.csv, or leave it empty."
            )
        source = source.read_bytes()
    text = source.decode("utf-8-sig", errors="replace")
    rows = list(_rows(csv.reader(io.StringIO(text, newline=""), strict=True), name, splits))
    if len(rows) != len(splits):
        raise UserError(
            f"{name} has {len(rows)} rows for {len(splits)} images: it belongs to another data set."
        )
    return np.array(rows, np.uint8).reshape(-1, len(VOTE_COLUMNS))


def _rows(reader: Iterator[list[str]], name: str, splits: npt.NDArray[np.uint8]) -> Iterator[list[int]]:
    line = 1
    try:
        header = tuple(field.strip() for field in next(reader, []))
        if header != HEADER:
            raise UserError(
                f"{name}, line 1: the header must be {','.join(HEADER)}, not {','.join(header)[:60]!r}."
            )
        # An extra row is counted by the caller: it has no image to be compared with.
        usages = [USAGES[split] for split in splits]
        for index, row in enumerate(filter(None, reader)):
            line = index + 2
            if len(row) != len(HEADER):
                raise UserError(f"{name}, line {line}: {len(row)} columns instead of {len(HEADER)}.")
            usage, _, *votes = (field.strip() for field in row)
            if index < len(usages) and usage != usages[index]:
                raise UserError(
                    f"{name}, line {line}, column Usage: {usage[:20]!r}, but image {index} is {usages[index]}:"
                    " votes and images are not in the same order."
                )
            for column, vote in zip(VOTE_COLUMNS, votes, strict=True):
                if vote not in _VOTE_OF:
                    raise UserError(
                        f"{name}, line {line}, column {column}: {vote[:20]!r} is not a number of votes"
                        f" (0 to {ANNOTATORS})."
                    )
            yield [_VOTE_OF[vote] for vote in votes]
    except csv.Error as error:
        raise UserError(f"{name}, after line {line}: not a CSV file ({error}).") from error


def majority(votes: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """The class (index into `LABELS`) FER+ agrees on per image, int64 [N]; -1 where it agrees on none.

    A class is agreed on if its column has strictly more votes than each of the nine others; so an image
    whose most votes are tied, or are for contempt, unknown or not-a-face, has none.
    """
    class_of_column = np.full(len(VOTE_COLUMNS), -1)
    class_of_column[list(VOTES_OF_LABELS)] = np.arange(len(VOTES_OF_LABELS))
    most = votes.max(axis=1, keepdims=True)
    alone = (votes == most).sum(axis=1) == 1
    return np.where(alone, class_of_column[votes.argmax(axis=1)], -1).astype(np.int64)


def distribution(votes: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """The votes for the seven classes as shares: float64 [N, 7] in the order of `LABELS`, rows sum to 1.

    Also a bool [N] mask: False where none of the seven has a vote; that row is all zeros.
    """
    counts = votes[:, list(VOTES_OF_LABELS)].astype(np.float64)
    total = counts.sum(axis=1, keepdims=True)
    has_votes = total[:, 0] > 0
    return np.divide(counts, total, out=np.zeros_like(counts), where=total > 0), has_votes
