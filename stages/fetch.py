"""Stage fetch: bring the data set in, as published, under its digest."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from pipeline import cli, config, tracking, workspace
from pipeline.data import synthetic
from pipeline.data.sources import Provenance, fetch_archive, fetch_bytes, fetch_kaggle
from pipeline.errors import UserError
from pipeline.files import read_json, sha256, write_json
from pipeline.workspace import resolve
from stages.cell import DATA_EXPERIMENT, RAW, SOURCE


def main() -> None:
    params = config.load()
    workspace.refuse_paths_in_outputs(params.paths())
    workspace.clear(RAW)
    try:
        archive, votes = bring(params.data)
    except BaseException:
        workspace.clear(RAW)  # an archive without its votes is half an output
        raise
    write_json(SOURCE, {"archive": dataclasses.asdict(archive), "votes": votes and dataclasses.asdict(votes)})
    print(f"{archive.name}: {archive.bytes:,} bytes, sha256 {archive.sha256}")
    log()


def bring(data: config.DataParams) -> tuple[Provenance, Provenance | None]:
    """The archive and, if there are any, the votes, in outputs/raw."""
    if data.source == "synthetic":
        drawn = synthetic.draw(data.synthetic)
        return (
            fetch_bytes(synthetic.to_fer_csv(drawn), "synthetic", "fer2013.csv", RAW),
            fetch_bytes(synthetic.to_votes_csv(drawn), "synthetic", "fer2013new.csv", RAW),
        )
    digest = data.sha256.lower() or None
    votes = fetch_votes(resolve(data.votes)) if data.votes else None
    if data.source == "kaggle":
        return fetch_kaggle(RAW, digest), votes
    return fetch_archive(resolve(data.path), RAW, digest), votes


def fetch_votes(path: Path) -> Provenance:
    if not path.is_file():
        raise UserError(
            f'data.votes: {path} does not exist; set it to FER+\'s fer2013new.csv, or to "" for none.'
        )
    return fetch_bytes(path.read_bytes(), "archive", path.name, RAW)


def runs() -> tracking.Where | None:
    """Where the run of this stage is in MLflow, or None before the first fetch."""
    if not SOURCE.exists():
        return None
    content = sha256(SOURCE)[:12]
    return tracking.Where(DATA_EXPERIMENT, "fetch", f"fetch-{content}", content)


def log() -> None:
    with tracking.run_of(runs(), {"kind": "data", **tracking.context_tags("fetch")}) as run:
        source = {name: facts for name, facts in read_json(SOURCE).items() if facts}
        run.params(source)
        run.metrics({name: {"bytes": facts["bytes"]} for name, facts in source.items()})
        run.artifacts(SOURCE)


if __name__ == "__main__":
    cli.run(main)
