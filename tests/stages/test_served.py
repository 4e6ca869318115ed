"""One face by every way that there is, the champion on a real server, and what that refuses."""

from __future__ import annotations

import base64
import csv
import io
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
import numpy as np
import onnxruntime
import pytest
from PIL import Image

from benchmarks import serving as benchmark
from benchmarks.mlflow_server import serving
from pipeline.data.fer import LABELS
from pipeline.tracking.champion import ALIAS, NAME
from tests.clone import Clone
from tests.demo_server import demo

pytestmark = [pytest.mark.slow, pytest.mark.servers, pytest.mark.xdist_group("served")]


class Promoted(NamedTuple):
    """A clone whose champion is registered and served, and the run that it is of."""

    clone: Clone
    address: str
    run: str


@pytest.fixture(scope="module")
def promoted(finished: Clone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Promoted]:
    clone = finished.copy(tmp_path_factory.mktemp("served") / "fer")
    assert f"models:/{NAME}@{ALIAS} is version 1: " in clone.fer("backfill").stdout
    assert ALIAS not in clone.fer("backfill").stdout, "a second call changes nothing"
    uri = f"sqlite:///{clone.path / 'mlflow.db'}"
    version = mlflow.MlflowClient(uri).get_model_version_by_alias(NAME, ALIAS)
    command = ("models", "serve", "--model-uri", f"models:/{NAME}@{ALIAS}", "--env-manager", "local")
    log = clone.path.parent / "log"
    with serving(*command, cwd=clone.path.parent, log=log, MLFLOW_TRACKING_URI=uri) as address:
        yield Promoted(clone, address, version.tags["model"])


def post(address: str, body: bytes, kind: str = "application/json") -> tuple[int, Any]:
    request = urllib.request.Request(address, body, {"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def png(face: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    content = io.BytesIO()
    Image.fromarray(face).save(content, "PNG")
    return content.getvalue()


def test_the_champion_is_what_public_test_prefers(promoted: Promoted) -> None:
    outputs = promoted.clone.path / "outputs"
    accuracy = {file.stem: json.loads(file.read_text())["val"]["accuracy"] for file in outputs.glob("metrics/*.json")}
    assert accuracy[promoted.run] == max(accuracy.values())


def test_one_face_has_the_same_probabilities_by_all_five_ways(promoted: Promoted) -> None:
    clone, address, name = promoted
    onnx_file = clone.path / "outputs/onnx" / f"{name}.onnx"
    with (clone.path / f"outputs/predictions/{name}.csv").open() as file:
        row = next(csv.DictReader(file))  # what stages.evaluate wrote
    face = np.load(clone.path / "outputs/prepared/images.npy")[int(row["index"])]
    found = {"stages.evaluate": [float(row[label]) for label in LABELS]}

    session = onnxruntime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])
    found["ONNX"] = session.run(["probabilities"], {"images": face[None]})[0][0].tolist()

    picture = clone.path.parent / "face.png"
    picture.write_bytes(png(face))
    told = clone.fer("predict", str(picture), "--no-detect", "--json", "--model", f"outputs/models/{name}").stdout
    found["fer predict"] = [*json.loads(told)["faces"][0]["probabilities"].values()]

    with demo(onnx_file) as page:
        status, answer = post(f"{page}/read?face", png(face), "application/octet-stream")
    assert status == 200
    found["page"] = [*answer["faces"][0]["answers"][0]["probabilities"].values()]

    rows = [{"image": base64.b64encode(png(face)).decode()}, {"pixels": face.tolist()}]
    body = json.dumps({"dataframe_records": rows, "params": {"detect": False}}).encode()
    status, answer = post(f"{address}/invocations", body)
    assert status == 200
    for way, prediction in zip(("server, picture", "server, array"), answer["predictions"], strict=True):
        found[way] = [*prediction["faces"][0]["probabilities"].values()]

    for way, probabilities in found.items():
        np.testing.assert_allclose(probabilities, found["stages.evaluate"], rtol=0, atol=1e-5, err_msg=way)
    assert np.ptp(found["ONNX"]) > 1e-3, "equal probabilities would prove nothing"


MALFORMED = {
    "empty": b"",
    "cut": b"{",
    "list": b"[]",
    "no key": b"{}",
    "no UTF-8": b"\xff\xfe",
    "no rows": b'{"dataframe_records": []}',
    "no column": b'{"dataframe_records": [{"other": 1}]}',
    "no base64": b'{"dataframe_records": [{"image": "no base64!"}]}',
    "a number": b'{"dataframe_records": [{"image": 5}]}',
    "ragged": b'{"dataframe_records": [{"pixels": [[1, 2], [3]]}]}',
    "no records": b'{"dataframe_records": 5}',
    "no names": b'{"inputs": [[0, 1]]}',
    "too many": json.dumps({"dataframe_records": [{"pixels": [[0]]}] * 300}).encode(),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_request_is_400_with_a_sentence(name: str, promoted: Promoted) -> None:
    status, answer = post(f"{promoted.address}/invocations", MALFORMED[name])
    assert status == 400
    assert len(answer["message"].split()) > 3
    assert "Traceback" not in answer["message"]


def test_the_benchmark_measures_a_server(promoted: Promoted) -> None:
    lines = list(benchmark.lines_of(promoted.address, 0.5))
    assert len(lines) == len(benchmark.requests()) * len(benchmark.CLIENTS)
    assert all(float(line[2]) <= float(line[3]) <= float(line[4]) for line in lines)


def test_a_champion_of_other_accuracy_takes_the_name(finished: Clone, tmp_path: Path) -> None:
    """The alias moves, and moves back to the version that there is."""
    clone = finished.copy(tmp_path / "fer")
    for model in ("baseline", "w2v_cosine", "baseline"):
        clone.run(sys.executable, "-c", PREFER, model)
        assert f"{model}-0, " in clone.fer("backfill").stdout
    client = mlflow.MlflowClient(f"sqlite:///{clone.path / 'mlflow.db'}")
    assert client.get_model_version_by_alias(NAME, ALIAS).tags["model"] == "baseline-0"
    assert len(client.search_model_versions(f"name = '{NAME}'")) == 2


PREFER = """
import dataclasses, sys
from pipeline.comparison.rows import MetricSummary, read_rows, write_rows
from pipeline.workspace import TABLE

rows = []
for row in read_rows(TABLE):
    preferred = MetricSummary(float(row.model == sys.argv[1]))
    rows.append(dataclasses.replace(row, metrics={**row.metrics, "val.accuracy": preferred}))
write_rows(TABLE, rows)
"""
"""A comparison in which PublicTest prefers a model."""
