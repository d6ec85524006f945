"""What a classifier says of a split, beside the truth: scores, and whether it has learnt anything.

n examples, L labels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bert_tf.data.examples import InputExample, SentenceTask
from bert_tf.metrics import MULTILABEL_THRESHOLD
from bert_tf.reporting import Predictions
from bert_tf.reporting.parts import Section, Text

_NEAR = 0.99  # a loss above this share of the prior's has learnt nothing worth the name


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluated:
    """The model's outputs for the examples of a split.

    Attributes:
      examples: in file order.
      labels: names in the order of the model's ids; none for a regression.
      outputs: float32 [n, L], probabilities; for a regression [n, 1], numbers.
      expected: int32 [n, 1], or float32 [n, 1] for a regression and [n, L] of 0 and 1 for a
        multi-label task; None where the labels are not known.
      losses: float32 [n]; None likewise.
      batch_size: examples in one batch.
    """

    examples: Sequence[InputExample]
    labels: Sequence[str]
    outputs: np.ndarray
    expected: np.ndarray | None
    losses: np.ndarray | None
    batch_size: int

    def truth(self, task: SentenceTask) -> np.ndarray:
        """In the form that metrics take: [n], or [n, L] for a multi-label task."""
        if self.expected is None:
            raise ValueError(f"the labels of these {len(self.examples)} examples are not known")
        return self.expected if task.multilabel else self.expected[:, 0]

    def predicted(self, task: SentenceTask) -> np.ndarray:
        """In the form of `truth`."""
        if task.multilabel:
            return (self.outputs >= MULTILABEL_THRESHOLD).astype(np.float32)
        return self.outputs[:, 0] if task.regression else self.outputs.argmax(axis=-1)

    def scores(self, task: SentenceTask) -> dict[str, Any]:
        """`eval_loss`, Google's `loss`, and the task's metrics."""
        return {**self._losses(), **task.metric.compute(self.truth(task), self.predicted(task))}

    def google_values(self, task: SentenceTask) -> Mapping[str, Any]:
        """Return what `eval_results.txt` holds beside `global_step`; float32, as Google's program.

        Classes have Google's accuracy, and the task's deciding metric where it is another one.
        """
        scores = task.metric.compute(self.truth(task), self.predicted(task))
        names = list(scores)
        if task.problem_type == "classification":
            names = ["accuracy", task.metric.primary]
        return {f"eval_{name}": np.float32(scores[name]) for name in names} | self._losses()

    def sections(self, task: SentenceTask) -> list[Section]:
        """Return what the report says of the outputs."""
        columns: dict[str, list[Any]] = {
            "place": [f"{e.file}:{e.line}" for e in self.examples],
            "id": [e.guid for e in self.examples],
            "text": [Text.of(e.text_a) for e in self.examples],
        }
        if any(e.text_b for e in self.examples):
            columns["second text"] = [Text.of(e.text_b or "") for e in self.examples]
        return Predictions(
            task_type=task.problem_type,
            labels=self.labels,
            columns=columns,
            expected=self.truth(task),
            outputs=self.outputs[:, 0] if task.regression else self.outputs,
        ).sections()

    def _losses(self) -> dict[str, np.float32]:
        """The mean, and the mean over batches, in which a short last batch weighs as much."""
        losses = np.asarray(self.losses)
        starts = range(0, len(losses), self.batch_size)
        batches = [losses[start : start + self.batch_size].mean() for start in starts]
        return {
            "eval_loss": np.mean(losses, dtype=np.float32),
            "loss": np.mean(batches, dtype=np.float32),
        }


def collapse(evaluated: Evaluated) -> str | None:
    """Why a classifier has collapsed, or None if it has not.

    It has if it predicts one class for every example although there are others, and its loss is
    not below that of an answer that knows only how frequent the classes are.
    """
    expected, predicted = evaluated.expected, evaluated.outputs.argmax(axis=-1)
    if expected is None or len(set(predicted)) > 1:
        return None
    _, counts = np.unique(expected, return_counts=True)
    if len(counts) < 2:
        return None
    shares = counts / counts.sum()
    prior = float(-(shares * np.log(shares)).sum())
    loss = float(np.mean(np.asarray(evaluated.losses)))
    if loss < _NEAR * prior:
        return None
    label = evaluated.labels[predicted[0]]
    return (
        f"it predicts {label!r} for all {len(predicted)} examples, with a loss of {loss:.4f}; "
        f"knowing only how frequent the classes are gives {prior:.4f}"
    )
