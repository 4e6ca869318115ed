"""Look up the vectors of label words in any word2vec file without loading all of it."""

from __future__ import annotations

import difflib
import gzip
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from pipeline.errors import UserError
from pipeline.files import sha256, write_npz

if TYPE_CHECKING:
    from gensim.models import KeyedVectors

_LONGEST_WORD = 10_000
_MOST_DIMENSIONS = 100_000
_LONGEST_NUMBER = 100
"""In bytes and numbers; generous. A damaged file is recognised at these, not after all of it is in memory."""

Words = Mapping[str, str | Sequence[str]]
"""For each label the word, the phrase ("very happy") or the list of words that stands for it."""


@dataclass(frozen=True)
class LabelVectors:
    """One unit vector per label.

    labels: K names; words: what each vector was made from; vectors: float32 [K, D], unit rows; gram: float64 [K, K],
    the cosines between them; provenance: their origin.
    """

    labels: tuple[str, ...]
    words: tuple[str, ...]
    vectors: npt.NDArray[np.float32]
    gram: npt.NDArray[np.float64]
    provenance: Mapping[str, str]

    def save(self, path: Path) -> None:
        """Write an `.npz`, byte for byte the same on every machine (unlike gensim's `.kv`)."""
        write_npz(
            path,
            {
                "labels": self.labels,
                "words": self.words,
                "vectors": self.vectors,
                "gram": self.gram,
                "provenance": [f"{key}: {value}" for key, value in self.provenance.items()],
            },
        )

    @classmethod
    def load(cls, path: Path) -> LabelVectors:
        """Read what `save` wrote. Raises UserError if there is nothing to read."""
        if not path.exists():
            raise UserError(f"{path} is missing: run `dvc repro embed` first.")
        with np.load(path, allow_pickle=False) as archive:
            return cls(
                labels=tuple(archive["labels"].tolist()),
                words=tuple(archive["words"].tolist()),
                vectors=archive["vectors"],
                gram=archive["gram"],
                provenance=dict(line.split(": ", 1) for line in archive["provenance"].tolist()),
            )

    def of(self, labels: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return the vectors in the order of `labels`, matched by name, never by position. Shape [len(labels), D]."""
        return self.vectors[self._positions(labels)]

    def gram_of(self, labels: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return the Gram matrix with rows and columns in the order of `labels`."""
        positions = self._positions(labels)
        return self.gram[np.ix_(positions, positions)]

    def _positions(self, labels: Sequence[str]) -> list[int]:
        return [self.labels.index(label) for label in labels]


def embed(path: Path, words: Words, name: str = "<name>") -> LabelVectors:
    """Read the vectors of the label words from a word2vec file, text or binary, plain or gzipped.

    A label of several words gets the mean of their unit vectors, scaled to unit length. A phrase whose words joined by
    "_" are an entry of the file (as GoogleNews writes phrases) gets that entry. Sums are correctly rounded
    (`math.fsum`), so the result does not depend on the machine's vector units.

    Raises UserError for a missing or malformed file and for a word that is not in it, with the key to change: `name` is
    what params.yaml calls the set of words.
    """
    if not path.is_file():
        raise UserError(f"The word vector file {path} does not exist: set labels.{name}.vectors to a word2vec file.")
    parts = {label: [value] if isinstance(value, str) else list(value) for label, value in words.items()}
    wanted = {spelling for items in parts.values() for item in items for spelling in (_joined(item), *item.split())}
    found = read_vectors(path, wanted)

    vectors, used = [], []
    for label, items in parts.items():
        tokens: list[str] = []
        for item in items:
            tokens += [_joined(item)] if _joined(item) in found else item.split()
        for token in tokens:
            if token not in found:
                raise UserError(_missing(path, token, label, name))
        vectors.append(_mean_direction([found[token] for token in tokens], path, label, name))
        used.append(" ".join(tokens))
    stacked = np.stack(vectors)
    return LabelVectors(
        labels=tuple(words),
        words=tuple(used),
        vectors=stacked,
        gram=exact_gram(stacked),
        provenance={"file": path.name, "sha256": sha256(path), "dimensions": str(stacked.shape[1])},
    )


def read_vectors(path: Path, words: set[str]) -> KeyedVectors:
    """Return the rows of `words` that the file contains, as gensim KeyedVectors; missing words are left out.

    The file is streamed and only the requested rows are kept: seven words out of the 3.6 GB of GoogleNews need a few
    kilobytes of memory. Raises UserError for a malformed file.
    """
    from gensim.models import KeyedVectors  # takes half a second, and only the embed stage reads words

    rows: dict[str, npt.NDArray[np.float32]] = {}
    for word, read in _entries(path):
        if word in words and word not in rows:  # gensim, too, keeps the first of two equal words
            rows[word] = read()
            if len(rows) == len(words):
                break
    dimensions = len(next(iter(rows.values()))) if rows else 0
    vectors = KeyedVectors(dimensions, count=0)
    if rows:
        vectors.add_vectors(list(rows), np.stack(list(rows.values())))
    return vectors


def exact_gram(vectors: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return S = W W^T with correctly rounded sums: float64 [K, K], the same on every machine."""
    rows = vectors.astype(np.float64)
    return np.array([[math.fsum(a * b) for b in rows] for a in rows])


def _joined(phrase: str) -> str:
    return "_".join(phrase.split())


def _mean_direction(
    vectors: Sequence[npt.NDArray[np.float32]], path: Path, label: str, name: str
) -> npt.NDArray[np.float32]:
    units = []
    for vector in vectors:
        row = vector.astype(np.float64)
        units.append(row / math.sqrt(math.fsum(row * row)))
    mean = np.array([math.fsum(column) for column in zip(*units, strict=True)])
    norm = math.sqrt(math.fsum(mean * mean))
    if not norm > 1e-6:
        raise UserError(
            f"The vectors of label '{label}' in {path} cancel out or are zero: choose other words in "
            f"labels.{name}.words.{label}."
        )
    return (mean / norm).astype(np.float32)


def _missing(path: Path, word: str, label: str, name: str) -> str:
    vocabulary = [entry for entry, _ in _entries(path)]
    folded = {entry.lower(): entry for entry in reversed(vocabulary)}
    nearest = [folded[entry] for entry in difflib.get_close_matches(word.lower(), folded, n=5, cutoff=0.6)]
    hint = f"the nearest spellings in it are {', '.join(nearest)}" if nearest else "nothing in it is spelled alike"
    return (
        f"The word '{word}' of label '{label}' is not among the {len(vocabulary):,} words of {path} ({hint}): "
        f"change labels.{name}.words.{label}."
    )


class _Entry:
    """One row of a word2vec file, converted to numbers only on request."""

    def __init__(self, raw: bytes, binary: bool, where: str) -> None:
        self.raw, self.binary, self.where = raw, binary, where

    def __call__(self) -> npt.NDArray[np.float32]:
        if self.binary:
            return np.frombuffer(self.raw, dtype="<f4").copy()
        try:
            return np.array(self.raw.split(), dtype=np.float32)
        except ValueError:
            raise UserError(f"{self.where} holds something that is not a number: is the file damaged?") from None


def _entries(path: Path) -> Iterator[tuple[str, _Entry]]:
    """Yield (word, row) in the file's order. Word2vec text and binary start with "<words> <dimensions>"."""
    try:
        with path.open("rb") as plain:
            magic = plain.read(2)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): is it the right file?") from None
    with cast(BinaryIO, gzip.open(path, "rb") if magic == b"\x1f\x8b" else path.open("rb")) as file:
        try:
            header = file.readline(100).split()
            if len(header) != 2 or not all(part.isdigit() for part in header) or int(header[1]) == 0:
                raise UserError(f"{path} does not start with '<words> <dimensions>': it is not a word2vec file.")
            count, dimensions = int(header[0]), int(header[1])
            if dimensions > _MOST_DIMENSIONS:
                raise UserError(
                    f"{path} says that vectors have {dimensions:,} dimensions: it is damaged, fetch it again."
                )
            first = file.readline(_longest_line(dimensions)) if count else b""
            binary = not _is_text_row(first, dimensions)
            rest = _binary_rows if binary else _text_rows
            yield from rest(file, first, count, dimensions, path)
        except (EOFError, OSError, zlib.error) as error:
            raise UserError(f"{path} is damaged or truncated ({error}): fetch it again.") from None


def _longest_line(dimensions: int) -> int:
    return _LONGEST_WORD + dimensions * _LONGEST_NUMBER


def _is_text_row(line: bytes, dimensions: int) -> bool:
    fields = line.split()
    try:
        return len(fields) == dimensions + 1 and all(math.isfinite(float(field)) for field in fields[1:])
    except ValueError:
        return False


def _text_rows(file: BinaryIO, first: bytes, count: int, dimensions: int, path: Path) -> Iterator[tuple[str, _Entry]]:
    limit = _longest_line(dimensions)
    for number in range(1, count + 1):
        line = first if number == 1 else file.readline(limit)
        where = f"{path}, line {number + 1},"
        if line.rstrip().count(b" ") != dimensions or len(line) == limit:
            raise UserError(
                f"{where} does not hold a word and {dimensions} numbers: the file is damaged or"
                " truncated: fetch it again."
            )
        word, numbers = line.split(b" ", 1)
        yield word.decode("utf-8", errors="replace"), _Entry(numbers, False, where)


def _binary_rows(file: BinaryIO, first: bytes, count: int, dimensions: int, path: Path) -> Iterator[tuple[str, _Entry]]:
    buffer, position, width = first, 0, 4 * dimensions
    for number in range(1, count + 1):
        while (space := buffer.find(b" ", position)) < 0 or len(buffer) < space + 1 + width:
            more = file.read(1 << 20)
            if space < 0 and len(buffer) - position > _LONGEST_WORD:
                raise UserError(
                    f"{path}: word {number} of {count:,} does not end: the file is damaged, fetch it again."
                )
            if not more:
                raise UserError(
                    f"{path} ends within word {number} of {count:,}: the file is truncated: fetch it again."
                )
            buffer, position = buffer[position:] + more, 0
        word = buffer[position:space].lstrip(b"\n")  # the original tool ends each row with a line end
        position = space + 1 + width
        yield word.decode("utf-8", errors="replace"), _Entry(buffer[space + 1 : position], True, str(path))
