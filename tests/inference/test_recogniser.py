"""The two lines of Python: any picture in, faces with probabilities out, by the same steps as in training."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from pipeline.data.fer import LABELS
from pipeline.data.pictures import as_face
from pipeline.errors import UserError
from pipeline.inference import Recogniser, recogniser
from tests.models import drawn_faces, exported_model, photograph

FACES = drawn_faces(24)[17:20]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported_model(tmp_path_factory.mktemp("outputs"))


@pytest.fixture(scope="module")
def cropped(model: Path) -> Recogniser:
    return Recogniser(model, detect=False, threads=1)


def saved(image: Image.Image, form: str = "PNG", **settings: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, form, **settings)
    return content.getvalue()


def exif(orientation: int) -> Image.Exif:
    made = Image.Exif()
    made[0x0112] = orientation
    return made


def probabilities(recogniser: Recogniser, picture: recogniser.Picture) -> npt.NDArray[np.float64]:
    return np.array([list(face.probabilities.values()) for face in recogniser.predict(picture)])


COLOUR = Image.merge("RGB", [Image.fromarray(np.roll(FACES[0], shift, 0)).resize((90, 70)) for shift in (0, 1, 2)])
PICTURES = {
    "grey": saved(Image.fromarray(FACES[0])),
    "colour": saved(COLOUR),
    "jpeg": saved(COLOUR, "JPEG"),
    "cmyk": saved(COLOUR.convert("CMYK"), "JPEG"),
    "turned": saved(COLOUR, "JPEG", exif=exif(6)),
    "mirrored": saved(COLOUR, "PNG", exif=exif(5)),
    "alpha": saved(Image.merge("RGBA", (*COLOUR.split(), COLOUR.split()[1]))),
    "grey with alpha": saved(COLOUR.convert("LA")),
    "16 bits": saved(Image.fromarray(FACES[0].astype(np.uint16) * 200)),
    "palette": saved(COLOUR.quantize(40)),
    "one bit": saved(COLOUR.convert("1")),
    "animated gif": saved(COLOUR, "GIF", save_all=True, append_images=[COLOUR.rotate(90)]),
    "webp": saved(COLOUR, "WEBP"),
    "tiff": saved(COLOUR, "TIFF"),
    "bmp": saved(COLOUR, "BMP"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_of_a_face_is_what_training_would_read(name: str, cropped: Recogniser) -> None:
    """Training reads pictures by `as_face`; the same steps for the same pixels, whatever the form."""
    face = as_face(PICTURES[name], name)
    expected = cropped.engine.probabilities(face[None])
    np.testing.assert_array_equal(probabilities(cropped, PICTURES[name]), expected)


def test_files_bytes_images_and_arrays_are_the_same_picture(cropped: Recogniser, tmp_path: Path) -> None:
    content = saved(COLOUR)
    (tmp_path / "photo.png").write_bytes(content)
    expected = probabilities(cropped, content)
    for picture in (tmp_path / "photo.png", str(tmp_path / "photo.png"), COLOUR, np.asarray(COLOUR)):
        np.testing.assert_array_equal(probabilities(cropped, picture), expected)


def test_faces_have_boxes_and_ranked_classes(model: Path) -> None:
    pytest.importorskip("dlib")
    faces = Recogniser(str(model), threads=1).predict(photograph(FACES[:2]))
    assert [round(face.box.left / 320 - 0.3) for face in faces] == [0, 1]
    for face in faces:
        assert tuple(face.probabilities) == LABELS
        assert sum(face.probabilities.values()) == pytest.approx(1, abs=1e-5)
        ordered = [face.probabilities[name] for name in face.ranked]
        assert ordered == sorted(ordered, reverse=True)
        assert face.expression == face.ranked[0]


def test_a_turned_photograph_has_the_same_faces(model: Path) -> None:
    pytest.importorskip("dlib")
    upright, reader = photograph(FACES[:2]), Recogniser(model, threads=1)
    turned = saved(upright.rotate(90, expand=True), exif=exif(6))  # a camera held upright
    assert reader.predict(turned) == reader.predict(upright)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF"])
def test_an_image_of_pillows_is_read_as_its_file_is(form: str, cropped: Recogniser, tmp_path: Path) -> None:
    """Upright too: Pillow opens a photograph as the camera was held."""
    file = tmp_path / "photo"
    file.write_bytes(saved(COLOUR, form, exif=exif(6)))
    with Image.open(file) as image:
        assert cropped.predict(image) == cropped.predict(file) != cropped.predict(COLOUR)


def test_grey_levels_of_16_bits_may_have_a_hole(cropped: Recogniser) -> None:
    levels = FACES[0].astype(np.uint16) * 200
    levels[:24] = 7
    filled = FACES[0].copy() * np.uint8(0) + ((levels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    filled[:24] = 255
    image = Image.fromarray(levels)
    image.info["transparency"] = 7
    assert cropped.predict(image) == cropped.predict(filled)


def test_a_search_that_needs_too_much_memory_ends_no_other(
    cropped: Recogniser, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = [*map(Image.fromarray, drawn_faces(3))]
    find = cropped.crops

    def crops(picture: Image.Image) -> list[recogniser.Crop]:
        if picture is pictures[1]:
            raise MemoryError
        return find(picture)

    expected = [cropped.predict(pictures[0]), None, cropped.predict(pictures[2])]
    monkeypatch.setattr(cropped, "crops", crops)
    assert [faces for _, faces in cropped.predict_each(enumerate(pictures))] == expected
    monkeypatch.setattr(cropped, "crops", lambda picture: crops(pictures[1]))
    with pytest.raises(UserError, match="more memory than there is"):
        cropped.predict(pictures[0])


def test_no_face_is_an_answer(model: Path) -> None:
    pytest.importorskip("dlib")
    assert Recogniser(model, threads=1).predict(Image.new("RGB", (300, 200), "grey")) == []


@pytest.mark.parametrize("limit", ["FACES", "PIXELS"])
def test_pictures_are_classified_together_and_stay_in_order(
    limit: str, cropped: Recogniser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In groups of any size; a picture that could not be read has no faces and keeps its place."""
    monkeypatch.setattr(recogniser, limit, 2 if limit == "FACES" else 2 * 48 * 48)
    calls: list[int] = []
    ask = cropped.engine.probabilities

    def counted(faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        calls.append(len(faces))
        return ask(faces)

    monkeypatch.setattr(cropped.engine, "probabilities", counted)
    pictures = [None, *map(Image.fromarray, drawn_faces(5)), None]
    found = list(cropped.predict_each(enumerate(pictures)))
    assert calls == [2, 2, 1]
    assert [number for number, _ in found] == list(range(7))
    for (_, faces), picture in zip(found, pictures, strict=True):
        assert faces == (cropped.predict(picture) if picture else [])


@pytest.mark.parametrize(
    "picture",
    [b"", b"nothing", Path("no such file.png"), ".", "a\0b.png", np.zeros((3, 3, 4), np.uint8), np.zeros((2, 2)),
     np.zeros((0, 5), np.uint8), Image.fromarray(np.ones((2, 2), np.float32)), Image.new("L", (0, 0)),
     Image.open(io.BytesIO(saved(COLOUR, "JPEG")[:900])), np.broadcast_to(np.uint8(0), (9_500, 9_500))],
)  # fmt: skip
def test_what_is_no_picture_is_refused_in_a_sentence(picture: recogniser.Picture, cropped: Recogniser) -> None:
    with pytest.raises(UserError) as error:
        cropped.predict(picture)
    assert str(error.value).endswith(".")


def test_a_file_that_is_too_large_is_not_read_whole(
    cropped: Recogniser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("pipeline.data.pictures", "pipeline.inference.recogniser"):
        monkeypatch.setattr(f"{module}.MAX_BYTES", 1 << 20)
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(1 << 40)  # with holes
    with pytest.raises(UserError, match=r"huge\.png has more than 1 MiB"):
        cropped.predict(tmp_path / "huge.png")
