"""Say in words what the probabilities of a face mean, with the second reading."""

from __future__ import annotations

from collections.abc import Mapping

WORDS = {
    "angry": ("angry", "anger"), "disgust": ("disgusted", "disgust"), "fear": ("afraid", "fear"),
    "happy": ("happy", "happiness"), "sad": ("sad", "sadness"), "surprise": ("surprised", "surprise"),
    "neutral": ("neutral", "a neutral face"),
}  # fmt: skip
"""FER-2013's classes as adjective and noun; other classes are called by their names."""
SECOND = 0.1
"""Smallest probability of a second reading that is worth a word: one of FER+'s ten votes."""
HALF = 0.5
"""Below it the first reading is not the reading of most."""


def reading(probabilities: Mapping[str, float]) -> str:
    """Return the reading of a face: "surprised", "mostly surprised, some also see fear", "surprise or fear"."""
    first, second = sorted(probabilities, key=lambda name: -probabilities[name])[:2]
    (adjective, noun), (_, other) = (WORDS.get(name, (name, name)) for name in (first, second))
    if probabilities[second] < SECOND:
        return adjective
    if probabilities[first] < HALF:
        return f"{noun} or {other}"
    return f"mostly {adjective}, some also see {other}"
