"""`fer predict` as it is typed: one picture, a folder with all kinds of files, a video, standard input."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline import cli
from pipeline.__main__ import fer
from pipeline.data.fer import LABELS
from pipeline.evaluation.models import model_output
from pipeline.files import write_csv
from pipeline.inference import Recogniser
from pipeline.inference.report import Json, Saved
from pipeline.inference.sources import Item
from pipeline.training.hardware import EVALUATION
from pipeline.training.saved_model import load_trained, predict
from tests.clone import ROOT
from tests.models import drawn_faces, exported_model, photograph

FACES = drawn_faces(24)[17:20]
Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported_model(tmp_path_factory.mktemp("outputs"))


@pytest.fixture
def typed(model: Path, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Run `fer predict` in this process; exit code, standard output and standard error."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        code = 0
        try:
            cli.run(fer, ["predict", *map(str, arguments), "--model", str(model), "--threads", "1"])
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


@pytest.fixture
def face(tmp_path: Path) -> Path:
    path = tmp_path / "face.png"
    Image.fromarray(FACES[0]).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a photograph of two faces, one of nobody, and files that cannot be read."""
    pytest.importorskip("dlib")
    made = tmp_path / "pictures"
    (made / "b").mkdir(parents=True)
    photograph(FACES[:2]).save(made / "two.jpg")
    Image.new("RGB", (200, 100), "grey").save(made / "b" / "nobody.png")
    (made / "b" / "broken.png").write_bytes(b"nothing")
    (made / "raw.HEIC").write_bytes(b"whatever")
    (made / "notes.txt").write_text("no picture")
    (made / ".hidden.png").write_bytes(b"nothing")
    return made


