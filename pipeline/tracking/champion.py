"""Keep the best network of a comparison in MLflow's registry, as `models:/fer@champion`.

PublicTest chooses: the model with the best mean over its seeds, of that the seed with the best accuracy. PrivateTest,
which judges, has no part in it. A registered version is never changed or removed; the alias moves to another.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.comparison.findings import best_of
from pipeline.comparison.rows import ComparisonRow, read_rows
from pipeline.errors import UserError
from pipeline.files import read_json, repository
from pipeline.tracking import client, model_runs, store
from pipeline.workspace import TABLE, RunKey, dataset_name

NAME, ALIAS = "fer", "champion"
MODEL = "fer.model"
"""The tag of a version: the logged model that it is of."""


class Champion(NamedTuple):
    """A run, and its accuracy on PublicTest."""

    run_key: RunKey
    accuracy: float


def champion(rows: Sequence[ComparisonRow]) -> Champion | None:
    """Return the run that PublicTest prefers among the networks, each under its own decoder; None without one."""
    own = list({row.model: row for row in reversed(rows)}.values())[::-1]
    networks = [row for row in own if "classifier" not in RunKey(row.model, row.seeds[0]).facts()["loss"]]
    if not networks:
        return None
    best = best_of(networks)
    runs_of = [RunKey(best.model, seed) for seed in best.seeds]
    accuracies = [float(read_json(run_key.metrics)["val"]["accuracy"]) for run_key in runs_of]
    accuracy = max(accuracies)
    return Champion(runs_of[accuracies.index(accuracy)], accuracy)


def promote() -> str:
    """Let the alias name the champion of the workspace's comparison; return what it names now, "" if nothing new.

    A second call changes nothing. Raises UserError if MLflow refuses, or does not have the champion's run yet.
    """
    best = champion(read_rows(TABLE)) if client.is_on() and repository() == Path.cwd() else None
    if best is None:
        return ""
    where = model_runs.model_run(best.run_key)
    assert where is not None
    try:
        model = client.logged_model(where)
        if model is None:
            raise UserError(
                f"MLflow does not have {best.run_key.name}, the best on PublicTest: run `{client.BACKFILL}`."
            )
        number = _version(model, best)
        if _named() == number:
            return ""
        store.client().set_registered_model_alias(NAME, ALIAS, number)
    except UserError:
        raise
    except Exception as error:  # whatever MLflow raises: no registry, no permission
        raise UserError(f"The champion is not in MLflow's registry: {store.explain(error)}") from error
    return f"models:/{NAME}@{ALIAS} is version {number}: {best.run_key.name}, {best.accuracy:.2%} on PublicTest"


def promote_after_compare() -> None:
    """Do the same at the end of the comparison, which a refusal must not stop."""
    try:
        if said := promote():
            print(said)
    except UserError as error:
        print(f"warning: {error}", file=sys.stderr)


def _version(model: client.Logged, best: Champion) -> str:
    """Return the number of the version of a logged model, which is registered if it is not yet."""
    from mlflow.exceptions import MlflowException

    registry = store.client()
    try:
        registry.create_registered_model(NAME, description="Facial expression: networks of this pipeline.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    for version in registry.search_model_versions(f"name = '{NAME}'"):
        if version.tags.get(MODEL) == model.model_id:  # MLflow leaves its own field empty in a search
            return str(version.version)
    tags = {
        MODEL: model.model_id,
        "model": best.run_key.name,
        "dataset": dataset_name(),
        "val.accuracy": f"{best.accuracy:.6f}",
    }
    source = f"models:/{model.model_id}"
    made = registry.create_model_version(NAME, source, model.run_id, tags, model_id=model.model_id)
    return str(made.version)


def _named() -> str | None:
    """Return the number of the version that the alias names; None if it names none."""
    from mlflow.exceptions import MlflowException

    try:
        return str(store.client().get_model_version_by_alias(NAME, ALIAS).version)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return None
