"""A sentence task and its examples."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from bert_tf import filesystem
from bert_tf.data.text_files import BadRow, BadRows, did_you_mean
from bert_tf.metrics import Metric

SPLITS = ("train", "dev", "test")
LABEL_SEPARATOR = "|"  # between the names of a row that has several labels


@dataclass(frozen=True, slots=True)
class InputExample:
    """One text or pair of texts with its label, and where it was read.

    `label` is a class name, for regression a number as text, for a multi-label task the names of
    the row's classes joined by `LABEL_SEPARATOR`; where a test file does not tell it, `labelled` is
    False and it is a legal placeholder, as in Google's processors. `line` counts from 1.
    """

    guid: str
    text_a: str
    text_b: str | None
    label: str
    file: str
    line: int
    labelled: bool = True


@dataclass(frozen=True, slots=True)
class Row:
    """What a task's file says about one example; the label is None where there is none."""

    line: int
    guid: str
    text_a: str
    text_b: str | None
    label: str | None


class SentenceTask(ABC):
    """A task on sentences or pairs of them: where its files are and how their rows are read.

    Attributes:
      name: the --task_name.
      metric: the leaderboard's.
      problem_type: "classification", "regression" (labels are numbers to come close to) or
        "multilabel" (any number of classes a row).
      encoding: of its files; None for UTF-8, or UTF-16 with a byte order mark.
    """

    name: str
    metric: Metric
    problem_type: str
    encoding: str | None

    @property
    def regression(self) -> bool:
        """Whether the labels are numbers, not classes."""
        return self.problem_type == "regression"

    @property
    def multilabel(self) -> bool:
        """Whether a row may have any number of classes."""
        return self.problem_type == "multilabel"

    @property
    def splits(self) -> Sequence[str]:
        """The names of the splits: `train`, `dev`, `test`, or some, and `dev_...`, `test_...`."""
        return SPLITS

    @abstractmethod
    def labels(self, data_dir: str) -> list[str]:
        """The classes in the order of their ids; empty for regression."""

    @abstractmethod
    def path(self, data_dir: str, split: str) -> str | None:
        """The file of a split; None if the task has no such split."""

    @abstractmethod
    def rows(self, path: str, split: str, bad_rows: BadRows) -> Iterator[Row]:
        """Reads the file of a split; hands the rows that it cannot use to `bad_rows`."""

    def has(self, data_dir: str, split: str) -> bool:
        """Whether the file of a split is there."""
        path = self.path(data_dir, split)
        return path is not None and filesystem.is_file(path)

    def files(self, data_dir: str, split: str) -> list[str]:
        """The files of a split. Raises ValueError if the task has no such split."""
        path = self.path(data_dir, split)
        if path is None:
            there = " and ".join(s for s in self.splits if self.path(data_dir, s))
            raise ValueError(f"--task_name={self.name} has no {split} file, only {there}")
        return [path]

    def examples(
        self, data_dir: str, split: str, bad_rows: BadRows | None = None
    ) -> list[InputExample]:
        """The examples of a split, in file order.

        Args:
          bad_rows: what becomes of rows with the wrong number of columns, an unknown label, an
            empty text or bytes that are no UTF-8; by default the first is an error. In a test file
            a row with an unknown label is a row without label: it can be predicted all the same.

        Raises: ValueError naming the file if it is missing, empty or has too many bad rows, BadRow
          naming file and line.
        """
        bad_rows = bad_rows or BadRows()
        (path,) = self.files(data_dir, split)
        labels = self.labels(data_dir)
        placeholder = "0.0" if self.regression else "" if self.multilabel else labels[0]
        examples = []
        for row in self.rows(path, split, bad_rows):
            label = row.label
            problem = None if label is None else self._label_problem(label, labels)
            if problem and split.startswith("test"):
                label = problem = None
            if any(character in row.guid for character in "\t\r\n"):
                problem = f"the id {row.guid!r} holds a tab or a line break"
            if problem:
                bad_rows.add(BadRow(path, row.line, problem, row.label))
                continue
            texts, labelled = (row.text_a, row.text_b), label is not None
            label = placeholder if label is None else label
            examples.append(InputExample(row.guid, *texts, label, path, row.line, labelled))
        bad_rows.finish(path, len(examples))
        if not split.startswith("test"):
            kept = self._names(example.label for example in examples)
            bad_rows.lost = sorted(self._names(bad_rows.labels) - kept)
        if not examples:
            raise ValueError(f"{path}: no examples in this file")
        return examples

    def _names(self, labels: Iterable[str]) -> set[str]:
        """The classes that the labels of rows name."""
        if self.regression:
            return set()
        if self.multilabel:
            return {name for label in labels for name in label_names(label)}
        return set(labels)

    def _label_problem(self, label: str, labels: list[str]) -> str | None:
        """Why a label cannot be used, or None."""
        if self.regression:
            return None if _is_finite(label) else f"the label must be a number, not {label!r}"
        for name in label_names(label) if self.multilabel else [label]:
            if name not in labels:
                return f"unknown label {name!r}.{did_you_mean(name, labels)}"
        return None


def label_names(label: str) -> list[str]:
    """The classes of a row of a multi-label task; an empty cell has none."""
    return [name for name in (part.strip() for part in label.split(LABEL_SEPARATOR)) if name]


def _is_finite(label: str) -> bool:
    try:
        return math.isfinite(float(label))
    except ValueError:
        return False
