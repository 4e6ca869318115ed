"""Log the committed runs of a study to MLflow, so that the dashboard shows them without training."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.comparison.findings import Models
from pipeline.comparison.records import RunRecord
from pipeline.comparison.rows import ComparisonRow
from pipeline.errors import UserError
from pipeline.files import sha256
from pipeline.fingerprint import mlflow_params
from pipeline.tracking import client
from pipeline.tracking.comparison_runs import log_rows
from pipeline.workspace import RunKey

COMMAND = "fer report"
"""The command that logs these runs again; backfill only knows runs of the workspace."""


def log_study(folder: Path, models: Models, rows: Sequence[ComparisonRow], experiment: str) -> None:
    """Log every run of the folder and the comparison to an experiment; complete runs are left alone."""
    if not client.is_on():
        return
    try:
        for model, runs in models.items():
            for seed, run in runs.items():
                log_run(experiment, folder, f"{model}-{seed}", run)
        content = sha256(folder / "ablation.json")[:12]
        where = client.Where(experiment, "study", f"study-{content}", content, COMMAND)
        if not client.is_complete(where):
            tables = [folder / name for name in ("ablation.json", "ablation.md", "prediction.csv")]
            written = [*(table for table in tables if table.exists()), *sorted(folder.glob("*.png"))]
            log_rows(where, rows, "report", written)
        if client.is_complete(where):
            print(f"in MLflow: {client.page(experiment)}")
    except UserError as error:  # the pages are written, with MLflow or without
        print(f"warning: the study is not in MLflow. {error}", file=sys.stderr)


def log_run(experiment: str, folder: Path, key: str, run: RunRecord) -> None:
    """Log one committed run under the names that a training would give it."""
    file = folder / "runs" / f"{key}.json"
    content = sha256(file)[:12]
    where = client.Where(experiment, key, f"kept-{key}-{content}", content, COMMAND)
    if client.is_complete(where):
        return
    facts = run.metrics
    tags = {"kind": "model", "model": facts["model"], "seed": str(facts["seed"])}
    with client.run_of(where, tags | client.context_tags("report")) as logged:
        run_key = RunKey(facts["model"], facts["seed"])
        logged.params(mlflow_params(run_key, facts["settings"], run.decoders))
        logged.curve(facts["history"], "epoch")
        logged.metrics({name: facts[name] for name in ("val", "test", "test_clean", "training")})
        logged.tags({name: str(value) for name, value in facts["machine"].items()})
        logged.artifacts(file, "evaluation")
        if (folder / "figures" / key).exists():  # of the first seed
            logged.artifacts(folder / "figures" / key, "figures")
