"""The true landmarks of drawn faces, against the pixels that are drawn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from pipeline.data.synthetic.dataset import EXPRESSIONS, Synthetic, draw, draw_landmarks
from pipeline.data.synthetic.face import Identity, View, draw_face
from pipeline.data.synthetic.landmarks import landmarks
from pipeline.landmarks.points import MIRRORED, mirrored

SPEC = Synthetic(seed=3, train=40, val=8, test=12, ambiguity=0.3)
PLAIN = Identity(width=17.0, skin=0.8, hair=0.05, hair_style="bald", eye_tone=0.05, beard=-1.0, age=0.0)
VIEWS = [
    View(backdrop=0.1, blur=1.1),
    View(backdrop=0.1, blur=1.1, roll=0.07, zoom=1.02, shift_x=1.0, shift_y=-1.0),
    View(backdrop=0.1, blur=1.1, roll=-0.05, yaw=2.5, pitch=1.0, zoom=1.15),
    View(backdrop=0.1, blur=1.1, yaw=-2.5, pitch=-1.0, shift_x=-1.0, shift_y=1.0),
]


def pixel(point: npt.NDArray[np.floating]) -> tuple[int, int]:
    x, y = np.rint(point).astype(int)
    return int(y), int(x)


def darkest(face: npt.NDArray[np.uint8], point: npt.NDArray[np.floating], reach: int) -> tuple[float, float]:
    """The place of the darkest pixel within `reach` of a point, as x and y."""
    row, column = pixel(point)
    window = face[row - reach : row + reach + 1, column - reach : column + reach + 1].astype(float)
    down, across = np.unravel_index(window.argmin(), window.shape)
    return column - reach + float(across), row - reach + float(down)


@pytest.mark.parametrize("view", VIEWS)
def test_the_pupils_are_in_the_middle_of_the_points_of_the_eyes(view: View) -> None:
    face, points = draw_face({}, PLAIN, view), landmarks({}, PLAIN, view)
    for eye in (points[36:42], points[42:48]):
        x, y = darkest(face, eye.mean(axis=0), 3)
        assert abs(x - eye[:, 0].mean()) <= 1.3
        assert abs(y - eye[:, 1].mean()) <= 1.3


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("units", [{}, {"AU12": 1.0}, {"AU15": 1.0}, {"AU20": 0.8}])
def test_the_line_of_closed_lips_runs_through_their_points(view: View, units: dict[str, float]) -> None:
    face, points = draw_face(units, PLAIN, view), landmarks(units, PLAIN, view)
    for point in points[[61, 62, 63]]:
        row, column = pixel(point)
        line = row - 3 + int(face[row - 3 : row + 4, column].argmin())
        assert abs(line - point[1]) <= 1.1
    np.testing.assert_allclose(points[[61, 62, 63]], points[[67, 66, 65]], atol=1e-5)


def test_the_points_of_an_open_mouth_enclose_its_dark_inside() -> None:
    units = {"AU26": 1.0, "AU25": 1.0}
    face, points = draw_face(units, PLAIN, VIEWS[0]), landmarks(units, PLAIN, VIEWS[0])
    column, upper, lower = round(float(points[62, 0])), points[62, 1], points[66, 1]
    dark = np.flatnonzero(face[:, column] < 60)
    dark = dark[(dark > upper - 3) & (dark < lower + 3)]
    assert abs(dark.min() - upper) <= 2
    assert abs(dark.max() - lower) <= 2
    assert lower - upper > 4


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("units", [{}, {"AU1": 1.0}, {"AU4": 1.0}])
def test_brows_run_through_their_points(view: View, units: dict[str, float]) -> None:
    thin = replace(PLAIN, brow_thickness=1.2)
    face, points = draw_face(units, thin, view), landmarks(units, thin, view)
    for point in points[[18, 19, 20, 23, 24, 25]]:
        row, column = pixel(point)
        line = row - 2 + int(face[row - 2 : row + 3, column].argmin())
        assert abs(line - point[1]) <= 1.1


@pytest.mark.parametrize("view", VIEWS)
def test_the_jaw_is_where_the_face_ends(view: View) -> None:
    face, points = draw_face({}, PLAIN, view).astype(float), landmarks({}, PLAIN, view)
    for place, inwards in ((4, 1), (12, -1)):  # beside the mouth, where nothing but the outline is
        row, column = pixel(points[place])
        across = face[row, column - 4 : column + 5][::inwards]
        step = np.diff(across).argmax()  # from the dark backdrop to the skin
        assert abs(step + 0.5 - 4) <= 1.6


@pytest.mark.parametrize("part", [range(36, 42), range(42, 48), range(48, 60)], ids=["eye", "eye", "lips"])
def test_closed_outlines_are_run_through_clockwise(part: range) -> None:
    points = landmarks({"AU12": 0.5, "AU25": 1.0}, PLAIN, View())[list(part)]
    x, y = (points - points.mean(axis=0)).T
    angles = np.unwrap(np.arctan2(y, x))
    assert (np.diff(angles) > 0).all()
    assert angles[-1] - angles[0] < 2 * np.pi


def test_action_units_move_the_points_that_they_are_named_for() -> None:
    def moved(unit: str) -> npt.NDArray[np.float32]:
        return landmarks({unit: 1.0}, PLAIN, View()) - landmarks({}, PLAIN, View())

    assert (moved("AU12")[[48, 54], 1] < -2).all()  # lip corners up
    assert (moved("AU15")[[48, 54], 1] > 2).all()
    assert (moved("AU1")[[21, 22], 1] < -1).all()  # inner brows up
    assert (moved("AU5")[[37, 38, 43, 44], 1] < 0).all()  # upper lids up
    assert moved("AU26")[8, 1] > 1  # the chin down
    assert np.abs(moved("AU12")[:27]).max() == 0


def test_a_mirrored_pose_has_the_mirrored_points() -> None:
    for emotion, rates in EXPRESSIONS.items():
        units = dict.fromkeys(rates, 1.0)
        front = landmarks(units, PLAIN, View())
        np.testing.assert_allclose(mirrored(front), front, atol=1e-4, err_msg=emotion)
    one = landmarks({"AU12": 0.5}, PLAIN, View(yaw=2.0, roll=0.05, shift_x=0.7))
    other = landmarks({"AU12": 0.5}, PLAIN, View(yaw=-2.0, roll=-0.05, shift_x=-0.7))
    np.testing.assert_allclose(mirrored(one), other, atol=1e-4)
    assert sorted(MIRRORED) == list(range(68))


def test_the_landmarks_of_a_data_set_are_in_the_order_of_its_faces() -> None:
    """Lips are darker than the skin below them, in each face where its own points say."""
    data, points = draw(replace(SPEC, train=150)), draw_landmarks(replace(SPEC, train=150))

    def contrast(points: npt.NDArray[np.float32]) -> float:
        places = np.rint(points[:, 62]).astype(int)
        rows = np.arange(len(places))
        lips = data.images[rows, places[:, 1], places[:, 0]].astype(float)
        skin = data.images[rows, places[:, 1] - 4, places[:, 0]].astype(float)
        return float((skin - lips).mean())

    assert contrast(points) > contrast(np.roll(points, 1, axis=0)) + 10
    assert points.dtype == np.float32
    assert points.shape == (170, 68, 2)


def test_landmarks_depend_on_seed_split_and_place_alone() -> None:
    small, larger = draw_landmarks(SPEC), draw_landmarks(replace(SPEC, train=45))
    np.testing.assert_array_equal(small[:40], larger[:40])
    np.testing.assert_array_equal(small[40:], larger[45:])
    assert not np.array_equal(draw_landmarks(replace(SPEC, seed=4)), small)
