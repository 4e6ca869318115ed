"""Write each metric as a mean over images, so that one test serves all of them (`statistics.crossed_t`).

Accuracy and mean severity are means already. Recall, F1 and the severity of mistakes are ratios of two means, R = sum a
/ sum b. Each image n stands for

    u_n = R + (a_n - R b_n) N / sum b * sqrt(m / (m - 1)),

whose mean is R exactly and whose variance is that of R up to terms of order 1 / N (delta method; Woodruff 1971). m is
the number of images with b > 0; the root makes the variance of a recall unbiased. Sums of ratios, such as macro F1, are
sums of such values. All arrays are about the same N images: labels and predicted int [N], values float64 [N].
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Classes = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float64]


def ratio(numerator: npt.ArrayLike, denominator: npt.ArrayLike) -> Floats:
    """Return the values [N] that stand for sum numerator / sum denominator; zeros if the latter is zero."""
    a, b = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    if b.sum() == 0:
        return np.zeros_like(a)
    value, m = a.sum() / b.sum(), int(np.count_nonzero(b))
    return np.asarray(value + (a - value * b) * (len(a) / b.sum() * (m / max(1, m - 1)) ** 0.5))


def severity(labels: Classes, predicted: Classes, distance: Floats) -> Floats:
    """Return the distance [K, K] from label to decision of each image: 0 where it is right."""
    return np.asarray(distance[labels, predicted])


def severity_of_mistakes(labels: Classes, predicted: Classes, distance: Floats) -> Floats:
    """Return values whose mean is the mean severity of the mistakes; zeros without a mistake."""
    return ratio(severity(labels, predicted, distance), labels != predicted)


def balanced_accuracy(labels: Classes, predicted: Classes) -> Floats:
    """Return values whose mean is the mean recall of the classes that occur."""
    occurring = np.unique(labels)
    return weighted_recalls(labels, predicted, {int(k): 1 / len(occurring) for k in occurring})


def weighted_recalls(labels: Classes, predicted: Classes, shares: dict[int, float]) -> Floats:
    """Return values whose mean is the sum over classes k of shares[k] times recall k.

    With the shares of another set it is the accuracy that these images would give there.
    """
    right = labels == predicted
    return _sum(share * ratio(right & (labels == k), labels == k) for k, share in shares.items())


def macro_f1(labels: Classes, predicted: Classes, classes: int) -> Floats:
    """Return values whose mean is the mean F1 of all K classes, F1_k = 2 hits / (images + decisions)."""
    return _sum(
        ratio(2 * ((labels == k) & (predicted == k)), (labels == k) * 1.0 + (predicted == k)) / classes
        for k in range(classes)
    )


def counts(labels: Classes) -> dict[int, int]:
    """Return the number of images of each class that occurs."""
    found, images = np.unique(labels, return_counts=True)
    return dict(zip(found.tolist(), images.tolist(), strict=True))


def _sum(values: Iterable[Floats]) -> Floats:
    return np.asarray(np.sum([*values], axis=0))
