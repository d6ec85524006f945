"""A sentence task, its examples, and the features that an example becomes."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from bert_tf import filesystem
from bert_tf.data.text_files import BadRow, did_you_mean
from bert_tf.metrics import Metric
from bert_tf.packing import pack, packed_length

SPLITS = ("train", "dev", "test")


@dataclass(frozen=True, slots=True)
class InputExample:
    """One text or pair of texts with its label, and where it was read.

    `label` is a class name, or for regression a number as text; in the test split it is a legal
    placeholder, as in Google's processors. `line` counts from 1.
    """

    guid: str
    text_a: str
    text_b: str | None
    label: str
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Row:
    """What a task's file says about one example; the label is None where it is not used."""

    line: int
    guid: str
    text_a: str
    text_b: str | None
    label: str | None


class SentenceTask(ABC):
    """A task on sentences or pairs of them: where its files are and how their rows are read."""

    name: str  # the --task_name
    metric: Metric

    @property
    @abstractmethod
    def regression(self) -> bool:
        """Whether the labels are numbers to come close to, not classes."""

    @abstractmethod
    def labels(self, data_dir: str) -> list[str]:
        """The classes in the order of their ids; empty for regression."""

    @abstractmethod
    def path(self, data_dir: str, split: str) -> str | None:
        """The file of `train`, `dev` or `test`; None if the task has no such split."""

    @abstractmethod
    def rows(self, path: str, split: str) -> Iterator[Row]:
        """Reads the file of a split."""

    def has(self, data_dir: str, split: str) -> bool:
        """Whether the file of a split is there."""
        path = self.path(data_dir, split)
        return path is not None and filesystem.is_file(path)

    def files(self, data_dir: str, split: str) -> list[str]:
        """The files of a split. Raises ValueError if the task has no such split."""
        path = self.path(data_dir, split)
        if path is None:
            there = " and ".join(s for s in SPLITS if self.path(data_dir, s))
            raise ValueError(f"--task_name={self.name} has no {split} file, only {there}")
        return [path]

    def examples(self, data_dir: str, split: str) -> list[InputExample]:
        """The examples of `train`, `dev` or `test`, in file order.

        Raises: ValueError naming the file if it is missing, empty or not UTF-8, and file and line
          of a row with the wrong number of columns or an unknown label.
        """
        (path,) = self.files(data_dir, split)
        labels = self.labels(data_dir)
        placeholder = "0.0" if self.regression else labels[0]
        examples = []
        for row in self.rows(path, split):
            if row.label is not None:
                _check_label(row.label, labels, path, row.line)
            label = placeholder if row.label is None else row.label
            examples.append(InputExample(row.guid, row.text_a, row.text_b, label, path, row.line))
        if not examples:
            raise ValueError(f"{path}: no examples in this file")
        return examples


def _check_label(label: str, labels: list[str], path: str, line: int) -> None:
    """Raises BadRow unless `label` is one of `labels`, or a finite number if there are none."""
    if labels:
        if label not in labels:
            raise BadRow(path, line, f"unknown label {label!r}.{did_you_mean(label, labels)}")
        return
    try:
        finite = math.isfinite(float(label))
    except ValueError:
        finite = False
    if not finite:
        raise BadRow(path, line, f"the label must be a number, not {label!r}")


class Tokenizer(Protocol):
    """What building features asks of a tokenizer."""

    cls_token_id: int
    sep_token_id: int

    def encode(self, text: str) -> list[int]: ...


def example_features(
    example: InputExample,
    tokenizer: Tokenizer,
    label_ids: Mapping[str, int] | None,
    max_seq_length: int,
) -> tuple[dict[str, list[int] | list[float]], bool]:
    """The features of one example, as Google's `convert_single_example` makes them.

    Args:
      label_ids: the id of each label, or None for regression (the label is then a float).
      max_seq_length: every row is cut and zero-padded to this length.

    Returns: the features by Google's names (`input_ids`, `input_mask` and `segment_ids` of
      `max_seq_length` ints; `label_ids` and `is_real_example` of one number), and whether pieces
      were cut off.
    """
    ids_a = tokenizer.encode(example.text_a)
    ids_b = tokenizer.encode(example.text_b) if example.text_b else []
    input_ids, segment_ids = pack(
        ids_a,
        ids_b,
        cls_id=tokenizer.cls_token_id,
        sep_id=tokenizer.sep_token_id,
        max_seq_length=max_seq_length,
    )
    used, padding = len(input_ids), [0] * (max_seq_length - len(input_ids))
    features: dict[str, list[int] | list[float]] = {
        "input_ids": input_ids + padding,
        "input_mask": [1] * used + padding,
        "segment_ids": segment_ids + padding,
        "label_ids": [float(example.label) if label_ids is None else label_ids[example.label]],
        "is_real_example": [1],
    }
    return features, packed_length(len(ids_a), len(ids_b)) > max_seq_length
