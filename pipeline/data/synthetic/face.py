"""A drawn face whose brows, lids, nose and mouth follow the action units of the Facial Action Coding System
(FACS; Ekman & Friesen 1978).

The same face gives the same bytes on every machine, because pixels come from + - * / and square roots alone,
which IEEE 754 fixes to the last bit: no sine, no exponential, no sum over an array, whose last bits depend on
the processor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.data.fer import IMAGE_SIZE
from pipeline.errors import UserError

Array = npt.NDArray[np.floating[Any]]
Image = npt.NDArray[np.uint8]
Curve = tuple[Array, Array]  # distance below it, distance beyond its ends

ACTION_UNITS = tuple(f"AU{number}" for number in (1, 2, 4, 5, 6, 7, 9, 10, 12, 15, 16, 17, 20, 23, 25, 26))
"""The units that `draw_face` accepts: 1 inner and 2 outer brow raiser, 4 brow lowerer, 5 upper lid raiser, 6 cheek
raiser, 7 lid tightener, 9 nose wrinkler, 10 upper lip raiser, 12 and 15 lip corner puller and depressor, 16 lower
lip depressor, 17 chin raiser, 20 lip stretcher, 23 lip tightener, 25 lips part, 26 jaw drop."""

MOVES: dict[str, dict[str, float]] = {
    "brow_gap": {"AU4": -1.3},
    "brow_inner": {"AU1": -3.2, "AU2": -0.8, "AU4": 1.9, "AU9": 1.6},
    "brow_middle": {"AU1": -1.0, "AU2": -2.4, "AU4": 1.7, "AU9": 0.8},
    "brow_outer": {"AU1": 0.8, "AU2": -3.0, "AU4": 0.3},
    "lid_upper": {"AU1": 0.5, "AU2": -0.5, "AU5": -1.5, "AU6": 0.4, "AU7": 0.7, "AU9": 0.6},
    "lid_lower": {"AU5": 0.4, "AU6": -0.9, "AU7": -0.7, "AU9": -0.7},
    "lid_outer": {"AU1": 1.0, "AU2": -1.0},
    "nose_tip": {"AU9": -1.2},
    "nose_wing": {"AU9": 0.7, "AU12": 0.3},
    "mouth_half": {"AU12": 2.4, "AU20": 2.0, "AU23": -1.0, "AU26": -1.3},
    "mouth_corner": {"AU12": -3.2, "AU15": 3.0, "AU20": 0.6, "AU26": 2.2},
    "lip_upper": {"AU9": -0.9, "AU10": -1.5, "AU12": 0.5, "AU17": -1.2, "AU26": -0.6},
    "lip_gap": {"AU10": 0.8, "AU16": 1.8, "AU25": 2.0, "AU26": 5.5},
    "chin": {"AU26": 2.5},
}
"""Movement of each feature by each action unit, in pixels down or outwards at full activation."""

HAIR_STYLES: dict[str, tuple[float, float, float]] = {
    "short": (0, 0, 0.02),
    "fringe": (3.5, 0, 0),
    "parted": (-3, 0.4, 0.02),
    "long": (-1, 0, 0.04),
    "bald": (-30, 0, 0),
}
"""Course of the hairline, y = a + b x + c x^2, in pixels below the person's own."""

OCCLUDERS = {"none": (0.0, 0.0, 0, 0), "bar": (6, 0.1, 40, 8), "strand": (3, 0.2, 8, -40), "hand": (11, 0.6, 40, 16)}
"""Objects that may cover part of the face: thickness, tone, and how far to the right (or left) and down they start."""

EYES = -4.0
"""Height of the eyes, in pixels from the middle of the face; all features are placed relative to it."""


def _within(low: float, high: float) -> Any:
    """Return a field drawn uniformly from low..high; the middle by default.

    Not with Generator.uniform, which may round differently.
    """
    return field(default=(low + high) / 2, metadata={"draw": lambda rng: low + (high - low) * rng.random()})


def _among(*options: Any) -> Any:
    """Return a field drawn from the options; the first by default."""
    return field(default=options[0], metadata={"draw": lambda rng: options[rng.integers(len(options))]})


