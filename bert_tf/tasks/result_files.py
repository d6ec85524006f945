"""The text of the files that evaluation and prediction write. Without TensorFlow."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bert_tf.data.examples import LABEL_SEPARATOR, InputExample
from bert_tf.metrics import MULTILABEL_THRESHOLD


def eval_results(values: Mapping[str, Any]) -> str:
    """Google's `eval_results.txt`: `key = value` in the order of the keys."""
    return "".join(f"{key} = {values[key]!s}\n" for key in sorted(values))


def test_results(outputs: np.ndarray) -> str:
    """Google's `test_results.tsv`: float32 [rows, L] as `str` gives them, no header."""
    return "".join("\t".join(map(str, row)) + "\n" for row in outputs)


def predictions(
    examples: Sequence[InputExample],
    outputs: np.ndarray,
    labels: Sequence[str],
    problem_type: str = "classification",
) -> str:
    """Return `predictions.tsv`: id, label, probability of each label by name, and the texts.

    The first row names the columns. A row is a line: tabs and line ends in a text become blanks. A
    cell that holds a double quote stands in quotes, as spreadsheets and pandas expect it.

    Args:
      examples: the rows, in the order of `outputs`.
      outputs: float32 [rows, L], probabilities; for a regression [rows, 1], the predicted numbers.
      labels: the L labels; none for a regression.
      problem_type: with "multilabel" the label is all those that are probable, joined.
    """
    header = ["label", *(f"probability_{label}" for label in labels)] if labels else ["prediction"]
    pairs = any(example.text_b is not None for example in examples)
    rows = [["id", *header, *(("text_a", "text_b") if pairs else ("text_a",))]]
    for example, row in zip(examples, outputs, strict=True):
        if problem_type == "multilabel":
            named = [
                label for label, x in zip(labels, row, strict=True) if x >= MULTILABEL_THRESHOLD
            ]
            answer = [LABEL_SEPARATOR.join(named)]
        else:
            answer = [labels[row.argmax()]] if labels else []
        texts = [example.text_a, *([example.text_b or ""] if pairs else [])]
        rows.append([example.guid, *answer, *map(str, row), *map(_one_line, texts)])
    table = io.StringIO()
    csv.writer(table, "excel-tab", lineterminator="\n").writerows(rows)
    return table.getvalue()


def _one_line(text: str) -> str:
    # Half of a surrogate pair, which JSON can hold, is no character: it stands as its escape.
    whole = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return whole.translate(dict.fromkeys(map(ord, "\t\r\n"), " "))
