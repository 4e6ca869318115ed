"""A classifier without a network as evaluation sees it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipeline.classical.classifiers import GeometrySvm
from pipeline.classical.faces import Faces
from pipeline.data.fer import LABELS
from pipeline.data.synthetic.dataset import Synthetic, draw, draw_landmarks
from pipeline.evaluation.models import Classical
from pipeline.landmarks.points import of_all

SPEC = Synthetic(seed=3, train=70, val=14, test=7, ambiguity=0.0)


def test_with_flip_the_mirror_images_are_scored_with_mirrored_landmarks() -> None:
    data, landmarks = draw(SPEC), of_all(draw_landmarks(SPEC))
    rows, training = data.rows("val"), data.rows("train")
    fitted = GeometrySvm(stumps=20).fit(Faces.of(data, training, landmarks), data.labels[training], 0, LABELS)
    model = Classical(fitted, data, landmarks)
    turned = Faces.of(data, np.arange(len(data.labels)), landmarks).mirrored()
    mirror = Classical(fitted, replace(data, images=turned.images), turned.landmarks)
    straight, flipped = model.outputs(rows), model.outputs(rows, flip=True)
    np.testing.assert_array_equal(flipped.scores, mirror.outputs(rows).scores)
    assert not np.allclose(flipped.scores, straight.scores)
    np.testing.assert_allclose(flipped.probabilities.sum(axis=1), 1)
