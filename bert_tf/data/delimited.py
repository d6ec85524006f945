"""Your own files: `train.csv`, `dev.csv`, `test.csv` (or .tsv, .jsonl) with columns you name."""

import contextlib
import csv
import functools
import io
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from absl import logging

from bert_tf import filesystem
from bert_tf.data.examples import LABEL_SEPARATOR, Row, SentenceTask, label_names
from bert_tf.data.json_lines import JsonObject, json_rows
from bert_tf.data.layouts import text_of
from bert_tf.data.text_files import (
    SAVE_AS_UTF8,
    BadRow,
    BadRows,
    broken,
    did_you_mean,
    every_line,
    read_text,
    rows_text,
)
from bert_tf.metrics import METRICS, Metric

# Line, row (both from 1; a header is none) and the cells of the columns asked for, by name.
NumberedCells = tuple[int, int, dict[str, str]]
RawRow = tuple[int, list[str], str | None]  # line, cells and what is wrong with them

_DELIMITERS = ",;\t|"
_NAME_OF = {"\t": "tab"}
_FIRST_ROW = 1 << 16  # characters that hold it


@dataclass(frozen=True)
class DelimitedTask(SentenceTask):
    """A task of one's own, used like one of `bert_tf.data.glue.TASKS`.

    * `csv`: cells and quotes as a spreadsheet writes them; the first row names the columns, and
      tells which of comma, semicolon, tab and `|` is the delimiter unless it is given.
    * `tsv`: tabs, no quoting (a quote is text); the first row names the columns.
    * `jsonl`: one JSON object a line; its keys are the columns.

    The classes are those of the training file unless given, numbers in numeric order and others
    in alphabetical order. The test file may lack the label column, or labels in it, and texts in it
    may be empty. The guid is the cell of the `id_column`, or `split-number` with the place of the
    row in the file, from 1, whichever rows are left out. A row of a multi-label task names its
    classes with `LABEL_SEPARATOR` in between, or in JSON as a list.
    """

    kind: str
    text_a_column: str
    text_b_column: str | None = None
    label_column: str = "label"
    problem_type: str = "classification"
    classes: tuple[str, ...] | None = None
    id_column: str | None = None
    skip_bad_rows: bool = False
    delimiter: str | None = None
    encoding: str | None = None

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
        for line, _, cells in self._read(path, [self.label_column], bad_rows):
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
        for line, number, cells in rows:
            text_b = None if self.text_b_column is None else cells[self.text_b_column]
            label = cells.get(self.label_column)
            guid = f"{split}-{number}" if self.id_column is None else cells[self.id_column]
            if problem := self._problem(cells[self.text_a_column], None if test else label, guid):
                bad_rows.add(BadRow(path, line, problem, label))
            else:
                yield Row(line, guid, cells[self.text_a_column], text_b, label)

    def _read(
        self, path: str, columns: list[str], bad_rows: BadRows, optional: str | None = None
    ) -> Iterator[NumberedCells]:
        """The rows of a file that can be read, which may have further columns.

        Args:
          optional: a column that is read where it is there.
        """
        if self.kind == "jsonl":
            list_column = self.label_column if self.multilabel else None
            lines = json_rows(path, bad_rows.add, self.encoding)
            return _jsonl(path, lines, columns, bad_rows, list_column, optional)
        if self.kind == "tsv":
            rows = _tsv_rows(path, self.encoding)
        else:
            text = rows_text(path, self.encoding)
            rows = _csv_rows(text, self._delimiter_of(path, text, columns, bad_rows))
        return _table(path, rows, columns, bad_rows, optional, self.label_column)

    def _delimiter_of(self, path: str, text: str, columns: list[str], bad_rows: BadRows) -> str:
        """The delimiter given, or the one by which the first row has most of the columns."""
        if self.delimiter is not None:
            return self.delimiter
        found = _best_delimiter(text, columns)
        if found is None:  # one column, which tells nothing: the training file's
            train = self.path(os.path.dirname(path), "train")
            if train != path and filesystem.is_file(train):
                found = _best_delimiter(read_text(train, self.encoding), [self.label_column])
        if found not in (None, ","):
            bad_rows.notes.append(
                f"the columns of {path} are separated by {_NAME_OF.get(found, found)!r}"
            )
        return found or ","

    def _problem(self, text_a: str, label: str | None, guid: str) -> str | None:
        if not text_a.strip() and label is not None:  # to predict, any text will do
            return f"column {self.text_a_column!r} is empty"
        none_of_the_labels = self.multilabel and not (label or "").strip()
        problem = None
        if label is not None and not none_of_the_labels:
            problem = _problem_of_name(label, "label")
        return problem or _problem_of_name(guid, "id")


