"""Write files so that no reader ever sees half of one, and name them by their content."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import UserError
from pipeline.trouble import refused, subject

JsonDict = dict[str, Any]
"""A JSON object, as it is read and written."""
MAX_NAME_BYTES = 200
"""Bytes of a file's name that its temporary one has too: file systems accept 255."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`; rename it to `path` if the block succeeds.

    A crash, an exception or a full disk leaves the old file (or none) in place, never half a new one: renaming within
    one folder is atomic on every supported file system. Raises UserError, which names `path`, if the disk is full or
    refuses the file.
    """
    temporary = None
    try:
        with naming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            shown = path.name if len(path.name.encode(errors="surrogateescape")) < MAX_NAME_BYTES else "long"
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{shown}.", suffix=path.suffix)
            temporary = Path(name)
            os.close(handle)
            yield temporary
            # mkstemp makes files private; outputs get the mode any other new file would.
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            temporary.replace(path)
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Raise UserError that names `path`, not a temporary file, if the disk refuses what the block writes."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        named = subject(error)
        sibling = path.parent / f".{path.name}."
        ours = named is None or any(
            [named.startswith(str(sibling)), Path(named) in (path, *path.parents), path in Path(named).parents]
        )  # what is read meanwhile may fail too
        if ours and (sentence := refused(path, error)):
            raise UserError(sentence) from error
        raise


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with Unix line ends, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: object) -> None:
    """Write JSON that is stable byte for byte and readable in a diff. NaN is rejected."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


class DamagedError(UserError, ValueError):
    """A file has not the content that it should have. A ValueError, for callers who can say more about it."""


def read_text(path: Path) -> str:
    """Read UTF-8 text. Raises DamagedError if it is none."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DamagedError(f"{path} is not UTF-8 text ({error}): save it as UTF-8, or restore it.") from None


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises DamagedError if it is none."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise DamagedError(
            f"{path} is damaged, or is not JSON ({error}): restore it, or remove it and create it again."
        ) from None


def write_npy(path: Path, array: npt.NDArray[np.generic]) -> None:
    """Write one array as `.npy`, atomically."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def write_npz(path: Path, arrays: Mapping[str, npt.ArrayLike], compressed: bool = False) -> None:
    """Write an `.npz` that `numpy.load` reads, atomically.

    Unlike numpy.savez, whose archives differ between Python versions, this gives the same bytes for the same arrays
    everywhere (compressed ones, where zlib is the same).
    """
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, np.asanyarray(array), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy")  # dated 1980, whatever the time
            entry.create_system = 3  # as if on Unix
            entry.compress_type = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
            archive.writestr(entry, content.getvalue())


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV table with Unix line ends, atomically."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def sha256(path: Path) -> str:
    """Return the SHA-256 digest of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests(root: Path, entries: Iterable[str]) -> dict[str, str]:
    """Return the digest of each file among `entries`, below `root`, by its path there; folders stand for their code."""
    paths = (root / entry for entry in entries)
    found = (path for entry in paths for path in (entry.rglob("*.py") if entry.is_dir() else [entry]))
    return {path.relative_to(root).as_posix(): sha256(path) for path in sorted(found)}


def repository() -> Path:
    """Return the repository's root, also where DVC runs an experiment in a copy or `fer sweep` works in its own folder.

    Both name the root in `DVC_ROOT`.
    """
    return Path(os.environ.get("DVC_ROOT") or ".").resolve()


@contextmanager
def set_environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables during the block; afterwards they are as they were."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def flatten(values: Mapping[str, object], prefix: str = "") -> JsonDict:
    """Flatten nested keys into dotted names: {"a": {"b": 1}} -> {"a.b": 1}."""
    flat: JsonDict = {}
    for name, value in values.items():
        key = f"{prefix}{name}"
        flat |= flatten(value, f"{key}.") if isinstance(value, Mapping) else {key: value}
    return flat
