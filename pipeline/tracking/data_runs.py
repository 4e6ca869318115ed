"""Log the MLflow runs of the stages before training: fetch, prepare and embed have one each.

Backfill restores missing runs with the same functions. Figures, which take longer to import than some stages run, are
imported and drawn only if MLflow is on.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from pipeline import files, workspace
from pipeline.data.fer import FerData
from pipeline.labels.vectors import LabelVectors
from pipeline.tracking import client
from pipeline.tracking.client import Where
from pipeline.tracking.store import DATA_EXPERIMENT
from pipeline.workspace import CHECKS, LABELS_FOLDER, PREPARED, SOURCE


def fetch_run() -> Where | None:
    """Return the MLflow run of fetch, or None if it has no outputs yet."""
    return _where("fetch", files.sha256(SOURCE)) if SOURCE.exists() else None


def log_fetch() -> None:
    """Log the provenance of the data."""
    with client.run_of(fetch_run(), {"kind": "data", **client.context_tags("fetch")}) as run:
        source = {name: facts for name, facts in files.read_json(SOURCE).items() if facts}
        run.params(source)
        run.metrics({name: {"bytes": facts["bytes"]} for name, facts in source.items()})
        run.artifacts(SOURCE)


def prepare_run() -> Where | None:
    """Return the MLflow run of prepare, or None if it has no outputs yet."""
    return _where("prepare", files.sha256(CHECKS)) if CHECKS.exists() else None


def log_prepare() -> None:
    """Log the data set, its checks and a contact sheet."""
    checks = files.read_json(CHECKS)
    with client.run_of(prepare_run(), {"kind": "data", **client.context_tags("prepare")}) as run:
        run.dataset(checks["dataset"], files.sha256(PREPARED / "images.npy")[:32], checks, {"path": str(PREPARED)})
        run.params({"dataset": checks["dataset"]})
        run.metrics({name: checks[name] for name in ("rows", "classes", "constant_images", "duplicates")})
        run.artifacts(CHECKS)
        run.artifacts(PREPARED / "duplicates.csv")
        if not run.working:
            return
        from pipeline.figures import data as figures

        with tempfile.TemporaryDirectory() as folder:
            figures.contact_sheet(FerData.load(PREPARED), Path(folder) / "contact_sheet.png")
            run.artifacts(Path(folder) / "contact_sheet.png")


def embed_run() -> Where | None:
    """Return the MLflow run of embed, or None if it has no outputs yet."""
    found = sorted(LABELS_FOLDER.glob("*/label_vectors.npz"))
    digest = hashlib.sha256("".join(map(files.sha256, found)).encode()).hexdigest()
    return _where("embed", digest) if found else None


def log_embed() -> None:
    """Log every set of label vectors with a heat map of its cosines."""
    with client.run_of(embed_run(), {"kind": "labels", **client.context_tags("embed")}) as run:
        if not run.working:
            return
        from pipeline.figures import data as figures

        for file in workspace.written(LABELS_FOLDER):
            run.artifacts(file, file.parent.name)
        for file in sorted(LABELS_FOLDER.glob("*/label_vectors.npz")):
            vectors, name = LabelVectors.load(file), file.parent.name
            words = dict(zip(vectors.labels, vectors.words, strict=True))
            run.params({name: {"words": words, "vectors": dict(vectors.provenance)}})
            with tempfile.TemporaryDirectory() as folder:
                picture = Path(folder) / "gram.png"
                title = f"Cosines between the label vectors\n{name}, from {vectors.provenance['file']}"
                figures.gram(vectors.gram, vectors.labels, picture, title)
                run.artifacts(picture, name)


def _where(stage: str, digest: str) -> Where:
    """Return the run of a stage whose outputs have this digest."""
    content = digest[:12]
    return Where(DATA_EXPERIMENT, stage, f"{stage}-{content}", content)
