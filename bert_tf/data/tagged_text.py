"""Sentences whose words bear tags: CoNLL columns, and a sentence a line in two columns.

    Barack   B-PER            text            label
    visits   O                我 爱 北 京     O O B-LOC I-LOC
    Paris    B-LOC

Predictions are written into a copy of the file, which is otherwise left as it is. A sentence of
which a row is bad is left out as a whole; its lines are copied without predictions.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bert_tf.data.text_files import BadRow, OnBad, did_you_mean, lines, read_text, refuse, tsv_rows

_DOCUMENT = "-DOCSTART-"  # stands for a word in front of each document in CoNLL-2003
_KEY_AND_VALUE = re.compile(r"#\s*\S+ = ")  # the form of a comment in CoNLL-U


@dataclass(frozen=True, slots=True)
class Sentence:
    """Words and, where they were read, their tags as the file has them.

    `line` counts from 1; in a CoNLL file it is that of the first word, and each of the other words
    has the line behind.
    """

    line: int
    words: tuple[str, ...]
    tags: tuple[str, ...] | None = None


def read_conll(
    path: str, *, word_column: int = 0, tag_column: int | None = -1, on_bad: OnBad = refuse
) -> Iterator[Sentence]:
    """A word a line with its columns, blank lines between sentences.

    Columns are separated by tabs, or in a line without tab by blanks, and there are as many as in
    the first line that does not begin with `#`. `-DOCSTART-` lines end a sentence. In front of a
    sentence, a line that begins with `#` is a comment if it has another number of columns, or the
    form `# key = value`.

    Args:
      word_column, tag_column: counted from 0, or from the end below 0; `tag_column` is None if
        tags are not to be read.

    Raises: ValueError naming the file if it cannot be read or has no such column, and file and
      line of a row with another number of columns or an empty word or tag unless `on_bad` takes it.
    """
    blocks = list(_blocks(path))
    first = _first_line(blocks)
    if first is None:
        return
    _check_columns(path, first, word_column, tag_column)
    count = len(first.cells)
    for block in blocks:
        rows = list(itertools.dropwhile(lambda line: line.is_comment(count), block))
        try:
            words = tuple(row.cell(word_column, "word", count, path) for row in rows)
            tags = None
            if tag_column is not None:
                tags = tuple(row.cell(tag_column, "tag", count, path) for row in rows)
        except BadRow as error:
            on_bad(error)
            continue
        if rows:
            yield Sentence(rows[0].number, words, tags)


def conll_columns(path: str) -> int:
    """How many columns the lines of words have; 0 if there are none."""
    first = _first_line(list(_blocks(path)))
    return len(first.cells) if first else 0


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    text: str
    cells: list[str]

    def is_comment(self, columns: int) -> bool:
        is_word = len(self.cells) == columns and not _KEY_AND_VALUE.match(self.text)
        return self.text[0] == "#" and not is_word

    def cell(self, column: int, what: str, columns: int, path: str) -> str:
        if len(self.cells) != columns:
            problem = f"expected {columns} columns, got {len(self.cells)}"
            raise BadRow(path, self.number, problem)
        if not self.cells[column]:
            raise BadRow(path, self.number, f"the {what} is empty")
        return self.cells[column]


def _blocks(path: str) -> Iterator[list[_Line]]:
    """The lines between blank and -DOCSTART- ones."""
    block: list[_Line] = []
    for number, text in lines(path):
        cells = _cells(text)
        if cells and cells[0] != _DOCUMENT:
            block.append(_Line(number, text, cells))
        elif block:
            yield block
            block = []
    if block:
        yield block


def _first_line(blocks: list[list[_Line]]) -> _Line | None:
    """The first that is surely a word's, by which columns are counted."""
    every = [line for block in blocks for line in block]
    return next((line for line in every if line.text[0] != "#"), every[0] if every else None)


def _cells(text: str) -> list[str]:
    """Of a blank line none. Only tabs and blanks separate: other kinds of space can be words."""
    if not text.strip(" \t"):
        return []
    return text.split("\t") if "\t" in text else re.split(" +", text.strip(" "))


def _check_columns(path: str, line: _Line, word: int, tag: int | None) -> None:
    count = len(line.cells)
    for what, column in (("word", word), ("tag", tag)):
        if column is not None and not -count <= column < count:
            problem = f"there are {count} columns, so that --{what}_column={column} is none of them"
            raise BadRow(path, line.number, f"{problem}; they count from 0, and -1 is the last")
    if tag is not None and word % count == tag % count:
        what = "one column" if count == 1 else f"column {word} for both"
        raise BadRow(path, line.number, f"expected a word and a tag in each line, got {what}")


def conll_predictions(path: str, predicted: Mapping[int, Sequence[str]]) -> str:
    """The file with the predicted tag as a further, last column.

    Args:
      predicted: `Sentence.line` -> the tags of its words.
    """
    tag_of = {
        line + offset: tag for line, tags in predicted.items() for offset, tag in enumerate(tags)
    }
    result = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if number in tag_of:
            text = line.removesuffix("\r")
            separator = "\t" if "\t" in text else " "
            line = f"{text}{separator}{tag_of[number]}{line[len(text) :]}"
        result.append(line)
    return "\n".join(result)


def read_tsv(
    path: str,
    *,
    text_column: str | None = None,
    label_column: str | None = "label",
    on_bad: OnBad = refuse,
) -> Iterator[Sentence]:
    """A sentence a line: words in one column and tags in another, a blank between each two.

    The first row names the columns.

    Args:
      text_column: its name; by default it is the first column.
      label_column: None if tags are not to be read.

    Raises: ValueError naming the file if it cannot be read or has no such column, and file and
      line of a row with another number of columns, an empty word, or not as many tags as words
      unless `on_bad` takes it.
    """
    rows = tsv_rows(path)
    _, header = next(rows)
    columns = [text_column or header[0], label_column]
    for column in columns:
        if column is not None and header.count(column) != 1:
            problem = "is there twice" if column in header else "is missing"
            hint = did_you_mean(column, header)
            raise BadRow(path, 1, f"column {column!r} {problem} in the header.{hint}")
    if columns[0] == columns[1]:
        problem = f"column {columns[0]!r} cannot hold both words and tags"
        raise BadRow(path, 1, f"{problem}; name the other with --text_column or --label_column")
    text, label = (-1 if column is None else header.index(column) for column in columns)
    for number, cells in rows:
        try:
            if len(cells) != len(header):
                raise BadRow(path, number, f"expected {len(header)} columns, got {len(cells)}")
            words = _split(cells[text], "word", path, number)
            tags = None if label_column is None else _split(cells[label], "tag", path, number)
            if tags is not None and len(words) != len(tags):
                raise BadRow(path, number, f"{len(words)} words, but {len(tags)} tags")
        except BadRow as error:
            on_bad(error)
        else:
            yield Sentence(number, words, tags)


def _split(cell: str, what: str, path: str, line: int) -> tuple[str, ...]:
    parts = tuple(cell.split(" "))
    if "" in parts:
        where = f"{what} {parts.index('') + 1} is empty" if cell else f"there is no {what}"
        raise BadRow(path, line, f"{where}; write one blank between {what}s")
    return parts


def tsv_predictions(path: str, predicted: Mapping[int, Sequence[str]]) -> str:
    """The file with the predicted tags in a further, last column `predicted`.

    Args:
      predicted: `Sentence.line` -> the tags of its words; the cell is empty for other lines.
    """
    result = []
    for number, line in lines(path):
        cell = "predicted" if number == 1 else " ".join(predicted.get(number, ()))
        result.append(f"{line}\t{cell}\n")
    return "".join(result)
