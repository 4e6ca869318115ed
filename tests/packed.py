"""FER-2013 in miniature, and what it is packed with."""

from __future__ import annotations

import functools
import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.data.fer import LABELS, USAGES, VOTE_COLUMNS, VOTES_OF_LABELS, FerData

Files = dict[str, bytes]


@functools.cache
def noise(count: int, sorted_splits: bool = False) -> FerData:
    """Noise with a label and a split in turn, and votes that agree with the labels."""
    rng, rows = np.random.default_rng(0), np.arange(count)
    labels, splits = (rows % len(LABELS)).astype(np.uint8), (rows % len(USAGES)).astype(np.uint8)
    votes = np.zeros((count, len(VOTE_COLUMNS)), np.uint8)
    votes[rows, np.array(VOTES_OF_LABELS)[labels]] = 10
    images = rng.integers(0, 256, (count, 48, 48)).astype(np.uint8)
    return FerData(images, labels, np.sort(splits) if sorted_splits else splits, votes)


def picture(pixels: npt.NDArray[np.uint8], form: str = "PNG") -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, form)
    return content.getvalue()


def folder_set(data: FerData, separator: str = "/", step: int = 1) -> Files:
    """Kaggle's folders. Image k of the data set has the number k * step, which sorts it within its split."""
    files = {}
    for row, (image, label, split) in enumerate(zip(data.images, data.labels, data.splits, strict=True)):
        path = ("train" if split == 0 else "test", LABELS[label], f"{USAGES[split]}_{row * step}.png")
        files[separator.join(path)] = picture(image)
    return files


def zipped(files: Files, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()


def tarred(
    files: Files, mode: str = "w", form: int = tarfile.PAX_FORMAT,
    links: Mapping[str, tuple[bytes, str]] | None = None, **more: Any,
) -> bytes:  # fmt: skip
    """links: by their names, the kind of each and what it points to."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode, format=form, **more) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1
            archive.addfile(info, io.BytesIO(data))
        for name, (kind, target) in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
    return content.getvalue()


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path
