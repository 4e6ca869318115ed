"""Fit classifiers on hand-made features with scikit-learn.

A new classifier is one frozen dataclass, whose fields are its options, one entry in `CLASSIFIERS` and one test.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import Field

from pipeline.classical.decisions import Decision, Kernel, Linear, Stumps
from pipeline.classical.faces import Faces
from pipeline.classical.features import Appearance, Features, FeatureSet, Geometry
from pipeline.errors import UserError
from pipeline.schema import Positive

logger = logging.getLogger(__name__)

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]
Rounds = Annotated[int, Field(ge=1)]

LAZY = 0.02
"""The share of the features that a stump may choose from, drawn for each: lazy boosting (Escudero et al. 2000). With
all of them a fit on FER-2013 would take an hour."""
TOLERANCE, PASSES = 0.01, 1000
"""Where the SVM's solver stops, and where it gives up."""
CENTRES = 500
"""The training images that stand for all in the RBF kernel (Nystroem; Williams & Seeger, NIPS 2000)."""


@dataclass(frozen=True)
class Fitted:
    """A fitted classifier.

    chosen: int [M], the features that it uses; origin, scale: [M]; its decision sees (feature - origin) / scale.
    usual: [M], what it sees instead where the features are not known, the mean of Training.
    """

    classifier: Classifier
    chosen: Ints
    origin: Floats
    scale: Floats
    usual: Floats
    decision: Decision

    def seen(self, features: Features) -> Floats:
        """Return what the decision sees of features [N, D]: float64 [N, M]."""
        x = (features[:, self.chosen].astype(np.float64) - self.origin) / self.scale
        return np.where(np.isnan(x), self.usual, x)

    def scores(self, faces: Faces) -> Floats:
        """Return a score for each class: float64 [N, K]."""
        return self.decision.scores(self.seen(self.classifier.features(faces)))

    def maps(self, faces: Faces, classes: Ints) -> Floats:
        """Return where in the images that lies which speaks for `classes` [N]: [N, 48, 48], 0 or more."""
        parts = self.decision.contributions(self.seen(self.classifier.features(faces)), classes)
        return np.maximum(self.classifier.features.maps(parts, self.chosen, faces), 0)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return everything but the classifier itself, by name."""
        decision = {f"decision.{name}": array for name, array in self.decision.arrays().items()}
        own = {"chosen": self.chosen, "origin": self.origin, "scale": self.scale, "usual": self.usual}
        return own | decision

    @classmethod
    def of(cls, classifier: Classifier, arrays: Mapping[str, npt.NDArray[Any]]) -> Fitted:
        """Return the classifier that has these `arrays`."""
        prefix = "decision."
        inner = {name.removeprefix(prefix): arrays[name] for name in arrays if name.startswith(prefix)}
        own = {name: array for name, array in arrays.items() if not name.startswith(prefix)}
        return cls(classifier, decision=classifier.decision.of(inner), **own)


class Classifier(Protocol):
    """A classifier with its options. loss: what it minimises; decision: the form of what is fitted."""

    loss: ClassVar[str]
    features: ClassVar[FeatureSet]
    decision: ClassVar[type[Decision]]

    def fit(self, faces: Faces, labels: Ints, seed: int, classes: Sequence[str]) -> Fitted:
        """Fit to the faces of Training and their labels [N], indices into the K `classes`, each among them."""


@dataclass(frozen=True)
class GeometrySvm:
    """After Ghimire & Lee (Sensors 2013), for stills: boosting picks distances of landmarks, an SVM decides by them.

    Distances are taken minus those of the mean neutral face of Training, where the original has the first frame of a
    sequence (minus those of the mean face if no class is called neutral); neither stumps nor the kernel see this common
    shift, only heat maps do. `stumps` rounds of SAMME each pick one. The SVM has an RBF kernel exp(-gamma |x - c|^2), x
    with variances that add up to 1 over Training, and cost `C` of the squared hinge loss, one class against the others.
    """

    stumps: Rounds = 300
    gamma: Positive = 0.33
    C: Positive = 9.0
    loss: ClassVar[str] = "squared_hinge"
    features: ClassVar[FeatureSet] = Geometry()
    decision: ClassVar[type[Decision]] = Kernel

    def fit(self, faces: Faces, labels: Ints, seed: int, classes: Sequence[str]) -> Fitted:
        from sklearn.kernel_approximation import Nystroem

        features = self.features(faces)
        known = ~np.isnan(features).any(axis=1)
        features, labels = features[known], _of_every_class(labels[known], classes)
        neutral = labels == classes.index("neutral") if "neutral" in classes else np.ones(len(labels), bool)
        origin, scale = features[neutral].mean(axis=0), _spread(features)
        chosen = np.unique(_boost(features, labels, self.stumps, seed).feature)  # in any units
        origin, scale = origin[chosen], scale[chosen] * np.sqrt(len(chosen))
        x = (features[:, chosen].astype(np.float64) - origin) / scale
        kernel = Nystroem(gamma=self.gamma, n_components=min(CENTRES, len(x)), random_state=seed).fit(x)
        svm = _svm(kernel.transform(x), labels, self.C, seed)
        decision = Kernel(kernel.components_, svm.weights @ kernel.normalization_, svm.bias, np.array([self.gamma]))
        return Fitted(self, chosen, origin, scale, x.mean(axis=0), decision)


@dataclass(frozen=True)
class HogSvm:
    """A linear SVM on HOG and LBP; `C` is the cost of the squared hinge loss, one class against the others.

    Features have mean 0 over Training, and their squares add up to 1 on average.
    """

    C: Positive = 0.1
    loss: ClassVar[str] = "squared_hinge"
    features: ClassVar[FeatureSet] = Appearance()
    decision: ClassVar[type[Decision]] = Linear

    def fit(self, faces: Faces, labels: Ints, seed: int, classes: Sequence[str]) -> Fitted:
        features = self.features(faces)
        every = np.arange(features.shape[1])
        origin, scale = features.mean(axis=0), _spread(features) * np.sqrt(len(every))
        features -= origin  # in place: on FER-2013 they are 340 MB
        features /= scale
        svm = _svm(features, _of_every_class(labels, classes), self.C, seed)
        return Fitted(self, every, origin, scale, np.zeros(len(every)), svm)


@dataclass(frozen=True)
class HogBoost:
    """AdaBoost of `stumps` decision stumps on HOG and LBP."""

    stumps: Rounds = 600
    loss: ClassVar[str] = "exponential"
    features: ClassVar[FeatureSet] = Appearance()
    decision: ClassVar[type[Decision]] = Stumps

    def fit(self, faces: Faces, labels: Ints, seed: int, classes: Sequence[str]) -> Fitted:
        found = _boost(self.features(faces), _of_every_class(labels, classes), self.stumps, seed)
        chosen, feature = np.unique(found.feature, return_inverse=True)
        zero, one = np.zeros(len(chosen)), np.ones(len(chosen))
        return Fitted(self, chosen, zero, one, zero, replace(found, feature=feature))


CLASSIFIERS: dict[str, type[Classifier]] = {"geometry": GeometrySvm, "hog": HogSvm, "hog_boost": HogBoost}
"""The names that `models.<name>.classifier` in params.yaml may use."""


def _of_every_class(labels: Ints, classes: Sequence[str]) -> Ints:
    """Return the labels. Raises UserError unless all classes are among them."""
    missing = [label for k, label in enumerate(classes) if k not in labels]
    if missing:
        raise UserError(
            f"Training has no image of {', '.join(missing)} to fit a classifier to (images without landmarks do not "
            "count where it uses them): use more data, or take the model out of grid.models."
        )
    return labels


def _spread(features: Features) -> Floats:
    """Return the standard deviation of each feature, 1 for one that is constant."""
    spread = features.std(axis=0)
    return np.where(spread > 0, spread, 1)


def _svm(x: Floats, labels: Ints, cost: float, seed: int) -> Linear:
    """Fit linear SVMs, one class against the others, by dual coordinate descent (LIBLINEAR)."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    svm = LinearSVC(C=cost, dual=True, tol=TOLERANCE, max_iter=PASSES, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # said below, in one line
        svm.fit(x, labels)
    if svm.n_iter_ >= PASSES:
        logger.warning(f"The SVM has not settled after {PASSES:,} passes over the images: a smaller C does.")
    weights, bias = svm.coef_, svm.intercept_
    if len(bias) == 1:  # of two classes scikit-learn has the second one's alone
        weights, bias = np.concatenate([-weights, weights]), np.concatenate([-bias, bias])
    return Linear(weights, bias)


def _boost(x: Floats, labels: Ints, stumps: int, seed: int) -> Stumps:
    """Fit decision stumps by SAMME, the multi-class AdaBoost of Zhu et al. (2009)."""
    from sklearn.ensemble import AdaBoostClassifier
    from sklearn.tree import DecisionTreeClassifier

    stump = DecisionTreeClassifier(max_depth=1, max_features=LAZY)
    boosted = AdaBoostClassifier(stump, n_estimators=stumps, random_state=seed).fit(x, labels)
    trees = [tree.tree_ for tree in boosted.estimators_]
    below, above = np.transpose([tree.value[1:, 0].argmax(axis=1) for tree in trees])
    return Stumps(
        feature=np.array([tree.feature[0] for tree in trees], np.int64),
        threshold=np.array([tree.threshold[0] for tree in trees]),
        below=below,
        above=above,
        votes=boosted.estimator_weights_[: len(trees)],
        classes=np.array([len(boosted.classes_)]),
    )
