"""Cut the shipped word list out of a larger word2vec file: how `googlenews-emotions.w2v.txt` was made.

python resources/extract_words.py GoogleNews-vectors-negative300.bin resources/googlenews-emotions.w2v.txt
"""

from __future__ import annotations

import sys
from pathlib import Path

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


def main(source: Path, target: Path) -> None:
    words = WORDS.split()
    vectors = read_vectors(source, set(words))
    found = [word for word in words if word in vectors]
    # Nine significant digits bring a float32 back exactly.
    rows = [" ".join([word, *(f"{value:.9g}" for value in vectors[word])]) for word in found]
    write_text(target, "\n".join([f"{len(found)} {vectors.vector_size}", *rows]) + "\n")
    print(f"{len(found)} of {len(words)} words; not in {source.name}: {sorted(set(words) - set(found))}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
