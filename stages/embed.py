"""Stage embed: write one vector per label word for every set of words, and their pairwise cosines."""

from __future__ import annotations

from pathlib import Path

from pipeline import cli, config, workspace
from pipeline.data.fer import load_classes
from pipeline.files import repository, write_csv
from pipeline.labels.vectors import embed
from pipeline.tracking.data_runs import log_embed
from pipeline.workspace import LABELS_FOLDER, PREPARED, label_vectors


def main() -> None:
    params = config.load()
    workspace.refuse_paths_in_outputs(params.paths())
    classes = load_classes(PREPARED)
    found = {}  # of every set before the first is written: half of them are no output
    for name, words in params.word_sets(classes).items():
        path = Path(words.vectors)
        found[name] = embed(path if path.exists() else repository() / path, words.words, name)
    workspace.clear(LABELS_FOLDER)
    LABELS_FOLDER.mkdir(parents=True, exist_ok=True)  # an output, even where no model uses words
    for name, vectors in found.items():
        vectors.save(label_vectors(name))
        gram = vectors.gram_of(classes)
        pairs = [(classes[i], classes[j], gram[i, j]) for i in range(len(classes)) for j in range(i)]
        pairs.sort(key=lambda pair: -pair[2])
        write_csv(
            label_vectors(name).with_name("similarity.csv"),
            ["label", "other", "cosine"],
            [(a, b, f"{cosine:.6f}") for a, b, cosine in pairs],
        )
        closest = ", ".join(f"{a} - {b} {cosine:.3f}" for a, b, cosine in pairs[:3])
        print(f"{name}: largest cosines {closest}")
    if found:
        log_embed()


if __name__ == "__main__":
    cli.script(main)
