"""Where the pipeline keeps what it writes, and how files of the user stay safe from it.

DVC removes the outputs of a stage before the stage starts, with all that lies in them. So outputs live in one
folder, `outputs/`, where nobody keeps files of their own; settings that point into it are refused, and so is a
file in an output folder that the pipeline did not write (`stages.check` runs before any other stage). DVC itself
does not see such a file: `.dvcignore` admits the names below and no others.

`python -m pipeline.workspace` removes what the pipeline wrote, and nothing else (`make clean`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

import yaml

from pipeline.errors import UserError
from pipeline.files import repository

OUTPUTS = Path("outputs")
NOTE = OUTPUTS / "README.md"

WRITTEN: Mapping[str, tuple[str, ...]] = {
    "raw": ("source.json", "sha256-*"),
    "prepared": ("images.npy", "labels.npy", "split.npy", "votes.npy", "checks.json", "duplicates.csv"),
    "labels": ("*/label_vectors.npz", "*/similarity.csv"),
    "targets": ("*-[0-9]*.npy",),
    "models": ("*-[0-9]*/model.safetensors", "*-[0-9]*/model.json", "*-[0-9]*/history.csv"),
    "metrics": ("*-[0-9]*.json",),
    "predictions": ("*-[0-9]*.csv",),
    "figures": (
        "*-[0-9]*/decisions.csv",
        "*-[0-9]*/confusion.png",
        "*-[0-9]*/confusion_normalised.png",
        "*-[0-9]*/reliability.png",
        "*-[0-9]*/per_class.png",
        "*-[0-9]*/mistakes.png",
        "*-[0-9]*/heat_maps.png",
        "*-[0-9]*/class_heat_maps.png",
    ),
    "reports": (
        "ablation.json",
        "ablation.csv",
        "ablation.md",
        "accuracy.png",
        "agreement.png",
        "grams.png",
        "recall_differences.png",
        "severity_*.png",
        "shares.png",
        "spread.png",
        "validation_curves.png",
    ),
}
"""What the stages write, as patterns by folder of `outputs/`. A test holds them against a finished pipeline."""

_OF_CELLS = ("models", "figures")
"""Folders with a folder for every model and seed, each an output of its own; DVC removes no other there."""

_CHECKPOINT = f".checkpoints/*-[0-9]*-{'[0-9a-f]' * 12}-*"
_CACHES = (f"{_CHECKPOINT}.safetensors", f"{_CHECKPOINT}.lock", ".machine/speed.json", ".machine/speed.lock")
"""What trainings leave outside the outputs: model, seed, digest of the inputs; and how fast this machine is."""

_MADE_BY_SYSTEMS = (".DS_Store", "._*", "Thumbs.db", "desktop.ini")
"""Files that file managers leave wherever they look; nobody misses them."""


def refuse_paths_in_outputs(settings: Mapping[str, str]) -> None:
    """Raise UserError if a setting (key: path, empty for none) names a file where outputs are removed."""
    ours = {OUTPUTS.resolve(), (repository() / OUTPUTS).resolve()}
    for key, path in settings.items():
        if not path:
            continue
        named = resolve(path)
        # Links followed and not; and the same folder by another spelling, where a file system ignores case.
        places = {named.resolve(), Path(os.path.abspath(named))}
        above = {folder for place in places for folder in (place, *place.parents)}
        if above & ours or any(_same(folder, mine) for folder in above for mine in ours):
            raise UserError(
                f"{key}: {path} is in {OUTPUTS}/, where the pipeline removes files before it writes its own:"
                f" move it to another folder and set {key} to its new place."
            )


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one of them does not exist, or may not be looked at
        return False


def resolve(path: str) -> Path:
    """Relative paths start at the repository, also when DVC runs an experiment in a copy of it elsewhere."""
    try:
        place = repository() / Path(path).expanduser()
        os.lstat(place)
    except RuntimeError as error:  # ~name, and nobody has that name
        raise UserError(f"{path} names a home folder that does not exist ({error}).") from error
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return place  # who opens it says so
    except (OSError, ValueError) as error:  # a name that is too long, for one
        raise UserError(f"{path[:60]!r} cannot be a path ({getattr(error, 'strerror', error)}).") from error
    return place


def refuse_foreign_files(*folders: Path) -> None:
    """Raise UserError if one of these output folders holds anything that the pipeline did not write."""
    for folder in folders:
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise UserError(
                f"{folder} is no folder of its own: move it elsewhere, the pipeline writes there."
            )
        foreign = sorted(foreign_in(folder))
        if foreign:
            more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
            raise UserError(
                f"{folder} holds {', '.join(foreign[:3])}{more}, which the pipeline did not write and would"
                " remove: move such files to another folder."
            )


def output_folders(keys: Iterable[str]) -> list[Path]:
    """Every folder that DVC removes as a whole before a stage writes it; `keys` are the cells of the grid."""
    whole = [OUTPUTS / name for name in ("raw", "prepared", "labels", "targets", "reports")]
    return whole + [OUTPUTS / name / key for key in keys for name in _OF_CELLS]


def foreign_in(folder: Path) -> Iterator[str]:
    """Files and links below an output folder that the pipeline did not write, as paths relative to it."""
    for root, folders, names in os.walk(folder):
        links = [name for name in folders if Path(root, name).is_symlink()]
        for name in (*names, *links):
            path = Path(root, name)
            if not is_written(path.relative_to(OUTPUTS)):
                yield path.relative_to(folder).as_posix()


def is_written(path: Path) -> bool:
    """Whether a path relative to `outputs/` has the name of an output, finished or half written."""
    folder, *parts = path.parts
    if not parts:
        return path == NOTE.relative_to(OUTPUTS)
    if any(fnmatchcase(parts[-1], pattern) for pattern in _MADE_BY_SYSTEMS):
        return True
    if folder == "raw" and parts[0].startswith(".fetch-"):  # the temporary folder of a fetch that was killed
        return True
    patterns = [PurePosixPath(pattern).parts for pattern in WRITTEN.get(folder, ())]
    return any(_matches(parts, (*above, last)) or _matches(parts, (*above, f".{last}.*"))
               for *above, last in patterns)  # fmt: skip


def _matches(parts: Iterable[str], pattern: Iterable[str]) -> bool:
    """Part by part, so that a star stays within one name."""
    parts, pattern = list(parts), list(pattern)
    return len(parts) == len(pattern) and all(map(fnmatchcase, parts, pattern))


def clear(folder: Path) -> None:
    """Remove what the pipeline wrote into an output folder, and then the folders that are empty.

    Raises UserError, with nothing removed, if there is anything else.
    """
    refuse_foreign_files(folder)
    _remove_written(folder)


def _remove_written(folder: Path) -> None:
    if folder.is_symlink():
        return
    for root, folders, names in os.walk(folder, topdown=False):
        for name in names:
            path = Path(root, name)
            if is_written(path.relative_to(OUTPUTS)):
                path.unlink()
        for name in folders:
            _remove_empty(Path(root, name))
    _remove_empty(folder)


def _remove_empty(folder: Path) -> None:
    if folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()):
        folder.rmdir()


def clean(keys: Iterable[str]) -> list[Path]:
    """Remove every output, checkpoint and measurement of the machine; returns the files that stay as they are
    not the pipeline's.

    keys: the cells of the grid. Of other cells those are removed that DVC's lock file says it made.
    """
    cells = {*keys, *_locked_cells()}
    for folder in output_folders(cells):
        _remove_written(folder)
    for key in cells:
        for file in (OUTPUTS / "metrics" / f"{key}.json", OUTPUTS / "predictions" / f"{key}.csv"):
            file.unlink(missing_ok=True)
    for name in WRITTEN:
        _remove_empty(OUTPUTS / name)
    if OUTPUTS.is_dir():
        NOTE.unlink(missing_ok=True)
        _remove_empty(OUTPUTS)
    for pattern in _CACHES:
        for file in Path().glob(pattern):
            file.unlink()
            _remove_empty(file.parent)
    return [Path(root, name) for root, _, names in os.walk(OUTPUTS) for name in sorted(names)]


def _locked_cells() -> set[str]:
    """The cells whose outputs are in dvc.lock."""
    lock = Path("dvc.lock")
    stages = yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"] if lock.exists() else {}
    paths = [PurePosixPath(out["path"]) for stage in stages.values() for out in stage.get("outs", ())]
    return {path.name for path in paths if path.parent == PurePosixPath((OUTPUTS / "models").as_posix())}


def main() -> None:
    """Remove what the pipeline wrote; say what stays."""
    grid = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))["grid"]
    kept = clean(f"{model}-{seed}" for model in grid["models"] for seed in grid["seeds"])
    for path in kept:
        print(f"{path} stays: the pipeline did not write it, or not for a model that it knows")


if __name__ == "__main__":
    main()
