"""Stage embed: one vector per label word for every set of words, and how close the words are to each other."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from pipeline import cli, config, workspace
from pipeline.data.fer import LABELS
from pipeline.figures.data import gram
from pipeline.files import repository, sha256, write_csv
from pipeline.labels.vectors import LabelVectors, embed
from pipeline.tracking import client
from pipeline.workspace import DATA_EXPERIMENT, LABELS_FOLDER, label_vectors


def main() -> None:
    params = config.load()
    workspace.refuse_paths_in_outputs(params.paths())
    found = {}  # of every set before the first is written: half of them are no output
    for name, words in params.labels.items():
        path = Path(words.vectors)
        found[name] = embed(path if path.exists() else repository() / path, words.words, name)
    workspace.clear(LABELS_FOLDER)
    for name, vectors in found.items():
        vectors.save(label_vectors(name))
        gram = vectors.gram_of(LABELS)
        pairs = [(LABELS[i], LABELS[j], gram[i, j]) for i in range(len(LABELS)) for j in range(i)]
        pairs.sort(key=lambda pair: -pair[2])
        write_csv(
            label_vectors(name).with_name("similarity.csv"),
            ["label", "other", "cosine"],
            [(a, b, f"{cosine:.6f}") for a, b, cosine in pairs],
        )
        closest = ", ".join(f"{a} - {b} {cosine:.3f}" for a, b, cosine in pairs[:3])
        print(f"{name}: largest cosines {closest}")
    log()


def runs() -> client.Where | None:
    """Where the run of this stage is in MLflow, or None before the first embed."""
    files = sorted(LABELS_FOLDER.glob("*/label_vectors.npz"))
    if not files:
        return None
    content = hashlib.sha256("".join(map(sha256, files)).encode()).hexdigest()[:12]
    return client.Where(DATA_EXPERIMENT, "embed", f"embed-{content}", content)


def log() -> None:
    with client.run_of(runs(), {"kind": "labels", **client.context_tags("embed")}) as run:
        for file in workspace.written(LABELS_FOLDER):
            run.artifacts(file, file.parent.name)
        for file in sorted(LABELS_FOLDER.glob("*/label_vectors.npz")):
            vectors, name = LabelVectors.load(file), file.parent.name
            words = dict(zip(vectors.labels, vectors.words, strict=True))
            run.params({name: {"words": words, "vectors": dict(vectors.provenance)}})
            with tempfile.TemporaryDirectory() as folder:
                picture = Path(folder) / "gram.png"
                title = f"Cosines between the label vectors\n{name}, from {vectors.provenance['file']}"
                gram(vectors.gram_of(LABELS), LABELS, picture, title)
                run.artifacts(picture, name)


if __name__ == "__main__":
    cli.run(main)
