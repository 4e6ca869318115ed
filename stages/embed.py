"""Stage embed: one vector per label word, and how close the words are to each other."""

from __future__ import annotations

import tempfile
from pathlib import Path

from pipeline import config, figures, tracking
from pipeline.data.fer import LABELS
from pipeline.files import repository, sha256, write_csv
from pipeline.labels.vectors import LabelVectors, embed
from stages import run_stage
from stages.cell import DATA_EXPERIMENT, LABEL_VECTORS

FOLDER = LABEL_VECTORS.parent


def main() -> None:
    labels = config.load().labels
    path = Path(labels.vectors)
    vectors = embed(path if path.exists() else repository() / path, labels.words)
    vectors.save(LABEL_VECTORS)
    gram = vectors.gram_of(LABELS)
    pairs = [(LABELS[i], LABELS[j], gram[i, j]) for i in range(len(LABELS)) for j in range(i)]
    pairs.sort(key=lambda pair: -pair[2])
    write_csv(
        FOLDER / "similarity.csv",
        ["label", "other", "cosine"],
        [(a, b, f"{cosine:.6f}") for a, b, cosine in pairs],
    )
    for a, b, cosine in pairs[:3]:
        print(f"{a} - {b}: cosine {cosine:.3f}")
    log()


def runs() -> tracking.Where | None:
    """Where the run of this stage is in MLflow, or None before the first embed."""
    if not LABEL_VECTORS.exists():
        return None
    content = sha256(LABEL_VECTORS)[:12]
    return tracking.Where(DATA_EXPERIMENT, "embed", f"embed-{content}", content)


def log() -> None:
    vectors = LabelVectors.load(LABEL_VECTORS)
    with tracking.run_of(runs(), {"kind": "labels", **tracking.context_tags("embed")}) as run:
        words = dict(zip(vectors.labels, vectors.words, strict=True))
        run.params({"words": words, "vectors": dict(vectors.provenance)})
        run.artifacts(FOLDER)
        with tempfile.TemporaryDirectory() as folder:
            picture = Path(folder) / "gram.png"
            title = f"Cosines between the label vectors\n{vectors.provenance['file']}"
            figures.gram(vectors.gram_of(LABELS), LABELS, picture, title)
            run.artifacts(picture)


if __name__ == "__main__":
    run_stage(main)
