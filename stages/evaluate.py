"""Stage evaluate: measure one trained model, and draw its mistakes and its heat maps."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline import cli, config, workspace
from pipeline.data.duplicates import read_near_duplicates
from pipeline.data.fer import SPLITS, FerData
from pipeline.evaluation.decoders import DecoderSpec
from pipeline.evaluation.measure import decide, measure, measure_pairs, reference_distances
from pipeline.evaluation.models import Model, load_model
from pipeline.evaluation.pairs import PairRow
from pipeline.figures.model import draw
from pipeline.files import JsonDict, write_csv, write_json
from pipeline.fingerprint import evaluation_digest
from pipeline.tracking.model_runs import log_model_run
from pipeline.workspace import PREPARED, RunKey, dataset_name

Floats = npt.NDArray[np.float64]


def main(model: str, seed: int) -> None:
    evaluate(RunKey(model, seed), config.load())


def evaluate(run_key: RunKey, params: config.Params, *, figures: bool = True) -> None:
    """Measure the model. figures: whether to draw them, which takes longer than the rest."""
    model = run_key.model
    wanted = params.model(model).decoders
    data = FerData.load(PREPARED)
    trained = load_model(run_key, data)
    decoders = {name: DecoderSpec.parse(name).make(run_key.seed, trained.targets) for name in wanted}

    near_duplicate = read_near_duplicates(PREPARED / "duplicates.csv", len(data.labels))
    found = decide(trained, data, near_duplicate, decoders)
    found.write(run_key.predictions)
    measured = measure(found, data, reference_distances(data, params.word_sets(data.classes)))

    workspace.clear(run_key.figures)
    own, test = next(iter(decoders)), found.split == SPLITS.index("test")
    actual, predicted = found.actual[test], found.predicted[own][test]
    write_csv(  # for DVC's plot of the confusion, which cannot choose rows
        run_key.figures / "decisions.csv",
        ["actual", "predicted"],
        ([data.classes[y], data.classes[k]] for y, k in zip(actual, predicted, strict=True)),
    )
    write_csv(
        run_key.figures / "pairs.csv",
        PairRow._fields,
        (
            [f"{value:.6f}" if isinstance(value, float) else value for value in row]
            for row in measure_pairs(found, data)
        ),
    )
    if figures:
        draw(
            run_key.figures, f"{model}, seed {run_key.seed}, PrivateTest", trained, data.images[found.index[test]],
            found.index[test], actual, predicted, found.probabilities[test], found.uncertainty[test],
            None if data.votes is None else data.votes[found.index[test]], measured["test"], params.evaluate,
        )  # fmt: skip
    write_json(
        run_key.metrics, described(run_key, trained) | measured | made(run_key)
    )  # last: it marks all as complete
    log_model_run(run_key, stage="evaluate")


def described(run_key: RunKey, trained: Model) -> JsonDict:
    """Return which model this is and which targets it was trained on."""
    facts = run_key.facts()
    rate = facts["settings"]["model"].get("learning_rate")  # a classifier has none, and no recipe
    of_network = {"learning_rate": rate, "recipe": facts["settings"]["recipe"]} if rate else {}
    return {
        "model": run_key.model,
        "seed": run_key.seed,
        "dataset": dataset_name(),
        "loss": facts["loss"]["name"],
        "targets": facts["loss"]["targets"],
        "settings": {"loss": facts["loss"], **of_network},
        "gram": (trained.targets @ trained.targets.T).round(6).tolist(),
    }


def made(run_key: RunKey) -> JsonDict:
    """Return the cost of the training, its machine and its settings."""
    facts = run_key.facts()
    return {name: facts[name] for name in ("training", "machine", "settings_digest")} | {
        "evaluation_digest": evaluation_digest()
    }


if __name__ == "__main__":
    cli.script(main, cli.MODEL, cli.SEED, example="baseline 0")
