"""The page in a real browser: chosen, dropped and filmed faces, by mouse, keyboard and screen reader."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.data.fer import LABELS
from pipeline.demo.answer import reading
from pipeline.inference import Recogniser
from tests.browser import CHROMIUM, Browser
from tests.demo_server import demo
from tests.models import drawn_faces, photograph, two_models

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed: apt-get install chromium"),
]
FACES = drawn_faces(24)[17:20]
PHOTO = photograph(FACES[:2], (640, 480))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("dlib")
    made = two_models(tmp_path_factory.mktemp("demo"))
    PHOTO.save(made / "photo.png")
    (made / "broken.png").write_bytes(b"nothing")
    (made / "film.y4m").write_bytes(film(PHOTO))
    return made


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with demo(folder / "models" / "baseline-0", folder / "models" / "other-0") as served:
        yield served


@pytest.fixture(scope="module")
def expected(folder: Path) -> list[str]:
    """What is said of the two faces."""
    faces = Recogniser(folder / "models" / "baseline-0", threads=1).predict(PHOTO)
    return [reading(face.probabilities) for face in faces]


def film(picture: Image.Image) -> bytes:
    """Two frames of a still picture as YUV4MPEG2, which Chromium takes for a camera."""
    planes = [np.asarray(plane) for plane in picture.convert("YCbCr").split()]
    frame = b"".join(plane[::step, ::step].tobytes() for plane, step in zip(planes, (1, 2, 2), strict=True))
    head = f"YUV4MPEG2 W{picture.width} H{picture.height} F10:1 Ip A1:1 C420jpeg\n".encode()
    return head + 2 * (b"FRAME\n" + frame)


def pixels(browser: Browser) -> int:
    """A digest of what is on the canvas."""
    script = "[...pen.getImageData(0, 0, 640, 480).data]"
    return int(browser.evaluate(f"{script}.reduce((sum, value, n) => (sum + value * (n % 997)) % 1e9, 0)"))


@pytest.mark.parametrize("way", ["choose", "drop"])
def test_a_photograph_is_read(way: str, folder: Path, address: str, expected: list[str], tmp_path: Path) -> None:
    with Browser(tmp_path / "profile") as browser:
        browser.open(address)
        browser.wait("What the model sees")
        if way == "choose":
            browser.choose("#file", folder / "photo.png")
        else:
            browser.drop("#drop", folder / "photo.png")
        shown = browser.wait("2 faces", "Face 1", "Face 2", "baseline-0", "other-0")
        assert all(said in shown for said in expected)
        assert shown.count("happy\n") >= 4, "of two faces by two models"
        assert browser.evaluate("[canvas.width, canvas.height]") == [640, 480]
        green = "[...pen.getImageData(0, 0, 640, 480).data]"
        count = f"{green}.filter((v, n, all) => n % 4 == 0 && v < 40 && all[n + 1] > 180 && all[n + 2] < 40).length"
        assert browser.evaluate(count) > 400, "boxes"
        browser.click("The picture is one face")  # read again, as one
        browser.wait("1 face:")
        browser.click("The picture is one face")
        browser.wait("2 faces")
        browser.choose("#file", folder / "broken.png")
        browser.wait("cannot be read")
        assert browser.evaluate("document.querySelector('[role=alert]').textContent.endsWith('.')")


def test_keyboard_and_screen_reader_reach_everything(
    folder: Path, address: str, expected: list[str], tmp_path: Path
) -> None:
    with Browser(tmp_path / "profile") as browser:
        browser.open(address)
        browser.wait("What the model sees")
        names = []
        for _ in range(3):
            browser.press("Tab")
            names.append(browser.evaluate("document.activeElement.id"))
        assert names == ["file", "camera", "whole"]
        browser.choose("#file", folder / "photo.png")
        browser.wait("2 faces")
        told = browser.accessible()
        roles = {role for role, _ in told}
        assert {"main", "heading", "button", "checkbox", "status", "alert", "image", "meter", "region"} <= roles
        assert ("checkbox", "The picture is one face") in told
        assert any(role == "image" and expected[0] in name for role, name in told)
        for label in LABELS:
            assert sum(one == ("button", label) for one in told) == 4
            assert sum(one == ("meter", label) for one in told) == 4
        unnamed = [
            role for role, name in told if role in ("button", "checkbox", "image", "meter", "region") and not name
        ]
        assert unnamed == []
        plain = pixels(browser)
        browser.evaluate("document.activeElement.focus()")
        browser.press("Tab", "Enter")  # the first class of the first face
        assert browser.evaluate("document.activeElement.ariaPressed") == "true"
        assert pixels(browser) != plain, "its map"
        browser.press("Space")
        assert pixels(browser) == plain


def test_a_face_before_the_camera_is_read_until_it_stops(
    folder: Path, address: str, expected: list[str], tmp_path: Path
) -> None:
    options = (
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-video-capture={folder / 'film.y4m'}",
    )
    with Browser(tmp_path / "profile", *options) as browser:
        browser.open(address)
        browser.wait("What the model sees")
        browser.click("Camera")
        browser.wait("2 faces", "Face 2")
        assert browser.evaluate("document.querySelector('#camera').ariaPressed") == "true"
        browser.click("Camera")
        browser.until(lambda: browser.evaluate("video.srcObject === null"), "end of the film")
        # Clicked twice before the camera answers: it is not left running.
        browser.evaluate(
            "window.opened = []; const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);"
            "navigator.mediaDevices.getUserMedia = async wish => { const found = await ask(wish); opened.push(found);"
            " return found; }; byId('camera').click(); byId('camera').click(); null"
        )
        browser.until(lambda: browser.evaluate("opened.length") == 2, "two cameras")
        browser.until(lambda: browser.evaluate("opened.filter(one => one.active).length") == 1, "one camera")
        browser.wait("2 faces")
        browser.click("Camera")
        browser.until(lambda: browser.evaluate("opened.filter(one => one.active).length") == 0, "no camera")


def test_nothing_is_asked_of_anybody_else(folder: Path, address: str, tmp_path: Path) -> None:
    with Browser(tmp_path / "profile") as browser:
        browser.open(address)
        browser.wait("What the model sees")
        browser.choose("#file", folder / "photo.png")
        browser.wait("2 faces")
        loaded = browser.evaluate("performance.getEntriesByType('resource').map(entry => entry.name)")
        assert [name for name in loaded if not name.startswith((address, "data:"))] == []
        kept = "localStorage.length + sessionStorage.length + document.cookie.length"
        assert browser.evaluate(kept) == 0
