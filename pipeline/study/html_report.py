"""Show a finished pipeline as one HTML page that can be mailed: `fer report --html`.

Reads what the stage compare wrote, or a folder of published runs, and computes nothing. The page holds its pictures and
needs no network. Of the figures of single models it shows those that `publish` may keep: no face of a single person.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from pipeline.comparison.findings import row_name
from pipeline.comparison.records import RunRecord
from pipeline.comparison.rows import ComparisonRow, read_rows
from pipeline.comparison.tables import AGAINST, against_baseline, common_metrics, footnote, introduction, number
from pipeline.errors import UserError
from pipeline.files import write_text
from pipeline.study import prose
from pipeline.study.plan import BLOCK_NAME
from pipeline.study.text_forest import forest
from pipeline.workspace import OUTPUTS, REPORTS, TABLE, RunKey

GENERATOR = b'<meta name="generator" content="fer report --html">'
"""What tells such a page from a file of the user's own."""
OF_ALL = {
    "differences": (
        "Differences from the baseline",
        "Forest plot: each row's accuracy on PrivateTest minus that of the baseline, with 95 % intervals. The table"
        " has the same numbers in its column of differences.",
    ),
    "contrasts": (
        "Planned contrasts",
        "Forest plots: the difference of each planned pair, with 95 % intervals, a panel for each family. The block's"
        " ablation.md has the same numbers.",
    ),
    "validation_curves": (
        "Training curves",
        "Accuracy on PublicTest by epoch: thin lines for runs, bold ones for means.",
    ),
    "accuracy": (
        "Accuracy",
        "Points: each row's accuracy on PrivateTest, and without near duplicates, as in the table.",
    ),
    "accuracy_by_labels": (
        "Accuracy by kind of labels",
        "Lines: each row's accuracy on PrivateTest for each kind of labels, and below it minus that of the baseline,"
        " with 95 % intervals. The tables have the same numbers.",
    ),
    "recall_differences": (
        "Recall of each class",
        "Points: recall of each class in each row, minus that of the baseline, with 95 % intervals.",
    ),
    "severity_affective": (
        "Severity of mistakes, affective distances",
        "Points: each row's accuracy and severity, as in the table.",
    ),
    "severity_human": (
        "Severity of mistakes, distances by FER+ votes",
        "Points: each row's accuracy and severity, as in the table.",
    ),
    "agreement": (
        "A prediction, and its test",
        "Points: how often each model with the cosine loss decides as cross-entropy does, and as cross-entropy does"
        " where mistakes cost by the similarities of the targets.",
    ),
    "shares": ("Shares of the classes", "Points: how often a cosine model, and either rule, decides for each class."),
    "spread": ("Spread of the targets", "Points: accuracy against how unequal the cosines between the targets are."),
    "grams": ("Cosines between the targets", "Matrices: cosine between the targets of each two classes, by model."),
}
"""Figures of the whole comparison, in the order of the page: by file name, title and its text for screen readers."""
FIRST = ("contrasts", "differences", "accuracy_by_labels", "validation_curves")
"""Those that stand open."""
OF_ONE = {
    "confusion_normalised": (
        "Confusion",
        "Matrix: share of the images of each class that are decided as each class, on PrivateTest.",
    ),
    "class_maps": ("Class maps", "Where the mean face of each class speaks for its class."),
}
"""Figures of one model; each is among `publish.SHOWABLE`."""


class Picture(NamedTuple):
    """A figure on the page. data: its `data:` address."""

    title: str
    alt: str
    data: str


class Cell(NamedTuple):
    """A cell of the table. value: what it is sorted by; None stays at the end."""

    text: str
    value: float | None = None


class Table(NamedTuple):
    """A comparison with one baseline."""

    baseline: str
    note: str
    headings: list[str]
    rows: list[list[Cell]]


@dataclass(frozen=True)
class Finished:
    """Finished comparisons, and where figures are, of all and of each model.

    groups: the rows of each comparison, the baseline first; a block with several kinds of labels has one for each.
    baselines: the first run of each baseline, by its name. block: the name of the block that this is, empty for the
    grid: the answer to a block's question is in its planned contrasts, which are not among these rows.
    """

    groups: Sequence[Sequence[ComparisonRow]]
    baselines: Mapping[str, RunRecord]
    reports: Path
    figures: Path
    block: str = ""

    @classmethod
    def of_workspace(cls) -> Finished:
        """Read the outputs of this workspace. Raises UserError if there are none yet."""
        rows = _rows(TABLE, "run `dvc repro` first")
        first = RunRecord.of_workspace(RunKey(rows[0].model, rows[0].seeds[0]))
        return cls([rows], {rows[0].model: first}, REPORTS, OUTPUTS / "figures")

    @classmethod
    def published(cls, folder: Path) -> Finished:
        """Read a folder of published runs. Raises UserError if it has no table."""
        rows = _rows(
            folder / "ablation.json",
            "name a folder such as results/fer2013, and run `fer report`, with --block for a block",
        )
        groups = compared(rows)
        baselines = {row.model: RunRecord.kept(folder / "runs", f"{row.model}-{row.seeds[0]}") for row, *_ in groups}
        block = folder.resolve().name if re.fullmatch(BLOCK_NAME, folder.resolve().name) else ""
        return cls(groups, baselines, folder, folder / "figures", block)

    @property
    def rows(self) -> list[ComparisonRow]:
        """All rows."""
        return [row for group in self.groups for row in group]


