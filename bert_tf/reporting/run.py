"""What a report is made of: a run's predictions beside the truth, and where they came from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bert_tf.data.examples import InputExample
from bert_tf.metrics import MULTILABEL_THRESHOLD

CLASSIFICATION, REGRESSION, MULTILABEL = "classification", "regression", "multilabel"
TASK_TYPES = (CLASSIFICATION, REGRESSION, MULTILABEL)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RunReport:
    """One evaluated run; N examples, L labels.

    Attributes:
      title: the heading, for example `mnli: 1,000 development examples`.
      task_type: one of `TASK_TYPES`.
      labels: names in the order of the model's ids; none for a regression.
      examples: the N examples, for the texts and places of the worst errors.
      expected: class ids `[N]`, numbers `[N]`, or for a multilabel task 0 and 1 `[N, L]`.
      outputs: probabilities `[N, L]`; for a regression the predicted numbers `[N]`.
      threshold: a multilabel probability of at least this much is a "yes".
      metrics: the content of metrics.json; groups may nest.
      curves: name -> step -> value, as `events.read_scalars` gives them; none without training.
      flags, versions, fingerprints: name -> value, as run.json has them.
      data_report: what was found in the data before training, as text.

    Raises:
      ValueError: there are no examples, or the parts are not of one size, or an output is not a
        finite number.
    """

    title: str
    task_type: str
    labels: Sequence[str]
    examples: Sequence[InputExample]
    expected: np.ndarray
    outputs: np.ndarray
    threshold: float = MULTILABEL_THRESHOLD
    metrics: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    curves: Mapping[str, Mapping[int, float]] = dataclasses.field(default_factory=dict)
    flags: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    fingerprints: Mapping[str, str] = dataclasses.field(default_factory=dict)
    data_report: str = ""

    def __post_init__(self) -> None:
        if self.task_type not in TASK_TYPES:
            raise ValueError(f"task_type={self.task_type!r}; there are {', '.join(TASK_TYPES)}")
        rows, columns = len(self.examples), len(self.labels)
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
