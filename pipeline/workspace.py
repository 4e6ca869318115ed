"""Define where the pipeline keeps what it writes, and protect the user's files there.

Everything is in one folder, `outputs/`, where nobody keeps files of their own. DVC does not empty a folder of
outputs before its stage starts (`persist` in dvc.yaml; the other outputs are single files). Stages remove what they
wrote themselves, by the names below, and leave everything else alone. DVC sees nothing else: `.dvcignore` admits these
names and no others.

`fer clean` removes what the pipeline wrote, and nothing else.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

import yaml

from pipeline import files
from pipeline.errors import UserError
from pipeline.files import JsonDict, repository

OUTPUTS = Path("outputs")
RAW = OUTPUTS / "raw"
SOURCE = RAW / "source.json"
"""Written by fetch: the provenance of the data."""
PREPARED = OUTPUTS / "prepared"
CHECKS = PREPARED / "checks.json"
"""Written last by prepare: its findings about the data."""
LABELS_FOLDER = OUTPUTS / "labels"
TARGETS = OUTPUTS / "targets"
LANDMARKS = OUTPUTS / "landmarks" / "landmarks.npz"
"""Written by landmarks: 68 points of each image, or none."""
NEIGHBOURS = OUTPUTS / "landmarks" / "neighbours.npz"
"""Written by landmarks: the training images with similar landmarks, or none."""
REPORTS = OUTPUTS / "reports"
TABLE = REPORTS / "ablation.json"

FAST_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""For dvc.lock, which has some ten thousand lines for a study: its sentences are worse, but DVC wrote it."""


@dataclass(frozen=True)
class RunKey:
    """A model and a seed. `name` is what DVC, MLflow and every file name call the pair."""

    model: str
    seed: int

    @property
    def name(self) -> str:
        """The name of the run: `<model>-<seed>`."""
        return f"{self.model}-{self.seed}"

    @property
    def targets(self) -> Path:
        """The file with the vectors that the run is trained towards."""
        return TARGETS / f"{self.name}.npy"

    @property
    def labels(self) -> Path:
        """The file with the labels that the run is trained on, where they are not those of the data."""
        return TARGETS / f"{self.name}.labels.npz"

    @property
    def landmarks(self) -> Path:
        """The file with the landmarks that the run reads, or with none."""
        return TARGETS / f"{self.name}.landmarks.npz"

    @property
    def choices(self) -> Path:
        """The file with what params.yaml chooses for the run's training."""
        return TARGETS / f"{self.name}.choices.json"

    @property
    def models(self) -> Path:
        """The folder of the trained model."""
        return OUTPUTS / "models" / self.name

    @property
    def exported(self) -> Path:
        """The ONNX file of the trained model; empty without a network."""
        return exported(self.models)

    @property
    def history(self) -> Path:
        """The file with one row per epoch."""
        return self.models / "history.csv"

    @property
    def metrics(self) -> Path:
        """The metrics file."""
        return OUTPUTS / "metrics" / f"{self.name}.json"

    @property
    def predictions(self) -> Path:
        """The file with one row per test image."""
        return OUTPUTS / "predictions" / f"{self.name}.csv"

    @property
    def figures(self) -> Path:
        """The folder of the figures of this run."""
        return OUTPUTS / "figures" / self.name

    def facts(self) -> JsonDict:
        """Read the description that training wrote next to the weights."""
        return dict(files.read_json(self.models / "model.json"))

    def read_history(self) -> list[dict[str, float]]:
        """Read the rows of `history.csv`."""
        with self.history.open(encoding="utf-8", newline="") as file:
            return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def exported(model: Path) -> Path:
    """Return the ONNX file of a trained model's folder: outputs/models/<key> -> outputs/onnx/<key>.onnx."""
    name = Path(os.path.abspath(model)).name  # `.` has none of its own
    return Path(os.path.normpath(model / ".." / ".." / "onnx" / f"{name}.onnx"))


