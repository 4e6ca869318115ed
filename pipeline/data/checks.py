"""Compute the contents of `checks.json`: counts, duplicates, and warnings about a data set.

Rows are numbered from 0, as in `images.npy`; row r is line r + 2 of a CSV file without blank lines.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from pipeline.data.duplicates import Duplicates, summary
from pipeline.data.fer import EXPECTATIONS, LABELS, PUBLISHED_COUNTS, SPLITS, FerData
from pipeline.data.votes import ANNOTATORS, majority
from pipeline.errors import UserError
from pipeline.files import JsonDict

SHOWN_ROWS = 10
ORDERED_AGREEMENT = 0.4
"""FER+ agrees with FER-2013's label on most images, and on about one in five when rows are mismatched."""


def check(data: FerData, duplicates: Duplicates, expect: str | None = "any") -> JsonDict:
    """Return the contents of `checks.json`.

    With expect="fer2013" the counts must be the published ones, or UserError names the first that differs; with
    expect="any" a difference is a warning; with None, for pictures of the user's own, nothing is compared. Everything
    else that is unusual is a warning.
    """
    if expect not in (*EXPECTATIONS, None):
        raise UserError(f"data.expect is {expect!r}: it must be one of {', '.join(EXPECTATIONS)}.")
    difference = _first_difference(data) if expect else None
    if difference and expect == "fer2013":
        raise UserError(
            f"This is not FER-2013 as published: {difference}. Fetch the published archive, or set data.expect to any."
        )
    flat = np.flatnonzero(np.ptp(data.images.reshape(len(data.images), -1), axis=1) == 0)
    counts = class_counts(data)
    return {
        "rows": len(data.labels),
        "classes": {split: dict(zip(data.classes, row, strict=True)) for split, row in counts.items()},
        "constant_images": len(flat),
        "constant_rows": flat.tolist(),
        "duplicates": {"exact": summary(duplicates.exact, data), "near": summary(duplicates.near, data)},
        "warnings": list(_warnings(data, difference, flat)),
    }


def class_counts(data: FerData) -> dict[str, list[int]]:
    """Count the images per split and class, in the order of the classes."""
    return {split: np.bincount(data.labels[data.rows(split)], minlength=len(data.classes)).tolist() for split in SPLITS}


def dataset_name(data: FerData) -> str | None:
    """Return "fer2013" if every split has as many images of every class as published, else None."""
    return None if _first_difference(data) else "fer2013"


def _first_difference(data: FerData) -> str | None:
    """Return the first count that differs from the published one, as the main clause of a sentence."""
    published = sum(map(sum, PUBLISHED_COUNTS.values()))
    if len(data.labels) != published:
        return f"it has {len(data.labels)} rows, not {published}"
    for split, counts in class_counts(data).items():
        for label, count, expected in zip(LABELS, counts, PUBLISHED_COUNTS[split], strict=True):
            if count != expected:
                return f"split {split} has {count} images of class {label}, not {expected}"
    return None


def _warnings(data: FerData, difference: str | None, flat: npt.NDArray[np.intp]) -> Iterator[str]:
    if difference:
        yield f"This is not FER-2013 as published: {difference}."
    for split, counts in class_counts(data).items():
        missing = [label for label, count in zip(data.classes, counts, strict=True) if count == 0]
        if missing:
            yield f"Split {split} has no image of class {', '.join(missing)}: its scores leave them out."
    if len(flat):
        yield f"Column pixels: every pixel has the same value in {_rows(flat)}."
    if data.votes is None:
        return
    sums = data.votes.sum(axis=1, dtype=np.int64)
    wrong = np.flatnonzero(sums != ANNOTATORS)
    if len(wrong):
        yield (
            f"Vote columns: the votes do not sum to {ANNOTATORS} in {_rows(wrong)}"
            f" (the first sums to {sums[wrong[0]]})."
        )
    agreed = majority(data.votes)
    clear = agreed >= 0
    agreement = float((agreed == data.labels)[clear].mean()) if clear.any() else 0.0
    if agreement < ORDERED_AGREEMENT:
        yield (
            f"Column emotion and the votes agree on {agreement:.0%} of the images with a clear majority:"
            " images and votes may not be in the same order."
        )


def _rows(rows: npt.NDArray[np.intp]) -> str:
    """Format rows: `row 3`, `rows 3, 5`, or the first few and how many more."""
    shown = ", ".join(map(str, rows[:SHOWN_ROWS]))
    more = f" and {len(rows) - SHOWN_ROWS} more" if len(rows) > SHOWN_ROWS else ""
    return f"row{'s' if len(rows) > 1 else ''} {shown}{more}"
