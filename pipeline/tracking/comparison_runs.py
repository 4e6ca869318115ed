"""Log the MLflow run of a comparison: of the workspace, of a block, of the study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline import files, workspace
from pipeline.comparison.findings import row_id
from pipeline.comparison.rows import ComparisonRow, read_rows
from pipeline.tracking import client
from pipeline.tracking.client import Where
from pipeline.workspace import REPORTS, TABLE, dataset_name


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
