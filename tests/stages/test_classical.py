"""Rows without a network through the stages, and the stage landmarks: in this process, and as DVC runs them."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from pipeline import config
from pipeline.data.duplicates import read_near_groups
from pipeline.data.fer import LABELS, FerData
from pipeline.data.synthetic.dataset import draw_landmarks
from pipeline.errors import UserError
from pipeline.landmarks import predictor
from pipeline.landmarks.neighbours import Neighbours
from pipeline.landmarks.points import Landmarks
from pipeline.workspace import LANDMARKS, NEIGHBOURS, PREPARED, RunKey
from stages import compare, embed, evaluate, fetch, landmarks, prepare, targets, train
from tests.clone import ROOT, Clone

PARAMS = config.load(ROOT / "params.yaml")
ROWS = ("geometry", "hog", "hog_boost")
SPEC = replace(PARAMS.data.synthetic, train=140, val=35, test=42)
FEW = {
    name: replace(PARAMS.models[name], options=PARAMS.models[name].options | {"stumps": stumps})
    for name, stumps in (("geometry", 40), ("hog_boost", 150))
}
SMALL = replace(
    PARAMS,
    data=replace(PARAMS.data, synthetic=SPEC),
    grid=config.Grid(ROWS, (0,)),
    models={**PARAMS.models, **FEW},
    compare=config.CompareParams("geometry", 200),
    machine=replace(PARAMS.machine, threads=1),
)
Use = Callable[..., None]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A workspace after fetch and prepare."""
    folder = tmp_path_factory.mktemp("drawn")
    with pytest.MonkeyPatch.context() as here:
        here.chdir(folder)
        here.setenv("DVC_ROOT", str(ROOT))  # for the files of words
        here.setenv("FER_TRACKING", "off")
        here.setattr(Figure, "savefig", lambda *_, **__: None)  # drawing takes longest, and has tests of its own
        here.setattr(config, "load", lambda: SMALL)
        fetch.main()
        prepare.main()
        yield folder


@pytest.fixture
def use(drawn: Path, monkeypatch: pytest.MonkeyPatch) -> Use:
    """Let stages read other parameters."""

    def other(**changes: object) -> None:
        monkeypatch.setattr(config, "load", lambda: replace(SMALL, **changes))  # type: ignore[arg-type]

    return other


@pytest.mark.medium
def test_drawn_faces_have_the_drawers_landmarks(use: Use) -> None:
    use()
    landmarks.main()
    found = Landmarks.load(LANDMARKS)
    assert found is not None
    np.testing.assert_array_equal(found.points, draw_landmarks(SPEC))
    with np.load(NEIGHBOURS) as archive:
        index, weight = archive["index"], archive["weight"]
    assert (index.shape, str(index.dtype), str(weight.dtype)) == ((140, 8), "int32", "float32")
    groups = read_near_groups(PREPARED / "duplicates.csv", 140 + 35 + 42)[:140]
    assert (groups >= 0).any()
    assert not ((groups[index] == groups[:, None]) & (groups[:, None] >= 0)).any()
    assert ((weight > 0) & (weight <= 1)).all()
    data = FerData.load(PREPARED)
    same = data.labels[:140][index] == data.labels[:140, None]
    assert same.mean() > 0.4, "similar faces show similar expressions; chance is a sixth"


@pytest.mark.medium
def test_near_duplicates_are_no_neighbours(use: Use, monkeypatch: pytest.MonkeyPatch) -> None:
    use()
    landmarks.main()
    nearest = Neighbours.load(NEIGHBOURS).index[:, 0]
    groups = np.full(140 + 35 + 42, -1)
    groups[[5, nearest[5]]] = 3
    monkeypatch.setattr(landmarks, "read_near_groups", lambda file, count: groups)
    landmarks.main()
    found = Neighbours.load(NEIGHBOURS).index
    assert nearest[5] not in found[5]
    changed = np.flatnonzero(found[:, 0] != nearest)
    assert 5 in changed
    assert set(changed) <= {5, nearest[5]}


@pytest.mark.medium
def test_without_a_source_nothing_is_found(use: Use) -> None:
    use(landmarks=replace(SMALL.landmarks, source="none"))
    landmarks.main()
    assert Landmarks.load(LANDMARKS) is None
    with np.load(NEIGHBOURS) as archive:
        assert list(archive) == []