def label_vectors(words: str) -> Path:
    """Return the path of the vectors of one set of words."""
    return LABELS_FOLDER / words / "label_vectors.npz"


def checks() -> JsonDict:
    """Read the findings of prepare about the data. Raises UserError if it has not run."""
    if not CHECKS.exists():
        raise UserError(f"{PREPARED} is missing: run `dvc repro targets` first.")
    return dict(files.read_json(CHECKS))


def dataset_name() -> str:
    """Return the name that prepare gave the data; the MLflow experiment has the same name."""
    return str(checks()["dataset"])


WRITTEN: Mapping[str, tuple[str, ...]] = {
    "raw": ("source.json", "sha256-*"),
    "prepared": (
        "classes.json",
        "images.npy",
        "labels.npy",
        "split.npy",
        "votes.npy",
        "checks.json",
        "duplicates.csv",
        "files.csv",
    ),
    "labels": ("*/label_vectors.npz", "*/similarity.csv"),
    "landmarks": ("landmarks.npz", "neighbours.npz"),
    "targets": ("*-[0-9]*.npy", "*-[0-9]*.labels.npz", "*-[0-9]*.landmarks.npz", "*-[0-9]*.choices.json"),
    "models": ("*-[0-9]*/model.safetensors", "*-[0-9]*/model.json", "*-[0-9]*/history.csv"),
    "onnx": ("*-[0-9]*.onnx",),
    "metrics": ("*-[0-9]*.json",),
    "predictions": ("*-[0-9]*.csv",),
    "figures": (
        "*-[0-9]*/decisions.csv",
        "*-[0-9]*/pairs.csv",
        "*-[0-9]*/confusion.png",
        "*-[0-9]*/confusion_normalised.png",
        "*-[0-9]*/reliability.png",
        "*-[0-9]*/per_class.png",
        "*-[0-9]*/mistakes.png",
        "*-[0-9]*/heat_maps.png",
        "*-[0-9]*/class_heat_maps.png",
        "*-[0-9]*/class_maps.png",
        "*-[0-9]*/uncertainty.png",
    ),
    "reports": (
        "ablation.json",
        "ablation.csv",
        "ablation.md",
        "accuracy.png",
        "agreement.png",
        "differences.png",
        "grams.png",
        "recall_differences.png",
        "severity_*.png",
        "shares.png",
        "spread.png",
        "validation_curves.png",
    ),
}
"""Patterns of all files that stages write, by folder of `outputs/`. A test compares them with a finished pipeline."""

_CHECKPOINT = ".checkpoints/*-[0-9]*-" + 12 * "[0-9a-f]" + "-*"  # model, seed, digest of the inputs, hardware
_CACHES = (_CHECKPOINT + ".safetensors", _CHECKPOINT + ".lock", ".machine/speed.json", ".machine/speed.lock")
"""Files that trainings leave outside the outputs."""


def refuse_paths_in_outputs(settings: Mapping[str, str]) -> None:
    """Raise UserError if a setting (key: path, empty for none) names a file inside `outputs/`."""
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
                f" move it to another folder and set {key} to its new path."
            )


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one of them does not exist, or may not be looked at
        return False


def resolve(path: str) -> Path:
    """Return the absolute path; relative paths start at the repository, also in DVC's temporary copy of it."""
    try:
        place = repository() / Path(path).expanduser()
        os.lstat(place)
    except RuntimeError as error:  # ~name without such a user
        raise UserError(f"{path} names a home folder that does not exist ({error}).") from error
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return place  # reported when it is opened
    except (OSError, ValueError) as error:  # a name that is too long, for one
        raise UserError(f"{path[:60]!r} is not a valid path ({getattr(error, 'strerror', error)}).") from error
    return place


def written(folder: Path) -> list[Path]:
    """Return the outputs in a folder below `outputs/`, sorted, without half-written files and files of the user."""
    return [path for path in _files(folder) if _matches_one(path, "{}")]


