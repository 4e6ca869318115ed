"""Stage landmarks: find 68 points of each face, and the training images with the most similar ones.

Nothing is found, and two archives without arrays are written, unless landmarks.source says where points come from.
"""

from __future__ import annotations

from pipeline import cli, config, workspace
from pipeline.data.duplicates import read_near_groups
from pipeline.data.fer import SPLITS, FerData
from pipeline.data.synthetic.dataset import draw_landmarks
from pipeline.errors import UserError
from pipeline.landmarks import predictor, shapes
from pipeline.landmarks.neighbours import nearest
from pipeline.landmarks.points import Landmarks, of_all, save_none
from pipeline.workspace import LANDMARKS, NEIGHBOURS, PREPARED, resolve


def main() -> None:
    params = config.load()
    workspace.clear(LANDMARKS.parent)
    if params.landmark_source == "none":
        save_none(LANDMARKS)
        save_none(NEIGHBOURS)
        return
    data = FerData.load(PREPARED)
    if params.landmark_source == "drawer":
        landmarks = of_all(draw_landmarks(params.data.synthetic))
    else:
        landmarks = predictor.find(data.images, resolve(params.landmarks.predictor))
    for split in SPLITS:
        found = landmarks.found[data.rows(split)]
        print(f"{split}: landmarks of {found.sum():,} of {len(found):,} images")

    training = data.rows("train")
    some = Landmarks(landmarks.points[training], landmarks.found[training])
    if not some.found.any():
        raise UserError("landmarks.source: dlib finds a face in no training image: use other data, or set it to none.")
    groups = read_near_groups(PREPARED / "duplicates.csv", len(data.labels))[training]
    places = shapes.aligned(some.points, shapes.mean_shape(some.points[some.found])).reshape(len(training), -1)
    nearest(places, groups, some.found, params.landmarks.neighbours).save(NEIGHBOURS)
    landmarks.save(LANDMARKS)  # last: without it the folder is half an output


if __name__ == "__main__":
    cli.script(main)
