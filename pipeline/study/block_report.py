"""Write the tables and the figures of one block from the runs kept in git: `fer report --block B`.

Reads results/<data set>/<block>/ alone, of every data set that has it, and logs to MLflow as `<data set>-<block>`. The
planned contrasts come first. Then rows are compared with the baseline of the same labels: for each kind of labels one
comparison and one table, each with its own correction.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline import config
from pipeline.comparison import findings, protocols, tables
from pipeline.comparison.costs import costs
from pipeline.comparison.findings import Contrast, Models, RowId
from pipeline.comparison.paired import compare
from pipeline.comparison.records import entries, is_network
from pipeline.comparison.rows import ComparisonRow, write_rows
from pipeline.errors import UserError
from pipeline.figures.blocks import over_labels, planned_contrasts
from pipeline.figures.study import difference_forest
from pipeline.files import write_text
from pipeline.study import plan
from pipeline.study.plan import Block, short_name
from pipeline.study.report import comparable, kept_runs, require_one_machine, require_one_study
from pipeline.tracking.comparison_runs import log_study

NOTES = """\
- *Ambiguous faces*: mean and half the width of the 95 % interval over seeds. *FER+ by its own protocol*: eight classes,
  the majority of the votes, unclear images removed. *Second reading*: the two most probable classes are the two that
  annotators name, for the images that have a second; *its usual partner*: the most probable class with the one that
  most often makes a pair with it. *AUC*: how well the second largest probability tells which images have a second
  reading. *Uncertainty against disagreement*: rank correlation of the model's uncertainty with the entropy of the
  votes.
- *Cost*: *operations* are those of the training, relative to the baseline's; a classifier that is no network has none
  to count. *Settings added* are numbers that the baseline does not have or has at 0; the learning rate is not counted.
- *The usual protocol*: points above the baseline. *Planned*: by the planned test, on PrivateTest. The others are on
  PublicTest, which takes the place of the test split: the *mean* of all seeds at the last epoch; *one seed*; the same
  seed at its *best epoch*; the row's *best seed* at its best epoch, against one seed of the baseline."""


def report_block(name: str) -> None:
    """Write the tables and the figures of a block. Raises UserError if no data set has runs of it."""
    block = plan.load().block(name)
    folders = [file.parent for file in sorted(Path("results").glob(f"*/{name}/params.yaml"))]
    if sum(report_in(folder, name, block) for folder in folders) == 0:
        raise UserError(f"Block {name} has no baseline yet: train it with `fer sweep --block {name}`.")


def report_in(folder: Path, name: str, block: Block) -> bool:
    """Write ablation.json, ablation.md and the figures of one folder, and print the second; return if it has runs."""
    params = config.load(folder / "params.yaml")
    kept = kept_runs(folder / "runs", [row.name for row in block.rows])
    found = {row.name: kept[row.name] for row in block.rows if row.name in kept}
    require_one_machine(found, folder, each_seed=True)
    label = {row.name: short_name(row.label) for row in block.rows}
    rows, sections = list[ComparisonRow](), list[str]()
    for baseline, names in block.groups().items():
        group = {row: found[row] for row in names if row in found}
        if baseline not in group:
            print(f"{baseline} and what is compared with it are left out: {baseline} has no runs yet.")
            continue
        models = comparable(group, baseline, folder)
        require_one_study(models, params, folder, folder / "params.yaml", f"fer sweep --block {name}")
        compared = compare(entries(models, baseline), params.compare.resamples)
        rows += compared
        sections += section(models, compared, baseline, label[baseline])
    if not rows:
        return False
    metrics = next(iter(found[rows[0].model].values())).metrics
    content, *limits = tables.introduction(rows, metrics["dataset"], metrics["test"]["images"])
    planned = {family: contrasts(family, block, found) for family in block.contrasts}
    families = [family_text(family, block, tested) for family, tested in planned.items()]
    page = [
        f"# {name}: {block.question}",
        f"{content}.",
        *limits,
        *missing(block, found),
        *machines(found),
        *families,
        "## How to read the tables below",
        NOTES,
        *sections,
    ]
    write_rows(folder / "ablation.json", rows)
    write_text(folder / "ablation.md", "\n\n".join(page) + "\n")
    draw(rows, block, folder, found)
    if drawn := {family: (block.contrasts[family].metric, tested) for family, tested in planned.items() if tested}:
        planned_contrasts(drawn, folder / "contrasts.png")
    print((folder / "ablation.md").read_text(encoding="utf-8"))
    log_study(folder, found, rows, f"{folder.parent.name}-{name}")
    return True


