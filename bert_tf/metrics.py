"""Metrics by name, as GLUE's leaderboard has them; the mathematics is scikit-learn's and SciPy's.

Labels and predictions are class ids, numbers for `pearson`, rows of 0 and 1 for `multilabel_f1`.
Where a value is undefined it is reported as 0 and a warning says so.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from absl import logging

Scores = dict[str, float]

MULTILABEL_THRESHOLD = 0.5  # a row of a multi-label task has the classes at least so probable


@dataclass(frozen=True)
class Metric:
    """`primary` names the value that decides which checkpoint is best; higher is better."""

    primary: str
    function: Callable[[np.ndarray, np.ndarray], Scores]

    def compute(
        self, labels: Sequence[float] | np.ndarray, predictions: Sequence[float] | np.ndarray
    ) -> Scores:
        """Values by name, the primary one first.

        Raises: ValueError if there are no examples or not as many predictions as labels.
        """
        if len(labels) != len(predictions) or len(labels) == 0:
            raise ValueError(
                f"{self.primary}: {len(labels)} labels and {len(predictions)} predictions; "
                "there must be as many of each, and at least one"
            )
        return self.function(np.asarray(labels), np.asarray(predictions))


def accuracy(labels: np.ndarray, predictions: np.ndarray) -> Scores:
    """Share of the predictions that are right."""
    return {"accuracy": float(np.mean(labels == predictions))}


def f1(labels: np.ndarray, predictions: np.ndarray) -> Scores:
    """F1 of class 1, and accuracy (MRPC, QQP). 0 if class 1 is neither there nor predicted."""
    from sklearn.metrics import f1_score

    if not labels.any() and not predictions.any():
        logging.warning("f1 is undefined: no example is or was predicted 1; reported as 0")
    value = f1_score(labels, predictions, pos_label=1, average="binary", zero_division=0.0)
    return {"f1": float(value), **accuracy(labels, predictions)}


def matthews(labels: np.ndarray, predictions: np.ndarray) -> Scores:
    """Matthews' correlation coefficient, and accuracy (CoLA, AX). 0 if either side is constant."""
    from sklearn.metrics import matthews_corrcoef

    undefined = _is_undefined("matthews", labels, predictions)
    value = 0.0 if undefined else float(matthews_corrcoef(labels, predictions))
    return {"matthews": value, **accuracy(labels, predictions)}


def pearson(labels: np.ndarray, predictions: np.ndarray) -> Scores:
    """Pearson's and Spearman's correlation (STS-B). 0 if either side is constant or not finite."""
    from scipy.stats import pearsonr, spearmanr

    if _is_undefined("pearson", labels, predictions):
        return {"pearson": 0.0, "spearman": 0.0}
    return {
        "pearson": float(pearsonr(labels, predictions).statistic),
        "spearman": float(spearmanr(labels, predictions).statistic),
    }


def multilabel_f1(labels: np.ndarray, predictions: np.ndarray) -> Scores:
    """Of rows with any number of classes, both 0 or 1 [rows, L].

    F1 over all decisions (micro), the mean of the classes' F1 (macro; 0 for a class that is neither
    there nor predicted), and the share of the rows in which every decision is right.
    """
    from sklearn.metrics import f1_score

    def f1(average: str) -> float:
        return float(f1_score(labels, predictions, average=average, zero_division=0.0))

    exact = float(np.mean((labels == predictions).all(axis=1)))
    return {"micro_f1": f1("micro"), "macro_f1": f1("macro"), "exact_match": exact}


METRICS: dict[str, Metric] = {
    function.__name__: Metric(primary, function)
    for primary, function in (
        ("accuracy", accuracy),
        ("f1", f1),
        ("matthews", matthews),
        ("pearson", pearson),
        ("micro_f1", multilabel_f1),
    )
}


def _is_undefined(name: str, labels: np.ndarray, predictions: np.ndarray) -> bool:
    for what, values in (("label", labels), ("prediction", predictions)):
        if not np.isfinite(values).all():
            logging.warning("%s is undefined: a %s is not finite; reported as 0", name, what)
            return True
        if (values == values[0]).all():
            logging.warning("%s is undefined: every %s is %s; reported as 0", name, what, values[0])
            return True
    return False
