"""Your own files: `train.csv`, `dev.csv`, `test.csv` (or .tsv, .jsonl) with columns you name."""

import csv
import functools
import io
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from absl import logging

from bert_tf.data.examples import Row, SentenceTask
from bert_tf.data.text_files import BadRow, did_you_mean, lines, read_text, tsv_rows
from bert_tf.metrics import METRICS, Metric

Cells = dict[str, str]  # of the columns asked for, by name


@dataclass(frozen=True)
class DelimitedTask(SentenceTask):
    """A task of one's own, used like one of `bert_tf.data.glue.TASKS`.

    * `csv`: commas and quotes as a spreadsheet writes them; the first row names the columns.
    * `tsv`: tabs, no quoting (a quote is text); the first row names the columns.
    * `jsonl`: one JSON object a line; its keys are the columns.

    The classes are those of the training file unless given, numbers in numeric order and others
    in alphabetical order. The test file may lack the label column: its labels are never read. The
    guid is the cell of the `id_column`, or `split-number` with the first example as 1.
    """

    kind: str
    text_a_column: str
    text_b_column: str | None = None
    label_column: str = "label"
    problem_type: str = "classification"
    classes: tuple[str, ...] | None = None
    id_column: str | None = None

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
        return METRICS["pearson" if self.regression else "accuracy"]

    @property
    def regression(self) -> bool:
        return self.problem_type == "regression"

    def labels(self, data_dir: str) -> list[str]:
        """As the base class says.

        Raises: ValueError if the training file has fewer than two classes, or fractions for them.
        """
        if self.regression:
            return []
        if self.classes is not None:
            return list(self.classes)
        path = self.path(data_dir, "train")
        found = set()
        for line, cells in READERS[self.kind](path, [self.label_column]):
            found.add(_one_line(cells[self.label_column], "label", path, line))
        if len(found) < 2:
            raise ValueError(
                f"{path}: classification needs two labels or more; "
                f"column {self.label_column!r} holds {sorted(found)}"
            )
        return _in_order(found, path)

    def path(self, data_dir: str, split: str) -> str:
        return os.path.join(data_dir, f"{split}.{self.kind}")

    def rows(self, path: str, split: str) -> Iterator[Row]:
        label_column = None if split == "test" else self.label_column
        used = (self.text_a_column, self.text_b_column, label_column, self.id_column)
        columns = [column for column in used if column is not None]
        for number, (line, cells) in enumerate(READERS[self.kind](path, columns), start=1):
            text_a = cells[self.text_a_column]
            if not text_a.strip():
                raise BadRow(path, line, f"column {self.text_a_column!r} is empty")
            text_b = None if self.text_b_column is None else cells[self.text_b_column]
            label = None if label_column is None else cells[label_column]
            guid = f"{split}-{number}"
            if self.id_column is not None:
                guid = _one_line(cells[self.id_column], "id", path, line)
            yield Row(line, guid, text_a, text_b, label)


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


def _one_line(cell: str, what: str, path: str, line: int) -> str:
    """Checks a label or id: they are written to tab-separated files and must fit a cell there."""
    if not cell.strip():
        raise BadRow(path, line, f"the {what} is empty")
    if any(character in cell for character in "\t\r\n"):
        raise BadRow(path, line, f"the {what} {cell!r} holds a tab or a line break")
    return cell


def _table(
    path: str, rows: Iterator[tuple[int, list[str]]], columns: list[str]
) -> Iterator[tuple[int, Cells]]:
    """Names the cells of a table after its first row."""
    _, header = next(rows, (1, []))
    if not any(header):
        raise BadRow(path, 1, f"the file is empty; its first row must name {', '.join(columns)}")
    for column in columns:
        if header.count(column) != 1:
            problem = "is there twice" if column in header else "is missing"
            hint = did_you_mean(column, header)
            raise BadRow(path, 1, f"column {column!r} {problem} in the header.{hint}")
    positions = [header.index(column) for column in columns]
    for line, row in rows:
        if len(row) != len(header):
            raise BadRow(path, line, f"expected {len(header)} columns, got {len(row)}")
        yield line, {column: row[at] for column, at in zip(columns, positions, strict=True)}


def _csv_rows(path: str) -> Iterator[tuple[int, list[str]]]:
    """The line on which each row starts, and its cells; a quoted cell may hold line breaks."""
    text = read_text(path).rstrip("\r\n")
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # 131,072 characters by default
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            yield line, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problem = f"the row that starts here is not valid CSV ({error})"
            raise BadRow(path, line, problem) from error


def _tsv_rows(path: str) -> Iterator[tuple[int, list[str]]]:
    """As `tsv_rows`; says so if cells look as if a program had put them in quotes."""
    quoted = []
    for line, row in tsv_rows(path):
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


def _jsonl(path: str, columns: list[str]) -> Iterator[tuple[int, Cells]]:
    for line, text in lines(path):
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BadRow(path, line, f"not a JSON object ({error})") from error
        if not isinstance(row, dict):
            raise BadRow(path, line, f"expected a JSON object, got {text[:40]!r}")
        for column in columns:
            if column not in row:
                hint = did_you_mean(column, list(row))
                raise BadRow(path, line, f"column {column!r} is missing.{hint}")
        yield line, {column: _json_cell(row[column], column, path, line) for column in columns}


def _json_cell(value: object, column: str, path: str, line: int) -> str:
    if value is None:
        return ""
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if not isinstance(value, str):
        raise BadRow(path, line, f"column {column!r} must be text or a number, not {value!r:.40}")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise BadRow(path, line, f"column {column!r} holds half of a surrogate pair")
    return value


READERS: dict[str, Callable[[str, list[str]], Iterator[tuple[int, Cells]]]] = {
    "csv": lambda path, columns: _table(path, _csv_rows(path), columns),
    "tsv": lambda path, columns: _table(path, _tsv_rows(path), columns),
    "jsonl": _jsonl,
}
KINDS = tuple(READERS)
PROBLEM_TYPES = ("classification", "regression")
