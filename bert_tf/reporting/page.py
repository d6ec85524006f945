"""A `RunReport` as one HTML page: tables and figures are made here, the template lays them out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np

from bert_tf.reporting import figures, measures
from bert_tf.reporting.run import CLASSIFICATION, MULTILABEL, REGRESSION, RunReport

_MATRIX_LABELS = 12  # of more, the confusion matrix is an image
_WORST = 20
_PAIRS = 20
_TEXT = 300  # characters of an example that are shown
_FIRST_CURVES = ("loss", "learning_rate")


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows under a header; the first cell of a row is its heading unless `plain`."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Any]]
    plain: bool = False


@dataclasses.dataclass(frozen=True)
class Figure:
    """An image, what it shows in words for those who do not see it, and its caption."""

    uri: str
    alt: str
    caption: str


@dataclasses.dataclass(frozen=True)
class Text:
    """A cell with the words of an example: as much as is shown, and how much is not."""

    shown: str
    left_out: int


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    title: str
    intro: str = ""
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    matrix: Table | None = None  # counts whose rows are shaded by share
    text: str = ""


def render(report: RunReport) -> str:
    """The page: UTF-8 HTML without a script or an address; the same bytes for the same report."""
    import jinja2

    source = resources.files(__package__).joinpath("report.html.j2").read_text("utf-8")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.globals["is_text"] = lambda cell: isinstance(cell, Text)
    page = environment.from_string(source).render(title=report.title, sections=_sections(report))
    # Half of a surrogate pair, which JSON can hold, is no character: it stands as its escape.
    return page.encode("utf-8", "backslashreplace").decode("utf-8")


def _sections(report: RunReport) -> Iterator[Section]:
    yield _named_values("Metrics", "Every number of the run", dict(_flat(report.metrics)))
    if report.curves:
        yield _curves(report.curves)
    if report.task_type == REGRESSION:
        yield _regression(report)
    else:
        yield _classes(report)
        if report.task_type == CLASSIFICATION:
            yield _confusion(report)
        yield _calibration(report)
    yield _worst(report)
    yield _named_values("Flags", "What the run was told", report.flags)
    yield _named_values("Versions", "Packages that made the run", report.versions)
    yield _named_values("Data", "SHA-256 of what was read", report.fingerprints)
    if report.data_report:
        yield Section("Data report", text=report.data_report)


# ------------------------------------------------------------------------------------ sections


def _named_values(title: str, caption: str, values: Mapping[str, Any]) -> Section:
    if not values:
        return Section(title, "None were recorded.")
    rows = [(name, _number(value)) for name, value in values.items()]
    return Section(title, tables=[Table(caption, ("name", "value"), rows)])


def _curves(curves: Mapping[str, Mapping[int, float]]) -> Section:
    names = sorted(name for name, values in curves.items() if values)
    first = [name for name in _FIRST_CURVES if name in names]
    drawn = []
    for name in dict.fromkeys(first + names):
        steps, values = list(curves[name]), list(map(_number, curves[name].values()))
        lowest, highest = (_number(f(curves[name].values())) for f in (min, max))
        words = (
            f"{name}: {values[0]} at step {steps[0]}, {values[-1]} at step {steps[-1]}; "
            f"lowest {lowest}, highest {highest}"
        )
        if len(steps) > figures.CURVE_POINTS:
            words += ". The line is the mean of neighbouring steps, the band their range"
        drawn.append(Figure(figures.curve(curves[name]), words, words))
    return Section("Curves", figures=drawn)


def _classes(report: RunReport) -> Section:
    expected, predicted = report.expected, report.predicted
    each, averages = measures.class_scores(expected, predicted, len(report.labels))
    header = ("number", "label", "precision", "recall", "F1", "support")
    rows = [
        (i, label, *_scores(score))
        for i, (label, score) in enumerate(zip(report.labels, each, strict=True))
    ]
    rows += [("", f"{name} average", *_scores(score)) for name, score in averages.items()]
    intro = "Undefined values (nothing to divide by) count as 0."
    if report.task_type == MULTILABEL:
        intro += f" A label is predicted where its probability is {report.threshold} or more."
    return Section("Labels", intro, tables=[Table("Scores of each label", header, rows)])


def _scores(score: measures.ClassScore) -> tuple[str, ...]:
    return (*(f"{value:.4f}" for value in score[:3]), f"{score.support:,}")


def _confusion(report: RunReport) -> Section:
    labels = report.labels
    matrix = measures.confusion(report.expected, report.predicted, len(labels))
    wrong = int(matrix.sum() - np.trace(matrix))
    intro = f"{wrong:,} of {int(matrix.sum()):,} examples are predicted wrongly."
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
    caption = "Each row is a true class; the colour is the share of its examples."
    return Section(
        "Confusion matrix",
        intro,
        figures=[Figure(figures.confusion(matrix), alt, caption)],
        tables=[Table("Most confused pairs", ("true", "predicted", "examples"), rows)],
    )


def _calibration(report: RunReport) -> Section:
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
        (f"{b.low:.3f} to {b.high:.3f}", f"{b.size:,}", _share(b.confidence), _share(b.accuracy))
        for b in found.bins
    ]
    header = ("probability", "count", "mean probability", "share that came true")
    alt = f"Reliability plot; expected calibration error {error}. Its numbers are in the table."
    return Section(
        "Calibration",
        f"Expected calibration error: {error} ({len(found.bins)} bins of equal width; {what}).",
        figures=[Figure(figures.reliability(found), alt, f"Reliability: {what}.")],
        tables=[Table("Reliability by bin", header, rows)],
    )


def _regression(report: RunReport) -> Section:
    expected, predicted = report.expected.astype(float), report.predicted.astype(float)
    errors = measures.regression_errors(expected, predicted)
    low, high = (_number(f(predicted - expected)) for f in (np.min, np.max))
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
        tables=[Table("Errors", ("name", "value"), [(k, _number(v)) for k, v in errors.items()])],
    )


def _worst(report: RunReport) -> Section:
    losses = report.losses
    order = np.argsort(-losses, kind="stable")[:_WORST]
    pairs = any(report.examples[i].text_b for i in order)
    header = [
        "place",
        "id",
        "text",
        *(["second text"] if pairs else []),
        *_ANSWER[report.task_type],
    ]
    rows = []
    for i in order:
        example = report.examples[i]
        texts = [_text(example.text_a)] + ([_text(example.text_b or "")] if pairs else [])
        place = f"{example.file}:{example.line}"
        rows.append((place, example.guid, *texts, *_answer(report, i), f"{losses[i]:.4f}"))
    what = {REGRESSION: "squared error", CLASSIFICATION: "cross-entropy"}
    loss = what.get(report.task_type, "mean cross-entropy over the labels")
    intro = f"The {len(rows)} examples with the highest loss ({loss})."
    if report.task_type != REGRESSION:
        intro += " Where the model is good, not each of them is predicted wrongly."
    table = Table("Highest loss first", header, rows, plain=True)
    return Section("Worst errors", intro, tables=[table])


_ANSWER = {
    CLASSIFICATION: ("true", "its probability", "predicted", "its probability", "loss"),
    MULTILABEL: ("true (probability)", "predicted (probability)", "loss"),
    REGRESSION: ("true", "predicted", "loss"),
}


def _answer(report: RunReport, i: int) -> tuple[str, ...]:
    """The cells of example i for the columns `_ANSWER`, without the loss."""
    expected, predicted, outputs = report.expected[i], report.predicted[i], report.outputs[i]
    labels = report.labels
    if report.task_type == REGRESSION:
        return _number(expected), _number(predicted)
    if report.task_type == CLASSIFICATION:
        return (
            *(labels[expected], _number(outputs[expected])),
            *(labels[predicted], _number(outputs[predicted])),
        )

    def listed(chosen: Iterable[int]) -> str:
        return ", ".join(f"{labels[j]} ({_number(outputs[j])})" for j in chosen) or "none"

    return listed(np.flatnonzero(expected)), listed(np.flatnonzero(predicted))


# --------------------------------------------------------------------------------------- cells


def _text(text: str) -> Text:
    return Text(text[:_TEXT], max(0, len(text) - _TEXT))


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"


def _number(value: Any) -> str:
    """Fractions to four places, very small and large ones in scientific form; others as is."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        plain = 1e-3 <= abs(value) < 1e4
        return f"{value:.4f}" if plain else f"{value:.4g}"
    return "" if value is None else str(value)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """`{"eval": {"loss": 1}}` -> `("eval.loss", 1)`."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
