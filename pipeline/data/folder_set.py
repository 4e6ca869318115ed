"""Read a folder of pictures, one folder per class: `<class>/*` or `{train,val,test}/<class>/*`.

Pictures have any size, mode and common format; `pipeline.data.pictures` brings all into the same form. Their order is
that of split, class and path, so equal folders give equal bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from pipeline.data.archives import Budget, Bundle, Entry, FolderBundle, read_all, shown
from pipeline.data.classes import MOST, SPLIT_NAMES, alike, folded, normal, rule
from pipeline.data.fer import IMAGE_SIZE, SPLITS, FerData
from pipeline.data.pictures import MAX_BYTES, NOT_READ, SUFFIXES, as_face
from pipeline.data.splits import UNDECIDED
from pipeline.errors import UserError
from pipeline.files import write_npz
from pipeline.schema import listed

MAX_FILES = 1_000_000
LAYOUT = "<class>/<picture> or train, val and test with <class>/<picture> in each"


@dataclass(frozen=True)
class Pictures:
    """The pictures of a folder, sorted by split, class and path. splits: `UNDECIDED` where the folder names none.

    files: the path of each in the folder, with / between folders.
    """

    data: FerData
    files: tuple[str, ...]

    def save(self, path: Path) -> None:
        """Write an `.npz`, the same bytes for the same pictures, names and classes."""
        texts = {"classes": self.data.classes, "files": self.files}
        write_npz(
            path,
            {
                "images": self.data.images, "labels": self.data.labels, "splits": self.data.splits,
                **{name: np.frombuffer("\0".join(text).encode(), np.uint8) for name, text in texts.items()},
            },
        )  # fmt: skip

    @classmethod
    def load(cls, path: Path) -> Pictures:
        """Read what `save` wrote. Raises UserError if there is nothing to read."""
        if not path.is_file():
            raise UserError(f"{path} is missing: run `dvc repro fetch` first.")
        with np.load(path, allow_pickle=False) as archive:
            classes, files = (tuple(archive[name].tobytes().decode().split("\0")) for name in ("classes", "files"))
            data = FerData(archive["images"], archive["labels"], archive["splits"], classes=classes)
        return cls(data, files)


@dataclass(frozen=True)
class _Place:
    """What the path of a picture says. split: its number, or `UNDECIDED`."""

    split: int
    folder: str
    entry: Entry


def read(folder: Path, classes: Sequence[str] = (), note: Callable[[str], object] = lambda _: None) -> Pictures:
    """Read every picture of a folder. classes: their names in order; without, the names of the folders, sorted.

    Class folders may differ from the names in case. `note` is called with files that are left out. Raises UserError for
    anything that is not as the layout says, for a picture that cannot be read, and for a class that cannot be trained.
    """
    bundle = FolderBundle(folder, Budget(MAX_FILES, "is it the right folder?"), only_names=True)
    for link in bundle.links:
        raise UserError(f"{link} is a link, and links are not followed: copy the pictures themselves.")
    places, empty = _places(bundle, note)
    names = _named(bundle.name, places, empty, classes)
    number = {folded(name): k for k, name in enumerate(names)}
    rows = sorted(
        ((place.split, number[folded(place.folder)], place.entry) for place in places),
        key=lambda row: (row[0], row[1], row[2].path),
    )
    splits, labels = (np.array(column, np.uint8) for column in list(zip(*rows, strict=True))[:2])
    for k, name in enumerate(names):  # UNDECIDED images may become train's
        if not ((labels == k) & np.isin(splits, (SPLITS.index("train"), UNDECIDED))).any():
            raise UserError(f"{bundle.name} has no picture of class '{name}' in train: add some, or drop the class.")
    images = np.empty((len(rows), IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    for row, (*_, entry) in enumerate(rows):
        images[row] = _face(bundle, entry)
    return Pictures(FerData(images, labels, splits, classes=names), tuple(entry.path for *_, entry in rows))


def _places(bundle: FolderBundle, note: Callable[[str], object]) -> tuple[list[_Place], set[str]]:
    """Return where every picture belongs, and the names of class folders without a picture."""
    pictures: list[Entry] = []
    others: list[Entry] = []
    for entry in bundle.entries:
        suffix = PurePosixPath(entry.path).suffix.lower()
        if suffix in NOT_READ:
            raise UserError(
                f"{shown(entry.path)} of {bundle.name} is a picture of a kind that is not read ({suffix}):"
                " save it as PNG or JPEG, or remove it."
            )
        (pictures if suffix in SUFFIXES else others).append(entry)
    if not pictures:
        raise UserError(f"{bundle.name} has no pictures in folders: it must hold {LAYOUT}.")
    if others:
        kinds = ", ".join(shown(entry.path) for entry in others[:3])
        note(f"files left out because their names are not those of pictures: {len(others):,}, such as {kinds}")
    within = _wrapper(bundle.folders, [entry.path for entry in pictures])
    top = {_parts(path, within)[0] for path in bundle.folders if len(_parts(path, within)) == 1}
    has_splits = any(folded(name) in SPLIT_NAMES for name in top)
    depth = 2 if has_splits else 1
    places = [_place(entry, _parts(entry.path, within), depth, bundle.name) for entry in pictures]
    filled = {folded(place.folder) for place in places}
    folders = (_parts(path, within) for path in bundle.folders)
    empty = {parts[-1] for parts in folders if len(parts) == depth and folded(parts[-1]) not in filled}
    splits = {place.split for place in places}
    train = SPLITS.index("train")
    if has_splits and train not in splits:
        raise UserError(f"{bundle.name} has no pictures in a folder train: it must hold {LAYOUT}.")
    if len(splits) < len(SPLITS):
        places = [
            _Place(UNDECIDED if place.split == train else place.split, place.folder, place.entry) for place in places
        ]
    return places, empty


def _wrapper(folders: Sequence[str], pictures: Sequence[str]) -> int:
    """Return how many folders are around the set: an unpacked archive is often in one of its own."""
    every = [PurePosixPath(path).parts for path in (*folders, *pictures)]
    depths = [len(PurePosixPath(path).parts) for path in pictures]
    around = 0
    while True:
        first, *others = {parts[around] for parts in every if len(parts) > around}
        # A folder with a picture in it is a class, not a wrapper.
        if others or folded(first) in SPLIT_NAMES or min(depths) <= around + 2:
            return around
        around += 1


def _parts(path: str, within: int) -> tuple[str, ...]:
    return PurePosixPath(path).parts[within:]


def _place(entry: Entry, parts: tuple[str, ...], depth: int, name: str) -> _Place:
    """Return the place of a picture. depth: number of folders above a picture, 2 with splits."""
    picture = f"Picture {shown(entry.path)} of {name}"
    split = SPLIT_NAMES.get(folded(parts[0])) if depth == 2 else None
    if depth == 2 and split is None and len(parts) > 1:
        raise UserError(
            f"{picture} is in {shown(parts[0])!r}, next to folders for splits, but is in none of train, val and test:"
            " move it."
        )
    if len(parts) != depth + 1:
        what = "in no class folder" if len(parts) <= depth else "in a folder within a class folder"
        raise UserError(f"{picture} is {what}: the pictures must lie as {LAYOUT}.")
    return _Place(UNDECIDED if split is None else SPLITS.index(split), normal(parts[depth - 1]), entry)


def _named(name: str, places: Sequence[_Place], empty: set[str], classes: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the classes in order. Raises UserError unless every folder is a class and vice versa."""
    spelled: dict[str, str] = {}
    for folder in sorted({place.folder for place in places}):
        spelled.setdefault(folded(folder), folder)
    found = sorted(spelled.values())
    if classes:
        known = {folded(label) for label in classes}
        unknown = [folder for folder in (*found, *sorted(empty)) if folded(folder) not in known]
        if unknown:
            raise UserError(
                f"{name} has the class folder {shown(unknown[0])!r}, but data.labels names {listed(classes)}: rename or"
                " move the folder, or add it to data.labels."
            )
        missing = [label for label in classes if folded(label) not in spelled]
        if missing:
            raise UserError(
                f"{name} has no picture of class '{missing[0]}', which data.labels names; it has {listed(found)}."
            )
        return tuple(classes)
    if empty:
        raise UserError(
            f"{name} has no picture in the class folder {shown(min(empty))!r}: add some, or remove the folder."
        )
    for folder in found:
        if must := rule(folder):
            raise UserError(f"{name} has the class folder {shown(folder)!r}, but the name of a class must be {must}.")
    if (same := alike(found)) is not None:
        raise UserError(f"{name} has the class folders {same[0]!r} and {same[1]!r}, too much alike: rename one.")
    if not 2 <= len(found) <= MOST:
        raise UserError(
            f"{name} has pictures of {len(found)} {'class' if len(found) == 1 else 'classes'}"
            f" ({listed(found)}): from 2 to {MOST} are needed."
        )
    return tuple(found)


def _face(bundle: Bundle, entry: Entry) -> npt.NDArray[np.uint8]:
    where = f"Picture {shown(entry.path)} of {bundle.name}"
    if entry.size > MAX_BYTES:
        raise UserError(f"{where} has {entry.size:,} bytes: make it smaller than {MAX_BYTES >> 20} MiB.")
    with bundle.open(entry) as content:
        return as_face(read_all(content, MAX_BYTES), where)


def count_by_class(pictures: Pictures) -> str:
    """Return how many pictures there are of each class, for a terminal."""
    counts = Counter(pictures.data.labels.tolist())
    return ", ".join(f"{name} {counts[k]:,}" for k, name in enumerate(pictures.data.classes))
