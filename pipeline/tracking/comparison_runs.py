"""Log the MLflow runs of comparisons: of the workspace, of a block, of the study.

Those of a block and of the study bring the committed runs along, so that the dashboard shows them without training.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline import files, workspace
from pipeline.comparison.findings import Models, row_id
from pipeline.comparison.records import RunRecord
from pipeline.comparison.rows import ComparisonRow, read_rows
from pipeline.errors import UserError
from pipeline.fingerprint import mlflow_params
from pipeline.tracking import client
from pipeline.tracking.client import Where
from pipeline.workspace import REPORTS, TABLE, RunKey, dataset_name

REPORT = "fer report"
"""The command that logs committed runs again; backfill only knows runs of the workspace."""


def compare_run() -> Where | None:
    """Return the MLflow run of compare, or None if it has no outputs yet."""
    if not TABLE.exists():
        return None
    content = files.sha256(TABLE)[:12]
    return Where(dataset_name(), "comparison", f"comparison-{content}", content)


def log_compare() -> bool:
    """Log the comparison of the workspace; return whether MLflow took it."""
    return log_rows(compare_run(), read_rows(TABLE), "compare", workspace.written(REPORTS))


def log_rows(where: Where | None, rows: Sequence[ComparisonRow], stage: str, paths: Sequence[Path]) -> bool:
    """Log a comparison as a run of its own: each row's accuracy, and the tables and figures.

    Return whether MLflow took it.
    """
    with client.run_of(where, {"kind": "comparison", **client.context_tags(stage)}) as run:
        run.params({"models": ", ".join(dict.fromkeys(row.model for row in rows)), "seeds": list(rows[0].seeds)})
        run.metrics({row_id(row, rows).key: {"accuracy": row["test.accuracy"].mean} for row in rows})
        for path in paths:
            run.artifacts(path, "reports")
    return run.working


def log_study(folder: Path, models: Models, rows: Sequence[ComparisonRow], experiment: str) -> None:
    """Log every run of the folder and the comparison to an experiment; complete runs are left alone."""
    if not client.is_on():
        return
    try:
        for model, runs in models.items():
            for seed, run in runs.items():
                log_kept_run(experiment, folder, f"{model}-{seed}", run)
        content = files.sha256(folder / "ablation.json")[:12]
        where = Where(experiment, "study", f"study-{content}", content, REPORT)
        if not client.is_complete(where):
            tables = [folder / name for name in ("ablation.json", "ablation.md", "prediction.csv")]
            written = [*(table for table in tables if table.exists()), *sorted(folder.glob("*.png"))]
            log_rows(where, rows, "report", written)
        if client.is_complete(where):
            print(f"in MLflow: {client.page(experiment)}")
    except UserError as error:  # the pages are written, with MLflow or without
        print(f"warning: the study is not in MLflow. {error}", file=sys.stderr)


def log_kept_run(experiment: str, folder: Path, key: str, run: RunRecord) -> None:
    """Log one committed run under the names that a training would give it."""
    file = folder / "runs" / f"{key}.json"
    content = files.sha256(file)[:12]
    where = Where(experiment, key, f"kept-{key}-{content}", content, REPORT)
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
