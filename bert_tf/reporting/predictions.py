"""What a report says of predictions beside the truth: classes, numbers, labels of words.

N is the number of examples and L that of labels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from bert_tf.metrics import MULTILABEL_THRESHOLD
from bert_tf.reporting import figures, measures
from bert_tf.reporting.parts import Figure, Section, Table, Text, number, worst_errors

CLASSIFICATION, REGRESSION, MULTILABEL = "classification", "regression", "multilabel"
TASK_TYPES = (CLASSIFICATION, REGRESSION, MULTILABEL)
_MATRIX_LABELS = 12  # of more, the confusion matrix is an image
_PAIRS = 20


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """The outputs of a model for N examples beside the truth.

    Attributes:
      task_type: one of `TASK_TYPES`.
      labels: names in the order of the model's ids; none for a regression.
      columns: what is shown of a wrong example: heading -> N cells, such as its place and texts.
      expected: class ids `[N]`, numbers `[N]`, or for a multilabel task 0 and 1 `[N, L]`.
      outputs: probabilities `[N, L]`; for a regression the predicted numbers `[N]`.
      threshold: a multilabel probability of at least this much is a "yes".

    Raises:
      ValueError: there are no examples, or the parts are not of one size, or an output is not a
        finite number.
    """

    task_type: str
    labels: Sequence[str]
    columns: Mapping[str, Sequence[str | Text]]
    expected: np.ndarray
    outputs: np.ndarray
    threshold: float = MULTILABEL_THRESHOLD

    def __post_init__(self) -> None:
        if self.task_type not in TASK_TYPES:
            raise ValueError(f"task_type={self.task_type!r}; there are {', '.join(TASK_TYPES)}")
        rows, columns = len(self.expected), len(self.labels)
        wide = (rows, columns)
        outputs = (rows,) if self.task_type == REGRESSION else wide
        expected = wide if self.task_type == MULTILABEL else (rows,)
        for name, array, shape in (
            ("expected", self.expected, expected),
            ("outputs", self.outputs, outputs),
        ):
            if not rows or array.shape != shape:
                raise ValueError(
                    f"a report on {rows} examples and {columns} labels needs {name} of shape "
                    f"{list(shape)}, not {list(array.shape)}, and at least one example"
                )
        if not np.isfinite(self.outputs).all():
            raise ValueError("the model's outputs are not finite; there is nothing to report on")

    @property
    def predicted(self) -> np.ndarray:
        """In the form of `expected`."""
        if self.task_type == CLASSIFICATION:
            return self.outputs.argmax(axis=1)
        if self.task_type == MULTILABEL:
            return (self.outputs >= self.threshold).astype(int)
        return self.outputs

    @property
    def losses(self) -> np.ndarray:
        """float64 `[N]`: cross-entropy, its mean over the labels, or the squared error."""
        outputs = self.outputs.astype(np.float64)
        if self.task_type == REGRESSION:
            return (outputs - self.expected) ** 2
        tiny = np.finfo(np.float64).tiny  # a probability that was rounded to 0 has a finite loss
        if self.task_type == CLASSIFICATION:
            of_true = outputs[np.arange(len(outputs)), self.expected]
            return -np.log(np.maximum(of_true, tiny))
        of_true = np.where(self.expected == 1, outputs, 1 - outputs)
        return -np.log(np.maximum(of_true, tiny)).mean(axis=1)

    def sections(self) -> list[Section]:
        """Return what the page says of them."""
        if self.task_type == REGRESSION:
            return [_regression(self), *_worst(self)]
        both = self.labels, self.expected, self.predicted
        if self.task_type == CLASSIFICATION:
            found = [_labels(*both), _confusion(*both, "examples")]
        else:
            least = f"A label is predicted where its probability is {self.threshold} or more."
            found = [_labels(*both, least)]
        return [*found, _calibration(self), *_worst(self)]


def labels_of_words(
    labels: Sequence[str], expected: np.ndarray, predicted: np.ndarray
) -> list[Section]:
    """Return what the page says of the labels of N words, both as ids `[N]`."""
    confusion = _confusion(labels, expected, predicted, "words")
    return [_labels(labels, expected, predicted), confusion]


def _labels(
    labels: Sequence[str], expected: np.ndarray, predicted: np.ndarray, intro: str = ""
) -> Section:
    each, averages = measures.class_scores(expected, predicted, len(labels))
    header = ("number", "label", "precision", "recall", "F1", "support")
    rows = [
        (i, label, *_scores(score))
        for i, (label, score) in enumerate(zip(labels, each, strict=True))
    ]
    rows += [("", f"{name} average", *_scores(score)) for name, score in averages.items()]
    table = Table("Scores of each label", header, rows)
    intro = f"Undefined values (nothing to divide by) count as 0. {intro}"
    return Section("Labels", intro, tables=[table])


def _scores(score: measures.ClassScore) -> tuple[str, ...]:
    return (*(f"{value:.4f}" for value in score[:3]), f"{score.support:,}")


def _confusion(
    labels: Sequence[str], expected: np.ndarray, predicted: np.ndarray, what: str
) -> Section:
    matrix = measures.confusion(expected, predicted, len(labels))
    wrong = int(matrix.sum() - np.trace(matrix))
    intro = f"{wrong:,} of {int(matrix.sum()):,} {what} are predicted wrongly."
    if len(labels) <= _MATRIX_LABELS:
        shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        rows = [
            (label, *((f"{n:,}", f"{share:.3f}") for n, share in zip(*pair, strict=True)))
            for label, *pair in zip(labels, matrix.tolist(), shares.tolist(), strict=True)
        ]
        table = Table("Rows: true label; columns: predicted", ("true \\ predicted", *labels), rows)
        return Section("Confusion matrix", intro, matrix=table)
    pairs = measures.most_confused(matrix, _PAIRS)
    rows = [(f"{i}: {labels[i]}", f"{j}: {labels[j]}", f"{n:,}") for i, j, n in pairs]
    diagonal = np.diag(matrix) / np.maximum(matrix.sum(axis=1), 1)
    alt = (
        f"Confusion matrix of {len(labels)} classes, numbered as in the table of labels; "
        f"shares on the diagonal from {diagonal.min():.2f} to {diagonal.max():.2f}. "
        "The most confused pairs are in the table below."
    )
    caption = f"Each row is a true class; the colour is the share of its {what}."
    return Section(
        "Confusion matrix",
        intro,
        figures=[Figure(figures.confusion(matrix), alt, caption)],
        tables=[Table("Most confused pairs", ("true", "predicted", what), rows)] if rows else [],
    )


def _calibration(report: Predictions) -> Section:
    if report.task_type == CLASSIFICATION:
        probabilities = report.outputs.max(axis=1)
        came_true = report.predicted == report.expected
        what = "probability of the predicted class, against how often it was right"
    else:
        probabilities, came_true = report.outputs.ravel(), report.expected.ravel() == 1
        what = "probability of each label, against how often examples have it"
    found = measures.calibration(probabilities, came_true)
    error = f"{found.error:.4f}"
    rows = [
        (f"{b.low:.3f} to {b.high:.3f}", f"{b.size:,}", f"{b.confidence:.4f}", f"{b.accuracy:.4f}")
        for b in found.bins
        if b.size
    ]
    header = ("probability", "count", "mean probability", "share that came true")
    alt = f"Reliability plot; expected calibration error {error}. Its numbers are in the table."
    return Section(
        "Calibration",
        f"Expected calibration error: {error} ({len(found.bins)} bins of equal width; {what}).",
        figures=[Figure(figures.reliability(found), alt, f"Reliability: {what}.")],
        tables=[Table("Reliability by bin", header, rows)],
    )


def _regression(report: Predictions) -> Section:
    expected, predicted = report.expected.astype(float), report.predicted.astype(float)
    errors = measures.regression_errors(expected, predicted)
    low, high = (number(f(predicted - expected)) for f in (np.min, np.max))
    return Section(
        "Predictions",
        figures=[
            Figure(
                figures.scatter(expected, predicted),
                f"Predicted against true numbers of {len(expected):,} examples",
                "Predicted against true; on the dashed line they are equal.",
            ),
            Figure(
                figures.residuals(expected, predicted),
                f"Residuals (predicted - true) from {low} to {high}, against the prediction",
                "Residuals against the prediction, and how often each is.",
            ),
        ],
        tables=[Table("Errors", ("name", "value"), [(k, number(v)) for k, v in errors.items()])],
    )


def _worst(report: Predictions) -> list[Section]:
    losses, wrong = report.losses, np.ones(len(report.losses), bool)
    what = "predictions (squared error)."
    if report.task_type != REGRESSION:
        wrong = report.predicted != report.expected
        wrong = wrong if wrong.ndim == 1 else wrong.any(axis=1)
        kind = "cross-entropy" if report.task_type == CLASSIFICATION else "mean cross-entropy"
        what = f"examples that are predicted wrongly, by their loss ({kind})."
    header = (*report.columns, *_ANSWER[report.task_type], "loss")

    def row(i: int) -> tuple[str | Text, ...]:
        shown = (cells[i] for cells in report.columns.values())
        return (*shown, *_answer(report, i), f"{losses[i]:.4f}")

    return worst_errors(what, header, np.where(wrong, losses, 0).tolist(), row)


_ANSWER = {
    CLASSIFICATION: ("true", "its probability", "predicted", "probability of that"),
    MULTILABEL: ("true (probability)", "predicted (probability)"),
    REGRESSION: ("true", "predicted"),
}


def _answer(report: Predictions, i: int) -> tuple[str, ...]:
    """Return the cells of example i for the columns `_ANSWER`."""
    expected, predicted, outputs = report.expected[i], report.predicted[i], report.outputs[i]
    labels = report.labels
    if report.task_type == REGRESSION:
        return number(expected), number(predicted)
    if report.task_type == CLASSIFICATION:
        return (
            *(labels[expected], number(outputs[expected])),
            *(labels[predicted], number(outputs[predicted])),
        )

    def listed(chosen: Iterable[int]) -> str:
        return ", ".join(f"{labels[j]} ({number(outputs[j])})" for j in chosen) or "none"

    return listed(np.flatnonzero(expected)), listed(np.flatnonzero(predicted))
