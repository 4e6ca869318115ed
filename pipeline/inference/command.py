"""The command `fer predict`: go through pictures, report each, and say at the end what could not be read."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from pipeline.errors import UserError
from pipeline.inference.recogniser import Recogniser, too_large
from pipeline.inference.report import Csv, Json, Report, Saved, Table
from pipeline.inference.sources import Source, sources


def predict(
    path: Path, model: Path | None, detect: bool, form: str, save: Path | None, every: float, threads: int
) -> None:
    """Print the expressions of all faces. Raises UserError at the end if something could not be read."""
    recogniser = Recogniser(model, detect, threads)
    found = sources(path)
    made = save is not None and make_new(save)
    reports: list[Report] = [_printed(form, found, path, recogniser)]
    if save:
        reports.append(Saved(save, path))
    unread, faceless = list[str](), True
    shown = sys.stderr.isatty()
    total = sum(source.length(every) for source in found) if shown else 0
    with tqdm(total=total, unit="picture", disable=not shown, leave=False) as bar:
        items = ((item, item.image) for source in found for item in source.items(every))
        for item, read in recogniser.predict_each(items):
            faces = read or []
            if read is None:
                item = replace(item, image=None, error=too_large(item.name))
            with tqdm.external_write_mode(file=sys.stderr):  # beside the bar
                if item.error is not None:
                    unread.append(item.error)
                    if len(found) > 1:
                        print(item.error, file=sys.stderr)
                for report in reports:
                    report.add(item, faces)
            faceless = faceless and not faces
            bar.update()
    if made and save and not any(save.iterdir()):
        save.rmdir()
    if unread and len(found) == 1:
        raise UserError(unread[0])
    if unread:
        raise UserError(f"{len(unread)} of {len(found)} files could not be read; standard error says which and why.")
    if faceless:
        print("No face was found. Is each picture a face already? Then add --no-detect.", file=sys.stderr)


def make_new(folder: Path) -> bool:
    """Make a folder that may be there if it is empty: nothing in it may be replaced, or be read as a picture.

    Returns whether it was made. Raises UserError if that is impossible, before any picture is read.
    """
    try:
        made = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        used = any(folder.iterdir())
    except OSError as error:
        raise UserError(f"--save: {folder} cannot be made or read ({error.strerror}): name another one.") from error
    if used:
        raise UserError(f"--save: {folder} is not empty: name another folder.")
    if not os.access(folder, os.W_OK):
        raise UserError(f"--save: {folder} may not be written: name another one.")
    return made


def _printed(form: str, found: list[Source], root: Path, recogniser: Recogniser) -> Report:
    if form == "json":
        return Json()
    if form == "csv":
        return Csv(recogniser.engine.facts.classes)
    return Table([source.name for source in found], root)
