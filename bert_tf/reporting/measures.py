"""What a report says of predictions, as numbers; the mathematics is scikit-learn's.

N is the number of examples and L that of labels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

NUM_BINS = 15  # of the calibration error, as in Guo et al. 2017


class ClassScore(NamedTuple):
    """One label's, or an average's, share of right answers among its predictions and examples."""

    precision: float
    recall: float
    f1: float
    support: int  # examples that have the label


def class_scores(
    expected: np.ndarray, predicted: np.ndarray, num_labels: int
) -> tuple[list[ClassScore], dict[str, ClassScore]]:
    """The scores of each label, and their averages; undefined ones are 0.

    Args:
      expected, predicted: class ids `[N]`, or 0 and 1 `[N, L]`.

    Returns:
      L scores, and the averages `macro` (labels count alike), `weighted` (by support) and, for a
      multilabel task, where it is not the accuracy, `micro`.
    """
    from sklearn.metrics import precision_recall_fscore_support

    def scores(average: str | None) -> tuple[np.ndarray, ...]:
        return precision_recall_fscore_support(
            expected,
            predicted,
            labels=np.arange(num_labels),
            average=average,
            zero_division=0.0,
        )

    each = [
        ClassScore(float(p), float(r), float(f), int(n))
        for p, r, f, n in zip(*scores(None), strict=True)
    ]
    total = sum(score.support for score in each)
    averages = {}
    for name in ("macro", "weighted", *(["micro"] if expected.ndim == 2 else [])):
        precision, recall, f1, _ = scores(name)
        averages[name] = ClassScore(float(precision), float(recall), float(f1), total)
    return each, averages


def confusion(expected: np.ndarray, predicted: np.ndarray, num_labels: int) -> np.ndarray:
    """int64 `[L, L]`: examples of class i that were predicted as class j."""
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(expected, predicted, labels=np.arange(num_labels))


def most_confused(matrix: np.ndarray, count: int) -> list[tuple[int, int, int]]:
    """The largest entries off the diagonal of `confusion`: (true, predicted, examples)."""
    wrong = matrix - np.diag(np.diag(matrix))
    order = np.argsort(-wrong, axis=None, kind="stable")[:count]
    pairs = [(int(i), int(j)) for i, j in zip(*np.unravel_index(order, wrong.shape), strict=True)]
    return [(i, j, int(wrong[i, j])) for i, j in pairs if wrong[i, j]]


class Bin(NamedTuple):
    """Predictions whose probability lies in (low, high]; NaN means where there are none."""

    low: float
    high: float
    size: int
    confidence: float  # mean probability
    accuracy: float  # share that came true


class Calibration(NamedTuple):
    """How far probabilities are from the shares in which they come true."""

    error: float
    bins: list[Bin]


def calibration(
    probabilities: np.ndarray, came_true: np.ndarray, num_bins: int = NUM_BINS
) -> Calibration:
    """The expected calibration error over bins of equal width (Guo et al. 2017, section 2).

    Args:
      probabilities: float `[M]` from 0 to 1.
      came_true: bool or 0 and 1 `[M]`.

    Returns:
      `error`: the mean over all M of |mean probability - share that came true| of their bin.
    """
    edges = np.linspace(0, 1, num_bins + 1)
    # Bin m holds (edge m, edge m + 1]; 0 itself belongs to the first.
    places = np.clip(np.searchsorted(edges, probabilities, side="left") - 1, 0, num_bins - 1)
    counts = np.bincount(places, minlength=num_bins)
    with np.errstate(invalid="ignore"):  # 0 / 0 in an empty bin
        confidences = np.bincount(places, probabilities, num_bins) / counts
        accuracies = np.bincount(places, came_true, num_bins) / counts
    gaps = np.where(counts > 0, np.abs(confidences - accuracies), 0)
    rows = zip(edges[:-1], edges[1:], counts, confidences, accuracies, strict=True)
    bins = [Bin(float(a), float(b), int(n), float(c), float(s)) for a, b, n, c, s in rows]
    return Calibration(float((gaps * counts).sum() / counts.sum()), bins)


def regression_errors(expected: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Errors of predicted numbers, by name; the coefficient of determination only if defined."""
    from sklearn import metrics

    errors = {
        "mean error (predicted - true)": float(np.mean(predicted - expected)),
        "mean absolute error": float(metrics.mean_absolute_error(expected, predicted)),
        "root mean squared error": float(metrics.root_mean_squared_error(expected, predicted)),
    }
    if (expected != expected[0]).any():
        errors["coefficient of determination"] = float(metrics.r2_score(expected, predicted))
    return errors
