"""Stage compare: compare every model of the grid, under each of its decoders, with the baseline."""

from __future__ import annotations

from pipeline import cli, config, workspace
from pipeline.comparison.paired import compare
from pipeline.comparison.records import RunRecord, entries
from pipeline.comparison.rows import write_rows
from pipeline.comparison.tables import markdown, write_csv_table
from pipeline.figures import study as figures
from pipeline.files import write_text
from pipeline.tracking.champion import promote_after_compare
from pipeline.tracking.comparison_runs import log_compare
from pipeline.workspace import REPORTS, TABLE, RunKey


def main() -> None:
    params = config.load()
    grid, baseline = params.grid, params.compare.baseline
    found = {model: {seed: RunRecord.of_workspace(RunKey(model, seed)) for seed in grid.seeds} for model in grid.models}
    rows = compare(entries(found, baseline), params.compare.resamples)
    facts = found[baseline][grid.seeds[0]].metrics
    workspace.clear(REPORTS)
    write_rows(TABLE, rows)
    write_csv_table(REPORTS / "ablation.csv", rows)
    write_text(REPORTS / "ablation.md", markdown(rows, facts["dataset"], facts["test"]["images"], baseline))
    figures.draw(found, rows, baseline, REPORTS)
    print((REPORTS / "ablation.md").read_text(encoding="utf-8"))
    if log_compare():
        promote_after_compare()


if __name__ == "__main__":
    cli.script(main)