def clear(folder: Path) -> None:
    """Remove what the pipeline wrote into a folder below `outputs/`, complete or half-written, and folders left empty.

    Raises UserError, with nothing removed, if the folder is a link or a file is in its place.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UserError(f"{folder} is a link or a file, but the pipeline needs a folder there: move it elsewhere.")
    for path in _files(folder):
        if _is_ours(path):
            path.unlink()
    for root, folders, _ in os.walk(folder, topdown=False):
        for name in folders:
            _remove_empty(Path(root, name))
    _remove_empty(folder)


def _files(folder: Path) -> list[Path]:
    """Return every file below a folder without following links."""
    return sorted(Path(root, name) for root, _, names in os.walk(folder) for name in names)


def _is_ours(path: Path) -> bool:
    """Return whether a path has the name of an output, finished or half-written (`files.replacing`)."""
    # The temporary folder of a fetch that was killed.
    of_fetch = path.is_relative_to(OUTPUTS / "raw") and path.relative_to(OUTPUTS / "raw").parts[0].startswith(".fetch-")
    return of_fetch or _matches_one(path, "{}") or _matches_one(path, ".{}.*")


def _matches_one(path: Path, form: str) -> bool:
    """Return whether a path below `outputs/` matches `WRITTEN`, with its last part in a form such as `.{}.*`."""
    folder, *parts = path.relative_to(OUTPUTS).parts
    patterns = [PurePosixPath(pattern).parts for pattern in WRITTEN.get(folder, ())]
    return any(_matches(parts, (*above, form.format(last))) for *above, last in patterns)


def _matches(parts: Iterable[str], pattern: Iterable[str]) -> bool:
    """Match part by part, so that a star stays within one name."""
    parts, pattern = list(parts), list(pattern)
    return len(parts) == len(pattern) and all(map(fnmatchcase, parts, pattern))


def _remove_empty(folder: Path) -> None:
    if folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()):
        folder.rmdir()


def clean(keys: Iterable[str]) -> list[Path]:
    """Remove every output, checkpoint and machine measurement; return the files that remain in `outputs/`.

    keys: the runs of the grid. Other runs are removed if DVC's lock file lists them.
    """
    runs = {*keys, *_runs_in_lock()}  # or nothing is removed
    for name in ("raw", "prepared", "labels", "landmarks", "targets", "reports"):
        clear(OUTPUTS / name)
    for key in runs:
        for name in ("models", "figures"):
            clear(OUTPUTS / name / key)
        for name in (f"metrics/{key}.json", f"predictions/{key}.csv", f"onnx/{key}.onnx"):
            (OUTPUTS / name).unlink(missing_ok=True)
    for name in (*WRITTEN, ""):
        _remove_empty(OUTPUTS / name)
    for pattern in _CACHES:
        for file in Path().glob(pattern):
            file.unlink()
            _remove_empty(file.parent)
    return _files(OUTPUTS)


def outputs_in_lock() -> dict[str, str]:
    """Return the outputs in dvc.lock with DVC's digests of them, by their paths; none outside DVC or before a run.

    Raises UserError if the file is damaged, as by a merge in git that was not finished.
    """
    lock = Path("dvc.lock")
    if not lock.exists():
        return {}
    try:
        stages = (yaml.load(files.read_text(lock), FAST_LOADER) or {}).get("stages", {})
        outs = [out for stage in stages.values() for out in stage.get("outs", ())]
        return {out["path"]: str(out.get("md5", "")) for out in outs}
    except (yaml.YAMLError, AttributeError, TypeError, LookupError) as error:
        why = " ".join(str(error).split())
        raise UserError(f"dvc.lock is damaged ({why}): restore it, as with `git checkout dvc.lock`.") from error


def _runs_in_lock() -> set[str]:
    """Return the runs whose outputs are in dvc.lock."""
    paths = map(PurePosixPath, outputs_in_lock())
    models = PurePosixPath(OUTPUTS.as_posix(), "models")
    return {path.relative_to(models).parts[0] for path in paths if path.is_relative_to(models)}