@pytest.mark.medium
def test_photographs_have_no_landmarks_unless_dlib_is_asked(use: Use, monkeypatch: pytest.MonkeyPatch) -> None:
    photographs = replace(SMALL.data, source="archive", path="fer2013.csv")
    use(data=photographs)
    landmarks.main()
    assert Landmarks.load(LANDMARKS) is None

    def find(images: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], file: Path) -> Landmarks:
        assert file.name == "shape_predictor_68_face_landmarks.dat"
        points = draw_landmarks(SPEC)
        return Landmarks(points, np.arange(len(points)) % 5 > 0)

    monkeypatch.setattr(predictor, "find", find)
    use(data=photographs, landmarks=replace(SMALL.landmarks, source="dlib"))
    landmarks.main()
    with np.load(NEIGHBOURS) as archive:
        assert (archive["weight"][::5] == 0).all()
        assert (archive["weight"][1::5] > 0).all()
        assert (archive["index"][1::5] % 5 > 0).all()


@pytest.mark.medium
def test_the_three_rows_are_trained_evaluated_and_compared(use: Use, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("skimage")
    use()
    for stage in (landmarks, embed, targets):
        stage.main()
    for name in ROWS:
        train.main(name, 0)
        evaluate.main(name, 0)
    compare.main()

    rows = json.loads(Path("outputs/reports/ablation.json").read_text(encoding="utf-8"))
    assert [row["model"] for row in rows] == list(ROWS)
    assert {"difference", "p_holm", "mcnemar"} <= rows[1]["test.accuracy"].keys()
    for name in ROWS:
        run_key = RunKey(name, 0)
        metrics = json.loads(run_key.metrics.read_text(encoding="utf-8"))
        assert metrics["settings"] == {
            "loss": {
                "name": metrics["loss"], "options": SMALL.models[name].options, "targets": "one_hot",
                "classifier": name,
            }
        }  # fmt: skip
        assert metrics["gram"] == np.eye(len(LABELS)).tolist()
        assert metrics["test"]["accuracy"] > 0.25  # chance is a seventh
        assert metrics["val"]["accuracy"] == run_key.read_history()[0]["val_accuracy"]
        with run_key.predictions.open(encoding="utf-8") as file:
            decided = list(csv.DictReader(file))
        assert len(decided) == 35 + 42
        right = [row["actual"] == row["predicted"] for row in decided if row["split"] == "test"]
        assert sum(right) / 42 == pytest.approx(metrics["test"]["accuracy"])
        surest = [max(LABELS, key=lambda label, row=row: float(row[label])) for row in decided]  # type: ignore[misc]
        assert surest == [row["predicted"] for row in decided]
        assert run_key.facts()["settings"]["model"]["classifier"] == name
    assert Landmarks.load(RunKey("geometry", 0).landmarks) is not None
    assert Landmarks.load(RunKey("hog", 0).landmarks) is None


@pytest.mark.medium
def test_what_a_run_depends_on_leaves_other_runs_alone(use: Use) -> None:
    """A network's files do not change with landmarks, nor with the code of classifiers."""
    use(grid=config.Grid(("baseline", "geometry"), (0,)))
    landmarks.main()
    embed.main()
    targets.main()
    network, classifier = RunKey("baseline", 0), RunKey("geometry", 0)
    before = network.landmarks.read_bytes(), network.choices.read_bytes()
    assert json.loads(network.choices.read_text()) == {
        "loss": "cross_entropy", "options": {"label_smoothing": 0.1}, "learning_rate": 0.1, "epoch_factor": 1,
    }  # fmt: skip
    chosen = json.loads(classifier.choices.read_text())
    assert chosen["classifier"] == "geometry"
    assert "pipeline/classical/decisions.py" in chosen["code"]
    use(grid=config.Grid(("baseline",), (0,)), landmarks=replace(SMALL.landmarks, source="none"))
    landmarks.main()
    targets.main()
    assert (network.landmarks.read_bytes(), network.choices.read_bytes()) == before


@pytest.mark.medium
def test_a_missing_package_is_said_before_the_training(use: Use, monkeypatch: pytest.MonkeyPatch) -> None:
    use(grid=config.Grid(("hog",), (0,)), compare=config.CompareParams("hog", 200))
    landmarks.main()
    monkeypatch.setattr("pipeline.classical.features.find_spec", lambda name: None)
    with pytest.raises(UserError, match="scikit-image"):
        targets.main()


@pytest.mark.slow
def test_a_row_without_a_network_joins_the_grid_and_no_network_is_trained_again(
    finished: Clone, tmp_path: Path
) -> None:
    clone = finished.copy(tmp_path / "fer", FER_TRACKING="off")
    grid = ("-S", "grid.models=[baseline,geometry]", "-S", "models.geometry.options.stumps=20")
    said = clone.dvc("exp", "run", *grid, "train@baseline-0", "train@geometry-0")
    assert re.findall(r"Running stage '(.+)'", said) == ["targets", "train@geometry-0"]
    assert (clone.path / "outputs/models/geometry-0/model.safetensors").exists()
