"""GLUE's tasks and XNLI: one table, a row a task. Adding a task is adding a row.

Columns, labels and guids of CoLA, MNLI, MRPC and XNLI are those of the processors in
google-research/bert's run_classifier.py; the other tasks follow GLUE's published files.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from absl import logging

from bert_tf.data.examples import SPLITS, Row, SentenceTask
from bert_tf.data.text_files import BadRow, did_you_mean, tsv_rows
from bert_tf.metrics import METRICS, Metric

Column = int | str  # a position, as in Google's processors, or a name in the header


@dataclass(frozen=True)
class Split:
    """One tab-separated file of a task and which of its columns hold what."""

    file: str
    text_a: Column
    text_b: Column | None = None
    label: Column | None = None  # None: not public, or not to be used
    guid: Column | None = None  # None: the number of the row; the first in the file is 0
    header: bool = True
    columns: int = 0  # how many, in a file without header
    keep: tuple[Column, str] | None = None  # only the rows with this value in this column
    guid_prefix: str = ""  # where it is not the name of the split
    skip_incomplete: bool = False  # the published file has rows that lack cells


@dataclass(frozen=True)
class Task(SentenceTask):
    """A task: its classes (none: regression), its leaderboard's metric, its files."""

    name: str
    classes: tuple[str, ...]
    metric: Metric
    splits: Mapping[str, Split]
    renamed: Mapping[str, str] = field(default_factory=dict)  # label in the file -> class

    @property
    def regression(self) -> bool:
        return not self.classes

    def labels(self, data_dir: str) -> list[str]:
        return list(self.classes)

    def path(self, data_dir: str, split: str) -> str | None:
        return os.path.join(data_dir, self.splits[split].file) if split in self.splits else None

    def rows(self, path: str, split: str) -> Iterator[Row]:
        layout = self.splits[split]
        prefix = layout.guid_prefix or split
        for line, cells, at in _kept_rows(path, layout):
            number = line - 1 if layout.guid is None else cells[at[layout.guid]]
            text_b = None if layout.text_b is None else cells[at[layout.text_b]]
            label = None if layout.label is None else cells[at[layout.label]]
            if label is not None:
                label = self.renamed.get(label, label)
            yield Row(line, f"{prefix}-{number}", cells[at[layout.text_a]], text_b, label)


def _kept_rows(path: str, layout: Split) -> Iterator[tuple[int, list[str], dict[Column, int]]]:
    """Line, cells and the position of each column, for every row that `layout` keeps."""
    rows = tsv_rows(path)
    header = next(rows)[1] if layout.header else [""] * layout.columns
    keep, kept_value = layout.keep or (None, "")
    used = (layout.text_a, layout.text_b, layout.label, layout.guid, keep)
    at = {column: _position(column, header, path) for column in used if column is not None}
    incomplete = []
    for line, cells in rows:
        if layout.skip_incomplete and len(cells) < len(header):
            incomplete.append(line)
            continue
        if len(cells) != len(header):
            raise BadRow(path, line, f"expected {len(header)} columns, got {len(cells)}")
        if keep is None or cells[at[keep]] == kept_value:
            yield line, cells, at
    if incomplete:
        logging.warning("%s: left out incomplete rows, lines %s", path, incomplete)


def _position(column: Column, header: list[str], path: str) -> int:
    if isinstance(column, str):
        if column not in header:
            problem = f"the header has no column {column!r}.{did_you_mean(column, header)}"
            raise BadRow(path, 1, problem)
        return header.index(column)
    if column >= len(header):
        raise BadRow(path, 1, f"expected {column + 1} columns or more, got {len(header)}")
    return column


def _splits(
    text_a: Column,
    text_b: Column | None = None,
    label: Column = "label",
    guid: Column | None = "index",
) -> dict[str, Split]:
    """`train.tsv`, `dev.tsv` and `test.tsv` of one layout; the test file has no labels."""
    return {
        split: Split(f"{split}.tsv", text_a, text_b, None if split == "test" else label, guid)
        for split in SPLITS
    }


_COLA = {
    "train": Split("train.tsv", 3, None, 1, header=False, columns=4),
    "dev": Split("dev.tsv", 3, None, 1, header=False, columns=4),
    "test": Split("test.tsv", 1),
}
_SST2 = _splits("sentence", guid=None)
_SST2["test"] = replace(_SST2["test"], guid="index")
_QQP = _splits("question1", "question2", "is_duplicate", "id")
_QQP["train"] = replace(_QQP["train"], skip_incomplete=True)
_MNLI = {
    "train": Split("train.tsv", 8, 9, -1, 0),
    "dev": Split("dev_matched.tsv", 8, 9, -1, 0, guid_prefix="dev_matched"),
    "test": Split("test_matched.tsv", 8, 9, None, 0),
}
_AX = {"test": Split("diagnostic.tsv", "sentence1", "sentence2", guid="index")}
_XNLI = {  # Google's processor has no test set
    "train": Split("multinli/multinli.train.zh.tsv", 0, 1, 2),
    "dev": Split("xnli.dev.tsv", 6, 7, 1, keep=(0, "zh")),
    "test": Split("xnli.test.tsv", 6, 7, keep=(0, "zh")),
}
_PAIR = _splits("sentence1", "sentence2")

_BINARY = ("0", "1")
_NLI = ("contradiction", "entailment", "neutral")
_ENTAILMENT = ("entailment", "not_entailment")

TASKS: dict[str, Task] = {
    name: Task(name, classes, METRICS[metric], splits, renamed)
    for name, classes, metric, splits, renamed in (
        ("cola", _BINARY, "matthews", _COLA, {}),
        ("sst-2", _BINARY, "accuracy", _SST2, {}),
        ("mrpc", _BINARY, "f1", _splits(3, 4, 0, None), {}),
        ("sts-b", (), "pearson", _splits("sentence1", "sentence2", "score"), {}),
        ("qqp", _BINARY, "f1", _QQP, {}),
        ("mnli", _NLI, "accuracy", _MNLI, {}),
        ("qnli", _ENTAILMENT, "accuracy", _splits("question", "sentence"), {}),
        ("rte", _ENTAILMENT, "accuracy", _PAIR, {}),
        ("wnli", _BINARY, "accuracy", _PAIR, {}),
        ("ax", _NLI, "matthews", _AX, {}),  # predicted with a model trained on MNLI
        ("xnli", _NLI, "accuracy", _XNLI, {"contradictory": "contradiction"}),
    )
}


def find(name: str) -> Task:
    """The task of this name, in upper or lower case. Raises ValueError if there is none."""
    if name.lower() not in TASKS:
        raise ValueError(f"Task not found: {name}.{did_you_mean(name.lower(), list(TASKS))}")
    return TASKS[name.lower()]
