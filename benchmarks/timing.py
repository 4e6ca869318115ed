"""Take time for the benchmarks: in turns, best of several, never against a clock of another run."""

from __future__ import annotations

import timeit
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

import click
import torch

from pipeline.cli import Number

Case = Callable[[], object]
Name = TypeVar("Name", bound=Hashable)


def rounds_option(default: int, name: str = "rounds") -> click.Option:
    """Return an option of most benchmarks."""
    return click.Option([f"--{name}"], type=Number(), default=default, help="How many turns each case has.")


def alternate(cases: Mapping[Name, Case], rounds: int, turn: float = 0.05) -> dict[Name, float]:
    """Return the best seconds per call of each case over `rounds` rounds.

    The cases take turns, so that a slow minute of the machine hits them all. A turn repeats its case
    until about `turn` seconds are full, after two calls that are not counted (memory, threads).
    turn=0: one call per turn and none before, for cases that take seconds.
    """
    calls = {name: _calls(case, turn) for name, case in cases.items()}
    best = dict.fromkeys(cases, float("inf"))
    for _ in range(rounds):
        for name, case in cases.items():
            best[name] = min(best[name], timeit.timeit(case, number=calls[name]) / calls[name])
    return best


def waiting(case: Case) -> Case:
    """Wait for the GPU, which works on while Python goes ahead: time means something only after it is done."""

    def run() -> None:
        case()
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    return run


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table: the first column to the left, numbers to the right."""
    lines = [headings, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]

    def line(cells: Sequence[str]) -> str:
        first, *others = (cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
        return f"| {' | '.join([first.strip().ljust(widths[0]), *others])} |"

    rule = "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])])
    return "\n".join([line(headings), f"|{rule}|", *map(line, lines[1:])])


def _calls(case: Case, turn: float) -> int:
    if turn == 0:
        return 1
    case()
    return max(1, round(turn / timeit.timeit(case, number=1)))
