"""Reading text files of examples: one row a line, errors that name file and line.

Every reader hands a row that cannot be used to a function, most often `BadRows.add`, which raises
the error or, where bad rows are to be skipped, notes it: so no row is lost without a word.
"""

import codecs
import re
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches

from bert_tf import filesystem

_SHOWN = 20  # bad rows listed one by one
# What no text of a row may hold: NUL, and bytes that are not UTF-8 as `surrogateescape` keeps them.
_BROKEN = re.compile("[\0\udc80-\udcff]")


class BadRow(ValueError):
    """A row that cannot be used; the message starts with `file:line: `."""

    def __init__(self, file: str, line: int, problem: str) -> None:
        super().__init__(f"{file}:{line}: {problem}")
        self.file, self.line, self.problem = file, line, problem


OnBad = Callable[[BadRow], None]


def refuse(error: BadRow) -> None:
    """Ends the reading with the error: what a reader does with a bad row by default."""
    raise error


class BadRows:
    """What becomes of rows that cannot be used.

    Attributes:
      skip: whether they are left out and noted; else the first one is an error.
      found: the messages of those that were left out.
    """

    def __init__(self, skip: bool = False):
        self.skip = skip
        self.found: list[str] = []

    def add(self, bad: BadRow) -> None:
        """Notes a row that is left out. Raises it where rows are not to be skipped."""
        if not self.skip:
            raise bad
        self.found.append(str(bad))

    def __str__(self) -> str:
        """How many, and the first ones line by line."""
        if not self.found:
            return "no bad rows"
        more = len(self.found) - _SHOWN
        lines = [f"{len(self.found)} bad rows were left out (--skip_bad_rows):"]
        lines += [f"  {message}" for message in self.found[:_SHOWN]]
        return "\n".join(lines + ([f"  and {more} more"] if more > 0 else []))


def did_you_mean(name: str, names: Sequence[str]) -> str:
    """` Did you mean 'x'? There are: x, y.` to end an error about an unknown name."""
    close = get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    return f"{hint} There are: {', '.join(names)}."


def read_text(path: str, remedy: str = "--data_dir must be the folder that holds it") -> str:
    """The text of a file, local or remote: UTF-8, or UTF-16 with a byte order mark.

    Bytes that are not UTF-8 stay in it as lone surrogates, which `broken` finds.

    Args:
      remedy: what to do if the file cannot be read, for the message.

    Raises: ValueError if the file is missing, or is UTF-16 that is damaged.
    """
    try:
        data = filesystem.read_bytes(path)
    except OSError as error:
        problem = f"cannot be read ({error.strerror or error}); {remedy}"
        raise ValueError(f"{path}: {problem}") from error
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError as error:
            problem = f"the file is damaged UTF-16 ({error.reason}); save it as UTF-8"
            raise BadRow(path, 1, problem) from error
    return data.removeprefix(codecs.BOM_UTF8).decode("utf-8", errors="surrogateescape")


def broken(text: str) -> str | None:
    """What is wrong with the text of a row from `read_text`: no UTF-8, or a NUL; else None."""
    found = _BROKEN.search(text)
    if found is None:
        return None
    if found.group() == "\0":
        return "NUL character; save the file as UTF-8 text"
    return f"byte 0x{ord(found.group()) - 0xDC00:02x} is not UTF-8 text; save the file as UTF-8"


def lines(path: str, on_bad: OnBad = refuse) -> Iterator[tuple[int, str]]:
    """Line number (from 1) and text of each line, ending in "\\n" or "\\r\\n".

    Empty lines at the end of the file are left out.
    """
    # Not splitlines(): it would also split on U+2028, U+0085 and other characters of the text.
    for number, line in enumerate(read_text(path).rstrip("\r\n").split("\n"), start=1):
        if problem := broken(line):
            on_bad(BadRow(path, number, problem))
        else:
            yield number, line.removesuffix("\r")


def tsv_rows(path: str, on_bad: OnBad = refuse) -> Iterator[tuple[int, list[str]]]:
    """Line number (from 1) and cells of each row of a tab-separated file.

    As Google's `csv.reader(delimiter="\\t", quotechar=None)`, quotes are text like any other; a
    cell may have any length.
    """
    for number, line in lines(path, on_bad):
        yield number, line.split("\t")
