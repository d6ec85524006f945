"""How published tasks lay out their files: tab-separated columns, or JSON objects a line.

A layout is data; the table of tasks is in `glue.py`.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from absl import logging

from bert_tf.data.examples import Row, SentenceTask
from bert_tf.data.json_lines import as_text, json_rows, member
from bert_tf.data.text_files import BadRow, BadRows, did_you_mean, tsv_rows
from bert_tf.metrics import Metric

Column = int | str  # a position, as in Google's processors, or a name in the header
Field = str | Callable[[Mapping[str, Any]], str]  # a key, or what to make of the object


@dataclass(frozen=True)
class Tsv:
    """A tab-separated file and which of its columns hold what."""

    file: str
    text_a: Column
    text_b: Column | None = None
    label: Column | None = None  # None: not public, or not to be used
    guid: Column | None = None  # None: the number of the row; the first in the file is 0
    header: bool = True
    columns: int = 0  # how many, in a file without header
    maybe_header: str = ""  # a first row that begins with this cell is a header after all
    keep: tuple[Column, str] | None = None  # only the rows with this value in this column
    skip_incomplete: bool = False  # the published file has rows that lack cells

    def rows(self, path: str, bad_rows: BadRows, encoding: str | None) -> Iterator[Row]:
        """The rows that are kept; the guid is without the name of the split."""
        for line, cells, at in self._kept(path, bad_rows, encoding):
            number = str(line - 1) if self.guid is None else cells[at[self.guid]]
            text_b = None if self.text_b is None else cells[at[self.text_b]]
            label = None if self.label is None else cells[at[self.label]]
            yield Row(line, number, cells[at[self.text_a]], text_b, label)

    def _kept(
        self, path: str, bad_rows: BadRows, encoding: str | None
    ) -> Iterator[tuple[int, list[str], dict[Column, int]]]:
        """Line, cells and the position of each column, for every row that is kept."""
        rows = tsv_rows(path, bad_rows.add, encoding)
        header = [""] * self.columns
        if self.header:
            line, header = next(rows, (1, [""]))
            if line != 1:
                raise BadRow(path, 1, "the header, which names the columns, cannot be read")
        keep, kept_value = self.keep or (None, "")
        used = (self.text_a, self.text_b, self.label, self.guid, keep)
        at = {column: _position(column, header, path) for column in used if column is not None}
        incomplete = []
        for line, cells in rows:
            if line == 1 and self.maybe_header and cells[0] == self.maybe_header:
                continue
            if self.skip_incomplete and len(cells) < len(header):
                incomplete.append(line)
            elif len(cells) != len(header):
                problem = f"expected {len(header)} columns, got {len(cells)}"
                bad_rows.add(BadRow(path, line, problem))
            elif keep is None or cells[at[keep]] == kept_value:
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


@dataclass(frozen=True)
class Json:
    """A file of one JSON object a line and which of its keys hold what."""

    file: str
    text_a: Field
    text_b: Field | None = None
    label: str | None = None  # None: not public, or not to be used
    guid: str = "id"  # where a row has it; else the number of the row, the first being 0
    drop: str | None = None  # rows with this label are published, but not to be used

    def rows(self, path: str, bad_rows: BadRows, encoding: str | None) -> Iterator[Row]:
        """The rows that are kept; the guid is without the name of the split."""
        dropped = 0
        for line, row in json_rows(path, bad_rows.add, encoding):
            try:
                label = None if self.label is None else text_of(row, self.label)
                text_b = None if self.text_b is None else text_of(row, self.text_b)
                guid = text_of(row, self.guid) if self.guid in row else str(line - 1)
                parsed = Row(line, guid, text_of(row, self.text_a), text_b, label)
            except ValueError as error:
                bad_rows.add(BadRow(path, line, str(error)))
                continue
            if label is not None and label == self.drop:
                dropped += 1
            else:
                yield parsed
        if dropped:
            logging.warning(
                "%s: left out %d rows labelled %r, on which the annotators did not agree",
                *(path, dropped, self.drop),
            )


def text_of(row: Mapping[str, Any], key: Field) -> str:
    """The text under a key. Raises ValueError if it is missing or is no text or number."""
    if callable(key):
        try:
            value = key(row)
        except (KeyError, TypeError, IndexError) as error:
            problem = f"the object has not the keys of this task ({error!r})"
            raise ValueError(f"{problem}; it has {', '.join(row)}") from error
        return as_text(value, "made of its keys")
    return as_text(member(row, key), key)


@dataclass(frozen=True)
class Task(SentenceTask):
    """A published task: its classes (none: regression), its leaderboard's metric, its files.

    `languages` are those it is published in, "" if that is no choice; `{language}` and
    `{translated}` (empty for English) in a file's name or kept value stand for the one chosen.
    """

    name: str
    classes: tuple[str, ...]
    metric: Metric
    layouts: Mapping[str, Tsv | Json]
    renamed: Mapping[str, str] = field(default_factory=dict)  # label in the file -> class
    languages: tuple[str, ...] = ()
    encoding: str | None = None

    @property
    def problem_type(self) -> str:  # type: ignore[override]
        return "classification" if self.classes else "regression"

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.layouts)

    def labels(self, data_dir: str) -> list[str]:
        return list(self.classes)

    def path(self, data_dir: str, split: str) -> str | None:
        return os.path.join(data_dir, self.layouts[split].file) if split in self.layouts else None

    def rows(self, path: str, split: str, bad_rows: BadRows) -> Iterator[Row]:
        prefix = "dev_matched" if (self.name, split) == ("mnli", "dev") else split  # as Google's
        for row in self.layouts[split].rows(path, bad_rows, self.encoding):
            label = None if row.label is None else self.renamed.get(row.label, row.label)
            yield replace(row, guid=f"{prefix}-{row.guid}", label=label)

    def in_language(self, language: str) -> "Task":
        """The task in one of its languages. Raises ValueError if it is not published in it."""
        if language not in self.languages:
            raise ValueError(
                f"--xnli_language={language}: --task_name={self.name} is published in "
                f"{', '.join(self.languages)}"
            )
        words = {"language": language, "translated": "" if language == "en" else "translated_"}

        def fill(layout: Tsv | Json) -> Tsv | Json:
            layout = replace(layout, file=layout.file.format(**words))
            if isinstance(layout, Tsv) and layout.keep:
                layout = replace(layout, keep=(layout.keep[0], layout.keep[1].format(**words)))
            return layout

        return replace(self, layouts={name: fill(x) for name, x in self.layouts.items()})
