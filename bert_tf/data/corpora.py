"""A corpus of texts as documents of sentences, read as a stream. Without TensorFlow.

Three forms: google-research/bert's (a sentence a line, an empty line between documents), plain
text (paragraphs, an empty line between documents), and JSON lines with a member "text".
"""

from __future__ import annotations

import codecs
import contextlib
import gzip
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence

from bert_tf import filesystem, text_rules
from bert_tf.data.json_lines import as_text, member
from bert_tf.data.text_files import BadRow, likely_encoding, refuse_other_files

INPUT_FORMATS = ("google", "text", "jsonl")

Sentences = list[str]

_SAMPLE = 1 << 16  # bytes kept to tell an encoding by

# A Chinese or Japanese sentence ends in one of these, and what closes it.
_CJK_END = re.compile(r"[^。！？!?…]+(?:[。！？!?…]+[”’」』）》\"')]*)?|[。！？!?…]+")


def find_files(patterns: str, flag: str) -> list[str]:
    """The files that patterns with commas between them name, each pattern's in their order.

    Raises: ValueError naming the flag if a pattern finds none.
    """
    files: list[str] = []
    for pattern in [patterns] if filesystem.is_file(patterns) else patterns.split(","):
        found = filesystem.matching(pattern)
        if not found:
            raise ValueError(f"--{flag}={patterns}: there is no file {pattern!r}")
        files += found
    return files


class Corpus:
    """The documents of files, in order.

    Args:
      files: one that ends in .gz is unpacked on the way.
      form: one of INPUT_FORMATS. In Google's the last document of a file goes on in the next one,
        as there, unless an empty line ends it.

    Attributes, counted while reading:
      lines: of all files.
      bad_bytes: lines that held bytes which are not UTF-8; those bytes are left out, as Google's.

    Raises, while reading:
      BadRow: a line of a .jsonl file holds no text, or a file is UTF-16.
      ValueError: naming a .gz file that cannot be unpacked.
    """

    def __init__(self, files: Sequence[str], form: str, encoding: str | None = None):
        self.files, self._form, self._encoding = list(files), form, encoding
        self.lines = self.bad_bytes = 0
        self._bad = b""  # some of the lines with bad bytes

    def warning(self) -> str | None:
        """What is to be said about bytes that were left out, or None."""
        if not self.bad_bytes:
            return None
        return (
            f"{self.bad_bytes} of {self.lines} lines hold bytes that are not UTF-8; these bytes "
            f"were left out. If the text has another encoding, give {likely_encoding(self._bad)}"
        )

    def check(self) -> None:
        """Read the first text of each file, so that a bad file is told before the work begins."""
        for file in self.files:
            next(Corpus([file], self._form, self._encoding).texts(), None)

    def documents(self) -> Iterator[Sentences]:
        """Documents that have at least one sentence."""
        document: Sentences = []
        for file in self.files:
            for number, line in self._lines(file):
                if self._form == "jsonl":
                    if line:
                        yield from _whole(_json_sentences(file, number, line))
                elif not line:
                    yield from _whole(document)
                    document = []
                elif self._form == "google":
                    document.append(line)
                else:
                    document += split_sentences(line)
            if self._form != "google":
                yield from _whole(document)
                document = []
        yield from _whole(document)

    def texts(self) -> Iterator[str]:
        """The text of each line that has any; of a .jsonl file its member "text"."""
        for file in self.files:
            for number, line in self._lines(file):
                if line:
                    yield _json_text(file, number, line) if self._form == "jsonl" else line

    def _lines(self, file: str) -> Iterator[tuple[int, str]]:
        """Line number (from 1) and text of each line, without blanks around it."""
        with _open(file) as opened:
            for number, raw in enumerate(opened, 1):
                if number == 1:
                    refuse_other_files(file, raw)
                if number == 1 and self._encoding is None:
                    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                        raise BadRow(file, 1, "the file is UTF-16; save it as UTF-8")
                    raw = raw.removeprefix(codecs.BOM_UTF8)
                self.lines += 1
                try:
                    text = raw.decode(self._encoding or "utf-8")
                except UnicodeDecodeError as error:
                    if self._encoding is not None:
                        problem = f"--encoding={self._encoding} is not that of this line ({error})"
                        raise BadRow(file, number, problem) from error
                    self.bad_bytes += 1
                    if len(self._bad) < _SAMPLE:
                        self._bad += raw
                    text = raw.decode(errors="ignore")
                yield number, text.strip()


@contextlib.contextmanager
def _open(file: str) -> Iterator[Iterable[bytes]]:
    if filesystem.is_remote(file):
        from tensorflow.io import gfile

        opened = gfile.GFile(file, "rb")
    else:
        opened = open(file, "rb")  # noqa: SIM115 - closed by the next line
    with opened:
        try:
            yield gzip.GzipFile(fileobj=opened) if file.endswith(".gz") else opened
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            problem = f"cannot be unpacked ({error}); it is damaged or no gzip file"
            raise ValueError(f"{file}: {problem}") from error


def _whole(document: Sentences) -> Iterator[Sentences]:
    if document:
        yield document


def _json_sentences(file: str, number: int, line: str) -> Sentences:
    text = _json_text(file, number, line)
    return [sentence for part in text.split("\n") for sentence in split_sentences(part.strip())]


def _json_text(file: str, number: int, line: str) -> str:
    try:
        row = json.loads(line)
        if not isinstance(row, dict):
            raise ValueError(f"expected a JSON object, got {line[:40]!r}")
        return as_text(member(row, "text"), "text")
    except (ValueError, RecursionError) as error:
        raise BadRow(file, number, f'{error}; each line must be {{"text": "..."}}') from error


def split_sentences(paragraph: str) -> Sentences:
    """The sentences of a paragraph: Chinese and Japanese by their stops, others by a library.

    Nothing but blanks around sentences is left out.
    """
    if is_chinese(paragraph):
        found = _CJK_END.findall(paragraph)
    else:
        import sentencex  # here, because files with a sentence a line do without

        found = sentencex.segment("en", paragraph)
    return [sentence for part in found if (sentence := part.strip())]


def is_chinese(text: str) -> bool:
    """Whether a fifth of the characters are of the scripts that stand without blanks."""
    count = sum(1 for char in text if char > "\u2e7f" and text_rules.is_cjk(ord(char)))
    return 5 * count >= len(text) > 0