@dataclass(frozen=True)
class Identity:
    """A person. Lengths are pixels of the 48-pixel image, tones run from 0 (black) to 1 (white)."""

    width: float = _within(15, 18.5)  # half the face, at the cheeks
    height: float = _within(20.5, 23.5)  # half the face, crown to chin
    jaw: float = _within(0.15, 0.4)  # how far the face narrows towards the chin
    skin: float = _within(0.35, 0.9)
    hair: float = _within(0.03, 0.5)
    hair_style: str = _among(*HAIR_STYLES)
    hairline: float = _within(-17, -13)
    brow_thickness: float = _within(1.2, 2.6)
    brow_height: float = _within(4.6, 6.4)  # above the eyes
    brow_slant: float = _within(-0.8, 0.8)  # fall from the inner to the outer end
    eye_distance: float = _within(7.2, 8.8)  # from the middle of the face
    eye_size: float = _within(3.4, 4.5)
    eye_tone: float = _within(0.05, 0.4)
    nose_length: float = _within(7.2, 9.6)
    nose_width: float = _within(2.5, 4.2)
    mouth_width: float = _within(5.2, 7.4)
    mouth_drop: float = _within(15.3, 17.6)  # below the eyes
    mouth_bend: float = _within(-0.7, 0.7)  # fall of the corners at rest
    lips: float = _within(0.8, 1.8)
    age: float = _within(0, 1)  # deepens every crease
    beard: float = _within(-3, 0.7)  # opacity; none at or below 0
    glasses: bool = _among(False, False, False, False, False, True)


@dataclass(frozen=True)
class View:
    """The conditions of the photograph. Lengths are pixels, brightness is a share of white."""

    roll: float = _within(-0.07, 0.07)  # tangent of half the angle, clockwise
    yaw: float = _within(-2.5, 2.5)  # shift of the features to the right within the face
    pitch: float = _within(-1, 1)  # and down
    zoom: float = _within(1.02, 1.2)
    shift_x: float = _within(-1, 1)
    shift_y: float = _within(-1, 1)
    light_x: float = _within(-0.35, 0.35)  # share of brightness gained from the middle to the right edge
    light_y: float = _within(-0.25, 0.25)  # and to the lower edge
    contrast: float = _within(0.65, 1.25)
    brightness: float = _within(-0.12, 0.12)
    backdrop: float = _within(0.1, 0.9)
    blur: float = _within(1.1, 1.9)  # width of an edge
    occluder: str = _among(*["none"] * 21, "bar", "strand", "hand")
    occluder_x: float = _within(-14, 14)  # where it ends
    occluder_y: float = _within(-14, 14)


class Arc(NamedTuple):
    """A parabola through three points: at its left end, in the middle and at its right end."""

    left: float
    right: float
    heights: tuple[float, float, float]


@dataclass(frozen=True)
class Shape:
    """Outlines of the features of a face under an expression, in pixels from the middle of the face, y down.

    Lids, brow and nose are those of the right half of the image; the left half mirrors them.
    """

    upper_lid: Arc
    lower_lid: Arc
    brow: Arc
    lips: tuple[Arc, Arc, Arc, Arc]  # the upper one's outer and inner edge, then the lower one's inner and outer
    nose_tip: float
    nose_wing: float
    lip_gap: float  # how far the lips part
    chin: float  # how far the jaw drops

    @classmethod
    def of(cls, au: Mapping[str, float], who: Identity) -> Shape:
        """Return the outlines of a person's face; `au` has every unit of `ACTION_UNITS`."""
        move = dict.fromkeys(MOVES, 0.0)
        for part, pulls in MOVES.items():
            for unit, pixels in pulls.items():
                move[part] += pixels * au[unit]

        size = who.eye_size
        eye = (who.eye_distance - size, who.eye_distance + size)
        top = EYES - max(0.52 * size - move["lid_upper"], 0.5)
        bottom = EYES + max(0.36 * size + move["lid_lower"], 0.2)
        y_inner, y_outer = EYES + 0.4 - 0.5 * move["lid_outer"], EYES + move["lid_outer"]

        rest_brow = EYES - who.brow_height
        brow = (3.4 + move["brow_gap"], who.eye_distance + who.eye_size + 1.5)
        inner, middle = rest_brow + move["brow_inner"], rest_brow - 0.9 + move["brow_middle"]
        outer = rest_brow + 0.6 + who.brow_slant + move["brow_outer"]

        rest, half = EYES + who.mouth_drop, who.mouth_width + move["mouth_half"]
        corner = rest + who.mouth_bend + move["mouth_corner"]
        lip = who.lips * (1 - 0.55 * au["AU23"]) * (1 - 0.25 * au["AU12"])
        upper, lower = rest + move["lip_upper"], rest + move["lip_upper"] + move["lip_gap"]
        above, upper_arc, lower_arc, under = (
            Arc(-half, half, (corner, height, corner))
            for height in (upper - 1.4 * lip, upper, lower, lower + 1.8 * lip)
        )
        return cls(
            upper_lid=Arc(*eye, (y_inner, top, y_outer)),
            lower_lid=Arc(*eye, (y_inner, bottom, y_outer)),
            brow=Arc(*brow, (inner, middle, outer)),
            lips=(above, upper_arc, lower_arc, under),
            nose_tip=EYES + who.nose_length + move["nose_tip"],
            nose_wing=who.nose_width + move["nose_wing"],
            lip_gap=move["lip_gap"],
            chin=move["chin"],
        )