def compared(rows: Sequence[ComparisonRow]) -> list[list[ComparisonRow]]:
    """Return the rows of each comparison: a baseline, which has no family, and those that follow it."""
    groups: list[list[ComparisonRow]] = []
    for row in rows:
        if row.family is None or not groups:
            groups.append([])
        groups[-1].append(row)
    return groups


def report_finished(html: Path | None, text: bool, folder: Path | None) -> None:
    """Write the page, print the plot of characters, or both. folder: of published runs; by default the outputs here."""
    found = Finished.published(folder) if folder else Finished.of_workspace()
    if html:
        write_page(html, page(found))
        print(f"{html}: {html.stat().st_size / 1e6:.1f} MB, self-contained")
    if text:
        print(forest(found.rows), end="")


def write_page(file: Path, content: str) -> None:
    """Write the page where no file is or another such page. Raises UserError if that is impossible."""
    try:
        if file.exists() and GENERATOR not in file.read_bytes()[:1000]:
            raise UserError(f"--html: {file} is there and no page of this command: name another file.")
        write_text(file, content)
    except OSError as error:
        raise UserError(f"--html: {file} cannot be written ({error.strerror}): name another file.") from error


def page(found: Finished) -> str:
    """Return the page as HTML."""
    rows, metrics = found.rows, next(iter(found.baselines.values())).metrics
    title, *limits = introduction(rows, metrics["dataset"], metrics["test"]["images"])
    if found.block:
        title = f"{found.block} on {title}"
        answers = [f"The planned contrasts, which answer the question of block {found.block}, are in its ablation.md."]
    else:
        answers = [answer(group, found.baselines) for group in found.groups]
    pictures = dict(_pictures(found.reports, OF_ALL))
    models = dict.fromkeys(f"{row.model}-{row.seeds[0]}" for row in rows)
    shown = {key: [picture for _, picture in _pictures(found.figures / key, OF_ONE)] for key in models}
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["marked"] = marked
    template = environment.from_string(files(__package__).joinpath("report.html").read_text(encoding="utf-8"))
    return template.render(
        title=title,
        answers=answers,
        limits=limits,
        first=[pictures.pop(name) for name in FIRST if name in pictures],
        more=list(pictures.values()),
        tables=[
            Table(group[0].model, footnote(group[0].model), headings(group), cells(group)) for group in found.groups
        ],
        models={key: found for key, found in shown.items() if found},
    )


def answer(rows: Sequence[ComparisonRow], baselines: Mapping[str, RunRecord]) -> str:
    """Return the answer of one comparison."""
    baseline = rows[0]
    return prose.answer(rows, {baseline.model: {baseline.seeds[0]: baselines[baseline.model]}})


def headings(rows: Sequence[ComparisonRow]) -> list[str]:
    """Return the headings of the table's columns."""
    return ["model", "seeds", *(metric.heading for metric in common_metrics(rows)), *AGAINST]


def cells(rows: Sequence[ComparisonRow]) -> list[list[Cell]]:
    """Return the cells of the table, row by row."""
    return [list(_cells(row, rows)) for row in rows]


def marked(text: str) -> Markup:
    """Return text with **bold** and `code` as HTML, and everything else as it is."""
    safe = str(escape(text))
    for pattern, tag in ((r"\*\*(.+?)\*\*", "strong"), (r"`(.+?)`", "code")):
        safe = re.sub(pattern, rf"<{tag}>\1</{tag}>", safe)
    return Markup(safe)


def _cells(row: ComparisonRow, rows: Sequence[ComparisonRow]) -> Iterator[Cell]:
    test = row["test.accuracy"].test
    yield Cell(row_name(row, rows))
    yield Cell(str(len(row.seeds)), len(row.seeds))
    for metric in common_metrics(rows):
        yield Cell(number(metric, row[metric.name]), row[metric.name].mean)
    difference, p = against_baseline(test)
    yield Cell(difference, test.difference if test else None)
    yield Cell(p, test.p_holm if test else None)


def _rows(table: Path, remedy: str) -> list[ComparisonRow]:
    if not table.is_file():
        raise UserError(f"{table} is missing: {remedy}.")
    return read_rows(table)


def _pictures(folder: Path, wanted: dict[str, tuple[str, str]]) -> Iterator[tuple[str, Picture]]:
    """Yield those of the figures that are in the folder, by name."""
    for name, (title, alt) in wanted.items():
        file = folder / f"{name}.png"
        if file.is_file():
            data = b64encode(file.read_bytes()).decode()
            yield name, Picture(title, alt, f"data:image/png;base64,{data}")
