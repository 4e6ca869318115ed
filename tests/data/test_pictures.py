"""Any picture becomes 48 x 48 grey levels, by the steps that the module states and no others."""

from __future__ import annotations

import io
import random
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from pipeline.data.pictures import FORMATS, as_face
from pipeline.errors import UserError

RNG = np.random.default_rng(5)
NOISE = RNG.integers(0, 256, (48, 48)).astype(np.uint8)
SMOOTH = np.add.outer(np.arange(60), 2 * np.arange(90)).astype(np.uint8)  # 60 high, 90 wide


def saved(image: Image.Image, form: str, **settings: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, form, **settings)
    return content.getvalue()


def face(image: Image.Image, form: str = "PNG", **settings: Any) -> npt.NDArray[np.uint8]:
    return as_face(saved(image, form, **settings), "It")


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "JPEG"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_grey_picture_of_the_right_size_stays_as_it_is(form: str, mode: str) -> None:
    if (form, mode) == ("GIF", "RGB"):
        pytest.skip("GIF has a palette, which Pillow chooses for a coloured picture")
    settings = {"lossless": True} if form == "WEBP" else {}
    np.testing.assert_array_equal(face(Image.fromarray(NOISE).convert(mode), form, **settings), NOISE)


def test_jpeg_is_read_in_grey_colour_and_cmyk() -> None:
    picture = Image.fromarray(np.full((48, 48), 77, np.uint8))
    for mode in ("L", "RGB", "CMYK"):
        assert np.ptp(face(picture.convert(mode), "JPEG").astype(int) - 77) <= 2


def test_colours_become_their_luma() -> None:
    colours = RNG.integers(0, 256, (48, 48, 3)).astype(np.uint8)
    expected = colours @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(face(Image.fromarray(colours)), expected, atol=0.51)


def test_transparent_parts_become_white() -> None:
    alpha = RNG.integers(0, 256, (48, 48)).astype(np.uint8)
    picture = Image.merge("LA", (Image.fromarray(NOISE), Image.fromarray(alpha)))
    share = alpha / 255
    np.testing.assert_allclose(face(picture), share * NOISE + (1 - share) * 255, atol=1.01)
    assert face(Image.new("RGBA", (9, 9), (0, 0, 0, 0))).min() == 255


def test_a_palette_gives_its_colours_and_its_transparent_one_white() -> None:
    picture = Image.new("P", (48, 48), 1)
    picture.putpalette([10, 10, 10, 200, 200, 200])
    picture.paste(0, (0, 0, 48, 24))
    assert np.unique(face(picture)).tolist() == [10, 200]
    assert np.unique(face(picture, transparency=0)).tolist() == [200, 255]


def test_one_bit_is_black_and_white() -> None:
    found = face(Image.fromarray(NOISE > 127))
    np.testing.assert_array_equal(found, np.where(NOISE > 127, 255, 0))


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_and_not_cut(form: str) -> None:
    deep = RNG.integers(0, 65536, (48, 48)).astype(np.uint16)
    deep[0, :3] = 0, 65535, 257 * 100
    found = face(Image.fromarray(deep), form)
    np.testing.assert_array_equal(found, np.floor(deep / 257 + 0.5))
    assert found[0, :3].tolist() == [0, 255, 100]


def test_a_picture_of_floating_point_numbers_is_refused() -> None:
    with pytest.raises(UserError, match=r"^It cannot be read \(its grey levels .* replace or remove it\.$"):
        face(Image.fromarray(np.ones((5, 5), np.float32)), "TIFF")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_pictures_are_turned_upright(orientation: int, form: str) -> None:
    """The transpositions of the EXIF standard, undone by NumPy."""
    upright = np.zeros((48, 48), np.uint8)
    upright[:16, :24] = 250  # upper left
    upright[:16, 24:] = 120  # upper right
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.T, 6: np.rot90(upright), 7: upright[::-1, ::-1].T, 8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    settings = {"quality": 100} if form == "JPEG" else {"lossless": True} if form == "WEBP" else {}
    found = face(Image.fromarray(np.ascontiguousarray(stored)), form, exif=exif, **settings)
    assert np.abs(found.astype(int) - upright)[2:14, 2:22].max() < 8
    assert np.abs(found.astype(int) - upright)[20:, :].max() < 8


