"""Compare faces by the shape of their landmarks, whatever their place, size and rotation in the image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.landmarks.points import COUNT, Points

Floats = npt.NDArray[np.float64]
PAIRS = np.triu_indices(COUNT, 1)
"""The two points of each of the 2,278 pairs."""
CHUNK = 1024
"""Shapes at a time: limits memory without changing results."""
ROUNDS = 100
"""More than the mean shape takes to settle."""


def normalised(points: Points) -> Floats:
    """Remove place and size: [..., P, 2] with mean 0 and sum of squares 1. Points that all coincide stay zero."""
    centred = points.astype(np.float64) - points.mean(axis=-2, keepdims=True, dtype=np.float64)
    size = np.sqrt((centred**2).sum(axis=(-2, -1), keepdims=True))
    return np.asarray(centred / np.where(size > 0, size, 1))


def aligned(points: Points, reference: Points) -> Floats:
    """Remove place, size and rotation: the least-squares rotation of `normalised` points [N, P, 2] to a reference.

    Ordinary Procrustes analysis (Gower 1975). With the points as complex numbers z and w, the rotation is the direction
    of sum conj(z) w. A rotation cannot mirror a shape, so mirror images stay different.
    """
    shapes, wanted = _complex(normalised(points)), _complex(normalised(reference))
    towards = (shapes.conj() * wanted).sum(axis=-1, keepdims=True)
    length = np.abs(towards)
    turned = shapes * np.where(length > 0, towards / np.where(length > 0, length, 1), 1)
    return np.stack([turned.real, turned.imag], axis=-1)


def mean_shape(points: Points) -> Floats:
    """Return the mean of the shapes of points [N, P, 2], each aligned to it: generalised Procrustes analysis (Gower
    1975). [P, 2], with mean 0, size 1, and the eyes as level as they are on average."""
    shapes = normalised(points)
    mean = normalised(shapes.mean(axis=0))  # of faces that are upright already
    for _ in range(ROUNDS):
        better = normalised(aligned(shapes, mean).mean(axis=0))
        if np.abs(better - mean).max() < 1e-12:
            break
        mean = better
    return mean


def distances(shapes: Floats) -> npt.NDArray[np.float32]:
    """Return the distance between the points of each of `PAIRS`: [N, 68, 2] -> float32 [N, 2278]."""
    first, second = PAIRS
    found = np.empty((len(shapes), len(first)), np.float32)
    for start in range(0, len(shapes), CHUNK):
        some = shapes[start : start + CHUNK]
        found[start : start + CHUNK] = np.sqrt(((some[:, first] - some[:, second]) ** 2).sum(axis=2))
    return found


def _complex(points: Floats) -> npt.NDArray[np.complex128]:
    return np.asarray(points[..., 0] + 1j * points[..., 1])
