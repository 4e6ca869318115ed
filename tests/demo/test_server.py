"""The server of the page: what it answers, what it refuses, and that it keeps nothing."""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pytest
from PIL import Image

from pipeline import cli
from pipeline.__main__ import fer
from pipeline.data.fer import LABELS
from pipeline.data.pictures import MAX_BYTES
from pipeline.demo.server import CONTENT, application, headers_of
from pipeline.inference import Recogniser
from tests.demo_server import demo
from tests.models import drawn_faces, photograph, two_models

pytestmark = pytest.mark.medium
FACES = drawn_faces(24)[17:20]


class Answer(NamedTuple):
    status: int
    body: Any
    headers: dict[str, str]


class Served(NamedTuple):
    """A running server with two models in a folder."""

    address: str
    folder: Path

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection(self.address.removeprefix("http://"), timeout=60)
        try:
            connection.request(method, path, body, named)
            response = connection.getresponse()
            content, kind = response.read(), response.getheader("content-type", "")
        finally:
            connection.close()
        said = json.loads(content) if "json" in kind else content.decode()
        return Answer(response.status, said, {name.lower(): value for name, value in response.getheaders()})

    def read(self, content: bytes, path: str = "/read", **headers: str) -> Answer:
        return self.ask("POST", path, content, **{"content_type": "application/octet-stream"} | headers)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    pytest.importorskip("dlib")
    folder = two_models(tmp_path_factory.mktemp("demo"))
    with demo(folder / "models" / "baseline-0", folder / "onnx" / "other-0.onnx") as address:
        yield Served(address, folder)


def png(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


PHOTO = photograph(FACES[:2])


def test_it_says_what_both_models_make_of_every_face_and_keeps_nothing(served: Served) -> None:
    before = sorted(served.folder.rglob("*"))
    answer = served.read(png(PHOTO))
    assert answer.status == 200
    assert (answer.body["width"], answer.body["height"]) == PHOTO.size
    assert answer.body["models"] == ["baseline-0", "other-0"]
    for number, name in enumerate(answer.body["models"]):
        expected = Recogniser(served.folder / "onnx" / f"{name}.onnx", threads=1).predict(PHOTO)
        assert len(expected) == len(answer.body["faces"]) == 2
        for face, told in zip(expected, answer.body["faces"], strict=True):
            assert told["box"] == list(face.box)
            assert told["answers"][number]["probabilities"] == pytest.approx(face.probabilities, abs=1e-6)
    assert sorted(served.folder.rglob("*")) == before


def test_maps_are_of_every_class_on_one_scale(served: Served) -> None:
    (face,) = served.read(png(Image.fromarray(FACES[0])), "/read?face").body["faces"]
    assert face["box"] == [0, 0, 48, 48]
    assert face["square"] == [0, 0, 48]
    for answer in face["answers"]:
        maps = np.array([answer["maps"][name] for name in LABELS])
        assert maps.ndim == 3
        assert (maps.min(), maps.max()) == (0, 1)
    first, second = (answer["probabilities"] for answer in face["answers"])
    assert first != second


def test_no_face_is_an_answer(served: Served) -> None:
    answer = served.read(png(Image.new("RGB", (200, 100), "grey")))
    assert (answer.status, answer.body["faces"]) == (200, [])


@pytest.mark.parametrize("content", [b"", b"nothing", png(PHOTO)[:500], b"GIF89a" + bytes(40)])
def test_what_is_no_picture_is_a_sentence(content: bytes, served: Served) -> None:
    answer = served.read(content)
    assert answer.status == 400
    assert answer.body["error"].endswith(".")
    assert "Traceback" not in answer.body["error"]


def test_a_large_upload_is_turned_away_before_its_end(served: Served) -> None:
    """The client sends a little more than the limit and waits: the rest is never asked for."""
    host, port = served.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        head = f"POST /read HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/octet-stream\r\n"
        connection.sendall(f"{head}Content-Length: {1 << 40}\r\n\r\n".encode())
        for _ in range((MAX_BYTES >> 20) + 1):
            connection.sendall(bytes(1 << 20))
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("name", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", ""])
def test_another_name_that_points_here_reaches_nothing(name: str, served: Served) -> None:
    for answer in (served.ask("GET", "/", Host=name), served.read(png(PHOTO), Host=name)):
        assert answer.status == 400
        assert "faces" not in str(answer.body)


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1"])
def test_another_page_may_not_ask(origin: str, served: Served) -> None:
    assert served.read(png(PHOTO), Origin=origin).status == 403


def test_what_a_form_of_another_page_could_send_is_refused(served: Served) -> None:
    for kind in ("text/plain", "multipart/form-data", "application/x-www-form-urlencoded"):
        assert served.read(png(PHOTO), content_type=kind).status == 415
    assert served.ask("GET", "/read").status == 405
    assert served.ask("GET", "/../etc/passwd").status == 404


def test_every_answer_has_the_headers(served: Served) -> None:
    page = served.ask("GET", "/")
    assert page.status == 200
    wanted = headers_of(str(page.body))
    for answer in (page, served.ask("GET", "/nothing"), served.read(b""), served.ask("GET", "/", Host="a")):
        assert {name: answer.headers.get(name.lower()) for name in wanted} == wanted
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


def test_a_port_that_is_taken_is_a_sentence(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    port = served.address.rpartition(":")[2]
    with pytest.raises(SystemExit):
        cli.run(fer, ["demo", "--model", str(served.folder / "models" / "baseline-0"), "--port", port])
    assert f"error: Port {port} cannot be used" in capsys.readouterr().err


def test_an_origin_that_is_no_address_is_another_page(served: Served) -> None:
    assert served.read(b"", origin="http://[").status == 403


def test_nothing_is_said_of_who_hangs_up() -> None:
    """The server would print what is raised."""
    headers = {b"host": b"127.0.0.1", b"content-type": CONTENT.encode()}
    scope = {"type": "http", "method": "POST", "path": "/read", "query_string": b"", "headers": [*headers.items()]}
    received = iter([{"type": "http.request", "body": b"abc", "more_body": True}, {"type": "http.disconnect"}])

    async def receive() -> Any:
        return next(received)

    async def send(message: Any) -> None:
        pass

    asyncio.run(application(cast(Any, None))(scope, receive, send))
