"""Make the bundled model from a trained network: its ONNX file, its facts, and the tables of its card.

python -m resources.make_model outputs/models/self_distillation-0

Exports the network, quantises it to int8 with faces of Training, and measures both files on FER-2013. Quantisation that
costs more than three tenths of a point on PublicTest is refused, before PrivateTest is read.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from pipeline import cli
from pipeline.comparison.tables import markdown_table
from pipeline.data.duplicates import read_near_duplicates
from pipeline.data.fer import PUBLISHED_COUNTS, SPLITS, FerData
from pipeline.errors import UserError
from pipeline.evaluation.metrics import split_metrics
from pipeline.export.onnx_file import export
from pipeline.export.quantised import CALIBRATION, quantise
from pipeline.files import JsonDict, read_json, replacing, sha256, write_json, write_text
from pipeline.inference.bundled_model import FACTS, FOLDER, MODEL
from pipeline.inference.engine import Engine
from pipeline.study.provenance import Origin, provenance
from pipeline.study.report import fill
from pipeline.workspace import PREPARED

MAX_LOST = 0.003
"""Accuracy on PublicTest that int8 may cost."""
OF_TRAINING = ("model", "seed", "settings_digest", "inputs_digest", "training", "machine")
KEPT = ("images", "accuracy", "balanced_accuracy", "macro_f1", "nll", "ece", "per_class")
NAMES = {"val": "PublicTest", "test": "PrivateTest", "test_clean": "PrivateTest without near duplicates"}
CARD = FOLDER / "README.md"

Ints = npt.NDArray[np.integer]


def measure(engine: Engine, data: FerData, rows: Ints) -> tuple[JsonDict, Ints]:
    """Return the metrics of an exported model on these rows of the data, and its decisions."""
    labels = data.labels[rows].astype(np.int64)
    probabilities = engine.probabilities(data.images[rows]).astype(np.float64)
    decided = probabilities.argmax(axis=1)
    metrics = split_metrics(labels, decided, decided, probabilities, 1.0, {}, classes=data.classes)
    return {name: metrics[name] for name in KEPT}, decided


def make(
    model: Path, data: FerData, near_duplicate: npt.NDArray[np.bool_], folder: Path, max_lost: float = MAX_LOST
) -> JsonDict:
    """Write the int8 model and its facts into an empty folder; return the facts.

    Raises UserError if int8 costs too much.
    """
    plain, small = folder / "fp32.onnx", folder / MODEL
    export(model, plain)
    quantise(plain, data.images[data.rows("train")[:CALIBRATION]], small)
    engines = {"fp32": Engine(plain), "int8": Engine(small)}
    test = data.rows("test")
    results: dict[str, dict[str, JsonDict]] = {form: {} for form in engines}
    changed: dict[str, int] = {}
    for split, rows in {"val": data.rows("val"), "test": test, "test_clean": test[~near_duplicate[test]]}.items():
        decided = {}
        for form, engine in engines.items():
            results[form][split], decided[form] = measure(engine, data, rows)
        changed[split] = int((decided["fp32"] != decided["int8"]).sum())
        lost = results["fp32"][split]["accuracy"] - results["int8"][split]["accuracy"]
        if split == "val" and lost > max_lost:
            raise UserError(
                f"Quantised to int8, {model} loses {100 * lost:.2f} points on PublicTest, more than"
                f" {100 * max_lost:.1f}: the bundled model stays as it is."
            )
    trained = read_json(model / "model.json")
    facts: dict[str, Any] = {
        "sha256": sha256(small),
        "bytes": small.stat().st_size,
        **{name: trained[name] for name in OF_TRAINING},
        "settings": {name: trained["settings"][name] for name in ("model", "recipe")},
        "decisions_changed_by_quantisation": changed,
        "results": results,
        "provenance": made_by(model),
    }
    write_json(folder / FACTS, facts)
    return facts


def made_by(model: Path) -> JsonDict:
    """Return what made the file, with the versions of what writes it; no folder of the user."""
    named = model.name if model.is_absolute() else model.as_posix()
    found = provenance(Origin.here(f"python -m resources.make_model {named}", FOLDER.as_posix()))
    found["versions"] |= {name: version(name) for name in ("onnx", "onnxruntime")}
    return found


def require_fer2013(model: Path, data: FerData) -> None:
    """Raise UserError unless the data are FER-2013 as published, and the network was trained on files, not drawings."""
    counts = {
        split: tuple(np.bincount(data.labels[data.rows(split)], minlength=len(data.classes)).tolist())
        for split in SPLITS
    }
    if counts != PUBLISHED_COUNTS:
        raise UserError("The bundled model is one of FER-2013, and these data are not FER-2013 as published.")
    if (model / "model.json").exists() and read_json(model / "model.json")["settings"]["data"]["source"] == "synthetic":
        raise UserError(f"The bundled model is one of FER-2013, and {model} was trained on drawn faces.")


def results_table(facts: JsonDict) -> str:
    """Return accuracy and calibration on each split, as Markdown."""
    rows = []
    for split, name in NAMES.items():
        small, plain = (facts["results"][form][split] for form in ("int8", "fp32"))
        scores = [small[score] for score in ("accuracy", "balanced_accuracy", "macro_f1", "ece")]
        shown = [f"{100 * value:.2f}" for value in (*scores, plain["accuracy"])]
        rows.append([name, f"{small['images']:,}", *shown])
    headings = ["", "images", "accuracy", "balanced accuracy", "macro F1", "ECE", "accuracy before quantisation"]
    return markdown_table(headings, rows)


def classes_table(facts: JsonDict) -> str:
    """Return recall and precision of each class on PrivateTest, as Markdown."""
    whole, clean = (facts["results"]["int8"][split]["per_class"] for split in ("test", "test_clean"))
    rows = [
        [name, f"{found['support']:,}", *percent(found["recall"], found["precision"], clean[name]["recall"])]
        for name, found in whole.items()
    ]
    return markdown_table(["", "images", "recall", "precision", "recall without near duplicates"], rows)


def percent(*values: float) -> list[str]:
    return [f"{100 * value:.1f}" for value in values]


def made_from(facts: JsonDict) -> str:
    """Return what the network is and how it was trained, in a sentence."""
    recipe, changed = facts["settings"]["recipe"], facts["decisions_changed_by_quantisation"]
    widths = "-".join(str(width) for width in recipe["widths"])
    both = changed["val"] + changed["test"]
    images = sum(facts["results"]["int8"][split]["images"] for split in ("val", "test"))
    return (
        f"Row `{facts['model']}`, recipe `{recipe['name']}`, seed {facts['seed']} of"
        f" [params.yaml](../../../params.yaml): widths {widths}, {recipe['epochs']} epochs,"
        f" {facts['bytes']:,} bytes. Quantisation changed {both} of {images:,} decisions."
    )


def blocks(facts: JsonDict) -> Mapping[str, str]:
    """Return what the card shows of the facts."""
    return {"results": results_table(facts), "classes": classes_table(facts), "made": made_from(facts)}


MODEL_FOLDER = click.Argument(
    ["model"], type=cli.FOLDER, help="The folder of a network trained on FER-2013, outputs/models/<key>."
)
DATA = click.Option(["--data"], type=cli.FOLDER, default=PREPARED, help="The folder with the prepared data.")


def main(model: Path, data: Path) -> None:
    known = FerData.load(data)
    require_fer2013(model, known)
    near_duplicate = read_near_duplicates(data / "duplicates.csv", len(known.labels))
    with tempfile.TemporaryDirectory() as made:
        facts = make(model, known, near_duplicate, Path(made))
        for name in (MODEL, FACTS):
            with replacing(FOLDER / name) as temporary:
                temporary.write_bytes((Path(made) / name).read_bytes())
    write_text(CARD, fill(CARD.read_text(encoding="utf-8"), blocks(facts), CARD))
    print(results_table(facts))


if __name__ == "__main__":
    cli.script(main, MODEL_FOLDER, DATA, example="outputs/models/self_distillation-0")
