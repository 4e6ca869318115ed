"""Mutated pictures and videos: `python -m tests.soak.pictures --cases 1000 --seed 0`.

Each case is a folder with one damaged file and a whole picture. `fer predict` must read the damaged one or name it in a
sentence, read the whole one, and leave nothing behind.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import random
import tempfile
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from pipeline.errors import UserError
from pipeline.inference.command import predict
from tests.models import drawn_faces, exported_model
from tests.soak.archives import listing
from tests.soak.mutations import MUTATIONS
from tests.soak.pool import BrokenPromiseError, check_sentence, command

FORMS: dict[str, dict[str, Any]] = {
    "png": {}, "jpg": {"quality": 80}, "gif": {}, "tif": {"compression": "tiff_lzw"}, "bmp": {}, "webp": {}, "ppm": {},
}  # fmt: skip
VIDEO = "avi"
MAX_MUTATIONS = 3
"""Mutations of one file."""


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Removed when this process ends."""
    return tempfile.TemporaryDirectory(prefix="fer-model-")


@functools.cache
def model() -> Path:
    return exported_model(Path(_folder().name))


@functools.cache
def whole(form: str) -> bytes:
    """A picture of that form with EXIF data where it has them, or a video of a second."""
    face = Image.fromarray(drawn_faces(24)[17]).resize((120, 90)).convert("RGB")
    content = io.BytesIO()
    if form == VIDEO:
        with av.open(content, "w", format="avi") as container:
            stream = container.add_stream("mpeg4", rate=5)
            stream.width, stream.height, stream.pix_fmt = 120, 90, "yuv420p"
            for _ in range(5):
                container.mux(stream.encode(av.VideoFrame.from_image(face)))
            container.mux(stream.encode())
        return content.getvalue()
    exif = Image.Exif()
    exif[0x0112] = 6
    with_exif = {"exif": exif} if form in ("png", "jpg", "webp") else {}
    picture = face.convert("RGBA") if form in ("png", "webp") else face
    picture.save(content, Image.registered_extensions()[f".{form}"], **FORMS[form], **with_exif)
    return content.getvalue()


def run(seed: int, case: int, folder: Path) -> str:
    """One case. See `tests.soak.pool.Case`."""
    rng = random.Random(f"pictures {seed} {case}")
    form = rng.choice([*FORMS, VIDEO])
    data, done = whole(form), []
    for _ in range(rng.randint(1, MAX_MUTATIONS)):
        mutation = rng.choice(MUTATIONS)
        data = mutation(rng, data)
        done.append(mutation.__name__)
    what = f"{form}: {', '.join(done)}"
    (folder / f"a.{form}").write_bytes(data)
    (folder / "b.png").write_bytes(whole("png"))
    check(folder, what)
    return what


def check(folder: Path, what: str) -> None:
    """Read the folder. Raises UserError if the damaged file is refused, BrokenPromiseError for a fault."""
    before, out = listing(folder), io.StringIO()
    refused = None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        try:
            predict(folder, model(), False, "json", None, 1.0, 1)
        except UserError as error:
            refused = error
    if listing(folder) != before:
        raise BrokenPromiseError(f"{what}: left {listing(folder).keys() - before.keys()}")
    *told, last = map(json.loads, out.getvalue().splitlines())
    if Path(last["picture"]).name != "b.png" or len(last.get("faces", ())) != 1:
        raise BrokenPromiseError(f"{what}: the whole picture is answered by {last}")
    for answer in told:
        for face in answer.get("faces", ()):
            if not np.isclose(sum(face["probabilities"].values()), 1, atol=1e-4):
                raise BrokenPromiseError(f"{what}: {face}")
    if (refused is None) == any("error" in answer for answer in told):
        raise BrokenPromiseError(f"{what}: {told}, but {refused}")
    for answer in told:
        if "error" in answer:
            sentence = UserError(answer["error"])
            check_sentence(sentence)
            raise sentence


if __name__ == "__main__":
    model()  # once, not in every worker
    command("pictures", run)()
