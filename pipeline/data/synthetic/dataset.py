"""Draw faces that stand in for FER-2013, so that the whole pipeline runs anywhere in seconds.

Random persons in random poses and light show the seven emotions as `pipeline.data.synthetic.face` draws them. The same
spec gives the same bytes on every machine: the only random numbers are PCG64's integers and 53-bit fractions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field

from pipeline.data.fer import IMAGE_SIZE, LABELS, USAGES, VOTE_COLUMNS, VOTES_OF_LABELS, FerData
from pipeline.data.synthetic.face import ACTION_UNITS, Identity, Image, View, draw_face
from pipeline.data.synthetic.landmarks import landmarks
from pipeline.errors import UserError

EXPRESSIONS: dict[str, dict[str, float]] = {
    "angry": {"AU4": 1, "AU5": 1, "AU7": 1, "AU23": 1, "AU17": 0.5, "AU10": 0.25},
    "disgust": {"AU9": 1, "AU15": 1, "AU16": 1, "AU10": 0.7, "AU4": 0.3},
    "fear": {"AU1": 1, "AU2": 1, "AU4": 1, "AU5": 1, "AU20": 1, "AU26": 1, "AU25": 0.7},
    "happy": {"AU6": 1, "AU12": 1, "AU25": 0.7},
    "sad": {"AU1": 1, "AU4": 1, "AU15": 1, "AU17": 0.65, "AU6": 0.5},
    "surprise": {"AU1": 1, "AU2": 1, "AU5": 1, "AU26": 1, "AU25": 0.7},
    "neutral": {},
}
"""How often each action unit takes part in an expression. 1: the prototypes of Ekman & Friesen (1978), as
EMFACS lists them. Less: units that join in at times, after Du, Tao & Martinez (2014), PNAS 111, E1454,
table 1, rounded; AU10 and AU25, constant there, sometimes stay away here so that mouths vary."""

LOOKALIKES = {
    a: [b for b in LABELS if b != a for _ in range(1 + len(EXPRESSIONS[a].keys() & EXPRESSIONS[b].keys()))]
    for a in LABELS
}
"""Emotions that each emotion is confused with: every other one, once, plus once for each action unit they share."""

SHARES = {"angry": 3, "disgust": 2, "fear": 3, "happy": 4, "sad": 3, "surprise": 2, "neutral": 3}
"""Rows per class in every 20 rows of a split: FER-2013's imbalance, softened. The first seven of the 20
hold every class once, so that each can be scored even in a tiny split."""


Count = Annotated[int, Field(ge=len(LABELS), le=1_000_000)]


@dataclass(frozen=True)
class Synthetic:
    """The data set to draw: images per split, and `ambiguity` from 0 (posed and certain) to 1 (anyone's guess)."""

    seed: Annotated[int, Field(ge=0)]
    train: Count
    val: Count
    test: Count
    ambiguity: Annotated[float, Field(ge=0, le=1)]


def draw(spec: Synthetic) -> FerData:
    """Draw a data set: images, labels, splits and ten votes per image, in the row order of FER-2013.

    Every image has its own random stream, named by seed, split and position in the split, and so stays the same
    whatever the size of any split. Raises UserError for a negative number or an ambiguity outside 0..1.
    """
    places = _places(spec)
    rows = [_draw_row(spec, split, place) for split, place in places]
    return FerData(
        images=np.array([face for face, _, _ in rows], np.uint8).reshape(-1, IMAGE_SIZE, IMAGE_SIZE),
        labels=np.array([LABELS.index(label) for _, label, _ in rows], np.uint8),
        splits=np.array([split for split, _ in places], np.uint8),
        votes=np.array([votes for _, _, votes in rows], np.uint8).reshape(-1, len(VOTE_COLUMNS)),
    )


def draw_landmarks(spec: Synthetic) -> npt.NDArray[np.float32]:
    """Return the true landmarks of the faces that `draw` draws, in its order: float32 [N, 68, 2]."""
    rows = [_pose(spec, split, place) for split, place in _places(spec)]
    return np.array([landmarks(row.blend, row.who, row.view) for row in rows], np.float32).reshape(-1, 68, 2)


def _places(spec: Synthetic) -> list[tuple[int, int]]:
    """Return split and position in the split of every row. Raises UserError for an impossible spec."""
    counts = (spec.train, spec.val, spec.test)
    if min(spec.seed, *counts) < 0 or not 0 <= spec.ambiguity <= 1:
        raise UserError(f"{spec}: seed and counts must not be negative, ambiguity must lie between 0 and 1.")
    return [(split, place) for split, count in enumerate(counts) for place in range(count)]


@dataclass(frozen=True)
class _Pose:
    """Who shows what, and how it is seen. share: that of the lesser emotion; rng: draws the noise and the votes."""

    label: str
    main: str
    lesser: str
    share: float
    blend: dict[str, float]
    who: Identity
    view: View
    rng: np.random.Generator


def _pose(spec: Synthetic, split: int, place: int) -> _Pose:
    """Draw everything about one face except its pixels and its votes.

    The face blends two emotions: a lesser one with a share drawn uniformly from 0 to ambiguity / 2, and the main one
    with the rest. The label names one of the two with these probabilities, so a share of ambiguity / 4 of the labels,
    on average, is not what the face mainly shows.
    """
    block, position = divmod(place, sum(SHARES.values()))
    extra = [label for label, rows in SHARES.items() for _ in range(rows - 1)]
    rng = _stream(spec.seed, split, 0, block)
    label = (_shuffled(LABELS, rng) + _shuffled(extra, rng))[position]

    rng = _stream(spec.seed, split, 1, place)
    share = rng.random() * spec.ambiguity / 2
    main, lesser = label, LOOKALIKES[label][rng.integers(len(LOOKALIKES[label]))]
    if rng.random() < share:  # the label is given by SHARES, so it is the face that changes
        main, lesser = lesser, main
    strong, weak = _activations(main, rng), _activations(lesser, rng)
    blend = {unit: (1 - share) * strong[unit] + share * weak[unit] for unit in ACTION_UNITS}
    view = View(**{each.name: each.metadata["draw"](rng) for each in fields(View)})
    who = Identity(**{each.name: each.metadata["draw"](rng) for each in fields(Identity)})
    return _Pose(label, main, lesser, share, blend, who, view, rng)


def _draw_row(spec: Synthetic, split: int, place: int) -> tuple[Image, str, list[int]]:
    """Draw one face, its label and its votes.

    Ten annotators each name one of the two emotions with their shares as probabilities, as the label does. If part of
    the face is covered, an annotator answers "unknown" one time in five.
    """
    row = _pose(spec, split, place)
    rng = row.rng
    grainy = draw_face(row.blend, row.who, row.view) + rng.integers(-5, 6, (IMAGE_SIZE, IMAGE_SIZE))

    votes = [0] * len(VOTE_COLUMNS)
    for _ in range(10):
        named = VOTES_OF_LABELS[LABELS.index(row.lesser if rng.random() < row.share else row.main)]
        unsure = row.view.occluder != "none" and rng.random() < 0.2
        votes[VOTE_COLUMNS.index("unknown") if unsure else named] += 1
    return np.clip(grainy, 0, 255).astype(np.uint8), row.label, votes


def _stream(seed: int, *key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))


