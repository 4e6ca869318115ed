"""Frames of videos: at the right times, upright, and as far as a broken file can be read."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import UserError
from pipeline.inference import video

av = pytest.importorskip("av")

TURNED = bytes.fromhex("00000000 00010000 00000000 ffff0000 00000000 00000000 00000000 00000000 40000000")
"""The matrix of a track that is shown turned by a quarter to the right (ISO 14496-12)."""
UPRIGHT = bytes.fromhex("00010000 00000000 00000000 00000000 00010000 00000000 00000000 00000000 40000000")


def write_video(path: Path, pictures: list[Image.Image], rate: int = 5, pixel: Fraction = Fraction(1)) -> Path:
    """pixel: the width of a pixel to its height."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height = pictures[0].size
        stream.codec_context.sample_aspect_ratio = pixel
        stream.pix_fmt = "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())
    return path


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Four seconds, five frames each, that grow lighter by 10 each frame; the left half is black."""
    pictures = []
    for number in range(20):
        pixels = np.zeros((64, 96, 3), np.uint8)
        pixels[:, 48:] = 40 + 10 * number
        pictures.append(Image.fromarray(pixels))
    return write_video(tmp_path / "clip.mp4", pictures)


def lightness(image: Image.Image) -> int:
    return int(np.asarray(image.convert("L")).max())


TIMES = [(1.0, [0, 5, 10, 15]), (0.2, [*range(20)]), (0.5, [0, 3, 5, 8, 10, 13, 15, 18]), (60, [0])]


@pytest.mark.parametrize(("every", "frames"), TIMES)
def test_frames_come_at_the_times_asked_for(every: float, frames: list[int], clip: Path) -> None:
    found = list(video.frames(clip, "It", every))
    assert [seconds for seconds, _ in found] == pytest.approx([number / 5 for number in frames])
    assert [lightness(image) for _, image in found] == pytest.approx([40 + 10 * n for n in frames], abs=4)
    assert video.length(clip, every) == pytest.approx(len(frames), abs=1)


def test_a_name_with_a_colon_is_no_protocol(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clip.parent)
    clip.rename("2026-11-30T10:30.mp4")
    assert len(list(video.frames(Path("2026-11-30T10:30.mp4"), "It", 1.0))) == 4
    assert video.length(Path("2026-11-30T10:30.mp4"), 1.0) == 4


def test_a_turned_video_is_shown_upright(clip: Path) -> None:
    content = clip.read_bytes()
    place = content.rindex(UPRIGHT)  # the track's; the first is the whole film's
    clip.write_bytes(content[:place] + TURNED + content[place + len(UPRIGHT) :])
    (_, image), *_ = video.frames(clip, "It", 1)
    assert image.size == (64, 96)
    grey = np.asarray(image.convert("L"))
    assert grey[60:, 10:50].min() > 30 > grey[:36, 10:50].max()  # what was right is below


@pytest.mark.parametrize(
    ("pixel", "size"), [(Fraction(2), (192, 64)), (Fraction(1, 2), (96, 128)), (Fraction(100), (96, 64))]
)
def test_pixels_that_are_not_square_are_stretched(tmp_path: Path, pixel: Fraction, size: tuple[int, int]) -> None:
    """As on DVDs and old cameras; what cannot be is left alone."""
    clip = write_video(tmp_path / "clip.mkv", [Image.new("RGB", (96, 64), "grey")] * 3, pixel=pixel)
    (_, image), *_ = video.frames(clip, "It", 1)
    assert image.size == size


def test_a_list_of_other_files_is_no_video(clip: Path) -> None:
    (clip.parent / "list.mp4").write_text(f"ffconcat version 1.0\nfile {clip.name}\n")
    with pytest.raises(UserError, match=r"^It has no pictures"):
        list(video.frames(clip.parent / "list.mp4", "It", 1))


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    for content in (b"", b"no video", Path(__file__).read_bytes()):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"^It cannot be read as a video \([^\n]+\): replace or remove it\.$"):
            list(video.frames(path, "It", 1))
        assert video.length(path, 1) == 1


def test_frames_before_the_damage_are_read(clip: Path) -> None:
    content = bytearray(clip.read_bytes())
    start = content.index(b"mdat") + 3 * len(content) // 8
    content[start : start + len(content) // 4] = bytes(len(content) // 4)
    clip.write_bytes(content)
    found = video.frames(clip, "It", 0.2)
    _, first = next(found)
    assert lightness(first) == pytest.approx(40, abs=4)
    with suppress(UserError):
        assert len(list(found)) < 20


def test_frames_that_are_too_large_are_refused(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "MAX_PIXELS", 96 * 64 - 1)
    with pytest.raises(UserError, match="96 x 64 pixels"):
        list(video.frames(clip, "It", 1))
