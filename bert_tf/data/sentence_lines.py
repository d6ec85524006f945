"""`a ||| b` lines, as google-research/bert's extract_features.py reads them, one at a time."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import NamedTuple

from bert_tf import filesystem
from bert_tf.data.text_files import BadRow, likely_encoding, refuse_other_files

_PAIR = re.compile(r"(.*) \|\|\| (.*)")


def split_pair(text: str) -> tuple[str, str | None]:
    """`a ||| b` -> the two texts, else the text and None; of several ` ||| ` the last separates."""
    pair = _PAIR.fullmatch(text)
    return (pair[1], pair[2]) if pair else (text, None)


class SentenceLine(NamedTuple):
    """A text or a pair of them, its line (from 0) and the offset of the next line in bytes."""

    number: int
    text_a: str
    text_b: str | None
    end: int


def read(path: str, encoding: str | None = None) -> Iterator[SentenceLine]:
    """The lines of a file, stripped; of several ` ||| ` the last separates.

    The file is UTF-8, unless `encoding` says another one.

    An empty line is an empty text: it keeps its number. Carriage returns are left out wherever
    they stand, as TensorFlow's reader does, which Google's program uses. Memory holds one line; a
    remote file is copied to a local one first.

    Raises: BadRow naming a line in another encoding; OSError naming a file that is not there.
    """
    end = 0
    with filesystem.local_copy(path) as local, open(local, "rb") as file:
        for number, data in enumerate(file):
            end += len(data)
            if number == 0:
                refuse_other_files(path, data)
                if encoding is None and data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                    raise BadRow(path, 1, "the file is UTF-16; save it as UTF-8")
                data = data.removeprefix(codecs.BOM_UTF8)
            try:
                line = data.decode(encoding or "utf-8").replace("\r", "").strip()
            except UnicodeDecodeError as error:
                raise BadRow(path, number + 1, _problem(data, error, encoding)) from error
            yield SentenceLine(number, *split_pair(line), end)


def _problem(data: bytes, error: UnicodeDecodeError, encoding: str | None) -> str:
    problem = f"byte 0x{data[error.start]:02x} is not"
    if encoding is not None:
        return f"{problem} --encoding={encoding}; is this the encoding of the file?"
    return f"{problem} UTF-8 text; save the file as UTF-8, or give {likely_encoding(data)}"
