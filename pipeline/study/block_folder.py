"""The folder in which a block of the study is computed: `.study/<block>/`, with a params.yaml and outputs of its own.

The stages run there as they do in the repository, one process for all, without DVC: what `dvc repro` made is left
alone. Fetch, prepare, landmarks and embed run again only if their settings, their code or the user's files change.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import yaml
from filelock import FileLock, Timeout

from pipeline import config, fingerprint
from pipeline.errors import UserError
from pipeline.files import (
    DamagedError,
    JsonDict,
    digests,
    read_json,
    repository,
    set_environment,
    write_json,
    write_text,
)
from pipeline.fingerprint import SOURCES
from pipeline.study.jobs import LOGS
from pipeline.training.autotune import MachineParams
from pipeline.workspace import resolve
from stages import embed, fetch, landmarks, prepare, targets

STUDY = Path(".study")
GRID = "grid"
"""The folder of the grid of params.yaml, which is no block."""
PREPARED_WITH = Path("prepared.json")
"""In the folder of a block: digests of what its data were made of, and of the files that were made."""
MADE = ("prepared", "landmarks", "labels")
"""Where these are in outputs/."""
DATA_STAGES = (fetch, prepare, landmarks, embed)
READ = ("data", "landmarks", "labels")
"""The sections of params.yaml that these stages read."""
CODE = ("pipeline/data", "pipeline/landmarks", "pipeline/labels")


@contextlib.contextmanager
def entered(name: str) -> Iterator[Path]:
    """Work in the folder of a block, with paths in params.yaml that start at the repository; yield the repository.

    Nothing is logged to MLflow there. Raises UserError if another process works in it.
    """
    root = repository()
    folder = root / STUDY / name
    (folder / LOGS).mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(f"{STUDY / name} is in use by another `fer sweep` or `fer search`: wait for it.") from None
    try:
        with set_environment({"DVC_ROOT": str(root), "FER_TRACKING": "off"}), contextlib.chdir(folder):
            try:
                yield root
            except UserError as error:
                raise UserError(from_repository(str(error))) from error
    finally:
        lock.release()


def from_repository(sentence: str) -> str:
    """Return a sentence with the paths of this folder's outputs as a user in the repository has them.

    A user has outputs/ too, and would look there, or remove what is not meant.
    """
    folder = Path.cwd().relative_to(repository()).as_posix()
    return re.sub(r"(?<![\w./-])outputs/", f"{folder}/outputs/", sentence)


def former_machine() -> JsonDict:
    """Return how the folder computes by its params.yaml, as far as that has been chosen; empty at first."""
    try:
        machine = MachineParams(**yaml.safe_load(Path("params.yaml").read_bytes())["machine"])
    except (FileNotFoundError, yaml.YAMLError, LookupError, TypeError):  # it is written again in any case
        return {}
    return {name: value for name, value in asdict(machine).items() if value != "auto"}


def write_settings(settings: JsonDict) -> config.Params:
    """Write params.yaml of this folder and return what it says."""
    write_text(Path("params.yaml"), yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, width=120))
    return config.load()


def bring_data(settings: JsonDict) -> None:
    """Run fetch, prepare, landmarks and embed in this folder unless that would change nothing."""
    wanted = made_of(settings)
    with contextlib.suppress(FileNotFoundError, DamagedError):
        if read_json(PREPARED_WITH) == wanted | {"made": made()}:
            return
    PREPARED_WITH.unlink(missing_ok=True)
    for stage in DATA_STAGES:
        stage.main()
    write_json(PREPARED_WITH, wanted | {"made": made()})


def made() -> str:
    """Return a digest of the names, sizes and times of what the data stages have written here."""
    files = (path for name in MADE for path in Path("outputs", name).rglob("*") if path.is_file())
    facts = {path.as_posix(): path.stat() for path in files}
    return fingerprint.digest({path: [stat.st_size, stat.st_mtime_ns] for path, stat in facts.items()})


def write_targets() -> None:
    """Run the stage targets in this folder: it takes seconds and knows the grid of params.yaml."""
    targets.main()


def made_of(settings: JsonDict) -> JsonDict:
    """Return digests of what the data stages read; of a folder of pictures only its name, as DVC does."""
    paths = [resolve(path) for path in config.load().paths().values() if path]
    facts = {str(path): path.stat() for path in paths if path.is_file()}
    code = (*CODE, *(f"stages/{stage.__name__.rpartition('.')[2]}.py" for stage in DATA_STAGES))
    return {
        "settings": fingerprint.digest({name: settings[name] for name in READ}),
        "files": fingerprint.digest({path: [stat.st_size, stat.st_mtime_ns] for path, stat in facts.items()}),
        "code": fingerprint.digest(digests(SOURCES, code)),
    }