def listing(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_way_to_the_model_gives_the_same_probabilities(model: Path, face: Path, typed: Typed) -> None:
    """The stage evaluate, the exported file, Python's two lines and the command: to 1e-5."""
    network, loss = load_trained(model)
    pixels = torch.from_numpy(FACES[:1])[:, None]
    expected = model_output(loss, predict(network, pixels, EVALUATION)).probabilities[0]
    reader = Recogniser(model, detect=False, threads=1)
    code, out, err = typed(face, "--no-detect", "--json")
    assert (code, err) == (0, "")
    (told,) = json.loads(out)["faces"]
    for found in (
        reader.engine.probabilities(FACES[:1])[0].tolist(),
        list(reader.predict(face)[0].probabilities.values()),
        list(told["probabilities"].values()),
    ):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert told["expression"] == LABELS[int(expected.argmax())]


@pytest.mark.medium
def test_neither_torch_nor_mlflow_nor_dvc_is_imported(model: Path, tmp_path: Path) -> None:
    """With everything in use: finding faces, a video, copies with boxes."""
    pytest.importorskip("dlib")
    photograph(FACES[:1]).save(tmp_path / "photo.jpg")
    code = (
        "import sys; from pipeline.__main__ import main; import pipeline.inference.video; main();"
        " heavy = {'torch', 'mlflow', 'dvc', 'onnx', 'gensim', 'scipy', 'sklearn', 'matplotlib', 'pandas', 'captum'};"
        " sys.exit(', '.join(heavy & sys.modules.keys()) or 0)"
    )
    words = ["predict", tmp_path / "photo.jpg", "--model", model, "--save", tmp_path / "new"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "photo.jpg" in done.stdout


def test_a_folder_is_read_to_its_end(folder: Path, typed: Typed) -> None:
    before = listing(folder)
    code, out, err = typed(folder)
    assert code == 1
    lines = out.splitlines()
    assert [line.split()[0] for line in lines] == ["two.jpg", "two.jpg", "b/nobody.png"]
    assert "no face found" in lines[2]
    *said, last = err.splitlines()
    assert [line.split(" ")[0] for line in said] == [str(folder / "raw.HEIC"), str(folder / "b/broken.png")]
    assert "2 of 4" in last
    assert listing(folder) == before


def test_json_has_a_line_per_file_and_csv_a_row_per_face(folder: Path, typed: Typed) -> None:
    _, out, _ = typed(folder, "--json")
    told = [json.loads(line) for line in out.splitlines()]
    assert [len(entry.get("faces", ["error"])) for entry in told] == [1, 2, 1, 0]
    assert ["error" in entry for entry in told] == [True, False, True, False]
    _, out, _ = typed(folder, "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert len(rows) == 3
    two = next(entry for entry in told if entry["picture"].endswith("two.jpg"))
    for row, face in zip(rows[:2], two["faces"], strict=True):
        assert row["expression"] == face["expression"]
        assert [int(row[name]) for name in ("left", "top", "width", "height")] == face["box"]
        assert {name: float(row[name]) for name in LABELS} == pytest.approx(face["probabilities"], abs=1e-6)
    assert [rows[2][name] for name in ("seconds", "left", "expression", "happy")] == [""] * 4


def test_copies_have_boxes_and_keep_the_folders(folder: Path, tmp_path: Path, typed: Typed) -> None:
    code, _, _ = typed(folder, "--save", tmp_path / "new")
    assert code == 1
    saved = tmp_path / "new"
    assert {path.relative_to(saved).as_posix() for path in saved.rglob("*.*")} == {"two.jpg", "b/nobody.png.jpg"}
    with Image.open(saved / "two.jpg") as copy, Image.open(folder / "two.jpg") as first:
        assert copy.size == first.size
        changed = np.abs(np.asarray(copy).astype(int) - np.asarray(first)).max(axis=2) > 60
    assert 0.01 < changed.mean() < 0.3
    before = listing(saved)
    code, out, err = typed(folder, "--save", saved)
    assert (code, out) == (1, "")
    assert "--save" in err
    assert listing(saved) == before


@pytest.mark.parametrize("place", ["/proc/boxes", "taken/boxes", "x" * 300], ids=range(3))
def test_a_folder_that_cannot_be_made_is_named_before_anything_is_read(
    typed: Typed, face: Path, tmp_path: Path, place: str
) -> None:
    (tmp_path / "taken").write_text("a file")
    code, out, err = typed(face, "--save", tmp_path / place)
    assert (code, out) == (1, "")
    assert err.startswith("error: --save: ")
    assert err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["face.png", "taken"]


def test_a_video_has_times(tmp_path: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=4)
        stream.width, stream.height, stream.pix_fmt = 96, 96, "yuv420p"
        for _ in range(9):
            frame = av.VideoFrame.from_image(Image.fromarray(FACES[0]).resize((96, 96)).convert("RGB"))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    saved = tmp_path / "new"
    code, out, _ = typed(tmp_path / "clip.mp4", "--no-detect", "--json", "--save", saved)
    assert code == 0
    assert [json.loads(line)["seconds"] for line in out.splitlines()] == [0, 1, 2]
    assert sorted(path.name for path in saved.iterdir()) == [f"clip.mp4.{seconds:09.3f}.jpg" for seconds in (0, 1, 2)]
    monkeypatch.setattr(Recogniser, "crops", lambda self, picture: (_ for _ in ()).throw(MemoryError))
    code, out, err = typed(tmp_path / "clip.mp4", "--no-detect", "--json")
    told = [json.loads(line) for line in out.splitlines()]
    assert (code, [entry["seconds"] for entry in told]) == (1, [0, 1, 2])
    assert all("more memory" in entry["error"] for entry in told)
    monkeypatch.undo()
    code, _, err = typed(tmp_path / "clip.mp4", "--no-detect", "--every", "nan")
    assert code == 1
    assert "--every" in err


def test_frames_that_follow_at_once_have_copies_of_their_own(tmp_path: Path) -> None:
    saved = Saved(tmp_path, tmp_path / "clip.mp4")
    frames = [Item(str(tmp_path / "clip.mp4"), seconds=seconds) for seconds in (0.008, 0.017, 12.009, 12.0)]
    assert len({saved.path(frame) for frame in frames}) == 4


def test_no_copy_replaces_another_and_any_picture_has_one(tmp_path: Path) -> None:
    saved = Saved(tmp_path / "new", tmp_path)
    small, wide = Image.new("RGB", (9, 9)), Image.new("RGB", (70_000, 2))
    pictures = {
        "scan.png": small,
        "scan.png.jpg": small,
        "SCAN.PNG.2.jpg": small,
        f"{'n' * 240}é.png": small,
        "w.png": wide,
    }
    for name, picture in pictures.items():
        saved.add(Item(str(tmp_path / name), picture), [])
    copies = [*(tmp_path / "new").iterdir()]
    assert len(copies) == len(pictures)
    for copy in copies:
        with Image.open(copy) as image:
            assert image.size == (wide if copy.name.startswith("w.") else small).size


def test_what_cannot_be_read_in_a_folder_is_named(folder: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    walk = os.walk

    def closed(path: Path, onerror: Callable[[OSError], None]) -> Iterator[tuple[str, list[str], list[str]]]:
        onerror(PermissionError(13, "Permission denied", str(folder / "secret")))
        yield from walk(path)

    monkeypatch.setattr(os, "walk", closed)
    code, _, err = typed(folder)
    assert code == 1
    assert {"gone.png", "secret"} <= {Path(line.split(" cannot")[0]).name for line in err.splitlines()}
    assert "4 of 6" in err


def test_a_file_that_may_not_be_looked_at_is_named_and_the_others_follow(
    folder: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a folder that may be listed but not entered."""
    is_file = Path.is_file

    def closed(path: Path) -> bool:
        if path.name == "nobody.png":
            raise PermissionError(13, "Permission denied", str(path))
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", closed)
    code, out, err = typed(folder)
    assert code == 1
    assert {line.split()[0] for line in out.splitlines()} == {"two.jpg"}
    assert "b/nobody.png cannot be read (Permission denied)" in err


@pytest.mark.medium
@pytest.mark.parametrize("name", ["face.png", "wide.png"])
def test_a_full_disk_leaves_no_part_of_a_copy(name: str, model: Path, tmp_path: Path) -> None:
    """Pillow's JPEG encoder does not say that a disk took a part only."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 300)).astype(np.uint8))
    (picture if name == "face.png" else picture.resize((66_000, 2))).save(tmp_path / name)
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        " resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)); from pipeline.__main__ import main; main()"
    )
    words = ["predict", tmp_path / name, "--no-detect", "--model", model, "--save", tmp_path / "new"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert not [*(tmp_path / "new").iterdir()]


def test_a_picture_that_cannot_be_read_leaves_no_folder_for_copies(tmp_path: Path, typed: Typed) -> None:
    (tmp_path / "broken.png").write_bytes(b"nothing")
    (tmp_path / "mine").mkdir()
    for name in ("new", "mine"):
        assert typed(tmp_path / "broken.png", "--no-detect", "--save", tmp_path / name)[0] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.png", "mine"]


def test_one_form_of_output_at_a_time(face: Path, typed: Typed) -> None:
    code, out, err = typed(face, "--json", "--csv")
    assert (code, out) == (1, "")
    assert "--csv" in err


@pytest.mark.parametrize("name", ["a.apng", "a.mpo", "a.hif", "a.RW2", "a.m2ts", "a.vob"])
def test_no_kind_of_picture_or_video_is_left_out_in_silence(name: str, tmp_path: Path, typed: Typed) -> None:
    (tmp_path / name).write_bytes(b"whatever")
    code, _, err = typed(tmp_path, "--no-detect")
    assert code == 1
    assert name in err


def test_a_file_may_be_called_like_standard_input(face: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    face.rename(face.parent / "-")
    monkeypatch.chdir(face.parent)
    monkeypatch.setattr(sys, "stdin", None)
    code, out, _ = typed("./-", "--no-detect", "--json")
    assert code == 0
    assert json.loads(out)["picture"].endswith("/-")
    code, _, err = typed("-", "--no-detect")
    assert code == 1
    assert "standard input cannot be read" in err


def test_json_is_json_also_where_nothing_but_ascii_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for encoding, shown in (("ascii", rb"\u00e9\ud83d\ude00"), ("utf-8", "é😀".encode())):
        written = io.BytesIO()
        stream = io.TextIOWrapper(written, encoding=encoding, errors="backslashreplace")
        monkeypatch.setattr(sys, "stdout", stream)
        Json().add(Item("é😀.jpg", error="no"), [])
        stream.flush()
        assert shown in written.getvalue()
        assert json.loads(written.getvalue().decode(encoding))["picture"] == "é😀.jpg"


def test_standard_input_is_a_picture(face: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stream:
        buffer = io.BytesIO(face.read_bytes())

    monkeypatch.setattr(sys, "stdin", Stream)
    _, expected, _ = typed(face, "--no-detect", "--csv")
    code, out, _ = typed("-", "--no-detect", "--csv")
    assert code == 0
    assert [row.split(",")[1:] for row in out.splitlines()] == [row.split(",")[1:] for row in expected.splitlines()]


def test_no_face_is_no_error_and_names_the_option(tmp_path: Path, typed: Typed) -> None:
    pytest.importorskip("dlib")
    Image.new("RGB", (200, 100), "grey").save(tmp_path / "wall.png")
    code, out, err = typed(tmp_path / "wall.png")
    assert code == 0
    assert "no face found" in out
    assert "--no-detect" in err


@pytest.mark.parametrize("name", ["broken.jpg", "broken.mp4", "other.heic"])
def test_a_single_file_that_cannot_be_read_is_one_sentence(name: str, tmp_path: Path, typed: Typed) -> None:
    (tmp_path / name).write_bytes(b"nothing")
    code, out, err = typed(tmp_path / name, "--no-detect")
    assert (code, out) == (1, "")
    (line,) = err.splitlines()
    assert name in line


def test_a_folder_without_pictures_is_an_error(tmp_path: Path, typed: Typed) -> None:
    write_csv(tmp_path / "mine" / "table.csv", ["a"], [])
    code, _, err = typed(tmp_path / "mine", "--no-detect")
    assert code == 1
    assert "has no pictures" in err
