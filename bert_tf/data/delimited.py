"""Your own files: `train.csv`, `dev.csv`, `test.csv` (or .tsv, .jsonl) with columns you name."""

import contextlib
import csv
import functools
import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from absl import logging

from bert_tf.data.examples import LABEL_SEPARATOR, Row, SentenceTask, label_names
from bert_tf.data.json_lines import json_rows
from bert_tf.data.layouts import text_of
from bert_tf.data.text_files import BadRow, BadRows, broken, did_you_mean, read_text, tsv_rows
from bert_tf.metrics import METRICS, Metric

Cells = dict[str, str]  # of the columns asked for, by name


@dataclass(frozen=True)
class DelimitedTask(SentenceTask):
    """A task of one's own, used like one of `bert_tf.data.glue.TASKS`.

    * `csv`: commas and quotes as a spreadsheet writes them; the first row names the columns.
    * `tsv`: tabs, no quoting (a quote is text); the first row names the columns.
    * `jsonl`: one JSON object a line; its keys are the columns.

    The classes are those of the training file unless given, numbers in numeric order and others
    in alphabetical order. The test file may lack the label column, or labels in it. The guid is the
    cell of the `id_column`, or `split-number` with the first example as 1. A row of a multi-label
    task names its classes with `LABEL_SEPARATOR` in between, or in JSON as a list.
    """

    kind: str
    text_a_column: str
    text_b_column: str | None = None
    label_column: str = "label"
    problem_type: str = "classification"
    classes: tuple[str, ...] | None = None
    id_column: str | None = None
    skip_bad_rows: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"Task not found: {self.kind}.{did_you_mean(self.kind, KINDS)}")
        if self.problem_type not in PROBLEM_TYPES:
            raise ValueError(
                f"--problem_type={self.problem_type} must be {' or '.join(PROBLEM_TYPES)}"
            )

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.kind

    @property
    def metric(self) -> Metric:  # type: ignore[override]
        names = {"regression": "pearson", "multilabel": "multilabel_f1"}
        return METRICS[names.get(self.problem_type, "accuracy")]

    def labels(self, data_dir: str) -> list[str]:
        """As the base class says.

        Raises: ValueError if the training file has fewer than two classes, or fractions for them.
        """
        if self.regression:
            return []
        if self.classes is not None:
            return list(self.classes)
        path = self.path(data_dir, "train")
        found: set[str] = set()
        bad_rows = BadRows(self.skip_bad_rows)  # noted again, with the others, by `examples`
        for line, cells in self._read(path, [self.label_column], bad_rows):
            cell = cells[self.label_column]
            if self.multilabel:
                found.update(label_names(cell))
            elif problem := _problem_of_name(cell, "label"):
                bad_rows.add(BadRow(path, line, problem))
            else:
                found.add(cell)
        if len(found) < 2:
            raise ValueError(
                f"{path}: classification needs two labels or more; "
                f"column {self.label_column!r} holds {sorted(found)}"
            )
        return _in_order(found, path)

    def path(self, data_dir: str, split: str) -> str:
        return os.path.join(data_dir, f"{split}.{self.kind}")

    def rows(self, path: str, split: str, bad_rows: BadRows) -> Iterator[Row]:
        test = split == "test"  # whose labels are welcome, but not needed
        used = (self.text_a_column, self.text_b_column, self.id_column)
        columns = [column for column in (*used, None if test else self.label_column) if column]
        rows = self._read(path, columns, bad_rows, self.label_column if test else None)
        for number, (line, cells) in enumerate(rows, start=1):
            text_b = None if self.text_b_column is None else cells[self.text_b_column]
            label = cells.get(self.label_column)
            guid = f"{split}-{number}" if self.id_column is None else cells[self.id_column]
            if problem := self._problem(cells[self.text_a_column], None if test else label, guid):
                bad_rows.add(BadRow(path, line, problem))
            else:
                yield Row(line, guid, cells[self.text_a_column], text_b, label)

    def _read(
        self, path: str, columns: list[str], bad_rows: BadRows, optional: str | None = None
    ) -> Iterable[tuple[int, Cells]]:
        """Line and cells of the rows of a file, which may have further columns.

        Args:
          optional: a column that is read where it is there.
        """
        if self.kind == "jsonl":
            list_column = self.label_column if self.multilabel else None
            return _jsonl(path, columns, bad_rows, list_column, optional)
        rows = _csv_rows if self.kind == "csv" else _tsv_rows
        return _table(path, rows(path, bad_rows), columns, bad_rows, optional)

    def _problem(self, text_a: str, label: str | None, guid: str) -> str | None:
        if not text_a.strip():
            return f"column {self.text_a_column!r} is empty"
        none_of_the_labels = self.multilabel and not (label or "").strip()
        problem = None
        if label is not None and not none_of_the_labels:
            problem = _problem_of_name(label, "label")
        return problem or _problem_of_name(guid, "id")


