"""Stage fetch: copy the data set, as published, into the workspace under its digest."""

from __future__ import annotations

from pipeline import cli, config, workspace
from pipeline.data.sources import Provenance, fetch_archive, fetch_bytes, fetch_folder, fetch_kaggle, fetch_votes
from pipeline.data.synthetic import dataset
from pipeline.errors import UserError, about
from pipeline.files import write_json
from pipeline.tracking.data_runs import log_fetch
from pipeline.workspace import RAW, SOURCE, resolve


def main() -> None:
    params = config.load()
    workspace.refuse_paths_in_outputs(params.paths())
    workspace.clear(RAW)
    try:
        archive, votes = bring(params.data)
    except BaseException:
        workspace.clear(RAW)  # an archive without its votes is half an output
        raise
    write_json(SOURCE, {"archive": archive.facts(), "votes": votes and votes.facts()})
    for brought in (archive, votes):
        if brought and brought.used:
            print(f"{brought.used} is used")
    print(f"{archive.name}: {archive.bytes:,} bytes, sha256 {archive.sha256}")
    log_fetch()


def bring(data: config.DataParams) -> tuple[Provenance, Provenance | None]:
    """Fetch the archive and, if there are any, the votes into outputs/raw."""
    if data.source == "synthetic":
        drawn = dataset.draw(data.synthetic)
        return (
            fetch_bytes(dataset.to_fer_csv(drawn), "synthetic", "fer2013.csv", RAW),
            fetch_bytes(dataset.to_votes_csv(drawn), "synthetic", "fer2013new.csv", RAW),
        )
    digest = data.sha256.lower() or None
    if data.source == "folder":
        with about("data.path"):
            return fetch_folder(resolve(data.path), RAW, data.labels, digest), None
    votes = None
    if data.votes:
        with about("data.votes"):
            votes = fetch_votes(resolve(data.votes), RAW)
    if data.source == "kaggle":
        archive = fetch_kaggle(RAW, digest)
    else:
        with about("data.path"):
            archive = fetch_archive(resolve(data.path), RAW, digest)
    if votes and not archive.in_published_order:
        raise UserError(
            "data.votes: FER+ votes follow the order of fer2013.csv, which the folder set has lost; "
            'use the CSV form of the data set, or set data.votes to "".'
        )
    return archive, votes


if __name__ == "__main__":
    cli.script(main)
