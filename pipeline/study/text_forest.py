"""Draw the differences from the baseline with characters, for a terminal and for the summary of a CI job."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.comparison.findings import row_name
from pipeline.comparison.rows import ComparisonRow, PairedTest
from pipeline.comparison.tables import against_baseline

COLUMNS = 61
"""Of the plot, an odd number: zero may be in the middle."""
WIDEST = 0.15
"""Of the scale on each side, a fraction: what lies beyond is cut, or rows far away would compress all others."""


def forest(rows: Sequence[ComparisonRow]) -> str:
    """Return accuracy minus the baseline's with its 95 % interval, one line per row, best at the top.

    A filled circle is a difference that the corrected test finds; an arrow points to what is beyond the scale.
    """
    tests = {row_name(row, rows): test for row in rows if (test := row["test.accuracy"].test)}
    if not tests:
        return "Nothing has been compared with the baseline.\n"
    ends = [abs(end) for test in tests.values() for end in (test.low, test.high)]
    limit = min(WIDEST, max(*ends, 0.001))
    width = max(map(len, tests))
    edges = f"{-100 * limit:+.1f}", "0", f"{100 * limit:+.1f}"
    middle = edges[1].center(COLUMNS - len(edges[0]) - len(edges[2]))
    head = f"{'points':<{width}}  {edges[0]}{middle}{edges[2]}"
    lines = [
        f"{name:<{width}}  {_line(test, limit)}  {against_baseline(test)[0]}"
        for name, test in sorted(tests.items(), key=lambda item: -item[1].difference)
    ]
    return "\n".join([head, *lines, "filled: corrected p below .05"]) + "\n"


def _line(test: PairedTest, limit: float) -> str:
    """Return an interval on a scale from -limit to +limit."""
    low, point, high = (_column(value, limit) for value in (test.low, test.difference, test.high))
    cells = [" "] * COLUMNS
    cells[COLUMNS // 2] = "│"
    for column in range(low, high + 1):
        cells[column] = "─"
    cells[high] = "┤" if test.high <= limit else "▸"
    cells[low] = "├" if test.low >= -limit else "◂"  # last: of what lies wholly to the left, the arrow stays
    if abs(test.difference) <= limit:
        cells[point] = "●" if test.verdict else "○"
    return "".join(cells)


def _column(value: float, limit: float) -> int:
    share = (max(-limit, min(limit, value)) + limit) / (2 * limit)
    return round(share * (COLUMNS - 1))