class _Canvas:
    """Grey values in 0..1, and the position of each pixel in the face: x right, y down, in pixels from its middle.

    `head_x, head_y` follow the outline of the head; `x, y` the features, which move within it as it turns; `side` is
    |x|, so what is drawn there appears left and right. Shapes are given as signed distances to their outlines, positive
    outside.
    """

    def __init__(self, au: Mapping[str, float], who: Identity, view: View) -> None:
        self.au, self.who, self.view, self.sharpness = au, who, view, view.zoom / view.blur
        self.shape = Shape.of(au, who)
        steps = np.arange(IMAGE_SIZE, dtype=np.float32) - (IMAGE_SIZE - 1) / 2
        self.column, self.row = steps[np.newaxis, :], steps[:, np.newaxis]
        right, down = (self.column - view.shift_x) / view.zoom, (self.row - view.shift_y) / view.zoom
        norm = 1 + view.roll * view.roll
        cosine, sine = 2 / norm - 1, 2 * view.roll / norm
        self.head_x, self.head_y = right * cosine + down * sine, down * cosine - right * sine
        self.x, self.y = self.head_x - view.yaw, self.head_y - view.pitch
        self.x = self.x * (1 + 0.015 * view.yaw * np.sign(self.x))  # the far side looks narrower
        self.side = np.abs(self.x)
        self.grey = np.full((IMAGE_SIZE, IMAGE_SIZE), view.backdrop, np.float32)

    def fill(self, outside: Array, tone: float | Array, opacity: float = 1.0, softness: float = 1.0) -> None:
        """Paint a shape, each pixel by the share of it that the shape covers; `softness` widens the edge."""
        cover = np.clip(0.5 - outside * (self.sharpness / softness), 0, opacity)
        self.grey += cover * (tone - self.grey)

    def crease(self, x0: float, y0: float, x1: float, y1: float, depth: float) -> None:
        """Paint a fold of the skin from (x0, y0) to (x1, y1), on both sides."""
        if depth > 0:
            self.fill(self.line(self.side, x0, y0, x1, y1, 0.8), self.who.skin * 0.55, min(depth, 1.0))

    def ellipse(self, x: Array, cx: float, cy: float, rx: float, ry: float) -> Array:
        u, v = (x - cx) / rx, (self.y - cy) / ry
        return (np.sqrt(u * u + v * v) - 1) * min(rx, ry)

    def line(self, x: Array, x0: float, y0: float, x1: float, y1: float, thickness: float) -> Array:
        dx, dy, u, v = x1 - x0, y1 - y0, x - x0, self.y - y0
        along = np.clip((u * dx + v * dy) / (dx * dx + dy * dy), 0, 1)
        u, v = u - along * dx, v - along * dy
        return np.sqrt(u * u + v * v) - thickness / 2

    def curve(self, x: Array, arc: Arc) -> Curve:
        """The parabola f of an arc; distance to first order: (y - f(x)) / sqrt(1 + f'(x)^2)."""
        left, right, (first, middle, last) = arc
        half, tilt, bend = (right - left) / 2, (last - first) / 2, (last + first) / 2 - middle
        u = (x - (left + right) / 2) / half
        slope = (tilt + 2 * bend * u) / half
        below = (self.y - middle - u * (tilt + bend * u)) / np.sqrt(1 + slope * slope)
        return below, (np.abs(u) - 1) * half


def _stroke(curve: Curve, thickness: float | Array) -> Array:
    """Return the line that a pen draws along a curve."""
    return np.maximum(np.abs(curve[0]) - thickness / 2, curve[1])


def _lens(upper: Curve, lower: Curve) -> Array:
    """Return the region between two curves with the same ends."""
    return np.maximum(np.maximum(-upper[0], lower[0]), upper[1])