def section(models: Models, rows: Sequence[ComparisonRow], baseline: str, label: str) -> list[str]:
    """Return the paragraphs on the rows that share a kind of labels, "" if the block has one kind only."""
    of = f", {label}" if label else ""
    ambiguity = tables.ambiguity_table(rows)
    return [
        f"## {label or 'All rows'}",
        tables.table(rows),
        tables.footnote(baseline),
        f"### Differences from `{baseline}`",
        tables.difference_table(rows),
        f"### Recall of each class, in points, minus that of `{baseline}`",
        tables.recall_table(rows, findings.classes_of(models)),
        *([f"### Ambiguous faces{of}", ambiguity] if ambiguity else []),
        f"### Cost{of}",
        tables.cost_table(costs(models, baseline)),
        f"### Accuracy on PublicTest, in per cent: chosen epoch and last epoch{of}",
        tables.epoch_table(protocols.epochs(models)),
        f"### The usual protocol{of}",
        tables.protocol_table(protocols.readings(models, baseline), rows),
    ]


def missing(block: Block, found: Models) -> list[str]:
    """Return a paragraph that names the planned runs that are missing, none if all are there."""
    lacking = {row.name: [seed for seed in block.seeds if seed not in found.get(row.name, {})] for row in block.rows}
    named = [f"`{name}` {', '.join(map(str, seeds))}" for name, seeds in lacking.items() if seeds]
    if not named:
        return []
    count, planned_runs = sum(map(len, lacking.values())), len(block.rows) * len(block.seeds)
    return [
        f"{count} of {planned_runs} planned runs are missing (row and seeds): {'; '.join(named)}. Tests are of the "
        "seeds that both rows have. A training that diverges leaves no run, so that a row which lacks one for this "
        "reason looks better here than it is."
    ]


def machines(models: Models) -> list[str]:
    """Return a paragraph that says how the machines of the seeds differ, none if they do not.

    The networks of one seed are all of one kind (`require_one_machine`).
    """
    by_seed = {
        seed: {name: str(value) for name, value in run.metrics["machine"].items()}
        for runs in models.values()
        for seed, run in runs.items()
        if is_network(run.metrics)
    }
    names = dict.fromkeys(name for machine in by_seed.values() for name in machine)
    differing = [name for name in names if len({machine.get(name) for machine in by_seed.values()}) > 1]
    if not differing:
        return []
    seeds = dict[str, list[str]]()
    for seed, machine in sorted(by_seed.items()):
        facts = ", ".join(f"{name} {machine.get(name, 'unknown')}" for name in differing)
        seeds.setdefault(facts, []).append(str(seed))
    kinds = "; ".join(f"seed{'s' * (len(of) > 1)} {', '.join(of)}: {facts}" for facts, of in seeds.items())
    return [
        f"Seeds were trained with different numerics ({kinds}). Tests compare rows within a seed, where all are alike; "
        "the spread over seeds, and the best seed of the usual protocol, contain the difference."
    ]


def draw(rows: Sequence[ComparisonRow], block: Block, folder: Path, models: Models) -> None:
    """Draw accuracy for each kind of labels, or without several kinds the differences from the baseline and costs."""
    by_name = {row.name: row for row in block.rows}
    own = [row for row in rows if row.family != "decoders"]
    if not block.labels:
        tested = {row.model: row.test() for row in own if row.family is not None}
        if tested:
            difference_forest(tested, block.baseline, folder / "differences.png", costs(models, block.baseline))
        return
    lines: dict[str, dict[str, ComparisonRow]] = {}
    for row in own:
        planned_row = by_name[row.model]
        lines.setdefault(planned_row.model, {})[short_name(planned_row.label)] = row
    labels = [short_name(label) for label in block.labels]
    over_labels(lines, labels, block.baseline, folder / "accuracy_by_labels.png")


def contrasts(family: str, block: Block, found: Models) -> list[Contrast]:
    """Return the planned contrasts of a family that have been run, corrected for each other."""
    pairs = [(RowId(one), RowId(other)) for one, other in block.pairs(family)]
    return findings.contrasts(found, pairs, [block.contrasts[family].metric])


def family_text(family: str, block: Block, tested: Sequence[Contrast]) -> str:
    """Return the heading and the table of a family."""
    metric = block.contrasts[family].metric
    heading = f"## {family}: {len(tested)} of {len(block.pairs(family))} planned contrasts in `{metric}`"
    return f"{heading}\n\n{tables.contrast_table(tested, {metric: metric})}"