@pytest.mark.parametrize(("height", "width"), [(60, 90), (90, 60), (60, 61), (200, 50), (1, 3)])
def test_the_largest_square_in_the_middle_counts(height: int, width: int) -> None:
    whole = RNG.integers(0, 256, (height, width)).astype(np.uint8)
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = whole[top : top + side, left : left + side]
    np.testing.assert_array_equal(face(Image.fromarray(whole)), face(Image.fromarray(square.copy())))


def test_a_larger_picture_is_averaged_and_not_sampled() -> None:
    board = (np.indices((480, 480)).sum(axis=0) % 2 * 255).astype(np.uint8)  # every other pixel white
    found = face(Image.fromarray(board)).astype(int)
    assert abs(found - 127.5).max() < 4
    ramp = np.tile(np.linspace(0, 255, 480), (480, 1)).round().astype(np.uint8)
    means = ramp.reshape(48, 10, 48, 10).mean((1, 3))
    np.testing.assert_allclose(face(Image.fromarray(ramp))[:, 1:-1], means[:, 1:-1], atol=1)


def test_a_smaller_picture_is_enlarged() -> None:
    assert face(Image.fromarray(SMOOTH[:2, :2].copy())).shape == (48, 48)
    assert np.unique(face(Image.new("L", (1, 1), 33))).tolist() == [33]


def test_an_animation_gives_its_first_picture() -> None:
    first, second = (Image.new("L", (48, 48), level) for level in (40, 200))
    for form in ("GIF", "TIFF", "WEBP"):
        settings = {"lossless": True} if form == "WEBP" else {}
        assert face(first, form, save_all=True, append_images=[second], **settings).max() == 40


def test_the_content_decides_and_not_the_suffix() -> None:
    for form in ("PNG", "BMP", "JPEG"):  # `as_face` is told of no name at all
        assert face(Image.fromarray(NOISE), form).shape == (48, 48)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"no picture", b"\x89PNG\r\n\x1a\n", saved(Image.fromarray(NOISE), "PNG")[:900],
        saved(Image.fromarray(NOISE), "BMP")[:1500], b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.4",
    ],
)  # fmt: skip
def test_what_is_no_picture_is_refused_in_one_sentence(data: bytes) -> None:
    with pytest.raises(UserError, match=r"^It cannot be read \([^\n]+\): replace or remove it\.$") as error:
        as_face(data, "It")
    assert "0x" not in str(error.value)  # no address of an object


def test_a_picture_that_would_fill_the_memory_is_not_opened() -> None:
    png = saved(Image.fromarray(NOISE), "PNG")
    header = b"IHDR" + struct.pack(">II", 10_000, 10_000) + png[24:29]
    bomb = png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]
    with pytest.raises(UserError, match="pixels"):
        as_face(bomb, "It")


@pytest.mark.parametrize("form", FORMATS)
def test_damaged_files_are_read_or_refused(form: str) -> None:
    """Whatever Pillow's readers raise for them."""
    rng = random.Random(form)
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = saved(Image.fromarray(NOISE).convert("RGB"), form, **({"exif": exif} if form in ("JPEG", "PNG") else {}))
    refused = 0
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(rng.choice([1, 2, 8])):
            data[rng.randrange(min(len(data), rng.choice([40, 400, 10_000])))] = rng.randrange(256)
        del data[rng.choice([len(data), len(data), rng.randrange(len(data))]) :]
        try:
            assert as_face(bytes(data), "It").shape == (48, 48)
        except UserError:
            refused += 1
    assert refused > 10
