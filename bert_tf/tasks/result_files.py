"""The text of the files that evaluation and prediction write. Without TensorFlow."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bert_tf.data.examples import InputExample


def eval_results(values: Mapping[str, Any]) -> str:
    """Google's `eval_results.txt`: `key = value` in the order of the keys."""
    return "".join(f"{key} = {values[key]!s}\n" for key in sorted(values))


def test_results(outputs: np.ndarray) -> str:
    """Google's `test_results.tsv`: float32 [rows, L] as `str` gives them, no header."""
    return "".join("\t".join(map(str, row)) + "\n" for row in outputs)


def predictions(
    examples: Sequence[InputExample], outputs: np.ndarray, labels: Sequence[str]
) -> str:
    """`predictions.tsv`: id, predicted label, probability of each label by name, with a header.

    Args:
      examples: the rows, in the order of `outputs`.
      outputs: float32 [rows, L], probabilities; for a regression [rows, 1], the predicted numbers.
      labels: the L labels; none for a regression.
    """
    text = io.StringIO()
    table = csv.writer(text, delimiter="\t", lineterminator="\n")
    if not labels:
        table.writerow(["id", "prediction"])
        table.writerows([e.guid, row[0]] for e, row in zip(examples, outputs, strict=True))
        return text.getvalue()
    table.writerow(["id", "label", *(f"probability_{label}" for label in labels)])
    for example, row in zip(examples, outputs, strict=True):
        table.writerow([example.guid, labels[row.argmax()], *row])
    return text.getvalue()
