"""Stage compare: every model of the grid, under each of its decoders, against the baseline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline import cli, config, workspace
from pipeline.comparison.findings import row_name
from pipeline.comparison.paired import Row, compare
from pipeline.comparison.records import Run, entries
from pipeline.comparison.tables import markdown
from pipeline.figures import study_page
from pipeline.files import read_json, sha256, write_csv, write_json, write_text
from pipeline.tracking import client
from pipeline.workspace import OUTPUTS, Cell, dataset_name

REPORTS = OUTPUTS / "reports"
TABLE = REPORTS / "ablation.json"


def main() -> None:
    params = config.load()
    grid, baseline = params.grid, params.compare.baseline
    found = {
        model: {seed: Run.of_workspace(Cell(model, seed)) for seed in grid.seeds} for model in grid.models
    }
    rows = compare(entries(found, baseline), params.compare.resamples)
    images = found[baseline][grid.seeds[0]].metrics["test"]["images"]
    workspace.clear(REPORTS)
    write_json(TABLE, rows)
    write_csv_table(REPORTS / "ablation.csv", rows)
    write_text(REPORTS / "ablation.md", markdown(rows, dataset_name(), images, baseline))
    study_page.draw(found, rows, baseline, REPORTS)
    print((REPORTS / "ablation.md").read_text(encoding="utf-8"))
    log()


def runs() -> client.Where | None:
    """Where the run of this stage is in MLflow, or None before the first comparison."""
    if not TABLE.exists():
        return None
    content = sha256(TABLE)[:12]
    return client.Where(dataset_name(), "comparison", f"comparison-{content}", content)


def log() -> None:
    log_rows(runs(), read_json(TABLE), "compare", workspace.written(REPORTS))


def log_rows(where: client.Where | None, rows: Sequence[Row], stage: str, paths: Sequence[Path]) -> None:
    """A run of its own for a comparison: each row's accuracy, and the tables and figures."""
    with client.run_of(where, {"kind": "comparison", **client.context_tags(stage)}) as run:
        run.params(
            {"models": ", ".join(dict.fromkeys(row["model"] for row in rows)), "seeds": rows[0]["seeds"]}
        )
        # MLflow takes no + in a key.
        accuracy = {row_name(row, rows).replace(" + ", "."): row["test.accuracy"]["mean"] for row in rows}
        run.metrics({name: {"accuracy": mean} for name, mean in accuracy.items()})
        for path in paths:
            run.artifacts(path, "reports")


def write_csv_table(path: Path, rows: Sequence[Row]) -> None:
    """One line per model and metric: what a spreadsheet or a plotting library wants."""
    fields = ("mean", "std", "ci95", "difference", "low", "high", "p", "p_holm")
    write_csv(
        path,
        ["model", "decoder", "seeds", "metric", *fields],
        (
            [row["model"], row["decoder"], len(row["seeds"]), name, *(value.get(field) for field in fields)]
            for row in rows
            for name, value in row.items()
            if isinstance(value, dict)
        ),
    )


if __name__ == "__main__":
    cli.run(main)
