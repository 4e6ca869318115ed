"""The true landmarks of a drawn face: the 68 points of iBUG 300-W (Sagonas et al. 2013), from the outlines drawn.

Where the annotators of 300-W judged by eye, the drawer knows: lids, brows, lips and the jaw are the curves that it
paints; the bridge of the nose runs from the level of the eyes to its tip, and its base from wing to wing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from pipeline.data.fer import IMAGE_SIZE
from pipeline.data.synthetic.face import ACTION_UNITS, EYES, Arc, Identity, Shape, View

Point = tuple[float, float]
QUARTERS, THIRDS = (0.0, 0.25, 0.5, 0.75, 1.0), (1 / 3, 2 / 3)
JAW = 8
"""Points of the jaw on each side of the chin."""


def landmarks(action_units: Mapping[str, float], identity: Identity, view: View) -> npt.NDArray[np.float32]:
    """Return where the 68 points lie of the face that `draw_face` draws of the same arguments: float32 [68, 2].

    x to the right and y down, in pixels; whole numbers are the middles of pixels. A point may be covered by hair,
    glasses or an object, and may lie outside the image.
    """
    shape = Shape.of({name: float(action_units.get(name, 0)) for name in ACTION_UNITS}, identity)
    brow, (above, upper, lower, under) = _along(shape.brow, QUARTERS), shape.lips
    eye = [
        *_along(shape.upper_lid, (0, *THIRDS, 1)),  # from the inner corner over the upper lid to the outer one
        *_along(shape.lower_lid, THIRDS[::-1]),
    ]
    tip, wing = shape.nose_tip, shape.nose_wing
    bridge = [(0.0, EYES + step * (tip - EYES) / 3) for step in range(4)]
    base = [(side * wing, tip + 1.6) for side in (-1, -0.5, 0, 0.5, 1)]
    mouth = [
        *_along(above, [step / 6 for step in range(7)]),
        *_along(under, [step / 6 for step in range(5, 0, -1)]),
        *_along(upper, QUARTERS),
        *_along(lower, QUARTERS[3:0:-1]),
    ]
    features = [
        *_mirrored(brow)[::-1], *brow, *bridge, *base,
        *(_mirrored(eye)[place] for place in (3, 2, 1, 0, 5, 4)), *eye, *mouth,
    ]  # fmt: skip
    points = [*_jaw(shape, identity), *(_turned(point, view) for point in features)]
    return np.array([_seen(point, view) for point in points], np.float32)


def _along(arc: Arc, shares: Sequence[float]) -> list[Point]:
    """Return points of a parabola at these shares of the way from its left to its right end."""
    left, right, (first, middle, last) = arc
    tilt, bend = (last - first) / 2, (last + first) / 2 - middle
    return [
        (left + share * (right - left), middle + (2 * share - 1) * (tilt + bend * (2 * share - 1))) for share in shares
    ]


def _mirrored(points: Sequence[Point]) -> list[Point]:
    return [(-x, y) for x, y in points]


def _jaw(shape: Shape, who: Identity) -> list[Point]:
    """Return 17 points of the outline of the head, from the level of one eye over the chin to the other."""
    right = []
    for step in range(JAW + 1):
        t = 1.1 * step / JAW - 0.1  # of the circle (1 - t^2, 2 t) / (1 + t^2): without a sine
        u, v = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
        height = who.height + shape.chin if v > 0 else who.height
        right.append((u * who.width * (1 - who.jaw * max(v, 0) * v), v * height))
    return [*_mirrored(right[:-1]), right[-1], *right[-2::-1]]


def _turned(point: Point, view: View) -> Point:
    """Return where a feature lies on the head, over which it moves as the head turns."""
    x, y = point
    towards = (x > 0) - (x < 0)
    return x / (1 + 0.015 * view.yaw * towards) + view.yaw, y + view.pitch


def _seen(point: Point, view: View) -> Point:
    """Return where a point of the head lies in the image: rolled, zoomed and shifted."""
    x, y = point
    norm = 1 + view.roll * view.roll
    cosine, sine = 2 / norm - 1, 2 * view.roll / norm
    right, down = x * cosine - y * sine, y * cosine + x * sine
    middle = (IMAGE_SIZE - 1) / 2
    return right * view.zoom + view.shift_x + middle, down * view.zoom + view.shift_y + middle