def named_delimiter(name: str | None) -> str | None:
    r"""The character that --delimiter means: itself, or of `tab` and `\t` a tab.

    Raises: ValueError if it is no single character that can separate cells.
    """
    if name in ("tab", "\\t"):
        return "\t"
    if name is not None and (len(name) != 1 or name in '"\r\n'):
        raise ValueError(f"--delimiter={name}: give one character, such as ';', or tab")
    return name


def _in_order(labels: set[str], path: str) -> list[str]:
    try:
        values = {label: float(label) for label in labels}
    except ValueError:
        return sorted(labels)
    if not all(map(math.isfinite, values.values())):  # `nan` and `inf` are words
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
    rows: Iterator[RawRow],
    columns: list[str],
    bad_rows: BadRows,
    optional: str | None,
    label_column: str,
) -> Iterator[NumberedCells]:
    """Names the cells of a table after its first row; the row behind it is number 1."""
    _, header, problem = next(rows, (1, [], None))
    if problem:
        raise BadRow(path, 1, f"the header, which names the columns, cannot be read: {problem}")
    if not any(header):
        raise BadRow(path, 1, f"the file is empty; its first row must name {', '.join(columns)}")
    if optional is not None and header.count(optional) == 1:
        columns = [*columns, optional]
    for column in columns:
        if header.count(column) != 1:
            problem = "is there twice" if column in header else "is missing"
            hint = did_you_mean(column, header)
            raise BadRow(path, 1, f"column {column!r} {problem} in the header.{hint}")
    at = {column: header.index(column) for column in columns}
    for number, (line, row, problem) in enumerate(rows, start=1):
        complete = len(row) == len(header)
        if problem is None and not complete:
            problem = f"expected {len(header)} columns, got {len(row)}"
        if problem is None:
            yield line, number, {column: row[place] for column, place in at.items()}
        else:
            label = row[at[label_column]] if complete and label_column in at else None
            bad_rows.add(BadRow(path, line, problem, label))


def _best_delimiter(text: str, columns: list[str]) -> str | None:
    """What separates the columns of the first row; None if it has one column anyway."""
    headers = {}
    for delimiter in _DELIMITERS:
        first = io.StringIO(text[:_FIRST_ROW], newline="")
        try:
            headers[delimiter] = next(csv.reader(first, delimiter=delimiter), [])
        except csv.Error:
            continue
    found = max(
        headers, key=lambda d: (sum(c in headers[d] for c in columns), len(headers[d])), default=","
    )
    return found if len(headers.get(found, [])) > 1 else None


def _csv_rows(text: str, delimiter: str) -> Iterator[RawRow]:
    """The line on which each row starts, and its cells; a quoted cell may hold line breaks."""
    text = text.rstrip("\r\n")
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # 131,072 characters by default
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
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
            yield line, [], problem
        else:
            yield line, row, _broken_cell(row)


def _broken_cell(row: list[str]) -> str | None:
    """What is wrong with the text of a row, or None."""
    problem = next(filter(None, map(broken, row)), None)
    return problem and f"{problem}; {SAVE_AS_UTF8}"


def _tsv_rows(path: str, encoding: str | None) -> Iterator[RawRow]:
    """The rows of a file; says so if cells look as if a program had put them in quotes."""
    quoted = []
    for line, text in every_line(path, encoding):
        row = text.split("\t")
        if any(_looks_quoted(cell) for cell in row):
            quoted.append(line)
        yield line, row, _broken_cell(row)
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
    lines: Iterator[tuple[int, JsonObject]],
    columns: list[str],
    bad_rows: BadRows,
    list_column: str | None,
    optional: str | None,
) -> Iterator[NumberedCells]:
    def cell(row: dict[str, Any], column: str) -> str:
        if column == list_column and isinstance(row.get(column), list):
            return _joined(row[column], column)
        return text_of(row, column)

    for line, row in lines:
        try:
            cells = {column: cell(row, column) for column in columns}
            if optional is not None:
                with contextlib.suppress(ValueError):
                    cells[optional] = cell(row, optional)
            yield line, line, cells
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
