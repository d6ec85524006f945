"""Reading text files of examples: UTF-8, one row a line, errors that name file and line."""

import codecs
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches

from bert_tf import filesystem


class BadRow(ValueError):
    """A row that cannot be used; the message starts with `file:line: `."""

    def __init__(self, file: str, line: int, problem: str) -> None:
        super().__init__(f"{file}:{line}: {problem}")
        self.file, self.line, self.problem = file, line, problem


OnBad = Callable[[BadRow], None]


def refuse(error: BadRow) -> None:
    """Ends the reading with the error: what a reader does with a bad row by default."""
    raise error


def did_you_mean(name: str, names: Sequence[str]) -> str:
    """` Did you mean 'x'? There are: x, y.` to end an error about an unknown name."""
    close = get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    return f"{hint} There are: {', '.join(names)}."


def read_text(path: str) -> str:
    """The text of a UTF-8 file, local or remote, without a byte order mark.

    Raises: ValueError if the file is missing, is not UTF-8 or holds NUL characters (naming the
      line).
    """
    try:
        data = filesystem.read_bytes(path)
    except OSError as error:
        raise ValueError(
            f"{path}: cannot be read ({error.strerror or error}); "
            "--data_dir must be the folder that holds it"
        ) from error
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise BadRow(path, 1, "the file is UTF-16; save it as UTF-8")
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problem = f"byte 0x{data[error.start]:02x} is not UTF-8 text; save the file as UTF-8"
        raise BadRow(path, line, problem) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise BadRow(path, line, "NUL character; save the file as UTF-8 text")
    return text


def lines(path: str) -> Iterator[tuple[int, str]]:
    """Line number (from 1) and text of each line, ending in "\\n" or "\\r\\n".

    Empty lines at the end of the file are left out.
    """
    # Not splitlines(): it would also split on U+2028, U+0085 and other characters of the text.
    for number, line in enumerate(read_text(path).rstrip("\r\n").split("\n"), start=1):
        yield number, line.removesuffix("\r")


def tsv_rows(path: str) -> Iterator[tuple[int, list[str]]]:
    """Line number (from 1) and cells of each row of a tab-separated file.

    As Google's `csv.reader(delimiter="\\t", quotechar=None)`, quotes are text like any other; a
    cell may have any length.
    """
    for number, line in lines(path):
        yield number, line.split("\t")