def draw_face(action_units: Mapping[str, float], identity: Identity = Identity(), view: View = View()) -> Image:
    """Draw one face: uint8 [48, 48].

    action_units: activations from 0 (rest) to 1 (full) by the names in `ACTION_UNITS`; absent means 0.
    Raises UserError for an unknown unit or an activation outside 0..1.
    """
    for name, activation in action_units.items():
        if name not in ACTION_UNITS or not 0 <= activation <= 1:
            raise UserError(f"{name}={activation}: give {', '.join(ACTION_UNITS)}, each from 0 to 1.")
    c = _Canvas({name: float(action_units.get(name, 0)) for name in ACTION_UNITS}, identity, view)
    _paint_head(c)
    _paint_eyes(c)
    _paint_nose(c)
    _paint_mouth(c)
    _paint_brows(c)
    _paint_hair(c)
    _paint_occluder(c)
    lit = c.grey * (1 + (view.light_x * c.column + view.light_y * c.row) * (2 / IMAGE_SIZE))
    exposed = (lit - 0.5) * view.contrast + (0.5 + view.brightness)
    return np.floor(np.clip(exposed, 0, 1) * 255 + 0.5).astype(np.uint8)


def _paint_head(c: _Canvas) -> None:
    """Ears, long hair, neck, the face, which darkens towards its edge, and a beard."""
    who, x, y, side = c.who, c.head_x, c.head_y, np.abs(c.head_x)
    u, v = side - who.width, (y - EYES - 3) / 2
    c.fill(np.sqrt(u * u + v * v) - 2, who.skin * 0.8)
    if who.hair_style == "long":
        v = np.minimum(y + 4, 0)
        c.fill(np.sqrt(x * x + v * v) - who.width - 4, who.hair)
    c.fill(np.maximum(side - 0.6 * who.width, 12 - y), who.skin * 0.65)
    v = y / np.where(y > 0, who.height + c.shape.chin, who.height)
    u = x / (who.width * (1 - who.jaw * np.maximum(v, 0) * v))
    radius2 = u * u + v * v
    outline = (np.sqrt(radius2) - 1) * who.width
    c.fill(outline, who.skin * (1.06 - 0.25 * radius2 * radius2))
    jowls = np.maximum(outline + 2, 11 - y - 0.02 * x * x)
    c.fill(jowls, min(who.hair, 0.6 * who.skin), max(who.beard, 0), softness=7)


def _paint_eyes(c: _Canvas) -> None:
    """Sockets, eyes, lids and glasses, and the folds that AU6 and AU7 press into the skin."""
    who, au, x, size = c.who, c.au, c.side, c.who.eye_size
    inner, outer, (y_inner, top, y_outer) = c.shape.upper_lid
    bottom = c.shape.lower_lid.heights[1]
    upper, lower = c.curve(x, c.shape.upper_lid), c.curve(x, c.shape.lower_lid)
    fold = c.curve(x, Arc(inner, outer + 0.5, (y_inner - 1, top - 1.7, y_outer - 1)))
    opening = _lens(upper, lower)
    iris = c.ellipse(x, who.eye_distance, EYES - 0.2, 0.5 * size, 0.5 * size)
    c.fill(c.ellipse(x, who.eye_distance - 0.5, EYES - 1.5, size + 1, 4), who.skin * 0.8, 0.6, softness=4)
    c.fill(opening, 0.35 + 0.6 * who.skin)
    c.fill(np.maximum(opening, iris), who.eye_tone)
    c.fill(np.maximum(opening, iris + 0.28 * size), 0.02)
    c.fill(_stroke(upper, 1.1), who.skin * 0.2, 0.85)
    c.fill(_stroke(lower, 0.7), who.skin * 0.5, 0.5 + 0.3 * au["AU7"])
    c.fill(_stroke(fold, 0.8), who.skin * 0.55, 0.6 - 0.5 * au["AU4"])
    bag = 0.2 * who.age + 0.4 * max(au["AU6"], au["AU7"])
    c.crease(inner + 1, bottom + 1.8, outer - 1, bottom + 1.8, bag)
    for rise in (-1.2, 0.6, 2.2):
        c.crease(outer + 1, EYES + 0.4 * rise, outer + 3.6, EYES + rise, 0.65 * au["AU6"])
    if who.glasses:
        rim = np.abs(c.ellipse(x, who.eye_distance, EYES + 0.5, size + 2, size + 1)) - 0.5
        bridge = np.maximum(np.abs(c.y - EYES) - 0.5, x - inner + 2)
        c.fill(np.minimum(rim, bridge), 0.1, 0.9)


