"""Say which rows are corrected together: every row of a comparison belongs to one family.

Holm's correction answers "is any of these rows different?", so a family is one question. What a row is follows from its
settings and from the baseline's, not from its name.
"""

from __future__ import annotations

from typing import Literal

from pipeline.files import JsonDict
from pipeline.labels.targets import TargetSpec

Family = Literal["words", "controls", "decoders", "systems"]

WORDS: Family = "words"

QUESTIONS: dict[Family, str] = {
    "words": "losses that use the similarities of the label words",
    "controls": "losses that do not use the similarities of the label words: they use the labels alone, vectors "
    "without similarities, or the similarities of feelings, votes or permuted words",
    "decoders": "another decoder for the output of a row",
    "systems": "any other change to training (labels, batches, network or steps), and its controls",
}
"""Every family and what is in it."""

SYSTEM_LOSSES = ("relative_uncertainty", "self_cure")
"""Losses that belong to a way of training of their own (docs/methods.md)."""
LABEL_BLIND = ("original_second",)
"""A loss on words that never looks at the label: a control."""
OF_THE_LOSS = ("name", "options", "targets")
"""The keys of `settings.loss` that describe the loss itself; all others are further choices."""


def family_of(settings: JsonDict, baseline: JsonDict, own_decoder: bool) -> Family:
    """Return the family of a row with these settings (`settings` of a metrics file) given a baseline with those.

    A choice that the baseline makes too, such as fewer labels, is no difference between the two. own_decoder: whether
    the row is under its model's own decoder.
    """
    if not own_decoder:
        return "decoders"
    loss = settings["loss"]
    if loss["name"] in SYSTEM_LOSSES or _choices(settings) != _choices(baseline):
        return "systems"
    on_words = TargetSpec.parse(loss["targets"]).has_similarities_of_words
    return "words" if on_words and loss["name"] not in LABEL_BLIND else "controls"


def _choices(settings: JsonDict) -> JsonDict:
    """Return all settings but the loss itself and its learning rate."""
    choices = {name: value for name, value in settings["loss"].items() if name not in OF_THE_LOSS}
    return choices | {"recipe": settings.get("recipe")}