def _in_order(labels: set[str], path: str) -> list[str]:
    try:
        values = {label: float(label) for label in labels}
    except ValueError:
        return sorted(labels)
    fractions = [label for label, value in values.items() if not value.is_integer()]
    if fractions:
        raise ValueError(
            f"{path}: the labels are numbers such as {min(fractions)}; "
            "use --problem_type=regression"
        )
    return sorted(labels, key=lambda label: (values[label], label))


def _problem_of_name(cell: str, what: str) -> str | None:
    """Why a label or id cannot be used: they must fit a cell of the tab-separated results."""
    if not cell.strip():
        return f"the {what} is empty"
    if any(character in cell for character in "\t\r\n"):
        return f"the {what} {cell!r} holds a tab or a line break"
    return None


def _table(
    path: str,
    rows: Iterator[tuple[int, list[str]]],
    columns: list[str],
    bad_rows: BadRows,
    optional: str | None,
) -> Iterator[tuple[int, Cells]]:
    """Names the cells of a table after its first row."""
    first, header = next(rows, (1, []))
    if first != 1:
        raise BadRow(path, 1, "the header, which names the columns, cannot be read")
    if not any(header):
        raise BadRow(path, 1, f"the file is empty; its first row must name {', '.join(columns)}")
    if optional is not None and header.count(optional) == 1:
        columns = [*columns, optional]
    for column in columns:
        if header.count(column) != 1:
            problem = "is there twice" if column in header else "is missing"
            hint = did_you_mean(column, header)
            raise BadRow(path, 1, f"column {column!r} {problem} in the header.{hint}")
    positions = [header.index(column) for column in columns]
    for line, row in rows:
        if len(row) == len(header):
            yield line, {column: row[at] for column, at in zip(columns, positions, strict=True)}
        else:
            problem = f"expected {len(header)} columns, got {len(row)}"
            bad_rows.add(BadRow(path, line, problem))


def _csv_rows(path: str, bad_rows: BadRows) -> Iterator[tuple[int, list[str]]]:
    """The line on which each row starts, and its cells; a quoted cell may hold line breaks."""
    text = read_text(path).rstrip("\r\n")
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # 131,072 characters by default
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            last = max(line, reader.line_num)
            problem = (
                f"the row that starts here is not valid CSV ({error}); it reaches to line {last}"
            )
            bad_rows.add(BadRow(path, line, problem))
            continue
        problems = [problem for problem in map(broken, row) if problem]
        if problems:
            bad_rows.add(BadRow(path, line, problems[0]))
        else:
            yield line, row


def _tsv_rows(path: str, bad_rows: BadRows) -> Iterator[tuple[int, list[str]]]:
    """As `tsv_rows`; says so if cells look as if a program had put them in quotes."""
    quoted = []
    for line, row in tsv_rows(path, bad_rows.add):
        if any(_looks_quoted(cell) for cell in row):
            quoted.append(line)
        yield line, row
    if quoted:
        _warn_of_quotes(path, len(quoted), quoted[0])


@functools.cache  # says it once: a run reads its files more than once
def _warn_of_quotes(path: str, rows: int, first: int) -> None:
    logging.warning(
        "%s: cells in double quotes (%d rows, the first in line %d): in TSV quotes are text; "
        "if they are not meant so, write the file as CSV and use --task_name=csv",
        *(path, rows, first),
    )


def _looks_quoted(cell: str) -> bool:
    """Whether a cell is `"...""..."`, as a program writes `..."...` in a quoted cell."""
    inner = cell[1:-1]
    in_quotes = len(cell) > 1 and cell[0] == cell[-1] == '"'
    return in_quotes and '"' in inner and '"' not in inner.replace('""', "")


def _jsonl(
    path: str,
    columns: list[str],
    bad_rows: BadRows,
    list_column: str | None,
    optional: str | None,
) -> Iterator[tuple[int, Cells]]:
    def cell(row: dict[str, Any], column: str) -> str:
        if column == list_column and isinstance(row.get(column), list):
            return _joined(row[column], column)
        return text_of(row, column)

    for line, row in json_rows(path, bad_rows.add):
        try:
            cells = {column: cell(row, column) for column in columns}
            if optional is not None:
                with contextlib.suppress(ValueError):
                    cells[optional] = cell(row, optional)
            yield line, cells
        except ValueError as error:
            bad_rows.add(BadRow(path, line, str(error)))


def _joined(names: list[object], column: str) -> str:
    """A list of labels as the cell of a table would hold it."""
    for name in names:
        if not isinstance(name, str) or not name.strip() or LABEL_SEPARATOR in name:
            raise ValueError(
                f"column {column!r}: a label in a list is text without {LABEL_SEPARATOR!r}, "
                f"not {name!r:.40}"
            )
    return LABEL_SEPARATOR.join(map(str, names))


KINDS = ("csv", "tsv", "jsonl")
PROBLEM_TYPES = ("classification", "regression", "multilabel")