def _paint_nose(c: _Canvas) -> None:
    """Bridge, shadow, nostrils and wings, and the wrinkles of AU9."""
    skin, tip, wing = c.who.skin, c.shape.nose_tip, c.shape.nose_wing
    c.fill(c.line(c.side, 2, EYES + 1, 0.8 * wing, tip - 1, 1.2), skin * 0.8, 0.5, softness=2)
    c.fill(c.ellipse(c.x, 0, tip + 1.6, wing + 0.6, 1.3), skin * 0.6, 0.5, softness=2)
    c.fill(c.ellipse(c.side, 0.55 * wing, tip + 0.4, 1, 0.6), skin * 0.25, 0.85)
    c.crease(wing, tip - 1.8, wing + 0.3, tip, 0.6)
    for step in (-1, 1, 3):
        c.crease(0.9, EYES + step, 2.4, EYES + step + 1.6, 0.7 * c.au["AU9"])


def _paint_mouth(c: _Canvas) -> None:
    """Lips (AU23 thins them), the opening, the teeth that AU10, 12, 16 and 20 bare, and the folds around."""
    who, au, x, rest = c.who, c.au, c.x, EYES + c.who.mouth_drop
    above, upper, lower, under = (c.curve(x, arc) for arc in c.shape.lips)
    _, half, (corner, lowest, _) = c.shape.lips[3]
    opening = _lens(upper, lower)
    parted, bared = min(c.shape.lip_gap, 1), max(au["AU10"], au["AU12"], au["AU20"])
    c.fill(c.ellipse(x, 0, lowest + 1.6, 0.6 * half, 1), who.skin * 0.6, 0.45, softness=2)
    c.fill(_lens(above, under), who.skin * 0.66)
    c.fill(opening, 0.06, parted)
    c.fill(np.maximum(opening, upper[0] - 0.7 - 1.6 * bared), 0.9, parted * (0.3 + 0.7 * bared))
    c.fill(np.maximum(opening, -1.2 - lower[0]), 0.85, parted * au["AU16"])
    c.fill(_stroke(upper, 0.9), who.skin * 0.2, 0.85)
    drawn = 0.35 * who.age + 0.5 * max(au["AU9"], bared)
    c.crease(who.nose_width + 1, EYES + who.nose_length - 0.5, half + 1.8, corner, drawn)
    c.crease(half + 0.6, corner, half + 1.6, corner + 2.6, 0.7 * au["AU15"])
    c.crease(0, rest + 4.2, 3.5, rest + 6, 0.6 * au["AU17"])


def _paint_brows(c: _Canvas) -> None:
    """Brows that thin outwards, the furrows of AU4 between them and those of AU1 and AU2 above."""
    who, au, x, rest = c.who, c.au, c.side, EYES - c.who.brow_height
    start, end, (inner, _, _) = c.shape.brow
    thickness = who.brow_thickness * (1.1 - 0.5 / (end - start) * (x - start))
    brow = _stroke(c.curve(x, c.shape.brow), thickness)
    c.fill(brow, 0.8 * min(who.hair, 0.55 * who.skin), 0.9)
    c.crease(1.4, inner - 1.5, 1.2, inner + 2.5, (0.5 + 0.3 * who.age) * au["AU4"])
    for y in (rest - 5, rest - 7.4):
        c.crease(0, y, 4.5 + 6 * au["AU2"], y + 0.8, (0.3 + 0.4 * who.age) * max(au["AU1"], au["AU2"]))


def _paint_hair(c: _Canvas) -> None:
    """The hair above the forehead."""
    who, x, y = c.who, c.head_x, c.head_y
    drop, slant, arch = HAIR_STYLES[who.hair_style]
    hairline = who.hairline + drop + slant * x + arch * x * x
    strands = np.abs(0.4 * x - np.floor(0.4 * x) - 0.5)
    u, v = x / (who.width + 1.5), y / (who.height + 2)
    skull = (np.sqrt(u * u + v * v) - 1) * who.width
    c.fill(np.maximum(skull, y - hairline + strands), who.hair * (0.95 + 0.2 * strands))


def _paint_occluder(c: _Canvas) -> None:
    """Paint an object that covers part of the face from outside, with a dark outline."""
    view, (thickness, tone, across, down) = c.view, OCCLUDERS[c.view.occluder]
    if view.occluder != "none":
        x, y = view.occluder_x, view.occluder_y
        shape = c.line(c.x, x, y, x + (across if x > 0 else -across), y + down, thickness)
        c.fill(shape, 0.5 * tone)
        c.fill(shape + 0.8, tone)
