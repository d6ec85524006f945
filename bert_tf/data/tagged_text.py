"""Sentences whose words bear tags: CoNLL columns, and a sentence a line in two columns.

    Barack   B-PER            text            label
    visits   O                我 爱 北 京     O O B-LOC I-LOC
    Paris    B-LOC

Predictions are written into a copy of the file, which is otherwise left as it is. A sentence of
which a row is bad is left out as a whole; its lines are copied without predictions. There U+FFFD
stands for bytes that are not UTF-8.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bert_tf.data.text_files import (
    SAVE_AS_UTF8,
    BadRow,
    OnBad,
    broken,
    did_you_mean,
    every_line,
    legible,
    read_text,
    refuse,
    tsv_rows,
)

_DOCUMENT = "-DOCSTART-"  # stands for a word in front of each document in CoNLL-2003
_KEY_AND_VALUE = re.compile(r"#\s*\S+ = ")  # the form of a comment in CoNLL-U
_NO_WORD_ID = re.compile(r"\d+[-.]\d+")  # in CoNLL-U "1-2" covers two words, "1.1" is left unsaid
_CONTROL_B = "\x02"  # stands between words, and between tags, in PaddlePaddle's files


@dataclass(frozen=True, slots=True)
class Sentence:
    """Words and, where they were read, their tags as the file has them.

    Attributes:
      line: counts from 1; in a CoNLL file it is that of the first word.
      skipped: how many lines among those of its words hold no word (see `read_conll`).
    """

    line: int
    words: tuple[str, ...]
    tags: tuple[str, ...] | None = None
    skipped: int = 0


def read_conll(
    path: str,
    *,
    word_column: int = 0,
    tag_column: int | None = -1,
    on_bad: OnBad = refuse,
    encoding: str | None = None,
) -> Iterator[Sentence]:
    """A word a line with its columns, blank lines between sentences.

    Columns are separated by tabs, or in a line without tab by blanks, and there are as many as in
    the first line that does not begin with `#`. `-DOCSTART-` lines end a sentence. In front of a
    sentence, a line that begins with `#` is a comment if it has another number of columns, or the
    form `# key = value`. In CoNLL-U, whose first column numbers the words, lines with a range
    ("1-2") or an empty node ("1.1") are skipped and counted.

    Args:
      word_column, tag_column: counted from 0, or from the end below 0; `tag_column` is None if
        tags are not to be read.

    Raises: ValueError naming the file if it cannot be read or has no such column, and file and
      line of a row with another number of columns, an empty word or tag or bytes that are not UTF-8
      unless `on_bad` takes it.
    """
    blocks = list(_blocks(path, encoding))
    first = _first_line(blocks)
    if first is None:
        return
    _check_columns(path, first, word_column, tag_column)
    count = len(first.cells)
    for block in blocks:
        rows, skipped = _word_lines(block, count, word_column)
        try:
            words = tuple(row.cell(word_column, "word", count, path) for row in rows)
            tags = None
            if tag_column is not None:
                tags = tuple(row.cell(tag_column, "tag", count, path) for row in rows)
        except BadRow as error:
            on_bad(error)
            continue
        if rows:
            yield Sentence(rows[0].number, words, tags, len(skipped))


def conll_columns(path: str, encoding: str | None = None) -> int:
    """How many columns the lines of words have; 0 if there are none."""
    first = _first_line(list(_blocks(path, encoding)))
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
        if problem := broken(self.text):
            raise BadRow(path, self.number, f"{problem}; {SAVE_AS_UTF8}")
        if len(self.cells) != columns:
            problem = f"expected {columns} columns, got {len(self.cells)}"
            raise BadRow(path, self.number, problem)
        if not self.cells[column]:
            raise BadRow(path, self.number, f"the {what} is empty")
        return self.cells[column]


def _blocks(path: str, encoding: str | None) -> Iterator[list[_Line]]:
    """The lines between blank and -DOCSTART- ones."""
    block: list[_Line] = []
    for number, text in every_line(path, encoding):
        cells = _cells(text)
        if cells and cells[0] != _DOCUMENT:
            block.append(_Line(number, text, cells))
        elif block:
            yield block
            block = []
    if block:
        yield block


def _word_lines(
    block: list[_Line], columns: int, word_column: int
) -> tuple[list[_Line], list[_Line]]:
    """Return the lines of a block that hold a word, and those that CoNLL-U has beside them."""
    words = list(itertools.dropwhile(lambda line: line.is_comment(columns), block))
    skipped: list[_Line] = []
    if word_column % columns and any(line.cells[0].isdecimal() for line in words):
        skipped = [line for line in words if _NO_WORD_ID.fullmatch(line.cells[0])]
        words = [line for line in words if not _NO_WORD_ID.fullmatch(line.cells[0])]
    return words, skipped


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


def conll_predictions(
    path: str,
    predicted: Mapping[int, Sequence[str]],
    word_column: int = 0,
    encoding: str | None = None,
) -> str:
    """Return the file with the predicted tag as a further, last column.

    The official scorer `conlleval` wants as many columns in each line, so `-DOCSTART-` lines get
    `O`, and the lines of CoNLL-U that hold no word get its `_`. Comments stay as they are. Where
    blanks separate the columns, blanks inside of a tag become `_`.

    Args:
      predicted: `Sentence.line` -> the tags of its words.
      word_column, encoding: as the file was read.
    """
    tag_of: dict[int, str] = {}
    columns = conll_columns(path, encoding)
    for block in _blocks(path, encoding):
        rows, skipped = _word_lines(block, columns, word_column)
        if rows and rows[0].number in predicted:
            tags = predicted[rows[0].number]
            tag_of |= {row.number: tag for row, tag in zip(rows, tags, strict=True)}
            tag_of |= {row.number: "_" for row in skipped}
    result = []
    for number, line in enumerate(read_text(path, encoding).split("\n"), start=1):
        text = line.removesuffix("\r")
        tag = "O" if _cells(text)[:1] == [_DOCUMENT] else tag_of.get(number)
        if tag is not None:
            end = line[len(text) :]
            if "\t" in text:
                line = f"{text}\t{tag}{end}"
            else:
                line = f"{text.rstrip(' ')} {tag.replace(' ', '_')}{end}"
        result.append(line)
    return legible("\n".join(result))


def read_tsv(
    path: str,
    *,
    text_column: str | None = None,
    label_column: str | None = "label",
    on_bad: OnBad = refuse,
    encoding: str | None = None,
) -> Iterator[Sentence]:
    """A sentence a line: words in one column and tags in another, a blank between each two.

    In a row that holds the character U+0002, as PaddlePaddle's MSRA has it, that one separates
    instead. The first row names the columns.

    Args:
      text_column: its name; by default it is the first column.
      label_column: None if tags are not to be read.

    Raises: ValueError naming the file if it cannot be read or has no such column, and file and
      line of a row with another number of columns, an empty word, bytes that are not UTF-8, or not
      as many tags as words unless `on_bad` takes it.
    """
    rows = tsv_rows(path, lambda bad: (refuse if bad.line == 1 else on_bad)(bad), encoding)
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
            separator = _separator(cells)
            words = _split(cells[text], separator, "word", path, number)
            tags = None
            if label_column is not None:
                tags = _split(cells[label], separator, "tag", path, number)
            if tags is not None and len(words) != len(tags):
                raise BadRow(path, number, f"{len(words)} words, but {len(tags)} tags")
        except BadRow as error:
            on_bad(error)
        else:
            yield Sentence(number, words, tags)


def _separator(cells: Iterable[str]) -> str:
    return _CONTROL_B if any(_CONTROL_B in cell for cell in cells) else " "


def _split(cell: str, separator: str, what: str, path: str, line: int) -> tuple[str, ...]:
    parts = tuple(cell.split(separator))
    if "" in parts:
        where = f"{what} {parts.index('') + 1} is empty" if cell else f"there is no {what}"
        one = "blank" if separator == " " else "U+0002"
        raise BadRow(path, line, f"{where}; write one {one} between {what}s")
    return parts


def tsv_predictions(
    path: str, predicted: Mapping[int, Sequence[str]], encoding: str | None = None
) -> str:
    """Return the file with the predicted tags in a further, last column `predicted`.

    They are separated as the words of their row. Where that is by blanks, blanks inside of a tag
    become `_`.

    Args:
      predicted: `Sentence.line` -> the tags of its words; the cell is empty for other lines.
    """
    result = []
    for number, line in every_line(path, encoding):
        separator = _separator([line])
        tags = (tag.replace(separator, "_") for tag in predicted.get(number, ()))
        cell = "predicted" if number == 1 else separator.join(tags)
        result.append(f"{line}\t{cell}\n")
    return legible("".join(result))