def _shuffled(items: Sequence[str], rng: np.random.Generator) -> list[str]:
    return sorted(items, key=lambda _: rng.random())


def _activations(emotion: str, rng: np.random.Generator) -> dict[str, float]:
    """Draw one instance of an emotion: which action units take part, and how strongly."""
    intensity, rates = 0.5 + 0.5 * rng.random(), EXPRESSIONS[emotion]
    strengths = {unit: intensity * (0.7 + 0.3 * rng.random()) for unit in ACTION_UNITS}
    return {unit: strengths[unit] if rng.random() < rates.get(unit, 0) else 0.0 for unit in ACTION_UNITS}


def to_fer_csv(data: FerData) -> bytes:
    """Return the data set in FER-2013's format: emotion, pixels (2,304 numbers separated by spaces), Usage."""
    digits = [str(value) for value in range(256)]
    rows = [
        f"{label},{' '.join([digits[value] for value in image.tobytes()])},{USAGES[split]}"
        for label, image, split in zip(data.labels, data.images, data.splits, strict=True)
    ]
    return "\n".join(["emotion,pixels,Usage", *rows, ""]).encode()


def to_votes_csv(data: FerData) -> bytes:
    """Return the votes in FER+'s format: Usage, Image name, `VOTE_COLUMNS`. Raises UserError if there are none."""
    if data.votes is None:
        raise UserError("This data set has no votes, so there is no FER+ file to write.")
    rows = [
        f"{USAGES[split]},fer{row:07d}.png,{','.join(map(str, votes))}"
        for row, (split, votes) in enumerate(zip(data.splits, data.votes.tolist(), strict=True))
    ]
    return "\n".join([",".join(["Usage", "Image name", *VOTE_COLUMNS]), *rows, ""]).encode()
