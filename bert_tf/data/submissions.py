"""What GLUE's and CLUE's leaderboards take: a file for each task, with the test set's results."""

from __future__ import annotations

import json
from collections.abc import Sequence

from bert_tf.data.examples import InputExample

# Task and split -> the file's name. A row is the number of the test example and its prediction.
_GLUE = {
    ("cola", "test"): "CoLA.tsv",
    ("sst-2", "test"): "SST-2.tsv",
    ("mrpc", "test"): "MRPC.tsv",
    ("sts-b", "test"): "STS-B.tsv",
    ("qqp", "test"): "QQP.tsv",
    ("mnli", "test"): "MNLI-m.tsv",
    ("mnli", "test_mismatched"): "MNLI-mm.tsv",
    ("qnli", "test"): "QNLI.tsv",
    ("rte", "test"): "RTE.tsv",
    ("wnli", "test"): "WNLI.tsv",
    ("ax", "test"): "AX.tsv",
}
# A line is {"id": ..., "label": ...}. Two names say which version of the test set they are for.
_CLUE = {
    "afqmc": "afqmc_predict.json",
    "tnews": "tnews11_predict.json",
    "iflytek": "iflytek_predict.json",
    "cmnli": "cmnli_predict.json",
    "ocnli": "ocnli_50k_predict.json",
    "csl": "csl_predict.json",
    "cluewsc": "cluewsc11_predict.json",
}
_TNEWS_NAMES = dict(
    zip(
        (str(n) for n in range(100, 117) if n not in (105, 111)),
        (
            *("story", "culture", "entertainment", "sports", "finance", "house", "car", "edu"),
            *("tech", "military", "travel", "world", "stock", "agriculture", "game"),
        ),
        strict=True,
    )
)


def submission(
    task_name: str, split: str, examples: Sequence[InputExample], predictions: Sequence[str | float]
) -> tuple[str, str] | None:
    """The name and the text of the file to submit; None if there is no leaderboard for it.

    Args:
      predictions: for each example, in file order, a label, or for STS-B a number, which is
        brought into the leaderboard's range of 0 to 5.
    """
    if task_name in _CLUE and split == "test":
        lines = [
            json.dumps(_clue_row(task_name, example.guid, str(label)), ensure_ascii=False)
            for example, label in zip(examples, predictions, strict=True)
        ]
        return _CLUE[task_name], "".join(f"{line}\n" for line in lines)
    if (task_name, split) not in _GLUE:
        return None
    cells = [x if isinstance(x, str) else f"{min(max(x, 0.0), 5.0):.3f}" for x in predictions]
    rows = [f"{number}\t{cell}\n" for number, cell in enumerate(cells)]
    return _GLUE[task_name, split], "index\tprediction\n" + "".join(rows)


def _clue_row(task_name: str, guid: str, label: str) -> dict[str, str | int]:
    number = guid.partition("-")[2]  # without the split's name
    row: dict[str, str | int] = {"id": int(number) if number.isdecimal() else number}
    row["label"] = label
    if task_name == "tnews":
        row["label_desc"] = f"news_{_TNEWS_NAMES[label]}"
    return row
