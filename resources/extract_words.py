"""Cut the shipped word list out of a larger word2vec file: how `googlenews-emotions.w2v.txt` was made.

python -m resources.extract_words GoogleNews-vectors-negative300.bin resources/googlenews-emotions.w2v.txt
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt

from pipeline import cli
from pipeline.errors import UserError
from pipeline.files import write_text
from pipeline.labels.vectors import read_vectors

WORDS = """
    angry anger annoyed furious mad rage
    disgust disgusted disgusting repulsed revulsion
    fear afraid fearful frightened scared terrified
    happy happiness cheerful glad joy joyful smile smiling
    sad sadness sorrow unhappy gloomy crying
    surprise surprised astonished shocked amazed
    neutral calm indifferent expressionless emotionless neutrality
    contempt contemptuous face facial expression emotion feeling very
"""

SOURCE = click.Argument(["source"], type=cli.FILE, help="A word2vec file, binary or text.")
TARGET = click.Argument(["target"], type=cli.NewFile(".w2v.txt"), help="Where the words go.")
EXAMPLE = "GoogleNews-vectors-negative300.bin resources/googlenews-emotions.w2v.txt"


def main(source: Path, target: Path) -> None:
    if target.exists() and target.samefile(source):
        raise UserError(f"{target} is SOURCE itself, of which only some words would remain: name another TARGET.")
    words = WORDS.split()
    vectors = read_vectors(source, set(words))
    found = {word: vectors[word] for word in words if word in vectors}
    if not found:
        raise UserError(f"{source} has none of the words: {', '.join(words)}.")
    write_vectors(target, found)
    print(f"{len(found)} of {len(words)} words; not in {source.name}: {sorted(set(words) - set(found))}")


def write_vectors(target: Path, vectors: Mapping[str, npt.NDArray[np.float32]]) -> None:
    """A word2vec text file. Nine significant digits bring a float32 back exactly."""
    rows = [" ".join([word, *(f"{value:.9g}" for value in vector)]) for word, vector in vectors.items()]
    dimensions = len(next(iter(vectors.values())))
    write_text(target, "\n".join([f"{len(rows)} {dimensions}", *rows]) + "\n")


if __name__ == "__main__":
    cli.script(main, SOURCE, TARGET, example=EXAMPLE)
