"""What one clone pushes, another pulls, over real servers: models and metrics, without training and without images.

docs/team.md describes these steps.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from tests.clone import Clone, stages_run
from tests.servers import NO_S3, NO_SSH, s3_store, ssh_server

pytestmark = [pytest.mark.slow, pytest.mark.servers]

IMAGES = ("outputs/raw", "outputs/prepared")
"""Outputs with the pictures of the set, which stay where they are."""


@dataclass(frozen=True)
class Remote:
    """settings: of each clone alone, where secrets are. environment: of DVC's commands."""

    url: str
    settings: dict[str, str]
    environment: dict[str, str] = field(default_factory=dict)


@contextmanager
def over_ssh(folder: Path) -> Iterator[Remote]:
    with ssh_server(folder) as login:
        url = f"ssh://{login.user}@127.0.0.1:{login.port}{folder / 'remote'}"
        yield Remote(url, {"keyfile": str(login.key)})


@contextmanager
def over_s3(folder: Path) -> Iterator[Remote]:
    with s3_store(folder) as environment:
        endpoint = environment.pop("AWS_ENDPOINT_URL")
        yield Remote("s3://fer/dvc", {"endpointurl": endpoint}, environment)


def md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def outputs(clone: Clone) -> dict[str, str]:
    """Each file under outputs/ that is not of the images, and its digest."""
    folder = clone.path / "outputs"
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".gitignore"]
    found = {path.relative_to(clone.path).as_posix(): md5(path) for path in files}
    return {name: digest for name, digest in found.items() if not name.startswith(IMAGES)}


def objects_of_images(clone: Clone) -> set[str]:
    """The objects in DVC's cache that hold the images: the two folders and every file in them."""
    stages = yaml.safe_load((clone.path / "dvc.lock").read_text())["stages"]
    folders = {out["md5"] for name in ("fetch", "prepare") for out in stages[name]["outs"]}
    files = [path for name in IMAGES for path in (clone.path / name).rglob("*") if path.is_file()]
    return folders | {md5(path) for path in files}


@pytest.mark.parametrize(
    "serve", [pytest.param(over_ssh, marks=NO_SSH, id="ssh"), pytest.param(over_s3, marks=NO_S3, id="s3")]
)
def test_a_fresh_clone_has_models_and_metrics_without_training_and_no_images(
    serve: Callable[[Path], AbstractContextManager[Remote]], finished: Clone, tmp_path: Path
) -> None:
    servers = tmp_path / "servers"
    servers.mkdir()
    with serve(servers) as remote:
        first = finished.copy(tmp_path / "first", FER_TRACKING="off", **remote.environment)
        first.dvc("remote", "add", "--default", "group", remote.url)
        first.commit("Where the group keeps outputs")
        join(first, remote)
        first.dvc("push")

        second = Clone(tmp_path / "second", first.environment)
        first.run("git", "clone", "-q", str(first.path), str(second.path))
        join(second, remote)
        second.dvc("pull", "--allow-missing")
        assert outputs(second) == outputs(first)
        assert not any((second.path / name).exists() for name in IMAGES)
        assert stages_run(second.dvc("repro", "--allow-missing")) == []

        second.dvc("fetch", *IMAGES, expect=None)  # whatever of them the server has
        cached = {"".join(path.parts[-2:]) for path in (second.path / ".dvc/cache").rglob("*") if path.is_file()}
        assert cached
        assert not objects_of_images(first) & cached

    assert stages_run(second.dvc("repro")) == ["fetch", "prepare"], "its own copy of the data"
    assert stages_run(second.dvc("repro")) == []
    assert outputs(second) == outputs(first)


def join(clone: Clone, remote: Remote) -> None:
    """Set up a clone for the remote, outside git."""
    for name, value in remote.settings.items():
        clone.dvc("remote", "modify", "--local", "group", name, value)
