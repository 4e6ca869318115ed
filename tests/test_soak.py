"""The short forms of `make soak`: some hundred mutated files, and whether the searches would find a fault."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from pipeline.data import fer_csv, sources
from pipeline.data.fer import FerData
from pipeline.errors import UserError
from tests.soak import archives, parameters, parsers, pictures, pool

BATCH = 40


@pytest.mark.medium
def test_parsers_read_and_refuse_what_plain_readers_do() -> None:
    """A search in which one of the two does not happen tells nothing."""
    assert 10 < parsers.search("csv", 60, 1) < 55
    assert 10 < parsers.search("votes", 60, 1) < 55


def test_a_parser_that_differs_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    data = archives.as_csv()
    parsers.check_csv(data)
    read = fer_csv.parse

    def wrong(source: bytes) -> FerData:
        images = read(source).images.copy()
        images[-1, -1, -1] ^= 1
        return replace(read(source), images=images)

    monkeypatch.setattr(fer_csv, "parse", wrong)
    with pytest.raises(AssertionError):
        parsers.check_csv(data)
    monkeypatch.setattr(fer_csv, "parse", lambda source: read(archives.as_csv()))
    with pytest.raises(AssertionError):
        parsers.check_csv(data.replace(b"PublicTest", b"Test"))


@pytest.mark.medium
@pytest.mark.parametrize("batch", range(4))
def test_mutated_archives_are_read_or_refused_in_a_sentence(batch: int) -> None:
    outcomes = [pool.attempt(archives.run, 1, case) for case in range(batch * BATCH, (batch + 1) * BATCH)]
    assert [outcome for outcome in outcomes if outcome.kind == "fault"] == []
    assert Counter(outcome.kind for outcome in outcomes)["sentence"] > BATCH / 4


@pytest.mark.medium
@pytest.mark.parametrize("batch", range(2))
def test_mutated_parameters_are_understood_or_refused_in_a_sentence(batch: int) -> None:
    outcomes = [pool.attempt(parameters.run, 1, case) for case in range(batch * BATCH, (batch + 1) * BATCH)]
    assert [outcome for outcome in outcomes if outcome.kind == "fault"] == []
    assert Counter(outcome.kind for outcome in outcomes)["sentence"] > BATCH / 4


@pytest.mark.medium
@pytest.mark.parametrize("batch", range(8))
def test_mutated_pictures_are_read_or_refused_in_a_sentence(batch: int) -> None:
    outcomes = [pool.attempt(pictures.run, 1, case) for case in range(batch * BATCH, (batch + 1) * BATCH)]
    assert [outcome for outcome in outcomes if outcome.kind == "fault"] == []
    assert BATCH / 8 < Counter(outcome.kind for outcome in outcomes)["sentence"] < BATCH


@pytest.mark.medium
@pytest.mark.parametrize("form", [*pictures.FORMS, pictures.VIDEO])
def test_every_form_of_a_picture_is_read_when_nothing_happened_to_it(form: str, tmp_path: Path) -> None:
    (tmp_path / f"a.{form}").write_bytes(pictures.whole(form))
    (tmp_path / "b.png").write_bytes(pictures.whole("png"))
    pictures.check(tmp_path, form)


@pytest.mark.medium
def test_every_form_is_read_when_nothing_happened_to_it(tmp_path: Path) -> None:
    """Otherwise a search for damage would only see refusals."""
    import random

    forms = Counter[str]()
    for number in range(60):
        rng = random.Random(number)
        what, packed = archives.whole(rng)
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            archives.bring(archives.written(packed, folder, rng), folder / "raw", packed, True, what)
        except UserError:
            continue  # a form that is not offered; `bring` raises for one that is
        forms[packed.form] += 1
    assert forms.keys() >= {"csv", "csv.gz", "csv.xz", "zip", "tar", "tar.gz", "tar.xz"}


# --- whether a fault would be seen


def outcome_of(run: Callable[[int, int, Path], str]) -> pool.Outcome:
    return pool.attempt(run, 0, 0)


def raising(error: BaseException) -> Callable[[int, int, Path], str]:
    def run(seed: int, case: int, folder: Path) -> str:
        raise error

    return run


def test_the_kinds_of_outcome() -> None:
    assert outcome_of(lambda *_: "read").kind == "result"
    assert outcome_of(raising(UserError("fer2013.csv is empty: fetch it again."))).kind == "sentence"
    assert outcome_of(raising(UserError(""))).kind == "fault"
    assert outcome_of(raising(UserError("<_io.BytesIO object at 0x7f> cannot be read."))).kind == "fault"
    assert outcome_of(raising(KeyError("x"))).kind == "fault"
    assert outcome_of(raising(MemoryError())).kind == "fault"
    assert outcome_of(raising(pool.BrokenPromiseError("left something behind"))).kind == "fault"


def test_a_hang_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setattr(pool, "PATIENCE", 0.5)

    def run(seed: int, case: int, folder: Path) -> str:
        try:
            time.sleep(30)
        except Exception:  # as code that explains every error away
            return "read"
        return "read"

    assert outcome_of(run).kind == "fault"


def test_workers_that_die_and_searches_that_were_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of memory is a fault of one case, a dead process too; what is done is not done again."""
    monkeypatch.setattr(pool, "WORK", tmp_path)

    def run(seed: int, case: int, folder: Path) -> str:
        if case == 1:
            import os

            os._exit(9)
        if case == 2:
            return str(len(bytes(4 * pool.MEMORY)))
        return "read"

    kinds = [outcome.kind for outcome in pool.search("deaths", run, 4, 0, jobs=2)]
    assert kinds == ["result", "fault", "fault", "result"]
    again = pool.search("deaths", lambda *_: "read", 5, 0, jobs=1)
    assert [outcome.kind for outcome in again] == [*kinds, "result"]


def test_what_fetch_must_not_do_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = archives.Packed("csv", archives.as_csv(), True)
    fetch = sources.fetch_archive

    def bring() -> None:
        shutil.rmtree(tmp_path / "raw", ignore_errors=True)
        (tmp_path / "fer2013.csv").write_bytes(archives.as_csv())
        archives.bring(tmp_path / "fer2013.csv", tmp_path / "raw", packed, True, "whole")

    def wrongly(how: Callable[[Path, Path], object]) -> None:
        def fetch_wrongly(path: Path, folder: Path) -> sources.Provenance:
            kept = fetch(path, folder)
            how(path, folder / kept.file)
            return kept

        monkeypatch.setattr(sources, "fetch_archive", fetch_wrongly)
        with pytest.raises(pool.BrokenPromiseError):
            bring()

    bring()
    wrongly(lambda path, kept: path.write_bytes(b"changed"))
    wrongly(lambda path, kept: (kept.parent / "half").touch())
    wrongly(lambda path, kept: kept.write_bytes(archives.as_csv()[:-1]))
    monkeypatch.setattr(sources, "fetch_archive", fetch)
    other = replace(archives.faces(), labels=np.zeros(archives.ROWS, np.uint8))
    monkeypatch.setattr(sources, "read_raw", lambda *_: other)
    with pytest.raises(pool.BrokenPromiseError, match="not what was packed"):
        bring()


def test_mutated_parameters_are_not_all_refused() -> None:
    kinds = Counter(pool.attempt(parameters.run, 5, case).kind for case in range(40))
    assert kinds["result"] >= 1
    assert kinds["sentence"] >= 5
    assert yaml.safe_load(parameters.base())["data"]["source"] == "synthetic"
