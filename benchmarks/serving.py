"""Measure an MLflow model server: latency and throughput with one client and with many at once.

Serves a logged model with `mlflow models serve`, one worker, and sends it faces as arrays and pictures in base64, with
and without the search for faces. The clients run on the same machine as the server, in threads of one process.
"""

from __future__ import annotations

import base64
import http.client
import io
import json
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import click
import numpy as np
from PIL import Image

from benchmarks.machine import header
from benchmarks.mlflow_server import serving
from benchmarks.timing import table
from pipeline import cli
from pipeline.cli import Number
from pipeline.data.synthetic import dataset
from pipeline.files import JsonDict
from pipeline.tracking import store

CLIENTS = (1, 16)
BATCH = 64
"""Faces of the largest request."""
PHOTO = (640, 480)


def requests() -> dict[str, JsonDict]:
    """Return a request of each kind, of drawn faces."""
    faces = dataset.draw(dataset.Synthetic(seed=3, train=BATCH, val=1, test=1, ambiguity=0.3)).images
    photo = Image.new("L", PHOTO, 160)
    photo.paste(Image.fromarray(faces[0]).resize((240, 240)), (200, 120))
    arrays = [{"pixels": face.tolist()} for face in faces[:BATCH]]
    return {
        "a face as an array": {"dataframe_records": arrays[:1]},
        f"{BATCH} faces as arrays": {"dataframe_records": arrays},
        "a face as PNG": {
            "dataframe_records": [{"image": _png(Image.fromarray(faces[0]))}],
            "params": {"detect": False},
        },
        f"a photograph, {PHOTO[0]} x {PHOTO[1]}": {"dataframe_records": [{"image": _png(photo)}]},
    }


def latencies(address: str, request: JsonDict, clients: int, seconds: float) -> list[float]:
    """Return the seconds that each answer took while so many clients asked without a pause.

    Raises RuntimeError for an answer that is not status 200.
    """
    body, found, wrong = json.dumps(request).encode(), list[float](), list[str]()
    end = time.perf_counter() + seconds

    def ask() -> None:
        connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
        while time.perf_counter() < end and not wrong:
            start = time.perf_counter()
            connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = response.read()
            found.append(time.perf_counter() - start)
            if response.status != 200:
                wrong.append(f"status {response.status}: {answer[:300]!r}")
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if wrong or not found:
        raise RuntimeError(wrong[0] if wrong else "no answer came")
    return found


def lines_of(address: str, seconds: float) -> Iterator[list[str]]:
    """Yield the lines of the table: each kind of request with each number of clients."""
    for name, request in requests().items():
        faces = len(request["dataframe_records"])
        for clients in CLIENTS:
            latencies(address, request, clients, seconds / 5)  # threads and memory
            start = time.perf_counter()
            found = latencies(address, request, clients, seconds)
            spent = time.perf_counter() - start
            times = [f"{1000 * value:.1f}" for value in np.percentile(found, (50, 95, 99))]
            yield [name, str(clients), *times, f"{len(found) / spent:,.1f}", f"{faces * len(found) / spent:,.1f}"]


def _png(image: Image.Image) -> str:
    content = io.BytesIO()
    image.save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()


class Address(click.ParamType[str, str]):
    """A model as MLflow addresses it, `models:/fer@champion`, or the folder of one."""

    name = "address"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value.startswith(("models:/", "runs:/")) and not (Path(value) / "MLmodel").is_file():
            self.fail(f"must begin with models:/ or runs:/, or be the folder of a model, not {value!r}", param, ctx)
        return value


MODEL = click.Argument(
    ["model"], type=Address(), default="models:/fer@champion", help="The model's address in MLflow, or its folder."
)
SECONDS = click.Option(["--seconds"], type=Number(), default=10, help="How long each kind of request is measured.")


def main(model: str, seconds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        command = ("models", "serve", "--model-uri", model, "--env-manager", "local")
        with serving(*command, cwd=Path.cwd(), log=log, MLFLOW_TRACKING_URI=store.store().uri) as address:
            lines = list(lines_of(address, seconds))
    print(header("mlflow", "onnxruntime"))
    print(f"{model}, one worker; milliseconds from request to answer\n")
    print(table(["request", "clients", "median", "95 %", "99 %", "answers/s", "pictures/s"], lines))


if __name__ == "__main__":
    cli.script(main, MODEL, SECONDS, example="models:/fer@champion")
